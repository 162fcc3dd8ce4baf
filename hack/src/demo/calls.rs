//! What `shop order` says about its calls, one JSON object a line.
//!
//! Reads lines only; whether what they say is good is judged in `proof.rs`.

use serde::Deserialize;

/// The line that `shop order` prints every second.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    ok: u64,
    failed: u64,
    ok_total: u64,
    failed_total: u64,
    /// Serial of the certificate that the client showed last
    pub client_serial: Option<String>,
    /// Serial of the certificate that the server showed last
    pub server_serial: Option<String>,
}

/// The calls between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Calls that were answered
    pub ok: u64,
    /// Calls that were not
    pub failed: u64,
    /// Seconds that the window holds
    pub seconds: usize,
    /// Calls answered in the worst of them
    pub fewest: u64,
}

impl Second {
    /// Whether calls were made in this second, and all of them answered.
    pub fn is_good(&self) -> bool {
        self.ok > 0 && self.failed == 0
    }

    /// Calls answered since `earlier`; 0 if the program started again.
    pub fn answered_since(&self, earlier: &Self) -> u64 {
        self.ok_total.saturating_sub(earlier.ok_total)
    }

    /// Calls that failed since `earlier`; 0 if the program started again.
    pub fn failed_since(&self, earlier: &Self) -> u64 {
        self.failed_total.saturating_sub(earlier.failed_total)
    }
}

/// The last whole second of a log.
pub fn last(log: &str) -> Option<Second> {
    log.lines().rev().find_map(second)
}

/// The calls of a log after the second `from`; `None` if the log does not hold it, as after a start of the program.
pub fn since(log: &str, from: &Second) -> Option<Window> {
    let seconds: Vec<Second> = log.lines().filter_map(second).collect();
    let at = seconds.iter().position(|second| second == from)?;
    let after = seconds.get(at + 1..).unwrap_or_default();
    let last = after.last().unwrap_or(from);
    Some(Window {
        ok: last.ok_total.checked_sub(from.ok_total)?,
        failed: last.failed_total.checked_sub(from.failed_total)?,
        seconds: after.len(),
        fewest: after.iter().map(|second| second.ok).min().unwrap_or(0),
    })
}

/// Why calls failed, each reason once, in the order of their first appearance.
pub fn reasons(log: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Failed {
        event: String,
        why: String,
    }
    let mut reasons = Vec::new();
    for line in log.lines() {
        if let Ok(Failed { event, why }) = serde_json::from_str(line)
            && event == "failed"
            && !reasons.contains(&why)
        {
            reasons.push(why);
        }
    }
    reasons
}

fn second(line: &str) -> Option<Second> {
    #[derive(Deserialize)]
    struct Event {
        event: String,
        #[serde(flatten)]
        second: Second,
    }
    let Event { event, second } = serde_json::from_str(line).ok()?;
    (event == "second").then_some(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ok: u64, ok_total: u64, failed_total: u64, client: &str) -> String {
        format!(
            "{{\"event\":\"second\",\"ok\":{ok},\"failed\":0,\"okTotal\":{ok_total},\"failedTotal\":{failed_total},\
             \"clientSerial\":\"{client}\",\"serverSerial\":null}}\n"
        )
    }

    fn log() -> String {
        [
            "{\"event\":\"calling\"}\n".to_owned(),
            line(50, 50, 0, "a"),
            "{\"event\":\"serial\",\"whose\":\"client\",\"from\":\"a\",\"to\":\"b\"}\n".to_owned(),
            line(47, 97, 1, "b"),
            line(49, 146, 1, "b"),
            "{\"event\":\"second\",\"ok\":5".to_owned(),
        ]
        .concat()
    }

    #[test]
    fn the_last_whole_second_counts_and_other_lines_do_not() {
        let last = last(&log()).unwrap();
        assert_eq!((last.ok_total, last.client_serial.as_deref(), last.server_serial), (146, Some("b"), None));
        assert_eq!(super::last("{\"event\":\"failed\",\"why\":\"connect\"}\n"), None);
    }

    #[test]
    fn a_window_holds_what_came_after_its_start() {
        let first = second(&line(50, 50, 0, "a")).unwrap();
        assert_eq!(since(&log(), &first), Some(Window { ok: 96, failed: 1, seconds: 2, fewest: 47 }));
        assert!(first.is_good());
        assert_eq!(last(&log()).unwrap().answered_since(&first), 96);
        assert!(!Second { failed: 1, ..first.clone() }.is_good());
        assert!(!Second { ok: 0, ..first }.is_good());
        let of_an_earlier_process = second(&line(50, 900, 0, "a")).unwrap();
        assert_eq!(since(&log(), &of_an_earlier_process), None);
    }

    #[test]
    fn each_reason_is_named_once() {
        let failed = |why: &str| format!("{{\"event\":\"failed\",\"why\":\"{why}\",\"clientSerial\":\"a\"}}\n");
        let log = [failed("connect"), line(1, 1, 2, "a"), failed("handshake"), failed("connect")].concat();
        assert_eq!(reasons(&log), ["connect", "handshake"]);
    }
}
