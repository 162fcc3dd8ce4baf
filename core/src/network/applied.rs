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
use serde::{Deserialize, Serialize};

use super::{
    model::{Cause, Flow, Identity, Namespace, Opening, Openings, Peer, Policy, Ports, Role, Subject},
    projection::{Applied, AppliedWorkload},
    render::{self, Backend, Kind, NetworkPolicies, Rule, SUBJECT, grouped},
};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL};

/// Annotation with the record of why an object opens what it opens.
pub const RECORD: &str = "countersign.dev/applied";

/// More than an opening takes in a record: two names of 63 characters and eight labels, or a block with exceptions.
const LARGEST_OPENING: usize = 4 * 1_024;

/// For whom an object was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// UID of the workload; one made anew under the same name is another. Empty for pods without one.
    pub uid: String,
    /// The ServiceAccount.
    pub account: String,
}

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
            match read::<NetworkPolicies>(object, &namespace) {
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

#[derive(Serialize, Deserialize)]
struct Record<Spec> {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    account: String,
    /// What was written.
    spec: Spec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// By rule and peer: which causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<Vec<BTreeSet<usize>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<Vec<BTreeSet<usize>>>,
}

/// The most bytes of a record: the API server takes 256 KiB of annotations, and others may write some too.
const MOST_RECORD: usize = 240 * 1_024;

/// Whether the record of a policy, which is the larger half of its object, can be stored.
pub(super) fn fits(policy: &Policy) -> bool {
    // A policy of ordinary size is not written out just to be measured; a peer takes far less than this.
    let openings: usize = policy.isolates.values().map(BTreeMap::len).sum();
    if openings * LARGEST_OPENING <= MOST_RECORD {
        return true;
    }
    let bearer = Bearer { uid: "0".repeat(36), account: "0".repeat(253) };
    let object = render::object(policy, "", Some(&bearer));
    let record = object.meta().annotations.as_ref().and_then(|all| all.get(RECORD));
    record.is_none_or(|record| record.len() <= MOST_RECORD)
}

/// The record of a policy that is rendered as `spec`.
pub(super) fn record<B: Backend>(policy: &Policy, spec: &B::Spec, bearer: Option<&Bearer>) -> String {
    let causes: BTreeSet<&Cause> = policy.isolates.values().flatten().flat_map(|(_, causes)| causes).collect();
    let causes: Vec<&Cause> = causes.into_iter().collect();
    let side = |flow: Flow| {
        let Some(openings) = policy.isolates.get(&flow) else { return Vec::new() };
        let of = |ports: &BTreeSet<Ports>, peer: &Peer| {
            let mut found = BTreeSet::new();
            for ports in ports {
                let opening = Opening { peer: peer.clone(), ports: *ports };
                let known = openings.get(&opening).into_iter().flatten();
                found.extend(known.filter_map(|cause| causes.binary_search(&cause).ok()));
            }
            found
        };
        grouped(openings).iter().map(|(ports, peers)| peers.iter().map(|peer| of(ports, peer)).collect()).collect()
    };
    let record = Record {
        uid: bearer.map(|bearer| bearer.uid.clone()).unwrap_or_default(),
        account: bearer.map(|bearer| bearer.account.clone()).unwrap_or_default(),
        spec: B::plain(spec),
        causes: causes.iter().map(|cause| write_cause(cause)).collect(),
        ingress: side(Flow::Ingress),
        egress: side(Flow::Egress),
    };
    serde_json::to_string(&record).unwrap_or_default()
}

/// Reads one of our objects.
pub(super) fn read<B: Backend>(object: &B::Object, namespace: &Namespace) -> Option<AppliedPolicy> {
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
    let told = record.as_ref().and_then(isolates::<B>);
    let is_intact = told.is_some() && subject.is_some() && B::plain(written) == B::plain(spec);
    let mut openings = told.unwrap_or_default();
    let closed = B::isolates(spec);
    if role == Role::Deny {
        openings.retain(|flow, _| closed.contains(flow));
    }
    for flow in closed {
        openings.entry(flow).or_default();
    }
    let bearer =
        record.filter(|_| role != Role::Deny).map(|record| Bearer { uid: record.uid, account: record.account });
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
        kind: B::KIND,
    })
}

/// What was written, with its causes; `None` if the record contradicts itself.
fn isolates<B: Backend>(record: &Record<B::Spec>) -> Option<BTreeMap<Flow, Openings>> {
    let causes: Option<Vec<Cause>> = record.causes.iter().map(|text| read_cause(text)).collect();
    let causes = causes?;
    let side = |flow: Flow| {
        let told = match flow {
            Flow::Ingress => &record.ingress,
            Flow::Egress => &record.egress,
        };
        Some((flow, openings(&B::rules(&record.spec, flow)?, told, &causes)?))
    };
    B::isolates(&record.spec).into_iter().map(side).collect()
}

/// What rules open, each peer with the causes that are told of it.
fn openings(rules: &[Rule], told: &[Vec<BTreeSet<usize>>], causes: &[Cause]) -> Option<Openings> {
    let mut openings = Openings::new();
    for (place, rule) in rules.iter().enumerate() {
        for (peer, told) in rule.peers.iter().zip(told.get(place)?) {
            let why: Option<BTreeSet<Cause>> = told.iter().map(|place| causes.get(*place).cloned()).collect();
            let why = why?;
            for ports in &rule.ports {
                let opening = Opening { peer: peer.clone(), ports: *ports };
                openings.entry(opening).or_default().extend(why.iter().cloned());
            }
        }
    }
    Some(openings)
}

fn write_cause(cause: &Cause) -> String {
    match cause {
        Cause::Edge(Identity { namespace, account }) => format!("edge {namespace} {account}"),
        Cause::Namespace(namespace) => format!("namespace {namespace}"),
        Cause::Cluster => "cluster".to_owned(),
        Cause::External { namespace, name } => format!("external {namespace} {name}"),
        Cause::Dns => "dns".to_owned(),
        Cause::ApiServer => "apiServer".to_owned(),
        Cause::Probes => "probes".to_owned(),
    }
}

fn read_cause(text: &str) -> Option<Cause> {
    let words: Vec<&str> = text.split(' ').collect();
    match *words.as_slice() {
        ["edge", namespace, account] => {
            Some(Cause::Edge(Identity { namespace: Namespace::parse(namespace)?, account: account.to_owned() }))
        }
        ["namespace", namespace] => Some(Cause::Namespace(Namespace::parse(namespace)?)),
        ["cluster"] => Some(Cause::Cluster),
        ["external", namespace, name] => {
            Some(Cause::External { namespace: Namespace::parse(namespace)?, name: name.to_owned() })
        }
        ["dns"] => Some(Cause::Dns),
        ["apiServer"] => Some(Cause::ApiServer),
        ["probes"] => Some(Cause::Probes),
        _ => None,
    }
}
