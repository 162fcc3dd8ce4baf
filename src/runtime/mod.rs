//! What every part of the operator stands on: time, randomness, leadership, health, metrics, logs.
//!
//! Knows nothing of our kinds but their names. [`operator::operate`] puts the parts together.

pub mod build;
pub mod client;
pub mod clock;
pub mod entropy;
pub mod events;
pub mod failures;
pub mod health;
pub mod leader;
pub mod listen;
pub mod metrics;
pub mod operator;
pub mod panics;
pub mod process;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

#[cfg(test)]
mod fake_leases;
