//! One run: two replicas, two bindings, a person who edits, surroundings that fail, and then calm. Everything is drawn
//! from the seed, so a seed is a run.

mod calm;
mod disturb;
mod specs;

use std::{rc::Rc, sync::Arc};

pub use calm::{Ended, undisturbed};
use countersign_core::{
    api::{ConnectionGrant, GrantedIdentity, NamespaceSelector},
    grants::{self, Grant},
};

use crate::{
    chance::Chance,
    election::{Turn, turn},
    history::{
        Actor, BindingEdit, Event, LEASE_SECONDS, LeaseChange, Mark, NAMESPACE, Process, ProcessChange, SLOTS, Spec,
        VaultState, WorldChange,
    },
    model::{
        GRANTS, Model, Version,
        server::{PLACES, new_fields},
    },
    mutants::Mutant,
    operator::{Operator, Surroundings},
    tally::Tally,
};
use specs::parsed;

/// Steps of disturbance.
const STEPS: u64 = 20;
/// A run starts here: no time of it is before the epoch.
const START: i64 = 1_000_000;
/// A dead replica is back after this long.
const RESTART: i64 = 5;

/// A run under way.
pub struct Run<'a> {
    model: Model,
    replicas: [Replica; 2],
    chance: Chance,
    others: Chance,
    tally: &'a mut Tally,
    grants: Rc<[Vec<Grant>]>,
    mutant: Mutant,
    holder: Option<usize>,
    renewed_at: i64,
}

struct Replica {
    operator: Option<Operator>,
    epoch: u32,
    paused_until: i64,
    back_at: i64,
    held_until: i64,
    /// Its clock minus the servers'.
    skew: i64,
}

thread_local! {
    /// Parsed once: every run grants the same.
    static PARSED: Rc<[Vec<Grant>]> = GRANTS.iter().map(|paths| parsed_grants(paths)).collect();
}

fn parsed_grants(paths: &[&str]) -> Vec<Grant> {
    if paths.is_empty() {
        return Vec::new();
    }
    let grant = ConnectionGrant {
        namespaces: NamespaceSelector { names: Some(vec![NAMESPACE.to_owned()]), match_labels: None, all: None },
        as_: GrantedIdentity::ServiceAccount,
        role: Some("tenant".to_owned()),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        secret_types: Vec::new(),
        all: None,
    };
    grants::parse(&[grant]).unwrap()
}

/// Runs one schedule.
pub fn run(seed: u64, mutant: Mutant, tally: &mut Tally) -> Ended {
    let mut run = Run::new(seed, START, mutant, tally);
    run.begin();
    for slot in 0..SLOTS {
        let spec = specs::new_spec(&mut run.chance);
        run.create(slot, spec);
    }
    run.elect();
    for _ in 0..STEPS {
        run.disturb();
        run.advance_to_next();
    }
    run.calm_down()
}

impl<'a> Run<'a> {
    fn new(seed: u64, start: i64, mutant: Mutant, tally: &'a mut Tally) -> Self {
        let replica = |leader| Replica {
            operator: Some(Operator::new(Process { leader, epoch: 0 })),
            epoch: 0,
            paused_until: 0,
            back_at: 0,
            held_until: 0,
            skew: 0,
        };
        Self {
            model: Model::new(start),
            replicas: [replica(0), replica(1)],
            chance: Chance::new(seed),
            others: Chance::second(seed),
            tally,
            grants: PARSED.with(Rc::clone),
            mutant,
            holder: None,
            renewed_at: start - LEASE_SECONDS,
        }
    }

    /// The world as it is when the operator starts.
    fn begin(&mut self) {
        self.surroundings();
        for place in 0..PLACES.len() {
            let fields = new_fields(self.model.fresh(), self.chance.below(2) == 0);
            let change = self.model.server.put(place, fields, self.model.now, None);
            self.world(change);
        }
        self.processes();
        self.model.push(Actor::World, Event::Mark(Mark::FaultsBegin));
    }

    /// Tells how everything around is.
    fn surroundings(&mut self) {
        self.world(WorldChange::ApiServer(true));
        self.world(WorldChange::Fence(true));
        self.world(WorldChange::Terminating(false));
        self.world(WorldChange::Account(true));
        self.world(WorldChange::Vault(VaultState::Up));
        self.world(WorldChange::Lagging(false));
        self.world(WorldChange::MetadataClosed(false));
        self.tell_grants();
    }

    fn processes(&mut self) {
        for leader in 0..2 {
            self.model.push(Actor::Operator(Process { leader, epoch: 0 }), Event::Process(ProcessChange::Started));
        }
    }

    fn world(&mut self, change: WorldChange) {
        self.model.push(Actor::World, Event::World(change));
    }

    fn tell_grants(&mut self) {
        let paths = GRANTS[self.model.granted].iter().map(|path| (*path).to_owned());
        self.world(WorldChange::Granted(paths.collect()));
    }

    fn user(&mut self, slot: usize, uid: u64, change: BindingEdit) {
        self.model.push(Actor::User, Event::Binding { slot, uid, change });
    }

    fn create(&mut self, slot: usize, spec: Spec) {
        let (uid, at) = (self.model.fresh(), self.model.fresh());
        let spec = Arc::new(spec);
        let intent = parsed(slot, &spec, uid, 1, None);
        self.model.slots[slot].binding = Some(Version { spec: spec.clone(), intent, status: Rc::default(), uid, at });
        self.user(slot, uid, BindingEdit::Spec { generation: 1, spec });
        self.deliver(slot);
    }

    fn edit(&mut self, slot: usize, change: impl FnOnce(&mut Spec)) {
        let Some(binding) = self.model.slots[slot].binding.clone() else { return };
        let mut spec = (*binding.spec).clone();
        change(&mut spec);
        if spec == *binding.spec || spec.entries.is_empty() {
            return;
        }
        let (spec, at, uid) = (Arc::new(spec), self.model.fresh(), binding.uid);
        let generation = binding.intent.generation + 1;
        let intent = parsed(slot, &spec, uid, generation, binding.intent.requested.clone());
        self.model.slots[slot].binding = Some(Version { spec: spec.clone(), intent, at, ..binding });
        self.user(slot, uid, BindingEdit::Spec { generation, spec });
        self.deliver(slot);
    }

    fn request(&mut self, slot: usize) {
        let at = self.model.fresh();
        let Some(binding) = self.model.slots[slot].binding.clone() else { return };
        let value = format!("at {at}");
        let (uid, generation) = (binding.uid, binding.intent.generation);
        let intent = parsed(slot, &binding.spec, uid, generation, Some(value.clone()));
        self.model.slots[slot].binding = Some(Version { intent, at, ..binding });
        self.user(slot, uid, BindingEdit::Requested(value));
        self.deliver(slot);
    }

    fn deliver(&mut self, slot: usize) {
        let newest = &self.model.slots[slot].binding;
        for replica in &mut self.replicas {
            let Some(operator) = replica.operator.as_mut().filter(|_| replica.held_until <= self.model.now) else {
                continue;
            };
            let known = &operator.cache[slot];
            if known.as_ref().map(|known| known.at) == newest.as_ref().map(|newest| newest.at) {
                continue;
            }
            // A new status wakes nobody: the watch of the real operator tells a change by spec and request.
            let is_news = match (known, newest) {
                (Some(known), Some(newest)) => !Rc::ptr_eq(&known.intent, &newest.intent),
                _ => true,
            };
            operator.cache[slot] = newest.clone();
            if is_news {
                operator.wake[slot] = Some(self.model.now);
            }
        }
    }

    fn wake_all(&mut self) {
        for operator in self.replicas.iter_mut().filter_map(|replica| replica.operator.as_mut()) {
            operator.wake = [Some(self.model.now); SLOTS];
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
        match turn(self.holder, now - self.renewed_at, LEASE_SECONDS, self.model.api_up, works) {
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
        let is_new = operator.renewed_at.is_none();
        operator.renewed_at = Some(now);
        self.model.push(Actor::Operator(operator.process), Event::Lease(change));
        if is_new {
            operator.lead(now);
            // Its passes over the bindings may come before the one over their connection.
            operator.next_health += i64::from(self.chance.faults && self.others.below(3) == 0);
        }
    }

    /// A replica is told to end: it gives the lease up, so that the other need not wait for it.
    fn stop(&mut self, leader: usize) {
        let Some(operator) = &self.replicas[leader].operator else { return };
        let actor = Actor::Operator(operator.process);
        if self.holder == Some(leader) && self.model.api_up && self.replicas[leader].paused_until <= self.model.now {
            self.model.push(actor, Event::Lease(LeaseChange::Released));
            self.renewed_at = self.model.now - LEASE_SECONDS;
            self.step_down(leader);
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
        let mut operator = Operator::new(process);
        operator.skew = replica.skew;
        replica.operator = Some(operator);
        self.model.push(Actor::Operator(process), Event::Process(ProcessChange::Started));
        if self.holder == Some(leader) {
            // The new life does not hold what the old one held: it has to wait for it like anybody.
            self.holder = None;
        }
        (0..SLOTS).for_each(|slot| self.deliver(slot));
    }

    fn advance(&mut self, seconds: i64) {
        let end = self.model.now + seconds;
        while self.model.now < end {
            // Long ways are walked in steps, so that the lease is renewed and due passes run in time.
            let wake = self.next_wake().unwrap_or(i64::MAX).max(self.model.now + 1);
            let leads = self.holder.is_some_and(|holder| self.replicas[holder].operator.is_some());
            let step = if leads && self.model.api_up { 3_600 } else { 5 };
            self.model.now = end.min(wake).min(self.model.now + step);
            self.tick();
        }
    }

    fn next_wake(&self) -> Option<i64> {
        let operator = self.replicas[self.holder?].operator.as_ref()?;
        let health = operator.watches_health(&self.model).then_some(operator.next_health);
        operator.wake.iter().flatten().copied().chain(health).min()
    }

    fn advance_to_next(&mut self) {
        let wake = self.next_wake().map_or(1, |wake| wake - self.model.now);
        self.model.now += wake.clamp(0, 60);
        self.tick();
    }

    /// Renews what a running process renewed meanwhile, then runs what is due.
    fn tick(&mut self) {
        let now = self.model.now;
        if let Some(holder) = self.holder
            && self.replicas[holder].operator.is_some()
            && self.replicas[holder].paused_until <= now
            && self.model.api_up
            && now - self.renewed_at >= LEASE_SECONDS
        {
            // It renewed every five seconds on the way here.
            self.renewed_at = now;
        }
        self.elect();
        (0..SLOTS).for_each(|slot| self.deliver(slot));
        self.health();
        for leader in 0..2 {
            for slot in 0..SLOTS {
                self.pass(leader, slot);
            }
        }
    }

    /// What the controller of the connection does meanwhile; nothing where the server is well and known to be.
    fn health(&mut self) {
        let now = self.model.now;
        let Some(holder) = self.holder.filter(|holder| self.replicas[*holder].paused_until <= now) else { return };
        let Some(operator) = self.replicas[holder].operator.as_mut() else { return };
        if !operator.watches_health(&self.model) {
            // It was asked once a minute on the way here, and was well.
            operator.next_health = operator.next_health.max((now / 60 + 1) * 60);
        } else if operator.next_health <= now && operator.look_at_health(&mut self.model) {
            self.wake_all();
        }
    }

    fn pass(&mut self, leader: usize, slot: usize) {
        let forgets_the_lease = self.mutant == Mutant::WritesAfterLostLease;
        if self.holder != Some(leader) && !forgets_the_lease {
            return;
        }
        let now = self.model.now;
        let replica = &mut self.replicas[leader];
        if replica.paused_until > now {
            return;
        }
        let Some(operator) = replica.operator.as_mut() else { return };
        if operator.renewed_at.is_none() || operator.wake[slot].is_none_or(|wake| wake > now) {
            return;
        }
        let mut around = Surroundings {
            grants: &self.grants,
            chance: &mut self.chance,
            others: &mut self.others,
            tally: self.tally,
            mutant: self.mutant,
        };
        if operator.pass(slot, &mut self.model, &mut around).is_err() {
            replica.operator = None;
            replica.back_at = now + RESTART;
        }
        self.deliver(slot);
    }
}
