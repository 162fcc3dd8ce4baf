//! The sources of a binding, whatever their kind: what is asked of the server for one, and which state of it the
//! answers tell.
//!
//! A kind is one file below this one, with its [`Kind`], and one line in [`KINDS`] (beside its fields in the API).
//! Everything else (grants, rounds of reads, hashes, what a Secret says of its origin, the status) speaks of a
//! [`Source`], and knows no kind.

pub mod kv;

use std::{fmt, ops::Deref, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::BindingSource,
    binding::{
        intent::Rejection,
        world::{Answer, What},
    },
    fault::Failure,
    value::{
        kv::{Metadata, MountKind, Values},
        vault_path::VaultPath,
    },
};

/// Parses the part of a source's spec that a kind answers for; `None` where the spec has no such part.
type Parse = fn(&BindingSource) -> Option<Result<Arc<dyn Kind>, Rejection>>;

/// Every kind.
const KINDS: &[Parse] = &[kv::parse];

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

/// A source.
#[derive(Debug, Clone)]
pub struct Source {
    /// What entries call it.
    pub name: String,
    kind: Arc<dyn Kind>,
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

/// What the server told of a source in this pass.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What its mount is.
    pub mount: Option<MountKind>,
    /// Its metadata.
    pub metadata: Option<Metadata>,
    /// Whether the server refuses to show the metadata; the values are read each time instead.
    pub is_closed: bool,
    /// Its values.
    pub values: Option<Values>,
}

impl Source {
    /// A source by its name.
    pub fn new(name: &str, kind: Arc<dyn Kind>) -> Self {
        Self { name: name.to_owned(), kind }
    }

    /// Parses one of `spec.sources`.
    ///
    /// # Errors
    /// What its kind says, or that it is not of exactly one kind.
    pub fn parse(spec: &BindingSource) -> Result<Self, Rejection> {
        let mut kinds = KINDS.iter().filter_map(|parse| parse(spec));
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(Self::new(&spec.name, kind?)),
            _ => Err(rejection("must each say one place to read from, and no more")),
        }
    }
}

impl Deref for Source {
    type Target = dyn Kind;

    fn deref(&self) -> &Self::Target {
        &*self.kind
    }
}

impl Known {
    /// Adds an answer.
    pub fn learn(&mut self, answer: Answer) {
        match answer {
            Answer::Mount(kind) => self.mount = Some(kind),
            Answer::Metadata(metadata) => self.metadata = Some(metadata),
            Answer::MetadataDenied => self.is_closed = true,
            Answer::Values(values) => self.values = Some(values),
        }
    }
}

/// A source that breaks this rule.
fn rejection(rule: &'static str) -> Rejection {
    Rejection { field: "spec.sources", rule }
}
