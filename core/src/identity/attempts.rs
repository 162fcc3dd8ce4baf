//! How soon after a counted failure the next attempt may be.
//!
//! A new generation, a changed trust domain or a person's request clears the back-off. `status.lastFailure` keeps what
//! the attempt was about, the request included: a request clears the back-off once, not for as long as it fails.

use std::fmt;

use jiff::Timestamp;

use crate::{
    api::LastFailure,
    fault::Failure,
    identity::{
        gates::{Admitted, Hold},
        intent::Intent,
        renewal::second,
        requests::{self, BETWEEN_FORCED},
        world::World,
    },
    value::digest,
};

/// What an attempt is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Spec and trust domain, hashed.
    wish: String,
    /// The request that waits for an answer, hashed.
    request: Option<String>,
}

/// As `status.lastFailure.inputs` keeps it.
impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            None => f.write_str(&self.wish),
            Some(request) => write!(f, "{}/{request}", self.wish),
        }
    }
}

impl Inputs {
    /// What an attempt would be about now.
    pub fn of(intent: &Intent, world: &World, admitted: &Admitted<'_>) -> Self {
        Self {
            wish: digest::short(&[&intent.generation.to_be_bytes(), admitted.domain.revision.as_bytes()]),
            request: requests::pending(intent, world),
        }
    }

    /// How often in a row the same was tried before.
    pub fn attempts_before(&self, last: Option<&LastFailure>) -> i32 {
        last.filter(|last| self.is_wish_of(last) && !self.is_forced_after(last)).map_or(0, |last| last.attempts)
    }

    /// The failure that is still being backed off from at `now`, for the identity `uid`.
    pub fn backing_off(&self, last: Option<&LastFailure>, uid: &str, now: Timestamp) -> Option<Hold> {
        let last = last.filter(|last| self.is_wish_of(last) && last.at.0 <= now)?;
        let failure = Failure::new(last.class, last.reason, last.message.clone());
        let attempts = u32::try_from(last.attempts).unwrap_or(1);
        let wait = i64::try_from(failure.backoff(attempts, uid).as_secs()).unwrap_or(i64::MAX);
        let wait = if self.is_forced_after(last) { wait.min(BETWEEN_FORCED) } else { wait };
        let until = second(last.at.0.as_second().saturating_add(wait));
        (now < until).then_some(Hold { failure, until: Some(until) })
    }

    fn is_wish_of(&self, last: &LastFailure) -> bool {
        parts(last).0 == self.wish
    }

    /// Whether a request came in after that failure.
    fn is_forced_after(&self, last: &LastFailure) -> bool {
        self.request.is_some() && self.request.as_deref() != parts(last).1
    }
}

fn parts(last: &LastFailure) -> (&str, Option<&str>) {
    last.inputs.split_once('/').map_or((last.inputs.as_str(), None), |(wish, request)| (wish, Some(request)))
}
