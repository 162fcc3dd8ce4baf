//! A spec that is none.

/// A field that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Path of the field, for example `spec.sources`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}
