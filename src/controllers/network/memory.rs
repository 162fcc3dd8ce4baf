//! What the controller of the network remembers between passes.

use std::{collections::HashMap, time::Duration};

use countersign_core::network::{attempts::Attempts, plan::Write};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::time::Instant;

/// After this long a cache that does not show a write of ours is believed: somebody may have undone it.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub struct Memory {
    /// What became of writes, and which may be tried.
    pub attempts: Attempts,
    /// Writes that the cache is to show, by namespace and name: the version, or that it is gone.
    written: HashMap<(String, String), (Option<String>, Instant)>,
}

impl Memory {
    /// Nothing is known before `now`; `time_scale` divides waiting times.
    pub fn new(now: Timestamp, time_scale: u32) -> Self {
        Self { attempts: Attempts::new(now, time_scale), written: HashMap::new() }
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

    /// Notes a write that was made.
    pub fn wrote(&mut self, write: &Write, version: Option<String>, now: Timestamp) {
        self.attempts.made(write, now);
        let key = (write.namespace().to_owned(), write.name().to_owned());
        self.written.insert(key, (version, Instant::now()));
    }
}

/// Versions of one resource compare as numbers.
fn older(version: &str, than: &str) -> bool {
    (version.len(), version) < (than.len(), than)
}
