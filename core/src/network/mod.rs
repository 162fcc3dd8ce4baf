//! Who may talk to whom: from what people declared to NetworkPolicies, and in which order they are written.
//!
//! `intent, observed → project → compile → opinion → preflight → plan → report`, put together by [`decide`]. All of it is
//! pure and deterministic: equal input, equal bytes.
//!
//! 1. [`intent`] parses what people wrote into what they [`declared`]; [`observed`] decodes what is watched into a
//!    [`snapshot`]; [`applied`] reads our own objects back, with why they open what they open.
//! 2. [`model`] holds what may pass, in types that cannot say "everyone" by accident.
//! 3. [`projection`] finds the labels that select exactly the pods of an identity.
//! 4. [`segments`] gives each namespace its segment, [`consent`] tells which halves of an edge are open, [`blocks`] and
//!    [`exceptions`] what passes besides edges; [`compile`] puts them together, [`compiled`] is what it comes to, and
//!    [`render`] writes the objects.
//! 5. [`evaluate`] reads objects by the words of the API, and shares nothing with the rest; [`opinion`] compares it with
//!    what was declared before anything is written.
//! 6. [`preflight`] says what stands against closing a namespace, [`plan`] what may be written now, [`attempts`] what of it is tried, [`report`] what the
//!    statuses say, [`answer`] whether one connection passes.

pub mod answer;
pub mod applied;
pub mod attempts;
pub mod blocks;
pub mod compile;
pub mod compiled;
pub mod consent;
pub mod decide;
pub mod declared;
pub mod evaluate;
pub mod exceptions;
pub mod intent;
pub mod model;
pub mod observed;
pub mod opinion;
pub mod plan;
pub mod ports;
pub mod preflight;
pub mod projection;
pub mod render;
pub mod report;
pub mod segments;
pub mod snapshot;
#[cfg(test)]
mod tests;
