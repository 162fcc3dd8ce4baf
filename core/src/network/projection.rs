//! From identity to selector: a NetworkPolicy can only match labels, so every identity is projected onto those that
//! its workloads already have.
//!
//! A selector is taken only if it is *complete* (it matches the template and every live pod of the workload) and
//! *exact* (it matches no pod and no template of the namespace that runs as somebody else). Where there is none, what
//! is applied stays as it is and nothing new is opened.

mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::select::Group;
use super::{
    model::{Identity, Namespace, Selector, WorkloadKey},
    snapshot::{ContainerPort, Snapshot},
};

/// Why a workload has no selector that is complete and exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSelector {
    /// Every candidate also matches pods or templates of these workloads, which run as somebody else.
    Ambiguous {
        /// The workloads that collide; never empty.
        with: BTreeSet<WorkloadKey>,
        /// One label that would solve it, if its pods carried it alone.
        advice: (String, String),
    },
    /// Its own pods run as several accounts, and no move from one to the other is known.
    Mixed {
        /// The accounts; at least two.
        accounts: BTreeSet<String>,
    },
    /// Its pods have no label in common that lasts.
    NoLabels,
    /// Its pods run in the network of their nodes.
    HostNetwork,
}

/// One workload of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projected {
    /// Whose pods they are. While a workload moves from one account to another: the account that is applied.
    pub identity: Identity,
    /// The labels that select exactly its pods.
    pub selector: Result<Selector, NoSelector>,
    /// The container ports that its template and its live pods declare.
    pub ports: BTreeSet<ContainerPort>,
    /// How many live pods the selector matches; 0 without one.
    pub matched_pods: usize,
    /// While its template has moved to another account and pods of the old one still run: how many of how many moved.
    pub moving: Option<Moving>,
}

/// A workload on its way from one account to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// The account its template names now.
    pub to: Identity,
    /// Pods that run as it already.
    pub moved: usize,
    /// All of its pods.
    pub pods: usize,
}

/// A pod that carries the labels of an applied selector but runs as somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spoof {
    /// The pod.
    pub pod: String,
    /// Whom it runs as.
    pub runs_as: Identity,
    /// Whose selector it matches.
    pub matches: WorkloadKey,
}

/// What is applied for a workload: read from our own objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedWorkload {
    /// UID of the workload when it was applied; one made anew under the same name is another.
    pub uid: String,
    /// For whom it was applied.
    pub identity: Identity,
    /// By which labels.
    pub selector: Selector,
}

/// Everything that is applied, by workload.
pub type Applied = BTreeMap<WorkloadKey, AppliedWorkload>;

/// Every workload with its selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Projection {
    /// By workload.
    pub workloads: BTreeMap<WorkloadKey, Projected>,
    /// Pods that carry a foreign identity's labels.
    pub spoofs: BTreeSet<Spoof>,
}

impl Projection {
    /// The workloads of an identity.
    pub fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = (&'a WorkloadKey, &'a Projected)> {
        self.workloads.iter().filter(move |(_, projected)| projected.identity == *identity)
    }
}

/// Projects every namespace.
pub fn project(snapshot: &Snapshot, applied: &Applied) -> Projection {
    let mut all = Projection::default();
    for namespace in snapshot.namespaces.keys() {
        let Projection { workloads, spoofs } = project_namespace(snapshot, applied, namespace);
        all.workloads.extend(workloads);
        all.spoofs.extend(spoofs);
    }
    all
}

/// Projects one namespace; nothing outside it matters, so a changed pod costs a look at its namespace only.
pub fn project_namespace(snapshot: &Snapshot, applied: &Applied, namespace: &Namespace) -> Projection {
    let groups = Group::all(snapshot, applied, namespace);
    Projection { workloads: select::workloads(&groups), spoofs: select::spoofs(&groups, applied, namespace) }
}
