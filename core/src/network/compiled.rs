//! What a compilation comes to: policies, why they open what they open, edges, and what could not be compiled.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    consent::{Missing, Pair},
    declared::ObjectKey,
    model::{Cause, Flow, Namespace, Policy, Role, WorkloadKey},
    ports::{PortSet, UnknownName},
    projection::NoSelector,
};
use crate::value::names::Cidr;

/// Where an edge stands; the first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeState {
    /// Every half that is closed by us has it open.
    Live,
    /// It would be live, and a segment of it only observes.
    Observed,
    /// Neither end is closed by us; it passes whatever is declared.
    NotClosed,
    /// It waits for the other half.
    Pending(Missing),
    /// What was requested and what was granted have no port in common.
    PortsDisjoint,
    /// A policy that it needs would name more peers than one object holds.
    TooManyPeers,
    /// No workload of one end can be selected exactly.
    NoSelector,
    /// No workload runs as one of the ends.
    SelectsNothing,
}

/// An edge that somebody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where it stands.
    pub state: EdgeState,
    /// The ports on which it is live or would be.
    pub ports: PortSet,
    /// The names of ports that no container of a workload of the server has, by workload.
    pub unknown_ports: BTreeMap<WorkloadKey, BTreeSet<UnknownName>>,
}

/// What could not be compiled as it was declared; it opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A grant or request names an external service that does not exist.
    UnknownExternal {
        /// The object that names it.
        by: ObjectKey,
        /// Its name.
        name: String,
    },
    /// A block of an external service lies within the cluster.
    ExternalInCluster {
        /// The external service.
        external: ObjectKey,
        /// The block.
        block: Cidr,
    },
    /// The segment of a namespace lets nobody reach the Kubernetes API, and this request asks for it.
    ApiServerClosed {
        /// The request.
        by: ObjectKey,
    },
    /// The Kubernetes API, or probes from nodes, cannot be written on this data plane.
    NotOnThisDataPlane {
        /// The namespace.
        namespace: Namespace,
        /// Which of them.
        exception: Cause,
    },
    /// A segment excepts name resolution, which was not found.
    DnsNotFound {
        /// The namespace.
        namespace: Namespace,
    },
    /// A policy would name more peers than one object holds; it is not written, and what is applied stays.
    TooManyPeers {
        /// The workload.
        workload: WorkloadKey,
        /// The direction.
        flow: Flow,
        /// How many peers it would name.
        peers: usize,
    },
    /// A workload of a closed namespace cannot be selected exactly.
    NoSelector {
        /// The workload.
        workload: WorkloadKey,
        /// Why.
        why: NoSelector,
    },
}

/// Why something passes a workload, or a namespace, whether or not it can be written now.
///
/// What is applied stays as long as its cause is declared: a workload that cannot be selected exactly, or a name server
/// that was not found, takes nothing away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Causes {
    /// What is declared.
    pub declared: BTreeSet<Cause>,
    /// What of it has no opening, or not all of them, because its other end cannot be written now.
    pub unresolved: BTreeSet<Cause>,
}

/// What a compilation comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compiled {
    /// Every policy there is to be, those of segments that only observe among them.
    pub policies: BTreeMap<(Namespace, Role), Policy>,
    /// Why anything passes, also for roles that have no policy now.
    pub causes: BTreeMap<(Namespace, Role), Causes>,
    /// Every edge that was declared.
    pub edges: BTreeMap<Pair, Edge>,
    /// What could not be compiled.
    pub troubles: Vec<Trouble>,
}

impl Compiled {
    /// The workloads, by direction, whose policy is left as it is, as it would name too many peers.
    pub fn too_large(&self) -> BTreeSet<(&WorkloadKey, Flow)> {
        let large = self.troubles.iter().filter_map(|trouble| match trouble {
            Trouble::TooManyPeers { workload, flow, .. } => Some((workload, *flow)),
            _ => None,
        });
        large.collect()
    }
}
