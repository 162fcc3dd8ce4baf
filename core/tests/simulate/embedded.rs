//! Runs of a trust domain that signs by itself: two leaders at once, a Secret that cannot be read, is lost, broken or
//! comes back, and one promise above all: no new root appears by itself.
//!
//! The decisions are the operator's own (`Trust::decide`, `absorb`, `report`); what stands here is the shell, the API
//! server behind it and a person with a heavy hand. There is no election: both replicas write whenever they like, so
//! safety rests on preconditions alone.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    rc::Rc,
    sync::{Arc, OnceLock},
};

use countersign_core::{
    api::{
        AuthorityState as WireState, EmbeddedIssuer, IssuerSpec, Reason, TrustDomain, TrustDomainSpec,
        TrustDomainStatus,
    },
    fault::{Class, Failure},
    next::{MAX_EFFECTS, Machine, Next},
    trust::{
        decide::Trust,
        intent::{self, Intent},
        report::report,
        world::{ConnectionView, Effect, Found, Memory, Outcome, Reply, RootsView, SecretView, SecretsView, World},
    },
    value::x509::Certificate,
};

use crate::{
    chance::{Chance, Fault},
    history::{
        self, Actor, Authority, AuthorityId, AuthorityState, Content, DomainChange, DomainEdit, DomainSpec, Event,
        History, Issuer, KeyKind, KeyPair, Kind, KubeRequest, Leaf, Mark, ObjectId, Preconditions, Process,
        ProcessChange, Root, Settings, Stored, Text, Uid, Verb,
    },
    model::{Rotation, key_pair, seconds, time},
    mutants::RootMutant,
    schedule::Ended,
    tally::{Effects, Tally},
};

/// Steps of disturbance.
const STEPS: u64 = 24;
/// A run starts here: within the life of the certificate that all authorities are made from.
const START: i64 = 1_800_000_000;
/// The UID of the domain.
const DOMAIN: Uid = Uid(1);
/// A dead replica is back after this long.
const RESTART: i64 = 5;
/// A watch that is held lags by this much.
const WATCH_LAG: i64 = 60;
/// No look is further away.
const LOOK: i64 = 900;
/// A real authority; every other one is its copy with another public key, which nobody verifies here.
const PATTERN: &str = include_str!("../../src/value/x509/fixtures/root.pem");

/// A Secret with an authority.
#[derive(Clone)]
struct Kept {
    uid: Uid,
    version: u64,
    certificate: Rc<Certificate>,
    /// Its key belongs to the certificate.
    whole: bool,
    told: Arc<Stored>,
}

struct Replica {
    process: Process,
    alive: bool,
    back_at: i64,
    wake: i64,
    held_until: i64,
    status: Rc<TrustDomainStatus>,
    attempt: Option<countersign_core::trust::world::Attempt>,
}

/// A run under way.
struct Run<'a> {
    history: History,
    now: i64,
    chance: Chance,
    tally: &'a mut Tally,
    mutant: RootMutant,
    intent: Rc<Intent>,
    domain: ObjectId,
    places: Vec<ObjectId>,
    secrets: BTreeMap<u32, Kept>,
    /// What a person took away and may bring back.
    backup: Option<Kept>,
    status: Rc<TrustDomainStatus>,
    replicas: [Replica; 2],
    api_up: bool,
    may_read: bool,
    next: u64,
}

/// The process died in the middle of a call.
struct Crashed;

/// Runs one schedule.
pub fn run(seed: u64, mutant: RootMutant, tally: &mut Tally) -> Ended {
    let mut run = Run::new(seed, mutant, tally);
    for _ in 0..STEPS {
        run.disturb();
        run.advance();
    }
    run.calm_down()
}

impl<'a> Run<'a> {
    fn new(seed: u64, mutant: RootMutant, tally: &'a mut Tally) -> Self {
        let mut history = History::new(Settings { election: false, lease_seconds: None, ..Settings::default() });
        let domain = history.object(Kind::TrustDomain, "", "prod");
        let places = (1..=3)
            .map(|number| {
                history.object(Kind::Secret, "countersign-system", format!("countersign-ca-prod.example-{number}"))
            })
            .collect();
        let replica = |leader| Replica {
            process: Process { leader, epoch: 0 },
            alive: true,
            back_at: 0,
            wake: START,
            held_until: 0,
            status: Rc::default(),
            attempt: None,
        };
        let mut run = Self {
            history,
            now: START,
            chance: Chance::new(seed),
            tally,
            mutant,
            intent: Rc::new(intent::parse(&object()).unwrap()),
            domain,
            places,
            secrets: BTreeMap::new(),
            backup: None,
            status: Rc::default(),
            replicas: [replica(0), replica(1)],
            api_up: true,
            may_read: true,
            next: 100,
        };
        for leader in 0..2 {
            let process = Process { leader, epoch: 0 };
            run.push(Actor::Operator(process), Event::Process(ProcessChange::Started));
        }
        run.domain_edit(DomainEdit::Spec(Arc::new(spec())));
        run.push(Actor::World, Event::Mark(Mark::FaultsBegin));
        run
    }

    fn push(&mut self, actor: Actor, event: Event) {
        self.history.push(self.now, actor, event);
    }

    fn domain_edit(&mut self, change: DomainEdit) {
        let object = self.domain;
        self.push(Actor::User, Event::Domain(DomainChange { object, uid: DOMAIN, change }));
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn disturb(&mut self) {
        match self.chance.below(14) {
            0 => self.api_up = !self.api_up,
            1 | 2 => self.may_read = !self.may_read,
            3 | 4 => self.lose(),
            5 => self.bring_back(),
            6 => self.break_key(),
            7 | 8 => {
                let leader = self.chance.one_of(&[0, 1]);
                self.kill(leader);
            }
            9 | 10 => {
                let leader = self.chance.one_of(&[0_usize, 1]);
                self.replicas[leader].held_until = self.now + WATCH_LAG;
            }
            11 => self.now += i64::try_from(self.chance.below(3_600)).unwrap(),
            _ => self.replicas.iter_mut().for_each(|replica| replica.wake = self.now),
        }
    }

    /// Somebody deletes the Secret. Only once the status names its authority: before that nobody trusts it, and a root
    /// that nobody trusts is replaced without harm.
    fn lose(&mut self) {
        if self.status.authorities.is_empty() {
            return;
        }
        let Some(kept) = self.secrets.remove(&1) else { return };
        let sent = Preconditions { version: Some(kept.version), uid: Some(kept.uid) };
        self.kube(Actor::User, Verb::Delete, 1, sent, history::Outcome::Deleted, None);
        self.backup = Some(kept);
    }

    fn bring_back(&mut self) {
        let Some(kept) = self.backup.take().filter(|_| !self.secrets.contains_key(&1)) else { return };
        let after = self.fresh();
        let told = kept.told.clone();
        self.secrets.insert(1, Kept { version: after, ..kept });
        let outcome = history::Outcome::Written { before: None, after };
        self.kube(Actor::User, Verb::Create, 1, Preconditions::default(), outcome, Some(told));
    }

    /// The key is overwritten with something else, or mended.
    fn break_key(&mut self) {
        let after = self.fresh();
        let Some(kept) = self.secrets.get_mut(&1) else { return };
        let before = Some(kept.version);
        (kept.version, kept.whole) = (after, !kept.whole);
        let told = kept.told.clone();
        let outcome = history::Outcome::Written { before, after };
        self.kube(Actor::User, Verb::Update, 1, Preconditions::default(), outcome, Some(told));
    }

    fn kill(&mut self, leader: usize) {
        if std::mem::replace(&mut self.replicas[leader].alive, false) {
            self.replicas[leader].back_at = self.now + RESTART;
            let process = self.replicas[leader].process;
            self.push(Actor::Operator(process), Event::Process(ProcessChange::Killed));
        }
    }

    fn advance(&mut self) {
        self.now += i64::try_from(self.chance.below(40)).unwrap();
        self.tick();
    }

    /// Brings back the dead, delivers what is not held, and runs what is due; sometimes the second replica first.
    fn tick(&mut self) {
        for leader in 0..2 {
            let now = self.now;
            let status = self.status.clone();
            let replica = &mut self.replicas[leader];
            if !replica.alive && replica.back_at <= now {
                (replica.alive, replica.wake, replica.held_until, replica.attempt) = (true, now, 0, None);
                replica.process.epoch += 1;
                replica.status = status.clone();
                let process = replica.process;
                self.push(Actor::Operator(process), Event::Process(ProcessChange::Started));
            }
            let replica = &mut self.replicas[leader];
            if replica.held_until <= now {
                replica.status = status;
            }
        }
        let first = usize::try_from(self.chance.below(2)).unwrap();
        for leader in [first, 1 - first] {
            let replica = &self.replicas[leader];
            if replica.alive && replica.wake <= self.now && self.pass(leader).is_err() {
                self.kill(leader);
            }
        }
    }

    fn pass(&mut self, leader: usize) -> Result<(), Crashed> {
        let intent = self.intent.clone();
        let previous = self.replicas[leader].status.clone();
        let mut world = self.observe(leader, &previous)?;
        if self.mutant == RootMutant::WhenUnreadable && matches!(world.secrets, SecretsView::Unread(_)) {
            self.make(leader, 2)?;
        }
        if self.mutant == RootMutant::WhenLost {
            world.memory = Memory::default();
        }
        let now = time(self.now);
        for _ in 0..=MAX_EFFECTS {
            match Trust::decide(&intent, &world, now) {
                Next::Do(effect) => {
                    let reply = self.perform(leader, &effect, &previous)?;
                    world = Trust::absorb(world, reply);
                }
                Next::Settle(settled) => {
                    if let Outcome::Held(failure) = &settled.outcome {
                        self.tally.stopped(failure.reason);
                    }
                    let status = report(&intent, &world, &settled, &previous, now);
                    let wake = settled.wake.map_or(i64::MAX, |wake| wake.as_second().max(self.now + 1));
                    self.replicas[leader].wake = wake.min(self.now + LOOK);
                    self.replicas[leader].attempt = settled.attempt;
                    return if status == *previous { Ok(()) } else { self.write_status(leader, status) };
                }
            }
        }
        let process = self.replicas[leader].process;
        self.push(Actor::Operator(process), Event::Process(ProcessChange::Panicked));
        Ok(())
    }

    fn observe(&mut self, leader: usize, previous: &TrustDomainStatus) -> Result<World, Crashed> {
        let secrets = match self.read(leader, 1)? {
            Ok(view) => SecretsView::Read(view.map(|view| (1, view)).into_iter().collect()),
            Err(failure) => SecretsView::Unread(failure),
        };
        Ok(World {
            namesake: None,
            memory: Memory::of(previous),
            secrets,
            connection: ConnectionView::Usable,
            roots: RootsView::NotAsked,
            complaint: None,
            attempt: self.replicas[leader].attempt.clone(),
            found: Found::default(),
        })
    }

    fn read(&mut self, leader: usize, number: u32) -> Result<Result<Option<SecretView>, Failure>, Crashed> {
        let fault = self.fault(leader, Effects::ReadAuthority)?;
        let answered = self.api_up && !matches!(fault, Fault::Refused | Fault::Lost);
        let kept = self.secrets.get(&number);
        let (outcome, stored, view) = match kept {
            _ if !answered => (history::Outcome::Unavailable, None, Err(unavailable())),
            _ if !self.may_read => {
                let failure = Failure::new(Class::Denied, Reason::PermissionMissing, "the right to read is missing");
                (history::Outcome::Refused(403), None, Err(failure))
            }
            None => (history::Outcome::Absent, None, Ok(None)),
            Some(kept) => (history::Outcome::Found(kept.version), Some(kept.told.clone()), Ok(Some(seen(kept)))),
        };
        let actor = Actor::Operator(self.replicas[leader].process);
        self.kube(actor, Verb::Read, number, Preconditions::default(), outcome, stored);
        self.after(leader, fault)?;
        Ok(view)
    }

    fn perform(&mut self, leader: usize, effect: &Effect, seen: &TrustDomainStatus) -> Result<Reply, Crashed> {
        match effect {
            Effect::MakeAuthority { number, .. } => {
                // The copy of the status may be old: it is asked live whether there was never an authority.
                let is_old = self.status.authorities != seen.authorities;
                if is_old && self.mutant != RootMutant::OfStaleStatus {
                    let failure = Failure::new(Class::Conflict, Reason::WriteConflict, "the status moved on");
                    return Ok(Reply::Failed(failure));
                }
                self.make(leader, *number)
            }
            Effect::ReadAuthority { number, .. } => Ok(match self.read(leader, *number)? {
                Ok(view) => Reply::Kept { number: *number, view },
                Err(failure) => Reply::Failed(failure),
            }),
            Effect::ReadRole { .. } | Effect::ReadIssuers { .. } | Effect::ReadIssuer { .. } => {
                Ok(Reply::Failed(Failure::new(Class::Bug, Reason::InternalError, "there is no mount")))
            }
        }
    }

    /// Makes a key and creates its Secret, unless one is there.
    fn make(&mut self, leader: usize, number: u32) -> Result<Reply, Crashed> {
        let fault = self.fault(leader, Effects::MakeAuthority)?;
        let certificate = Rc::new(authority(self.fresh()));
        let (uid, version) = (Uid(self.fresh()), self.fresh());
        let told = Arc::new(told(uid, &certificate));
        let actor = Actor::Operator(self.replicas[leader].process);
        let (outcome, reply) = if !self.api_up || fault == Fault::Refused {
            (history::Outcome::Unavailable, Reply::Failed(unavailable()))
        } else if let Entry::Vacant(place) = self.secrets.entry(number) {
            place.insert(Kept { uid, version, certificate: certificate.clone(), whole: true, told: told.clone() });
            let certificate = Box::new((*certificate).clone());
            let lost = fault == Fault::Lost;
            let reply = if lost { Reply::Failed(unavailable()) } else { Reply::Made { number, certificate } };
            (history::Outcome::Written { before: None, after: version }, reply)
        } else {
            (history::Outcome::Conflict, Reply::Taken { number })
        };
        let stored = matches!(outcome, history::Outcome::Written { .. }).then_some(told);
        self.kube(actor, Verb::Create, number, Preconditions::default(), outcome, stored);
        self.after(leader, fault)?;
        Ok(reply)
    }

    fn write_status(&mut self, leader: usize, status: TrustDomainStatus) -> Result<(), Crashed> {
        let fault = self.fault(leader, Effects::WriteTrustStatus)?;
        // Written with the version it was decided on: a status from an old copy would erase the pin of the root.
        let moved = !Rc::ptr_eq(&self.replicas[leader].status, &self.status);
        let conflict = moved && self.mutant != RootMutant::OfStaleStatus;
        if !self.api_up || conflict || fault == Fault::Refused {
            self.replicas[leader].wake = self.now + 2;
            return self.after(leader, fault);
        }
        self.status = Rc::new(status);
        if fault == Fault::Lost {
            self.replicas[leader].wake = self.now + 2;
        } else {
            // Who wrote it does not go back behind it, however old its watch.
            self.replicas[leader].status = self.status.clone();
        }
        let known: Vec<_> = self.status.authorities.clone();
        for authority in known {
            let certificate = Certificate::parse_pem(&authority.certificate).unwrap();
            let pair = key_pair(&certificate.leaf.spki);
            let change = DomainEdit::Authority(Authority {
                id: AuthorityId(pair.0),
                key: pair,
                root: Root(pair.0),
                not_after: authority.not_after.0.as_second(),
                state: match authority.state {
                    WireState::Active => AuthorityState::Active,
                    WireState::Draining => AuthorityState::Draining,
                },
            });
            self.domain_edit(change);
        }
        self.after(leader, fault)
    }

    fn kube(
        &mut self,
        actor: Actor,
        verb: Verb,
        number: u32,
        sent: Preconditions,
        outcome: history::Outcome,
        stored: Option<Arc<Stored>>,
    ) {
        let object = self.places[usize::try_from(number).unwrap() - 1];
        let field_manager = Text::from("countersign.dev/trust");
        let request =
            KubeRequest { verb, object, sent, field_manager, force: false, outcome, answer_lost: false, stored };
        self.push(actor, Event::Kube(request));
    }

    fn fault(&mut self, leader: usize, effect: Effects) -> Result<Fault, Crashed> {
        let fault = self.chance.fault();
        self.tally.call(effect, fault);
        if fault == Fault::KilledBefore { self.die(leader) } else { Ok(fault) }
    }

    fn after(&mut self, leader: usize, fault: Fault) -> Result<(), Crashed> {
        if fault == Fault::KilledAfter { self.die(leader) } else { Ok(()) }
    }

    fn die<T>(&mut self, leader: usize) -> Result<T, Crashed> {
        self.kill(leader);
        Err(Crashed)
    }

    /// Brings everything back, lets both replicas look, and expects the authority that was there first.
    fn calm_down(mut self) -> Ended {
        self.chance.faults = false;
        (self.api_up, self.may_read) = (true, true);
        self.bring_back();
        if self.secrets.get(&1).is_some_and(|kept| !kept.whole) {
            self.break_key();
        }
        self.push(Actor::World, Event::Mark(Mark::FaultsEnd));
        for _ in 0..8 {
            self.now += LOOK;
            self.replicas.iter_mut().for_each(|replica| (replica.wake, replica.held_until) = (self.now, 0));
            self.tick();
        }
        self.push(Actor::World, Event::Mark(Mark::End));
        let unsettled = self.unsettled();
        Ended { history: self.history, unsettled, wishes: Vec::new(), rotation: Rotation::First }
    }

    fn unsettled(&self) -> Option<String> {
        let kept = self.secrets.get(&1).map(|kept| kept.certificate.leaf.spki.to_string());
        let active =
            self.status.authorities.iter().find(|one| one.state == WireState::Active).map(|one| one.id.clone());
        let ready = self.status.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let settled = kept.is_some() && kept == active && ready && self.secrets.len() == 1;
        (!settled).then(|| format!("a domain did not become ready: {:?}", self.status.conditions))
    }
}

/// The Secret as the shell reads it.
fn seen(kept: &Kept) -> SecretView {
    if kept.whole {
        SecretView::Authority(Box::new((*kept.certificate).clone()))
    } else {
        let message = "tls.key does not belong to tls.crt";
        SecretView::Unusable(Failure::new(Class::Invalid, Reason::AuthorityLost, message))
    }
}

/// The Secret as the history tells it.
fn told(uid: Uid, certificate: &Certificate) -> Stored {
    let pair = key_pair(&certificate.leaf.spki);
    let leaf = Leaf {
        public_key: pair,
        key_kind: KeyKind::P256,
        spiffe_id: Text::from(""),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        not_before: certificate.leaf.not_before.as_second(),
        not_after: certificate.leaf.not_after.as_second(),
        serial: history::Serial(pair.0),
        authority: AuthorityId(pair.0),
        is_ca: true,
        verifies: true,
    };
    let content = Content { tls_key: Some(pair), tls_crt: Some(Arc::new(leaf)), ..Content::default() };
    Stored { uid: Some(uid), labelled: true, owner_uid: Some(DOMAIN), owner_reference: None, content }
}

/// An authority with a public key of its own.
fn authority(number: u64) -> Certificate {
    static PLACE: OnceLock<(Vec<u8>, usize)> = OnceLock::new();
    let (der, place) = PLACE.get_or_init(|| {
        let der = Certificate::parse_pem(PATTERN).unwrap().der;
        // The uncompressed point of a P-384 key: a BIT STRING of 98 octets without unused bits.
        let point = der.windows(4).position(|octets| octets == [0x03, 0x62, 0x00, 0x04]).unwrap();
        (der, point + 4)
    });
    let mut der = der.clone();
    der[*place..*place + 8].copy_from_slice(&number.to_be_bytes());
    Certificate::parse_der(der).unwrap()
}

fn unavailable() -> Failure {
    Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "the API server does not answer")
}

fn object() -> TrustDomain {
    let spec = TrustDomainSpec {
        name: "prod.example".to_owned(),
        issuer: IssuerSpec { vault: None, embedded: Some(EmbeddedIssuer { key: None, lifetime: None }) },
        defaults: None,
        limits: None,
        allow: Vec::new(),
        suspend: None,
    };
    let mut object = TrustDomain::new("prod", spec);
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.generation = Some(1);
    object
}

fn spec() -> DomainSpec {
    DomainSpec {
        name: "prod.example".into(),
        issuer: Issuer::Embedded,
        ttl: seconds("24h"),
        key: KeyKind::P256,
        short_names: false,
        allow: Vec::new(),
    }
}

/// Every authority has a key of its own, or the promise would be kept by accident.
#[test]
fn authorities_differ_in_their_keys() {
    let pairs: Vec<KeyPair> = (0..3).map(|number| key_pair(&authority(number).leaf.spki)).collect();
    assert!(pairs[0] != pairs[1] && pairs[1] != pairs[2], "{pairs:?}");
}
