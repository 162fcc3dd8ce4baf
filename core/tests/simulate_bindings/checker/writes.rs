//! How targets are touched: by whom, whose, on what condition.

use countersign_core::api::DeletionPolicy;

use super::{
    Findings, Invariant, content,
    view::{EDIT_LAG, Seen, View, operator},
};
use crate::history::{Actor, Entry, GRACE, Outcome, Process, SecretRequest, Verb};

/// Shows a request to everything that speaks of how targets are touched.
pub fn judge(view: &View<'_>, entry: &Entry, request: &SecretRequest, findings: &mut Findings) {
    if entry.actor == Actor::Cluster && request.outcome == Outcome::Deleted {
        goes_with_its_owner(view, entry, request, findings);
    }
    let Some(process) = operator(entry) else { return };
    let is_fenced = !view.fence.lasts(false, entry.at, GRACE);
    findings.judge(Invariant::GatesFirst, entry, is_fenced, "a Secret was touched without the fence");
    if request.verb == Verb::Read {
        if view.vault_up.lasts(false, entry.at, GRACE) {
            findings.judge(Invariant::I07, entry, true, "");
        }
        return;
    }
    only_the_leader_writes(view, entry, process, findings);
    if view.steady.is_some() {
        findings.judge(Invariant::I15, entry, false, "a Secret was written while nothing was due");
    }
    findings.judge(Invariant::NoForce, entry, !request.force, "the apply was forced");
    preconditions(view, entry, process, request, findings);
    if request.verb != Verb::Delete {
        may_act(view, entry, request, findings);
    }
    match request.outcome {
        Outcome::Written { .. } => {
            only_our_secrets(view, entry, request, findings);
            content::judge(view, entry, process, request, findings);
        }
        Outcome::Deleted => nothing_deleted(view, entry, findings),
        Outcome::Found(_) | Outcome::Absent | Outcome::Conflict | Outcome::Refused(_) | Outcome::Unavailable => {}
    }
}

/// I-16: "No write by a process that did not hold the LeaderLease 1 s before sending".
pub fn only_the_leader_writes(view: &View<'_>, entry: &Entry, process: Process, findings: &mut Findings) {
    let held = view.leadership.held_lately(process, entry.at);
    findings.judge(Invariant::I16, entry, held, "the writer did not hold the leader lease");
}

/// I-04: "the Secret exists at every version until its owner (same UID) is deleted with `deletionPolicy: Delete`": it
/// is collected for an owner that is gone, and for none that was to leave it.
fn goes_with_its_owner(view: &View<'_>, entry: &Entry, request: &SecretRequest, findings: &mut Findings) {
    let slot = &view.slots[request.slot];
    let Some(owner) = slot.held.and_then(|(stored, _)| stored.owner_reference) else { return };
    let is_gone = slot.alive != Some(owner);
    let last = slot.specs.iter().rev().find(|version| version.uid == owner);
    let was_to_stay = last.is_some_and(|last| {
        let is_applied = slot.written.as_ref().is_some_and(|written| written.generation == Some(last.generation));
        is_applied && last.spec.deletion == DeletionPolicy::Retain
    });
    findings.judge(Invariant::I04, entry, is_gone && !was_to_stay, "the target went, and its owner did not ask for it");
}

/// I-10: "Every DELETE has `preconditions.uid`; every update of a Secret … has a `resourceVersion` or is a create", and
/// it is one that this process was told; what the server stored is over that version and no other.
fn preconditions(view: &View<'_>, entry: &Entry, process: Process, request: &SecretRequest, findings: &mut Findings) {
    let own = view.process(process).map(|own| &own.slots[request.slot]);
    let is_absent = view.slots[request.slot].held.is_none();
    let seemed_absent = own.is_some_and(|own| matches!(own.seen, Seen::Absent));
    let holds = match (request.verb, request.version) {
        (Verb::Read, _) => return,
        (Verb::Delete, _) => request.uid.is_some(),
        (Verb::Apply | Verb::Update, None) => is_absent || seemed_absent,
        (Verb::Apply | Verb::Update, Some(version)) => {
            let stored_over = match request.outcome {
                Outcome::Written { before, .. } => before == Some(version),
                _ => true,
            };
            stored_over && own.is_some_and(|own| own.versions.contains(&version))
        }
    };
    findings.judge(Invariant::I10, entry, holds, "the write insists on nothing, or on what it never read");
}

/// api.md: "`spec.suspend: true` stops all action on an object". secrets.md §6: "Two bindings, one Secret: older UID
/// wins, the other is `TargetClaimed`".
fn may_act(view: &View<'_>, entry: &Entry, request: &SecretRequest, findings: &mut Findings) {
    let slot = &view.slots[request.slot];
    let is_barred = slot.is_suspended(entry.at) || slot.claimed.lasts(true, entry.at, EDIT_LAG);
    findings.judge(Invariant::GatesFirst, entry, !is_barred, "a Secret was written for a binding that must not act");
}

/// I-08: "No object without our label and a matching owner UID is patched or deleted", and none is left without them.
/// A create that lost a race against somebody else's is refused by the fence, or is over what is ours.
fn only_our_secrets(view: &View<'_>, entry: &Entry, request: &SecretRequest, findings: &mut Findings) {
    let slot = &view.slots[request.slot];
    let Some(after) = request.stored.as_deref() else { return };
    // A process that wakes may still act for a binding that went a moment ago.
    let is_owner = |uid: u64| slot.lately(entry.at).any(|version| version.uid == uid);
    let is_marked = after.labelled && after.owner_uid.is_some_and(is_owner);
    let was_ours = match slot.held {
        None => true,
        Some((before, _)) => before.labelled && before.owner_uid == after.owner_uid,
    };
    findings.judge(Invariant::I08, entry, is_marked && was_ours, "the Secret is not ours, or was not marked as ours");
}

/// S2: "delete, empty or shrink on 403, 404, 5xx, timeout, empty list or lost grant"; reliability.md §2: "No class
/// permits a destructive act". Targets go with their owner reference alone. During an outage it is I-07.
fn nothing_deleted(view: &View<'_>, entry: &Entry, findings: &mut Findings) {
    let in_doubt = view.vault_up.lasts(false, entry.at, GRACE);
    let invariant = if in_doubt { Invariant::I07 } else { Invariant::I05 };
    findings.judge(invariant, entry, false, "the operator deleted a target");
}
