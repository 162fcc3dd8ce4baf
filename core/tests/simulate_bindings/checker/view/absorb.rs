//! How a view takes an entry in.

use super::{
    super::{content, status::says_the_same},
    Flag, NEVER, ProcessView, Remote, Seen, SpecVersion, Told, View, Written, operator,
};
use crate::history::{
    self, BindingEdit, Entry, Event, Mark, Outcome, Process, ProcessChange, SecretRequest, StatusWrite, VaultState,
    Verb, WorldChange,
};

impl<'h> View<'h> {
    /// Takes in what happened.
    pub fn absorb(&mut self, entry: &'h Entry) {
        self.now = entry.at;
        let process = operator(entry);
        match &entry.event {
            Event::Secret(request) => self.secret(entry, request),
            Event::Status(write) => {
                if let Some(process) = process {
                    self.status(process, write);
                }
            }
            Event::Vault(request) => {
                if let Some(process) = process {
                    self.vault(process, request);
                }
            }
            Event::Binding { slot, uid, change } => self.binding(*slot, *uid, change),
            Event::World(change) => self.world(change),
            Event::Lease(change) => {
                if let Some(process) = process {
                    self.leadership.lease(process, *change, self.now);
                    if *change != history::LeaseChange::Renewed {
                        self.last_cause = self.now;
                    }
                }
            }
            Event::Process(change) => {
                if let Some(process) = process {
                    self.leadership.process(process, *change);
                    if *change == ProcessChange::Started {
                        self.processes.push(ProcessView::new(process, self.now));
                    }
                }
                self.last_cause = self.now;
            }
            Event::Text(_) => {}
            Event::Mark(mark) => self.mark(*mark),
        }
    }

    fn mark(&mut self, mark: Mark) {
        match mark {
            Mark::FaultsBegin | Mark::FaultsEnd => {
                self.faults = Flag { on: mark == Mark::FaultsBegin, since: self.now };
                self.last_cause = self.now;
            }
            Mark::SteadyBegins => {
                self.steady = Some(self.now);
                self.processes.iter_mut().for_each(|process| process.steady_logins = 0);
            }
            Mark::SteadyEnds => self.steady = None,
            Mark::End => {}
        }
    }

    /// The place of a process among those known.
    pub(super) fn index(&mut self, process: Process) -> usize {
        if let Some(known) = self.processes.iter().rposition(|known| known.process == process) {
            return known;
        }
        self.processes.push(ProcessView::new(process, NEVER));
        self.processes.len() - 1
    }

    fn secret(&mut self, entry: &'h Entry, request: &'h SecretRequest) {
        let now = self.now;
        let actor = operator(entry);
        let is_apply = request.verb == Verb::Apply;
        let written = match (actor, request.outcome) {
            (Some(process), Outcome::Written { .. }) if is_apply => {
                let stored = request.stored.as_deref();
                let found = stored.and_then(|after| content::explained(self, now, process, request.slot, after, true));
                let (generation, chosen) = match found {
                    Some((version, chosen)) => (Some(version.generation), chosen),
                    None => (None, Vec::new()),
                };
                Some(Written { at: now, process, is_known: !request.answer_lost, generation, chosen })
            }
            _ => None,
        };
        let index = actor.map(|process| self.index(process));
        let slot = &mut self.slots[request.slot];
        let before = slot.held.map(|(stored, _)| stored);
        match request.outcome {
            Outcome::Written { after, .. } => slot.held = request.stored.as_deref().map(|stored| (stored, after)),
            Outcome::Deleted => slot.held = None,
            _ => {}
        }
        let has_acted = matches!(request.outcome, Outcome::Written { .. } | Outcome::Deleted);
        let Some(index) = index else {
            if has_acted {
                slot.meddled = (now, slot.meddled.1 + 1);
                // What fails anyway is tried again at its own time.
                slot.drifted = slot.is_synced().then_some(now);
                (slot.stirred, slot.edited) = (now, now);
                self.last_cause = now;
                let after = slot.held.map(|(stored, _)| stored);
                let differs =
                    |key: &str| before.and_then(|one| one.data.get(key)) != after.and_then(|one| one.data.get(key));
                let keys = after.iter().flat_map(|stored| stored.data.keys());
                for key in keys.filter(|key| differs(key)) {
                    if !slot.foreign.contains(&key.as_str()) {
                        slot.foreign.push(key);
                    }
                }
                slot.foreign.retain(|key| after.is_some_and(|stored| stored.data.contains_key(*key)));
            }
            return;
        };
        if has_acted {
            let after = slot.held.map(|(stored, _)| stored);
            let same = |key: &str| before.and_then(|one| one.data.get(key)) == after.and_then(|one| one.data.get(key));
            slot.foreign.retain(|key| same(key));
        }
        if let Some(written) = written {
            (slot.written, slot.drifted) = (Some(written), None);
        }
        let is_answered = !request.answer_lost && request.outcome != Outcome::Unavailable;
        if is_answered {
            slot.looked = now;
        }
        let held = slot.held;
        let own = &mut self.processes[index].slots[request.slot];
        let is_fine = match request.outcome {
            Outcome::Found(version) | Outcome::Written { after: version, .. } => {
                own.seen = held.map_or(Seen::Unknown, |(stored, _)| Seen::There(stored));
                if !request.answer_lost && !own.versions.contains(&version) {
                    own.versions.push(version);
                }
                true
            }
            Outcome::Absent | Outcome::Deleted => {
                own.seen = Seen::Absent;
                true
            }
            Outcome::Conflict | Outcome::Refused(_) | Outcome::Unavailable => false,
        };
        if request.answer_lost || (request.verb != Verb::Read && request.outcome == Outcome::Unavailable) {
            own.seen = Seen::Unknown;
        }
        own.seen_at = now;
        if !is_fine || request.answer_lost {
            own.failed = now;
            own.tripped = now;
        }
    }

    fn status(&mut self, process: Process, write: &'h StatusWrite) {
        let now = self.now;
        let index = self.index(process);
        let slot = &mut self.slots[write.slot];
        let own = &mut self.processes[index].slots[write.slot];
        let is_stored = matches!(write.outcome, Outcome::Written { .. });
        if !is_stored || write.answer_lost {
            own.failed = now;
            own.tripped = now;
        }
        if is_stored {
            let changed = slot.stirred.max(self.changed).max(slot.written.as_ref().map_or(NEVER, |written| written.at));
            let repeats = slot.told.is_some_and(|told| changed < told.at && says_the_same(told.status, write));
            let repeated = slot.told.filter(|_| repeats).map_or(0, |told| told.repeated + 1);
            slot.told = Some(Told { status: write, process, at: now, repeated });
            let is_told = |(generation, _): (i64, i64)| write.observed_generation >= generation;
            if slot.alive == Some(write.uid) && slot.untold.is_some_and(is_told) {
                slot.untold = None;
            }
        }
    }

    fn binding(&mut self, slot: usize, uid: u64, change: &'h BindingEdit) {
        let now = self.now;
        self.last_cause = now;
        let slot = &mut self.slots[slot];
        slot.stirred = now;
        if !matches!(change, BindingEdit::Requested(_)) {
            slot.edited = now;
        }
        match change {
            BindingEdit::Spec { generation, spec } => {
                if let Some(last) = slot.specs.last_mut().filter(|last| last.until == i64::MAX) {
                    last.until = now;
                }
                if slot.alive != Some(uid) {
                    (slot.told, slot.requested) = (None, None);
                }
                slot.alive = Some(uid);
                slot.specs.push(SpecVersion { uid, generation: *generation, until: i64::MAX, spec });
                slot.untold = Some((*generation, now));
            }
            BindingEdit::Requested(text) => slot.requested = Some((text, now)),
            BindingEdit::Deleted => {
                if let Some(last) = slot.specs.last_mut().filter(|last| last.until == i64::MAX) {
                    last.until = now;
                }
                (slot.alive, slot.told, slot.requested, slot.untold) = (None, None, None, None);
            }
        }
    }

    fn world(&mut self, change: &'h WorldChange) {
        let now = self.now;
        (self.changed, self.last_cause) = (now, now);
        match change {
            WorldChange::Remote(remote) => self.remote_changed(remote),
            WorldChange::Granted(patterns) => {
                if let Some(last) = self.grants.last_mut() {
                    last.1 = now;
                }
                self.grants.push((patterns, i64::MAX));
            }
            WorldChange::Account(exists) => self.account = Flag { on: *exists, since: now },
            WorldChange::Vault(state) => {
                self.vault_up.set(*state == VaultState::Up, now);
                if self.vault.0 != *state {
                    self.vault = (*state, now);
                }
            }
            WorldChange::Lagging(lags) => self.lagging.set(*lags, now),
            WorldChange::MetadataClosed(closed) => self.metadata_closed.set(*closed, now),
            WorldChange::TokensRevoked => {}
            WorldChange::ApiServer(answers) => self.api.set(*answers, now),
            WorldChange::ClockStep { leader, .. } => {
                let stepped = self.processes.iter_mut().filter(|known| known.process.leader == *leader);
                stepped.for_each(|known| known.clock_stepped = now);
            }
            WorldChange::Claimed { slot, claimed } => self.slots[*slot].claimed.set(*claimed, now),
            WorldChange::Fence(in_force) => self.fence.set(*in_force, now),
            WorldChange::Terminating(terminating) => self.terminating.set(*terminating, now),
        }
    }

    fn remote_changed(&mut self, change: &'h history::Remote) {
        let (history::Remote::Put { path, .. }
        | history::Remote::Version { path, .. }
        | history::Remote::Gone { path }) = change;
        let place = self.remote.iter().position(|known| known.path == path).unwrap_or_else(|| {
            self.remote.push(Remote { path, versions: Vec::new(), plain: None });
            self.remote.len() - 1
        });
        let known = &mut self.remote[place];
        match change {
            history::Remote::Put { version: None, fields, .. } => known.plain = Some(fields),
            history::Remote::Put { version: Some(version), fields, .. } => known.versions.push((version, fields)),
            history::Remote::Version { version, .. } => {
                if let Some(one) = known.versions.iter_mut().find(|(one, _)| one.number == version.number) {
                    one.0 = version;
                }
            }
            history::Remote::Gone { .. } => (known.plain, known.versions) = (None, Vec::new()),
        }
    }
}
