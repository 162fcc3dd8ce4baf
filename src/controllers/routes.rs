//! Who is told of which change: the queues, and the fingerprints that keep our own status
//! writes from coming back as work.

use std::{
    collections::hash_map::DefaultHasher,
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
};

use countersign_core::{
    api::{REQUESTED_AT, SecretBinding, ServiceIdentity, TrustDomain, VaultConnection},
    network::observed::SeenService,
};
use futures::{channel::mpsc, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{self, ObjectRef, store::Writer},
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::view::{Change, View, follow};
use crate::runtime::{metrics::Kind, settings::Namespaces};

/// A stored identity, also one that does not parse.
pub type Identity = DeserializeGuard<ServiceIdentity>;
/// A stored trust domain, also one that does not parse.
pub type Domain = DeserializeGuard<TrustDomain>;
/// A stored connection, also one that does not parse.
pub type Connection = DeserializeGuard<VaultConnection>;

/// A stored binding, also one that does not parse.
pub type Binding = DeserializeGuard<SecretBinding>;

/// The queues of the controllers, to be told of changes. Clones share them.
#[derive(Clone)]
pub struct Queues {
    namespaces: Namespaces,
    identities: mpsc::UnboundedSender<ObjectRef<Identity>>,
    domains: mpsc::UnboundedSender<ObjectRef<Domain>>,
    connections: mpsc::UnboundedSender<ObjectRef<Connection>>,
    bindings: mpsc::UnboundedSender<ObjectRef<Binding>>,
    network: Arc<Notify>,
    gone: mpsc::UnboundedSender<Gone>,
}

/// The receiving ends of [`Queues`].
pub struct Work {
    /// Identities to look at.
    pub identities: mpsc::UnboundedReceiver<ObjectRef<Identity>>,
    /// Trust domains to look at.
    pub domains: mpsc::UnboundedReceiver<ObjectRef<Domain>>,
    /// Connections to look at.
    pub connections: mpsc::UnboundedReceiver<ObjectRef<Connection>>,
    /// Bindings to look at.
    pub bindings: mpsc::UnboundedReceiver<ObjectRef<Binding>>,
    /// Objects of ours that are gone.
    pub gone: mpsc::UnboundedReceiver<Gone>,
}

/// An object of ours that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for a cluster-scoped kind.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Queues {
    fn new(namespaces: Namespaces) -> (Self, Work) {
        let (identities, identities_work) = mpsc::unbounded();
        let (domains, domains_work) = mpsc::unbounded();
        let (connections, connections_work) = mpsc::unbounded();
        let (bindings, bindings_work) = mpsc::unbounded();
        let (gone, gone_work) = mpsc::unbounded();
        let work = Work {
            identities: identities_work,
            domains: domains_work,
            connections: connections_work,
            bindings: bindings_work,
            gone: gone_work,
        };
        let network = Arc::default();
        (Self { namespaces, identities, domains, connections, bindings, network, gone }, work)
    }

    /// A connection is to be looked at. A queue whose controller has ended takes nothing, which is right.
    pub fn connection(&self, name: &str) {
        let _ = self.connections.unbounded_send(ObjectRef::new(name));
    }

    /// A trust domain is to be looked at.
    pub fn domain(&self, name: &str) {
        let _ = self.domains.unbounded_send(ObjectRef::new(name));
    }

    /// An identity is to be looked at, if its namespace is ours to work in.
    pub fn identity(&self, identity: ObjectRef<Identity>) {
        if identity.namespace.as_deref().is_some_and(|namespace| self.namespaces.contains(namespace)) {
            let _ = self.identities.unbounded_send(identity);
        }
    }

    /// Every identity that is `concerned` is to be looked at.
    pub fn identities(&self, view: &View, concerned: impl Fn(&ServiceIdentity) -> bool) {
        for identity in view.identities.state() {
            if identity.0.as_ref().is_ok_and(&concerned) {
                self.identity(ObjectRef::from_obj(identity.as_ref()));
            }
        }
    }

    /// A binding is to be looked at, if its namespace is ours to work in.
    pub fn binding(&self, binding: ObjectRef<Binding>) {
        if binding.namespace.as_deref().is_some_and(|namespace| self.namespaces.contains(namespace)) {
            let _ = self.bindings.unbounded_send(binding);
        }
    }

    /// Every binding that is `concerned` is to be looked at.
    pub fn bindings(&self, view: &View, concerned: impl Fn(&SecretBinding) -> bool) {
        for binding in view.bindings.state() {
            if binding.0.as_ref().is_ok_and(&concerned) {
                self.binding(ObjectRef::from_obj(binding.as_ref()));
            }
        }
    }

    /// Who may talk to whom is to be looked at.
    pub fn network(&self) {
        self.network.notify_one();
    }

    /// Waits until it is.
    pub async fn network_changed(&self) {
        self.network.notified().await;
    }

    /// What [`Queues::network`] rings.
    pub fn network_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.network)
    }

    fn gone<K: Resource<DynamicType = ()>>(&self, kind: Kind, object: &ObjectRef<K>) {
        let uid = object.extra.uid.clone().unwrap_or_default();
        let gone = Gone { kind, namespace: object.namespace.clone(), name: object.name.clone(), uid };
        let _ = self.gone.unbounded_send(gone);
    }
}

/// The watches, to be polled for as long as they are needed.
pub type Watches = FuturesUnordered<BoxFuture<'static, ()>>;

/// Sets the watches up; `alive` is called whenever one turns.
pub fn watch(
    client: &Client,
    namespaces: Namespaces,
    alive: impl Fn() + Clone + Send + Sync + 'static,
) -> (View, Queues, Work, Watches) {
    let (queues, work) = Queues::new(namespaces);
    let (identities, identities_writer) = reflector::store();
    let (domains, domains_writer) = reflector::store();
    let (connections, connections_writer) = reflector::store();
    let (bindings, bindings_writer) = reflector::store();
    let (accounts, accounts_writer) = reflector::store();
    let (services, services_writer) = reflector::store();
    let (of_namespaces, namespaces_writer) = reflector::store();
    let view = View { identities, domains, connections, bindings, accounts, services, namespaces: of_namespaces };
    let routes = Routes { client: client.clone(), tell: queues.clone(), view: view.clone() };
    let watches = Watches::new();
    watches.push(routes.follow(identities_writer, &alive, spec_print, Routes::identity));
    watches.push(routes.follow(domains_writer, &alive, domain_print, Routes::domain));
    watches.push(routes.follow(connections_writer, &alive, connection_print, Routes::connection));
    watches.push(routes.follow(bindings_writer, &alive, spec_print, Routes::binding));
    watches.push(routes.follow(accounts_writer, &alive, presence_print, Routes::account));
    watches.push(routes.follow(services_writer, &alive, service_print, Routes::service));
    watches.push(routes.follow(namespaces_writer, &alive, namespace_print, Routes::namespace));
    (view, queues, work, watches)
}

/// Whom a change concerns, one method a kind.
#[derive(Clone)]
struct Routes {
    client: Client,
    tell: Queues,
    view: View,
}

impl Routes {
    fn follow<K>(
        &self,
        writer: Writer<K>,
        alive: &(impl Fn() + Clone + Send + Sync + 'static),
        fingerprint: fn(&K) -> u64,
        route: fn(&Self, &Change<'_, K>),
    ) -> BoxFuture<'static, ()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let routes = self.clone();
        let tell = move |change: &Change<'_, K>| route(&routes, change);
        Box::pin(follow(Api::all(self.client.clone()), writer, alive.clone(), fingerprint, tell))
    }

    fn identity(&self, change: &Change<'_, Identity>) {
        match change {
            Change::Changed(identity) => self.tell.identity((*identity).clone()),
            Change::Gone(identity) => {
                self.tell.gone(Kind::ServiceIdentity, identity);
                // Whoever waited for the Secret of this one may have it now.
                self.tell.identities(&self.view, |other| other.namespace() == identity.namespace);
            }
        }
    }

    fn domain(&self, change: &Change<'_, Domain>) {
        let (Change::Changed(domain) | Change::Gone(domain)) = change;
        match change {
            Change::Changed(_) => self.tell.domain(&domain.name),
            Change::Gone(_) => {
                self.tell.gone(Kind::TrustDomain, domain);
                // An older namesake that is gone makes room.
                self.view.domains.state().iter().for_each(|other| self.tell.domain(&other.name_any()));
            }
        }
        self.tell.identities(&self.view, |identity| identity.spec.trust_domain == domain.name);
    }

    fn connection(&self, change: &Change<'_, Connection>) {
        let (Change::Changed(connection) | Change::Gone(connection)) = change;
        match change {
            Change::Changed(_) => self.tell.connection(&connection.name),
            Change::Gone(_) => self.tell.gone(Kind::VaultConnection, connection),
        }
        for domain in self.view.domains.state().iter().filter(|domain| uses(domain, &connection.name)) {
            let name = domain.name_any();
            self.tell.domain(&name);
            // An outage that has ended ends for identities, too, whether or not it changed their domain.
            self.tell.identities(&self.view, |identity| identity.spec.trust_domain == name);
        }
        self.tell.bindings(&self.view, |binding| binding.spec.connection == connection.name);
    }

    fn binding(&self, change: &Change<'_, Binding>) {
        match change {
            Change::Changed(binding) => self.tell.binding((*binding).clone()),
            Change::Gone(binding) => {
                self.tell.gone(Kind::SecretBinding, binding);
                // Whoever waited for the Secret of this one may have it now.
                self.tell.bindings(&self.view, |other| other.namespace() == binding.namespace);
            }
        }
    }

    fn account(&self, change: &Change<'_, PartialObjectMeta<ServiceAccount>>) {
        let (Change::Changed(account) | Change::Gone(account)) = change;
        self.tell.network();
        self.tell.identities(&self.view, |identity| {
            identity.namespace() == account.namespace && identity.spec.service_account_name == account.name
        });
        self.tell.bindings(&self.view, |binding| {
            binding.namespace() == account.namespace
                && binding.spec.service_account_name.as_ref() == Some(&account.name)
        });
    }

    fn service(&self, change: &Change<'_, SeenService>) {
        let (Change::Changed(service) | Change::Gone(service)) = change;
        self.tell.network();
        self.tell.identities(&self.view, |identity| {
            identity.namespace() == service.namespace && identity.spec.services.contains(&service.name)
        });
    }

    fn namespace(&self, change: &Change<'_, PartialObjectMeta<Namespace>>) {
        let (Change::Changed(namespace) | Change::Gone(namespace)) = change;
        self.tell.network();
        let lies_there = |other: Option<String>| other.as_deref() == Some(namespace.name.as_str());
        self.tell.identities(&self.view, |identity| lies_there(identity.namespace()));
        self.tell.bindings(&self.view, |binding| lies_there(binding.namespace()));
    }
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
    let authorities: Vec<_> = status
        .iter()
        .flat_map(|status| &status.authorities)
        .map(|authority| (&authority.id, authority.state, &authority.root))
        .collect();
    print((spec_print(object), authorities, verdicts(status.map(|status| status.conditions.as_slice()))))
}

fn connection_print(object: &DeserializeGuard<VaultConnection>) -> u64 {
    let status = object.0.as_ref().ok().and_then(|connection| connection.status.as_ref());
    print((spec_print(object), verdicts(status.map(|status| status.conditions.as_slice()))))
}

fn verdicts(conditions: Option<&[Condition]>) -> Vec<(&str, &str, &str)> {
    conditions.unwrap_or_default().iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
}

fn presence_print(object: &PartialObjectMeta<ServiceAccount>) -> u64 {
    print((&object.metadata.uid, object.metadata.deletion_timestamp.is_some()))
}

fn service_print(object: &SeenService) -> u64 {
    print((&object.metadata.uid, &object.spec))
}

fn namespace_print(object: &PartialObjectMeta<Namespace>) -> u64 {
    print((&object.metadata.labels, object.metadata.deletion_timestamp.is_some()))
}

fn uses(domain: &Arc<DeserializeGuard<TrustDomain>>, connection: &str) -> bool {
    domain
        .0
        .as_ref()
        .is_ok_and(|domain| domain.spec.issuer.vault.as_ref().is_some_and(|vault| vault.connection == connection))
}
