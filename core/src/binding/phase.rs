//! When the sources of a binding are read: at moments that its connection, reader and path fix, not the object.
//!
//! Bindings of one path and reader therefore meet and share their reads, others are spread evenly, and a start reads
//! nothing: the moments before it belonged to the process before.

use std::time::Duration;

use jiff::Timestamp;

use crate::next::spread;

/// The moments `(k + u) · every` since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    every: Duration,
    offset: i64,
}

impl Phase {
    /// The moments of what `parts` name, `every` so often.
    pub fn new(every: Duration, parts: &[&[u8]]) -> Self {
        let offset = every.mul_f64(spread(parts));
        Self { every, offset: i64::try_from(offset.as_secs()).unwrap_or_default() }
    }

    /// The last moment at or before `now`.
    pub fn last(self, now: Timestamp) -> Timestamp {
        let period = i64::try_from(self.every.as_secs()).unwrap_or(i64::MAX).max(1);
        let since = (now.as_second() - self.offset).rem_euclid(period);
        Timestamp::from_second(now.as_second() - since).unwrap_or(now)
    }

    /// The first moment after `now`.
    pub fn next(self, now: Timestamp) -> Timestamp {
        let period = i64::try_from(self.every.as_secs()).unwrap_or(i64::MAX).max(1);
        Timestamp::from_second(self.last(now).as_second().saturating_add(period)).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_moments_are_one_period_apart_and_close_in_on_now(second in 0_i64..4_000_000_000, every in 30_u64..86_400, name in ".{0,8}") {
            let now = Timestamp::from_second(second).unwrap();
            let phase = Phase::new(Duration::from_secs(every), &[name.as_bytes()]);
            let (last, next) = (phase.last(now), phase.next(now));
            prop_assert!(last <= now && now < next);
            prop_assert_eq!(next.as_second() - last.as_second(), i64::try_from(every).unwrap());
            prop_assert_eq!(phase.next(last), next);
            prop_assert_eq!(phase.last(next), next);
        }
    }

    #[test]
    fn different_paths_are_spread_over_the_period() {
        let every = Duration::from_secs(900);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let offset = |path: u32| Phase::new(every, &[&path.to_be_bytes()]).next(now).as_second() - now.as_second();
        let mut tenths = [0_u32; 10];
        for path in 0..1_000 {
            tenths[usize::try_from(offset(path) * 10 / 901).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }
}
