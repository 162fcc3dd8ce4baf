//! The second opinion: what the objects to be written let pass, by the words of the API, against what was declared, by
//! the words of the consent rules.
//!
//! It asks the [evaluator](super::evaluate), which shares nothing with the compiler, about representatives: each
//! workload's template and live pods, a pod without labels in each namespace, and one in a namespace that nobody
//! declared anything about. In a large cluster every declared edge is asked about, and a fixed sample of all other pairs.
//!
//! Pods are told by their labels: each has an address that no block of ours holds, as what is known to be a pod's is cut
//! out of every block. Where no such address is left nothing is agreed upon.

pub mod surplus;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{
    compiled::{Compiled, EdgeState},
    consent::{Consents, Half, Named, Pair},
    declared::{Declared, PortRef},
    evaluate::{End, Evaluator, PodId, PodView, Protocol, Question, Scene},
    model::{self, Flow, Identity, Namespace, Peer, WorkloadKey},
    ports::PortSet,
    projection::Projection,
    render::{self, Object},
    segments::Segmented,
    snapshot::{Labels, PodFacts, Snapshot},
};

/// Up to so many pairs of representatives all are asked about.
const ALL_PAIRS: usize = 40_000;
/// How many others each is asked about where there are more.
const SAMPLE: usize = 24;
/// A namespace that nobody has: what it may reach, anybody may.
const STRANGER: &str = "countersign-nobody";

/// The two readings differ: nothing is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// On which port.
    pub port: u16,
    /// In which direction they differ.
    pub flow: Flow,
    /// Whether it was declared; the objects say the opposite, or cannot be judged.
    pub declared: bool,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, port, flow, declared } = self;
        let was = if *declared { "declared" } else { "not declared" };
        write!(f, "{from} to {to} port {port} is {was}, and the {flow:?} policies say otherwise")
    }
}

/// Someone to ask about.
struct Representative<'a> {
    id: PodId,
    namespace: Namespace,
    /// Whom it runs as, and for which workload; nobody for a witness.
    identity: Option<(&'a WorkloadKey, &'a Identity)>,
    labels: &'a Labels,
}

/// Compares both readings of everything that was compiled; `None` if they agree.
pub fn disagreement(
    declared: &Declared,
    snapshot: &Snapshot,
    projection: &Projection,
    compiled: &Compiled,
) -> Option<Disagreement> {
    let segmented = Segmented::new(declared, snapshot);
    let consents = Consents::new(declared, &segmented);
    let none = Labels::new();
    let people = representatives(snapshot, projection, &none);
    let scene = scene(snapshot, &people, outside(compiled), objects(compiled));
    let evaluator = Evaluator::new(&scene);
    let judge = Judge {
        snapshot,
        projection,
        too_large: compiled.too_large(),
        segmented: &segmented,
        consents: &consents,
        evaluator: &evaluator,
    };
    let ports = mentioned(declared);
    for (client, server) in pairs(&people, compiled) {
        if let Some(found) = judge.differs(client, server, &ports) {
            return Some(found);
        }
    }
    None
}

/// What was compiled, as the objects that the evaluator knows.
fn objects(compiled: &Compiled) -> Vec<NetworkPolicy> {
    let one = |policy| match render::bare(policy) {
        Object::NetworkPolicy(object) => *object,
    };
    compiled.policies.values().map(one).collect()
}

fn representatives<'a>(
    snapshot: &'a Snapshot,
    projection: &'a Projection,
    none: &'a Labels,
) -> Vec<Representative<'a>> {
    let mut seen: BTreeSet<(&WorkloadKey, &Labels)> = BTreeSet::new();
    let mut people = Vec::new();
    let templates = snapshot.workloads.iter().map(|(key, workload)| (key, &workload.template));
    let pods = snapshot.pods.values().map(|pod| (&pod.owner, &pod.facts));
    for (key, facts) in templates.chain(pods) {
        let Some((key, projected)) = projection.workloads.get_key_value(key) else { continue };
        let speaks = |facts: &PodFacts| !facts.host_network && facts.account == projected.identity.account;
        // One without a selector is frozen: what is applied for it stays, whatever that is.
        if projected.selector.is_err() || !speaks(facts) || !seen.insert((key, &facts.labels)) {
            continue;
        }
        let name = format!("{}-{:?}-{}", key.name, key.kind, people.len());
        people.push(Representative {
            id: PodId { namespace: key.namespace.to_string(), name },
            namespace: key.namespace.clone(),
            identity: Some((key, &projected.identity)),
            labels: &facts.labels,
        });
    }
    let strangers = snapshot.namespaces.keys().cloned().chain(Namespace::parse(STRANGER));
    people.extend(strangers.map(|namespace| Representative {
        id: PodId { namespace: namespace.to_string(), name: "witness".to_owned() },
        namespace,
        identity: None,
        labels: none,
    }));
    people
}

/// An address that no block of what was compiled holds.
fn outside(compiled: &Compiled) -> Option<IpAddr> {
    let openings = compiled.policies.values().flat_map(|policy| policy.isolates.values()).flat_map(BTreeMap::keys);
    let blocks: BTreeSet<_> = openings
        .filter_map(|opening| match &opening.peer {
            Peer::Block { block, except } => Some((block, except)),
            Peer::Pods { .. } | Peer::Namespace(_) | Peer::Cluster => None,
        })
        .collect();
    let is_held = |address: IpAddr| {
        blocks
            .iter()
            .any(|(block, except)| block.contains(address) && !except.iter().any(|part| part.contains(address)))
    };
    // Link-local addresses are cut out of every block but those that name them.
    (0..=u8::MAX).map(|last| IpAddr::from([169, 254, 255, last])).find(|address| !is_held(*address))
}

fn scene(
    snapshot: &Snapshot,
    people: &[Representative<'_>],
    address: Option<IpAddr>,
    policies: Vec<NetworkPolicy>,
) -> Scene {
    let namespaces = snapshot.namespaces.iter().map(|(name, facts)| (name.to_string(), facts.labels.clone()));
    let pods = people.iter().map(|one| {
        let addresses = address.into_iter().collect();
        let view = PodView { labels: one.labels.clone(), addresses, ..PodView::default() };
        (one.id.clone(), view)
    });
    Scene {
        namespaces: namespaces.chain([(STRANGER.to_owned(), BTreeMap::new())]).collect(),
        pods: pods.collect(),
        policies,
    }
}

/// Every number that a declaration names, its neighbours, and both ends.
fn mentioned(declared: &Declared) -> BTreeSet<u16> {
    let grants = declared.grants.values().flat_map(|grant| &grant.ports);
    let targets = declared.requests.values().flat_map(|request| &request.to);
    let requests = targets.filter_map(|target| match target {
        super::declared::Target::Identity { ports, .. } => Some(ports),
        _ => None,
    });
    let mut ports = BTreeSet::from([1, u16::MAX]);
    for port in grants.chain(requests.flatten()) {
        if let PortRef::Span(span) = port {
            for end in [span.first().get(), span.last().get()] {
                ports.extend([end, end.saturating_sub(1).max(1), end.saturating_add(1)]);
            }
        }
    }
    ports
}

/// All pairs, or in a large cluster the declared ones and a sample that is the same at each pass.
fn pairs<'r, 'a>(
    people: &'r [Representative<'a>],
    compiled: &Compiled,
) -> Vec<(&'r Representative<'a>, &'r Representative<'a>)> {
    let count = people.len();
    let of = |from: usize, to: usize| Some((people.get(from)?, people.get(to)?)).filter(|_| from != to);
    if count.saturating_mul(count) <= ALL_PAIRS {
        return (0..count).flat_map(|from| (0..count).filter_map(move |to| of(from, to))).collect();
    }
    let mut by_identity: BTreeMap<&Identity, Vec<&Representative<'_>>> = BTreeMap::new();
    for one in people {
        if let Some((_, identity)) = one.identity {
            by_identity.entry(identity).or_default().push(one);
        }
    }
    let live = compiled.edges.iter().filter(|(_, edge)| matches!(edge.state, EdgeState::Live | EdgeState::Observed));
    let edges = live.flat_map(|(pair, _)| {
        let of = |identity: &Identity| by_identity.get(identity).cloned().unwrap_or_default();
        let servers = of(&pair.server);
        of(&pair.client)
            .into_iter()
            .flat_map(move |client| servers.clone().into_iter().map(move |server| (client, server)))
    });
    // Strides without a common factor reach every distance sooner or later.
    let others =
        (0..count).flat_map(|from| (1..=SAMPLE).filter_map(move |step| of(from, (from + step * step * 7) % count)));
    edges.chain(others).collect()
}

struct Judge<'a> {
    snapshot: &'a Snapshot,
    projection: &'a Projection,
    too_large: BTreeSet<(&'a WorkloadKey, Flow)>,
    segmented: &'a Segmented<'a>,
    consents: &'a Consents<'a>,
    evaluator: &'a Evaluator<'a>,
}

impl Judge<'_> {
    fn differs(
        &self,
        client: &Representative<'_>,
        server: &Representative<'_>,
        mentioned: &BTreeSet<u16>,
    ) -> Option<Disagreement> {
        let named = server.identity.and_then(|(key, _)| self.projection.workloads.get(key)).map(|one| &one.ports);
        let numbers = named.into_iter().flatten().map(|port| port.number.get());
        let numbers: BTreeSet<u16> = numbers.chain(mentioned.iter().copied()).collect();
        let (ingress, egress) = (self.ingress(client, server), self.egress(client, server));
        // What was not written as it is too large is frozen, whatever it is.
        let frozen =
            |one: &Representative<'_>, flow| one.identity.is_some_and(|(key, _)| self.too_large.contains(&(key, flow)));
        let skipped = [(server, Flow::Ingress), (client, Flow::Egress)].map(|(one, flow)| (flow, frozen(one, flow)));
        for port in numbers {
            let (from, to) = (End::Pod(client.id.clone()), End::Pod(server.id.clone()));
            let verdict = self.evaluator.ask(&Question { from, to, protocol: Protocol::Tcp, port });
            let says = |flow: Flow| match (&verdict, flow) {
                (Ok(verdict), Flow::Ingress) => Some(verdict.ingress.passes()),
                (Ok(verdict), Flow::Egress) => Some(verdict.egress.passes()),
                (Err(_), _) => None,
            };
            for (flow, open) in [(Flow::Ingress, &ingress), (Flow::Egress, &egress)] {
                if skipped.contains(&(flow, true)) {
                    continue;
                }
                let declared = open.as_ref().is_none_or(|open| open.contains(model::Protocol::Tcp, port));
                if says(flow) != Some(declared) {
                    let (from, to) = (client.id.to_string(), server.id.to_string());
                    return Some(Disagreement { from, to, port, flow, declared });
                }
            }
        }
        None
    }

    /// What the server's end is to let in; `None` where it is not closed.
    fn ingress(&self, client: &Representative<'_>, server: &Representative<'_>) -> Option<PortSet> {
        self.segmented.closing(&server.namespace, Flow::Ingress)?;
        let Some((key, identity)) = server.identity else { return Some(PortSet::default()) };
        let ports = &self.projection.workloads.get(key)?.ports;
        let nobody = Identity { namespace: client.namespace.clone(), account: String::new() };
        let from = client.identity.map_or(&nobody, |(_, identity)| identity);
        let pair = Pair { client: from.clone(), server: identity.clone() };
        let by_wildcard = self.consents.by_wildcard(&pair, ports);
        Some(match self.consents.ingress(&pair, Named::Only, ports) {
            Half::NotClosed => PortSet::Every,
            Half::Open(open) => open.union(&by_wildcard),
            Half::Missing(_) | Half::Disjoint => by_wildcard,
        })
    }

    /// What the client's end is to let out; `None` where it is not closed.
    fn egress(&self, client: &Representative<'_>, server: &Representative<'_>) -> Option<PortSet> {
        let segment = self.segmented.closing(&client.namespace, Flow::Egress)?;
        let dns = if segment.exceptions.dns { self.dns(server) } else { PortSet::default() };
        let (Some((_, from)), Some((key, to))) = (client.identity, server.identity) else { return Some(dns) };
        let ports = &self.projection.workloads.get(key)?.ports;
        let pair = Pair { client: from.clone(), server: to.clone() };
        Some(match self.consents.egress(&pair, ports) {
            Half::NotClosed => PortSet::Every,
            Half::Open(open) => open.union(&dns),
            Half::Missing(_) | Half::Disjoint => dns,
        })
    }

    fn dns(&self, server: &Representative<'_>) -> PortSet {
        let Some(dns) = &self.snapshot.dns else { return PortSet::default() };
        let is_it = dns.namespace == server.namespace
            && !dns.selector.is_empty()
            && dns.selector.iter().all(|(key, value)| server.labels.get(key) == Some(value));
        let ports = dns.ports.iter().filter(|_| is_it);
        PortSet::of(ports.map(|(protocol, port)| model::PortSpan::one(*protocol, *port)))
    }
}
