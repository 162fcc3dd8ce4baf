//! What policies of others let pass beside ours.
//!
//! NetworkPolicies only add up, so anybody who may write one can open what a segment closes. It is found with the same
//! representatives and the same evaluator as the second opinion, told, and never touched.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::networking::v1::NetworkPolicy, apimachinery::pkg::util::intstr::IntOrString};

use super::{Representative, mentioned, objects, representatives, scene};
use crate::network::{
    compiled::Compiled,
    declared::{Declared, Mode},
    evaluate::{End, Evaluator, Protocol, Question},
    model::{Flow, Namespace},
    projection::Projection,
    segments::Segmented,
    snapshot::{Labels, Snapshot},
};

/// The most pairs that are asked about for one namespace and direction.
const MOST_PAIRS: usize = 20_000;

/// One thing that passes because of a policy of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surplus {
    /// The name of the policy.
    pub policy: String,
    /// Who gets through.
    pub from: String,
    /// To whom.
    pub to: String,
    /// On which port.
    pub port: u16,
    /// In which direction the namespace is open.
    pub flow: Flow,
}

/// The first find in each closed namespace.
pub fn surplus(
    declared: &Declared,
    snapshot: &Snapshot,
    projection: &Projection,
    compiled: &Compiled,
    foreign: &[NetworkPolicy],
) -> BTreeMap<Namespace, Surplus> {
    let segmented = Segmented::new(declared, snapshot);
    let closed = |there: &Namespace| segmented.of(there).is_some_and(|segment| segment.mode == Mode::Enforce);
    let mut by_namespace: BTreeMap<Namespace, Vec<&NetworkPolicy>> = BTreeMap::new();
    for policy in foreign {
        let there = policy.metadata.namespace.as_deref().and_then(Namespace::parse);
        if let Some(there) = there.filter(closed) {
            by_namespace.entry(there).or_default().push(policy);
        }
    }
    if by_namespace.is_empty() {
        return BTreeMap::new();
    }
    let none = Labels::new();
    let people = representatives(snapshot, projection, &none);
    let ours = objects(compiled);
    let search = Search { snapshot, people: &people, ours: &ours, ports: mentioned(declared) };
    let found = by_namespace.into_iter().filter_map(|(there, policies)| {
        let flows = segmented.of(&there)?.directions.iter();
        let find = flows.into_iter().find_map(|flow| search.first(&there, *flow, &policies, projection))?;
        Some((there, find))
    });
    found.collect()
}

struct Search<'a> {
    snapshot: &'a Snapshot,
    people: &'a [Representative<'a>],
    ours: &'a [NetworkPolicy],
    ports: BTreeSet<u16>,
}

impl Search<'_> {
    fn first(
        &self,
        there: &Namespace,
        flow: Flow,
        policies: &[&NetworkPolicy],
        projection: &Projection,
    ) -> Option<Surplus> {
        let with = |more: &[&NetworkPolicy]| {
            let all = self.ours.iter().chain(more.iter().copied()).cloned().collect();
            scene(self.snapshot, self.people, None, all)
        };
        let (alone, together) = (with(&[]), with(policies));
        let (alone, together) = (Evaluator::new(&alone), Evaluator::new(&together));
        let numbers: BTreeSet<u16> = policies.iter().flat_map(|policy| numbers(policy)).collect();
        for (client, server) in self.pairs(there, flow) {
            let own = server.identity.and_then(|(key, _)| projection.workloads.get(key));
            let own = own.into_iter().flat_map(|one| one.ports.iter().map(|port| port.number.get()));
            for port in own.chain(numbers.iter().copied()).chain(self.ports.iter().copied()) {
                let (from, to) = (End::Pod(client.id.clone()), End::Pod(server.id.clone()));
                let question = Question { from, to, protocol: Protocol::Tcp, port };
                if passes(&alone, &question, flow) != Some(false) || passes(&together, &question, flow) != Some(true) {
                    continue;
                }
                let is_it =
                    |policy: &&&NetworkPolicy| passes(&Evaluator::new(&with(&[policy])), &question, flow) == Some(true);
                let policy = policies.iter().find(is_it).or(policies.first())?;
                return Some(Surplus {
                    policy: policy.metadata.name.clone().unwrap_or_default(),
                    from: client.id.to_string(),
                    to: server.id.to_string(),
                    port,
                    flow,
                });
            }
        }
        None
    }

    /// Everybody who may meet this wall; in a large cluster each of those behind it, and a sample of the others.
    fn pairs(&self, there: &Namespace, flow: Flow) -> Vec<(&Representative<'_>, &Representative<'_>)> {
        let behind: Vec<&Representative<'_>> = self.people.iter().filter(|one| one.namespace == *there).collect();
        let step = (behind.len() * self.people.len()).div_ceil(MOST_PAIRS).max(1);
        let mut pairs = Vec::new();
        for (at, inside) in behind.into_iter().enumerate() {
            for outside in self.people.iter().skip(at % step).step_by(step).filter(|one| one.id != inside.id) {
                pairs.push(match flow {
                    Flow::Ingress => (outside, inside),
                    Flow::Egress => (inside, outside),
                });
            }
        }
        pairs
    }
}

/// Whether a question passes in one direction; `None` where the objects cannot be judged.
fn passes(evaluator: &Evaluator<'_>, question: &Question, flow: Flow) -> Option<bool> {
    let verdict = evaluator.ask(question).ok()?;
    Some(match flow {
        Flow::Ingress => verdict.ingress.passes(),
        Flow::Egress => verdict.egress.passes(),
    })
}

/// The numbers of ports that a policy names.
fn numbers(policy: &NetworkPolicy) -> Vec<u16> {
    let spec = policy.spec.as_ref();
    let ingress = spec.into_iter().flat_map(|spec| spec.ingress.iter().flatten()).flat_map(|rule| &rule.ports);
    let egress = spec.into_iter().flat_map(|spec| spec.egress.iter().flatten()).flat_map(|rule| &rule.ports);
    let ports = ingress.chain(egress).flatten().filter_map(|port| match port.port {
        Some(IntOrString::Int(number)) => u16::try_from(number).ok(),
        Some(IntOrString::String(_)) | None => None,
    });
    ports.collect()
}
