//! One process of the operator: it observes the model, runs the real decisions, performs their effects on the model,
//! and remembers only what a real process remembers.
//!
//! Every decision is the operator's own: `Binding::decide`, `absorb`, `report`, the connection's breaker, the life of a
//! token, the leader's fence. What stands here is the shell, with a fault before, in and after every call, and the
//! mutants that show that the checker bites.

mod asking;
mod publish;
mod reads;
mod target;

use std::{collections::BTreeMap, time::Duration};

use countersign_core::{
    api::Reason,
    binding::{
        Binding, decide, gates, hashes,
        intent::Intent,
        reads::{Answer, What},
        report,
        triggers::{self, Trigger},
        world::{Connection, ConnectionView, Effect, Memory, Progress, Reply, Settled, Stored, TargetView, World},
    },
    connection::breaker::Breaker,
    fault::{Class, Failure},
    grants::Grant,
    leader::{Timing, fence},
    next::{MAX_EFFECTS, Machine, Next, jittered},
    value::{kv::RemoteValue, secret_data::SecretBytes},
};

use crate::{
    chance::{Chance, Fault},
    history::{Actor, DRIFT, Event, Process, ProcessChange, SLOTS},
    model::{ConnectionObject, Model, Version, install_key, server::Fields, time},
    mutants::Mutant,
    tally::{Effects, Tally},
};
use asking::Session;

/// After this long a copy that is older than what was written is used anyway.
const PATIENCE: i64 = 30;

/// The process died in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashed;

/// One process.
pub struct Operator {
    /// Which life of which replica.
    pub process: Process,
    /// When the last renewal of the lease was sent; `None` = it does not lead.
    pub renewed_at: Option<i64>,
    /// Its clock minus the servers'.
    pub skew: i64,
    /// Its copy of each binding; the watch may hold back newer ones.
    pub cache: [Option<Version>; SLOTS],
    /// When it looks at each binding again by itself.
    pub wake: [Option<i64>; SLOTS],
    /// When it asks for the server's health again.
    pub next_health: i64,
    /// The connection's controller has made a login to ask by.
    connected: bool,
    started: i64,
    wrote: [Option<(u64, i64)>; SLOTS],
    unpublished: [u32; SLOTS],
    memories: [Option<(u64, Memory)>; SLOTS],
    worlds: [Option<Observed>; SLOTS],
    sessions: BTreeMap<u64, Session>,
    breaker: Breaker,
    unhealthy: u32,
    mounts: Vec<(What, i64, Answer)>,
    answers: Vec<(What, u64, Result<Answer, Failure>)>,
    answers_of: i64,
    /// What the mutants remember of earlier reads, by slot and source.
    last: BTreeMap<(usize, usize, bool), Answer>,
    first_granted: Option<usize>,
}

/// What a process saw last, so that what did not change since need not be built again.
struct Observed {
    uid: u64,
    connection: (usize, ConnectionObject),
    world: World,
}

/// What a pass may use besides the model.
pub struct Surroundings<'a> {
    /// What the connection grants, parsed, by its place.
    pub grants: &'a [Vec<Grant>],
    /// Draws faults.
    pub chance: &'a mut Chance,
    /// Draws what others do between two calls.
    pub others: &'a mut Chance,
    /// Counts what was hit.
    pub tally: &'a mut Tally,
    /// How the shell is broken, if it is.
    pub mutant: Mutant,
}

impl Operator {
    /// A process that has just started.
    pub fn new(process: Process) -> Self {
        Self {
            process,
            renewed_at: None,
            skew: 0,
            cache: [const { None }; SLOTS],
            wake: [None; SLOTS],
            next_health: 0,
            connected: false,
            started: 0,
            wrote: [None; SLOTS],
            unpublished: [0; SLOTS],
            memories: [const { None }; SLOTS],
            worlds: [const { None }; SLOTS],
            sessions: BTreeMap::new(),
            breaker: Breaker::new("connection"),
            unhealthy: 0,
            mounts: Vec::new(),
            answers: Vec::new(),
            answers_of: 0,
            last: BTreeMap::new(),
            first_granted: None,
        }
    }

    /// It leads from now on: what was due before was due to the process before.
    pub fn lead(&mut self, now: i64) {
        self.started = now + self.skew;
        self.wake = [Some(now); SLOTS];
        self.next_health = now;
    }

    fn actor(&self) -> Actor {
        Actor::Operator(self.process)
    }

    /// The election's fence, asked before every write and every call to Vault.
    fn may_act(&self, model: &Model, mutant: Mutant) -> Result<(), Failure> {
        let holds = fence(self.renewed_at.map(monotonic), monotonic(model.now), Timing::default());
        if holds || mutant == Mutant::WritesAfterLostLease {
            return Ok(());
        }
        Err(unavailable(Reason::ApiServerUnavailable, "leadership is in doubt; nothing was sent"))
    }

    /// One pass over one binding.
    ///
    /// # Errors
    /// [`Crashed`] when the process died in it.
    pub fn pass(&mut self, slot: usize, model: &mut Model, around: &mut Surroundings<'_>) -> Result<(), Crashed> {
        self.wake[slot] = None;
        let Some(version) = self.cache[slot].clone() else { return Ok(()) };
        if let Some((wrote, since)) = self.wrote[slot] {
            if version.at < wrote && model.now - since < PATIENCE {
                self.wake[slot] = Some(model.now + 1);
                return Ok(());
            }
            self.wrote[slot] = None;
        }
        let intent = &*version.intent;
        let mut world = self.observe(slot, &version, model, around)?;
        let mut is_counted = false;
        for _ in 0..=MAX_EFFECTS {
            let now = time(model.now + self.skew);
            match Binding::decide(intent, &world, now) {
                Next::Do(effect) => {
                    if !is_counted {
                        is_counted = true;
                        around.tally.trigger(cause(intent, &world, &effect));
                    }
                    let reply = self.perform(slot, effect, &world, model, around)?;
                    world = Binding::absorb(world, reply);
                }
                Next::Settle(settled) => return self.settle(slot, &version, world, settled, model, around),
            }
        }
        model.push(self.actor(), Event::Process(ProcessChange::Panicked));
        Ok(())
    }

    fn settle(
        &mut self,
        slot: usize,
        version: &Version,
        world: World,
        settled: Settled,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Crashed> {
        let (intent, previous) = (&*version.intent, &*version.status);
        around.tally.settled(&settled);
        let now = time(model.now + self.skew);
        let mut status = report::report(intent, &world, &settled, previous, now);
        self.mutate_status(slot, &mut status, &world, around.mutant);
        self.tell(previous, &status, &settled, model, around.mutant);
        let connection = (self.granted(model, around.mutant), model.connection);
        let doubted = world.memory.clone().in_doubt();
        self.worlds[slot] = Some(Observed { uid: version.uid, connection, world });
        if status != *previous || around.mutant == Mutant::StatusEachPass {
            let published = self.write_status(slot, version, status, model, around)?;
            if let Err(failure) = published {
                self.unpublished[slot] += 1;
                self.memories[slot] = Some((version.uid, doubted));
                let wait = failure.backoff(self.unpublished[slot], &intent.uid);
                self.wake[slot] = Some(model.now + seconds(wait).max(1));
                return Ok(());
            }
        }
        self.unpublished[slot] = 0;
        // Only now: what was found and could not be said is looked at again.
        let asks_again = around.mutant == Mutant::RequestForgotten && intent.requested.is_some();
        self.memories[slot] = Some((version.uid, settled.memory));
        let drift = Duration::from_secs(DRIFT.unsigned_abs()).mul_f64(5.0 / 6.0);
        let drift = model.now + seconds(jittered(drift, &intent.uid));
        let wake = settled.wake.map(|wake| (wake.as_second() - self.skew).max(model.now + 1));
        let wake = if asks_again { Some(model.now + 10) } else { wake };
        self.wake[slot] = (!intent.suspended).then(|| wake.map_or(drift, |wake| wake.min(drift)));
        Ok(())
    }

    fn observe(
        &mut self,
        slot: usize,
        version: &Version,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<World, Crashed> {
        let before = self.worlds[slot].take().filter(|before| before.uid == version.uid);
        let known = before.as_ref().map(|before| &before.world.target);
        // Read before anything else is looked at: what follows must not be older than the Secret.
        let target = if model.fence {
            self.read_target(slot, known, model, around)?
        } else {
            let words = "the Secret was not looked at: the fence is not in force";
            Some(TargetView::Unread(Failure::new(Class::Waiting, Reason::FenceMissing, words)))
        };
        let granted = self.granted(model, around.mutant);
        let connection = (granted, model.connection);
        let mut world = match before {
            Some(before) if before.connection == connection => before.world,
            Some(before) => World { connection: self.connection(granted, model, around), ..before.world },
            None => World { connection: self.connection(granted, model, around), ..nothing_seen() },
        };
        world.terminating = model.terminating;
        if let ConnectionView::Known(connection) = &mut world.connection {
            let refusal = self.breaker.refusal(monotonic(model.now));
            connection.outage = if self.connected { refusal } else { Some(not_ready()) };
        }
        world.account_exists = model.account.is_some();
        world.claimed_by = (model.slots[slot].claimed && around.mutant != Mutant::ClaimIgnored)
            .then(|| "SecretBinding/older".to_owned());
        world.fenced = model.fence;
        if let Some(target) = target {
            world.target = target;
        }
        if around.mutant == Mutant::LaggingBelieved
            && let TargetView::Present(stored) = &mut world.target
        {
            stored.origin = None;
        }
        if around.mutant == Mutant::OtherOwnerTaken
            && let TargetView::Present(stored) = &mut world.target
        {
            stored.owner_uid = Some(version.intent.uid.clone());
        }
        world.memory = self.recall(slot, version, around.mutant);
        world.progress = Progress::default();
        Ok(world)
    }

    /// What the connection grants, as this process knows it.
    fn granted(&mut self, model: &Model, mutant: Mutant) -> usize {
        let first = *self.first_granted.get_or_insert(model.granted);
        if mutant == Mutant::GrantNotSeen { first } else { model.granted }
    }

    fn connection(&self, granted: usize, model: &Model, around: &Surroundings<'_>) -> ConnectionView {
        let ConnectionObject { generation, ready_since } = model.connection;
        ConnectionView::Known(Box::new(Connection {
            uid: "c0".to_owned(),
            grants: around.grants[granted].clone(),
            takes_accounts: true,
            login: None,
            outage: None,
            revision: format!("{generation} {}", ready_since.map(|since| since.to_string()).unwrap_or_default()),
        }))
    }

    fn recall(&self, slot: usize, version: &Version, mutant: Mutant) -> Memory {
        let known = self.memories[slot].as_ref().filter(|(uid, _)| *uid == version.uid);
        let status = &version.status;
        let mut memory = known.map_or_else(
            || {
                let started = if mutant == Mutant::EverythingAtStart { 0 } else { self.started };
                Memory::from_status(&version.intent, status, time(started))
            },
            |(_, memory)| memory.clone(),
        );
        match mutant {
            Mutant::NeverDue => memory.checked = jiff::Timestamp::MAX,
            Mutant::RequestForgotten => (memory.handled, memory.last) = (None, None),
            _ => {}
        }
        memory
    }

    fn perform(
        &mut self,
        slot: usize,
        effect: Effect,
        world: &World,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Crashed> {
        match effect {
            Effect::Read { reads, fresh } => {
                if around.mutant == Mutant::LoginPerRefresh {
                    self.sessions.values_mut().for_each(Session::forget);
                }
                let mut answers = Vec::with_capacity(reads.len());
                for read in reads {
                    let answer = self.read(slot, &read, fresh, model, around)?;
                    let source = self.cache[slot].as_ref().and_then(|version| version.intent.sources.get(read.source));
                    let is_pinned = source.is_some_and(|source| source.kind.is_pinned());
                    answers.push((read.source, self.mutate_answer(slot, &read, is_pinned, answer, model, around)?));
                }
                Ok(Reply::Read(answers))
            }
            Effect::Write(write) => self.write(slot, write, world, model, around),
        }
    }

    /// Draws the fault of a call and dies before it if that is the fault. A refresh is many calls, so most are spared.
    fn fault(
        &self,
        slot: usize,
        effect: Effects,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Fault, Crashed> {
        if around.chance.faults && around.others.below(48) == 0 {
            let kind = around.others.below(12);
            model.meanwhile(slot, kind);
        }
        let spared = !around.chance.faults || around.chance.below(3) > 0;
        let fault = if spared { Fault::None } else { around.chance.fault() };
        around.tally.call(effect, fault);
        if fault == Fault::KilledBefore {
            return self.die(model);
        }
        Ok(fault)
    }

    fn after(&self, fault: Fault, model: &mut Model) -> Result<(), Crashed> {
        if fault == Fault::KilledAfter { self.die(model) } else { Ok(()) }
    }

    fn die<T>(&self, model: &mut Model) -> Result<T, Crashed> {
        model.push(self.actor(), Event::Process(ProcessChange::Killed));
        Err(Crashed)
    }
}

/// Why the first effect of a pass was named: the decision does not say, but its first trigger can be asked again.
fn cause(intent: &Intent, world: &World, effect: &Effect) -> Trigger {
    // A refresh that time alone asks for is the only one that may be shared.
    let (Ok(key), false) = (&world.key, matches!(effect, Effect::Read { fresh: false, .. })) else {
        return Trigger::RefreshDue;
    };
    let admitted = gates::check(intent, world).unwrap();
    let rendering = hashes::rendering(intent, &admitted);
    let phase = decide::phase(intent, &admitted);
    triggers::first(intent, world, key, &rendering, phase, jiff::Timestamp::MIN).unwrap_or(Trigger::RefreshDue)
}

/// Nothing was looked at yet.
fn nothing_seen() -> World {
    World {
        labels: BTreeMap::new(),
        terminating: false,
        longer_namespaces: Vec::new(),
        connection: ConnectionView::Missing,
        account_exists: false,
        claimed_by: None,
        fenced: false,
        key: Ok(install_key()),
        target: TargetView::Absent,
        memory: Memory {
            checked: jiff::Timestamp::UNIX_EPOCH,
            handled: None,
            last: None,
            went_back: None,
            told: false,
        },
        progress: Progress::default(),
    }
}

/// Nobody can be asked by the connection yet.
fn not_ready() -> Failure {
    Failure::new(Class::Waiting, Reason::ConnectionNotReady, "connection main is not ready")
}

fn unavailable(reason: Reason, what: &str) -> Failure {
    Failure::new(Class::Unavailable, reason, what)
}

fn monotonic(at: i64) -> Duration {
    Duration::from_secs(u64::try_from(at).unwrap())
}

fn seconds(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis().div_ceil(1_000)).unwrap()
}

/// Whether this is what stands there at a version.
fn is_at(stored: &Stored, version: u64) -> bool {
    stored.resource_version.parse() == Ok(version)
}

/// The values of a version, as plain text.
fn remote_values(fields: &Fields) -> BTreeMap<String, RemoteValue> {
    let one = |(key, text): (&String, &String)| (key.clone(), RemoteValue::Text(SecretBytes::from(text.clone())));
    fields.iter().map(one).collect()
}
