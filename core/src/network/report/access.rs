//! The statuses of grants, requests and external services: their own side only, never the other namespace's objects.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{MOST, World, counts, phase, ports, told};
use crate::{
    api::{
        AccessStatus, ConditionType, EdgePhase, EdgeStatus, ExternalServiceStatus, Finding, Reason, SelectedWorkload,
        Verdict, conditions,
    },
    network::{
        blocks,
        compiled::{Edge, EdgeState, Trouble},
        consent::Pair,
        declared::{External, Grant, GrantTo, ObjectKey, Request, Source, Target},
        model::{Flow, Identity, Namespace, WorkloadKey, WorkloadKind},
        ports::PortSet,
        projection::{NoSelector, Projected},
        segments::Segmented,
    },
};

/// The most edges in a status; the rest is counted.
const MOST_EDGES: usize = 200;

/// The status of a grant.
pub fn grant(
    grant: &Grant,
    generation: i64,
    world: &World<'_>,
    previous: &AccessStatus,
    now: Timestamp,
) -> AccessStatus {
    let namespace = &grant.key.namespace;
    let here = world.projection.workloads.values().filter(|one| one.identity.namespace == *namespace);
    let servers: BTreeSet<Identity> = match &grant.to {
        GrantTo::Account(account) => [Identity { namespace: namespace.clone(), account: account.clone() }].into(),
        GrantTo::All => here.map(|one| one.identity.clone()).collect(),
    };
    let mut edges = Vec::new();
    for source in &grant.from {
        match source {
            Source::Identity(client) => edges.extend(servers.iter().map(|server| {
                edge(&Pair { client: client.clone(), server: server.clone() }, client.to_string(), world)
            })),
            Source::Namespace(from) => edges.push((wildcard(grant, format!("{from}/*"), world), None)),
            Source::AllNamespaces => edges.push((wildcard(grant, "*/*".to_owned(), world), None)),
            Source::External(name) => edges.push((external_edge(&grant.key, name, Flow::Ingress, world), None)),
        }
    }
    refuse_too_large(&mut edges, &servers, Flow::Ingress, world);
    status(edges, &servers, &grant.key, generation, world, previous, now)
}

/// The status of a request.
pub fn request(
    request: &Request,
    generation: i64,
    world: &World<'_>,
    previous: &AccessStatus,
    now: Timestamp,
) -> AccessStatus {
    let client = Identity { namespace: request.key.namespace.clone(), account: request.from.clone() };
    let own = BTreeSet::from([client.clone()]);
    let edges = request.to.iter().map(|target| match target {
        Target::Identity { server, .. } => {
            edge(&Pair { client: client.clone(), server: server.clone() }, server.to_string(), world)
        }
        Target::External(name) => (external_edge(&request.key, name, Flow::Egress, world), None),
        Target::ApiServer => (api_server(&request.key, world), None),
    });
    let mut edges: Vec<Told<'_>> = edges.collect();
    refuse_too_large(&mut edges, &own, Flow::Egress, world);
    status(edges, &own, &request.key, generation, world, previous, now)
}

/// What is not between two identities stands in the policy of one end only: where that is too large, it is not open.
fn refuse_too_large(edges: &mut [Told<'_>], own: &BTreeSet<Identity>, flow: Flow, world: &World<'_>) {
    let workloads = world.projection.workloads.iter().filter(|(_, one)| own.contains(&one.identity));
    let too_large = world.compiled.too_large();
    if !workloads.into_iter().any(|(key, _)| too_large.contains(&(key, flow))) {
        return;
    }
    let open = |line: &EdgeStatus| matches!(line.state, EdgePhase::Live | EdgePhase::Observed);
    for (line, _) in edges.iter_mut().filter(|(line, edge)| edge.is_none() && open(line)) {
        (line.state, line.reason) = (EdgePhase::Refused, Some(Reason::TooManyPeers.name().to_owned()));
    }
}

fn made(peer: String, ports: Vec<String>, (state, reason): (EdgePhase, Option<Reason>)) -> EdgeStatus {
    EdgeStatus { peer, ports, state, reason: reason.map(|reason| reason.name().to_owned()) }
}

/// One line of the list, with the edge that it tells of.
type Told<'a> = (EdgeStatus, Option<&'a Edge>);

fn edge<'a>(pair: &Pair, peer: String, world: &World<'a>) -> Told<'a> {
    let Some(edge) = world.compiled.edges.get(pair) else {
        return (made(peer, Vec::new(), phase(EdgeState::SelectsNothing)), None);
    };
    let host_network = |identity: &Identity| {
        world.projection.of(identity).any(|(_, one)| one.selector == Err(NoSelector::HostNetwork))
    };
    let ends = [&pair.client, &pair.server];
    let line = match edge.state {
        EdgeState::NoSelector if ends.into_iter().any(host_network) => {
            made(peer, told(edge), (EdgePhase::Refused, Some(Reason::HostNetwork)))
        }
        state => made(peer, told(edge), phase(state)),
    };
    (line, Some(edge))
}

/// Which way a closed namespace stands.
fn closed(namespace: &Namespace, flow: Flow, world: &World<'_>) -> (EdgePhase, Option<Reason>) {
    let segmented = Segmented::new(world.declared, world.snapshot);
    match segmented.closing(namespace, flow).map(|segment| segment.mode) {
        Some(crate::network::declared::Mode::Enforce) => (EdgePhase::Live, None),
        Some(_) => (EdgePhase::Observed, None),
        None => (EdgePhase::Live, Some(Reason::NotSegmented)),
    }
}

fn wildcard(grant: &Grant, peer: String, world: &World<'_>) -> EdgeStatus {
    let (set, _) = PortSet::resolve(&grant.ports, &BTreeSet::new());
    let told = set.openings().take(MOST).map(ports).collect();
    made(peer, told, closed(&grant.key.namespace, Flow::Ingress, world))
}

fn external_edge(by: &ObjectKey, name: &str, flow: Flow, world: &World<'_>) -> EdgeStatus {
    let peer = format!("external/{name}");
    let key = ObjectKey { namespace: by.namespace.clone(), name: name.to_owned() };
    let Some(external) = world.declared.externals.get(&key) else {
        return made(peer, Vec::new(), (EdgePhase::Refused, Some(Reason::ExternalServiceMissing)));
    };
    let (set, _) = PortSet::resolve(&external.ports, &BTreeSet::new());
    let told = set.openings().take(MOST).map(ports).collect();
    match blocks::peers(external, &world.snapshot.cluster_ranges) {
        Ok(_) => made(peer, told, closed(&by.namespace, flow, world)),
        Err(_) => made(peer, told, (EdgePhase::Refused, Some(Reason::OverlapsCluster))),
    }
}

fn api_server(by: &ObjectKey, world: &World<'_>) -> EdgeStatus {
    let cannot = world.compiled.troubles.iter().find_map(|trouble| match trouble {
        Trouble::ApiServerClosed { by: other } if other == by => Some(Reason::ApiServerClosed),
        Trouble::NotOnThisDataPlane { namespace, .. } if *namespace == by.namespace => Some(Reason::NotOnThisDataPlane),
        _ => None,
    });
    let phase = match cannot {
        Some(reason) => (EdgePhase::Refused, Some(reason)),
        None => closed(&by.namespace, Flow::Egress, world),
    };
    made("apiServer".to_owned(), Vec::new(), phase)
}

fn status(
    told: Vec<Told<'_>>,
    own: &BTreeSet<Identity>,
    key: &ObjectKey,
    generation: i64,
    world: &World<'_>,
    previous: &AccessStatus,
    now: Timestamp,
) -> AccessStatus {
    let unknown = told.iter().filter_map(|(_, edge)| edge.map(|edge| &edge.unknown_ports)).flatten().next();
    let unknown = unknown.and_then(|(workload, names)| Some((workload, names.first()?.0.as_str())));
    let edges: Vec<EdgeStatus> = told.into_iter().map(|(line, _)| line).collect();
    let counts = counts(edges.iter().map(|edge| edge.state));
    let workloads: Vec<(&WorkloadKey, &Projected)> =
        own.iter().flat_map(|identity| world.projection.of(identity)).collect();
    let mut findings = vec![
        ready(&edges),
        Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, "the spec is understood"),
    ];
    findings.extend(unresolved(&edges, unknown, own, key, world));
    findings.extend(ambiguous(&workloads));
    let spoof = world.projection.spoofs.iter().find(|spoof| workloads.iter().any(|(key, _)| **key == spoof.matches));
    if let Some(spoof) = spoof {
        let words =
            format!("pod {} runs as {} and carries the labels of {}", spoof.pod, spoof.runs_as, spoof.matches.name);
        findings.push(Finding::new(ConditionType::LabelSpoofed, Verdict::True, Reason::LabelSpoofed, words));
    }
    AccessStatus {
        observed_generation: Some(generation),
        edges: edges.into_iter().take(MOST_EDGES).collect(),
        counts: Some(counts),
        workloads: workloads.into_iter().take(MOST).map(selected).collect(),
        conditions: conditions(&findings, &previous.conditions, generation, now),
    }
}

fn ready(edges: &[EdgeStatus]) -> Finding {
    let open = |edge: &&EdgeStatus| matches!(edge.state, EdgePhase::Live | EdgePhase::Observed);
    let stuck = |edge: &&EdgeStatus| edge.state == EdgePhase::Refused;
    let (verdict, reason, words) = match (edges.iter().find(stuck), edges.iter().find(|edge| !open(edge))) {
        (Some(first), _) | (None, Some(first)) => {
            let waiting = edges.iter().filter(|edge| !open(edge)).count();
            let named = first.reason.as_deref().and_then(Reason::named).unwrap_or(Reason::Pending);
            let words =
                format!("{waiting} of {} edges are not open, {} first: {}", edges.len(), first.peer, advice(named));
            (Verdict::False, named, words)
        }
        (None, None) if edges.iter().all(|edge| edge.reason.as_deref() == Some(Reason::NotSegmented.name())) => {
            (Verdict::True, Reason::NotSegmented, "no segment closes this namespace; everything passes".to_owned())
        }
        (None, None) => {
            let observed = edges.iter().any(|edge| edge.state == EdgePhase::Observed);
            let (reason, words) = if observed {
                (Reason::Observing, "every edge would be open; a segment only observes")
            } else {
                (Reason::Live, "every edge is open")
            };
            (Verdict::True, reason, words.to_owned())
        }
    };
    Finding::new(ConditionType::Ready, verdict, reason, words)
}

/// What a person can do about an edge that is not open.
pub(super) fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::GrantMissing => "the server must grant it",
        Reason::RequestMissing => "the client must request it",
        Reason::SelectsNothing => "no workload runs as it",
        Reason::PortsDisjoint => "what is requested and what is granted have no port in common",
        Reason::SelectorAmbiguous => "no labels select exactly its pods",
        Reason::TooManyPeers => {
            "one policy holds 1,000 peers in 240 KiB; grant a namespace as a whole, {namespace, all: true}"
        }
        Reason::HostNetwork => "its pods run in the network of their node, which no policy selects",
        Reason::ExternalServiceMissing => "there is no ExternalService of that name here",
        Reason::OverlapsCluster => "its addresses lie within the cluster",
        Reason::ApiServerClosed => "the segment lets nobody reach the Kubernetes API",
        Reason::NotOnThisDataPlane => {
            "this data plane is not known to match node addresses; see dataPlane.nodeBlocks of the chart"
        }
        _ => "see its reason",
    }
}

fn unresolved(
    edges: &[EdgeStatus],
    unknown: Option<(&WorkloadKey, &str)>,
    own: &BTreeSet<Identity>,
    key: &ObjectKey,
    world: &World<'_>,
) -> Option<Finding> {
    let tell = |reason, words: String| Some(Finding::new(ConditionType::Unresolved, Verdict::True, reason, words));
    let accounts = world.snapshot.accounts.get(&key.namespace);
    let is_known = |identity: &&Identity| accounts.is_some_and(|known| known.contains(&identity.account));
    if let Some(missing) = own.iter().find(|identity| !is_known(identity)) {
        let words = format!("ServiceAccount {} does not exist in namespace {}", missing.account, missing.namespace);
        return tell(Reason::ServiceAccountMissing, words);
    }
    let missing = edges.iter().find(|edge| edge.reason.as_deref() == Some(Reason::ExternalServiceMissing.name()));
    if let Some(missing) = missing {
        return tell(Reason::ExternalServiceMissing, format!("{} does not exist in this namespace", missing.peer));
    }
    let (workload, name) = unknown?;
    tell(Reason::PortNameUnknown, format!("no container of {} has a port named \"{name}\"", workload.name))
}

fn ambiguous(workloads: &[(&WorkloadKey, &Projected)]) -> Option<Finding> {
    let (key, why) = workloads.iter().find_map(|(key, one)| Some((*key, one.selector.as_ref().err()?)))?;
    let (reason, words) = match why {
        NoSelector::Ambiguous { with, advice: (label, value) } => {
            let others: Vec<&str> = with.iter().take(3).map(|other| other.name.as_str()).collect();
            let words = format!(
                "the labels of {} also select pods of {}; a label of its own, such as {label}={value}, would tell them \
                 apart",
                key.name,
                others.join(", ")
            );
            (Reason::SelectorAmbiguous, words)
        }
        NoSelector::Mixed { accounts } => {
            let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
            (Reason::IdentityInTransition, format!("pods of {} run as {}", key.name, accounts.join(" and ")))
        }
        NoSelector::NoLabels => {
            (Reason::SelectorAmbiguous, format!("the pods of {} have no label in common that lasts", key.name))
        }
        NoSelector::HostNetwork => {
            (Reason::HostNetwork, format!("the pods of {} run in the network of their nodes", key.name))
        }
    };
    Some(Finding::new(ConditionType::SelectorAmbiguous, Verdict::True, reason, words))
}

fn selected((key, one): (&WorkloadKey, &Projected)) -> SelectedWorkload {
    let kind = match key.kind {
        WorkloadKind::Opaque => "Owner".to_owned(),
        kind => format!("{kind:?}"),
    };
    SelectedWorkload {
        service_account_name: one.identity.account.clone(),
        kind,
        name: key.name.clone(),
        selector: one.selector.as_ref().ok().map(ToString::to_string),
        matched_pods: i64::try_from(one.matched_pods).unwrap_or(i64::MAX),
    }
}

/// The status of an external service.
pub fn external(
    external: &External,
    generation: i64,
    world: &World<'_>,
    previous: &[Condition],
    now: Timestamp,
) -> ExternalServiceStatus {
    let accepted = Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, "the spec is understood");
    let findings = match blocks::peers(external, &world.snapshot.cluster_ranges) {
        Ok(_) => vec![
            Finding::new(ConditionType::Ready, Verdict::True, Reason::Valid, "its addresses lie outside the cluster"),
            accepted,
        ],
        Err(blocks::NoBlock::InCluster(block)) => {
            let words = format!("{block} lies within the cluster; pods are named by their identity, in a grant");
            vec![
                Finding::new(ConditionType::Ready, Verdict::False, Reason::OverlapsCluster, words.clone()),
                accepted,
                Finding::new(ConditionType::OverlapsCluster, Verdict::True, Reason::OverlapsCluster, words.clone()),
                Finding::new(ConditionType::Stalled, Verdict::True, Reason::OverlapsCluster, words),
            ]
        }
    };
    let conditions = conditions(&findings, previous, generation, now);
    ExternalServiceStatus { observed_generation: Some(generation), conditions }
}
