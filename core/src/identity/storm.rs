//! The storm guard: at most 3 signatures in ten minutes and 20 a day for one identity.
//!
//! The counts live in `status.issues`, so a crash loop cannot forget them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{IssueWindow, Window},
    identity::renewal::second,
};

/// Length in seconds and the most signatures of each window.
const LIMITS: [(Window, i64, i32); 2] = [(Window::TenMinutes, 600, 3), (Window::Day, 86_400, 20)];

/// When the next signature is allowed; `None` = now.
///
/// A recorded start in the future is ignored: a clock that was once wrong must not block issuing.
pub fn blocked_until(issues: &[IssueWindow], now: Timestamp) -> Option<Timestamp> {
    LIMITS
        .iter()
        .filter_map(|(window, length, most)| {
            let entry = live(issues, *window, *length, now)?;
            (entry.count >= *most).then(|| second(entry.since.0.as_second() + length))
        })
        .max()
}

/// The windows after `signed` more signatures at `now`.
pub fn count(issues: &[IssueWindow], signed: i32, now: Timestamp) -> Vec<IssueWindow> {
    LIMITS
        .iter()
        .filter_map(|(window, length, _)| {
            let entry = live(issues, *window, *length, now);
            match (entry, signed) {
                (Some(entry), _) => Some(IssueWindow { count: entry.count.saturating_add(signed), ..entry.clone() }),
                (None, 0) => None,
                (None, signed) => Some(IssueWindow { window: *window, since: Time(now), count: signed }),
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
        let mut issues = Vec::new();
        for at in [0, 10, 20] {
            assert_eq!(blocked_until(&issues, second(at)), None, "{at}");
            issues = count(&issues, 1, second(at));
        }
        assert_eq!(blocked_until(&issues, second(30)), Some(second(600)));
        assert_eq!(blocked_until(&issues, second(600)), None);
    }

    #[test]
    fn the_twenty_first_of_a_day_waits_for_the_next() {
        let mut issues = Vec::new();
        for n in 0..20 {
            issues = count(&issues, 1, second(n * 1_000));
        }
        assert_eq!(blocked_until(&issues, second(20_500)), Some(second(86_400)));
    }

    #[test]
    fn a_start_in_the_future_is_ignored() {
        let issues = vec![IssueWindow { window: Window::TenMinutes, since: Time(second(10_000)), count: 9 }];
        assert_eq!(blocked_until(&issues, second(0)), None);
    }

    #[test]
    fn nothing_signed_changes_nothing() {
        let issues = count(&[], 1, second(0));
        assert_eq!(count(&issues, 0, second(5)), issues);
        assert_eq!(count(&[], 0, second(5)), Vec::new());
    }
}
