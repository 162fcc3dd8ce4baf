//! What the controller of the network remembers between passes; lost at a restart, which then waits a little longer.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use countersign_core::{
    fault::Failure,
    network::{decide::Touched, model::Namespace, plan::Write},
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::time::Instant;

/// After this long a cache that does not show a write of ours is believed: somebody may have undone it.
const PATIENCE: Duration = Duration::from_secs(20);

/// So often, within so many seconds, is an object written back that somebody else changes.
const MOST_REPAIRS: usize = 3;
const REPAIR_SPAN: i64 = 600;

/// See the module.
pub struct Memory {
    /// When something of ours was last written.
    pub touched: Touched,
    /// Namespaces whose last write failed.
    failed: BTreeMap<Namespace, Failed>,
    /// When an object was last written back, by namespace and name.
    repairs: HashMap<(String, String), Vec<Timestamp>>,
    /// Writes that the cache is to show, by namespace and name: the version, or that it is gone.
    written: HashMap<(String, String), (Option<String>, Instant)>,
}

struct Failed {
    failure: Failure,
    attempts: u32,
    retry: Timestamp,
}

impl Memory {
    /// Nothing is known before `now`.
    pub fn new(now: Timestamp) -> Self {
        let touched = Touched { at: BTreeMap::new(), since: now };
        Self { touched, failed: BTreeMap::new(), repairs: HashMap::new(), written: HashMap::new() }
    }

    /// Whether the cache does not show yet what was written.
    pub fn is_ahead(&mut self, policies: &Store<NetworkPolicy>) -> bool {
        self.written.retain(|(namespace, name), (version, at)| {
            let cached = policies.get(&ObjectRef::new(name).within(namespace));
            let cached = cached.and_then(|object| object.resource_version());
            let shown = match (&*version, &cached) {
                (None, None) => true,
                (Some(version), Some(cached)) => !older(cached, version),
                (None, Some(_)) | (Some(_), None) => false,
            };
            !shown && at.elapsed() < PATIENCE
        });
        !self.written.is_empty()
    }

    /// Whether somebody else changes an object again and again: then it is left to them for a while, and told.
    pub fn is_contended(&mut self, write: &Write, now: Timestamp) -> bool {
        let Write::Apply { repairs: true, .. } = write else { return false };
        let times = self.repairs.entry((write.namespace().to_owned(), write.name().to_owned())).or_default();
        times.retain(|at| now.as_second() - at.as_second() < REPAIR_SPAN);
        if times.len() >= MOST_REPAIRS {
            return true;
        }
        times.push(now);
        false
    }

    /// Notes a write that was made.
    pub fn wrote(&mut self, write: &Write, version: Option<String>, now: Timestamp) {
        if let Some(namespace) = Namespace::parse(write.namespace()) {
            self.failed.remove(&namespace);
            self.touched.at.insert(namespace, now);
        }
        let key = (write.namespace().to_owned(), write.name().to_owned());
        self.written.insert(key, (version, Instant::now()));
    }

    /// Notes a write whose answer was a failure: it may have been made all the same.
    pub fn doubts(&mut self, write: &Write, now: Timestamp) {
        if let Some(namespace) = Namespace::parse(write.namespace()) {
            self.touched.at.insert(namespace, now);
        }
    }

    /// Notes why a write is not made; nothing more is written in its namespace for `wait(attempts)`.
    pub fn failed(&mut self, write: &Write, failure: Failure, now: Timestamp, wait: impl Fn(Duration) -> Duration) {
        let Some(namespace) = Namespace::parse(write.namespace()) else { return };
        let attempts = self.failed.get(&namespace).map_or(1, |failed| failed.attempts.saturating_add(1));
        let wait = wait(failure.backoff(attempts, write.namespace()));
        let retry = now.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
        self.failed.insert(namespace, Failed { failure, attempts, retry });
    }

    /// Whether a namespace is left alone until later, and until when.
    pub fn waits(&self, namespace: &str, now: Timestamp) -> Option<Timestamp> {
        let failed = self.failed.get(&Namespace::parse(namespace)?)?;
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
}

/// Versions of one resource compare as numbers.
fn older(version: &str, than: &str) -> bool {
    (version.len(), version) < (than.len(), than)
}

#[cfg(test)]
mod tests {
    use countersign_core::{
        api::Reason,
        fault::Class,
        network::{plan::Write, render::Kind},
    };

    use super::*;

    /// A write whose answer was lost may have been made, so that what closes waits after it as after any other.
    #[test]
    fn a_write_that_failed_counts_as_a_write() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let namespace = Namespace::parse("shop").unwrap();
        let write = Write::Delete {
            kind: Kind::NetworkPolicy,
            namespace: namespace.clone(),
            name: "countersign-deny".to_owned(),
            uid: "u".to_owned(),
        };
        let mut memory = Memory::new(at(10));
        let failure = || Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "no answer");
        memory.failed(&write, failure(), at(20), |wait| wait);
        assert_eq!(memory.touched.at.get(&namespace), None, "nothing was sent");
        memory.doubts(&write, at(21));
        assert_eq!(memory.touched.at.get(&namespace), Some(&at(21)));
        assert!(memory.waits("shop", at(20)).is_some());
    }
}
