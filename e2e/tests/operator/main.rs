//! The installed operator from outside: what it issues, what it refuses, what it survives, what it may not do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod binding_refusals;
mod bindings;
mod cases;
mod connections;
mod fence;
mod identities;
mod judges;
mod limits;
mod lonely;
mod paths;
mod ports;
mod refusals;
mod segment_refusals;
mod targets;

use std::time::Duration;

/// How long anything that includes making a large RSA key on a busy machine may take.
const SLOW: Duration = Duration::from_secs(90);
