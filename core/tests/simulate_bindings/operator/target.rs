//! Reads and writes of a target.

use countersign_core::{
    api::Reason,
    binding::world::{Reply, TargetView, World},
    fault::{Class, Failure},
    value::target::SecretWrite,
};

use super::{Crashed, Operator, Surroundings, is_at, unavailable};
use crate::{
    chance::Fault,
    history::{Event, Outcome, SecretRequest, Verb},
    model::{Model, facts},
    mutants::Mutant,
    tally::Effects,
};

impl Operator {
    /// The target as it is; `None` if it is as `known`.
    pub(super) fn read_target(
        &mut self,
        slot: usize,
        known: Option<&TargetView>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Option<TargetView>, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Some(TargetView::Unread(failure)));
        }
        let fault = self.fault(slot, Effects::ReadTarget, model, around)?;
        let is_answered = model.api_up && !matches!(fault, Fault::Refused | Fault::Lost);
        let (outcome, stored, view) = match model.slots[slot].secret.as_ref() {
            _ if !is_answered => {
                let failure = unavailable(Reason::ApiServerUnavailable, "the API server does not answer");
                (Outcome::Unavailable, None, Some(TargetView::Unread(failure)))
            }
            None => (Outcome::Absent, None, Some(TargetView::Absent)),
            Some(secret) if !secret.told.labelled => (Outcome::Refused(422), None, Some(TargetView::Foreign)),
            Some(secret) => {
                let is_known = matches!(known, Some(TargetView::Present(stored)) if is_at(stored, secret.version));
                let view = (!is_known).then(|| TargetView::Present(Box::new(facts(secret))));
                (Outcome::Found(secret.version), Some(secret.told.clone()), view)
            }
        };
        let request = SecretRequest {
            slot,
            verb: Verb::Read,
            version: None,
            uid: None,
            force: false,
            outcome,
            answer_lost: false,
            stored,
        };
        model.push(self.actor(), Event::Secret(request));
        self.after(fault, model)?;
        Ok(view)
    }

    pub(super) fn write(
        &mut self,
        slot: usize,
        mut write: SecretWrite,
        _world: &World,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Crashed> {
        match around.mutant {
            Mutant::OwnerForgotten => write.owner = None,
            Mutant::NoVersion => write.expected = None,
            Mutant::OtherType => "kubernetes.io/basic-auth".clone_into(&mut write.type_),
            Mutant::DeletedBeforeWrite if write.expected.is_some() => {
                self.clear_first(slot, model);
                write.expected = None;
            }
            _ => {}
        }
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Reply::Unwritten(failure));
        }
        let fault = self.fault(slot, Effects::WriteSecret, model, around)?;
        let before = model.slots[slot].secret.as_ref();
        let is_foreign = before.is_some_and(|secret| !secret.told.labelled);
        let stands = before.map(|secret| secret.version.to_string());
        let has_moved = write.expected.is_some() && write.expected != stands;
        let (outcome, failure) = if !model.api_up || fault == Fault::Refused {
            let failure = unavailable(Reason::ApiServerUnavailable, "the API server does not answer");
            (Outcome::Unavailable, Some(failure))
        } else if is_foreign {
            let failure = Failure::new(Class::Waiting, Reason::TargetNotOwned, "it is not managed by this object");
            (Outcome::Refused(422), Some(failure))
        } else if has_moved {
            let failure = Failure::new(Class::Conflict, Reason::WriteConflict, "it changed meanwhile");
            (Outcome::Conflict, Some(failure))
        } else {
            (model.apply(slot, &write), None)
        };
        let is_written = failure.is_none();
        let secret = model.slots[slot].secret.as_ref();
        let request = SecretRequest {
            slot,
            verb: Verb::Apply,
            version: write.expected.as_deref().and_then(|version| version.parse().ok()),
            uid: None,
            force: false,
            outcome,
            answer_lost: fault == Fault::Lost && is_written,
            stored: secret.filter(|_| is_written).map(|secret| secret.told.clone()),
        };
        let written = secret.map(facts);
        model.push(self.actor(), Event::Secret(request));
        self.after(fault, model)?;
        Ok(match (failure, written) {
            (Some(failure), _) => Reply::Unwritten(failure),
            (None, Some(stored)) if fault != Fault::Lost => Reply::Written(Box::new(stored)),
            (None, _) => Reply::Unwritten(unavailable(Reason::ApiServerUnavailable, "no answer within 10 s")),
        })
    }
}
