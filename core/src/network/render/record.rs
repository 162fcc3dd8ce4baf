//! Why an object opens what it opens, and for whom it was written: one annotation beside its spec.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::backend::{Backend, Rule, grouped};
use crate::network::model::{Cause, Flow, Identity, Namespace, Opening, Openings, Policy};

/// Annotation with the record of why an object opens what it opens.
pub const RECORD: &str = "countersign.dev/applied";

/// For whom an object was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// UID of the workload; one made anew under the same name is another. Empty for pods without one.
    pub uid: String,
    /// The ServiceAccount.
    pub account: String,
}

/// What the annotation says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record<Spec> {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    account: String,
    /// What was written.
    pub spec: Spec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// By rule and peer: which causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<Vec<BTreeSet<usize>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<Vec<BTreeSet<usize>>>,
}

/// The record of a policy that is rendered as `spec`.
pub fn record<B: Backend>(policy: &Policy, spec: &B::Spec, bearer: Option<&Bearer>) -> String {
    let causes: BTreeSet<&Cause> = policy.isolates.values().flatten().flat_map(|(_, causes)| causes).collect();
    let causes: Vec<&Cause> = causes.into_iter().collect();
    let side = |flow: Flow| {
        let rules = policy.isolates.get(&flow).map(grouped).unwrap_or_default();
        let places = |why: &BTreeSet<Cause>| why.iter().filter_map(|cause| causes.binary_search(&cause).ok()).collect();
        rules.iter().map(|(_, peers)| peers.iter().map(|(_, why)| places(why)).collect()).collect()
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

impl<Spec> Record<Spec> {
    /// For whom the object was written.
    pub fn bearer(&self) -> Bearer {
        Bearer { uid: self.uid.clone(), account: self.account.clone() }
    }

    /// What was written, with its causes; `None` if the record contradicts itself.
    pub fn isolates<B: Backend<Spec = Spec>>(&self) -> Option<BTreeMap<Flow, Openings>> {
        let causes: Option<Vec<Cause>> = self.causes.iter().map(|text| read_cause(text)).collect();
        let causes = causes?;
        let side = |flow: Flow| {
            let told = match flow {
                Flow::Ingress => &self.ingress,
                Flow::Egress => &self.egress,
            };
            Some((flow, openings(&B::rules(&self.spec, flow)?, told, &causes)?))
        };
        B::isolates(&self.spec).into_iter().map(side).collect()
    }
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
