//! What the process does to targets and statuses.

use std::{collections::BTreeMap, sync::Arc};

use countersign_core::api::{ConditionType, DeletionPolicy, Reason, SourcePhase, Verdict};

use super::{API, DB, Run, asked};
use crate::history::*;

impl Run {
    /// The process looks at the target.
    pub fn look(&mut self, slot: usize) -> &mut Self {
        let stored = self.held[slot].clone().map(|(_, stored)| Arc::new(stored));
        let outcome = self.held[slot].as_ref().map_or(Outcome::Absent, |(version, _)| Outcome::Found(*version));
        self.push(Event::Secret(SecretRequest { stored, ..asked(slot, Verb::Read, outcome) }))
    }

    /// What the spec makes of the newest values.
    pub fn rendering(&self, slot: usize) -> BTreeMap<String, String> {
        let spec = &self.specs[slot];
        let mut data = BTreeMap::new();
        for entry in &spec.entries {
            let (Entries::Each { source, .. } | Entries::One { source, .. }) = entry;
            let source = spec.sources.iter().find(|one| one.name == *source).unwrap();
            let known = if source.mount == "kv" { &self.remote[DB] } else { &self.remote[API] };
            let place = source.version.map_or(known.len(), |pin| usize::try_from(pin).unwrap()) - 1;
            let fields = &known[place].fields;
            match entry {
                Entries::Each { prefix, .. } => {
                    data.extend(fields.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
                }
                Entries::One { key, field, .. } => {
                    data.insert(key.clone(), fields[field].clone());
                }
            }
        }
        data
    }

    /// The Secret that an honest apply would store.
    pub fn wanted(&mut self, slot: usize) -> Stored {
        let uid = self.held[slot].as_ref().map(|(_, stored)| stored.uid);
        let is_deleted_along = self.specs[slot].deletion == DeletionPolicy::Delete;
        Stored {
            uid: uid.unwrap_or_else(|| self.draw()),
            labelled: true,
            owner_uid: Some(self.uids[slot]),
            owner_reference: is_deleted_along.then_some(self.uids[slot]),
            type_: self.specs[slot].type_.clone(),
            immutable: false,
            data: self.rendering(slot),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// A write that is stored.
    pub fn write(&mut self, actor: Actor, slot: usize, stored: Stored) -> &mut Self {
        let verb = if matches!(actor, Actor::Operator(_)) { Verb::Apply } else { Verb::Update };
        self.write_with(actor, slot, stored, |request| request.verb = verb)
    }

    /// As [`Run::write`], asked for otherwise.
    pub fn write_with(
        &mut self,
        actor: Actor,
        slot: usize,
        stored: Stored,
        change: impl FnOnce(&mut SecretRequest),
    ) -> &mut Self {
        let before = self.held[slot].as_ref().map(|(version, _)| *version);
        let after = self.draw();
        let outcome = Outcome::Written { before, after };
        let mut request = asked(slot, Verb::Apply, outcome);
        (request.version, request.stored) = (before, Some(Arc::new(stored.clone())));
        change(&mut request);
        self.history.push(self.at, actor, Event::Secret(request));
        self.held[slot] = Some((after, stored));
        self
    }

    /// The process stores this.
    pub fn store(&mut self, slot: usize, stored: Stored) -> &mut Self {
        self.write(Actor::Operator(self.process), slot, stored)
    }

    /// The process stores what it should.
    pub fn apply(&mut self, slot: usize) -> &mut Self {
        let stored = self.wanted(slot);
        self.store(slot, stored)
    }

    /// The target goes.
    pub fn delete(&mut self, actor: Actor, slot: usize) -> &mut Self {
        let uid = self.held[slot].take().map(|(_, stored)| stored.uid);
        let request = SecretRequest { uid, ..asked(slot, Verb::Delete, Outcome::Deleted) };
        self.history.push(self.at, actor, Event::Secret(request));
        self
    }

    /// The status that is true when all is well; no two have the same text.
    pub fn status(&mut self, slot: usize) -> StatusWrite {
        let fine = |kind, reason| Condition { kind, verdict: Verdict::True, reason, message: "all is well".into() };
        let mut conditions = vec![
            fine(ConditionType::Ready, Reason::Valid),
            fine(ConditionType::Synced, Reason::Synced),
            fine(ConditionType::Accepted, Reason::Accepted),
        ];
        if self.specs[slot].suspend {
            conditions.push(fine(ConditionType::Suspended, Reason::Suspended));
        }
        let newest = i64::try_from(self.remote[DB].len()).unwrap();
        let sources = self.specs[slot].sources.iter().map(|source| SourceTold {
            name: source.name.clone(),
            version: (source.mount == "kv").then_some(source.version.unwrap_or(newest)),
            phase: SourcePhase::Current,
        });
        let sources = sources.collect();
        let drawn = self.draw();
        StatusWrite {
            slot,
            uid: self.uids[slot],
            outcome: Outcome::Written { before: Some(drawn - 1), after: drawn },
            answer_lost: false,
            observed_generation: self.generations[slot],
            conditions,
            sources,
            last_handled_request: self.handled[slot].clone(),
            text: format!("status {drawn}"),
        }
    }

    /// The process tells that all is well.
    pub fn tell(&mut self, slot: usize) -> &mut Self {
        self.tell_with(slot, |_| {})
    }

    /// The process tells something else.
    pub fn tell_with(&mut self, slot: usize, change: impl FnOnce(&mut StatusWrite)) -> &mut Self {
        let mut status = self.status(slot);
        change(&mut status);
        self.push(Event::Status(Box::new(status)))
    }

    /// The process tells that the last refresh failed for this reason.
    pub fn tell_failure(&mut self, slot: usize, reason: Reason) -> &mut Self {
        self.tell_with(slot, |status| {
            status.conditions[1] =
                Condition { kind: ConditionType::Synced, verdict: Verdict::False, reason, message: "not now".into() };
        })
    }

    /// A whole, honest refresh of what changed.
    pub fn refresh(&mut self, slot: usize) -> &mut Self {
        self.look(slot).read_sources(slot).apply(slot).tell(slot)
    }
}
