//! From policies to objects of the cluster, whatever kind of objects they are written as.
//!
//! A kind of objects is a [`Backend`]: one file below this one, and one line in `backends!`. It says how a policy is
//! written as a spec of that kind, and how such a spec is read back; names, labels, the record of causes, the order of
//! writes and their making are the same for all. What an object lets pass is judged by
//! [`evaluate`](super::evaluate), which shares no code with this and must know the kind by itself.

mod network_policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::{ApiResource, Resource};
pub use network_policy::NetworkPolicies;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    applied::{self, Bearer, RECORD},
    model::{Cause, Flow, Namespace, Openings, Peer, Policy, Ports, Role, Selector, WorkloadKey, WorkloadKind},
};
use crate::{
    api::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL},
    value::digest,
};

/// Annotation that tells which of our objects it is, as names may be cut.
pub const SUBJECT: &str = "countersign.dev/subject";
/// Names longer than this are cut and end with a hash.
const LONGEST_NAME: usize = 200;
/// How much of a cut name is left.
const CUT_NAME: usize = 160;

/// What makes a kind of objects one that policies are written as.
pub trait Backend {
    /// The objects.
    type Object: Resource<DynamicType = ()> + Serialize + Clone + PartialEq + fmt::Debug;
    /// Their specs.
    type Spec: Serialize + DeserializeOwned + PartialEq;
    /// Which kind they are.
    const KIND: Kind;

    /// An object with this spec.
    fn object(metadata: ObjectMeta, spec: Self::Spec) -> Self::Object;

    /// The spec of an object; `None` if it has none.
    fn spec(object: &Self::Object) -> Option<&Self::Spec>;

    /// The spec that lets pass what a policy opens, one rule for each of [`grouped`], in that order.
    fn write(policy: &Policy) -> Self::Spec;

    /// A spec in the one form in which two that say the same are equal.
    fn plain(spec: &Self::Spec) -> Self::Spec;

    /// Spells out what the spec leaves away: where another manager added something, leaving it away takes nothing back.
    fn spell_out(object: &mut Self::Object);

    /// The directions that a spec isolates.
    fn isolates(spec: &Self::Spec) -> BTreeSet<Flow>;

    /// The labels that it selects its pods by; `None` if it selects them otherwise than we do.
    fn selector(spec: &Self::Spec) -> Option<Selector>;

    /// The rules of a direction; `None` if one of them is none of ours.
    fn rules(spec: &Self::Spec, flow: Flow) -> Option<Vec<Rule>>;
}

macro_rules! backends {
    ($($(#[doc = $doc:literal])+ $name:ident: $backend:ty;)+) => {
        /// A kind of objects that policies are written as.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[doc = $doc])+ $name,)+ }

        /// An object that a policy is written as; serializes as the API server takes it.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Object { $($(#[doc = $doc])+ $name(Box<<$backend as Backend>::Object>),)+ }

        impl Kind {
            /// What the API server calls it.
            pub fn resource(self) -> ApiResource {
                match self { $(Self::$name => ApiResource::erase::<<$backend as Backend>::Object>(&()),)+ }
            }
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => <$backend as Backend>::KIND,)+ }
            }

            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$name(object) => object.meta(),)+ }
            }

            /// Its metadata.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$name(object) => object.meta_mut(),)+ }
            }

            /// Spells out what its spec leaves away, so that what another manager added is taken back.
            pub fn spell_out(&mut self) {
                match self { $(Self::$name(object) => <$backend as Backend>::spell_out(object),)+ }
            }
        }
    };
}

backends! {
    /// A NetworkPolicy of the Kubernetes API.
    NetworkPolicy: NetworkPolicies;
}

/// One rule: these peers, on these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The peers.
    pub peers: Vec<Peer>,
    /// The ports.
    pub ports: Vec<Ports>,
}

/// The object that a policy is written as, owned by the segment with that UID and written for that bearer.
pub fn object(policy: &Policy, segment_uid: &str, bearer: Option<&Bearer>) -> Object {
    Object::NetworkPolicy(Box::new(render::<NetworkPolicies>(policy, segment_uid, bearer)))
}

/// The same, as an object of this backend.
pub fn render<B: Backend>(policy: &Policy, segment_uid: &str, bearer: Option<&Bearer>) -> B::Object {
    let spec = B::write(policy);
    let labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (OWNER_UID_LABEL.to_owned(), segment_uid.to_owned()),
    ]);
    let metadata = ObjectMeta {
        name: Some(name(&policy.role)),
        namespace: Some(policy.namespace.to_string()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([
            (SUBJECT.to_owned(), subject(&policy.role)),
            (RECORD.to_owned(), applied::record::<B>(policy, &spec, bearer)),
        ])),
        ..ObjectMeta::default()
    };
    B::object(metadata, spec)
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

/// The rules that openings come to: each set of ports with its peers.
///
/// Within a rule all ports of a peer are open for the same causes, and "every port" stands in a rule of its own: so what
/// is read back is what was written, opening by opening, and a plan comes to rest.
pub(super) fn grouped(openings: &Openings) -> Vec<(BTreeSet<Ports>, Vec<&Peer>)> {
    let mut alike: BTreeMap<(&Peer, &BTreeSet<Cause>, bool), BTreeSet<Ports>> = BTreeMap::new();
    for (opening, causes) in openings {
        let is_every = opening.ports == Ports::Every;
        alike.entry((&opening.peer, causes, is_every)).or_default().insert(opening.ports);
    }
    let mut by_ports: BTreeMap<BTreeSet<Ports>, Vec<&Peer>> = BTreeMap::new();
    for ((peer, ..), ports) in alike {
        by_ports.entry(ports).or_default().push(peer);
    }
    by_ports.into_iter().collect()
}
