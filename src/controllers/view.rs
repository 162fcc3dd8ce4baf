//! The cluster as the controllers see it: one watch and one cache per kind, and who is told of a
//! change.
//!
//! Only what a decision reads is kept: of ServiceAccounts and Namespaces the metadata, of Services
//! the type. Secrets are never watched. A change is told only when something a decision reads has
//! changed, so that our own status writes do not come back as work.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
};

use countersign_core::api::{REQUESTED_AT, ServiceIdentity, TrustDomain, VaultConnection};
use futures::{StreamExt, channel::mpsc};
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A Service with the one field of its spec that matters here.
#[derive(Debug, Clone, Serialize, Deserialize, Resource)]
#[resource(inherit = Service)]
pub struct ServiceType {
    /// Name, namespace.
    pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    /// Only the type.
    #[serde(default)]
    pub spec: ServiceTypeSpec,
}

/// See [`ServiceType`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceTypeSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
}

/// The caches.
#[derive(Clone)]
pub struct View {
    /// Every identity, also those that do not parse.
    pub identities: Store<DeserializeGuard<ServiceIdentity>>,
    /// Every trust domain.
    pub domains: Store<DeserializeGuard<TrustDomain>>,
    /// Every connection.
    pub connections: Store<DeserializeGuard<VaultConnection>>,
    /// Every ServiceAccount.
    pub accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Every Service.
    pub services: Store<ServiceType>,
    /// Every namespace.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// The queues of the three controllers, to be told of changes.
#[derive(Clone)]
pub struct Queues {
    /// Identities to look at.
    pub identities: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<ServiceIdentity>>>,
    /// Trust domains to look at.
    pub domains: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<TrustDomain>>>,
    /// Connections to look at.
    pub connections: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<VaultConnection>>>,
}

/// The receiving ends of [`Queues`].
pub struct Work {
    /// Identities to look at.
    pub identities: mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<ServiceIdentity>>>,
    /// Trust domains to look at.
    pub domains: mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<TrustDomain>>>,
    /// Connections to look at.
    pub connections: mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<VaultConnection>>>,
}

impl View {
    /// Whether every cache has been filled once.
    pub async fn ready(&self) -> bool {
        let all = tokio::join!(
            self.identities.wait_until_ready(),
            self.domains.wait_until_ready(),
            self.connections.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.services.wait_until_ready(),
            self.namespaces.wait_until_ready(),
        );
        all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok() && all.4.is_ok() && all.5.is_ok()
    }
}

/// Starts the watches; the tasks end with the process, which ends when leadership does.
pub fn watch(client: &Client, alive: impl Fn() + Clone + Send + Sync + 'static) -> (View, Queues, Work) {
    let (identities_tx, identities_rx) = mpsc::unbounded();
    let (domains_tx, domains_rx) = mpsc::unbounded();
    let (connections_tx, connections_rx) = mpsc::unbounded();
    let queues = Queues { identities: identities_tx, domains: domains_tx, connections: connections_tx };
    let work = Work { identities: identities_rx, domains: domains_rx, connections: connections_rx };

    let (identities, identities_writer) = reflector::store();
    let (domains, domains_writer) = reflector::store();
    let (connections, connections_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (services, services_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let view = View { identities, domains, connections, accounts, services, namespaces };

    let tell = queues.clone();
    follow(Api::all(client.clone()), identities_writer, alive.clone(), spec_print, move |identity| {
        let _ = tell.identities.unbounded_send(identity.clone());
    });
    let (tell, all) = (queues.clone(), view.clone());
    follow(Api::all(client.clone()), domains_writer, alive.clone(), domain_print, move |domain| {
        let _ = tell.domains.unbounded_send(domain.clone());
        all.tell_identities(&tell, |identity| identity.spec.trust_domain == domain.name);
    });
    let (tell, all) = (queues.clone(), view.clone());
    follow(Api::all(client.clone()), connections_writer, alive.clone(), connection_print, move |connection| {
        let _ = tell.connections.unbounded_send(connection.clone());
        for domain in all.domains.state().iter().filter(|domain| uses(domain, &connection.name)) {
            let _ = tell.domains.unbounded_send(ObjectRef::from_obj(domain.as_ref()));
        }
    });
    let (tell, all) = (queues.clone(), view.clone());
    follow(Api::all(client.clone()), accounts_writer, alive.clone(), presence_print, move |account| {
        all.tell_identities(&tell, |identity| {
            identity.namespace() == account.namespace && identity.spec.service_account_name == account.name
        });
    });
    let (tell, all) = (queues.clone(), view.clone());
    follow(Api::all(client.clone()), services_writer, alive.clone(), service_print, move |service| {
        all.tell_identities(&tell, |identity| {
            identity.namespace() == service.namespace && identity.spec.services.contains(&service.name)
        });
    });
    let (tell, all) = (queues.clone(), view.clone());
    follow(Api::all(client.clone()), namespaces_writer, alive, namespace_print, move |namespace| {
        all.tell_identities(&tell, |identity| identity.namespace().as_deref() == Some(namespace.name.as_str()));
    });
    (view, queues, work)
}

impl View {
    fn tell_identities(&self, queues: &Queues, concerned: impl Fn(&ServiceIdentity) -> bool) {
        for identity in self.identities.state() {
            if identity.0.as_ref().is_ok_and(&concerned) {
                let _ = queues.identities.unbounded_send(ObjectRef::from_obj(identity.as_ref()));
            }
        }
    }
}

/// Keeps one cache and tells of the changes that its fingerprint notices.
fn follow<K>(
    api: Api<K>,
    mut writer: reflector::store::Writer<K>,
    alive: impl Fn() + Send + 'static,
    fingerprint: fn(&K) -> u64,
    tell: impl Fn(&ObjectRef<K>) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    tokio::spawn(async move {
        let config = watcher::Config::default().timeout(60).page_size(500);
        let mut events = Box::pin(watcher::watcher(api, config).default_backoff());
        let mut known: HashMap<ObjectRef<K>, u64> = HashMap::new();
        let mut listed: HashMap<ObjectRef<K>, u64> = HashMap::new();
        while let Some(event) = events.next().await {
            alive();
            let Ok(event) = event else {
                tracing::warn!(kind = %K::kind(&()), "a watch was interrupted and starts again");
                continue;
            };
            // The store swaps in a complete list only at its end, so it comes first and telling second.
            writer.apply_watcher_event(&event);
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => {
                    listed.insert(ObjectRef::from_obj(&object), fingerprint(&object));
                }
                Event::InitDone => {
                    let before = std::mem::replace(&mut known, std::mem::take(&mut listed));
                    let changed = known.iter().filter(|(key, print)| before.get(key) != Some(print)).map(|(key, _)| key);
                    let gone = before.keys().filter(|key| !known.contains_key(key));
                    changed.chain(gone).for_each(&tell);
                }
                Event::Apply(object) => {
                    let (key, print) = (ObjectRef::from_obj(&object), fingerprint(&object));
                    if known.insert(key.clone(), print) != Some(print) {
                        tell(&key);
                    }
                }
                Event::Delete(object) => {
                    let key = ObjectRef::from_obj(&object);
                    known.remove(&key);
                    tell(&key);
                }
            }
        }
    });
}

fn print(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// Spec, deletion and a person's request.
fn spec_print<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> u64 {
    let meta = object.meta();
    let requested = meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT));
    print((&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), requested))
}

fn domain_print(object: &DeserializeGuard<TrustDomain>) -> u64 {
    let status = object.0.as_ref().ok().and_then(|domain| domain.status.as_ref());
    let authorities: Vec<_> = status.iter().flat_map(|status| &status.authorities).map(|authority| (&authority.id, authority.state, &authority.root)).collect();
    let verdicts: Vec<_> = status.iter().flat_map(|status| &status.conditions).map(|c| (&c.type_, &c.status, &c.reason)).collect();
    print((spec_print(object), authorities, verdicts))
}

fn connection_print(object: &DeserializeGuard<VaultConnection>) -> u64 {
    let status = object.0.as_ref().ok().and_then(|connection| connection.status.as_ref());
    let verdicts: Vec<_> = status.iter().flat_map(|status| &status.conditions).map(|c| (&c.type_, &c.status, &c.reason)).collect();
    print((spec_print(object), verdicts))
}

fn presence_print(object: &PartialObjectMeta<ServiceAccount>) -> u64 {
    print((&object.metadata.uid, object.metadata.deletion_timestamp.is_some()))
}

fn service_print(object: &ServiceType) -> u64 {
    print((&object.metadata.uid, &object.spec.type_))
}

fn namespace_print(object: &PartialObjectMeta<Namespace>) -> u64 {
    print((&object.metadata.labels, object.metadata.deletion_timestamp.is_some()))
}

fn uses(domain: &Arc<DeserializeGuard<TrustDomain>>, connection: &str) -> bool {
    domain.0.as_ref().is_ok_and(|domain| domain.spec.issuer.vault.as_ref().is_some_and(|vault| vault.connection == connection))
}
