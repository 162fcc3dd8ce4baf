//! The end of a run: everything is mended, the operator has its time, and then nothing may happen any more.

use std::rc::Rc;

use countersign_core::api::{ConditionType, RefreshMode};

use super::{Run, specs};
use crate::{
    history::{Actor, BindingEdit, Event, History, Mark, SLOTS},
    model::{
        OPAQUE, Version,
        server::{PLACES, State},
    },
    mutants::Mutant,
    tally::Tally,
};

/// The longest time between two refreshes.
const LONGEST_EVERY: i64 = 900;
/// The longest back-off, the longest time between two refreshes, and some more.
const SETTLES_WITHIN: i64 = 3_600 + LONGEST_EVERY + 200;
/// Twice the longest time between two refreshes, and some more.
const STEADY: i64 = 2 * LONGEST_EVERY + 60;

/// What is left of a run.
pub struct Ended {
    /// What was seen.
    pub history: History,
    /// Why the calm end is not what it should be, if so.
    pub unsettled: Option<String>,
    wishes: Vec<Version>,
    contents: State,
    now: i64,
}

/// What the same wishes come to when nothing is in the way.
pub fn undisturbed(ended: &Ended) -> History {
    let mut tally = Tally::default();
    let mut run = Run::new(0, ended.now, Mutant::None, &mut tally);
    run.chance.faults = false;
    run.surroundings();
    run.model.server.held = ended.contents.clone();
    run.tell_contents();
    run.processes();
    for (slot, wish) in ended.wishes.iter().enumerate() {
        let (uid, at) = (run.model.fresh(), run.model.fresh());
        let (generation, requested) = (wish.intent.generation, wish.intent.requested.clone());
        let intent = super::parsed(slot, &wish.spec, uid, generation, requested.clone());
        let spec = wish.spec.clone();
        run.model.slots[slot].binding = Some(Version { spec: spec.clone(), intent, status: Rc::default(), uid, at });
        run.user(slot, uid, BindingEdit::Spec { generation, spec });
        if let Some(requested) = requested {
            run.user(slot, uid, BindingEdit::Requested(requested));
        }
        run.deliver(slot);
    }
    run.elect();
    run.model.push(Actor::World, Event::Mark(Mark::FaultsEnd));
    run.tick();
    run.advance(120);
    run.model.push(Actor::World, Event::Mark(Mark::End));
    run.model.history
}

impl Run<'_> {
    /// Mends everything, lets the operator work, and then expects silence.
    pub(super) fn calm_down(mut self) -> Ended {
        self.chance.faults = false;
        self.mend_some();
        self.restore();
        for replica in &mut self.replicas {
            (replica.held_until, replica.paused_until) = (0, 0);
        }
        for slot in 0..SLOTS {
            self.clear_target(slot);
            self.edit(slot, specs::whole);
        }
        self.wake_all();
        self.model.push(Actor::World, Event::Mark(Mark::FaultsEnd));
        self.tick();
        self.advance(SETTLES_WITHIN);
        let unsettled = self.unsettled().or_else(|| self.brings_news());
        // Whoever takes over has nothing to read but what falls due.
        if self.chance.below(2) == 0
            && let Some(holder) = self.holder
        {
            self.kill(holder);
            let wait = i64::try_from(self.chance.below(60)).unwrap();
            self.advance(wait);
        }
        self.model.push(Actor::World, Event::Mark(Mark::SteadyBegins));
        self.advance(STEADY);
        self.model.push(Actor::World, Event::Mark(Mark::SteadyEnds));
        self.model.push(Actor::World, Event::Mark(Mark::End));
        let Self { model, .. } = self;
        let wishes = model.slots.into_iter().filter_map(|slot| slot.binding).collect();
        Ended { history: model.history, unsettled, wishes, contents: model.server.held, now: model.now }
    }

    /// With nothing in the way, a new version is in every Secret that is refreshed by time, within that time.
    fn brings_news(&mut self) -> Option<String> {
        let mode_of = |run: &Self, slot: usize| run.model.slots[slot].binding.as_ref().map(|one| one.spec.mode);
        if (0..SLOTS).any(|slot| mode_of(self, slot) != Some(RefreshMode::Auto)) {
            return None;
        }
        let place = usize::try_from(self.chance.below(PLACES.len() as u64)).unwrap();
        let change = self.put(place);
        self.world(change);
        self.advance(LONGEST_EVERY + 40);
        let (version, fields) = self.model.server.current(place)?.clone();
        let number = PLACES[place].2.then_some(version.number);
        let (mount, path, _) = PLACES[place];
        let is_late = self.model.slots.iter().any(|slot| {
            let (Some(binding), Some(secret)) = (slot.binding.as_ref(), slot.secret.as_ref()) else { return true };
            binding.spec.sources.iter().filter(|source| source.mount == mount && source.path == path).any(|source| {
                let told = binding.status.sources.iter().find(|told| told.name == source.name);
                let holds = |value: &String| secret.told.data.values().any(|stored| stored == value);
                told.is_none_or(|told| told.version != number) || !fields.values().all(holds)
            })
        });
        is_late.then(|| format!("a new version of {mount}/{path} did not arrive"))
    }

    /// A person makes room where the operator must not: it never deletes what is not its own.
    fn clear_target(&mut self, slot: usize) {
        let here = &self.model.slots[slot];
        let uid = here.binding.as_ref().map(|binding| binding.uid);
        let stands = here.secret.as_ref().is_some_and(|secret| {
            let told = &secret.told;
            told.owner_uid != uid || !told.labelled || told.immutable || told.type_ != OPAQUE
        });
        if stands {
            self.model.others_delete(Actor::User, slot);
        }
    }

    fn unsettled(&self) -> Option<String> {
        self.model.slots.iter().filter_map(|slot| slot.binding.as_ref()).find_map(|binding| {
            let status = &binding.status;
            let ready = ConditionType::Ready.name();
            let is_ready = status.conditions.iter().any(|one| one.type_ == ready && one.status == "True");
            let is_current = status.observed_generation == Some(binding.intent.generation);
            let reasons: Vec<_> =
                status.conditions.iter().map(|one| format!("{}={}/{}", one.type_, one.status, one.reason)).collect();
            (!is_ready || !is_current).then(|| format!("a binding did not become ready: {reasons:?}"))
        })
    }
}
