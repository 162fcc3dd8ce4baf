//! A person's request for a new certificate: whether it waits, which one was answered, and when the next may be.
//!
//! What was answered, and when, stands on the Secret beside the certificate that answered it: one write carries both,
//! and no restart forgets it.

use jiff::Timestamp;

use crate::{
    api::Reason,
    fault::{Class, Failure},
    identity::{
        gates::Hold,
        intent::Intent,
        renewal::second,
        triggers::Trigger,
        world::{Stored, TargetView, World},
    },
    value::digest,
};

/// The least time between two tries that a person forced, seconds.
pub const BETWEEN_FORCED: i64 = 60;

/// The request that waits for an answer, hashed.
pub fn pending(intent: &Intent, world: &World) -> Option<String> {
    let answered = match &world.target {
        TargetView::Present(stored) => stored.answered_request.as_deref(),
        TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
    };
    hash(intent).filter(|request| answered.map(which) != Some(request.as_str()))
}

/// Whether the stored certificate answered the intent's request.
pub fn is_answered(intent: &Intent, stored: &Stored) -> bool {
    hash(intent).is_some_and(|request| stored.answered_request.as_deref().map(which) == Some(request.as_str()))
}

/// The mark of a Secret that is written at `now` with a new certificate: that answers what waits.
pub fn mark(intent: &Intent, world: &World, now: Timestamp) -> Option<String> {
    let before = match &world.target {
        TargetView::Present(stored) => stored.answered_request.clone(),
        TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
    };
    pending(intent, world).map(|request| format!("{request} {now}")).or(before)
}

/// A request that follows an answered one within a minute waits for the minute to be over.
///
/// A recorded time in the future is ignored: a clock that was once wrong must not hold anybody up.
pub fn too_soon(world: &World, trigger: Trigger, now: Timestamp) -> Option<Hold> {
    let (Trigger::RequestedNow, TargetView::Present(stored)) = (trigger, &world.target) else { return None };
    let last = stored.answered_request.as_deref().and_then(when).filter(|at| *at <= now)?;
    let until = second(last.as_second() + BETWEEN_FORCED);
    (now < until).then(|| {
        let message = format!(
            "a request was answered at {last}, and one a minute is served; this one is kept and served at {until}"
        );
        Hold { failure: Failure::new(Class::Throttled, Reason::IssuanceThrottled, message), until: Some(until) }
    })
}

/// A hash, because a person's text may be longer than an annotation should be.
fn hash(intent: &Intent) -> Option<String> {
    intent.requested.as_ref().map(|text| digest::short(&[text.as_bytes()]))
}

/// The request of a mark; one from before the time was kept is only that.
fn which(mark: &str) -> &str {
    mark.split_once(' ').map_or(mark, |(request, _)| request)
}

fn when(mark: &str) -> Option<Timestamp> {
    mark.split_once(' ')?.1.parse().ok()
}
