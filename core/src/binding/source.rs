//! The sources of a binding, whatever their kind: what is asked of the server for one, and which state of it the
//! answers tell.
//!
//! A kind is one file below this one, with its [`Kind`], and one line in [`KINDS`] (beside its fields in the API).
//! Everything else (grants, rounds of reads, hashes, what a Secret says of its origin, the status) speaks of a
//! [`Source`], and knows no kind.

mod kind;
mod kv;

use std::sync::Arc;

use kind::rejection;
pub use kind::{Kind, Look, State};

use crate::{api::BindingSource, binding::rejection::Rejection};

/// Parses the part of a source's spec that a kind answers for; `None` where the spec has no such part.
type Parse = fn(&BindingSource) -> Option<Result<Arc<dyn Kind>, Rejection>>;

/// Every kind.
const KINDS: &[Parse] = &[kv::parse];

/// A source.
#[derive(Debug, Clone)]
pub struct Source {
    /// What entries call it.
    pub name: String,
    /// Where its values are.
    pub kind: Arc<dyn Kind>,
}

impl Source {
    /// Parses one of `spec.sources`.
    ///
    /// # Errors
    /// What its kind says, or that it is not of exactly one kind.
    pub fn parse(spec: &BindingSource) -> Result<Self, Rejection> {
        let mut kinds = KINDS.iter().filter_map(|parse| parse(spec));
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(Self { name: spec.name.clone(), kind: kind? }),
            _ => Err(rejection("must each say one place to read from, and no more")),
        }
    }
}
