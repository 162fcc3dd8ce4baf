//! How often a secret is read for a binding.

use countersign_core::api::RefreshMode;

use super::{
    Findings, Invariant,
    view::{Call, EDIT_LAG, NEVER, ProcessView, Read, SpecVersion, View},
};
use crate::history::{DRIFT, Entry, GRACE, VaultAnswer};

/// Reads in a minute for one source: five tries of a back-off that begins at 2 s, each with metadata, values and a
/// repeat after a login, none of which comes more often.
const READS_A_MINUTE: usize = 12;
/// A minute, less what two tries may be late or early.
const FORCED_EVERY: i64 = 55;
/// Until when after a login a refusal may be a standby that lags.
const TOKEN_SETTLES: i64 = 5;
/// For how long metadata that were refused are not asked for, and values are read each time instead.
const METADATA_REFUSED_FOR: i64 = 3_600;

/// Shows a read to everything that speaks of how often.
pub fn judge(
    view: &View<'_>,
    entry: &Entry,
    own: &ProcessView<'_>,
    slot: usize,
    call: Call<'_>,
    findings: &mut Findings,
) {
    let binding = &view.slots[slot];
    within_budget(view, entry, own, slot, findings);
    let Some(version) = binding.current() else { return };
    one_forced_try(view, entry, own, slot, call, findings);
    if binding.is_synced() {
        if let Some(since) = view.steady {
            only_due_reads(view, entry, own, slot, call, since, findings);
        } else {
            not_before_its_time(view, entry, own, slot, version, call, findings);
        }
    }
}

/// I-14: "Vault calls per object within its minute budget, errors included."
fn within_budget(view: &View<'_>, entry: &Entry, own: &ProcessView<'_>, slot: usize, findings: &mut Findings) {
    let binding = &view.slots[slot];
    let sources = binding.lately(entry.at).map(|version| version.spec.sources.len()).max().unwrap_or(1).max(1);
    let is_faulty = view.faults.on || view.faults.since >= entry.at - GRACE;
    let most = READS_A_MINUTE * sources * if is_faulty { 2 } else { 1 };
    let stirred = binding.stirred.max(view.changed).max(own.clock_stepped);
    let minute = own.slots[slot].reads.next(entry.at, stirred);
    findings.judge(Invariant::I14, entry, minute.times <= most, "too many reads in a minute for one binding");
}

/// How many sources of a spec one call is for.
fn sources_of(version: &SpecVersion<'_>, call: Call<'_>) -> i64 {
    let count = version.spec.sources.iter().filter(|source| call.is_of(source)).count();
    i64::try_from(count).unwrap_or(1).max(1)
}

/// How often the process made this call for the binding after `since`.
fn made(own: &ProcessView<'_>, slot: usize, call: Call<'_>, since: i64) -> i64 {
    let is_same = |read: &&Read<'_>| {
        let (one, other) = (read.call, call);
        read.slot == Some(slot)
            && one.is_metadata == other.is_metadata
            && one.path == other.path
            && one.mount == other.mount
    };
    let recent = own.reads.iter().rev().take_while(|read| read.at > since);
    i64::try_from(recent.filter(is_same).count()).unwrap_or(i64::MAX)
}

/// I-15: "Steady cluster: … only due reads to Vault": each source once per `every`, and values only where they changed.
fn only_due_reads(
    view: &View<'_>,
    entry: &Entry,
    own: &ProcessView<'_>,
    slot: usize,
    call: Call<'_>,
    since: i64,
    findings: &mut Findings,
) {
    let Some(version) = view.slots[slot].current() else { return };
    let mine = &own.slots[slot];
    if mine.failed.max(mine.news) >= since - EDIT_LAG || own.clock_stepped >= since {
        return;
    }
    let is_auto = version.spec.mode == RefreshMode::Auto;
    let due = (entry.at - since + GRACE) / version.spec.every.max(1) + 1;
    let is_due = made(own, slot, call, since) < due * sources_of(version, call);
    findings.judge(Invariant::I15, entry, is_auto && is_due, "a read that was not due while steady");
    let has_versions = view.slots[slot].written.as_ref().is_some_and(|written| {
        let mut same = written.chosen.iter().filter(|one| (one.mount, one.path) == (call.mount, call.path));
        same.any(|one| one.number.is_some())
    });
    let metadata_open = view.metadata_closed.lasts(false, entry.at, METADATA_REFUSED_FOR + EDIT_LAG);
    if has_versions && metadata_open && !call.is_metadata {
        findings.judge(Invariant::I15, entry, false, "values were read though nothing changed");
    }
}

/// secrets.md §4: "periodic reads at `epoch + (k + u) × every` …: start-up reads nothing that is not due"; "`Once`: until
/// the first good write. `OnChange`: spec generation or `requested-at` only." The moments are not known here, but
/// between two of them lie `every` seconds.
fn not_before_its_time(
    view: &View<'_>,
    entry: &Entry,
    own: &ProcessView<'_>,
    slot: usize,
    version: &SpecVersion<'_>,
    call: Call<'_>,
    findings: &mut Findings,
) {
    let (binding, mine) = (&view.slots[slot], &own.slots[slot]);
    let (Some(told), now) = (binding.told, entry.at) else { return };
    let handled = binding.requested.is_none_or(|(text, _)| told.status.last_handled_request.as_deref() == Some(text));
    let taken = view.leadership.taken(own.process).unwrap_or(NEVER);
    let woken = own.started.max(taken);
    let stirred = binding.stirred.max(view.changed).max(own.clock_stepped).max(view.faults.since);
    let at_rest = handled && !view.faults.on && stirred < now - EDIT_LAG;
    if !at_rest || !view.vault_up.on {
        return;
    }
    if version.spec.mode != RefreshMode::Auto {
        if mine.failed < told.at && told.at > stirred && binding.written.as_ref().is_some_and(|one| one.at <= told.at) {
            let why = "a read that neither the spec nor an annotation asked for";
            findings.judge(Invariant::NotDue, entry, false, why);
        }
        return;
    }
    let (every, alike) = (version.spec.every, sources_of(version, call));
    let since = (stirred.max(mine.failed).max(mine.news).max(woken) + EDIT_LAG).max(now - every + 2);
    // What others did to the target may be found late.
    let since = since.max(binding.meddled.0 + DRIFT + EDIT_LAG);
    let few = made(own, slot, call, since) < 2 * alike;
    findings.judge(Invariant::NotDue, entry, few, "three reads within the time between two");
    // A process that has just begun finds what its predecessor left, and waits for the next moment.
    let is_first = now < woken + every - 2 && mine.failed.max(mine.news) == NEVER && stirred < woken - EDIT_LAG - DRIFT;
    let was_done = told.at < woken && binding.written.as_ref().is_some_and(|one| one.at <= told.at && one.is_known);
    if is_first && was_done {
        let few = made(own, slot, call, woken - 1) < alike;
        findings.judge(Invariant::NotDue, entry, few, "a process that has just begun read before its time");
    }
}

/// reliability.md §2: "backoff is cleared by … `countersign.dev/requested-at` (≤ 1 forced try a minute)". One more read
/// may be due by itself; the third within a minute is a loop.
fn one_forced_try(
    view: &View<'_>,
    entry: &Entry,
    own: &ProcessView<'_>,
    slot: usize,
    call: Call<'_>,
    findings: &mut Findings,
) {
    let read = Read { at: entry.at, slot: Some(slot), call, answer: &VaultAnswer::Nonsense };
    let is_rare = view.slots[slot].current().is_some_and(|version| version.spec.every >= 60);
    // Refused metadata are no failure where values are shown.
    let is_refused_metadata = call.is_metadata && view.metadata_closed.on;
    if is_rare && !is_refused_metadata && is_forced(view, own, &read) {
        let few = own.slots[slot].forced[0] <= entry.at - FORCED_EVERY;
        findings.judge(Invariant::OneForcedTry, entry, few, "what fails was tried three times within a minute");
    }
}

/// Whether a read repeats one that was refused or found nothing less than a minute ago, and nothing but an annotation
/// explains it.
pub fn is_forced(view: &View<'_>, own: &ProcessView<'_>, read: &Read<'_>) -> bool {
    let Some(place) = read.slot else { return false };
    let taken = view.leadership.taken(own.process).unwrap_or(NEVER);
    let mut recent = own.reads.iter().rev().take_while(|one| one.at > read.at - FORCED_EVERY);
    let Some(last) = recent.find(|one| one.slot == read.slot && one.call == read.call) else { return false };
    let mine = &own.slots[place];
    // A connection that is Ready once more clears the back-offs; it is asked once a minute whether it is.
    let changed = view.changed.saturating_add(GRACE);
    let cause = view.slots[place].edited.max(changed).max(taken).max(mine.tripped).max(own.clock_stepped);
    // "dead → one login, one repeat"; "A 403 within 2 s of login is repeated once after 1 s".
    let is_about_token = own.token_doubted >= last.at - TOKEN_SETTLES && read.at <= last.at + TOKEN_SETTLES;
    !is_about_token && matches!(last.answer, VaultAnswer::Status(403 | 404)) && last.at < read.at && cause < last.at
}
