//! `VaultConnection`: what is decided about a server before and after asking it.
//!
//! [`intent`] to [`report`] are the object's own state machine; [`breaker`], [`pace`] and [`token`]
//! decide for every call that goes through a connection and are called by the client alone.

pub mod address;
pub mod breaker;
pub mod decide;
pub mod intent;
pub mod lanes;
pub mod pace;
pub mod report;
#[cfg(test)]
mod tests;
pub mod token;
pub mod world;
