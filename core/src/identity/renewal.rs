//! When to renew: a deterministic point, spread over a tenth of the lifetime.
//!
//! `T = notAfter − notBefore` of the *stored* leaf, `u = spread(UID, serial)`:
//! `renewAt = notBefore + min(T × (2/3 − u/10), T × (3/4 − u/20) − 12 min)`.
//! The second term matters below 2 h 24 min: it keeps a quarter of the life through an outage of
//! ten minutes.

use std::time::Duration;

use jiff::Timestamp;

use crate::{next::spread, value::x509::Leaf};

/// The renewal point of a stored leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalPoint {
    /// When to renew.
    pub at: Timestamp,
    /// `renewBefore` was half the lifetime or more, so the default point is used instead.
    pub renew_before_too_long: bool,
}

/// Whole seconds of a leaf's lifetime, at least 1.
pub fn lifetime(leaf: &Leaf) -> i64 {
    (leaf.not_after.as_second() - leaf.not_before.as_second()).max(1)
}

/// The renewal point of `leaf`, owned by the object `uid`.
pub fn point(uid: &str, leaf: &Leaf, renew_before: Option<Duration>) -> RenewalPoint {
    let total = lifetime(leaf);
    let u = spread(&[uid.as_bytes(), leaf.serial.as_str().as_bytes()]);
    let asked = renew_before.and_then(|before| i64::try_from(before.as_secs()).ok());
    let (at, renew_before_too_long) = match asked {
        Some(before) if before < total / 2 => (leaf.not_after.as_second() - before - share(total, u / 20.0), false),
        Some(_) => (default_point(leaf, total, u), true),
        None => (default_point(leaf, total, u), false),
    };
    RenewalPoint { at: second(at), renew_before_too_long }
}

/// From when on a renewal that has not happened is overdue: `renewAt + max(5 min, T/24)`.
pub fn overdue_at(leaf: &Leaf, point: RenewalPoint) -> Timestamp {
    second(point.at.as_second() + (lifetime(leaf) / 24).max(300))
}

/// From when on less than a sixth of the lifetime is left.
pub fn expiring_soon_at(leaf: &Leaf) -> Timestamp {
    second(leaf.not_after.as_second() - lifetime(leaf) / 6)
}

fn default_point(leaf: &Leaf, total: i64, u: f64) -> i64 {
    let spread_over_life = share(total, 2.0 / 3.0 - u / 10.0);
    let margin_for_an_outage = share(total, 0.75 - u / 20.0) - 720;
    leaf.not_before.as_second() + spread_over_life.min(margin_for_an_outage)
}

/// `total × fraction`, whole seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "lifetimes are below 2^33 seconds and fractions below 1"
)]
fn share(total: i64, fraction: f64) -> i64 {
    (total as f64 * fraction) as i64
}

/// A timestamp from whole seconds; beyond the calendar's ends it is the end.
pub fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(hours: i64) -> Leaf {
        Leaf::test("a1").valid(second(0), second(hours * 3_600))
    }

    #[test]
    fn a_day_is_renewed_between_fifty_six_and_sixty_seven_percent() {
        for serial in 0..200 {
            let leaf = Leaf::test(&format!("{serial:02x}")).valid(second(0), second(86_400));
            let at = point("uid", &leaf, None).at.as_second();
            assert!((48_959..=57_600).contains(&at), "{at}");
        }
    }

    #[test]
    fn a_short_life_keeps_a_quarter_through_ten_minutes_of_outage() {
        for serial in 0..200 {
            for minutes in [60_i64, 65, 90, 120, 144, 240] {
                let leaf = Leaf::test(&format!("{serial:02x}")).valid(second(0), second(minutes * 60));
                let at = point("uid", &leaf, None).at.as_second();
                assert!(minutes * 60 - (at + 600) >= minutes * 60 / 4, "{minutes} min renewed at {at} s");
            }
        }
    }

    #[test]
    fn renew_before_moves_the_point_and_half_a_life_is_too_long() {
        let at = point("uid", &leaf(24), Some(Duration::from_secs(8 * 3_600)));
        assert!((11 * 3_600 + 2_880 + 2_880..=16 * 3_600).contains(&at.at.as_second()), "{at:?}");
        assert!(!at.renew_before_too_long);
        let default = point("uid", &leaf(24), None);
        assert_eq!(
            point("uid", &leaf(24), Some(Duration::from_secs(12 * 3_600))),
            RenewalPoint { renew_before_too_long: true, ..default }
        );
    }

    #[test]
    fn the_point_survives_a_restart() {
        assert_eq!(point("uid", &leaf(24), None), point("uid", &leaf(24), None));
        assert_ne!(point("uid", &leaf(24), None), point("other", &leaf(24), None));
    }
}
