//! The queue for signatures of one trust domain: who goes next, how many at once, how fast.
//!
//! Performs what `countersign_core::identity::queue` and `connection::pace` decide; knows nothing of
//! who signs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::Reason,
    connection::pace::Pace,
    fault::{Class, Failure},
    identity::queue::{self, Urgency},
    value::domain::SigningLimits,
};
use tokio::sync::oneshot;

use crate::runtime::clock::Clock;

/// The longest anybody waits; then it is said, and tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The queue of one trust domain; clones share it.
#[derive(Clone)]
pub struct SignQueue {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    limits: SigningLimits,
    in_flight: usize,
    waiting: Vec<Waiter>,
    pace: Pace,
}

struct Waiter {
    urgency: Urgency,
    go: oneshot::Sender<Slot>,
}

/// A place among those under way; dropping it lets the next one go.
pub struct Slot {
    queue: SignQueue,
}

impl SignQueue {
    /// An empty queue.
    pub fn new(clock: Clock, limits: SigningLimits) -> Self {
        let state = State { limits, in_flight: 0, waiting: Vec::new(), pace: Pace::default() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on these bounds hold.
    pub fn bound(&self, limits: SigningLimits) {
        self.state().limits = limits;
        self.admit();
    }

    /// Waits for a slot and for the pace.
    ///
    /// # Errors
    /// `Throttled` when that would take too long; nobody's place is taken then.
    pub async fn enter(&self, urgency: Urgency) -> Result<Slot, Failure> {
        let (go, turn) = oneshot::channel();
        self.state().waiting.push(Waiter { urgency, go });
        self.admit();
        let Ok(Ok(slot)) = tokio::time::timeout(PATIENCE, turn).await else {
            return Err(busy("limits.inFlight", PATIENCE));
        };
        let now = self.clock.monotonic();
        let reserved = {
            let mut state = self.state();
            let rate = f64::from(state.limits.signs_per_second.max(1));
            state.pace.reserve(now, rate, PATIENCE)
        };
        let wait = reserved.map_err(|wait| busy("limits.signsPerSecond", wait))?;
        tokio::time::sleep(wait).await;
        Ok(slot)
    }

    /// Lets everybody go for whom there is a slot now.
    fn admit(&self) {
        loop {
            let next = {
                let mut state = self.state();
                // Whoever gave up waiting must not stand in the way of others.
                state.waiting.retain(|waiter| !waiter.go.is_closed());
                let urgencies: Vec<Urgency> = state.waiting.iter().map(|waiter| waiter.urgency).collect();
                let slots = usize::try_from(state.limits.in_flight.max(1)).unwrap_or(1);
                let Some(index) = queue::next(&urgencies, state.in_flight, slots) else { return };
                state.in_flight += 1;
                state.waiting.remove(index)
            };
            // Refused only by somebody who gave up just now: dropping the slot counts it back.
            drop(next.go.send(Slot { queue: self.clone() }));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        drop(state);
        self.queue.admit();
    }
}

fn busy(limit: &str, wait: Duration) -> Failure {
    let message = format!("the trust domain's own bound {limit} is used up; raise it if that lasts");
    Failure::new(Class::Throttled, Reason::Throttled, message).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn queue(in_flight: u32) -> SignQueue {
        SignQueue::new(Clock::system(), SigningLimits { signs_per_second: 10_000, in_flight })
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_urgent_goes_first_when_a_slot_becomes_free() {
        let queue = queue(1);
        let slot = queue.enter(Urgency::Left(9)).await.unwrap();
        let (calm, urgent) = (queue.enter(Urgency::Left(900)), queue.enter(Urgency::NothingValid));
        let (mut calm, mut urgent) = (Box::pin(calm), Box::pin(urgent));
        assert!(calm.as_mut().now_or_never().is_none() && urgent.as_mut().now_or_never().is_none());
        drop(slot);
        let slot = urgent.await.unwrap();
        assert!(calm.as_mut().now_or_never().is_none());
        drop(slot);
        assert!(calm.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_takes_nobodys_slot() {
        let queue = queue(1);
        let slot = queue.enter(Urgency::Left(9)).await.unwrap();
        let mut gone = Box::pin(queue.enter(Urgency::NothingValid));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(slot);
        assert!(queue.enter(Urgency::Left(5)).await.is_ok());
        assert_eq!(queue.state().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let queue = queue(1);
        let _slot = queue.enter(Urgency::Left(9)).await.unwrap();
        let failure = queue.enter(Urgency::Left(9)).await.err().unwrap();
        assert_eq!((failure.class, failure.reason), (Class::Throttled, Reason::Throttled));
    }
}
