//! What a backend answers, and the rules by which it is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::Resource;
use serde::{Serialize, de::DeserializeOwned};

use crate::network::model::{Cause, Flow, Openings, Peer, Policy, Ports, Selector};

/// What makes a kind of objects one that policies are written as.
pub trait Backend {
    /// The objects.
    type Object: Resource<DynamicType = ()> + Serialize + Clone + PartialEq + fmt::Debug;
    /// Their specs.
    type Spec: Serialize + DeserializeOwned + PartialEq;

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

/// One rule: these peers, on these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The peers.
    pub peers: Vec<Peer>,
    /// The ports.
    pub ports: Vec<Ports>,
}

/// A peer, and why it passes.
pub type Allowed<'a> = (&'a Peer, &'a BTreeSet<Cause>);

/// The rules that openings come to: each set of ports with its peers.
///
/// Within a rule all ports of a peer are open for the same causes, and "every port" stands in a rule of its own: so what
/// is read back is what was written, opening by opening, and a plan comes to rest.
pub fn grouped(openings: &Openings) -> Vec<(BTreeSet<Ports>, Vec<Allowed<'_>>)> {
    let mut alike: BTreeMap<(Allowed<'_>, bool), BTreeSet<Ports>> = BTreeMap::new();
    for (opening, causes) in openings {
        let is_every = opening.ports == Ports::Every;
        alike.entry(((&opening.peer, causes), is_every)).or_default().insert(opening.ports);
    }
    let mut by_ports: BTreeMap<BTreeSet<Ports>, Vec<Allowed<'_>>> = BTreeMap::new();
    for ((allowed, _), ports) in alike {
        by_ports.entry(ports).or_default().push(allowed);
    }
    by_ports.into_iter().collect()
}
