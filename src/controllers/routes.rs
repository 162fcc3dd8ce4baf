//! Who is told of which change: the three queues, and the fingerprints that keep our own status
//! writes from coming back as work.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
};

use countersign_core::api::{REQUESTED_AT, ServiceIdentity, TrustDomain, VaultConnection};
use futures::{channel::mpsc, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::reflector::{self, ObjectRef},
};

use super::view::{Change, ServiceType, View, follow};
use crate::runtime::{metrics::Kind, settings::Namespaces};

/// A stored identity, also one that does not parse.
pub type Identity = DeserializeGuard<ServiceIdentity>;
/// A stored trust domain, also one that does not parse.
pub type Domain = DeserializeGuard<TrustDomain>;
/// A stored connection, also one that does not parse.
pub type Connection = DeserializeGuard<VaultConnection>;

/// The queues of the three controllers, to be told of changes. Clones share them.
#[derive(Clone)]
pub struct Queues {
    namespaces: Namespaces,
    identities: mpsc::UnboundedSender<ObjectRef<Identity>>,
    domains: mpsc::UnboundedSender<ObjectRef<Domain>>,
    connections: mpsc::UnboundedSender<ObjectRef<Connection>>,
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
        let (gone, gone_work) = mpsc::unbounded();
        let work =
            Work { identities: identities_work, domains: domains_work, connections: connections_work, gone: gone_work };
        (Self { namespaces, identities, domains, connections, gone }, work)
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
    let (accounts, accounts_writer) = reflector::store();
    let (services, services_writer) = reflector::store();
    let (of_namespaces, namespaces_writer) = reflector::store();
    let view = View { identities, domains, connections, accounts, services, namespaces: of_namespaces };

    let watches = Watches::new();
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        identities_writer,
        alive.clone(),
        spec_print,
        move |change| {
            match change {
                Change::Changed(identity) => tell.identity((*identity).clone()),
                Change::Gone(identity) => {
                    tell.gone(Kind::ServiceIdentity, identity);
                    // Whoever waited for the Secret of this one may have it now.
                    tell.identities(&all, |other| other.namespace() == identity.namespace);
                }
            }
        },
    )));
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        domains_writer,
        alive.clone(),
        domain_print,
        move |change| {
            let (Change::Changed(domain) | Change::Gone(domain)) = change;
            match change {
                Change::Changed(_) => tell.domain(&domain.name),
                Change::Gone(_) => {
                    tell.gone(Kind::TrustDomain, domain);
                    // An older namesake that is gone makes room.
                    all.domains.state().iter().for_each(|other| tell.domain(&other.name_any()));
                }
            }
            tell.identities(&all, |identity| identity.spec.trust_domain == domain.name);
        },
    )));
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        connections_writer,
        alive.clone(),
        connection_print,
        move |change| {
            let (Change::Changed(connection) | Change::Gone(connection)) = change;
            match change {
                Change::Changed(_) => tell.connection(&connection.name),
                Change::Gone(_) => tell.gone(Kind::VaultConnection, connection),
            }
            for domain in all.domains.state().iter().filter(|domain| uses(domain, &connection.name)) {
                let name = domain.name_any();
                tell.domain(&name);
                // An outage that has ended ends for identities, too, whether or not it changed their domain.
                tell.identities(&all, |identity| identity.spec.trust_domain == name);
            }
        },
    )));
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        accounts_writer,
        alive.clone(),
        presence_print,
        move |change| {
            let (Change::Changed(account) | Change::Gone(account)) = change;
            tell.identities(&all, |identity| {
                identity.namespace() == account.namespace && identity.spec.service_account_name == account.name
            });
        },
    )));
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        services_writer,
        alive.clone(),
        service_print,
        move |change| {
            let (Change::Changed(service) | Change::Gone(service)) = change;
            tell.identities(&all, |identity| {
                identity.namespace() == service.namespace && identity.spec.services.contains(&service.name)
            });
        },
    )));
    let (tell, all) = (queues.clone(), view.clone());
    watches.push(Box::pin(follow(
        Api::all(client.clone()),
        namespaces_writer,
        alive,
        namespace_print,
        move |change| {
            let (Change::Changed(namespace) | Change::Gone(namespace)) = change;
            tell.identities(&all, |identity| identity.namespace().as_deref() == Some(namespace.name.as_str()));
        },
    )));
    (view, queues, work, watches)
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

fn service_print(object: &ServiceType) -> u64 {
    print((&object.metadata.uid, &object.spec.type_))
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
