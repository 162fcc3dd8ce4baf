//! What every part of the operator stands on: time, randomness, leadership, health, metrics, logs.
//!
//! Knows nothing of our kinds but their names.

pub mod clock;
pub mod entropy;
