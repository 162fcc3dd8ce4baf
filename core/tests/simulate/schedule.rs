//! One run: two replicas, two identities, a person who edits, surroundings that fail, and then
//! calm. Everything is drawn from the seed, so a seed is a run.

use std::{rc::Rc, sync::Arc};

use countersign_core::{
    api::{
        DeletionPolicy, IdentitySecret, KeyAlgorithm, KeySpec, NamespaceSelector, REQUESTED_AT, ServiceIdentity,
        ServiceIdentitySpec,
    },
    value::{
        domain::{ActiveAuthority, AllowRule, Domain, SigningLimits},
        x509::Leaf,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    chance::Chance,
    election::{Turn, turn},
    history::{
        self, Actor, Authority, AuthorityState, Canary, CanaryKind, ConnectionChange, Doctoring, DomainChange,
        DomainEdit, DomainSpec, Event, History, IdentityChange, IdentityEdit, Issuer, KeyPair, Kind, LeaseChange, Mark,
        Outcome, Preconditions, Process, ProcessChange, Root, Settings, Text, Uid, VaultState, Verb, WorldChange,
    },
    model::{
        ADDRESS, AUTHORITY, AUTHORITY_END, AUTHORITY_KEY, FOREIGN_TEXT, IdentitySlot, Ids, Model, NAMESPACE, Rotation,
        SUCCESSOR, SUCCESSOR_KEY, SecretState, VaultMode, Version, seconds, time,
    },
    mutants::Mutant,
    operator::{Operator, Surroundings},
    tally::Tally,
};

/// Steps of disturbance.
const STEPS: u64 = 18;
/// The seeds below this one were searched before the later kinds of disturbance existed, and before waiting was cut
/// short; they mean what they meant then.
pub const LATER: u64 = 24_000;
/// A run starts here: no time of it is before the epoch.
const START: i64 = 1_000_000;
/// A watch lags by this much.
const WATCH_LAG: i64 = 30;
/// A dead replica is back after this long.
const RESTART: i64 = 5;
/// A lease that was not renewed for this long is taken.
const LEASE: i64 = 15;

/// A run under way.
pub struct Run<'a> {
    model: Model,
    replicas: [Replica; 2],
    chance: Chance,
    /// Draws the kinds of disturbance that came later; none for the seeds that were found before them.
    later: Option<Chance>,
    tally: &'a mut Tally,
    domains: [Domain; 3],
    mutant: Mutant,
    holder: Option<usize>,
    renewed_at: i64,
    canary: i64,
}

struct Replica {
    operator: Option<Operator>,
    epoch: u32,
    paused_until: i64,
    back_at: i64,
    held_until: i64,
}

/// What is left of a run.
pub struct Ended {
    /// What was seen.
    pub history: History,
    /// Why the calm end is not what it should be, if so.
    pub unsettled: Option<String>,
    /// What people wanted in the end.
    pub wishes: Vec<Rc<ServiceIdentity>>,
    /// How far the domain had got.
    pub rotation: Rotation,
}

/// What the same wishes come to when nothing is in the way.
pub fn undisturbed(ended: &Ended) -> History {
    let mut tally = Tally::default();
    let mut run = Run::new(0, Mutant::None, &mut tally);
    run.chance.faults = false;
    run.model.rotation = ended.rotation;
    run.tell_authorities();
    for (slot, wish) in ended.wishes.iter().enumerate() {
        let version = run.model.fresh();
        let identity = run.model.slots[slot].identity.as_mut().unwrap();
        let mut object = (**wish).clone();
        object.metadata.uid = Some(identity.intent.uid.clone());
        *identity = Version::written(object, identity.status.clone(), version);
        run.announce(slot);
    }
    run.model.push(Actor::World, Event::Mark(Mark::FaultsEnd));
    run.advance(120);
    run.model.push(Actor::World, Event::Mark(Mark::End));
    run.model.history
}

/// Runs one schedule.
pub fn run(seed: u64, mutant: Mutant, tally: &mut Tally) -> Ended {
    let mut run = Run::new(seed, mutant, tally);
    for _ in 0..STEPS {
        run.disturb();
        run.disturb_later();
        run.advance_to_next();
    }
    run.calm_down()
}

impl<'a> Run<'a> {
    fn new(seed: u64, mutant: Mutant, tally: &'a mut Tally) -> Self {
        let canaries = vec![Canary { kind: CanaryKind::Foreign, needle: FOREIGN_TEXT.into() }];
        let mut history = History::new(Settings { canaries, ..Settings::default() });
        let ids = Ids {
            domain: history.object(Kind::TrustDomain, "", "prod"),
            connection: history.object(Kind::VaultConnection, "", "main"),
            account: history.object(Kind::ServiceAccount, NAMESPACE, "api"),
            service: history.object(Kind::Service, NAMESPACE, "api"),
        };
        let slots = ["api", "web"]
            .map(|name| IdentitySlot {
                object: history.object(Kind::ServiceIdentity, NAMESPACE, name),
                target: history.object(Kind::Secret, NAMESPACE, format!("{name}-tls")),
                identity: None,
                secret: None,
                claimed: false,
            })
            .into_iter()
            .collect();
        let model = Model {
            history,
            now: START,
            slots,
            next: 100,
            account: true,
            service: true,
            domain: (true, true),
            terminating: false,
            fence: true,
            api_up: true,
            vault: VaultMode::Up,
            max_ttl: 7 * 86_400,
            tokens_valid_since: 0,
            doctor: None,
            rotation: Rotation::First,
            leaves: std::collections::HashMap::new(),
            keys: std::collections::HashMap::new(),
            templates: ["authority", "successor"].map(|label| Leaf::test("").issued_by(&Leaf::test_authority(label))),
            ids,
        };
        let replica = |leader| Replica {
            operator: Some(Operator::new(Process { leader, epoch: 0 }, 2)),
            epoch: 0,
            paused_until: 0,
            back_at: 0,
            held_until: 0,
        };
        let mut run = Self {
            model,
            replicas: [replica(0), replica(1)],
            chance: Chance::new(seed),
            later: (seed >= LATER).then(|| Chance::second(seed)),
            tally,
            domains: [Rotation::First, Rotation::Both, Rotation::Second].map(domain),
            mutant,
            holder: None,
            renewed_at: START - LEASE,
            canary: START,
        };
        run.set_up();
        run
    }

    /// The objects as they are when the operator starts.
    fn set_up(&mut self) {
        let ids = self.model.ids;
        for object in [ids.account, ids.service] {
            self.world(WorldChange::Present { object, present: true });
        }
        self.world(WorldChange::Vault { connection: ids.connection, state: VaultState::Up });
        self.world(WorldChange::Fence { in_force: true });
        self.world(WorldChange::ApiServer { up: true });
        self.world(WorldChange::RoleLimit { domain: ids.domain, max_ttl: self.model.max_ttl });
        self.user(Event::Connection(ConnectionChange { object: ids.connection, address: Some(ADDRESS.into()) }));
        self.domain_edit(DomainEdit::Spec(Arc::new(domain_spec(ids))));
        self.tell_authorities();
        for leader in 0..2 {
            let actor = Actor::Operator(Process { leader, epoch: 0 });
            self.model.push(actor, Event::Process(ProcessChange::Started));
        }
        self.model.push(Actor::World, Event::Mark(Mark::FaultsBegin));
        self.create(0);
        self.create(1);
        self.elect();
    }

    fn world(&mut self, change: WorldChange) {
        self.model.push(Actor::World, Event::World(change));
    }

    fn user(&mut self, event: Event) {
        self.model.push(Actor::User, event);
    }

    fn domain_edit(&mut self, change: DomainEdit) {
        let object = self.model.ids.domain;
        self.user(Event::Domain(DomainChange { object, uid: Uid(1), change }));
    }

    fn create(&mut self, slot: usize) {
        let (uid, version) = (self.model.fresh(), self.model.fresh());
        let name = if slot == 0 { "api" } else { "web" };
        let mut identity = ServiceIdentity::new(name, spec(name, slot));
        identity.metadata.namespace = Some(NAMESPACE.to_owned());
        identity.metadata.uid = Some(uid.to_string());
        identity.metadata.generation = Some(1);
        identity.metadata.creation_timestamp = Some(Time(time(self.model.now)));
        self.model.slots[slot].identity = Some(Version::written(identity, Rc::default(), version));
        self.announce(slot);
    }

    /// Tells the history of a new spec, and the replicas if their watch is not held.
    fn announce(&mut self, slot: usize) {
        let spec = Arc::new(self.model.spec(slot));
        let here = &self.model.slots[slot];
        let identity = here.identity.as_ref().unwrap();
        let (object, uid) = (here.object, identity.uid());
        let change = IdentityEdit::Spec { generation: identity.intent.generation, spec };
        self.user(Event::Identity(IdentityChange { object, uid, change }));
        self.deliver(slot);
    }

    fn deliver(&mut self, slot: usize) {
        let here = &self.model.slots[slot];
        for replica in &mut self.replicas {
            if let Some(operator) = replica.operator.as_mut().filter(|_| replica.held_until <= self.model.now) {
                let (old, new) = (&operator.cache[slot], &here.identity);
                if old.as_ref().map(|old| old.at) != new.as_ref().map(|new| new.at) {
                    // A new status wakes nobody: the watch of the real operator tells a change by spec and request.
                    let woken = match (old, new) {
                        (Some(old), Some(new)) => !Rc::ptr_eq(&old.intent, &new.intent),
                        _ => true,
                    };
                    operator.cache[slot] = new.clone();
                    if woken {
                        operator.wake[slot] = Some(self.model.now);
                    }
                }
            }
        }
    }

    fn edit(&mut self, slot: usize, change: impl FnOnce(&mut ServiceIdentitySpec)) {
        let version = self.model.fresh();
        let Some(identity) = self.model.slots[slot].identity.as_mut() else { return };
        let mut object = (*identity.object).clone();
        change(&mut object.spec);
        if object.spec == identity.object.spec {
            return;
        }
        object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
        *identity = Version::written(object, identity.status.clone(), version);
        self.announce(slot);
    }

    fn request(&mut self, slot: usize) {
        let version = self.model.fresh();
        let Some(identity) = self.model.slots[slot].identity.as_mut() else { return };
        let value = format!("at {version}");
        let mut object = (*identity.object).clone();
        object.metadata.annotations.get_or_insert_default().insert(REQUESTED_AT.to_owned(), value.clone());
        *identity = Version::written(object, identity.status.clone(), version);
        let uid = identity.uid();
        let object = self.model.slots[slot].object;
        self.user(Event::Identity(IdentityChange { object, uid, change: IdentityEdit::Requested(value.into()) }));
        self.deliver(slot);
    }

    /// Deletes an identity; the cluster collects what it owns.
    fn delete(&mut self, slot: usize) {
        let here = &self.model.slots[slot];
        let retains = here.identity.as_ref().is_some_and(|one| one.intent.target.deletion == DeletionPolicy::Retain);
        if here.secret.as_ref().is_some_and(|secret| secret.owned_by_reference == retains) {
            // The policy was changed and nobody has acted on it yet: what the cluster collects is a race, not a promise.
            return;
        }
        let Some(identity) = self.model.slots[slot].identity.take() else { return };
        let (object, uid) = (self.model.slots[slot].object, identity.uid());
        self.user(Event::Identity(IdentityChange { object, uid, change: IdentityEdit::Deleted }));
        if self.model.slots[slot].secret.as_ref().is_some_and(|secret| secret.owned_by_reference) {
            let secret = self.model.slots[slot].secret.take().unwrap();
            self.kube(
                Actor::Cluster,
                Verb::Delete,
                slot,
                Outcome::Deleted,
                Preconditions { version: Some(secret.version), uid: Some(secret.uid) },
            );
        }
        self.deliver(slot);
    }

    fn kube(&mut self, actor: Actor, verb: Verb, slot: usize, outcome: Outcome, sent: Preconditions) {
        let stored = match outcome {
            Outcome::Written { .. } => self.model.slots[slot].secret.as_ref().map(|secret| secret.told.clone()),
            _ => None,
        };
        let object = self.model.slots[slot].target;
        let request = history::KubeRequest {
            verb,
            object,
            sent,
            field_manager: "kubectl".into(),
            force: false,
            outcome,
            answer_lost: false,
            stored,
        };
        self.model.push(actor, Event::Kube(request));
    }

    /// Somebody else writes the target.
    fn tamper(&mut self, slot: usize, change: impl FnOnce(&mut SecretState, &mut Model)) {
        let version = self.model.fresh();
        let Some(mut secret) = self.model.slots[slot].secret.take() else { return };
        let before = Some(secret.version);
        secret.version = version;
        change(&mut secret, &mut self.model);
        self.model.slots[slot].secret = Some(secret.tell(&self.model));
        self.kube(
            Actor::User,
            Verb::Update,
            slot,
            Outcome::Written { before, after: version },
            Preconditions::default(),
        );
    }

    fn disturb(&mut self) {
        let slot = usize::try_from(self.chance.below(2)).unwrap();
        match self.chance.below(34) {
            0 => {
                let ttl = self.chance.one_of(&["1h", "2h", "24h", "100h"]);
                self.edit(slot, |spec| spec.ttl = Some(ttl.to_owned()));
            }
            1 => self.edit(slot, |spec| {
                spec.services = if spec.services.is_empty() { vec!["api".to_owned()] } else { Vec::new() }
            }),
            2 => {
                let name = self.chance.one_of(&["x.pay.internal", "y.elsewhere.example", "kubernetes.default.svc"]);
                self.edit(slot, |spec| spec.dns_names = vec![name.to_owned()]);
            }
            3 => self.edit(slot, |spec| spec.dns_names.clear()),
            4 => {
                let size = self.chance.one_of(&[256, 384]);
                self.edit(slot, |spec| spec.key = Some(KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(size) }));
            }
            5..=7 => self.request(slot),
            8 => self.edit(slot, |spec| spec.suspend = if spec.suspend == Some(true) { None } else { Some(true) }),
            9 => {
                self.delete(slot);
                if self.model.slots[slot].identity.is_none() {
                    self.create(slot);
                }
            }
            10 => self.edit(slot, |spec| {
                let retains = spec.secret.deletion_policy == Some(DeletionPolicy::Retain);
                spec.secret.deletion_policy =
                    Some(if retains { DeletionPolicy::Delete } else { DeletionPolicy::Retain });
            }),
            11 => self.tamper(slot, |secret, _| secret.key = "somebody's key".to_owned()),
            12 => self.tamper(slot, |secret, _| "nothing".clone_into(&mut secret.roots)),
            13 => self.tamper(slot, |secret, _| secret.immutable = !secret.immutable),
            14 => self.tamper(slot, |secret, _| {
                let opaque = secret.type_ == "Opaque";
                secret.type_ = if opaque { "kubernetes.io/tls" } else { "Opaque" }.to_owned();
            }),
            15 => self.take_away(slot),
            16..=25 => self.surroundings(),
            26 => {
                let leader = self.chance.one_of(&[0, 1]);
                self.kill(leader);
            }
            27 => {
                let leader = self.chance.one_of(&[0_usize, 1]);
                self.replicas[leader].paused_until = self.model.now + 25;
            }
            28 => {
                let leader = self.chance.one_of(&[0_usize, 1]);
                self.replicas[leader].held_until = self.model.now + WATCH_LAG;
                (0..2).for_each(|slot| self.deliver(slot));
            }
            29 => {
                let leader = self.chance.one_of(&[0_usize, 1]);
                let skew = i64::try_from(self.chance.below(60)).unwrap() - 30;
                if let Some(operator) = self.replicas[leader].operator.as_mut() {
                    let seconds = skew - operator.skew;
                    operator.skew = skew;
                    self.world(WorldChange::ClockStep { leader: u32::try_from(leader).unwrap(), seconds });
                }
            }
            _ => {
                let far = i64::try_from(self.chance.below(20 * 3_600)).unwrap();
                self.advance(far);
            }
        }
    }

    /// The kinds of disturbance that came later.
    fn disturb_later(&mut self) {
        let Some(later) = self.later.as_mut() else { return };
        let (kind, slot) = (later.below(24), usize::try_from(later.below(2)).unwrap());
        match kind {
            0 => self.claim(slot, !self.model.slots[slot].claimed),
            1 => {
                let forbids = self.model.vault == VaultMode::Forbids;
                self.model.vault = if forbids { VaultMode::Up } else { VaultMode::Forbids };
                self.tell_vault();
            }
            2 => self.rotate(),
            _ => {}
        }
    }

    /// An older identity names the target of this one, or does so no longer.
    fn claim(&mut self, slot: usize, claimed: bool) {
        self.model.slots[slot].claimed = claimed;
        let object = self.model.slots[slot].target;
        self.world(WorldChange::Claimed { object, claimed });
        self.wake_all();
    }

    /// The domain takes its next step to another authority: trusted first, signing later.
    fn rotate(&mut self) {
        self.model.rotation = match self.model.rotation {
            Rotation::First => Rotation::Both,
            Rotation::Both | Rotation::Second => Rotation::Second,
        };
        if self.model.domain.0 {
            self.tell_authorities();
        }
        self.wake_all();
    }

    fn tell_authorities(&mut self) {
        for authority in authorities(self.model.rotation) {
            self.domain_edit(DomainEdit::Authority(authority));
        }
    }

    /// A stranger's Secret stands where ours should be, or stands there no longer.
    fn take_away(&mut self, slot: usize) {
        let (uid, version) = (self.model.fresh(), self.model.fresh());
        let Some(old) = self.model.slots[slot].secret.take() else { return };
        let sent = Preconditions { version: Some(old.version), uid: Some(old.uid) };
        self.kube(Actor::User, Verb::Delete, slot, Outcome::Deleted, sent);
        if !old.labelled || self.chance.below(2) == 0 {
            return;
        }
        let foreign = SecretState {
            uid: Uid(uid),
            version,
            labelled: false,
            owner: None,
            owned_by_reference: false,
            chain: String::new(),
            key: String::new(),
            roots: String::new(),
            rendering: None,
            answered: None,
            ..old
        };
        self.model.slots[slot].secret = Some(foreign.tell(&self.model));
        self.kube(
            Actor::User,
            Verb::Create,
            slot,
            Outcome::Written { before: None, after: version },
            Preconditions::default(),
        );
    }

    fn surroundings(&mut self) {
        let ids = self.model.ids;
        match self.chance.below(12) {
            0..=3 => {
                self.model.vault = self.chance.one_of(&[
                    VaultMode::Up,
                    VaultMode::Up,
                    VaultMode::Cut,
                    VaultMode::Answers(503),
                    VaultMode::Answers(403),
                    VaultMode::Answers(404),
                    VaultMode::Answers(429),
                ]);
                self.tell_vault();
            }
            4 => {
                self.model.tokens_valid_since = self.model.now;
                self.world(WorldChange::TokensRevoked(ids.connection));
            }
            5 => {
                self.model.max_ttl = self.chance.one_of(&[3_600, 7 * 86_400]);
                self.world(WorldChange::RoleLimit { domain: ids.domain, max_ttl: self.model.max_ttl });
            }
            6 => {
                let kinds = [
                    Doctoring::Key,
                    Doctoring::Names,
                    Doctoring::Authority,
                    Doctoring::Ca,
                    Doctoring::Validity,
                    Doctoring::Chain,
                ];
                self.model.doctor = Some(self.chance.one_of(&kinds));
            }
            7 => {
                self.model.account = !self.model.account;
                self.world(WorldChange::Present { object: ids.account, present: self.model.account });
                self.wake_all();
            }
            8 => {
                self.model.service = !self.model.service;
                self.world(WorldChange::Present { object: ids.service, present: self.model.service });
                self.wake_all();
            }
            9 => {
                self.model.domain = self.chance.one_of(&[(true, true), (true, true), (true, false), (false, false)]);
                self.tell_domain();
                self.wake_all();
            }
            10 => {
                self.model.fence = !self.model.fence;
                self.world(WorldChange::Fence { in_force: self.model.fence });
                self.wake_all();
            }
            _ => {
                self.model.api_up = !self.model.api_up;
                self.model.terminating = self.model.api_up && self.chance.below(8) == 0;
                self.world(WorldChange::ApiServer { up: self.model.api_up });
            }
        }
    }

    fn tell_domain(&mut self) {
        if self.model.domain.0 {
            self.domain_edit(DomainEdit::Spec(Arc::new(domain_spec(self.model.ids))));
            self.tell_authorities();
        } else {
            self.domain_edit(DomainEdit::Deleted);
        }
    }

    fn tell_vault(&mut self) {
        let state = match self.model.vault {
            // Who alone is refused, or misses one issuer, has a server that is well.
            VaultMode::Up | VaultMode::Forbids | VaultMode::Answers(404) => VaultState::Up,
            VaultMode::Cut => VaultState::Cut,
            VaultMode::Answers(503) => VaultState::Sealed,
            VaultMode::Answers(code) => VaultState::Answers(code),
        };
        let connection = self.model.ids.connection;
        self.world(WorldChange::Vault { connection, state });
    }

    fn wake_all(&mut self) {
        for operator in self.replicas.iter_mut().filter_map(|replica| replica.operator.as_mut()) {
            operator.wake.iter_mut().for_each(|wake| *wake = Some(self.model.now));
        }
    }

    fn kill(&mut self, leader: usize) {
        if let Some(operator) = self.replicas[leader].operator.take() {
            self.model.push(Actor::Operator(operator.process), Event::Process(ProcessChange::Killed));
            self.replicas[leader].back_at = self.model.now + RESTART;
        }
    }

    /// Renews or takes the lease, and brings back the dead.
    fn elect(&mut self) {
        for leader in 0..2 {
            if self.replicas[leader].operator.is_none() && self.replicas[leader].back_at <= self.model.now {
                self.start(leader);
            }
        }
        let now = self.model.now;
        let works = [0, 1].map(|leader: usize| {
            let replica = &self.replicas[leader];
            replica.operator.is_some() && replica.paused_until <= now
        });
        match turn(self.holder, now - self.renewed_at, LEASE, self.model.api_up, works) {
            Turn::Nothing => {}
            Turn::StepsDown(holder) => self.step_down(holder),
            Turn::Renewed(holder) => self.hold(holder, LeaseChange::Renewed),
            Turn::Taken { heir, from } => {
                // Whoever held it finds out and ends; the fence closed before.
                if let Some(old) = from.filter(|_| self.mutant != Mutant::WritesAfterLostLease) {
                    self.step_down(old);
                }
                self.hold(heir, LeaseChange::Taken);
            }
        }
    }

    fn hold(&mut self, leader: usize, change: LeaseChange) {
        let now = self.model.now;
        (self.holder, self.renewed_at) = (Some(leader), now);
        let Some(operator) = self.replicas[leader].operator.as_mut() else { return };
        let taken = operator.renewed_at.is_none();
        operator.renewed_at = Some(now);
        let actor = Actor::Operator(operator.process);
        self.model.push(actor, Event::Lease(change));
        if taken {
            operator.wake.iter_mut().for_each(|wake| *wake = Some(now));
        }
    }

    fn step_down(&mut self, leader: usize) {
        self.holder = None;
        if let Some(operator) = self.replicas[leader].operator.take() {
            self.model.push(Actor::Operator(operator.process), Event::Process(ProcessChange::Stopped));
            self.replicas[leader].back_at = self.model.now + RESTART;
        }
    }

    fn start(&mut self, leader: usize) {
        let replica = &mut self.replicas[leader];
        replica.epoch += 1;
        replica.held_until = 0;
        let process = Process { leader: u32::try_from(leader).unwrap(), epoch: replica.epoch };
        replica.operator = Some(Operator::new(process, 2));
        self.model.push(Actor::Operator(process), Event::Process(ProcessChange::Started));
        if self.holder == Some(leader) {
            // The new life does not hold what the old one held: it has to wait for it like anybody.
            self.holder = None;
        }
        (0..2).for_each(|slot| self.deliver(slot));
    }

    fn advance(&mut self, seconds: i64) {
        let end = self.model.now + seconds;
        while self.model.now < end {
            // Long ways are walked in steps, so that the lease is renewed and due passes run in time.
            let wake = self.next_wake().unwrap_or(i64::MAX).max(self.model.now + 1);
            self.model.now =
                end.min(wake).min(self.model.now + if self.holder.is_some() && self.model.api_up { 3_600 } else { 20 });
            self.tick();
        }
    }

    fn next_wake(&self) -> Option<i64> {
        let wakes = self.replicas.iter().enumerate().filter(|(leader, _)| self.holder == Some(*leader));
        wakes
            .filter_map(|(_, replica)| replica.operator.as_ref())
            .flat_map(|operator| operator.wake.iter().flatten().copied())
            .min()
    }

    fn advance_to_next(&mut self) {
        let wake = self.next_wake().map_or(1, |wake| wake - self.model.now);
        let wait = wake.clamp(0, 60);
        self.model.now += wait;
        self.tick();
    }

    /// Renews what a running process renewed meanwhile, then runs what is due.
    fn tick(&mut self) {
        let now = self.model.now;
        if let Some(holder) = self.holder
            && self.replicas[holder].operator.is_some()
            && self.replicas[holder].paused_until <= now
            && self.model.api_up
            && now - self.renewed_at >= LEASE
        {
            // It renewed every five seconds on the way here.
            self.renewed_at = now;
        }
        self.elect();
        (0..2).for_each(|slot| self.deliver(slot));
        for leader in 0..2 {
            for slot in 0..2 {
                self.pass(leader, slot);
            }
        }
    }

    fn pass(&mut self, leader: usize, slot: usize) {
        let forgets_the_lease = self.mutant == Mutant::WritesAfterLostLease;
        let replica = &mut self.replicas[leader];
        let Some(operator) = replica.operator.as_mut() else { return };
        let due = operator.wake[slot].is_some_and(|wake| wake <= self.model.now);
        if !due
            || (operator.renewed_at.is_none() && !forgets_the_lease)
            || (replica.paused_until > self.model.now && !forgets_the_lease)
        {
            return;
        }
        let mut around = Surroundings {
            domains: &self.domains,
            chance: &mut self.chance,
            tally: self.tally,
            mutant: self.mutant,
            patient: self.later.is_some(),
        };
        if operator.pass(slot, &mut self.model, &mut around).is_err() {
            replica.operator = None;
            replica.back_at = self.model.now + RESTART;
        }
        self.deliver(slot);
    }

    /// Mends everything, lets the operator work, and then expects silence.
    fn calm_down(mut self) -> Ended {
        self.chance.faults = false;
        let ids = self.model.ids;
        let model = &mut self.model;
        (model.account, model.service, model.domain, model.terminating) = (true, true, (true, true), false);
        (model.fence, model.api_up, model.vault, model.doctor, model.max_ttl) =
            (true, true, VaultMode::Up, None, 7 * 86_400);
        for object in [ids.account, ids.service] {
            self.world(WorldChange::Present { object, present: true });
        }
        self.tell_domain();
        self.world(WorldChange::Fence { in_force: true });
        self.world(WorldChange::ApiServer { up: true });
        self.world(WorldChange::RoleLimit { domain: ids.domain, max_ttl: 7 * 86_400 });
        self.tell_vault();
        for leader in 0..2 {
            self.replicas[leader].held_until = 0;
            self.replicas[leader].paused_until = 0;
        }
        for slot in 0..2 {
            if self.model.slots[slot].claimed {
                self.claim(slot, false);
            }
        }
        for slot in 0..2 {
            let uid = self.model.slots[slot].identity.as_ref().map(|identity| identity.intent.uid.clone());
            if self.model.slots[slot]
                .secret
                .as_ref()
                // A Secret that a deleted identity left behind blocks its successor, as it should.
                .is_some_and(|secret| {
                    secret.owner != uid || !secret.labelled || secret.immutable || secret.type_ != "kubernetes.io/tls"
                })
            {
                let old = self.model.slots[slot].secret.take().unwrap();
                let sent = Preconditions { version: Some(old.version), uid: Some(old.uid) };
                self.kube(Actor::User, Verb::Delete, slot, Outcome::Deleted, sent);
            }
            self.edit(slot, |spec| {
                spec.dns_names.clear();
                spec.suspend = None;
                spec.ttl = None;
            });
        }
        self.wake_all();
        self.model.push(Actor::World, Event::Mark(Mark::FaultsEnd));
        // A day covers the storm guard and every back-off.
        self.advance(86_400 + 3_700);
        let unsettled = self.unsettled();
        // The last back-off is over, too: from here on nothing may change any more (I-17).
        self.model.push(Actor::World, Event::Mark(Mark::FaultsEnd));
        // Quiet is looked for where no renewal falls due within five minutes.
        for _ in 0..400 {
            if !self.renewal_is_near() {
                break;
            }
            self.advance(600);
        }
        self.canary = self.model.now;
        self.model.push(Actor::World, Event::Mark(Mark::SteadyBegins));
        self.wake_all();
        self.advance(299);
        self.model.push(Actor::World, Event::Mark(Mark::SteadyEnds));
        self.model.push(Actor::World, Event::Mark(Mark::End));
        let wishes = self.model.slots.iter().filter_map(|slot| Some(slot.identity.as_ref()?.object.clone())).collect();
        Ended { history: self.model.history, unsettled, wishes, rotation: self.model.rotation }
    }

    fn renewal_is_near(&self) -> bool {
        self.model
            .slots
            .iter()
            .filter_map(|slot| slot.identity.as_ref()?.status.renew_at.as_ref())
            .any(|renew_at| (-3_600..=700).contains(&(renew_at.0.as_second() - self.model.now)))
    }

    fn unsettled(&self) -> Option<String> {
        self.model.slots.iter().filter_map(|slot| slot.identity.as_ref()).find_map(|identity| {
            let status = &identity.status;
            let ready =
                status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let current = status.observed_generation == Some(identity.intent.generation);
            let reasons: Vec<_> = status
                .conditions
                .iter()
                .map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason))
                .collect();
            (!ready || !current).then(|| format!("an identity did not become ready: {reasons:?}"))
        })
    }
}

/// The domain's authorities at a stage of its rotation.
fn authorities(rotation: Rotation) -> Vec<Authority> {
    let first = |state| Authority { id: AUTHORITY, key: KeyPair(1), root: Root(1), not_after: AUTHORITY_END, state };
    let second = |state| Authority { id: SUCCESSOR, key: KeyPair(2), root: Root(2), ..first(state) };
    match rotation {
        Rotation::First => vec![first(AuthorityState::Active)],
        Rotation::Both => vec![first(AuthorityState::Active), second(AuthorityState::Prepared)],
        Rotation::Second => vec![first(AuthorityState::Draining), second(AuthorityState::Active)],
    }
}

fn spec(name: &str, slot: usize) -> ServiceIdentitySpec {
    ServiceIdentitySpec {
        trust_domain: "prod".to_owned(),
        service_account_name: "api".to_owned(),
        services: if slot == 0 { vec!["api".to_owned()] } else { Vec::new() },
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        ttl: None,
        key: None,
        renew_before: None,
        secret: IdentitySecret {
            name: format!("{name}-tls"),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            deletion_policy: None,
        },
        suspend: None,
    }
}

fn domain(rotation: Rotation) -> Domain {
    let (id, key) =
        if rotation == Rotation::Second { ("successor", SUCCESSOR_KEY) } else { ("authority", AUTHORITY_KEY) };
    let roots = if rotation == Rotation::First { "root 1" } else { "root 1 root 2" };
    Domain {
        name: "prod.example".to_owned(),
        default_ttl: std::time::Duration::from_secs(86_400),
        default_key: KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) },
        short_names: false,
        allow: vec![AllowRule {
            namespaces: NamespaceSelector { names: Some(vec![NAMESPACE.to_owned()]), match_labels: None, all: None },
            dns_names: vec!["*.pay.internal".to_owned()],
            ip_ranges: Vec::new(),
            max_ttl: None,
        }],
        active: ActiveAuthority {
            id: id.to_owned(),
            issuer_ref: Some("issuer".to_owned()),
            subject_key_id: key.to_vec(),
            not_after: time(AUTHORITY_END),
        },
        roots: roots.to_owned(),
        limits: SigningLimits { signs_per_second: 50, in_flight: 8 },
        revision: format!("{rotation:?}"),
    }
}

fn domain_spec(ids: Ids) -> DomainSpec {
    DomainSpec {
        name: "prod.example".into(),
        issuer: Issuer::Vault { connection: ids.connection, mount: "pki_int".into(), role: "workload".into() },
        ttl: seconds("24h"),
        key: history::KeyKind::P256,
        short_names: false,
        allow: vec![history::AllowRule {
            namespaces: vec![Text::from(NAMESPACE)],
            dns_names: vec!["*.pay.internal".into()],
            ip_ranges: Vec::new(),
            max_ttl: None,
        }],
    }
}
