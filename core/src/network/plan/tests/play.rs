//! The player: a cluster under edits, a store of objects, a data plane that follows late, and the judge.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::spoil::{Fault, all_granted, spoil, spoiled};
use crate::network::{
    applied::Standing,
    compile::compile,
    declared::{Addresses, GrantTo, Mode, Source, Target},
    evaluate::{End, Evaluator, PodId, PodView, Protocol, Question, Scene},
    model::{self, Flow, Namespace},
    plan::{Inputs, Phase, Plan, Write, plan},
    preflight::held,
    projection::project,
    render::Object,
    snapshot::Dns,
    tests::town::{Town, identity, namespace, tcp, workload},
};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const ACCOUNTS: [&str; 2] = ["x", "y"];
const PORTS: [u16; 2] = [80, 81];
/// The ports that name resolution moves between.
const DNS_PORTS: [u16; 2] = [53, 5_353];
/// How long the data plane may take to follow.
const SETTLE: i64 = 10;

/// What a person, or the cluster, does.
#[derive(Debug, Clone)]
pub enum Edit {
    Close {
        at: usize,
        ingress: bool,
        egress: bool,
    },
    Open(usize),
    Delete(usize),
    Declare {
        client: (usize, usize),
        server: (usize, usize),
        port: u16,
    },
    /// Somebody requests what nobody grants.
    Ask {
        client: (usize, usize),
        server: (usize, usize),
        port: u16,
    },
    /// Somebody names the same addresses outside the cluster once more, and requests another port there.
    Outside {
        client: (usize, usize),
        port: u16,
    },
    TakeBack(usize),
    /// A workload and its pods get one label more.
    Relabel((usize, usize)),
    /// Another account's pods get the labels of a workload, so that it can no longer be selected exactly.
    Twin((usize, usize)),
    /// Name resolution listens on another port.
    MoveDns,
    /// Somebody changes one of our objects.
    Tamper(usize, Tampering),
}

/// How somebody changes an object.
#[derive(Debug, Clone, Copy)]
pub enum Tampering {
    /// It lets everything in.
    Open,
    /// It closes no direction but the way out.
    Turn,
    /// It is about every pod of its namespace.
    Spread,
}

/// What the judge found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Something that stayed declared did not pass, or at rest what is declared does not.
    Cut,
    /// Something that stayed closed passed, or at rest what nobody declared does.
    Opened,
    /// It does not come to rest, or rests with something unfinished.
    Unsettled,
}

type Key = (String, String);
type Passing = BTreeSet<(String, String, u16)>;

pub(super) struct World {
    pub town: Town,
    pub stored: BTreeMap<Key, NetworkPolicy>,
    /// What the data plane may still have of an object, with the time until which.
    older: BTreeMap<Key, Vec<(Option<NetworkPolicy>, i64)>>,
    touched: BTreeMap<Namespace, Timestamp>,
    now: i64,
    version: u64,
    seed: u64,
    fault: Fault,
    /// What has been declared ever since the last rest, and what was at any time since.
    always: Passing,
    ever: Passing,
    /// What has just moved somewhere else, and until when its old place is still asked.
    moved: (Passing, i64),
    found: Vec<Found>,
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Plans once, with everything settled.
pub fn one(town: &Town, standing: &Standing) -> Plan {
    planned(town, standing, &BTreeMap::new(), at(1_000))
}

/// Plans once; `touched` says when something was last written in a namespace.
pub fn planned(town: &Town, standing: &Standing, touched: &BTreeMap<Namespace, Timestamp>, now: Timestamp) -> Plan {
    let projection = project(&town.snapshot, &standing.selectors());
    let compiled = compile(&town.declared, &town.snapshot, &projection);
    let held = held(&town.declared, &town.snapshot, &compiled);
    plan(&Inputs {
        declared: &town.declared,
        snapshot: &town.snapshot,
        projection: &projection,
        compiled: &compiled,
        standing,
        held: &held,
        touched,
        since: Timestamp::UNIX_EPOCH,
        now,
    })
}

/// Plays the edits one after another, each until it rests.
pub fn play(edits: &[Edit], seed: u64, fault: Fault) -> Vec<Found> {
    let town = NAMESPACES.iter().fold(Town::default(), |town, there| town.with(there, &ACCOUNTS));
    let town = NAMESPACES.iter().fold(town.with("dns", &["server"]), |town, name| {
        town.segment(name, |segment| {
            segment.mode = Mode::Off;
            segment.exceptions.dns = true;
        })
    });
    let mut world = World {
        town,
        stored: BTreeMap::new(),
        older: BTreeMap::new(),
        touched: BTreeMap::new(),
        now: 1_000,
        version: 0,
        seed,
        fault,
        always: Passing::new(),
        ever: Passing::new(),
        moved: (Passing::new(), 0),
        found: Vec::new(),
    };
    world.town.snapshot.dns = Some(Dns {
        namespace: namespace("dns"),
        selector: [("app".to_owned(), "server".to_owned())].into(),
        ports: [(model::Protocol::Tcp, DNS_PORTS[0].try_into().unwrap())].into(),
        addresses: BTreeSet::new(),
        node_local: false,
    });
    world.always = world.declared(|_, _| true);
    world.ever = world.always.clone();
    for edit in edits {
        world.edit(edit);
        world.rest();
        if !world.found.is_empty() {
            break;
        }
    }
    world.found.sort();
    world.found.dedup();
    world.found
}

impl World {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below.max(1)
    }

    fn edit(&mut self, edit: &Edit) {
        let segments = &mut self.town.declared.segments;
        match edit {
            Edit::Close { at, ingress, egress } => {
                let segment = segments.get_mut(NAMESPACES[*at]).unwrap();
                let flows = [(Flow::Ingress, *ingress), (Flow::Egress, *egress)];
                let flows: BTreeSet<Flow> = flows.iter().filter(|(_, closed)| *closed).map(|(flow, _)| *flow).collect();
                if !flows.is_empty() {
                    segment.mode = Mode::Enforce;
                    segment.directions = flows;
                }
            }
            Edit::Open(at) => segments.get_mut(NAMESPACES[*at]).unwrap().mode = Mode::Observe,
            Edit::Delete(at) => segments.get_mut(NAMESPACES[*at]).unwrap().mode = Mode::Off,
            Edit::Declare { client, server, port } => {
                let name = |(there, account): &(usize, usize)| format!("{}/{}", NAMESPACES[*there], ACCOUNTS[*account]);
                let (client, server) = (name(client), name(server));
                let town = std::mem::take(&mut self.town);
                self.town = town.grant(&server, &[Source::Identity(identity(&client))], &[tcp(*port)]).request(
                    &client,
                    &server,
                    &[tcp(*port)],
                );
            }
            Edit::Ask { client, server, port } => {
                let name = |(there, account): &(usize, usize)| format!("{}/{}", NAMESPACES[*there], ACCOUNTS[*account]);
                let town = std::mem::take(&mut self.town);
                self.town = town.request(&name(client), &name(server), &[tcp(*port)]);
            }
            Edit::Outside { client: (there, account), port } => {
                let (there, account) = (NAMESPACES[*there], ACCOUNTS[*account]);
                let name = format!("n{}", self.town.declared.externals.len());
                let office = [Addresses::Block("203.0.113.0/24".parse().unwrap())];
                let town = std::mem::take(&mut self.town).external(there, &name, &office, &[tcp(*port)]);
                self.town = town.request_of(&format!("{there}/{account}"), Target::External(name));
            }
            Edit::TakeBack(index) => {
                let grants = &mut self.town.declared.grants;
                if let Some(key) = grants.keys().nth(index % grants.len().max(1)).cloned() {
                    // Its name is not given again, so that no later one takes its place.
                    grants.get_mut(&key).unwrap().from = vec![Source::Identity(identity("dns/nobody"))];
                }
            }
            Edit::Relabel((there, account)) => {
                let (there, account) = (NAMESPACES[*there], ACCOUNTS[*account]);
                let label = ("release".to_owned(), format!("r{}", self.now));
                let template = self.town.snapshot.workloads.get_mut(&workload(there, account)).unwrap();
                template.template.labels.extend([label.clone()]);
                let pod = self.town.snapshot.pods.get_mut(&(namespace(there), format!("{account}-1"))).unwrap();
                pod.facts.labels.extend([label]);
            }
            Edit::Twin((there, account)) => {
                let (there, account) = (NAMESPACES[*there], ACCOUNTS[*account]);
                let mut twin = self.town.snapshot.pods[&(namespace(there), format!("{account}-1"))].clone();
                twin.facts.account = "twin".to_owned();
                twin.owner = workload(there, "twin");
                self.town.snapshot.pods.insert((namespace(there), format!("twin-of-{account}")), twin);
            }
            Edit::MoveDns => {
                let ports = &mut self.town.snapshot.dns.as_mut().unwrap().ports;
                let moved = DNS_PORTS.into_iter().find(|port| ports.iter().all(|(_, known)| known.get() != *port));
                *ports = [(model::Protocol::Tcp, moved.unwrap().try_into().unwrap())].into();
            }
            Edit::Tamper(index, tampering) => {
                let place = index % self.stored.len().max(1);
                if let Some(object) = self.stored.values_mut().nth(place) {
                    let spec = object.spec.as_mut().unwrap();
                    match tampering {
                        Tampering::Open => spec.ingress = Some(vec![NetworkPolicyIngressRule::default()]),
                        Tampering::Turn => spec.policy_types = Some(vec!["Egress".to_owned()]),
                        Tampering::Spread => spec.pod_selector = Some(LabelSelector::default()),
                    }
                }
            }
        }
        let declared = self.declared(|_, _| true);
        if matches!(edit, Edit::MoveDns) {
            self.moved = (self.always.difference(&declared).cloned().collect(), self.now + SETTLE);
        }
        self.always = self.always.intersection(&declared).cloned().collect();
        // A namespace that is to be closed and is held back closes nothing that another one opens.
        let standing = Standing::read(self.stored.values());
        let is_closed = |there: &Namespace, flow: Flow| {
            let deny = standing.ours.get(&(there.clone(), model::Role::Deny));
            deny.is_some_and(|deny| deny.policy.isolates.contains_key(&flow))
        };
        self.ever.extend(self.declared(is_closed));
        // Somebody else's change is not ours to answer for, until it is repaired.
        if matches!(edit, Edit::Tamper(..)) {
            self.ever = self.passing(&[]);
            let newest: Vec<NetworkPolicy> = self.stored.values().cloned().collect();
            let passing = self.passing(&newest);
            self.always.retain(|one| passing.contains(one));
        }
    }

    /// Passes until there is nothing to do and nothing to wait for.
    fn rest(&mut self) {
        let mut last_wake = None;
        for _ in 0..80 {
            let standing = Standing::read(self.stored.values());
            let touched = if self.fault == Fault::NoBarrier { BTreeMap::new() } else { self.touched.clone() };
            let believed =
                if self.fault == Fault::RequestIsEnough { all_granted(&self.town) } else { self.town.clone() };
            let mut plan = planned(&believed, &standing, &touched, at(self.now));
            spoil(self.fault, self, &mut plan);
            if plan.writes.is_empty() {
                let Some(wake) = plan.wake else {
                    self.now += SETTLE;
                    self.judge_rest(&plan, &standing);
                    return;
                };
                if last_wake.replace(wake) == Some(wake) {
                    break;
                }
                self.now = wake.as_second();
                continue;
            }
            for write in plan.writes {
                self.write(&write);
                self.judge();
                self.now += i64::try_from(self.random(2)).unwrap();
                // A crash forgets the rest of a plan.
                if self.random(10) == 0 {
                    break;
                }
            }
        }
        self.found.push(Found::Unsettled);
    }

    fn write(&mut self, write: &Write) {
        let key = (write.namespace().to_owned(), write.name().to_owned());
        let before = self.stored.get(&key).cloned();
        self.version += 1;
        match write {
            Write::Apply { object: Object::NetworkPolicy(object), .. } => {
                let mut object = object.as_ref().clone();
                object.metadata.resource_version = Some(self.version.to_string());
                object.metadata.uid = Some(format!("uid-{}", key.1));
                self.stored.insert(key.clone(), object);
            }
            Write::Delete { .. } => {
                self.stored.remove(&key);
            }
        }
        self.older.entry(key).or_default().push((before, self.now + SETTLE));
        self.touched.insert(namespace(write.namespace()), at(self.now));
    }

    /// One state that the data plane may be in now.
    fn possible(&mut self) -> Vec<NetworkPolicy> {
        let now = self.now;
        for states in self.older.values_mut() {
            states.retain(|(_, until)| *until > now);
        }
        let keys: BTreeSet<Key> = self.stored.keys().chain(self.older.keys()).cloned().collect();
        let mut state = Vec::new();
        for key in keys {
            let current = self.stored.get(&key).cloned();
            let older: Vec<_> = self.older.get(&key).into_iter().flatten().map(|(object, _)| object.clone()).collect();
            let choice = usize::try_from(self.random(older.len() as u64 + 1)).unwrap();
            state.extend(older.get(choice).cloned().unwrap_or(current));
        }
        state
    }

    fn judge(&mut self) {
        let newest: Vec<NetworkPolicy> = self.stored.values().cloned().collect();
        let mut states = vec![newest];
        for _ in 0..2 {
            let state = self.possible();
            if !states.contains(&state) {
                states.push(state);
            }
        }
        for (place, state) in states.iter().enumerate() {
            let passing = self.passing(state);
            if place == 0 && !passing.is_subset(&self.ever) {
                self.found.push(Found::Opened);
            }
            let is_cut = self.now < self.moved.1 && !self.moved.0.is_subset(&passing);
            if is_cut || !self.always.is_subset(&passing) {
                self.found.push(Found::Cut);
            }
        }
    }

    /// At rest everything is as it was compiled, and what passes is what is declared.
    fn judge_rest(&mut self, plan: &Plan, standing: &Standing) {
        let newest: Vec<NetworkPolicy> = self.stored.values().cloned().collect();
        let (passing, declared) = (self.passing(&newest), self.declared(|_, _| true));
        let projection = project(&self.town.snapshot, &standing.selectors());
        let compiled = compile(&self.town.declared, &self.town.snapshot, &projection);
        let is_held = !held(&self.town.declared, &self.town.snapshot, &compiled).is_empty();
        let is_frozen = self.town.snapshot.pods.values().any(|pod| pod.facts.account == "twin");
        let closed = |name: &&&str| self.town.declared.segments[**name].mode == Mode::Enforce;
        let unfinished =
            NAMESPACES.iter().filter(closed).any(|there| plan.phases.get(&namespace(there)) != Some(&Phase::Closed));
        let left = NAMESPACES
            .iter()
            .filter(|name| !closed(name))
            .any(|there| standing.ours.keys().any(|(here, _)| *here == namespace(there)));
        let is_whole = !is_frozen && !is_held;
        if left || is_whole && unfinished {
            self.found.push(Found::Unsettled);
        }
        if is_whole && !passing.is_subset(&declared) {
            self.found.push(Found::Opened);
        }
        if is_whole && !declared.is_subset(&passing) {
            self.found.push(Found::Cut);
        }
        self.always = passing.intersection(&declared).cloned().collect();
        self.ever = passing;
    }

    /// Every pair of pods with a port that these objects let pass.
    fn passing(&self, policies: &[NetworkPolicy]) -> Passing {
        let is_open = policies.is_empty();
        let policies = policies.iter().map(|object| spoiled(self.fault, object)).collect();
        let mut scene = Scene { policies, ..Scene::default() };
        for there in self.town.snapshot.namespaces.keys() {
            scene.namespaces.insert(there.to_string(), BTreeMap::new());
        }
        for ((there, name), pod) in &self.town.snapshot.pods {
            let id = PodId { namespace: there.to_string(), name: name.clone() };
            // No block that is declared holds it.
            let addresses = vec!["198.51.100.1".parse().unwrap()];
            scene.pods.insert(id, PodView { labels: pod.facts.labels.clone(), addresses, ..PodView::default() });
        }
        let evaluator = Evaluator::new(&scene);
        let mut passing = Passing::new();
        // A twin is there to be in the way; what it reaches by labels that are not its own is the guard's business.
        let plain = |id: &&PodId| !id.name.starts_with("twin");
        for from in scene.pods.keys().filter(plain).filter(|id| id.namespace != "dns") {
            for to in scene.pods.keys().filter(plain).filter(|to| *to != from) {
                for port in if to.namespace == "dns" { DNS_PORTS } else { PORTS } {
                    let (from, to) = (End::Pod(from.clone()), End::Pod(to.clone()));
                    let question = Question { from, to, protocol: Protocol::Tcp, port };
                    if is_open || evaluator.ask(&question).unwrap().passes() {
                        let name = |end: &End| match end {
                            End::Pod(id) => id.to_string(),
                            End::Address(address) => address.to_string(),
                        };
                        passing.insert((name(&question.from), name(&question.to), port));
                    }
                }
            }
        }
        passing
    }

    /// What is to pass by the words of the consent rules: all but what a closed end has no declaration for. A direction of
    /// a namespace counts as closed if it is to be and `counts`.
    fn declared(&self, counts: impl Fn(&Namespace, Flow) -> bool) -> Passing {
        let all = self.passing(&[]);
        all.into_iter().filter(|(from, to, port)| self.may_pass(from, to, *port, &counts)).collect()
    }

    fn may_pass(&self, from: &str, to: &str, port: u16, counts: &impl Fn(&Namespace, Flow) -> bool) -> bool {
        let (client, server) = (from.trim_end_matches("-1"), to.trim_end_matches("-1"));
        let (client, server) = (identity(client), identity(server));
        let mode =
            |there: &Namespace| self.town.declared.segments.get(there.as_str()).map_or(Mode::Off, |one| one.mode);
        let is_segmented = |there: &Namespace| mode(there) != Mode::Off;
        let closes = |there: &Namespace, flow: Flow| {
            mode(there) == Mode::Enforce
                && self.town.declared.segments[there.as_str()].directions.contains(&flow)
                && counts(there, flow)
        };
        if server.namespace.as_str() == "dns" {
            let ports = &self.town.snapshot.dns.as_ref().unwrap().ports;
            return !closes(&client.namespace, Flow::Egress) || ports.iter().any(|(_, known)| known.get() == port);
        }
        let granted = self.town.declared.grants.values().any(|grant| {
            grant.key.namespace == server.namespace
                && grant.to == GrantTo::Account(server.account.clone())
                && grant.from.contains(&Source::Identity(client.clone()))
                && grant.ports.contains(&tcp(port))
        });
        let requested = self.town.declared.requests.values().any(|request| {
            let asks = |target: &Target| match target {
                Target::Identity { server: other, ports } => *other == server && ports.contains(&tcp(port)),
                Target::External(_) | Target::ApiServer => false,
            };
            request.key.namespace == client.namespace && request.from == client.account && request.to.iter().any(asks)
        });
        let itself = client == server;
        let ingress = granted && (requested || itself || !is_segmented(&client.namespace));
        let egress = (requested || itself) && (granted || !is_segmented(&server.namespace));
        (ingress || !closes(&server.namespace, Flow::Ingress)) && (egress || !closes(&client.namespace, Flow::Egress))
    }
}
