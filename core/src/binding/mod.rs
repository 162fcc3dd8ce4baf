//! `SecretBinding`: values of Vault or OpenBao in one Secret, all of them or none.
//!
//! [`intent`] parses the spec, [`source`] says what is read for each kind of source and [`reads`] what can be, [`world`]
//! is what was observed, [`gates`] say whether we may act, [`triggers`] whether we must, [`decide`](decide::decide) names
//! the next effect, [`mapping`] turns values into keys, [`origin`] is what a Secret says it was made of, [`report`] writes
//! the status. Every source is read and every key made before anything is written; what fails leaves the Secret as it is,
//! and nothing here deletes.

pub mod decide;
pub mod gates;
pub mod hashes;
pub mod intent;
pub mod mapping;
pub mod origin;
pub mod phase;
pub mod reads;
pub mod rejection;
pub mod report;
pub mod source;
#[cfg(test)]
mod tests;
pub mod triggers;
pub mod world;

use jiff::Timestamp;

use crate::next::{Machine, Next};

/// The machine of a `SecretBinding`.
#[derive(Debug)]
pub enum Binding {}

impl Machine for Binding {
    type Intent = intent::Intent;
    type World = world::World;
    type Effect = world::Effect;
    type Reply = world::Reply;
    type Settled = world::Settled;

    fn decide(intent: &intent::Intent, world: &world::World, now: Timestamp) -> Next<world::Effect, world::Settled> {
        decide::decide(intent, world, now)
    }

    fn absorb(world: world::World, reply: world::Reply) -> world::World {
        world::absorb(world, reply)
    }
}
