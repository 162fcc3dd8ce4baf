//! What an observer knows at one point of a history: the world as it is, and who learnt what when.
//!
//! It judges nothing. [`View::absorb`] takes an entry in; the questions the judges ask are here.

mod absorb;
mod heard;
mod process;

pub use process::{Call, ProcessView, Read, Seen};

use std::collections::BTreeMap;

use super::{lease::Leadership, render::Values};
use crate::history::{
    Actor, Entry, GRACE, Process, SLOTS, Source, Spec, StatusWrite, Stored, VaultState, Version, WATCH_LAG,
};

/// A time before every history.
pub const NEVER: i64 = i64::MIN / 4;
/// How long what was edited may still be acted on as it was.
pub const EDIT_LAG: i64 = GRACE + WATCH_LAG;

/// The process that acted, if it was the operator.
pub fn operator(entry: &Entry) -> Option<Process> {
    match entry.actor {
        Actor::Operator(process) => Some(process),
        Actor::User | Actor::Cluster | Actor::World => None,
    }
}

/// Something that is so or not, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Whether it is.
    pub on: bool,
    /// Since when.
    pub since: i64,
}

impl Flag {
    /// As it was before the history began.
    pub const fn new(on: bool) -> Self {
        Self { on, since: NEVER }
    }

    /// It is so, or not, from now on.
    pub fn set(&mut self, on: bool, now: i64) {
        if self.on != on {
            *self = Self { on, since: now };
        }
    }

    /// Whether it has been `on` for more than so many seconds.
    pub fn lasts(&self, on: bool, now: i64, seconds: i64) -> bool {
        self.on == on && self.since < now - seconds
    }
}

/// Everything an observer knows before an entry.
pub struct View<'h> {
    /// The time of the last entry taken in.
    pub now: i64,
    /// The bindings and their targets.
    pub slots: [Slot<'h>; SLOTS],
    /// Every process that ever was.
    pub processes: Vec<ProcessView<'h>>,
    /// What the server holds.
    pub remote: Vec<Remote<'h>>,
    /// Every version that any process ever read.
    pub known: Vec<Values<'h>>,
    /// What the grants allowed until when; the last is in force.
    pub grants: Vec<(&'h [String], i64)>,
    /// The ServiceAccount exists.
    pub account: Flag,
    /// The connection's server answers as asked.
    pub vault_up: Flag,
    /// How the connection's server answers, and since when.
    pub vault: (VaultState, i64),
    /// The server shows an older state.
    pub lagging: Flag,
    /// The server refuses to show metadata.
    pub metadata_closed: Flag,
    /// The API server answers.
    pub api: Flag,
    /// The fence is in force.
    pub fence: Flag,
    /// The namespace is being deleted.
    pub terminating: Flag,
    /// Faults are being injected.
    pub faults: Flag,
    /// Who leads.
    pub leadership: Leadership,
    /// When the surroundings last changed in any way.
    pub changed: i64,
    /// When anything last changed but time and what the operator does.
    pub last_cause: i64,
    /// When the span in which nothing changes began, while it lasts.
    pub steady: Option<i64>,
}

/// One binding and its target.
pub struct Slot<'h> {
    /// The UID of the binding, while it exists.
    pub alive: Option<u64>,
    /// Every generation of every life of it, in time order.
    pub specs: Vec<SpecVersion<'h>>,
    /// The target as the server holds it, and its resourceVersion.
    pub held: Option<(&'h Stored, u64)>,
    /// Keys that others put into the target or changed there.
    pub foreign: Vec<&'h str>,
    /// When others last wrote or deleted the target, and how often.
    pub meddled: (i64, usize),
    /// When others wrote or deleted the target, if the operator has not written it since.
    pub drifted: Option<i64>,
    /// What the operator last wrote.
    pub written: Option<Written<'h>>,
    /// When any process last looked at the target or wrote it.
    pub looked: i64,
    /// The status as stored.
    pub told: Option<Told<'h>>,
    /// What was last asked for by annotation, and when.
    pub requested: Option<(&'h str, i64)>,
    /// An older binding names the target.
    pub claimed: Flag,
    /// When the binding, or the target by others, last changed, or something was asked for.
    pub stirred: i64,
    /// The same without what was only asked for.
    pub edited: i64,
    /// Since when nothing had happened, when it was last judged whether all is done.
    pub rested: i64,
    /// An edit that no status speaks of yet: its generation, and when it was made.
    pub untold: Option<(i64, i64)>,
}

/// One generation of a spec.
pub struct SpecVersion<'h> {
    /// Of which life of the binding.
    pub uid: u64,
    /// Which.
    pub generation: i64,
    /// When it was current no more; [`i64::MAX`] while it is.
    pub until: i64,
    /// What it says.
    pub spec: &'h Spec,
}

/// The last apply of the operator to a target.
pub struct Written<'h> {
    /// When.
    pub at: i64,
    /// By whom.
    pub process: Process,
    /// Whether the writer heard that it was stored.
    pub is_known: bool,
    /// Of which spec it was a rendering.
    pub generation: Option<i64>,
    /// From which version of each source.
    pub chosen: Vec<Values<'h>>,
}

/// The last stored status.
#[derive(Clone, Copy)]
pub struct Told<'h> {
    /// What it says.
    pub status: &'h StatusWrite,
    /// By whom.
    pub process: Process,
    /// When.
    pub at: i64,
    /// How often in a row the same was said in other words.
    pub repeated: usize,
}

/// A secret as the server holds it.
pub struct Remote<'h> {
    /// Mount and path.
    pub path: &'h str,
    /// Of an engine with versions: each version and its values.
    pub versions: Vec<(&'h Version, &'h BTreeMap<String, String>)>,
    /// Of an engine without: its values.
    pub plain: Option<&'h BTreeMap<String, String>>,
}

impl<'h> View<'h> {
    /// Before anything happened: all is well, and nothing is granted.
    pub fn new() -> Self {
        Self {
            now: NEVER,
            slots: std::array::from_fn(|_| Slot::new()),
            processes: Vec::new(),
            remote: Vec::new(),
            known: Vec::new(),
            grants: Vec::new(),
            account: Flag::new(true),
            vault_up: Flag::new(true),
            vault: (VaultState::Up, NEVER),
            lagging: Flag::new(false),
            metadata_closed: Flag::new(false),
            api: Flag::new(true),
            fence: Flag::new(true),
            terminating: Flag::new(false),
            faults: Flag::new(false),
            leadership: Leadership::default(),
            changed: NEVER,
            last_cause: NEVER,
            steady: None,
        }
    }

    /// What is known of a process.
    pub fn process(&self, process: Process) -> Option<&ProcessView<'h>> {
        self.processes.iter().rev().find(|known| known.process == process)
    }

    /// Since when nothing has been in the operator's way: it is led, the API server answers, no faults are injected.
    pub fn calm_since(&self) -> Option<i64> {
        let led = self.leadership.led_since()?;
        (self.api.on && !self.faults.on).then(|| led.max(self.api.since).max(self.faults.since))
    }

    /// What the server holds at a path.
    pub fn remote(&self, source: &Source) -> Option<&Remote<'h>> {
        self.remote.iter().find(|remote| is_at(remote.path, &source.mount, &source.path))
    }
}

/// Whether `joined` is `<mount>/<path>`.
pub fn is_at(joined: &str, mount: &str, path: &str) -> bool {
    let rest = joined.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/'));
    rest == Some(path)
}

impl<'h> Slot<'h> {
    fn new() -> Self {
        Self {
            alive: None,
            specs: Vec::new(),
            held: None,
            foreign: Vec::new(),
            meddled: (NEVER, 0),
            drifted: None,
            written: None,
            looked: NEVER,
            told: None,
            requested: None,
            claimed: Flag::new(false),
            stirred: NEVER,
            edited: NEVER,
            rested: NEVER,
            untold: None,
        }
    }

    /// The newest generation, while the binding exists.
    pub fn current(&self) -> Option<&SpecVersion<'h>> {
        self.specs.last().filter(|version| version.until == i64::MAX)
    }

    /// Every generation that a process may still act on, the newest first.
    pub fn lately(&self, now: i64) -> impl Iterator<Item = &SpecVersion<'h>> {
        self.specs.iter().rev().take_while(move |version| version.until >= now - EDIT_LAG)
    }

    /// Whether each generation that a process may still act on is suspended.
    pub fn is_suspended(&self, now: i64) -> bool {
        let mut lately = self.lately(now).peekable();
        lately.peek().is_some() && lately.all(|version| version.spec.suspend)
    }

    /// Whether the last stored status says that the newest generation is in the target.
    pub fn is_synced(&self) -> bool {
        use countersign_core::api::ConditionType::{Ready, Synced};
        let (Some(told), Some(current)) = (self.told, self.current()) else { return false };
        told.status.uid == current.uid
            && told.status.observed_generation == current.generation
            && [Ready, Synced].into_iter().all(|kind| super::status::holds(told.status, kind))
    }
}
