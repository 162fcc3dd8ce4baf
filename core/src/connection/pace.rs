//! Request pacing of one connection: a token bucket without a clock.
//!
//! `vault::client` is its only caller: it asks before every request and sleeps as long as told.

use std::time::Duration;

/// How much of a second's requests may go out at once after a pause.
const BURST: f64 = 0.1;

/// A token bucket that hands out start times. Times are counted from any fixed origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pace {
    /// When the next request may start if none had been saved up.
    next: Duration,
}

impl Pace {
    /// Reserves the next start and says how long to wait for it.
    ///
    /// `rate` is in requests a second and may change from call to call. If the wait would be longer
    /// than `patience`, nothing is reserved and the wait comes back as the error.
    pub fn reserve(&mut self, now: Duration, rate: f64, patience: Duration) -> Result<Duration, Duration> {
        let interval = Duration::from_secs_f64(1.0 / rate.max(0.001));
        // Requests that were not made are saved up only to this point, so a pause buys a small burst.
        let saved = Duration::from_secs_f64(BURST).saturating_sub(interval);
        let start = self.next.max(now.saturating_sub(saved));
        let wait = start.saturating_sub(now);
        if wait > patience {
            return Err(wait);
        }
        self.next = start + interval;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(3_600);

    /// How many of `asked` requests made at `at` may start within `window` of it.
    fn started(pace: &mut Pace, at: Duration, rate: f64, asked: usize, window: Duration) -> usize {
        (0..asked).filter(|_| pace.reserve(at, rate, PATIENT).unwrap() < window).count()
    }

    #[test]
    fn the_rate_holds_with_a_burst_of_a_tenth() {
        let mut pace = Pace::default();
        let started = started(&mut pace, Duration::from_secs(100), 50.0, 1_000, Duration::from_secs(10));
        assert!((500..=505).contains(&started), "{started} requests in 10 s at 50/s");
    }

    #[test]
    fn a_slow_rate_has_no_burst() {
        let mut pace = Pace::default();
        let at = Duration::from_secs(100);
        assert_eq!(pace.reserve(at, 2.0, PATIENT), Ok(Duration::ZERO));
        assert_eq!(pace.reserve(at, 2.0, PATIENT), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn whoever_would_wait_too_long_takes_nobodys_place() {
        let mut pace = Pace::default();
        let (at, patience) = (Duration::from_secs(100), Duration::from_millis(400));
        assert_eq!(pace.reserve(at, 2.0, patience), Ok(Duration::ZERO));
        assert_eq!(pace.reserve(at, 2.0, patience), Err(Duration::from_millis(500)));
        assert_eq!(pace.reserve(at, 2.0, patience), Err(Duration::from_millis(500)));
    }

    #[test]
    fn a_long_pause_saves_up_no_more_than_the_burst() {
        let mut pace = Pace::default();
        let _ = pace.reserve(Duration::ZERO, 100.0, PATIENT);
        let at_once = started(&mut pace, Duration::from_secs(9_999), 100.0, 100, Duration::from_nanos(1));
        assert!((9..=11).contains(&at_once), "{at_once} at once at 100/s");
    }
}
