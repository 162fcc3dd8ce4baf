//! What must have happened by some time, though no entry shows it.

use std::{borrow::Cow, collections::BTreeMap};

use countersign_core::api::RefreshMode;

use super::{
    Findings, Invariant,
    grants::covers,
    render::{Values, is_rendered, render},
    view::{EDIT_LAG, NEVER, Slot, SpecVersion, View},
};
use crate::history::{DRIFT, Entry, Event, GRACE, Mark, SKEW, Source, TRUTH_WITHIN};

/// The longest back-off, and what a pass and its waiting may take beyond it.
const LONGEST_BACK_OFF: i64 = 3_600 + 120;
/// From so many repairs on, targets are looked at less often.
const MANY_REPAIRS: usize = 3;

/// Judges what should have happened before `entry`.
pub fn judge(view: &mut View<'_>, entry: &Entry, findings: &mut Findings) {
    if entry.at > view.now
        && let Some(calm) = view.calm_since()
    {
        for slot in 0..view.slots.len() {
            an_edit_is_told(view, entry, slot, calm, findings);
            a_target_is_looked_at(view, entry, slot, calm, findings);
            drift_is_repaired(view, entry, slot, calm, findings);
            a_refresh_is_in_time(view, entry, slot, calm, findings);
        }
    }
    if matches!(entry.event, Event::Mark(Mark::End)) {
        for slot in &view.slots {
            what_is_due_is_done(view, entry, slot, findings);
        }
    }
}

/// I-26, promise 9: "status right after a change; every wait has an end shown in status: ≤ 30 s", after what the watch
/// and a pass that is under way may take.
fn an_edit_is_told(view: &mut View<'_>, entry: &Entry, slot: usize, calm: i64, findings: &mut Findings) {
    let slot = &mut view.slots[slot];
    if slot.untold.is_some_and(|(_, edited)| entry.at > edited.max(calm) + TRUTH_WITHIN + EDIT_LAG) {
        slot.untold = None;
        findings.judge(Invariant::I26, entry, false, "no status speaks of an edit in time");
    }
}

/// secrets.md §6: "By name: a metadata-only read at each refresh and at least every 5 min".
fn a_target_is_looked_at(view: &mut View<'_>, entry: &Entry, slot: usize, calm: i64, findings: &mut Findings) {
    let is_open = view.fence.on && !view.terminating.on && view.account.on;
    let changed = view.changed;
    let slot = &mut view.slots[slot];
    let Some(version) = slot.current() else { return };
    let is_ours = slot.held.is_some_and(|(stored, _)| stored.labelled && stored.owner_uid == Some(version.uid));
    let is_watched = version.spec.mode == RefreshMode::Auto && !version.spec.suspend && slot.meddled.1 < MANY_REPAIRS;
    if !is_open || !is_ours || !is_watched || slot.claimed.on || !slot.is_synced() {
        return;
    }
    let since = slot.looked.max(slot.stirred).max(changed).max(calm);
    let is_in_time = entry.at <= since + DRIFT + EDIT_LAG;
    findings.judge(Invariant::DriftSeen, entry, is_in_time, "a target was not looked at for five minutes");
    if !is_in_time {
        slot.looked = entry.at;
    }
}

/// secrets.md §6: "same UID and resourceVersion as last verified = done; else full read, hash, repair", within the five
/// minutes of a look, where nothing but somebody else's hand was in the way and no field has become theirs.
fn drift_is_repaired(view: &mut View<'_>, entry: &Entry, slot: usize, calm: i64, findings: &mut Findings) {
    let binding = &view.slots[slot];
    let Some(drifted) = binding.drifted else { return };
    let since = binding.edited.max(view.changed).max(calm);
    if entry.at <= since + DRIFT + EDIT_LAG {
        return;
    }
    let has_failed = view.processes.iter().any(|process| process.slots[slot].failed >= drifted);
    let is_rare = binding.meddled.1 < MANY_REPAIRS && !has_failed && view.changed < drifted && calm < drifted;
    let version =
        binding.current().filter(|version| is_rare && may_refresh(view, version) && is_free(binding, version));
    let is_repaired = version.and_then(|version| {
        let rendering = wanted_rendering(view, version, entry.at)?;
        Some(binding.held.is_some_and(|(stored, _)| is_rendered(&stored.data, &rendering, &[])))
    });
    if let Some(is_repaired) = is_repaired {
        findings.judge(
            Invariant::DriftSeen,
            entry,
            is_repaired,
            "what others did to a target was not repaired in time",
        );
    }
    view.slots[slot].drifted = None;
}

/// S14, and secrets.md §4 "periodic reads at `epoch + (k + u) × every`": where the last refresh succeeded and nothing has
/// failed since, what the server holds is in the target after the next moment. An older version, or one of a secret that
/// was made again, may take a second one.
fn a_refresh_is_in_time(view: &mut View<'_>, entry: &Entry, slot: usize, calm: i64, findings: &mut Findings) {
    let binding = &view.slots[slot];
    let (Some(version), Some(told)) = (binding.current(), binding.told) else { return };
    let stepped = view.processes.iter().map(|process| process.clock_stepped).max().unwrap_or(NEVER);
    let rest = binding.stirred.max(view.changed).max(calm).max(stepped);
    if binding.rested >= rest || entry.at <= rest + 2 * version.spec.every + DRIFT + EDIT_LAG {
        return;
    }
    let failed = view.processes.iter().map(|process| process.slots[slot].failed).max().unwrap_or(NEVER);
    let has_failed = failed >= rest || failed >= told.at;
    if !has_failed
        && binding.is_synced()
        && may_refresh(view, version)
        && is_free(binding, version)
        && let Some(rendering) = wanted_rendering(view, version, entry.at)
    {
        let is_done = binding.held.is_some_and(|(stored, _)| is_rendered(&stored.data, &rendering, &[]));
        findings.judge(Invariant::Due, entry, is_done, "what the server holds is not in the target in time");
    }
    view.slots[slot].rested = rest;
}

/// S14: never "an object that is due and not looked at". At the end of a run in which nothing has changed for longer
/// than the longest back-off and `every`, a binding that can be rendered is.
fn what_is_due_is_done(view: &View<'_>, entry: &Entry, slot: &Slot<'_>, findings: &mut Findings) {
    let Some(version) = slot.current().filter(|version| may_refresh(view, version)) else { return };
    let rest = entry.at - LONGEST_BACK_OFF - version.spec.every;
    let is_calm = view.calm_since().is_some_and(|calm| calm <= rest);
    if view.last_cause > rest || !is_calm || !is_free(slot, version) {
        return;
    }
    let Some(rendering) = wanted_rendering(view, version, entry.at) else { return };
    let is_done = slot.held.is_some_and(|(stored, _)| is_rendered(&stored.data, &rendering, &[]));
    findings.judge(Invariant::Due, entry, is_done, "what the server holds is not in the target, though it was due");
    findings.judge(Invariant::Due, entry, !is_done || slot.is_synced(), "what is done is not in the status");
}

fn may_refresh(view: &View<'_>, version: &SpecVersion<'_>) -> bool {
    let Some((patterns, _)) = view.grants.last() else { return false };
    let is_granted = |source: &Source| {
        let path = format!("{}/{}", source.mount, source.path);
        patterns.iter().any(|pattern| covers(pattern, &path))
    };
    let is_open = view.vault_up.on && view.account.on && view.fence.on && !view.lagging.on && !view.terminating.on;
    let is_refreshed = version.spec.mode == RefreshMode::Auto && !version.spec.suspend;
    is_open && is_refreshed && version.spec.sources.iter().all(is_granted)
}

/// Whether nothing of the target is somebody else's, or cannot be changed.
fn is_free(slot: &Slot<'_>, version: &SpecVersion<'_>) -> bool {
    let may_be_written = slot.held.is_none_or(|(stored, _)| {
        let is_ours = stored.labelled && stored.owner_uid == Some(version.uid);
        is_ours && !stored.immutable && stored.type_ == version.spec.type_
    });
    slot.foreign.is_empty() && !slot.claimed.on && may_be_written
}

/// What the target is to hold, if what the server holds can be rendered.
fn wanted_rendering<'h>(
    view: &View<'h>,
    version: &SpecVersion<'h>,
    now: i64,
) -> Option<BTreeMap<Cow<'h, str>, &'h str>> {
    let sources = version.spec.sources.iter();
    let chosen: Option<Vec<Values<'h>>> = sources.map(|source| wanted(view, source, now)).collect();
    render(version.spec, &chosen?)
}

/// The values that `source` is to have: those of the newest version, or of the pinned one, if it is there.
fn wanted<'h>(view: &View<'h>, source: &'h Source, now: i64) -> Option<Values<'h>> {
    let remote = view.remote(source)?;
    let values = |number, created, fields: &'h BTreeMap<String, String>| {
        let (mount, path) = (source.mount.as_str(), source.path.as_str());
        Some(Values { mount, path, number, created, fields })
    };
    if let Some(fields) = remote.plain {
        return if source.version.is_none() { values(None, None, fields) } else { None };
    }
    let (version, fields) = match source.version {
        Some(pin) => remote.versions.iter().find(|(version, _)| version.number == pin)?,
        None => remote.versions.iter().max_by_key(|(version, _)| version.number)?,
    };
    let is_gone = version.destroyed || version.deleted.is_some_and(|from| from <= now + GRACE + SKEW);
    if is_gone { None } else { values(Some(version.number), Some(version.created), fields) }
}
