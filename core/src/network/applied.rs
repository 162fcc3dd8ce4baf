//! What is applied: our own NetworkPolicies, read back with the causes of what they open.
//!
//! An object tells what passes; why it passes, and for whom it was written, stands in one annotation beside it, so that
//! a plan needs no memory: what is applied and still declared is kept until its replacement has taken effect, and what
//! is no longer declared goes at once. The annotation holds the spec as we wrote it; an object whose spec is another is
//! [`AppliedPolicy::is_intact`] no more, nothing that was added to it is taken for ours, and what we wrote can be put
//! back even when it could not be compiled anew.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube_core::Resource;

use super::{
    model::{Identity, Namespace, Policy, Role, Subject},
    projection::{Applied, AppliedWorkload},
    render::{self, Backend, Bearer, Kind, NetworkPolicies, RECORD, Record, SUBJECT},
};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

/// One of our objects, as it is in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// What we wrote; of a deny, as far as its directions are closed now. Without a record that can be read: which pods
    /// and directions it isolates, and no opening.
    pub policy: Policy,
    /// UID of the segment that it was written for.
    pub segment: String,
    /// For whom it was written; none for a deny.
    pub bearer: Option<Bearer>,
    /// Whether it says what we wrote.
    pub is_intact: bool,
    /// Its version in the cluster.
    pub version: String,
    /// Its UID in the cluster.
    pub uid: String,
    /// What kind of object it is.
    pub kind: Kind,
}

/// Everything of ours that is in the cluster, and what stands in its way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// Our objects.
    pub ours: BTreeMap<(Namespace, Role), AppliedPolicy>,
    /// NetworkPolicies of others, by namespace: their names.
    pub foreign: BTreeMap<Namespace, BTreeSet<String>>,
    /// Those of others whole, without what nobody needs to judge them.
    pub others: Vec<NetworkPolicy>,
    /// Objects with our label that carry a name which is another's, or that cannot be read; they are never touched.
    pub unreadable: BTreeMap<Namespace, BTreeSet<String>>,
}

impl Standing {
    /// Sorts the NetworkPolicies of the cluster.
    pub fn read<'a>(objects: impl IntoIterator<Item = &'a NetworkPolicy>) -> Self {
        let mut standing = Self::default();
        for object in objects {
            let meta = &object.metadata;
            let Some(namespace) = meta.namespace.as_deref().and_then(Namespace::parse) else { continue };
            let name = meta.name.clone().unwrap_or_default();
            let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key));
            // The chart's own policy is managed by Helm, and carries no subject.
            let has_subject = meta.annotations.as_ref().is_some_and(|all| all.contains_key(SUBJECT));
            let is_ours = label(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY) && has_subject;
            if !is_ours {
                standing.others.push(judged(object));
                standing.foreign.entry(namespace).or_default().insert(name);
                continue;
            }
            match read::<NetworkPolicies>(object, Kind::NetworkPolicy, &namespace) {
                Some(applied) => {
                    standing.ours.insert((namespace, applied.policy.role.clone()), applied);
                }
                None => {
                    standing.unreadable.entry(namespace).or_default().insert(name);
                }
            }
        }
        standing
    }

    /// For which identity and by which labels each workload is selected now.
    pub fn selectors(&self) -> Applied {
        let mut applied = Applied::new();
        for ((namespace, role), one) in &self.ours {
            let (Role::Workload { workload, .. }, Subject::Pods(selector), Some(bearer)) =
                (role, &one.policy.subject, &one.bearer)
            else {
                continue;
            };
            let identity = Identity { namespace: namespace.clone(), account: bearer.account.clone() };
            let entry = AppliedWorkload { uid: bearer.uid.clone(), identity, selector: selector.clone() };
            applied.insert(workload.clone(), entry);
        }
        applied
    }
}

/// A policy of somebody else, as far as it says what passes.
fn judged(object: &NetworkPolicy) -> NetworkPolicy {
    let metadata = ObjectMeta {
        name: object.metadata.name.clone(),
        namespace: object.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    NetworkPolicy { metadata, spec: object.spec.clone() }
}

/// Reads one of our objects, which is of this kind.
pub(super) fn read<B: Backend>(object: &B::Object, kind: Kind, namespace: &Namespace) -> Option<AppliedPolicy> {
    let meta = object.meta();
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
    let role = render::role(annotation(SUBJECT)?, namespace)?;
    if meta.name.as_deref() != Some(render::name(&role).as_str()) {
        return None;
    }
    let spec = B::spec(object)?;
    let record: Option<Record<B::Spec>> = annotation(RECORD).and_then(|text| serde_json::from_str(text).ok());
    let written = record.as_ref().map_or(spec, |record| &record.spec);
    let subject = match &role {
        Role::Deny => Some(Subject::WholeNamespace),
        Role::Workload { .. } => B::selector(written).map(Subject::Pods),
    };
    let told = record.as_ref().and_then(Record::isolates::<B>);
    let is_intact = told.is_some() && subject.is_some() && B::plain(written) == B::plain(spec);
    let mut openings = told.unwrap_or_default();
    let closed = B::isolates(spec);
    if role == Role::Deny {
        openings.retain(|flow, _| closed.contains(flow));
    }
    for flow in closed {
        openings.entry(flow).or_default();
    }
    let bearer = record.filter(|_| role != Role::Deny).map(|record| record.bearer());
    Some(AppliedPolicy {
        policy: Policy {
            namespace: namespace.clone(),
            role,
            // A selector that is none of ours selects pods nobody asked about; it is replaced as a whole.
            subject: subject.unwrap_or(Subject::WholeNamespace),
            isolates: openings,
        },
        segment: meta.labels.as_ref().and_then(|labels| labels.get(OWNER_UID_LABEL)).cloned().unwrap_or_default(),
        bearer,
        is_intact,
        version: meta.resource_version.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        kind,
    })
}
