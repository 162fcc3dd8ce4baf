//! What status says, and how often it is written.

use countersign_core::api::{ConditionType, RefreshMode, SourcePhase, Verdict};

use super::{
    Findings, Invariant,
    render::{Values, explain},
    says_nothing_secret,
    view::{EDIT_LAG, NEVER, Seen, Slot, SpecVersion, View, operator},
    writes,
};
use crate::history::{Entry, GRACE, Outcome, Process, SKEW, Source, StatusWrite, Stored, VaultAnswer};

/// `checkedAt` "is written only with another change or when older than max(6 h, 10 × every)".
const CHECKED_AGAIN: i64 = 6 * 3_600 - 2 * SKEW;
/// How often in a row a status may say the same in other words before that is a write for each retry.
const MOST_WORDINGS: usize = 6;
/// The time within which so many are too many.
const EPISODE: i64 = 3_600;

/// Shows a status write to everything that speaks of status.
pub fn judge(view: &View<'_>, entry: &Entry, write: &StatusWrite, findings: &mut Findings) {
    let Some(process) = operator(entry) else { return };
    let slot = &view.slots[write.slot];
    writes::only_the_leader_writes(view, entry, process, findings);
    says_nothing_secret(entry, &write.text, findings);
    says_something_new(view, slot, entry, process, write, findings);
    if !matches!(write.outcome, Outcome::Written { .. }) {
        return;
    }
    suspended_is_told(slot, entry, write, findings);
    if holds(write, ConditionType::Ready) {
        ready_is_true(view, slot, entry, process, write, findings);
    }
    if holds(write, ConditionType::Synced) {
        synced_is_true(view, slot, entry, process, write, findings);
    }
    if slot.alive == Some(write.uid)
        && slot.untold.is_some_and(|(generation, _)| write.observed_generation >= generation)
    {
        findings.judge(Invariant::I26, entry, true, "");
    }
}

/// Whether a condition is True.
pub fn holds(write: &StatusWrite, kind: ConditionType) -> bool {
    write.conditions.iter().any(|condition| condition.kind == kind && condition.verdict == Verdict::True)
}

/// Whether two statuses differ in words and times at most.
pub fn says_the_same(one: &StatusWrite, other: &StatusWrite) -> bool {
    let mut conditions = one.conditions.iter().zip(&other.conditions);
    one.uid == other.uid
        && one.observed_generation == other.observed_generation
        && one.last_handled_request == other.last_handled_request
        && one.sources == other.sources
        && one.conditions.len() == other.conditions.len()
        && conditions
            .all(|(one, other)| (one.kind, one.verdict, one.reason) == (other.kind, other.verdict, other.reason))
}

/// S12 and I-15: "a write to Kubernetes when nothing changed"; secrets.md §9: "Two status writes per episode, none per
/// retry."
fn says_something_new(
    view: &View<'_>,
    slot: &Slot<'_>,
    entry: &Entry,
    process: Process,
    write: &StatusWrite,
    findings: &mut Findings,
) {
    let told = slot.told.filter(|told| told.status.uid == write.uid);
    if view.steady.is_some() {
        // Time alone makes what fails stale, and what was looked at long ago is said so.
        let is_due = told.is_some_and(|told| {
            let is_a_look = says_the_same(told.status, write);
            if is_a_look { entry.at - told.at >= CHECKED_AGAIN } else { !slot.is_synced() }
        });
        findings.judge(Invariant::I15, entry, is_due, "a status was written while nothing was due");
        return;
    }
    let Some(told) = told else { return };
    // Another process, or one that never heard the answer, sees the status when its watch brings it.
    let is_calm = view.calm_since().is_some_and(|calm| calm.max(view.changed) < told.at);
    let has_seen = is_calm && told.at < entry.at - EDIT_LAG;
    let knows = (told.process == process && !told.status.answer_lost) || has_seen;
    let repeats = knows && told.status.text == write.text;
    findings.judge(Invariant::I15, entry, !repeats, "the status was written again unchanged");
    let is_undisturbed = slot.written.as_ref().is_none_or(|written| written.at < told.at)
        && slot.stirred.max(view.changed) < told.at - EDIT_LAG
        && entry.at - told.at < EPISODE;
    if is_undisturbed && told.process == process && says_the_same(told.status, write) {
        let few = told.repeated < MOST_WORDINGS;
        findings.judge(Invariant::I15, entry, few, "a status was written for each retry");
    }
}

/// api.md: "`spec.suspend: true` stops all action on an object (condition `Suspended=True`)".
fn suspended_is_told(slot: &Slot<'_>, entry: &Entry, write: &StatusWrite, findings: &mut Findings) {
    if let Some(version) = spec_of(slot, write) {
        let is_told = holds(write, ConditionType::Suspended) == version.spec.suspend;
        findings.judge(Invariant::I26, entry, is_told, "Suspended does not say what the spec says");
    }
}

fn spec_of<'v, 'h>(slot: &'v Slot<'h>, write: &StatusWrite) -> Option<&'v SpecVersion<'h>> {
    let mut versions = slot.specs.iter().rev();
    versions.find(|version| version.uid == write.uid && version.generation == write.observed_generation)
}

/// I-26: "`Ready=True` ⇒ content equals the rendering of `observedGeneration`", from versions that were once read. The
/// content is the target as this process last saw it. Where the spec is not accepted or not acted on, the last good
/// output counts.
fn ready_is_true(
    view: &View<'_>,
    slot: &Slot<'_>,
    entry: &Entry,
    process: Process,
    write: &StatusWrite,
    findings: &mut Findings,
) {
    let Some(own) = view.process(process).map(|own| &own.slots[write.slot]) else { return };
    let stored = match own.seen {
        Seen::There(stored) => Some(stored),
        Seen::Absent => None,
        Seen::Unknown => return,
    };
    // "`Once`: until the first good write": what others make of it then is theirs.
    let is_theirs = spec_of(slot, write).is_some_and(|version| version.spec.mode == RefreshMode::Once)
        && slot.written.as_ref().is_none_or(|written| written.at <= slot.meddled.0);
    if is_theirs {
        return;
    }
    let is_good = stored.is_some_and(|stored| {
        stored.labelled
            && stored.owner_uid == Some(write.uid)
            && spec_of(slot, write).is_some_and(|version| {
                let is_waived = version.spec.suspend || !holds(write, ConditionType::Accepted);
                let counts = |one: &&SpecVersion<'_>| {
                    one.uid == write.uid
                        && (one.generation == version.generation || (is_waived && one.generation < version.generation))
                };
                let mut counting = slot.specs.iter().rev().filter(counts);
                counting.any(|one| is_rendering(view, slot, one, write, stored))
            })
    });
    findings.judge(Invariant::I26, entry, is_good, "Ready=True, but the target is no rendering of that generation");
}

fn is_rendering<'h>(
    view: &View<'h>,
    slot: &Slot<'h>,
    version: &SpecVersion<'h>,
    write: &StatusWrite,
    stored: &Stored,
) -> bool {
    let minds_told = holds(write, ConditionType::Synced) && version.generation == write.observed_generation;
    let told = |source: &Source| {
        let told = write.sources.iter().find(|told| told.name == source.name && told.phase == SourcePhase::Current);
        told.and_then(|told| told.version).filter(|_| minds_told)
    };
    let options = version.spec.sources.iter().map(|source| {
        let (wanted, pin) = (told(source), source.version);
        let fits = |one: &&Values<'h>| {
            one.is_of(source) && (pin.is_none() || one.number == pin) && (wanted.is_none() || one.number == wanted)
        };
        view.known.iter().rev().filter(fits).copied().collect()
    });
    let options: Vec<Vec<Values<'h>>> = options.collect();
    explain(version.spec, &options, &stored.data, &slot.foreign).is_some()
}

/// secrets.md §9: "`Synced` = the last refresh succeeded": none does while Vault is in doubt. What succeeded before may
/// be told late, if the API server did not take it.
fn synced_is_true(
    view: &View<'_>,
    slot: &Slot<'_>,
    entry: &Entry,
    process: Process,
    write: &StatusWrite,
    findings: &mut Findings,
) {
    let Some(version) = spec_of(slot, write).filter(|version| version.spec.mode == RefreshMode::Auto) else { return };
    let before = slot.told.filter(|told| told.status.uid == write.uid);
    let says = |kind| before.is_some_and(|told| holds(told.status, kind));
    if says(ConditionType::Synced) || says(ConditionType::Suspended) || version.spec.suspend {
        return;
    }
    let since = before.map_or(NEVER, |told| told.at);
    let has_read = view.process(process).is_some_and(|own| {
        let mut reads = own.reads.iter().rev().take_while(|read| read.at >= since);
        reads.any(|read| {
            let is_for_it = version.spec.sources.iter().any(|source| read.call.is_of(source));
            is_for_it && matches!(read.answer, VaultAnswer::Metadata { .. } | VaultAnswer::Values { .. })
        })
    });
    let in_doubt = view.vault_up.lasts(false, entry.at, GRACE);
    let why = "Synced=True after a refresh that cannot have succeeded";
    findings.judge(Invariant::I26, entry, has_read || !in_doubt, why);
}
