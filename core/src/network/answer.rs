//! May this client call that server on this port? The answer for people, with what decides it and what is missing.

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Serialize;

use super::{
    consent::{Consents, Half, Missing, Named, Pair},
    decide::Decision,
    declared::{Mode, Source, Target},
    model::{Flow, Identity, PortSpan, Protocol},
    ports::PortSet,
    segments::Segmented,
    snapshot::ContainerPort,
};

/// A port as it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedPort {
    /// By its number.
    Number(std::num::NonZeroU16),
    /// By the name of a container port of the server.
    Name(String),
}

/// Whether it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Both ends let it pass.
    Allowed,
    /// One end is closed for it.
    Denied,
    /// It cannot be told.
    Unknown,
}

/// What one end says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The segment that closes this direction here; none where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// Whether that segment only observes.
    pub observed: bool,
    /// Whether it lets it pass.
    pub open: bool,
    /// Why: in words.
    pub because: String,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// On which port.
    pub port: String,
    /// Whether it passes.
    pub verdict: Verdict,
    /// The client's way out.
    pub egress: End,
    /// The server's way in.
    pub ingress: End,
    /// The workloads of both, and the labels that select them.
    pub workloads: Vec<String>,
    /// An object that would supply what is missing, as YAML; of the first that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<String>,
}

/// Answers by what is declared and observed.
pub fn answer(decision: &Decision, from: &Identity, to: &Identity, protocol: Protocol, port: &AskedPort) -> Answer {
    let segmented = Segmented::new(&decision.declared, &decision.snapshot);
    let consents = Consents::new(&decision.declared, &segmented);
    let pair = Pair { client: from.clone(), server: to.clone() };
    let servers: Vec<_> = decision.projection.of(to).collect();
    let container_ports: BTreeSet<ContainerPort> = servers.iter().flat_map(|(_, one)| one.ports.clone()).collect();
    let asked = asked(protocol, port, &container_ports);
    let shown = match port {
        AskedPort::Number(number) => format!("{} {number}", protocol.as_str()),
        AskedPort::Name(name) => format!("{} {name}", protocol.as_str()),
    };
    let look = Look { decision, segmented: &segmented, pair: &pair, asked: &asked };
    let egress = look.end(Flow::Egress, &consents.egress(&pair, &container_ports), &PortSet::default());
    let by_wildcard = consents.by_wildcard(&pair, &container_ports);
    let ingress = look.end(Flow::Ingress, &consents.ingress(&pair, Named::Only, &container_ports), &by_wildcard);
    let frozen = decision.projection.of(from).chain(servers.iter().copied()).any(|(_, one)| one.selector.is_err());
    let verdict = match (egress.open && ingress.open, asked.is_empty() || frozen) {
        (_, true) => Verdict::Unknown,
        (true, false) => Verdict::Allowed,
        (false, false) => Verdict::Denied,
    };
    let apply = missing(&look, &consents, &container_ports, port, protocol);
    let workloads = [from, to].into_iter().flat_map(|identity| workloads(decision, identity)).collect();
    Answer { from: from.to_string(), to: to.to_string(), port: shown, verdict, egress, ingress, workloads, apply }
}

fn asked(protocol: Protocol, port: &AskedPort, container_ports: &BTreeSet<ContainerPort>) -> PortSet {
    match port {
        AskedPort::Number(number) => PortSet::of([PortSpan::one(protocol, *number)]),
        AskedPort::Name(name) => {
            let named = container_ports.iter().filter(|one| one.name == *name && one.protocol == protocol);
            PortSet::of(named.map(|one| PortSpan::one(protocol, one.number)))
        }
    }
}

struct Look<'a> {
    decision: &'a Decision,
    segmented: &'a Segmented<'a>,
    pair: &'a Pair,
    asked: &'a PortSet,
}

impl Look<'_> {
    fn end(&self, flow: Flow, half: &Half, besides: &PortSet) -> End {
        let Pair { client, server } = self.pair;
        let namespace = if flow == Flow::Ingress { &server.namespace } else { &client.namespace };
        let Some(segment) = self.segmented.closing(namespace, flow) else {
            let because = format!("no segment closes {namespace} in this direction");
            return End { segment: None, observed: false, open: true, because };
        };
        let observed = segment.mode == Mode::Observe;
        let covers = |set: &PortSet| set.intersect(self.asked) == *self.asked;
        let (open, because) = match half {
            _ if !besides.is_empty() && covers(besides) => (true, self.objects(true, false)),
            Half::NotClosed => (true, "nothing closes it".to_owned()),
            Half::Open(set) if covers(set) => (true, self.objects(true, true)),
            Half::Open(set) => {
                let open: Vec<String> = set.openings().map(super::report::ports).collect();
                (false, format!("only {} {} declared", open.join(", "), if open.len() == 1 { "is" } else { "are" }))
            }
            Half::Disjoint => (false, "what is requested and what is granted have no port in common".to_owned()),
            Half::Missing(Missing::Grant) => (false, format!("no AccessGrant in {} lets it in", server.namespace)),
            Half::Missing(Missing::Request) => (false, format!("no AccessRequest in {} asks for it", client.namespace)),
        };
        End { segment: Some(segment.name.clone()), observed, open, because }
    }

    /// The objects that declare the edge.
    fn objects(&self, grants: bool, requests: bool) -> String {
        let Pair { client, server } = self.pair;
        let declared = &self.decision.declared;
        let lets_in = |source: &Source| match source {
            Source::Identity(identity) => identity == client,
            Source::Namespace(namespace) => *namespace == client.namespace,
            Source::AllNamespaces => true,
            Source::External(_) => false,
        };
        let granting =
            declared.grants.values().filter(|grant| grants && grant.is_about(server) && grant.from.iter().any(lets_in));
        let asks = |target: &Target| matches!(target, Target::Identity { server: other, .. } if other == server);
        let requesting = declared.requests.values().filter(|request| {
            let is_client = request.key.namespace == client.namespace && request.from == client.account;
            requests && is_client && request.to.iter().any(asks)
        });
        let granting = granting.map(|grant| format!("AccessGrant {}/{}", grant.key.namespace, grant.key.name));
        let requesting = requesting.map(|one| format!("AccessRequest {}/{}", one.key.namespace, one.key.name));
        let all: Vec<String> = granting.chain(requesting).collect();
        if all.is_empty() { "it is the same identity".to_owned() } else { all.join(", ") }
    }
}

fn workloads(decision: &Decision, identity: &Identity) -> Vec<String> {
    let all: Vec<String> = decision
        .projection
        .of(identity)
        .map(|(key, one)| {
            let selected = match &one.selector {
                Ok(selector) => selector.to_string(),
                Err(_) => "no labels select exactly its pods".to_owned(),
            };
            format!("{identity}: {:?} {} ({selected}), matching pods: {}", key.kind, key.name, one.matched_pods)
        })
        .collect();
    if all.is_empty() { vec![format!("{identity}: no workload runs as it")] } else { all }
}

/// What would supply the first half that is missing.
fn missing(
    look: &Look<'_>,
    consents: &Consents<'_>,
    container_ports: &BTreeSet<ContainerPort>,
    port: &AskedPort,
    protocol: Protocol,
) -> Option<String> {
    let Pair { client, server } = look.pair;
    let halves =
        [consents.ingress(look.pair, Named::OrNot, container_ports), consents.egress(look.pair, container_ports)];
    let lacks = |missing: Missing| halves.contains(&Half::Missing(missing));
    let mut ports = match port {
        AskedPort::Number(number) => format!("  - port: {number}\n"),
        AskedPort::Name(name) => format!("  - port: {name}\n"),
    };
    if protocol != Protocol::Tcp {
        let _ = writeln!(ports, "    protocol: {}", protocol.as_str());
    }
    let head = |kind: &str, namespace: &str, name: &str| {
        format!(
            "apiVersion: countersign.dev/v1alpha1\nkind: {kind}\nmetadata:\n  namespace: {namespace}\n  name: {name}\nspec:\n"
        )
    };
    if lacks(Missing::Grant) {
        let head = head("AccessGrant", server.namespace.as_str(), &client.account);
        return Some(format!(
            "{head}  to:\n    serviceAccountName: {}\n  from:\n  - namespace: {}\n    serviceAccountName: {}\n  ports:\n{ports}",
            server.account, client.namespace, client.account
        ));
    }
    if lacks(Missing::Request) {
        let head = head("AccessRequest", client.namespace.as_str(), &server.account);
        let ports = ports.replace("  - ", "    - ").replace("    protocol", "      protocol");
        return Some(format!(
            "{head}  from:\n    serviceAccountName: {}\n  to:\n  - namespace: {}\n    serviceAccountName: {}\n    ports:\n{ports}",
            client.account, server.namespace, server.account
        ));
    }
    None
}
