//! What has to have happened by now: judged when an entry shows that the time is over.
//!
//! Time in which something was in the operator's way does not count.

use std::mem;

use super::{
    Findings, Invariant, status,
    view::{IdentityView, Span, View, overlap},
};
use crate::history::Entry;

/// An outage no longer than this may not cost the margin.
const TOLERATED_OUTAGE: i64 = 600;

/// Judges every deadline that has passed before `entry`.
pub fn judge(view: &mut View<'_>, entry: &Entry, findings: &mut Findings) {
    if !view.races.is_empty() {
        lost_races_are_withdrawn(view, entry, findings);
    }
    if entry.at <= view.next_deadline {
        return;
    }
    let mut identities = mem::take(&mut view.identities);
    view.next_deadline = i64::MAX;
    for identity in &mut identities {
        truth_in_time(view, entry, identity, findings);
        quarter_of_life_left(view, entry, identity, findings);
    }
    view.identities = identities;
}

/// I-08: whoever met a stranger in place of an absent target withdraws its fields (identity.md §3).
fn lost_races_are_withdrawn(view: &mut View<'_>, entry: &Entry, findings: &mut Findings) {
    let (within, calm_since) = (view.history.settings.truth_within, view.calm.since);
    view.races.retain(|race| {
        let is_over = calm_since.is_some_and(|calm| entry.at > calm.max(race.at) + within);
        if is_over {
            findings.judge(Invariant::I08, entry, false, "our fields were left on a foreign object");
        }
        !is_over
    });
}

/// I-26: "a failing object shows a listed reason within D", and a new generation is observed within D.
fn truth_in_time(view: &mut View<'_>, entry: &Entry, identity: &mut IdentityView<'_>, findings: &mut Findings) {
    // While something is in the way nothing is due; when it is gone the view asks again.
    let (Some(due), Some(calm_since)) = (identity.truth_due, view.calm.since) else { return };
    let due = due.max(calm_since + view.history.settings.truth_within);
    if entry.at <= due {
        view.expect_by(due);
        return;
    }
    identity.truth_due = None;
    let tells = view.status(identity.object, identity.uid).is_some_and(|(write, _)| {
        write.observed_generation >= identity.generation && (!identity.failing || status::shows_trouble(write))
    });
    findings.judge(Invariant::I26, entry, tells, "status did not tell in time");
}

/// I-30: "renewal completes with ≥ 1/4 of life left under ≤ 10 min of outage".
fn quarter_of_life_left(view: &mut View<'_>, entry: &Entry, identity: &mut IdentityView<'_>, findings: &mut Findings) {
    let (Some(due), Some((leaf, _))) = (identity.renewal_due, identity.baseline) else { return };
    if entry.at <= due {
        view.expect_by(due);
        return;
    }
    identity.renewal_due = None;
    // Renewal is never planned for the first half of life, so what happened then is no excuse.
    let window = Span { from: i64::midpoint(leaf.not_before, leaf.not_after), until: due };
    let outage = view.connection_of(identity).map_or(0, |connection| overlap(&connection.outages, window));
    let lost = overlap(&view.calm.disturbed, window) + outage;
    findings.judge(Invariant::I30, entry, lost > TOLERATED_OUTAGE, "a quarter of life was left and nothing renewed");
}
