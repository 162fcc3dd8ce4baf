//! What an apply may put into a target: which rendering of which versions it is, and whether it may be that now.

use countersign_core::api::DeletionPolicy;

use super::{
    Findings, Invariant,
    render::{Values, explain},
    view::{EDIT_LAG, ProcessView, Slot, SpecVersion, View},
};
use crate::history::{Entry, GRACE, Process, SecretRequest, Spec, Stored};

/// For how long an older version must have been shown; a minute, less what two reads may be late or early.
const SHOWN_FOR: i64 = 55;

/// Shows a stored apply to everything that speaks of content.
pub fn judge(view: &View<'_>, entry: &Entry, process: Process, request: &SecretRequest, findings: &mut Findings) {
    let slot = &view.slots[request.slot];
    let (Some(after), Some(own)) = (request.stored.as_deref(), view.process(process)) else { return };
    let before = slot.held.map(|(stored, _)| stored);
    let found = explained(view, entry.at, process, request.slot, after, true);
    let changes = before.is_none_or(|before| before.data != after.data);
    is_one_rendering(view, entry, process, request, after, found.is_some(), findings);
    has_its_form(slot, entry, after, findings);
    if changes {
        let spec = found.as_ref().map(|(version, _)| version.spec).or(slot.current().map(|version| version.spec));
        if let Some(spec) = spec {
            deleted_is_kept(own, entry, request.slot, spec, findings);
        }
    }
    if let Some((version, chosen)) = &found {
        went_back(slot, own, entry, version, chosen, findings);
        if before == Some(after) {
            wrote_something_new(slot, entry, process, version, chosen, findings);
        }
    }
}

/// The generation and the version of each source from which `after` was rendered, if this process read them within the
/// deadline of a pass; pins are minded unless `pinned` is false.
pub fn explained<'v, 'h>(
    view: &'v View<'h>,
    now: i64,
    process: Process,
    slot: usize,
    after: &Stored,
    pinned: bool,
) -> Option<(&'v SpecVersion<'h>, Vec<Values<'h>>)> {
    let own = view.process(process)?;
    let slot = &view.slots[slot];
    let owned = slot.lately(now).filter(|version| after.owner_uid.is_none_or(|uid| uid == version.uid));
    owned.into_iter().find_map(|version| {
        let options = version.spec.sources.iter().map(|source| {
            let mut values = own.values(source, now);
            values.retain(|one| !pinned || source.version.is_none() || source.version == one.number);
            values
        });
        let options: Vec<_> = options.collect();
        Some((version, explain(version.spec, &options, &after.data, &slot.foreign)?))
    })
}

/// I-06: "One Secret version = source versions that one successful round of reads returned." S1: "a write of part of a
/// refresh; a key set that mixes two reads". I-05: "No key of a managed Secret vanishes or empties unless the spec
/// dropped it". I-07: "While VP is cut, sealed, or answers only 403/404/429/5xx: … data changes of Secrets = 0".
fn is_one_rendering(
    view: &View<'_>,
    entry: &Entry,
    process: Process,
    request: &SecretRequest,
    after: &Stored,
    is_rendering: bool,
    findings: &mut Findings,
) {
    let slot = &view.slots[request.slot];
    let before = slot.held.map(|(stored, _)| stored);
    let changes = before.is_none_or(|before| before.data != after.data);
    if changes && view.vault_up.lasts(false, entry.at, GRACE) {
        findings.judge(Invariant::I07, entry, is_rendering, "data changed while Vault was in doubt");
        return;
    }
    let has_pins = slot.current().is_some_and(|version| version.spec.sources.iter().any(|one| one.version.is_some()));
    if !is_rendering && explained(view, entry.at, process, request.slot, after, false).is_some() {
        findings.judge(Invariant::Pinned, entry, false, "another version than the pinned one was stored");
        return;
    }
    if has_pins {
        findings.judge(Invariant::Pinned, entry, true, "");
    }
    if let Some(before) = before.filter(|before| !before.data.is_empty()) {
        let is_empty = |value: Option<&String>| value.is_none_or(String::is_empty);
        let mut kept = before.data.iter().filter(|(_, value)| !value.is_empty());
        let loses = kept.any(|(key, _)| is_empty(after.data.get(key)));
        let why = "a key vanished or emptied, and neither spec nor values say so";
        findings.judge(Invariant::I05, entry, !loses || is_rendering, why);
        if loses {
            return;
        }
    }
    let only_metadata = !changes && slot.foreign.is_empty();
    let why = "what was stored is no rendering of versions that were just read";
    findings.judge(Invariant::I06, entry, is_rendering || only_metadata, why);
}

/// secrets.md §6: the type is the spec's; "deletionPolicy … Delete: ownerReference. Retain: there is no ownerReference".
fn has_its_form(slot: &Slot<'_>, entry: &Entry, after: &Stored, findings: &mut Findings) {
    let has_type = slot.lately(entry.at).any(|version| version.spec.type_ == after.type_);
    findings.judge(Invariant::Type, entry, has_type, "the type is not the spec's");
    let has_owner = slot.lately(entry.at).any(|version| {
        after.owner_reference
            == match version.spec.deletion {
                DeletionPolicy::Delete => Some(version.uid),
                DeletionPolicy::Retain => None,
            }
    });
    findings.judge(Invariant::Ownership, entry, has_owner, "the owner reference is not what deletionPolicy says");
}

/// secrets.md, the sixth sentence: "A 403 or 404 is not evidence." §8: `RemoteMissing`, `RemoteDeleted`, `AccessDenied`:
/// the Secret is kept. What the process last heard of a source, for this binding, must be its values.
fn deleted_is_kept(own: &ProcessView<'_>, entry: &Entry, slot: usize, spec: &Spec, findings: &mut Findings) {
    let denied = spec.sources.iter().any(|source| {
        let is_sibling_pin = |version: Option<i64>| {
            let mut siblings = spec.sources.iter().filter(|one| one.mount == source.mount && one.path == source.path);
            version.is_some() && siblings.any(|one| one.version == version)
        };
        let concerns = |version: Option<i64>| match source.version {
            Some(_) => version == source.version,
            None => !is_sibling_pin(version),
        };
        let mut heard = own.lately(entry.at).filter(|read| {
            read.slot == Some(slot) && read.call.is_of(source) && (read.call.is_metadata || concerns(read.call.version))
        });
        // "Requests in flight are shared, results for ≤ 1 s": another binding of the account may have asked last.
        let is_shared = |since: i64| {
            let mut others = own.lately(entry.at).take_while(|read| read.at >= since);
            others.any(|read| {
                let fits = read.call.is_metadata || concerns(read.call.version);
                read.slot != Some(slot) && read.call.is_of(source) && fits && !read.denies(source.version)
            })
        };
        heard.next().is_some_and(|read| read.denies(source.version) && !is_shared(read.at))
    });
    findings.judge(Invariant::DeletedIsKept, entry, !denied, "data changed though a source is gone or not shown");
}

/// secrets.md §1: "A version that is older than the stored one (lagging standby, restored server) is taken only after
/// two reads ≥ 60 s apart agree". Older: a smaller number that was not made later.
fn went_back(
    slot: &Slot<'_>,
    own: &ProcessView<'_>,
    entry: &Entry,
    version: &SpecVersion<'_>,
    chosen: &[Values<'_>],
    findings: &mut Findings,
) {
    let Some(written) = slot.written.as_ref().filter(|written| written.generation == Some(version.generation)) else {
        return;
    };
    if slot.held.is_none() || own.clock_stepped >= written.at {
        return;
    }
    for ((source, new), old) in version.spec.sources.iter().zip(chosen).zip(&written.chosen) {
        let is_older = new.number < old.number && new.created <= old.created && old.is_of(source);
        let (Some(number), Some(created), None, true) = (new.number, new.created, source.version, is_older) else {
            continue;
        };
        let mut shown = own.reads.iter().filter(|read| read.at >= written.at && read.at <= entry.at - SHOWN_FOR);
        let holds = shown.any(|read| read.call.is_of(source) && read.newest() == Some((number, created)));
        findings.judge(Invariant::WentBack, entry, holds, "an older version was stored at once");
    }
}

/// S12: "a write to Kubernetes when nothing changed". Annotations are not seen: another version with equal values is a
/// change, and so is another generation.
fn wrote_something_new(
    slot: &Slot<'_>,
    entry: &Entry,
    process: Process,
    version: &SpecVersion<'_>,
    chosen: &[Values<'_>],
    findings: &mut Findings,
) {
    let Some(written) = &slot.written else { return };
    // What was edited a moment before may have been written as it was before that.
    let is_settled = slot.edited < written.at - EDIT_LAG;
    let knows = written.is_known && written.process == process && slot.meddled.0 < written.at && is_settled;
    let is_equal = written.generation == Some(version.generation)
        && written.chosen.len() == chosen.len()
        && written.chosen.iter().zip(chosen).all(|(old, new)| old.is_same(new));
    findings.judge(Invariant::I15, entry, !(knows && is_equal), "the Secret was written again unchanged");
}
