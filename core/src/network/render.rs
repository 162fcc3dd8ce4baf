//! From a policy to the object of the Kubernetes API.
//!
//! The one place that writes rules. Within a rule an absent or empty list means everything, so a list that is written
//! has at least one entry, and it is left out only for the wildcard that a person spelled.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    applied::{self, Bearer, RECORD},
    model::{Flow, Namespace, Openings, Peer, Policy, Ports, Role, Selector, Subject, WorkloadKey, WorkloadKind},
};
use crate::{
    api::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL},
    value::digest,
};

/// The label of a namespace that only the API server sets.
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Annotation that tells which of our objects it is, as names may be cut.
pub const SUBJECT: &str = "countersign.dev/subject";
/// Names longer than this are cut and end with a hash.
const LONGEST_NAME: usize = 200;
/// How much of a cut name is left.
const CUT_NAME: usize = 160;

/// The object of a policy, owned by the segment with that UID and written for that bearer.
pub fn render(policy: &Policy, segment_uid: &str, bearer: Option<&Bearer>) -> NetworkPolicy {
    let spec = spec(policy);
    let labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (OWNER_UID_LABEL.to_owned(), segment_uid.to_owned()),
    ]);
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name(&policy.role)),
            namespace: Some(policy.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (SUBJECT.to_owned(), subject(&policy.role)),
                (RECORD.to_owned(), applied::record(policy, &spec, bearer)),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}

/// The name of the object of a role.
pub fn name(role: &Role) -> String {
    let Role::Workload { workload, flow } = role else { return "countersign-deny".to_owned() };
    let whole = format!("countersign-{}-{}-{}", kind(workload.kind), workload.name, direction(*flow));
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let start: String = whole.chars().take(CUT_NAME).collect();
    format!("{start}-{}", digest::short(&[whole.as_bytes()]))
}

/// What an object is about, whole; a name that carries another subject belongs to another.
pub fn subject(role: &Role) -> String {
    match role {
        Role::Deny => "deny".to_owned(),
        Role::Workload { workload: WorkloadKey { kind: of, name, .. }, flow } => {
            format!("{}/{name}/{}", kind(*of), direction(*flow))
        }
    }
}

/// The role that [`subject`] tells of; `None` if it tells of none.
pub fn role(subject: &str, namespace: &Namespace) -> Option<Role> {
    let words: Vec<&str> = subject.split('/').collect();
    match *words.as_slice() {
        ["deny"] => Some(Role::Deny),
        [kind, name, flow] => {
            let kind = KINDS.into_iter().find(|one| self::kind(*one) == kind)?;
            let flow = [Flow::Ingress, Flow::Egress].into_iter().find(|one| direction(*one) == flow)?;
            let workload = WorkloadKey { namespace: namespace.clone(), kind, name: name.to_owned() };
            Some(Role::Workload { workload, flow })
        }
        _ => None,
    }
}

/// Every kind of workload.
const KINDS: [WorkloadKind; 8] = [
    WorkloadKind::Deployment,
    WorkloadKind::StatefulSet,
    WorkloadKind::DaemonSet,
    WorkloadKind::ReplicaSet,
    WorkloadKind::Job,
    WorkloadKind::CronJob,
    WorkloadKind::Opaque,
    WorkloadKind::Pods,
];

fn kind(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "deploy",
        WorkloadKind::StatefulSet => "sts",
        WorkloadKind::DaemonSet => "ds",
        WorkloadKind::ReplicaSet => "rs",
        WorkloadKind::Job => "job",
        WorkloadKind::CronJob => "cron",
        WorkloadKind::Opaque => "owner",
        WorkloadKind::Pods => "pods",
    }
}

fn direction(flow: Flow) -> &'static str {
    match flow {
        Flow::Ingress => "in",
        Flow::Egress => "out",
    }
}

fn spec(policy: &Policy) -> NetworkPolicySpec {
    let ingress = policy.isolates.get(&Flow::Ingress).map(rules).unwrap_or_default();
    let egress = policy.isolates.get(&Flow::Egress).map(rules).unwrap_or_default();
    let ingress: Vec<_> =
        ingress.into_iter().map(|(from, ports)| NetworkPolicyIngressRule { from: Some(from), ports }).collect();
    let egress: Vec<_> =
        egress.into_iter().map(|(to, ports)| NetworkPolicyEgressRule { to: Some(to), ports }).collect();
    let types = policy.isolates.keys().map(|flow| match flow {
        Flow::Ingress => "Ingress".to_owned(),
        Flow::Egress => "Egress".to_owned(),
    });
    NetworkPolicySpec {
        pod_selector: Some(match &policy.subject {
            Subject::Pods(selector) => labels(selector),
            Subject::WholeNamespace => LabelSelector::default(),
        }),
        // The server drops an empty list, so writing one would never settle.
        ingress: (!ingress.is_empty()).then_some(ingress),
        egress: (!egress.is_empty()).then_some(egress),
        // Always written: what is left out is guessed from the rules, and a deny of egress has none.
        policy_types: Some(types.collect()),
    }
}

/// One rule for each set of ports; every list of peers has at least one.
fn rules(openings: &Openings) -> Vec<(Vec<NetworkPolicyPeer>, Option<Vec<NetworkPolicyPort>>)> {
    grouped(openings).iter().map(|(set, peers)| (peers.iter().map(|one| peer(one)).collect(), ports(set))).collect()
}

/// The rules that openings come to: each set of ports with its peers.
pub(super) fn grouped(openings: &Openings) -> Vec<(BTreeSet<Ports>, Vec<&Peer>)> {
    let mut by_peer: BTreeMap<&Peer, BTreeSet<Ports>> = BTreeMap::new();
    for opening in openings.keys() {
        by_peer.entry(&opening.peer).or_default().insert(opening.ports);
    }
    let mut by_ports: BTreeMap<BTreeSet<Ports>, Vec<&Peer>> = BTreeMap::new();
    for (peer, ports) in by_peer {
        by_ports.entry(ports).or_default().push(peer);
    }
    by_ports.into_iter().collect()
}

fn ports(set: &BTreeSet<Ports>) -> Option<Vec<NetworkPolicyPort>> {
    if set.contains(&Ports::Every) {
        return None;
    }
    let spans = set.iter().filter_map(|ports| match ports {
        Ports::Every => None,
        Ports::Span(span) => Some(span),
    });
    let port = |number: std::num::NonZeroU16| i32::from(number.get());
    Some(
        spans
            .map(|span| NetworkPolicyPort {
                protocol: Some(span.protocol.as_str().to_owned()),
                port: Some(IntOrString::Int(port(span.first()))),
                end_port: (span.first() != span.last()).then(|| port(span.last())),
            })
            .collect(),
    )
}

fn peer(peer: &Peer) -> NetworkPolicyPeer {
    let nothing = NetworkPolicyPeer::default();
    match peer {
        Peer::Pods { namespace, selector } => NetworkPolicyPeer {
            namespace_selector: Some(by_name(namespace)),
            pod_selector: Some(labels(selector)),
            ..nothing
        },
        Peer::Namespace(namespace) => NetworkPolicyPeer { namespace_selector: Some(by_name(namespace)), ..nothing },
        Peer::Cluster => NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..nothing },
        Peer::Block { block, except } => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            let except = (!except.is_empty()).then_some(except);
            NetworkPolicyPeer { ip_block: Some(IPBlock { cidr: block.to_string(), except }), ..nothing }
        }
    }
}

fn by_name(namespace: &Namespace) -> LabelSelector {
    let labels = BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.to_string())]);
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn labels(selector: &Selector) -> LabelSelector {
    LabelSelector { match_labels: Some(selector.terms().clone()), match_expressions: None }
}
