//! The loop every controller shares: decide → perform → absorb, until settled.

use countersign_core::next::{MAX_EFFECTS, Machine, Next};

use crate::runtime::clock::Clock;

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
    perform: impl AsyncFn(M::Effect) -> M::Reply,
) -> Result<(M::World, M::Settled), Endless> {
    for _ in 0..=MAX_EFFECTS {
        match M::decide(intent, &world, clock.now()) {
            Next::Settle(settled) => return Ok((world, settled)),
            Next::Do(effect) => world = M::absorb(world, perform(effect).await),
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

    #[tokio::test]
    async fn effects_are_performed_one_at_a_time_until_it_settles() {
        let clock = Clock::system();
        let end = drive::<CountTo>(&5, 0, &clock, async |n| n + 1).await;
        assert_eq!(end, Ok((5, 5)));
    }

    #[tokio::test]
    async fn a_machine_that_never_settles_is_stopped() {
        let clock = Clock::system();
        assert_eq!(drive::<CountTo>(&1, 0, &clock, async |_| 0).await, Err(Endless));
    }
}
