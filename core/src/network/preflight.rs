//! What stands against closing a namespace: connections with evidence that would break, and what cannot be written.

use std::collections::BTreeSet;

use super::{
    compiled::{Compiled, EdgeState, Trouble},
    consent::{Missing, Pair},
    declared::{Declared, Mode, ObjectKey, OnWouldBreak, Segment},
    model::{Cause, Flow, Namespace},
    segments::Segmented,
    snapshot::Snapshot,
};

/// A connection that somebody declared one half of: closing would break it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldBreak {
    /// Client and server.
    pub pair: Pair,
    /// What is missing.
    pub missing: Missing,
}

/// Why no namespace and no direction of a segment may be closed now, whatever the segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// Name resolution is excepted and was not found.
    DnsNotFound,
    /// The Kubernetes API, or probes from nodes, pass, and cannot be written on this data plane.
    NotOnThisDataPlane(Cause),
    /// An edge is declared, and one end of it cannot be selected exactly.
    NoSelector(Pair),
    /// An edge is declared, and a policy that it needs would name too many peers.
    TooManyPeers(Pair),
}

/// What stands against closing the namespaces of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preflight {
    /// What would break, in order.
    pub would_break: Vec<WouldBreak>,
    /// Requests for the Kubernetes API, which the segment lets nobody reach: whoever asks is taken to need it.
    pub api_server: Vec<ObjectKey>,
    /// What cannot be written.
    pub blockers: Vec<Blocker>,
}

impl Preflight {
    /// Looks at one segment.
    pub fn new(segment: &Segment, segmented: &Segmented<'_>, compiled: &Compiled) -> Self {
        let closes = |namespace: &Namespace, flow: Flow| {
            segmented.closing(namespace, flow).is_some_and(|closing| closing.uid == segment.uid)
        };
        let touches =
            |pair: &Pair| closes(&pair.server.namespace, Flow::Ingress) || closes(&pair.client.namespace, Flow::Egress);
        let mut found = Self::default();
        for (pair, edge) in compiled.edges.iter().filter(|(pair, _)| touches(pair)) {
            match edge.state {
                EdgeState::Pending(missing) => found.would_break.push(WouldBreak { pair: pair.clone(), missing }),
                EdgeState::NoSelector => found.blockers.push(Blocker::NoSelector(pair.clone())),
                EdgeState::TooManyPeers => found.blockers.push(Blocker::TooManyPeers(pair.clone())),
                EdgeState::Live
                | EdgeState::Observed
                | EdgeState::NotClosed
                | EdgeState::PortsDisjoint
                | EdgeState::SelectsNothing => {}
            }
        }
        let of_ours = |namespace: &Namespace| segmented.of(namespace).is_some_and(|one| one.uid == segment.uid);
        for trouble in &compiled.troubles {
            let blocker = match trouble {
                Trouble::DnsNotFound { namespace } if of_ours(namespace) => Blocker::DnsNotFound,
                Trouble::NotOnThisDataPlane { namespace, exception } if of_ours(namespace) => {
                    Blocker::NotOnThisDataPlane(exception.clone())
                }
                Trouble::ApiServerClosed { by } if closes(&by.namespace, Flow::Egress) => {
                    found.api_server.push(by.clone());
                    continue;
                }
                _ => continue,
            };
            if !found.blockers.contains(&blocker) {
                found.blockers.push(blocker);
            }
        }
        found
    }

    /// Whether no further namespace and no further direction is closed now.
    pub fn holds(&self, segment: &Segment) -> bool {
        (segment.pace.on_would_break == OnWouldBreak::Hold && self.breaks()) || !self.blockers.is_empty()
    }

    /// Whether closing would cut somebody who said what they need.
    pub fn breaks(&self) -> bool {
        !self.would_break.is_empty() || !self.api_server.is_empty()
    }
}

/// The names of the segments that close nothing further now.
pub fn held(declared: &Declared, snapshot: &Snapshot, compiled: &Compiled) -> BTreeSet<String> {
    let segmented = Segmented::new(declared, snapshot);
    let enforcing = declared.segments.values().filter(|segment| segment.mode == Mode::Enforce);
    let held = enforcing.filter(|segment| Preflight::new(segment, &segmented, compiled).holds(segment));
    held.map(|segment| segment.name.clone()).collect()
}
