//! The life of a login token: use it, renew it, or log in again.
//!
//! `vault::session` is the only caller. The server never says what a token's longest life is; it shows
//! when a renewal grants less than the login did. From then on the end is final.

use std::time::Duration;

/// What is due for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenDue {
    /// Nothing; it can be used.
    Use,
    /// Two thirds of its life are over and it may be lengthened.
    Renew,
    /// It cannot be lengthened and has a tenth of its longest life left, or less.
    Replace,
    /// It has ended.
    Ended,
}

/// When a token was granted and when it ends. Times are counted from any fixed origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenLife {
    issued: Duration,
    /// What the login granted; zero means for ever.
    granted: Duration,
    /// Start of the current lease of life: the login or the last renewal.
    since: Duration,
    ends: Duration,
    renewable: bool,
}

impl TokenLife {
    /// A token granted at `now` for `ttl` (zero: for ever).
    pub fn new(now: Duration, ttl: Duration, renewable: bool) -> Self {
        Self { issued: now, granted: ttl, since: now, ends: now.saturating_add(ttl), renewable }
    }

    /// A renewal at `now` that granted `ttl` more.
    #[must_use]
    pub fn renewed(mut self, now: Duration, ttl: Duration, renewable: bool) -> Self {
        // A second less is rounding, not the longest life.
        let full = ttl + Duration::from_secs(1) >= self.granted;
        self.since = now;
        self.ends = now.saturating_add(ttl);
        self.renewable = renewable && full;
        self
    }

    /// The server refused to renew it: its end is final.
    #[must_use]
    pub fn unrenewable(mut self) -> Self {
        self.renewable = false;
        self
    }

    /// What is due at `now`.
    pub fn due(&self, now: Duration) -> TokenDue {
        let Some(left) = self.left(now) else { return TokenDue::Use };
        let lease = self.ends.saturating_sub(self.since);
        if left.is_zero() {
            TokenDue::Ended
        } else if self.renewable {
            if left <= lease / 3 { TokenDue::Renew } else { TokenDue::Use }
        } else if left <= self.ends.saturating_sub(self.issued) / 10 {
            TokenDue::Replace
        } else {
            TokenDue::Use
        }
    }

    /// How long it can just be used from `now` on; `None` = for ever.
    pub fn until_due(&self, now: Duration) -> Option<Duration> {
        let left = self.left(now)?;
        let kept = if self.renewable {
            self.ends.saturating_sub(self.since) / 3
        } else {
            self.ends.saturating_sub(self.issued) / 10
        };
        Some(left.saturating_sub(kept))
    }

    /// What is left at `now`; `None` for a token that does not end.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        (!self.granted.is_zero()).then(|| self.ends.saturating_sub(now))
    }

    /// How long ago it was issued.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn check(life: &TokenLife, table: &[(u64, TokenDue)]) {
        for (now, due) in table {
            assert_eq!(life.due(s(*now)), *due, "at {now} s of {life:?}");
        }
    }

    #[test]
    fn the_time_until_something_is_due_ends_where_the_verdict_changes() {
        for renewable in [true, false] {
            let life = TokenLife::new(s(100), s(3_600), renewable);
            let wait = life.until_due(s(100)).unwrap();
            assert_eq!(life.due(s(99) + wait), TokenDue::Use, "{renewable}");
            assert_ne!(life.due(s(100) + wait), TokenDue::Use, "{renewable}");
            assert_eq!(life.until_due(s(9_999)), Some(Duration::ZERO));
        }
        assert_eq!(TokenLife::new(s(0), Duration::ZERO, true).until_due(s(5)), None);
    }

    #[test]
    fn a_renewable_token_is_renewed_at_two_thirds() {
        let life = TokenLife::new(s(100), s(3_600), true);
        check(
            &life,
            &[(100, TokenDue::Use), (2_499, TokenDue::Use), (2_500, TokenDue::Renew), (3_700, TokenDue::Ended)],
        );
        let life = life.renewed(s(2_500), s(3_600), true);
        check(&life, &[(2_500, TokenDue::Use), (4_899, TokenDue::Use), (4_900, TokenDue::Renew)]);
        assert_eq!(life.left(s(2_500)), Some(s(3_600)));
    }

    #[test]
    fn a_shortened_renewal_shows_the_longest_life_and_a_tenth_of_it_calls_for_a_login() {
        // 24 h at most, 23 h gone: one hour asked, half of it granted.
        let life = TokenLife::new(s(0), s(3_600), true).renewed(s(84_600), s(1_800), true);
        check(&life, &[(84_600, TokenDue::Replace)]);
        // The same a day earlier in a longer life: used until a tenth is left.
        let life = TokenLife::new(s(0), s(3_600), true).renewed(s(3_000), s(3_000), true);
        check(&life, &[(3_000, TokenDue::Use), (5_399, TokenDue::Use), (5_400, TokenDue::Replace)]);
    }

    #[test]
    fn an_unrenewable_token_is_used_until_a_tenth_is_left() {
        for life in [TokenLife::new(s(0), s(1_000), false), TokenLife::new(s(0), s(1_000), true).unrenewable()] {
            check(
                &life,
                &[(700, TokenDue::Use), (899, TokenDue::Use), (900, TokenDue::Replace), (1_000, TokenDue::Ended)],
            );
        }
    }

    #[test]
    fn a_second_less_is_rounding() {
        let life = TokenLife::new(s(0), s(3_600), true).renewed(s(2_400), s(3_599), true);
        check(&life, &[(4_900, TokenDue::Renew)]);
    }

    #[test]
    fn a_token_for_ever_is_just_used_and_a_lie_does_not_overflow() {
        let life = TokenLife::new(s(5), Duration::ZERO, false);
        check(&life, &[(u64::MAX / 2, TokenDue::Use)]);
        assert_eq!(life.left(s(9)), None);
        let life = TokenLife::new(s(5), Duration::MAX, true);
        check(&life, &[(1_000, TokenDue::Use)]);
        assert_eq!(life.age(s(9)), s(4));
    }
}
