//! The countersign operator: effects, wiring and the command line.
//!
//! Every decision is made in `countersign_core`; what is here reads the world, performs the one
//! effect that was decided, and reads again.

pub mod cli;
pub mod cluster;
mod controllers;
pub mod issuers;
pub mod runtime;
pub mod vault;
