//! The closed network, in numbers: what a pass has found and how long it thought. No identity is a label.

use std::time::Duration;

use countersign_core::{
    api::EdgePhase,
    network::{decide::Decision, plan::Phase, report::phase},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::labels::Spelt;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EdgeLabels {
    state: Spelt<EdgePhase>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    phase: Spelt<Phase>,
}

const STATES: [EdgePhase; 4] = [EdgePhase::Live, EdgePhase::Observed, EdgePhase::Pending, EdgePhase::Refused];
const PHASES: [Phase; 4] = [Phase::Open, Phase::Closing, Phase::Closed, Phase::Opening];

/// See the module.
pub(super) struct Network {
    edges: Family<EdgeLabels, Gauge>,
    namespaces: Family<NamespaceLabels, Gauge>,
    policies: Gauge,
    spoofed: Gauge,
    disagrees: Gauge,
    thinking: Histogram,
}

impl Network {
    /// With every series of the closed sets at 0.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let network = Self {
            edges: Family::default(),
            namespaces: Family::default(),
            policies: Gauge::default(),
            spoofed: Gauge::default(),
            disagrees: Gauge::default(),
            thinking: super::seconds(),
        };
        registry.register("network_edges", "Declared edges by where they stand", network.edges.clone());
        let help = "Namespaces of segments by how far they are closed";
        registry.register("network_namespaces", help, network.namespaces.clone());
        registry.register("network_policies", "NetworkPolicies of ours in the cluster", network.policies.clone());
        let help = "Pods that carry the labels of an identity they do not run as";
        registry.register("network_spoofed_pods", help, network.spoofed.clone());
        let help = "1 if the second opinion differs, so that nothing is written";
        registry.register("network_second_opinion_differs", help, network.disagrees.clone());
        let help = "How long a pass over the whole network takes to decide";
        registry.register("network_decision_duration_seconds", help, network.thinking.clone());
        for state in STATES {
            network.edges.get_or_create_owned(&EdgeLabels { state: Spelt(state) });
        }
        for phase in PHASES {
            network.namespaces.get_or_create_owned(&NamespaceLabels { phase: Spelt(phase) });
        }
        network
    }

    pub(super) fn show(&self, decision: &Decision, took: Duration) {
        let edges = || decision.compiled.edges.values().map(|edge| phase(edge.state).0);
        for state in STATES {
            let count = edges().filter(|found| *found == state).count();
            self.edges.get_or_create_owned(&EdgeLabels { state: Spelt(state) }).set(number(count));
        }
        for phase in PHASES {
            let count = decision.plan.phases.values().filter(|found| **found == phase).count();
            self.namespaces.get_or_create_owned(&NamespaceLabels { phase: Spelt(phase) }).set(number(count));
        }
        self.policies.set(number(decision.standing.ours.len()));
        let pods: std::collections::BTreeSet<_> = decision.projection.spoofs.iter().map(|spoof| &spoof.pod).collect();
        self.spoofed.set(number(pods.len()));
        self.disagrees.set(i64::from(decision.disagreement.is_some()));
        self.thinking.observe(took.as_secs_f64());
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
