//! The Vault fence against a real OpenBao server, and against impostors for what a real server
//! cannot be made to answer.
//!
//! Needs the feature `contract` and COUNTERSIGN_BAO, the path of an OpenBao binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[path = "../support/bao.rs"]
mod bao;
mod environment;
mod impostor;
mod impostors;
mod kv;
mod logins;
mod server;
mod setup;
mod signatures;
