//! What status says, and how often it is written.

use countersign_core::api::{ConditionType, Reason, Verdict};

use super::{
    Findings, Invariant, SKEW, content,
    view::{IdentityView, Seen, View, operator},
    writes,
};
use crate::history::{Entry, FailureClass, LastFailure, Outcome, Process, ProcessChange, StatusWrite, Stored};

/// Shows a status write to everything that speaks of status.
pub fn judge(view: &View<'_>, entry: &Entry, write: &StatusWrite, findings: &mut Findings) {
    let Some(process) = operator(entry) else { return };
    writes::only_the_leader_writes(view, entry, process, findings);
    if view.steady {
        writes::steady_is_quiet(view, entry, findings);
    } else {
        says_something_new(view, entry, process, write, findings);
    }
    let (Some(identity), Outcome::Written { .. }) = (view.identity(write.uid), write.outcome) else { return };
    if holds(write, ConditionType::Ready) {
        ready_is_true(view, entry, process, identity, write, findings);
    }
    outage_is_no_attempt(view, entry, identity, write, findings);
    one_status_write(view, entry, identity, findings);
}

/// Whether a condition is True.
pub fn holds(write: &StatusWrite, kind: ConditionType) -> bool {
    write.conditions.iter().any(|condition| condition.kind == kind && condition.verdict == Verdict::True)
}

/// Whether a reader sees that something is wrong.
pub fn shows_trouble(write: &StatusWrite) -> bool {
    let refused = |kind| write.conditions.iter().any(|one| one.kind == kind && one.verdict == Verdict::False);
    holds(write, ConditionType::Reconciling)
        || holds(write, ConditionType::Stalled)
        || [ConditionType::Ready, ConditionType::Issued, ConditionType::Accepted].into_iter().any(refused)
}

/// I-29: "The process never exits by panic".
pub fn judge_process(entry: &Entry, change: ProcessChange, findings: &mut Findings) {
    findings.judge(Invariant::I29, entry, change != ProcessChange::Panicked, "the process ended by a panic");
}

/// I-15, outside the steady window too: a process does not write a status that it knows to be stored already.
fn says_something_new(view: &View<'_>, entry: &Entry, process: Process, write: &StatusWrite, findings: &mut Findings) {
    let last = view.status(write.object, write.uid).filter(|(_, knows)| *knows == Some(process));
    let repeats = last.is_some_and(|(last, _)| {
        let StatusWrite { outcome, answer_lost, .. } = *write;
        *write == StatusWrite { outcome, answer_lost, ..last.clone() }
    });
    findings.judge(Invariant::I15, entry, !repeats, "the status was written again unchanged");
}

/// I-26: "`Ready=True` ⇒ content equals the rendering of `observedGeneration`"; N11: never "`Ready=True` while the
/// stored material does not verify now". Where the spec is not accepted, the last good output counts
/// (reliability.md §8).
fn ready_is_true(
    view: &View<'_>,
    entry: &Entry,
    process: Process,
    identity: &IdentityView<'_>,
    write: &StatusWrite,
    findings: &mut Findings,
) {
    let is_good = known_target(view, entry, process, identity).is_some_and(|stored| {
        stored.owner_uid == Some(identity.uid)
            && content::is_pair(&stored.content)
            && stored.content.tls_crt.as_deref().is_some_and(|leaf| {
                let is_wanted = !holds(write, ConditionType::Accepted)
                    || view.specs.iter().any(|version| {
                        version.uid == identity.uid
                            && version.generation == write.observed_generation
                            && view.domains.iter().rev().any(|domain| {
                                domain.object == version.spec.trust_domain
                                    && domain.span.until >= entry.at - view.history.settings.grace
                                    && content::is_for(view, identity, version.spec, domain.spec, leaf)
                            })
                    });
                leaf.verifies && leaf.not_after > entry.at - SKEW && is_wanted
            })
    });
    findings.judge(Invariant::I26, entry, is_good, "Ready=True, but the stored material is not good");
}

/// The target as the process could know it: what it read within its deadline, else what is there.
fn known_target<'h>(
    view: &View<'h>,
    entry: &Entry,
    process: Process,
    identity: &IdentityView<'h>,
) -> Option<&'h Stored> {
    let look =
        view.look(process, identity.target).filter(|look| look.read_at >= entry.at - view.history.settings.grace);
    match look.map(|look| look.seen) {
        Some(Seen::There(Some(stored))) => Some(stored),
        Some(Seen::There(None) | Seen::Absent | Seen::Unknown) | None => view.stored(identity.target),
    }
}

/// identity.md §7: "connect, TLS, timeout, 5xx … all objects parked, no attempt counted, identities keep `Ready=True`".
fn outage_is_no_attempt(
    view: &View<'_>,
    entry: &Entry,
    identity: &IdentityView<'_>,
    write: &StatusWrite,
    findings: &mut Findings,
) {
    let last = view.status(write.object, write.uid).map(|(status, _)| status);
    let attempts = |failure: &Option<LastFailure>| failure.as_ref().map_or(0, |failure| failure.attempts);
    let counted = attempts(&write.last_failure) > last.map_or(0, |last| attempts(&last.last_failure));
    let only_outages = identity.tally.unreached > 0 && identity.tally.refused == 0;
    let blames = write.last_failure.as_ref().filter(|_| counted).is_some_and(|failure| {
        failure.class == FailureClass::Unavailable || (only_outages && is_refusal(failure.reason))
    });
    let issues = write.issues > last.map_or(0, |last| last.issues);
    let counts_an_issue = issues && only_outages && identity.tally.answered == 0;
    let stalls = write.conditions.iter().any(|condition| {
        condition.kind == ConditionType::Stalled && condition.verdict == Verdict::True && is_outage(condition.reason)
    });
    let is_harmed = blames || counts_an_issue || stalls;
    if is_harmed || identity.tally.unreached > 0 {
        findings.judge(Invariant::OutageIsNoAttempt, entry, !is_harmed, "an outage was counted against the object");
    }
}

fn is_refusal(reason: Reason) -> bool {
    matches!(reason, Reason::AccessDenied | Reason::RoleRefused | Reason::AnswerRejected)
}

fn is_outage(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VaultUnavailable
            | Reason::VaultSealed
            | Reason::IssuerUnavailable
            | Reason::ApiServerUnavailable
            | Reason::StandbyRedirect
            | Reason::Throttled
    )
}

/// identity.md §6: "2 writes a renewal": from the signature to the end of D one status write.
fn one_status_write(view: &View<'_>, entry: &Entry, identity: &IdentityView<'_>, findings: &mut Findings) {
    let within = view.history.settings.truth_within;
    if let Some(renewal) = identity.renewal.as_ref().filter(|renewal| entry.at <= renewal.at + within) {
        let is_first = renewal.statuses == 0 || renewal.excused;
        findings.judge(Invariant::TwoWrites, entry, is_first, "a renewal took a second status write");
    }
}
