//! From policies to objects of the cluster, whatever kind of objects they are written as.
//!
//! A kind of objects is a [`Backend`]: one file below this one, and one line in `backends!`. It says how a policy is
//! written as a spec of that kind, and how such a spec is read back; names, labels, the record of causes, the order of
//! writes and their making are the same for all. What an object lets pass is judged by
//! [`evaluate`](super::evaluate), which shares no code with this and must know the kind by itself.

mod backend;
mod network_policy;
mod record;

use std::collections::BTreeMap;

pub use backend::{Allowed, Backend, Rule, grouped};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::{ApiResource, Resource};
pub use network_policy::NetworkPolicies;
pub use record::{Bearer, RECORD, Record};
use serde::Serialize;

use super::model::{Flow, Namespace, Policy, Role, WorkloadKey, WorkloadKind};
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

/// More than an opening takes in a record: two names of 63 characters and eight labels, or a block with exceptions.
const LARGEST_OPENING: usize = 4 * 1_024;

/// The most bytes of a record: the API server takes 256 KiB of annotations, and others may write some too.
const MOST_RECORD: usize = 240 * 1_024;

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
                match self { $(Self::$name(_) => Kind::$name,)+ }
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

/// The object that a policy is written as, owned by the segment with that UID and written for that bearer.
pub fn object(policy: &Policy, segment_uid: &str, bearer: Option<&Bearer>) -> Object {
    Object::NetworkPolicy(Box::new(render::<NetworkPolicies>(policy, segment_uid, bearer)))
}

/// The same, with nothing but what it lets pass: enough to judge it.
pub fn bare(policy: &Policy) -> Object {
    Object::NetworkPolicy(Box::new(NetworkPolicies::object(place(policy), NetworkPolicies::write(policy))))
}

/// The same as [`object`], as an object of this backend.
pub fn render<B: Backend>(policy: &Policy, segment_uid: &str, bearer: Option<&Bearer>) -> B::Object {
    let spec = B::write(policy);
    let labels = BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (OWNER_UID_LABEL.to_owned(), segment_uid.to_owned()),
    ]);
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: Some(BTreeMap::from([
            (SUBJECT.to_owned(), subject(&policy.role)),
            (RECORD.to_owned(), record::record::<B>(policy, &spec, bearer)),
        ])),
        ..place(policy)
    };
    B::object(metadata, spec)
}

/// Where the object of a policy is.
fn place(policy: &Policy) -> ObjectMeta {
    let (name, namespace) = (name(&policy.role), policy.namespace.to_string());
    ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() }
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

/// Whether the record of a policy, which is the larger half of its object, can be stored.
pub fn fits(policy: &Policy) -> bool {
    // A policy of ordinary size is not written out just to be measured; a peer takes far less than this.
    let openings: usize = policy.isolates.values().map(BTreeMap::len).sum();
    if openings * LARGEST_OPENING <= MOST_RECORD {
        return true;
    }
    let bearer = Bearer { uid: "0".repeat(36), account: "0".repeat(253) };
    let object = object(policy, "", Some(&bearer));
    let record = object.meta().annotations.as_ref().and_then(|all| all.get(RECORD));
    record.is_none_or(|record| record.len() <= MOST_RECORD)
}
