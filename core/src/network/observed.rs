//! Objects of the cluster as they are watched: only the fields that a decision reads.
//!
//! Environment, volumes, commands and annotations are never decoded, so nothing of them can be kept or shown. Each type
//! stands for one of the Kubernetes API and deserializes from it.

mod decode;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, discovery::v1 as discovery, networking::v1 as net},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time},
};
use kube_derive::Resource;
use serde::{Deserialize, Deserializer, Serialize};

pub use decode::{Found, Resolvers, snapshot};

/// What of an object's metadata is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<Time>,
}

fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = SlimMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        owner_references: meta.owner_references,
        deletion_timestamp: meta.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

/// A pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = core::Pod, crates(kube_core = "::kube_core"))]
pub struct SeenPod {
    /// Name, namespace, labels, owner.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// See [`SeenPodSpec`].
    #[serde(default)]
    pub spec: SeenPodSpec,
    /// Its phase.
    #[serde(default)]
    pub status: SeenPodStatus,
}

/// What a pod or a template runs, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenPodSpec {
    /// The ServiceAccount; `default` where it names none.
    pub service_account_name: Option<String>,
    /// Whether it runs in the network of its node.
    pub host_network: Option<bool>,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<SeenContainer>,
    /// Its init containers; those that are restarted are sidecars.
    #[serde(default)]
    pub init_containers: Vec<SeenContainer>,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenContainer {
    /// `Always` makes an init container a sidecar.
    pub restart_policy: Option<String>,
    /// The ports it declares.
    #[serde(default)]
    pub ports: Vec<SeenContainerPort>,
    /// How it is asked whether it lives.
    pub liveness_probe: Option<SeenProbe>,
    /// How it is asked whether it is ready.
    pub readiness_probe: Option<SeenProbe>,
    /// How it is asked whether it has started.
    pub startup_probe: Option<SeenProbe>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenContainerPort {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    #[serde(default)]
    pub container_port: i32,
    /// `TCP` where it says nothing.
    pub protocol: Option<String>,
}

/// A probe; one that runs a command asks no port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenProbe {
    /// By HTTP.
    pub http_get: Option<SeenProbePort>,
    /// By a connection.
    pub tcp_socket: Option<SeenProbePort>,
    /// By gRPC.
    pub grpc: Option<SeenProbePort>,
}

/// The port that a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenProbePort {
    /// Its number or name.
    pub port: PortText,
}

/// A number or a name of a port, hashable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortText {
    /// A number.
    Number(i32),
    /// A name.
    Name(String),
}

/// The phase of a pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeenPodStatus {
    /// `Succeeded` and `Failed` are no longer live.
    pub phase: Option<String>,
}

/// The spec of a workload: what it selects and what it makes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeenWorkloadSpec {
    /// The pods that are its own.
    pub selector: Option<LabelSelector>,
    /// What it makes.
    #[serde(default)]
    pub template: SeenTemplate,
}

/// A pod template.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeenTemplate {
    /// Its labels.
    #[serde(default, deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// What it runs, and as whom.
    #[serde(default)]
    pub spec: SeenPodSpec,
}

macro_rules! workloads {
    ($($(#[$doc:meta])* $name:ident = $of:path;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
        #[resource(inherit = $of, crates(kube_core = "::kube_core"))]
        pub struct $name {
            /// Name, namespace, UID, owner.
            #[serde(deserialize_with = "slim")]
            pub metadata: ObjectMeta,
            /// Selector and template.
            #[serde(default)]
            pub spec: SeenWorkloadSpec,
        }
    )*};
}

workloads! {
    /// A Deployment.
    SeenDeployment = apps::Deployment;
    /// A StatefulSet.
    SeenStatefulSet = apps::StatefulSet;
    /// A DaemonSet.
    SeenDaemonSet = apps::DaemonSet;
    /// A ReplicaSet.
    SeenReplicaSet = apps::ReplicaSet;
    /// A Job.
    SeenJob = batch::Job;
}

/// A CronJob.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = batch::CronJob, crates(kube_core = "::kube_core"))]
pub struct SeenCronJob {
    /// Name, namespace, UID.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// The Job it makes.
    #[serde(default)]
    pub spec: SeenCronJobSpec,
}

/// See [`SeenCronJob`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenCronJobSpec {
    /// The Job it makes.
    #[serde(default)]
    pub job_template: SeenJobTemplate,
}

/// See [`SeenCronJob`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeenJobTemplate {
    /// The Job it makes.
    #[serde(default)]
    pub spec: SeenWorkloadSpec,
}

/// A Service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = core::Service, crates(kube_core = "::kube_core"))]
pub struct SeenService {
    /// Name, namespace, UID.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// Where it leads.
    #[serde(default)]
    pub spec: SeenServiceSpec,
}

/// See [`SeenService`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// The labels of its pods.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Its addresses in the cluster.
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<SeenServicePort>,
}

/// See [`SeenService`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenServicePort {
    /// Where it is asked.
    #[serde(default)]
    pub port: i32,
    /// Where its pods listen; the same where it says nothing.
    pub target_port: Option<PortText>,
    /// `TCP` where it says nothing.
    pub protocol: Option<String>,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = core::Node, crates(kube_core = "::kube_core"))]
pub struct SeenNode {
    /// Name, UID.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// The ranges of its pods.
    #[serde(default)]
    pub spec: SeenNodeSpec,
    /// Its addresses.
    #[serde(default)]
    pub status: SeenNodeStatus,
}

/// See [`SeenNode`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenNodeSpec {
    /// The ranges of its pods.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

/// See [`SeenNode`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenNodeStatus {
    /// Its addresses, of several types.
    #[serde(default)]
    pub addresses: Vec<SeenNodeAddress>,
}

/// See [`SeenNode`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenNodeAddress {
    /// `InternalIP` is the one that traffic of the cluster uses.
    #[serde(default, rename = "type")]
    pub type_: String,
    /// The address.
    #[serde(default)]
    pub address: String,
}

/// A slice of the endpoints of a Service.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = discovery::EndpointSlice, crates(kube_core = "::kube_core"))]
pub struct SeenEndpointSlice {
    /// Name, namespace; the label `kubernetes.io/service-name` tells whose it is.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Vec<SeenEndpoint>,
    /// Their ports.
    #[serde(default)]
    pub ports: Vec<SeenEndpointPort>,
}

/// See [`SeenEndpointSlice`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenEndpoint {
    /// Its addresses; any of them will do.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// See [`SeenEndpointSlice`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenEndpointPort {
    /// Its number.
    pub port: Option<i32>,
}

/// A range of addresses of Services.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = net::ServiceCIDR, crates(kube_core = "::kube_core"))]
pub struct SeenServiceRange {
    /// Its name.
    #[serde(deserialize_with = "slim")]
    pub metadata: ObjectMeta,
    /// The range.
    #[serde(default)]
    pub spec: SeenServiceRangeSpec,
}

/// See [`SeenServiceRange`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenServiceRangeSpec {
    /// One of each family.
    #[serde(default)]
    pub cidrs: Vec<String>,
}
