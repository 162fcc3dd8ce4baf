//! What the process remembers of identities between passes; lost at a restart without harm.
//!
//! Two things: keys and answers that could not be stored yet, and a status that was meant to be written and was not
//! confirmed. Without the second, an API server that refuses statuses would make the operator forget signatures and
//! back-offs, and ask the issuer again every few seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::ServiceIdentityStatus,
    identity::{intent::Intent, world::Progress},
};
use tokio::time::Instant;

/// How long key and answer that could not be stored are kept.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The memory of all identities, by UID.
#[derive(Default)]
pub struct Carried(Mutex<HashMap<String, Entry>>);

#[derive(Default)]
struct Entry {
    obtained: Option<Obtained>,
    unwritten: Option<ServiceIdentityStatus>,
}

struct Obtained {
    progress: Progress,
    generation: i64,
    since: Instant,
}

impl Carried {
    /// What an earlier pass obtained and could not store.
    pub fn progress(&self, intent: &Intent) -> Progress {
        let entries = self.lock();
        let obtained = entries.get(&intent.uid).and_then(|entry| entry.obtained.as_ref());
        let Some(obtained) = obtained.filter(|obtained| obtained.since.elapsed() < KEPT_FOR) else {
            return Progress::default();
        };
        let progress = obtained.progress.clone();
        if obtained.generation == intent.generation { progress } else { progress.for_another_spec() }
    }

    /// Keeps what a pass leaves open; `None` = nothing.
    pub fn keep(&self, intent: &Intent, open: Option<Progress>) {
        let mut entries = self.lock();
        let obtained = &mut entries.entry(intent.uid.clone()).or_default().obtained;
        // The time runs from when it was first obtained: a key does not stay in memory for as long as a server is away.
        let since = obtained.as_ref().map_or_else(Instant::now, |before| before.since);
        *obtained = open.map(|progress| Obtained { progress, generation: intent.generation, since });
        entries.retain(|_, entry| entry.is_worth_keeping());
    }

    /// The status to go on from: the stored one, or the one that was meant to replace it.
    pub fn previous(&self, uid: &str, stored: &ServiceIdentityStatus) -> ServiceIdentityStatus {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(uid) else { return stored.clone() };
        entry.unwritten.take_if(|meant| meant == stored);
        // The times of conditions are those that the server has.
        entry.unwritten.as_ref().map_or_else(
            || stored.clone(),
            |meant| ServiceIdentityStatus { conditions: stored.conditions.clone(), ..meant.clone() },
        )
    }

    /// A status is about to be written.
    pub fn means(&self, uid: &str, status: &ServiceIdentityStatus) {
        self.lock().entry(uid.to_owned()).or_default().unwritten = Some(status.clone());
    }

    /// The write of that status is confirmed.
    pub fn wrote(&self, uid: &str) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(uid) {
            entry.unwritten = None;
        }
    }

    /// Forgets what was kept for an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_worth_keeping(&mut self) -> bool {
        self.obtained.take_if(|obtained| obtained.since.elapsed() >= KEPT_FOR);
        self.obtained.is_some() || self.unwritten.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use countersign_core::{
        api::{IdentitySecret, ServiceIdentity, ServiceIdentitySpec},
        identity::intent::parse,
    };

    use super::*;

    fn intent(generation: i64) -> Intent {
        let secret = IdentitySecret {
            name: "api-tls".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            deletion_policy: None,
        };
        let spec = ServiceIdentitySpec {
            trust_domain: "prod".to_owned(),
            service_account_name: "api".to_owned(),
            services: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            ttl: None,
            key: None,
            renew_before: None,
            secret,
            suspend: None,
        };
        let mut object = ServiceIdentity::new("api", spec);
        object.metadata.namespace = Some("pay".to_owned());
        object.metadata.uid = Some("uid".to_owned());
        object.metadata.generation = Some(generation);
        parse(&object).unwrap()
    }

    fn bought() -> Progress {
        Progress { signed: 1, tried: true, ..Progress::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_obtained_is_kept_for_ten_minutes_from_the_first_pass() {
        let carried = Carried::default();
        carried.keep(&intent(1), Some(bought()));
        tokio::time::advance(KEPT_FOR / 2).await;
        assert_eq!(carried.progress(&intent(1)), bought());
        carried.keep(&intent(1), Some(bought()));
        tokio::time::advance(KEPT_FOR / 2).await;
        assert_eq!(carried.progress(&intent(1)), Progress::default());
    }

    #[tokio::test]
    async fn of_another_spec_only_what_was_bought_is_left() {
        let carried = Carried::default();
        carried.keep(&intent(1), Some(bought()));
        assert_eq!(carried.progress(&intent(2)), Progress { tried: false, ..bought() });
        carried.keep(&intent(2), None);
        assert_eq!(carried.progress(&intent(2)), Progress::default());
        assert!(carried.lock().is_empty());
    }

    #[test]
    fn a_status_that_was_not_written_is_gone_on_from() {
        let carried = Carried::default();
        let stored = ServiceIdentityStatus { revision: Some(1), ..ServiceIdentityStatus::default() };
        let meant = ServiceIdentityStatus { revision: Some(2), ..ServiceIdentityStatus::default() };
        assert_eq!(carried.previous("uid", &stored), stored);
        carried.means("uid", &meant);
        assert_eq!(carried.previous("uid", &stored), meant);
        // Its answer was lost, and the watch shows that it was written.
        assert_eq!(carried.previous("uid", &meant), meant);
        assert_eq!(carried.previous("uid", &stored), stored);
        carried.means("uid", &meant);
        carried.wrote("uid");
        assert_eq!(carried.previous("uid", &stored), stored);
    }
}
