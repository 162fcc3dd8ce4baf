//! The vocabulary of the schemas: CEL rules with our messages, and shapes of lists and maps.
//!
//! The wire types name these in their `x_kube` and `schemars` attributes. A rule says what the
//! API server checks; the same facts are parsed again in [`crate::value`], because a stored object
//! may be older than the schema. What a server would refuse in its own words (a number out of
//! range, a list too long) is left to OpenAPI; where people need *our* words the OpenAPI bound is
//! wider than the rule, since the server stops at the first bound and then runs no rule.
//!
//! Every text and list is bounded: the server estimates the worst cost of each rule from the
//! bounds and refuses a CRD that exceeds its budget.

mod network;

use kube_core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

pub(super) use network::*;

/// DNS-1123 label of at most 63 characters.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// DNS-1123 subdomain; its length is checked apart.
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// DNS name in which `*` may stand for a label; where it may stand is a rule of its own. Written
/// once, with the end of the text for a dot, since the server prices a pattern by its length; so a
/// dot at the end is refused apart.
const DNS_NAME: &str = r"^((\*|[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)(\.|$))+$";
/// Text without a character above U+007F.
const ASCII: &str = r"^[\x00-\x7F]*$";
/// Go duration. Longer numbers could overflow what a server can evaluate.
const DURATION: &str = "^-?([0-9]{1,6}(ms|s|m|h))+$";
/// Path of segments; `.` and `..` are refused apart, because RE2 knows no exclusion.
const PATH: &str = "^[A-Za-z0-9_.-]{1,128}(/[A-Za-z0-9_.-]{1,128})*$";
/// What is said of a path that has others.
const SEGMENTS: &str = r#"segments must match ^[A-Za-z0-9_.-]{1,128}$, not "." or "..""#;
/// A segment `.` or `..`.
const DOT_SEGMENT: &str = r"(^|/)\.\.?(/|$)";
/// `https`, host or address, port, path: nothing else has a place in it.
const HTTPS_URL: &str = r"^https://([A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~-]+)*/?$";
/// Value of a Kubernetes label.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

/// `self` matches the pattern, as CEL; raw, so that patterns need no second escaping.
fn matches(subject: &str, pattern: &str) -> String {
    format!("{subject}.matches(r'{pattern}')")
}

/// A rule with its message.
fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Message(message.into()))
}

/// A name of a Kubernetes object, as most kinds have it.
pub(super) fn subdomain() -> Rule {
    rule(
        format!("self.size() <= 253 && {}", matches("self", SUBDOMAIN)),
        "must be a DNS-1123 subdomain of at most 253 characters",
    )
}

/// A DNS-1123 label.
pub(super) fn label() -> Rule {
    rule(matches("self", LABEL), "must be a DNS-1123 label of at most 63 characters")
}

/// A key of a Secret or ConfigMap.
pub(super) fn data_key() -> Rule {
    rule(
        "self.size() <= 253 && self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')",
        r#"must match [-._a-zA-Z0-9]+ and not start with "..""#,
    )
}

/// The field keeps the value it was created with.
pub(super) fn immutable(field: &str) -> Rule {
    rule("self == oldSelf", format!("{field} is immutable"))
}

/// Exactly one of the optional members is there.
pub(super) fn exactly_one(members: &[&str]) -> Rule {
    let present: Vec<_> = members.iter().map(|member| format!("has(self.{member})")).collect();
    rule(
        format!("[{}].exists_one(present, present)", present.join(", ")),
        format!("exactly one of {}", members.join(", ")),
    )
}

/// The text is a duration.
pub(super) fn duration() -> Rule {
    rule(matches("self", DURATION), "must look like 90m or 24h")
}

/// The duration `field` lies between two others; silent where the text is none, since [`duration`] says so.
pub(super) fn duration_between(field: &str, least: &str, most: &str) -> Rule {
    rule(
        format!(
            "!{} || (duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))",
            matches("self", DURATION)
        ),
        format!("{field} must be between {least} and {most}"),
    )
}

/// The duration `shorter` is less than `longer` where both are set.
pub(super) fn duration_less(shorter: &str, longer: &str) -> Rule {
    rule(
        format!(
            "!has(self.{shorter}) || !has(self.{longer}) || !{} || !{} || duration(self.{shorter}) < duration(self.{longer})",
            matches(&format!("self.{shorter}"), DURATION),
            matches(&format!("self.{longer}"), DURATION),
        ),
        format!("{shorter} must be less than {longer}"),
    )
}

/// The address of a server.
pub(super) fn https_url() -> Rule {
    rule(
        format!(r"{} && !self.matches(r'/\.\.?(/|$)')", matches("self", HTTPS_URL)),
        "must be an https URL without credentials, query or fragment",
    )
}

/// The name of a role in Vault: one segment of a path.
pub(super) fn path_segment() -> Rule {
    rule("self.matches('^[A-Za-z0-9_.-]{1,128}$') && self != '.' && self != '..'", SEGMENTS)
}

/// Segments of a path in Vault, such as a mount.
pub(super) fn path_segments() -> Rule {
    rule(format!("{} && !{}", matches("self", PATH), matches("self", DOT_SEGMENT)), SEGMENTS)
}

/// Bounds of a path in Vault.
pub(super) fn path_bounds() -> Rule {
    rule("self.size() <= 512 && self.split('/').size() <= 16", "at most 512 characters and 16 segments")
}

/// A mount is not one of the server's own.
pub(super) fn path_not_reserved() -> Rule {
    rule("!self.matches('^(sys|auth|identity|cubbyhole)(/|$)')", "path is reserved")
}

/// A namespace of the server: a short path.
pub(super) fn vault_namespace() -> Rule {
    rule(
        format!(
            "self.size() <= 256 && self.split('/').size() <= 8 && {} && !{}",
            matches("self", PATH),
            matches("self", DOT_SEGMENT)
        ),
        "must be 1-8 segments",
    )
}

/// Types that the cluster, a package manager or the operator itself takes for a credential.
const CREDENTIAL_TYPES: &str =
    "['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token', 'helm.sh/release.v1']";

/// The type of a target is not one that is a credential for the cluster, or a record of ours.
pub(super) fn secret_type() -> Rule {
    rule(
        format!("!has(self.type) || (!(self.type in {CREDENTIAL_TYPES}) && !self.type.startsWith('countersign.dev/'))"),
        "unsupported secret type",
    )
}

/// A TLS Secret has both of its keys; which keys `each` gives is known only when it is read.
pub(super) fn tls_keys() -> Rule {
    rule(
        "!has(self.type) || self.type != 'kubernetes.io/tls' || self.data.exists(e, has(e.each)) || \
         (self.data.exists(e, has(e.key) && e.key == 'tls.crt') && self.data.exists(e, has(e.key) && e.key == 'tls.key'))",
        "type kubernetes.io/tls needs keys tls.crt and tls.key",
    )
}

/// The type keeps its value, also where it is left to its default.
pub(super) fn type_immutable() -> Rule {
    rule(
        "(has(self.type) ? self.type : 'Opaque') == (has(oldSelf.type) ? oldSelf.type : 'Opaque')",
        "type is immutable",
    )
}

/// Which members of an entry go together.
pub(super) fn entry_members() -> Rule {
    rule(
        "has(self.each) ? !has(self.key) && !has(self.decode) : \
         has(self.key) && !has(self.prefix) && !has(self.case) && !has(self.match)",
        "each goes with prefix, case and match; from goes with key and decode",
    )
}

/// The sources of a binding.
pub(super) fn sources(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<super::BindingSource>().to_value();
    schema(json!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": items,
    }))
}

/// The entries of a target.
pub(super) fn entries(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<super::DataEntry>().to_value();
    let unique =
        rule("self.all(a, !has(a.key) || self.exists_one(b, has(b.key) && b.key == a.key))", "key must be unique");
    schema(with_rules(
        json!({"type": "array", "minItems": 1, "maxItems": 64, "x-kubernetes-list-type": "atomic", "items": items}),
        &[unique],
    ))
}

/// Patterns of paths in Vault: their characters; the rest is checked when the object is parsed, for the server would
/// price a pattern over all paths of all grants above its budget.
pub(super) fn path_patterns(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[A-Za-z0-9_.*{}/-]+$"},
    }))
}

/// Types of Secrets.
pub(super) fn secret_types(_: &mut SchemaGenerator) -> Schema {
    schema(json!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": {"type": "string", "minLength": 1, "maxLength": 253},
    }))
}

/// A role with placeholders.
pub(super) fn role_pattern() -> Rule {
    rule(
        r"self.matches(r'^([A-Za-z0-9_.-]|\{namespace\}|\{serviceAccount\})+$')",
        "must be a role name; the placeholders are {namespace} and {serviceAccount}",
    )
}

/// Who logs in as somebody else must say under which role.
pub(super) fn role_given() -> Rule {
    rule(
        "self.__as__ == 'ServiceAccount' ? has(self.role) : !has(self.role)",
        "role is required with as: ServiceAccount, and goes with nothing else",
    )
}

/// The name of a SPIFFE trust domain.
pub(super) fn trust_domain_name() -> Rule {
    rule("self.matches('^[a-z0-9._-]{1,255}$')", "must be a SPIFFE trust domain")
}

/// One DNS name, without a wildcard.
pub(super) fn host_name() -> Rule {
    dns_name("self.size() <= 253 && !self.contains('*')")
}

fn dns_name(also: &str) -> Rule {
    rule(format!("{also} && !self.endsWith('.') && {}", matches("self", DNS_NAME)), "must be a DNS name")
}

/// The key of a leaf is one that every client of the platform can check.
pub(super) fn leaf_key() -> Rule {
    rule(
        "self.algorithm == 'ECDSA' ? has(self.size) && self.size in [256, 384] : \
         self.algorithm == 'RSA' ? has(self.size) && self.size in [2048, 3072, 4096] : \
         self.algorithm == 'Ed25519' && !has(self.size)",
        "supported: ECDSA 256/384, Ed25519, RSA 2048/3072/4096",
    )
}

/// The key of an authority.
pub(super) fn authority_key() -> Rule {
    rule("self.algorithm == 'ECDSA' && has(self.size) && self.size in [256, 384]", "supported: ECDSA 256/384")
}

/// The server's certificate is verified against something.
pub(super) fn trust_given() -> Rule {
    rule("has(self.ca) || (has(self.systemRoots) && self.systemRoots)", "ca is required unless systemRoots is true")
}

/// Namespaces are chosen in one way, and by at least one item.
pub(super) fn namespace_selector() -> Rule {
    rule(
        format!(
            "[has(self.names), has(self.matchLabels), has(self.all)].exists_one(present, present) && \
             (!has(self.names) || (self.names.size() > 0 && self.names.all(n, {}))) && \
             (!has(self.matchLabels) || self.matchLabels.size() > 0) && \
             (!has(self.all) || self.all)",
            matches("n", LABEL)
        ),
        "exactly one of names, matchLabels, all; at least 1 item",
    )
}

/// Keys of labels and annotations are not empty and not endless.
///
/// Their characters are checked when the object is parsed: the server counts a key of a map as
/// three megabytes long, so a pattern over keys would exceed its budget.
fn map_keys() -> Rule {
    rule("self.all(key, key.size() > 0 && key.size() <= 317)", "keys must have 1 to 317 characters")
}

/// DNS names of a certificate.
pub(super) fn dns_names(_: &mut SchemaGenerator) -> Schema {
    list(64, &text(256, &dns_name_rules()), &[unique_ignoring_case()])
}

/// Patterns for DNS names; a duplicate does no harm there.
pub(super) fn dns_patterns(_: &mut SchemaGenerator) -> Schema {
    list(64, &text(256, &dns_name_rules()), &[])
}

fn dns_name_rules() -> [Rule; 3] {
    [
        rule(matches("self", ASCII), "must be ASCII (use punycode)"),
        dns_name("self.size() <= 253"),
        rule(
            r"!self.contains('*') || self.matches(r'^\*\.[^.*]+(\.[^.*]+)+$')",
            "a wildcard must be the first label, above at least two more",
        ),
    ]
}

/// IP addresses of a certificate.
pub(super) fn ip_addresses(_: &mut SchemaGenerator) -> Schema {
    let unicast = rule(
        "isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast())",
        "must be a unicast IP address without zone or mask",
    );
    list(64, &text(64, &[unicast]), &[unique_ignoring_case()])
}

/// Address ranges.
pub(super) fn ip_ranges(_: &mut SchemaGenerator) -> Schema {
    let canonical = rule(
        "isCIDR(self) && string(cidr(self).masked()) == self && cidr(self).prefixLength() > 0",
        "must be a CIDR in canonical form, not /0",
    );
    list(64, &text(64, &[canonical]), &[])
}

/// Services of one namespace.
pub(super) fn services(_: &mut SchemaGenerator) -> Schema {
    let label = rule(matches("self", LABEL), "must be a DNS-1123 label of at most 63 characters");
    list(64, &text(253, &[label]), &[unique_ignoring_case()])
}

/// Namespaces by name.
pub(super) fn namespace_names(_: &mut SchemaGenerator) -> Schema {
    let label = rule(matches("self", LABEL), "must be a namespace name; every namespace is all: true");
    list(256, &text(63, &[label]), &[])
}

/// Labels, to be matched or to be written.
fn labels(most: u32) -> Value {
    let value = rule(matches("self", LABEL_VALUE), "must be a label value of at most 63 characters");
    map(most, &text(63, &[value]))
}

/// Labels that choose namespaces.
pub(super) fn match_labels(_: &mut SchemaGenerator) -> Schema {
    schema(labels(16))
}

/// Labels of a target.
pub(super) fn target_labels(_: &mut SchemaGenerator) -> Schema {
    schema(labels(32))
}

/// Annotations of a target.
pub(super) fn target_annotations(_: &mut SchemaGenerator) -> Schema {
    schema(map(32, &text(4_096, &[])))
}

/// Algorithm of a key. Not an enum: the server would name the algorithms and stop, before the rule
/// that knows which sizes go with them.
pub(super) fn algorithm(_: &mut SchemaGenerator) -> Schema {
    schema(text(32, &[]))
}

/// A named cause. Not an enum: a newer operator must be able to report through an older CRD.
pub(super) fn reason(_: &mut SchemaGenerator) -> Schema {
    schema(text(256, &[]))
}

/// `metav1.Condition`s, bounded, one of each type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One condition, as in metav1.Condition.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Which condition, for example Ready."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds: True, False or Unknown."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 256, "description": "The named cause, for example VaultSealed; `countersign explain <reason>` says what to do."},
                "message": {"type": "string", "maxLength": 1024, "description": "For people: what failed, where, what to do, when the next try is."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When its status last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "Generation of the spec it speaks of."},
            },
        },
    })
}

/// Entries differ in more than upper and lower case.
fn unique_ignoring_case() -> Rule {
    rule("self.all(a, self.exists_one(b, a.lowerAscii() == b.lowerAscii()))", "entries must be unique, ignoring case")
}

fn text(most: u32, rules: &[Rule]) -> Value {
    with_rules(json!({"type": "string", "maxLength": most}), rules)
}

fn list(most: u32, items: &Value, rules: &[Rule]) -> Schema {
    schema(with_rules(
        json!({"type": "array", "maxItems": most, "x-kubernetes-list-type": "atomic", "items": items}),
        rules,
    ))
}

fn map(most: u32, values: &Value) -> Value {
    with_rules(json!({"type": "object", "maxProperties": most, "additionalProperties": values}), &[map_keys()])
}

fn with_rules(mut value: Value, rules: &[Rule]) -> Value {
    if let (Some(object), false) = (value.as_object_mut(), rules.is_empty()) {
        object.insert("x-kubernetes-validations".to_owned(), json!(rules));
    }
    value
}

/// A schema from JSON that is written above, so always an object.
fn schema(value: Value) -> Schema {
    match value {
        Value::Object(object) => object.into(),
        _ => Schema::default(),
    }
}
