//! The storm guard: at most 3 signatures in ten minutes for one identity, and 20 a day besides the
//! renewals that were due.
//!
//! A renewal that the clock makes due, and that is stored, is no storm: a lifetime of one hour needs
//! about fifty of them a day. The ten minutes bound it all the same. The counts live in
//! `status.issues`, so a crash loop cannot forget them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{IssueWindow, Window},
    identity::renewal::second,
};

/// Length in seconds and the most signatures of each window.
const LIMITS: [(Window, i64, i32); 2] = [(Window::TenMinutes, 600, 3), (Window::Day, 86_400, 20)];

/// What a signature is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The stored certificate has reached its renewal point, or its end.
    Due,
    /// Anything else: a change, a request, a loss, a mismatch.
    Early,
}

/// When the next signature is allowed; `None` = now.
///
/// A recorded start in the future is ignored: a clock that was once wrong must not block issuing.
pub fn blocked_until(issues: &[IssueWindow], cause: Cause, now: Timestamp) -> Option<Timestamp> {
    LIMITS
        .iter()
        .filter(|(window, ..)| cause == Cause::Early || *window != Window::Day)
        .filter_map(|(window, length, most)| {
            let entry = live(issues, *window, *length, now)?;
            (entry.count >= *most).then(|| second(entry.since.0.as_second() + length))
        })
        .max()
}

/// The windows after `signed` more signatures at `now`, of which `renewed` were renewals that were due and are stored.
pub fn count(issues: &[IssueWindow], signed: i32, renewed: i32, now: Timestamp) -> Vec<IssueWindow> {
    LIMITS
        .iter()
        .filter_map(|(window, length, _)| {
            let entry = live(issues, *window, *length, now);
            let counted = if *window == Window::Day { signed.saturating_sub(renewed) } else { signed };
            match (entry, counted) {
                (Some(entry), _) => Some(IssueWindow { count: entry.count.saturating_add(counted), ..entry.clone() }),
                (None, 0) => None,
                (None, counted) => Some(IssueWindow { window: *window, since: Time(now), count: counted }),
            }
        })
        .collect()
}

fn live(issues: &[IssueWindow], window: Window, length: i64, now: Timestamp) -> Option<&IssueWindow> {
    issues.iter().find(|entry| {
        let since = entry.since.0.as_second();
        entry.window == window && since <= now.as_second() && now.as_second() < since + length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_in_ten_minutes_waits_and_the_window_passes() {
        for cause in [Cause::Due, Cause::Early] {
            let mut issues = Vec::new();
            for at in [0, 10, 20] {
                assert_eq!(blocked_until(&issues, cause, second(at)), None, "{at}");
                issues = count(&issues, 1, 0, second(at));
            }
            assert_eq!(blocked_until(&issues, cause, second(30)), Some(second(600)));
            assert_eq!(blocked_until(&issues, cause, second(600)), None);
        }
    }

    #[test]
    fn the_twenty_first_of_a_day_waits_for_the_next_unless_it_is_due() {
        let mut issues = Vec::new();
        for n in 0..20 {
            issues = count(&issues, 1, 0, second(n * 1_000));
        }
        assert_eq!(blocked_until(&issues, Cause::Early, second(20_500)), Some(second(86_400)));
        assert_eq!(blocked_until(&issues, Cause::Due, second(20_500)), None);
    }

    #[test]
    fn a_day_of_renewals_of_the_shortest_lifetime_is_no_storm() {
        let mut issues = Vec::new();
        for at in (0..86_400).step_by(1_710) {
            assert_eq!(blocked_until(&issues, Cause::Due, second(at)), None, "{at}");
            issues = count(&issues, 1, 1, second(at));
        }
        assert_eq!(blocked_until(&issues, Cause::Early, second(86_400)), None);
    }

    #[test]
    fn a_start_in_the_future_is_ignored() {
        let issues = vec![IssueWindow { window: Window::TenMinutes, since: Time(second(10_000)), count: 9 }];
        assert_eq!(blocked_until(&issues, Cause::Early, second(0)), None);
    }

    #[test]
    fn nothing_signed_changes_nothing() {
        let issues = count(&[], 1, 0, second(0));
        assert_eq!(count(&issues, 0, 0, second(5)), issues);
        assert_eq!(count(&[], 0, 0, second(5)), Vec::new());
    }
}
