//! What a kind of source answers, and by which words.

use std::fmt;

use jiff::Timestamp;

use crate::{
    binding::{
        reads::{Known, What},
        rejection::Rejection,
    },
    fault::Failure,
    value::{kv::Values, vault_path::VaultPath},
};

/// What makes a source of its kind. Pure: it names reads and understands answers, and others do the reading.
pub trait Kind: fmt::Debug + Send + Sync {
    /// Mount and path of what is read: what grants are asked for, and what failures and the Secret call it.
    fn path(&self) -> &VaultPath;

    /// All of the spec that decides which values these are, the name of the kind first. Public: it goes into a plain
    /// digest.
    fn identity(&self) -> Vec<String>;

    /// Whether the spec names the state that it wants, so that one that is older than the stored is no step back.
    fn is_pinned(&self) -> bool;

    /// The state that is to be in the Secret, or the read that is missing to tell it.
    ///
    /// `needs_values`: they are read whatever the state is, so a read that tells both saves one.
    ///
    /// # Errors
    /// What the answers so far rule out.
    fn look(&self, known: &Known, needs_values: bool, now: Timestamp) -> Result<Look, Failure>;

    /// The read of the values in that state.
    fn values(&self, state: Option<&State>) -> What;

    /// The state that these values are of.
    fn state_of(&self, values: &Values) -> Option<State>;
}

/// How far a look at a source got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// This must be read first.
    Ask(What),
    /// This is its state; `None` where nothing but the values tells one from another.
    Seen(Option<State>),
}

/// A state of a source. Two that are equal hold equal values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its number, where the server counts them; a greater one is newer.
    pub number: Option<i64>,
    /// What tells it from every other state of this source. Public.
    pub identity: String,
}

/// A source that breaks this rule.
pub(super) fn rejection(rule: &'static str) -> Rejection {
    Rejection { field: "spec.sources", rule }
}
