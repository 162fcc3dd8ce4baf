//! A small reading of NetworkPolicy, from the text of the API: two pods, one TCP port.

use serde_json::Value;

/// A pod as policies see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod<'a> {
    /// Namespace.
    pub(super) namespace: &'a str,
    /// Value of the label `app`, the one label that tells pods apart here.
    pub(super) app: &'a str,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Into the pod.
    Ingress,
    /// Out of the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// As `policyTypes` has it.
    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    /// Field with the rules, and that of a rule with its peers.
    pub(super) fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Ingress => ("ingress", "from"),
            Self::Egress => ("egress", "to"),
        }
    }
}

/// The rules of a direction.
pub(super) fn rules(policy: &Value, direction: Direction) -> &[Value] {
    list(policy.get("spec").and_then(|spec| spec.get(direction.fields().0)))
}

/// A list; one that is absent is empty.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether it isolates somebody in that direction: `policyTypes` decides, and without it the rules do.
pub(super) fn isolates(policy: &Value, direction: Direction) -> bool {
    match policy.pointer("/spec/policyTypes").and_then(Value::as_array) {
        Some(types) => types.iter().any(|one| one == direction.word()),
        None => direction == Direction::Ingress || !rules(policy, direction).is_empty(),
    }
}

/// Whether it is about a pod.
pub(super) fn selects(policy: &Value, pod: Pod<'_>) -> bool {
    let namespace = policy.pointer("/metadata/namespace").and_then(Value::as_str);
    namespace == Some(pod.namespace) && matches(policy.pointer("/spec/podSelector"), &[("app", pod.app)])
}

/// Whether one of its rules in that direction lets `other` through at a port.
pub(super) fn admits(policy: &Value, direction: Direction, other: Pod<'_>, port: u16) -> bool {
    let peers = |rule: &Value| {
        let peers = list(rule.get(direction.fields().1));
        peers.is_empty() || peers.iter().any(|peer| is_peer(policy, peer, other))
    };
    let ports = |rule: &Value| {
        let ports = list(rule.get("ports"));
        ports.is_empty() || ports.iter().any(|one| has_port(one, port))
    };
    isolates(policy, direction) && rules(policy, direction).iter().any(|rule| peers(rule) && ports(rule))
}

/// Whether policies let a connection pass in one direction: nobody isolates the pod, or somebody lets the other through.
pub(super) fn passes<'p>(
    policies: impl Iterator<Item = &'p Value> + Clone,
    direction: Direction,
    pod: Pod<'_>,
    other: Pod<'_>,
    port: u16,
) -> bool {
    let mut about = policies.filter(|policy| selects(policy, pod) && isolates(policy, direction)).peekable();
    about.peek().is_none() || about.any(|policy| admits(policy, direction, other, port))
}

fn is_peer(policy: &Value, peer: &Value, other: Pod<'_>) -> bool {
    if peer.get("ipBlock").is_some() {
        return true; // no address is told here; none of the plans declares one
    }
    let own = policy.pointer("/metadata/namespace").and_then(Value::as_str);
    let is_there = match peer.get("namespaceSelector") {
        Some(selector) => matches(Some(selector), &[("kubernetes.io/metadata.name", other.namespace)]),
        None => own == Some(other.namespace),
    };
    is_there && matches(peer.get("podSelector"), &[("app", other.app)])
}

fn has_port(entry: &Value, port: u16) -> bool {
    let protocol = entry.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
    let first = entry.get("port").and_then(Value::as_u64);
    let last = entry.get("endPort").and_then(Value::as_u64).or(first);
    protocol == "TCP" && first.is_none_or(|first| first <= port.into()) && last.is_none_or(|last| last >= port.into())
}

/// Whether labels match a selector; one without terms matches all. An expression is taken to match, so that it counts as
/// too wide rather than as right.
fn matches(selector: Option<&Value>, labels: &[(&str, &str)]) -> bool {
    let wanted = selector.and_then(|selector| selector.get("matchLabels")).and_then(Value::as_object);
    let has = |(name, value): (&String, &Value)| labels.iter().any(|(n, v)| n == name && value == v);
    wanted.is_none_or(|wanted| wanted.iter().all(has))
}
