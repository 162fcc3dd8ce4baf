//! The loop every controller shares: decide → perform → absorb, until settled.

use std::future::Future;

use countersign_core::next::{MAX_EFFECTS, Machine, Next};

use crate::runtime::clock::Clock;

/// Performs the effects of one machine: one remote call each, without a choice of its own.
pub trait Perform<M: Machine> {
    /// Performs one effect; a failure is a reply, too.
    fn perform(&self, effect: M::Effect) -> impl Future<Output = M::Reply> + Send;
}

/// A machine that named more effects than any honest pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endless;

/// Drives a machine until it settles; returns the world as it then was, and why it stopped.
///
/// # Errors
/// [`Endless`] after [`MAX_EFFECTS`] effects: a decision that never settles is a bug, and must not
/// become a stream of writes.
pub async fn drive<M: Machine>(
    intent: &M::Intent,
    mut world: M::World,
    clock: &Clock,
    hands: &impl Perform<M>,
) -> Result<(M::World, M::Settled), Endless> {
    for _ in 0..=MAX_EFFECTS {
        match M::decide(intent, &world, clock.now()) {
            Next::Settle(settled) => return Ok((world, settled)),
            Next::Do(effect) => world = M::absorb(world, hands.perform(effect).await),
        }
    }
    Err(Endless)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    struct CountTo;

    impl Machine for CountTo {
        type Intent = u32;
        type World = u32;
        type Effect = u32;
        type Reply = u32;
        type Settled = u32;

        fn decide(intent: &u32, world: &u32, _: Timestamp) -> Next<u32, u32> {
            if world == intent { Next::Settle(*world) } else { Next::Do(*world) }
        }

        fn absorb(_: u32, reply: u32) -> u32 {
            reply
        }
    }

    struct Increment;

    impl Perform<CountTo> for Increment {
        async fn perform(&self, effect: u32) -> u32 {
            effect + 1
        }
    }

    struct Nothing;

    impl Perform<CountTo> for Nothing {
        async fn perform(&self, _: u32) -> u32 {
            0
        }
    }

    #[tokio::test]
    async fn effects_are_performed_one_at_a_time_until_it_settles() {
        let clock = Clock::system();
        let end = drive::<CountTo>(&5, 0, &clock, &Increment).await;
        assert_eq!(end, Ok((5, 5)));
    }

    #[tokio::test]
    async fn a_machine_that_never_settles_is_stopped() {
        let clock = Clock::system();
        assert_eq!(drive::<CountTo>(&1, 0, &clock, &Nothing).await, Err(Endless));
    }
}
