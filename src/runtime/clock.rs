//! The only place that reads time.
//!
//! Three times: [`Clock::now`] is the wall clock in whole seconds, which decisions and statuses use;
//! [`Clock::monotonic`] never jumps and times leases, timeouts and heartbeats; [`Clock::steady`] is the same as
//! a timestamp, for waits that must not be cut short. The wall clock follows
//! the API server's when it is more than a minute away from it: certificates and statuses are judged
//! by the cluster's time, not by one node's mistake.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The most the local clock may differ from the server's before the server's is used.
pub const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// How far a measured offset may wander before the applied one follows: a `Date` header has whole
/// seconds and travels, and a clock that trembles would go backwards.
const TREMBLE: i64 = 2;

/// A source of time; clones share one correction.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    origin: Instant,
    /// The source's wall time at `origin`.
    began: Timestamp,
    /// Seconds added to the source's wall time.
    offset: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    #[cfg(any(test, feature = "testing"))]
    Simulated {
        start: Timestamp,
        scale: u32,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from(Source::System)
    }

    /// A clock that shows `start` now and then runs `scale` times as fast as tokio's pausable one;
    /// with scale 0 it stands still.
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(start: Timestamp, scale: u32) -> Self {
        Self::from(Source::Simulated { start, scale })
    }

    fn from(source: Source) -> Self {
        let mut clock = Self { source, origin: Instant::now(), began: Timestamp::UNIX_EPOCH, offset: Arc::default() };
        clock.began = clock.uncorrected();
        clock
    }

    /// The corrected wall clock in whole seconds.
    pub fn now(&self) -> Timestamp {
        let exact = self.precise();
        // Seconds of an existing timestamp are always in range.
        Timestamp::from_second(exact.as_second()).unwrap_or(exact)
    }

    /// The corrected wall clock with its fraction, for log lines; decisions take [`Clock::now`].
    pub fn precise(&self) -> Timestamp {
        let offset = SignedDuration::from_secs(self.offset.load(Ordering::Relaxed));
        let source = self.uncorrected();
        source.checked_add(offset).unwrap_or(source)
    }

    /// The time since this clock was made; never jumps, goes on while the process is stopped.
    pub fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The monotonic time, with its fraction, as a timestamp: two of one process are as far apart as they are in truth.
    ///
    /// The wall clock would not do: in whole seconds a wait of ten could end after nine, and a correction could end it at once.
    pub fn steady(&self) -> Timestamp {
        let passed = match self.source {
            Source::System => self.origin.elapsed(),
            #[cfg(any(test, feature = "testing"))]
            Source::Simulated { scale, .. } => self.origin.elapsed() * scale,
        };
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.began.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Now, on tokio's clock, for timers.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Compares with a server's time and returns how far the server is ahead (negative: behind).
    ///
    /// Changes nothing; see [`Clock::follow`].
    pub fn skew_to(&self, server: Timestamp) -> SignedDuration {
        server.duration_since(self.uncorrected())
    }

    /// Compares with the API server's time, follows it if it differs by more than
    /// [`TOLERATED_SKEW`], and returns the difference of the uncorrected clock.
    pub fn follow(&self, server: Timestamp) -> SignedDuration {
        let skew = self.skew_to(server);
        let applied = self.offset.load(Ordering::Relaxed);
        let wanted = if skew.abs() > TOLERATED_SKEW { skew.as_secs() } else { 0 };
        if wanted == 0 || (wanted - applied).abs() > TREMBLE {
            self.offset.store(wanted, Ordering::Relaxed);
        }
        skew
    }

    fn uncorrected(&self) -> Timestamp {
        match self.source {
            #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock enters")]
            Source::System => Timestamp::now(),
            #[cfg(any(test, feature = "testing"))]
            Source::Simulated { start, scale } => {
                let passed = SignedDuration::try_from(self.origin.elapsed() * scale).unwrap_or(SignedDuration::MAX);
                start.checked_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_runs_as_fast_as_told_and_shows_whole_seconds() {
        let start = at("2026-01-01T00:00:00.7Z");
        let (fixed, fast) = (Clock::simulated(start, 0), Clock::simulated(start, 60));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(fixed.now(), at("2026-01-01T00:00:00Z"));
        assert_eq!(fast.now(), at("2026-01-01T00:02:00Z"));
        assert_eq!(fast.precise(), at("2026-01-01T00:02:00.7Z"));
        assert_eq!(fast.monotonic(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_time_has_its_fraction_and_follows_nobody() {
        let clock = Clock::simulated(at("2026-01-01T00:00:00.9Z"), 1);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(clock.steady(), at("2026-01-01T00:00:01.1Z"));
        clock.follow(at("2026-01-01T01:00:00Z"));
        assert_eq!(clock.steady(), at("2026-01-01T00:00:01.1Z"));
        assert!(clock.now() > at("2026-01-01T00:59:00Z"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_server_only_beyond_a_minute_and_does_not_tremble() {
        let local = at("2026-01-01T00:00:00Z");
        let clock = Clock::simulated(local, 0);
        let table = [
            ("2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00Z", "2026-01-01T01:00:00Z"),
            ("2026-01-01T00:59:58Z", "2026-01-01T01:00:00Z"),
            ("2026-01-01T00:59:57Z", "2026-01-01T00:59:57Z"),
            ("2016-01-01T00:00:00Z", "2016-01-01T00:00:00Z"),
            ("2026-01-01T00:00:30Z", "2026-01-01T00:00:00Z"),
        ];
        for (server, shown) in table {
            let skew = clock.follow(at(server));
            assert_eq!(skew, at(server).duration_since(local), "the skew is the uncorrected clock's");
            assert_eq!(clock.clone().now(), at(shown), "after {server}");
        }
    }

    #[test]
    fn the_system_clock_moves_and_is_of_this_era() {
        let clock = Clock::system();
        assert!(clock.now() > at("2025-01-01T00:00:00Z"));
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }
}
