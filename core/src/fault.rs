//! The error taxonomy: one type, seven classes.
//!
//! [`Failure`] is the only error that leaves an effect. Its message is built by us from typed
//! parts; a foreign error's text, body or `Debug` output never enters it. Classification happens
//! once, where the foreign error enters (`cluster::classify`, `vault::classify`).

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::{ConditionType, Finding, Reason, Verdict},
    next::jittered,
};

/// What kind of trouble it is; decides when we try again and what the status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Class {
    /// The request itself is wrong; only a change of the spec, role or rule helps.
    Invalid,
    /// Something we refer to does not exist yet; a watch wakes us.
    Waiting,
    /// We are known and refused.
    Denied,
    /// Too fast: the server's or our own budget is used up.
    Throttled,
    /// The other side cannot answer now.
    Unavailable,
    /// Somebody else wrote first; look again.
    Conflict,
    /// A state that must not exist; a person has to look.
    Bug,
}

/// A failed effect or observation, in our own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Decides the next try.
    pub class: Class,
    /// The named cause.
    pub reason: Reason,
    /// What failed, where, and what to do; never a foreign text, never a value; at most 1,024 characters.
    pub message: String,
    /// The server's own wish (`Retry-After`), where it gave one.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of `class` with `reason` and our own `message`.
    pub fn new(class: Class, reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(1_024) {
            message.truncate(cut);
        }
        Self { class, reason, message, retry_after: None }
    }

    /// The same failure with the server's own wish for the next try.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What kstatus says of it: work goes on by itself, or a person must act.
    pub fn progress(&self) -> Option<Finding> {
        let kind = match self.class {
            Class::Invalid | Class::Denied | Class::Bug => ConditionType::Stalled,
            Class::Waiting | Class::Throttled | Class::Unavailable => ConditionType::Reconciling,
            // A lost race is over before anybody could read about it.
            Class::Conflict => return None,
        };
        Some(Finding::new(kind, Verdict::True, self.reason, self.message.clone()))
    }

    /// How long to wait before try number `attempts + 1` (`attempts` ≥ 1) of the object `uid`.
    pub fn backoff(&self, attempts: u32, uid: &str) -> Duration {
        let doubled = |first: u64, most: u64| {
            let factor = 1_u64.checked_shl(attempts.saturating_sub(1).min(20)).unwrap_or(u64::MAX);
            Duration::from_secs(first.saturating_mul(factor).min(most))
        };
        let wait = match self.class {
            Class::Invalid => Duration::from_secs(3_600),
            Class::Waiting | Class::Bug => Duration::from_secs(600),
            Class::Denied => doubled(300, 3_600),
            Class::Throttled => doubled(5, 120),
            Class::Conflict if attempts <= 5 => Duration::from_millis(100),
            Class::Unavailable | Class::Conflict => jittered(doubled(2, 600), uid),
        };
        self.retry_after.map_or(wait, |told| told.max(Duration::from_secs(1)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Failure {}
