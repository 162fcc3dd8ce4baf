//! What NetworkPolicies let pass, held against tables written by hand and against a second, naive reading of the API.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the impossible should stop at once, with the line"
)]

mod naive;
mod properties;
mod random;
mod table;
mod verdicts;
