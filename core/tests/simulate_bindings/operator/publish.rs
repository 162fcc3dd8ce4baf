//! What a process says of a binding: its status, and a line in its log.

use std::rc::Rc;

use countersign_core::{
    api::{Reason, SecretBindingStatus},
    binding::{
        reads::Answer,
        world::{Outcome, Settled, TargetView, World},
    },
    fault::{Class, Failure},
    value::kv::RemoteValue,
};

use super::{Crashed, Operator, Surroundings, unavailable};
use crate::{
    chance::Fault,
    history::{self, Event, FOREIGN_TEXT, StatusWrite},
    model::{Model, Version},
    mutants::Mutant,
    tally::Effects,
};

impl Operator {
    /// One log line when a failure begins to show in the conditions.
    pub(super) fn tell(
        &self,
        before: &SecretBindingStatus,
        after: &SecretBindingStatus,
        settled: &Settled,
        model: &mut Model,
        mutant: Mutant,
    ) {
        let (Outcome::Held(failure) | Outcome::Failed { failure, .. }) = &settled.outcome else { return };
        let is_told = matches!(failure.class, Class::Invalid | Class::Denied | Class::Unavailable | Class::Bug);
        let name = failure.reason.name();
        let shows = |status: &SecretBindingStatus| status.conditions.iter().any(|one| one.reason == name);
        if is_told && shows(after) && !shows(before) {
            let foreign = if mutant == Mutant::ForeignErrorText { FOREIGN_TEXT } else { "" };
            model.push(self.actor(), Event::Text(format!("cannot go on: {}{foreign}", failure.message)));
        }
    }

    pub(super) fn mutate_status(&self, slot: usize, status: &mut SecretBindingStatus, world: &World, mutant: Mutant) {
        let is_absent = matches!(world.target, TargetView::Absent);
        for condition in &mut status.conditions {
            match mutant {
                Mutant::ValueInMessage if condition.status == "False" => {
                    let seen = self.last.iter().filter(|((of, ..), _)| *of == slot).find_map(|(_, answer)| {
                        let Answer::Values(values) = answer else { return None };
                        values.fields.values().next()
                    });
                    if let Some(RemoteValue::Text(text)) = seen {
                        condition.message.push_str(&String::from_utf8_lossy(text.expose()));
                    }
                }
                Mutant::ReadyTooEarly if is_absent && condition.type_ == "Ready" => {
                    "True".clone_into(&mut condition.status);
                }
                _ => {}
            }
        }
    }

    /// Writes the status; the inner error is one that the process hears of.
    pub(super) fn write_status(
        &mut self,
        slot: usize,
        version: &Version,
        status: SecretBindingStatus,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<(), Failure>, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Err(failure));
        }
        let fault = self.fault(slot, Effects::WriteStatus, model, around)?;
        let told = told(slot, version.uid, &status);
        let current = model.slots[slot].binding.as_ref().map(|now| now.uid == version.uid);
        let away = || unavailable(Reason::ApiServerUnavailable, "the API server does not answer");
        let (outcome, result) = match current {
            _ if !model.api_up || fault == Fault::Refused => (history::Outcome::Unavailable, Err(away())),
            None => {
                let gone = Failure::new(Class::Waiting, Reason::SourceMissing, "it does not exist");
                (history::Outcome::Absent, Err(gone))
            }
            Some(false) => {
                let changed = Failure::new(Class::Conflict, Reason::WriteConflict, "it changed meanwhile");
                (history::Outcome::Conflict, Err(changed))
            }
            Some(true) => {
                let after = model.fresh();
                let here = model.slots[slot].binding.as_mut().unwrap();
                let before = Some(here.at);
                (here.at, here.status) = (after, Rc::new(status));
                (history::Outcome::Written { before, after }, Ok(after))
            }
        };
        let lost = fault == Fault::Lost && result.is_ok();
        let write = StatusWrite { outcome, answer_lost: lost, ..told };
        model.push(self.actor(), Event::Status(Box::new(write)));
        self.after(fault, model)?;
        Ok(match result {
            Ok(_) if lost => Err(away()),
            Ok(after) => {
                self.wrote[slot] = Some((after, model.now));
                Ok(())
            }
            Err(failure) => Err(failure),
        })
    }
}

/// The status as the history tells it.
fn told(slot: usize, uid: u64, status: &SecretBindingStatus) -> StatusWrite {
    let conditions = status.conditions.iter().filter_map(|condition| {
        Some(history::Condition {
            kind: crate::words::condition(&condition.type_)?,
            verdict: crate::words::verdict(&condition.status),
            reason: crate::words::reason(&condition.reason)?,
            message: condition.message.clone(),
        })
    });
    let sources = status.sources.iter().map(|source| history::SourceTold {
        name: source.name.clone(),
        version: source.version,
        phase: source.phase,
    });
    StatusWrite {
        slot,
        uid,
        outcome: history::Outcome::Absent,
        answer_lost: false,
        observed_generation: status.observed_generation.unwrap_or(-1),
        conditions: conditions.collect(),
        sources: sources.collect(),
        last_handled_request: status.last_handled_request.clone(),
        text: serde_json::to_string(status).unwrap(),
    }
}
