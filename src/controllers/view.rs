//! The cluster as the controllers see it: one watch and one cache per kind.
//!
//! Only what a decision reads is kept: of ServiceAccounts and Namespaces the metadata, of Services
//! where they lead. Secrets are never watched. Who is told of a change is in [`super::routes`].

use std::{collections::HashMap, fmt::Debug};

use countersign_core::{
    api::{SecretBinding, ServiceIdentity, TrustDomain, VaultConnection},
    network::observed::SeenService,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;

/// The caches.
#[derive(Clone)]
pub struct View {
    /// Every identity, also those that do not parse.
    pub identities: Store<DeserializeGuard<ServiceIdentity>>,
    /// Every trust domain.
    pub domains: Store<DeserializeGuard<TrustDomain>>,
    /// Every connection.
    pub connections: Store<DeserializeGuard<VaultConnection>>,
    /// Every binding.
    pub bindings: Store<DeserializeGuard<SecretBinding>>,
    /// Every ServiceAccount.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Every Service.
    pub services: Store<SeenService>,
    /// Every namespace.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

impl View {
    /// Whether every cache has been filled once.
    pub async fn ready(&self) -> bool {
        let all = tokio::join!(
            self.identities.wait_until_ready(),
            self.domains.wait_until_ready(),
            self.connections.wait_until_ready(),
            self.bindings.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.services.wait_until_ready(),
            self.namespaces.wait_until_ready(),
        );
        all.0.is_ok()
            && all.1.is_ok()
            && all.2.is_ok()
            && all.3.is_ok()
            && all.4.is_ok()
            && all.5.is_ok()
            && all.6.is_ok()
    }
}

/// A change that a watch has seen.
#[derive(Debug)]
pub enum Change<'a, K: Resource<DynamicType = ()>> {
    /// The object is new, or something about it that matters has changed.
    Changed(&'a ObjectRef<K>),
    /// The object is gone; the reference still has its UID.
    Gone(&'a ObjectRef<K>),
}

/// Keeps one cache and tells of the changes that its fingerprint notices, until the process ends.
///
/// `alive` is called at each event and at each failure, so that a watch that hangs shows.
pub async fn follow<K>(
    api: Api<K>,
    mut writer: Writer<K>,
    alive: impl Fn() + Send,
    fingerprint: fn(&K) -> u64,
    tell: impl Fn(&Change<'_, K>) + Send,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT).page_size(PAGE);
    // Who wrote which field fills more memory than all that a decision reads.
    let slim = |object: &mut K| object.meta_mut().managed_fields = None;
    let mut events = Box::pin(watcher::watcher(api, config).default_backoff().modify(slim));
    let mut known: HashMap<ObjectRef<K>, u64> = HashMap::new();
    let mut listed: HashMap<ObjectRef<K>, u64> = HashMap::new();
    let mut troubled = false;
    loop {
        // A watch that is quiet for its whole time is renewed without an event; that is life, too.
        let next = tokio::time::timeout(QUIET, events.next()).await;
        alive();
        let event = match next {
            Err(_) => continue,
            Ok(None) => return,
            Ok(Some(Err(_))) => {
                if !std::mem::replace(&mut troubled, true) {
                    tracing::warn!(kind = %K::kind(&()), "a watch was interrupted and starts again");
                }
                continue;
            }
            Ok(Some(Ok(event))) => event,
        };
        troubled = false;
        // The store swaps in a complete list only at its end, so it comes first and telling second.
        writer.apply_watcher_event(&event);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(ObjectRef::from_obj(&object), fingerprint(&object));
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut known, std::mem::take(&mut listed));
                let changed = known.iter().filter(|(key, print)| before.get(key) != Some(print));
                changed.for_each(|(key, _)| tell(&Change::Changed(key)));
                before.keys().filter(|key| !known.contains_key(key)).for_each(|key| tell(&Change::Gone(key)));
            }
            Event::Apply(object) => {
                let (key, print) = (ObjectRef::from_obj(&object), fingerprint(&object));
                if known.insert(key.clone(), print) != Some(print) {
                    tell(&Change::Changed(&key));
                }
            }
            Event::Delete(object) => {
                let key = ObjectRef::from_obj(&object);
                known.remove(&key);
                tell(&Change::Gone(&key));
            }
        }
    }
}

/// How long one watch lasts on the server, seconds: a half-open connection is noticed after that.
const WATCH_TIMEOUT: u32 = 60;
/// Objects a page of a list.
const PAGE: u32 = 500;
/// How often the loop turns when nothing happens.
const QUIET: std::time::Duration = std::time::Duration::from_secs(20);
