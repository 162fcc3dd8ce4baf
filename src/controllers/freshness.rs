//! Read your own writes: a pass over a cached copy older than what we wrote is put off.
//!
//! Versions of one resource compare as integers (length, then text), which the API guarantees
//! since Kubernetes 1.35; a version that is not a number is compared for equality only.

use std::{cmp::Ordering, collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

/// After this long a stale copy is used anyway: the watch may have died, and live reads are safe.
const PATIENCE: Duration = Duration::from_secs(30);

/// The highest version written for each object, by UID.
#[derive(Debug, Default)]
pub struct Freshness(Mutex<HashMap<String, (String, Instant)>>);

impl Freshness {
    /// Remembers that `version` of the object `uid` was written now.
    pub fn wrote(&self, uid: &str, version: &str) {
        if let Ok(mut written) = self.0.lock() {
            written.insert(uid.to_owned(), (version.to_owned(), Instant::now()));
        }
    }

    /// Whether a cached copy at `version` is older than what we wrote; forgets what has arrived.
    pub fn is_stale(&self, uid: &str, version: &str) -> bool {
        let Ok(mut written) = self.0.lock() else { return false };
        let Some((wrote, at)) = written.get(uid) else { return false };
        let stale = older(version, wrote) && at.elapsed() < PATIENCE;
        if !stale {
            written.remove(uid);
        }
        stale
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        if let Ok(mut written) = self.0.lock() {
            written.remove(uid);
        }
    }
}

fn older(version: &str, than: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(version) && is_number(than) {
        (version.len(), version).cmp(&(than.len(), than)) == Ordering::Less
    } else {
        version != than
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(older("99", "100"));
        assert!(!older("100", "99"));
        assert!(!older("100", "100"));
        assert!(older("a", "b") && older("b", "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_copy_waits_for_its_successor_but_not_for_ever() {
        let freshness = Freshness::default();
        freshness.wrote("u", "12");
        assert!(freshness.is_stale("u", "11"));
        assert!(!freshness.is_stale("u", "12"));
        assert!(!freshness.is_stale("u", "11"), "what has arrived is forgotten");
        freshness.wrote("u", "13");
        tokio::time::advance(PATIENCE).await;
        assert!(!freshness.is_stale("u", "12"));
    }
}
