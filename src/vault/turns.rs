//! Turns: who of those that want to ask a server is next, how many at once, how fast.
//!
//! Performs what `countersign_core::connection::{lanes, pace}` decide. Who asks is known by the task that does: what a
//! binding reads, and the login that this needs, are of one lane.

use std::{
    borrow::Borrow,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use countersign_core::connection::{
    lanes::{Asker, Lanes},
    pace::Pace,
};
use tokio::sync::oneshot;

use super::client::lock;

tokio::task_local! {
    static ASKER: Asker;
}

/// Runs `asking`; whatever it asks a server for is asked as `asker`.
pub async fn asked_by<F: Future>(asker: Asker, asking: F) -> F::Output {
    ASKER.scope(asker, asking).await
}

/// Requests a second now, and the time since a fixed moment.
pub(super) type Speed = dyn Fn() -> (f64, Duration) + Send + Sync;

/// The queue before a server; clones share it.
#[derive(Clone)]
pub(super) struct Turns {
    slots: usize,
    speed: Arc<Speed>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiter>,
    in_flight: usize,
    lanes: Lanes,
    pace: Pace,
    /// Whether somebody sleeps until the pace lets the next one go.
    is_timed: bool,
}

struct Waiter {
    asker: Asker,
    go: oneshot::Sender<Slot>,
}

impl Borrow<Asker> for Waiter {
    fn borrow(&self) -> &Asker {
        &self.asker
    }
}

/// A place among the requests under way; dropping it lets the next one go.
pub(super) struct Slot(Turns);

/// Why nobody waits any longer, and how long it would have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowded {
    /// Too many requests are under way.
    Slots,
    /// Too many wait for the pace.
    Pace(Duration),
}

impl Turns {
    /// An empty queue for `slots` requests at once.
    pub(super) fn new(slots: usize, speed: impl Fn() -> (f64, Duration) + Send + Sync + 'static) -> Self {
        Self { slots: slots.max(1), speed: Arc::new(speed), state: Arc::default() }
    }

    /// Waits for a slot and for the pace; no longer than `patience`, and not at all if that cannot be enough.
    pub(super) async fn enter(&self, patience: Duration) -> Result<Slot, Crowded> {
        let asker = ASKER.try_with(Clone::clone).unwrap_or(Asker::OWN);
        let (go, turn) = oneshot::channel();
        {
            let (rate, _) = (self.speed)();
            let mut state = lock(&self.state);
            state.waiting.retain(|waiter| !waiter.go.is_closed());
            let ahead = state.waiting.iter().filter(|waiter| waiter.asker.lane == asker.lane).count();
            let ahead = f64::from(u32::try_from(ahead).unwrap_or(u32::MAX));
            let wait = Duration::from_secs_f64(ahead / rate.max(0.001));
            if wait > patience {
                return Err(Crowded::Pace(wait));
            }
            state.waiting.push(Waiter { asker, go });
        }
        self.admit();
        match tokio::time::timeout(patience, turn).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) if lock(&self.state).in_flight >= self.slots => Err(Crowded::Slots),
            Ok(Err(_)) | Err(_) => Err(Crowded::Pace(patience)),
        }
    }

    /// Lets everybody go for whom there is a slot and a moment now.
    fn admit(&self) {
        loop {
            let (rate, now) = (self.speed)();
            let next = {
                let mut state = lock(&self.state);
                // Whoever gave up waiting must not stand in the way of others.
                state.waiting.retain(|waiter| !waiter.go.is_closed());
                if state.waiting.is_empty() || state.in_flight >= self.slots {
                    return;
                }
                if let Err(wait) = state.pace.reserve(now, rate, Duration::ZERO) {
                    if !std::mem::replace(&mut state.is_timed, true) {
                        self.later(wait);
                    }
                    return;
                }
                let State { waiting, lanes, .. } = &mut *state;
                let Some(index) = lanes.next(waiting) else { return };
                state.in_flight += 1;
                state.waiting.remove(index)
            };
            // Refused only by somebody who gave up just now: dropping the slot counts it back.
            drop(next.go.send(Slot(self.clone())));
        }
    }

    /// Goes on when the pace lets somebody go.
    fn later(&self, wait: Duration) {
        let turns = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            lock(&turns.state).is_timed = false;
            turns.admit();
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.0.state);
            state.in_flight = state.in_flight.saturating_sub(1);
        }
        self.0.admit();
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::connection::lanes::Lane;
    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(3_600);

    fn turns(slots: usize, rate: f64) -> Turns {
        let start = Instant::now();
        Turns::new(slots, move || (rate, start.elapsed()))
    }

    fn asker(lane: Lane, namespace: &str) -> Asker {
        Asker { lane, namespace: namespace.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_new_passes_thousands_that_are_due() {
        let turns = turns(32, 50.0);
        let one_by_one = (0..2_000).map(|_| async { drop(turns.enter(PATIENT).await) });
        let due = asked_by(asker(Lane::Periodic, "a"), join_all(one_by_one));
        let new = asked_by(asker(Lane::New, "a"), async {
            // After the others have queued up.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let started = Instant::now();
            drop(turns.enter(PATIENT).await);
            started.elapsed()
        });
        tokio::select! {
            took = new => assert!(took < Duration::from_millis(100), "{took:?}"),
            served = due => panic!("{} were served first", served.len()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_is_too_long_is_refused_at_once_and_the_other_is_not() {
        let turns = turns(1, 10.0);
        let patience = Duration::from_secs(2);
        let _busy = turns.enter(patience).await;
        let wait = |lane| asked_by(asker(lane, "a"), turns.enter(patience));
        let crowd = join_all((0..30).map(|_| wait(Lane::Periodic)));
        let (crowd, new) = tokio::join!(crowd, wait(Lane::New));
        let at_once = crowd.iter().filter(|one| matches!(one, Err(Crowded::Pace(wait)) if *wait > patience)).count();
        assert_eq!(at_once, 9, "twenty and one fit into two seconds");
        assert_eq!(new.err(), Some(Crowded::Slots));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_holds_and_slots_come_back() {
        let turns = turns(2, 10.0);
        let started = Instant::now();
        for _ in 0..20 {
            drop(turns.enter(PATIENT).await);
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1_800) && took < Duration::from_millis(2_200), "{took:?}");
        let (one, two) = (turns.enter(PATIENT).await, turns.enter(PATIENT).await);
        assert_eq!(turns.enter(Duration::from_secs(1)).await.err(), Some(Crowded::Slots));
        drop(one);
        assert!(turns.enter(Duration::from_secs(1)).await.is_ok());
        drop(two);
    }
}
