//! Whole passes: what a person sees of an identity over time.
#![expect(clippy::unnecessary_wraps, reason = "an issuer may refuse, and one that never does is an issuer, too")]

mod conditions;
mod guard;
mod requests;
pub(super) mod shell;
