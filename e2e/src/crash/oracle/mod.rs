//! The oracle: judges a history by the invariants. Pure, and ignorant of how the operator decides.
//!
//! One module an area; `tests.rs` holds, for each invariant, a history that violates it and nothing else.

mod calls;
mod end;
mod mask;
mod network;
mod stored;

#[cfg(test)]
mod tests;

pub use self::end::{Reference, Summary};
use super::{history::History, plan::Job};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `I-01` … as the design numbers them.
    pub invariant: &'static str,
    /// What happened, without any value of a Secret.
    pub what: String,
}

impl Violation {
    fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

/// Everything wrong with a history; `reference` is what undisturbed runs taught.
pub fn judge(history: &History, reference: Option<&Reference>) -> Vec<Violation> {
    let mut found = stored::check(history);
    found.extend(calls::check(history));
    if history.subject.job == Job::Segment {
        found.extend(network::check(history));
    }
    if let Some(reference) = reference {
        found.extend(end::check(history, reference));
    }
    found
}
