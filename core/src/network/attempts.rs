//! Which writes may be tried now, and what is known of those that were: lost at a restart, which then waits a little
//! longer.
//!
//! A write whose answer was a failure may have been made all the same, so what closes waits after it as after any other;
//! and an object that somebody else changes again and again is left to them for a while.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{decide::Touched, model::Namespace, plan::Write};
use crate::{
    api::Reason,
    fault::{Class, Failure},
};

/// So often, within [`REPAIR_SPAN`], is an object written back that somebody else changes.
const MOST_REPAIRS: usize = 3;
const REPAIR_SPAN: SignedDuration = SignedDuration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub struct Attempts {
    touched: Touched,
    /// Namespaces whose last write failed, or was not made.
    failed: BTreeMap<Namespace, Failed>,
    /// When an object was last written back, by namespace and name.
    repairs: BTreeMap<(String, String), Vec<Timestamp>>,
    time_scale: u32,
}

#[derive(Debug)]
struct Failed {
    failure: Failure,
    attempts: u32,
    retry: Timestamp,
}

impl Attempts {
    /// Nothing is known before `now`; `time_scale` divides waiting times, for tests and demos.
    pub fn new(now: Timestamp, time_scale: u32) -> Self {
        let touched = Touched { at: BTreeMap::new(), since: now };
        Self { touched, failed: BTreeMap::new(), repairs: BTreeMap::new(), time_scale }
    }

    /// When something of ours was last written, also where nobody knows whether it was.
    pub fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Whether a write may be sent now; if not, why stands among the [failures](Self::failures).
    ///
    /// `is_served`: its namespace is one that the operator may write in.
    pub fn may(&mut self, write: &Write, is_served: bool, now: Timestamp) -> bool {
        if self.waits(write, now).is_some() {
            return false;
        }
        let (namespace, name) = (write.namespace(), write.name());
        if !is_served {
            let words = format!("namespace {namespace} is not among those that this operator serves (--namespaces)");
            self.held(write, Failure::new(Class::Denied, Reason::PermissionMissing, words), now);
            return false;
        }
        if self.is_contended(write, now) {
            let words = format!(
                "{}/{name} in namespace {namespace} is changed by somebody else again and again; its \
                 managedFields tell by whom",
                write.kind().resource().plural
            );
            self.held(write, Failure::new(Class::Waiting, Reason::FieldConflict, words), now);
            return false;
        }
        true
    }

    /// Notes a write that was made.
    pub fn made(&mut self, write: &Write, now: Timestamp) {
        if let Some(namespace) = Namespace::parse(write.namespace()) {
            self.failed.remove(&namespace);
            self.touched.at.insert(namespace, now);
        }
    }

    /// Notes a write whose answer was a failure; nothing more is written in its namespace for a while.
    pub fn failed(&mut self, write: &Write, failure: Failure, now: Timestamp) {
        if let Some(namespace) = Namespace::parse(write.namespace()) {
            self.touched.at.insert(namespace, now);
        }
        self.held(write, failure, now);
    }

    /// Until when the namespace of a write is left alone, if it is.
    pub fn waits(&self, write: &Write, now: Timestamp) -> Option<Timestamp> {
        let failed = self.failed.get(&Namespace::parse(write.namespace())?)?;
        (failed.retry > now).then_some(failed.retry)
    }

    /// Forgets the failures of namespaces where nothing is to be written any more.
    pub fn keep_failures(&mut self, writes: &[Write]) {
        self.failed.retain(|namespace, _| writes.iter().any(|write| write.namespace() == namespace.as_str()));
    }

    /// The failures, by namespace.
    pub fn failures(&self) -> BTreeMap<Namespace, Failure> {
        self.failed.iter().map(|(namespace, failed)| (namespace.clone(), failed.failure.clone())).collect()
    }

    fn is_contended(&mut self, write: &Write, now: Timestamp) -> bool {
        let Write::Apply { repairs: true, .. } = write else { return false };
        let times = self.repairs.entry((write.namespace().to_owned(), write.name().to_owned())).or_default();
        times.retain(|at| now.duration_since(*at) < REPAIR_SPAN);
        if times.len() >= MOST_REPAIRS {
            return true;
        }
        times.push(now);
        false
    }

    fn held(&mut self, write: &Write, failure: Failure, now: Timestamp) {
        let Some(namespace) = Namespace::parse(write.namespace()) else { return };
        let attempts = self.failed.get(&namespace).map_or(1, |failed| failed.attempts.saturating_add(1));
        let wait: Duration = failure.backoff(attempts, write.namespace()) / self.time_scale.max(1);
        let retry = now.saturating_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
        self.failed.insert(namespace, Failed { failure, attempts, retry });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{
        render::{self, Kind},
        tests::town::{Town, namespace},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn deletion() -> Write {
        let (namespace, name) = (namespace("shop"), "countersign-deny".to_owned());
        Write::Delete { kind: Kind::NetworkPolicy, namespace, name, uid: "u".to_owned() }
    }

    fn repair() -> Write {
        let compiled = Town::default().with("shop", &["x"]).segment("shop", |_| {}).compile();
        let policy = compiled.policies.values().next().unwrap();
        Write::Apply { object: render::object(policy, "s", None), expected: Some("1".to_owned()), repairs: true }
    }

    fn unanswered() -> Failure {
        Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "no answer")
    }

    #[test]
    fn a_write_that_failed_counts_as_a_write_and_one_that_was_not_sent_does_not() {
        let (mut attempts, write, shop) = (Attempts::new(at(10), 1), deletion(), namespace("shop"));
        assert!(!attempts.may(&write, false, at(20)));
        assert_eq!(attempts.failures()[&shop].reason, Reason::PermissionMissing);
        assert_eq!(attempts.touched().at.get(&shop), None, "nothing was sent");
        attempts.failed(&write, unanswered(), at(21));
        assert_eq!(attempts.touched().at.get(&shop), Some(&at(21)));
        attempts.made(&write, at(30));
        assert_eq!((attempts.touched().at.get(&shop), attempts.failures().len()), (Some(&at(30)), 0));
    }

    #[test]
    fn what_failed_waits_longer_each_time_until_it_works() {
        let (mut attempts, write) = (Attempts::new(at(0), 1), deletion());
        let mut now = at(1);
        let mut before = SignedDuration::ZERO;
        for _ in 0..3 {
            assert!(attempts.may(&write, true, now));
            attempts.failed(&write, unanswered(), now);
            let retry = attempts.waits(&write, now).unwrap();
            let wait = retry.duration_since(now);
            assert!(wait > before, "{wait:?} after {before:?}");
            assert!(!attempts.may(&write, true, retry - SignedDuration::from_millis(1)));
            (now, before) = (retry, wait);
        }
        attempts.made(&write, now);
        assert!(attempts.may(&write, true, now));
    }

    #[test]
    fn an_object_that_is_changed_again_and_again_is_left_to_others_for_a_while() {
        let (mut attempts, write, shop) = (Attempts::new(at(0), 1), repair(), namespace("shop"));
        for second in [0, 100, 200] {
            assert!(attempts.may(&write, true, at(second)));
            attempts.made(&write, at(second));
        }
        assert!(!attempts.may(&write, true, at(599)));
        assert_eq!(attempts.failures()[&shop].reason, Reason::FieldConflict);
        assert_eq!(attempts.touched().at.get(&shop), Some(&at(200)));
        // Other writes of the namespace wait as long, and then go on.
        let retry = attempts.waits(&write, at(599)).unwrap();
        assert!(!attempts.may(&deletion(), true, at(599)));
        assert!(attempts.may(&deletion(), true, retry));
        assert!(attempts.may(&write, true, at(100_000)));
    }

    #[test]
    fn failures_end_with_what_was_to_be_written() {
        let (mut attempts, write) = (Attempts::new(at(0), 1), deletion());
        attempts.failed(&write, unanswered(), at(1));
        attempts.keep_failures(std::slice::from_ref(&write));
        assert_eq!(attempts.failures().len(), 1);
        attempts.keep_failures(&[]);
        assert_eq!(attempts.failures().len(), 0);
    }
}
