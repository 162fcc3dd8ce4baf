//! From what was declared and observed to the complete policies of each workload and direction.
//!
//! A set that comes to nothing is no opening, and a workload without one has no policy of its own: the deny of its
//! namespace closes it. A workload without an exact selector gets no policy here; what is applied for it stays.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    blocks::{self, NoBlock},
    compiled::{Causes, Compiled, Edge, EdgeState, Trouble},
    consent::{Consents, Half, Named, Pair},
    declared::{ApiServer, Declared, GrantTo, Mode, ObjectKey, Probes, Segment, Source, Target},
    exceptions,
    model::{Cause, Flow, Identity, Namespace, Opening, Openings, Peer, Policy, Role, Selector, Subject, WorkloadKey},
    ports::PortSet,
    projection::{Projected, Projection},
    render,
    segments::Segmented,
    snapshot::Snapshot,
};

/// The most peers of one policy. Data planes keep an entry for each of them on every node.
pub const MOST_PEERS: usize = 1_000;

/// Compiles everything.
pub fn compile(declared: &Declared, snapshot: &Snapshot, projection: &Projection) -> Compiled {
    let segmented = Segmented::new(declared, snapshot);
    let mut by_identity: BTreeMap<&Identity, Vec<(&WorkloadKey, &Projected)>> = BTreeMap::new();
    for (key, projected) in &projection.workloads {
        by_identity.entry(&projected.identity).or_default().push((key, projected));
    }
    let consents = Consents::new(declared, &segmented);
    let mut compiler = Compiler {
        declared,
        snapshot,
        segmented: &segmented,
        by_identity,
        consents,
        sets: BTreeMap::new(),
        out: Compiled::default(),
    };
    compiler.edges();
    compiler.wildcards();
    compiler.requests();
    compiler.probes();
    compiler.finish(projection)
}

struct Compiler<'a> {
    declared: &'a Declared,
    snapshot: &'a Snapshot,
    segmented: &'a Segmented<'a>,
    by_identity: BTreeMap<&'a Identity, Vec<(&'a WorkloadKey, &'a Projected)>>,
    consents: Consents<'a>,
    sets: BTreeMap<(WorkloadKey, Flow), (Selector, Openings)>,
    out: Compiled,
}

impl<'a> Compiler<'a> {
    fn workloads(&self, identity: &Identity) -> Vec<(&'a WorkloadKey, &'a Projected)> {
        self.by_identity.get(identity).cloned().unwrap_or_default()
    }

    /// Opens `peers` on `ports` for a workload; nothing where it has no selector.
    fn open(
        &mut self,
        (key, projected): (&WorkloadKey, &Projected),
        flow: Flow,
        peers: impl IntoIterator<Item = Peer>,
        ports: &PortSet,
        cause: &Cause,
    ) {
        let mut openings = Openings::new();
        for peer in peers {
            for ports in ports.openings() {
                openings.entry(Opening { peer: peer.clone(), ports }).or_default().insert(cause.clone());
            }
        }
        self.add((key, projected), flow, &openings);
    }

    /// Notes that something is declared for a workload; `is_whole` says whether all of it can be written now.
    fn note(&mut self, key: &WorkloadKey, flow: Flow, cause: &Cause, is_whole: bool) {
        let role = Role::Workload { workload: key.clone(), flow };
        let causes = self.out.causes.entry((key.namespace.clone(), role)).or_default();
        causes.declared.insert(cause.clone());
        if !is_whole {
            causes.unresolved.insert(cause.clone());
        }
    }

    fn edges(&mut self) {
        let identities = self.by_identity.keys().map(|identity| (*identity).clone()).collect();
        for pair in self.consents.pairs(&identities) {
            let edge = self.edge(&pair);
            self.out.edges.insert(pair, edge);
        }
    }

    fn edge(&mut self, pair: &Pair) -> Edge {
        let (clients, servers) = (self.workloads(&pair.client), self.workloads(&pair.server));
        let mut edge =
            Edge { state: EdgeState::SelectsNothing, ports: PortSet::default(), unknown_ports: BTreeMap::new() };
        for server in &servers {
            let container_ports = &server.1.ports;
            let unknown = self.consents.unknown_ports(pair, container_ports);
            if !unknown.is_empty() {
                edge.unknown_ports.insert(server.0.clone(), unknown);
            }
            let halves = [
                self.consents.ingress(pair, Named::OrNot, container_ports),
                self.consents.egress(pair, container_ports),
            ];
            // Whom a wildcard lets in has no opening of its own in the ingress.
            let by_name = self.consents.ingress(pair, Named::Only, container_ports);
            for client in &clients {
                let state = match self.state(pair, &halves) {
                    EdgeState::Live | EdgeState::Observed
                        if client.1.selector.is_err() || server.1.selector.is_err() =>
                    {
                        EdgeState::NoSelector
                    }
                    state => state,
                };
                edge.state = edge.state.min(state);
                if matches!(state, EdgeState::Live | EdgeState::Observed) {
                    edge.ports = edge.ports.union(&common(&halves));
                }
                self.open_halves(pair, *client, *server, [&by_name, &halves[1]]);
            }
        }
        edge
    }

    fn state(&self, Pair { client, server }: &Pair, halves: &[Half; 2]) -> EdgeState {
        let missing = halves.iter().find_map(|half| match half {
            Half::Missing(missing) => Some(EdgeState::Pending(*missing)),
            Half::Disjoint => Some(EdgeState::PortsDisjoint),
            Half::NotClosed | Half::Open(_) => None,
        });
        if let Some(state) = missing {
            return state;
        }
        if *halves == [Half::NotClosed, Half::NotClosed] {
            return EdgeState::NotClosed;
        }
        let closing = [
            self.segmented.closing(&server.namespace, Flow::Ingress),
            self.segmented.closing(&client.namespace, Flow::Egress),
        ];
        let observes = closing.into_iter().flatten().any(|segment| segment.mode == Mode::Observe);
        if observes { EdgeState::Observed } else { EdgeState::Live }
    }

    /// Each half by itself: it obeys the segment of its own end only.
    fn open_halves(
        &mut self,
        pair: &Pair,
        client: (&WorkloadKey, &Projected),
        server: (&WorkloadKey, &Projected),
        [ingress, egress]: [&Half; 2],
    ) {
        let pods = |of: &Identity, projected: &Projected| {
            let selector = projected.selector.clone().ok()?;
            Some(Peer::Pods { namespace: of.namespace.clone(), selector })
        };
        if let Half::Open(ports) = ingress {
            let cause = Cause::Edge(pair.client.clone());
            self.note(server.0, Flow::Ingress, &cause, client.1.selector.is_ok());
            self.open(server, Flow::Ingress, pods(&pair.client, client.1), ports, &cause);
        }
        if let Half::Open(ports) = egress {
            let cause = Cause::Edge(pair.server.clone());
            self.note(client.0, Flow::Egress, &cause, server.1.selector.is_ok());
            self.open(client, Flow::Egress, pods(&pair.server, server.1), ports, &cause);
        }
    }

    /// Sources of grants that are no identity: a namespace, every namespace, addresses.
    fn wildcards(&mut self) {
        for grant in self.declared.grants.values() {
            let namespace = &grant.key.namespace;
            if self.segmented.closing(namespace, Flow::Ingress).is_none() {
                continue;
            }
            let servers: Vec<_> = match &grant.to {
                GrantTo::Account(account) => {
                    self.workloads(&Identity { namespace: namespace.clone(), account: account.clone() })
                }
                GrantTo::All => {
                    let here = self.by_identity.iter().filter(|(identity, _)| identity.namespace == *namespace);
                    here.flat_map(|(_, workloads)| workloads.iter().copied()).collect()
                }
            };
            for source in &grant.from {
                let (peers, cause) = match source {
                    Source::Identity(_) => continue,
                    Source::Namespace(from) => {
                        (BTreeSet::from([Peer::Namespace(from.clone())]), Cause::Namespace(from.clone()))
                    }
                    Source::AllNamespaces => (BTreeSet::from([Peer::Cluster]), Cause::Cluster),
                    Source::External(name) => {
                        let Some((peers, cause, _)) = self.external(&grant.key, name) else { continue };
                        (peers, cause)
                    }
                };
                for server in &servers {
                    let (ports, _) = PortSet::resolve(&grant.ports, &server.1.ports);
                    self.note(server.0, Flow::Ingress, &cause, true);
                    self.open(*server, Flow::Ingress, peers.iter().cloned(), &ports, &cause);
                }
            }
        }
    }

    /// Targets of requests that are no identity: addresses, the Kubernetes API.
    fn requests(&mut self) {
        for request in self.declared.requests.values() {
            let namespace = &request.key.namespace;
            let Some(segment) = self.segmented.closing(namespace, Flow::Egress) else { continue };
            let clients = self.workloads(&Identity { namespace: namespace.clone(), account: request.from.clone() });
            for target in &request.to {
                match target {
                    Target::Identity { .. } => {}
                    Target::External(name) => {
                        let Some((peers, cause, ports)) = self.external(&request.key, name) else { continue };
                        for client in &clients {
                            self.note(client.0, Flow::Egress, &cause, true);
                            self.open(*client, Flow::Egress, peers.iter().cloned(), &ports, &cause);
                        }
                    }
                    Target::ApiServer if segment.exceptions.api_server == ApiServer::Never => {
                        self.out.troubles.push(Trouble::ApiServerClosed { by: request.key.clone() });
                    }
                    Target::ApiServer => {
                        let openings = self.api_server(namespace);
                        for client in &clients {
                            self.note(client.0, Flow::Egress, &Cause::ApiServer, !openings.is_empty());
                            self.add(*client, Flow::Egress, &openings);
                        }
                    }
                }
            }
        }
    }

    fn external(&mut self, by: &ObjectKey, name: &str) -> Option<(BTreeSet<Peer>, Cause, PortSet)> {
        let key = ObjectKey { namespace: by.namespace.clone(), name: name.to_owned() };
        let Some(external) = self.declared.externals.get(&key) else {
            self.out.troubles.push(Trouble::UnknownExternal { by: by.clone(), name: name.to_owned() });
            return None;
        };
        match blocks::peers(external, &self.snapshot.cluster_ranges) {
            Ok(peers) => {
                let cause = Cause::External { namespace: key.namespace, name: key.name };
                Some((peers, cause, PortSet::resolve(&external.ports, &BTreeSet::new()).0))
            }
            Err(NoBlock::InCluster(block)) => {
                self.out.troubles.push(Trouble::ExternalInCluster { external: key, block });
                None
            }
        }
    }

    fn api_server(&mut self, namespace: &Namespace) -> Openings {
        exceptions::api_server(self.snapshot).unwrap_or_else(|_| self.inexpressible(namespace, Cause::ApiServer))
    }

    fn inexpressible(&mut self, namespace: &Namespace, exception: Cause) -> Openings {
        let trouble = Trouble::NotOnThisDataPlane { namespace: namespace.clone(), exception };
        if !self.out.troubles.contains(&trouble) {
            self.out.troubles.push(trouble);
        }
        Openings::new()
    }

    fn add(&mut self, (key, projected): (&WorkloadKey, &Projected), flow: Flow, openings: &Openings) {
        let Ok(selector) = &projected.selector else { return };
        if openings.is_empty() {
            return;
        }
        let set = self.sets.entry((key.clone(), flow)).or_insert_with(|| (selector.clone(), Openings::new()));
        merge(&mut set.1, openings);
    }

    fn probes(&mut self) {
        let all: Vec<_> = self.by_identity.values().flatten().copied().collect();
        for workload in all {
            let namespace = &workload.0.namespace;
            let closing = self.segmented.closing(namespace, Flow::Ingress);
            if closing.is_none_or(|segment| segment.exceptions.probes == Probes::Auto) {
                continue;
            }
            let openings = exceptions::probes(self.snapshot, workload.0)
                .unwrap_or_else(|_| self.inexpressible(namespace, Cause::Probes));
            self.note(workload.0, Flow::Ingress, &Cause::Probes, !openings.is_empty());
            self.add(workload, Flow::Ingress, &openings);
        }
    }

    /// What every pod of a namespace may reach, and why.
    fn for_all(&mut self, namespace: &Namespace, segment: &Segment) -> (Openings, Causes) {
        let (mut openings, mut causes) = (Openings::new(), Causes::default());
        if segment.exceptions.dns {
            openings = exceptions::dns(self.snapshot);
            causes.declared.insert(Cause::Dns);
            if openings.is_empty() {
                causes.unresolved.insert(Cause::Dns);
                self.out.troubles.push(Trouble::DnsNotFound { namespace: namespace.clone() });
            }
        }
        if segment.exceptions.api_server == ApiServer::All {
            let api_server = self.api_server(namespace);
            causes.declared.insert(Cause::ApiServer);
            if api_server.is_empty() {
                causes.unresolved.insert(Cause::ApiServer);
            }
            merge(&mut openings, &api_server);
        }
        (openings, causes)
    }

    /// The edges of a workload whose policy in that direction cannot be written.
    fn refuse(&mut self, projection: &Projection, workload: &WorkloadKey, flow: Flow) {
        let Some(projected) = projection.workloads.get(workload) else { return };
        for (pair, edge) in &mut self.out.edges {
            let end = if flow == Flow::Ingress { &pair.server } else { &pair.client };
            if *end == projected.identity && matches!(edge.state, EdgeState::Live | EdgeState::Observed) {
                edge.state = EdgeState::TooManyPeers;
            }
        }
    }

    fn finish(mut self, projection: &Projection) -> Compiled {
        let sets = std::mem::take(&mut self.sets);
        let mut for_everybody: BTreeMap<&Namespace, (Openings, Causes)> = BTreeMap::new();
        for (namespace, segment) in self.segmented.iter() {
            let closes_egress = segment.directions.contains(&Flow::Egress);
            let (for_all, causes) = if closes_egress { self.for_all(namespace, segment) } else { Default::default() };
            let isolates = segment.directions.iter().map(|flow| match flow {
                Flow::Ingress => (Flow::Ingress, Openings::new()),
                Flow::Egress => (Flow::Egress, for_all.clone()),
            });
            let deny = Policy {
                namespace: namespace.clone(),
                role: Role::Deny,
                subject: Subject::WholeNamespace,
                isolates: isolates.collect(),
            };
            self.out.policies.insert((namespace.clone(), Role::Deny), deny);
            self.out.causes.insert((namespace.clone(), Role::Deny), causes.clone());
            for_everybody.insert(namespace, (for_all, causes));
        }
        for ((workload, flow), (selector, mut openings)) in sets {
            let namespace = workload.namespace.clone();
            // A policy of a workload closes its direction too, so what everybody may reach is in it as well.
            if let (Flow::Egress, Some((for_all, _))) = (flow, for_everybody.get(&namespace)) {
                merge(&mut openings, for_all);
            }
            let role = Role::Workload { workload: workload.clone(), flow };
            let policy = Policy {
                namespace: namespace.clone(),
                role: role.clone(),
                subject: Subject::Pods(selector),
                isolates: BTreeMap::from([(flow, openings)]),
            };
            let peers = peers(&policy);
            if peers > MOST_PEERS || !render::fits(&policy) {
                self.out.troubles.push(Trouble::TooManyPeers { workload: workload.clone(), flow, peers });
                self.refuse(projection, &workload, flow);
            } else {
                self.out.policies.insert((namespace, role), policy);
            }
        }
        for ((namespace, role), causes) in &mut self.out.causes {
            if let (Role::Workload { flow: Flow::Egress, .. }, Some((_, for_all))) =
                (role, for_everybody.get(namespace))
            {
                causes.declared.extend(for_all.declared.iter().cloned());
                causes.unresolved.extend(for_all.unresolved.iter().cloned());
            }
        }
        for (workload, projected) in &projection.workloads {
            if let (Some(_), Err(why)) = (self.segmented.of(&workload.namespace), &projected.selector) {
                self.out.troubles.push(Trouble::NoSelector { workload: workload.clone(), why: why.clone() });
            }
        }
        self.out
    }
}

/// How many peers a policy names.
fn peers(policy: &Policy) -> usize {
    policy.isolates.values().map(|openings| openings.keys().map(|one| &one.peer).collect::<BTreeSet<_>>().len()).sum()
}

/// Adds openings; one that is there for another cause has both from then on.
fn merge(into: &mut Openings, more: &Openings) {
    for (opening, causes) in more {
        into.entry(opening.clone()).or_default().extend(causes.iter().cloned());
    }
}

fn common(halves: &[Half; 2]) -> PortSet {
    let open = halves.iter().map(|half| match half {
        Half::Open(ports) => ports.clone(),
        Half::NotClosed => PortSet::Every,
        Half::Missing(_) | Half::Disjoint => PortSet::default(),
    });
    open.fold(PortSet::Every, |all, one| all.intersect(&one))
}
