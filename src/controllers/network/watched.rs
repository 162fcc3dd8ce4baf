//! What the network is decided from: the caches of pods, workloads, nodes, policies and our own kinds.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
};

use countersign_core::{
    api::{AccessGrant, AccessRequest, ExternalService, REQUESTED_AT, Segment},
    network::{
        applied::Standing,
        decide::Objects,
        observed::{
            Found, Resolvers, SeenCronJob, SeenDaemonSet, SeenDeployment, SeenEndpointSlice, SeenJob, SeenNode,
            SeenPod, SeenReplicaSet, SeenServiceRange, SeenStatefulSet, snapshot,
        },
        snapshot::Snapshot,
    },
};
use futures::future::BoxFuture;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::reflector::{self, Store},
};
use serde::Serialize;
use tokio::sync::Notify;

use super::super::view::{Change, View, follow};

/// Where the endpoints of the Kubernetes API are.
const API_NAMESPACE: &str = "default";

macro_rules! watched {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty, $scope:ident, $print:ident;)+) => {
        /// The caches. What other controllers watch too is in the [`View`].
        #[derive(Clone)]
        pub struct Watched { $($(#[doc = $doc])+ pub $name: Store<$kind>,)+ }

        impl Watched {
            /// Sets the watches up; `changed` is told of every change, `alive` whenever a watch turns.
            pub fn start(
                client: &Client,
                changed: &Arc<Notify>,
                alive: &(impl Fn() + Clone + Send + Sync + 'static),
            ) -> (Self, Vec<BoxFuture<'static, ()>>) {
                let mut watches: Vec<BoxFuture<'static, ()>> = Vec::new();
                $(
                    let ($name, writer) = reflector::store();
                    let tell = Arc::clone(changed);
                    watches.push(Box::pin(follow(
                        $scope(client),
                        writer,
                        alive.clone(),
                        $print,
                        move |_: &Change<'_, $kind>| tell.notify_one(),
                    )));
                )+
                (Self { $($name),+ }, watches)
            }

            /// Whether every cache has been filled once.
            pub async fn ready(&self) -> bool {
                $(self.$name.wait_until_ready().await.is_ok())&&+
            }
        }
    };
}

watched! {
    /// Every segment, also those that do not parse.
    segments: DeserializeGuard<Segment>, everywhere, declared;
    /// Every grant.
    grants: DeserializeGuard<AccessGrant>, everywhere, declared;
    /// Every request.
    requests: DeserializeGuard<AccessRequest>, everywhere, declared;
    /// Every external service.
    externals: DeserializeGuard<ExternalService>, everywhere, declared;
    /// Every pod.
    pods: SeenPod, everywhere, content;
    /// Every Deployment.
    deployments: SeenDeployment, everywhere, content;
    /// Every StatefulSet.
    stateful_sets: SeenStatefulSet, everywhere, content;
    /// Every DaemonSet.
    daemon_sets: SeenDaemonSet, everywhere, content;
    /// Every ReplicaSet.
    replica_sets: SeenReplicaSet, everywhere, content;
    /// Every Job.
    jobs: SeenJob, everywhere, content;
    /// Every CronJob.
    cron_jobs: SeenCronJob, everywhere, content;
    /// The endpoints of the Kubernetes API.
    slices: SeenEndpointSlice, of_the_api, content;
    /// Every node.
    nodes: SeenNode, everywhere, content;
    /// The ranges of addresses of Services.
    service_ranges: SeenServiceRange, everywhere, content;
    /// Every NetworkPolicy, ours and others'.
    policies: NetworkPolicy, everywhere, content;
}

fn everywhere<K: Resource<DynamicType = ()>>(client: &Client) -> Api<K> {
    Api::all(client.clone())
}

fn of_the_api<K>(client: &Client) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), API_NAMESPACE)
}

fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// What people declare; our own status writes are no change.
fn declared<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> u64 {
    let meta = object.meta();
    let requested = meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT));
    hash((&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), requested))
}

/// Everything that is kept of an object, but for its version and who wrote it.
fn content<K: Resource<DynamicType = ()> + Clone + Serialize>(object: &K) -> u64 {
    let mut object = object.clone();
    let meta = object.meta_mut();
    (meta.resource_version, meta.managed_fields, meta.generation) = (None, None, None);
    hash(serde_json::to_string(&object).unwrap_or_default())
}

/// The objects that people wrote, as they are now.
pub struct Declarations {
    /// Segments.
    pub segments: Vec<Arc<DeserializeGuard<Segment>>>,
    /// Grants.
    pub grants: Vec<Arc<DeserializeGuard<AccessGrant>>>,
    /// Requests.
    pub requests: Vec<Arc<DeserializeGuard<AccessRequest>>>,
    /// External services.
    pub externals: Vec<Arc<DeserializeGuard<ExternalService>>>,
}

/// Those that fit the schema; the others only a change of the stored object can help.
pub fn fitting<K>(objects: &[Arc<DeserializeGuard<K>>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

impl Declarations {
    /// As the decision takes them.
    pub fn objects(&self) -> Objects<'_> {
        Objects {
            segments: fitting(&self.segments).collect(),
            grants: fitting(&self.grants).collect(),
            requests: fitting(&self.requests).collect(),
            externals: fitting(&self.externals).collect(),
        }
    }
}

impl Watched {
    /// What people declare now.
    pub fn declarations(&self) -> Declarations {
        Declarations {
            segments: self.segments.state(),
            grants: self.grants.state(),
            requests: self.requests.state(),
            externals: self.externals.state(),
        }
    }

    /// What of ours and of others stands now.
    pub fn standing(&self) -> Standing {
        let policies = self.policies.state();
        Standing::read(policies.iter().map(AsRef::as_ref))
    }

    /// What the cluster is like now.
    pub fn snapshot(&self, view: &View, resolvers: &Resolvers) -> Snapshot {
        let (namespaces, accounts, services) = (view.namespaces.state(), view.accounts.state(), view.services.state());
        let (pods, deployments, stateful_sets) =
            (self.pods.state(), self.deployments.state(), self.stateful_sets.state());
        let (daemon_sets, replica_sets, jobs) =
            (self.daemon_sets.state(), self.replica_sets.state(), self.jobs.state());
        let (cron_jobs, slices, nodes) = (self.cron_jobs.state(), self.slices.state(), self.nodes.state());
        let service_ranges = self.service_ranges.state();
        let found = Found {
            namespaces: namespaces.iter().map(|object| &object.metadata).collect(),
            accounts: accounts.iter().map(|object| &object.metadata).collect(),
            pods: refs(&pods),
            deployments: refs(&deployments),
            stateful_sets: refs(&stateful_sets),
            daemon_sets: refs(&daemon_sets),
            replica_sets: refs(&replica_sets),
            jobs: refs(&jobs),
            cron_jobs: refs(&cron_jobs),
            services: refs(&services),
            slices: refs(&slices),
            nodes: refs(&nodes),
            service_ranges: refs(&service_ranges),
        };
        snapshot(&found, resolvers)
    }
}

fn refs<K>(objects: &[Arc<K>]) -> Vec<&K> {
    objects.iter().map(AsRef::as_ref).collect()
}
