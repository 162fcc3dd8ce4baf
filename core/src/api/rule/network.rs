//! Rules and shapes of the kinds about the network: ports, peers, address ranges, namespaces of a segment.

use kube_core::Rule;
use schemars::{Schema, SchemaGenerator};
use serde_json::json;

use super::{super::GrantSource, super::Port, super::RequestTarget, LABEL, matches, rule, schema, with_rules};

/// The name of a container port (RFC 6335 in lower case, with a letter), or the word for all. OpenAPI checks it: to CEL
/// a number or text is as long as a request, so a rule over many of them would exceed the server's budget.
const PORT_WORD: &str = "^(All|([0-9][0-9-]*)?[a-z]([a-z0-9-]*[a-z0-9])?)$";

/// A number or a name of a port.
pub(in crate::api) fn port_number_or_name(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "pattern": PORT_WORD,
        "maxLength": 15,
    }))
}

/// The end of a range of ports.
pub(in crate::api) fn end_port() -> Rule {
    rule("!has(self.endPort) || self.endPort >= int(self.port)", "endPort must be at least port, and needs a number")
}

/// Ports that an object speaks of.
pub(in crate::api) fn ports(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<Port>().to_value();
    schema(json!({"type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "atomic", "items": items}))
}

/// Ports of a place where no container could tell what a name stands for.
pub(in crate::api) fn numbered_ports(generator: &mut SchemaGenerator) -> Schema {
    let mut items = generator.subschema_for::<Port>().to_value();
    if let Some(pattern) = items.pointer_mut("/properties/port/pattern") {
        *pattern = json!("^All$");
    }
    schema(json!({"type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "atomic", "items": items}))
}

/// Who a grant lets in. The bound is a rule, because people need to hear what an empty list would mean.
pub(in crate::api) fn grant_sources(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<GrantSource>().to_value();
    let some = rule("self.size() > 0", "from must have at least 1 item; no grant means nobody");
    schema(with_rules(
        json!({"type": "array", "maxItems": 256, "x-kubernetes-list-type": "atomic", "items": items}),
        &[some],
    ))
}

/// What a request asks for.
pub(in crate::api) fn request_targets(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<RequestTarget>().to_value();
    schema(json!({"type": "array", "minItems": 1, "maxItems": 256, "x-kubernetes-list-type": "atomic", "items": items}))
}

/// The namespace goes with the forms that need one.
pub(in crate::api) fn source_namespace() -> Rule {
    rule(
        "has(self.__namespace__) == (has(self.serviceAccountName) || has(self.all))",
        "namespace goes with serviceAccountName and with all, and with nothing else",
    )
}

/// Namespace and ports go with an identity, and with nothing else.
pub(in crate::api) fn target_members() -> Rule {
    rule(
        "has(self.serviceAccountName) == has(self.__namespace__) && has(self.serviceAccountName) == has(self.ports)",
        "serviceAccountName goes with namespace and ports, and they with nothing else",
    )
}

/// A wildcard that is spelled out cannot be spelled `false`.
pub(in crate::api) fn only_true(field: &str) -> Rule {
    rule(format!("!has(self.{field}) || self.{field}"), format!("{field} can only be true; leave it out instead"))
}

/// The name of a namespace; `all` says how one writes every one.
pub(in crate::api) fn namespace_name(all: &str) -> Rule {
    rule(matches("self", LABEL), format!("must be a namespace name; all namespaces are {all}"))
}

/// Address ranges outside the cluster.
pub(in crate::api) fn external_cidrs(_: &mut SchemaGenerator) -> Schema {
    let rules = [
        rule("!self.endsWith('/0')", "write Any"),
        rule(
            "self == 'Any' || self.endsWith('/0') || (isCIDR(self) && string(cidr(self).masked()) == self)",
            "must be a CIDR in canonical form",
        ),
    ];
    let items = with_rules(json!({"type": "string", "maxLength": 64}), &rules);
    schema(json!({"type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "atomic", "items": items}))
}

/// The directions that a segment closes.
pub(in crate::api) fn directions(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "enum": ["Ingress", "Egress"]},
    }))
}

/// Namespaces of a segment, by name; each is checked by a rule of the whole, which can say what is wrong with it.
pub(in crate::api) fn namespace_texts(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "maxItems": 256,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "maxLength": 63},
    }))
}

/// The namespaces of a segment are chosen in one way, by at least one item; there is no word for all of them.
pub(in crate::api) fn segment_namespaces() -> Rule {
    rule(
        "[has(self.names), has(self.matchLabels)].exists_one(present, present) && \
         (!has(self.names) || self.names.size() > 0) && (!has(self.matchLabels) || self.matchLabels.size() > 0)",
        "exactly one of names, matchLabels; at least 1 item",
    )
}

/// Each name is one of a namespace.
pub(in crate::api) fn namespaces_named() -> Rule {
    rule(
        format!("!has(self.names) || self.names.all(n, {})", matches("n", LABEL)),
        "names must be namespace names; a segment has no word for all of them",
    )
}

/// `kube-system` is closed only by somebody who says so.
pub(in crate::api) fn protects_system() -> Rule {
    rule(
        "!has(self.namespaces.names) || !('kube-system' in self.namespaces.names) || (has(self.protected) && self.protected)",
        "kube-system in namespaces.names: protected: true is needed",
    )
}
