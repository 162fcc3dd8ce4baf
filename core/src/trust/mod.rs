//! `TrustDomain`: which authority signs, and what may be asked of it.
//!
//! [`intent`] parses, [`world`] is what was observed, [`decide`] names the next call ([`embedded`]
//! and [`vault`] are its two halves), [`rules`] holds the small facts they share, [`report`] writes
//! the status. Rotation is not part of this: an authority, once pinned, stays.

pub mod decide;
mod embedded;
pub mod intent;
pub mod report;
pub mod rules;
#[cfg(test)]
mod tests;
mod vault;
pub mod world;
