//! The oracle of disturbed runs: they end where the undisturbed one ends, and on the way make and delete no more.
//!
//! Masked are UIDs, resourceVersions, the wording of messages, and generations but for whether the newest is observed.

use std::collections::BTreeMap;

use countersign_core::api::{ConditionType, Reason, SourcePhase, Verdict};

use super::{
    Invariant, Violation,
    view::{Slot, View, operator},
};
use crate::history::{Event, History, Outcome, SLOTS};

/// What of a target must be the same in every run.
#[derive(PartialEq)]
struct MaskedTarget<'h> {
    labelled: bool,
    is_owned: bool,
    is_referenced: bool,
    type_: &'h str,
    data: &'h BTreeMap<String, String>,
}

/// What of a status must be the same in every run.
#[derive(PartialEq)]
struct MaskedStatus<'h> {
    is_current: bool,
    conditions: Vec<(ConditionType, Verdict, Reason)>,
    sources: Vec<(&'h str, Option<i64>, SourcePhase)>,
}

/// How the two runs differ where they must not.
///
/// I-17: "Faults stop → within D every object reaches the undisturbed run's end state (masked: times, serials, UIDs)".
/// I-18: "Create and delete counts per object equal the undisturbed run's; permitted extras are listed by name": a target
/// is made once for a binding, unless others deleted it, and never deleted.
pub fn end_state_equal(undisturbed: &History, disturbed: &History) -> Vec<Violation> {
    let (wanted, found) = (replay(undisturbed), replay(disturbed));
    let end = disturbed.entries.len().saturating_sub(1);
    let mut violations = counts(disturbed);
    for slot in 0..SLOTS {
        let (there, here) = (&wanted.slots[slot], &found.slots[slot]);
        let mut differ = |what: &str| {
            violations.push(Violation { invariant: Invariant::I17, at: end, why: format!("binding {slot}: {what}") });
        };
        if target(there) != target(here) {
            differ("another target at the end");
        }
        if status(there) != status(here) {
            differ("another status at the end");
        }
    }
    violations
}

fn replay(history: &History) -> View<'_> {
    let mut view = View::new();
    for entry in &history.entries {
        view.absorb(entry);
    }
    view
}

fn target<'h>(slot: &Slot<'h>) -> Option<MaskedTarget<'h>> {
    let (stored, _) = slot.held?;
    Some(MaskedTarget {
        labelled: stored.labelled,
        is_owned: stored.owner_uid.is_some() && stored.owner_uid == slot.alive,
        is_referenced: stored.owner_reference.is_some() && stored.owner_reference == stored.owner_uid,
        type_: &stored.type_,
        data: &stored.data,
    })
}

fn status<'h>(slot: &Slot<'h>) -> Option<MaskedStatus<'h>> {
    let status = slot.told?.status;
    let mut conditions: Vec<_> = status.conditions.iter().map(|one| (one.kind, one.verdict, one.reason)).collect();
    conditions.sort_by_key(|(kind, ..)| *kind);
    Some(MaskedStatus {
        is_current: slot.current().is_some_and(|version| version.generation == status.observed_generation),
        conditions,
        sources: status.sources.iter().map(|one| (one.name.as_str(), one.version, one.phase)).collect(),
    })
}

/// I-18, of one run.
fn counts(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut made: Vec<(usize, u64)> = Vec::new();
    let mut alive: [Option<u64>; SLOTS] = [None; SLOTS];
    for entry in &history.entries {
        let mut add = |why: &str| {
            violations.push(Violation { invariant: Invariant::I18, at: entry.ordinal, why: why.to_owned() });
        };
        match &entry.event {
            Event::Binding { slot, uid, change } => {
                let is_gone = matches!(change, crate::history::BindingEdit::Deleted);
                alive[*slot] = (!is_gone).then_some(*uid);
            }
            Event::Secret(request) if operator(entry).is_some() => match request.outcome {
                Outcome::Deleted => add("the operator deleted a target"),
                Outcome::Written { before: None, .. } => {
                    // What is made for a binding that went a moment ago is collected with it.
                    let owner = request.stored.as_deref().and_then(|stored| stored.owner_uid);
                    let Some(owner) = owner.filter(|owner| alive[request.slot] == Some(*owner)) else { continue };
                    let is_again = made.contains(&(request.slot, owner));
                    if is_again && !history.deleted_by_others[request.slot] {
                        add("a target was made again, and nobody had deleted it");
                    }
                    made.push((request.slot, owner));
                }
                _ => {}
            },
            _ => {}
        }
    }
    violations
}
