//! `ServiceIdentity`: when to issue, what to ask for, what to accept, what to store, what to say.
//!
//! The path of one pass: [`intent::parse`] → the shell observes a [`world::World`] →
//! [`decide`](decide::decide) asks the [`gates`], then the [`triggers`], and names one effect →
//! the reply is folded back in → … → [`report::report`] writes the status.

pub mod answer;
pub mod attempts;
pub mod decide;
pub mod gates;
pub mod intent;
pub mod names;
pub mod queue;
pub mod renewal;
pub mod report;
pub mod requests;
pub mod storm;
pub mod triggers;
pub mod world;

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::next::{Machine, Next};

/// The identity kind as the shared loop and the simulator drive it.
#[derive(Debug, Clone, Copy)]
pub struct Identity;

impl Machine for Identity {
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
