//! How often an object failed in a row, in memory.
//!
//! Decides nothing: `countersign_core::fault::Failure::backoff` turns a count into a wait. Counts that
//! must survive a restart (a failed issuance, a panic) are in the object's status instead.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use countersign_core::fault::Class;

use super::{clock::Clock, metrics::Kind};

/// An entry is dropped after this long without a failure: twice the longest wait between two tries.
const EXPIRY: Duration = Duration::from_secs(2 * 3_600);
/// How often expired entries are swept.
const SWEEP: Duration = Duration::from_secs(600);

/// Failures in a row of each object.
#[derive(Debug)]
pub struct Failures {
    clock: Clock,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_object: HashMap<(Kind, String), Count>,
    swept_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    class: Class,
    attempts: u32,
    last: Duration,
}

impl Failures {
    /// Nothing has failed yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// Counts a failure and returns how many there were in a row, this one included.
    ///
    /// 1 is a new episode: it is logged and published, the others are not. Another class is one too,
    /// because its waits start anew.
    pub fn record(&self, kind: Kind, uid: &str, class: Class) -> u32 {
        let now = self.clock.monotonic();
        let mut counts = self.counts();
        counts.sweep(now);
        let count = counts.by_object.entry((kind, uid.to_owned())).or_insert(Count { class, attempts: 0, last: now });
        if count.class != class || count.expired(now) {
            *count = Count { class, attempts: 0, last: now };
        }
        count.attempts = count.attempts.saturating_add(1);
        count.last = now;
        count.attempts
    }

    /// How many failures in a row `uid` has.
    pub fn attempts(&self, kind: Kind, uid: &str) -> u32 {
        let now = self.clock.monotonic();
        let key = (kind, uid.to_owned());
        self.counts().by_object.get(&key).filter(|count| !count.expired(now)).map_or(0, |count| count.attempts)
    }

    /// Forgets an object that succeeded, changed or is gone.
    pub fn clear(&self, kind: Kind, uid: &str) {
        self.counts().by_object.remove(&(kind, uid.to_owned()));
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Count {
    fn expired(&self, now: Duration) -> bool {
        now.saturating_sub(self.last) >= EXPIRY
    }
}

impl Counts {
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept_at) >= SWEEP {
            self.swept_at = now;
            self.by_object.retain(|_, count| !count.expired(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn failures() -> Failures {
        Failures::new(Clock::system())
    }

    #[tokio::test(start_paused = true)]
    async fn counts_in_a_row_until_cleared_for_each_object_alone() {
        let failures = failures();
        for expected in 1..=3 {
            assert_eq!(failures.record(Kind::ServiceIdentity, "a", Class::Unavailable), expected);
        }
        assert_eq!(failures.record(Kind::ServiceIdentity, "b", Class::Unavailable), 1);
        assert_eq!(failures.record(Kind::TrustDomain, "a", Class::Unavailable), 1);
        failures.clear(Kind::ServiceIdentity, "a");
        assert_eq!(failures.attempts(Kind::ServiceIdentity, "a"), 0);
        assert_eq!(failures.attempts(Kind::TrustDomain, "a"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_class_is_a_new_episode() {
        let failures = failures();
        failures.record(Kind::ServiceIdentity, "a", Class::Unavailable);
        failures.record(Kind::ServiceIdentity, "a", Class::Unavailable);
        assert_eq!(failures.record(Kind::ServiceIdentity, "a", Class::Denied), 1);
        assert_eq!(failures.record(Kind::ServiceIdentity, "a", Class::Denied), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn old_counts_expire_and_leave_no_memory() {
        let failures = failures();
        failures.record(Kind::ServiceIdentity, "a", Class::Denied);
        advance(EXPIRY.saturating_sub(Duration::from_secs(1))).await;
        assert_eq!(failures.attempts(Kind::ServiceIdentity, "a"), 1, "kept beyond the longest wait");
        advance(Duration::from_secs(1)).await;
        assert_eq!(failures.attempts(Kind::ServiceIdentity, "a"), 0);
        failures.record(Kind::ServiceIdentity, "b", Class::Denied);
        assert_eq!(failures.counts().by_object.len(), 1);
        assert_eq!(failures.record(Kind::ServiceIdentity, "a", Class::Denied), 1);
    }
}
