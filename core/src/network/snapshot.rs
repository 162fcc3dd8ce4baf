//! What was observed of the cluster, decoded into slim facts.
//!
//! Environment, volumes and bodies of Secrets are never decoded. Everything is complete or absent: a list that could
//! not be read whole makes no snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
};

use super::model::{Namespace, Protocol, WorkloadKey};
use crate::value::names::Cidr;

/// Labels.
pub type Labels = BTreeMap<String, String>;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: Labels,
    /// Whether it is being deleted; it is then left alone.
    pub terminating: bool,
}

/// A port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// Its name; empty if it has none.
    pub name: String,
    /// Its number.
    pub number: NonZeroU16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// What a pod or a pod template says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Its labels.
    pub labels: Labels,
    /// `spec.serviceAccountName`; `default` where it names none.
    pub account: String,
    /// Whether it runs in the network of its node; no policy matches it then.
    pub host_network: bool,
    /// The ports its containers declare.
    pub ports: BTreeSet<ContainerPort>,
    /// The ports its probes ask, resolved to numbers (TCP).
    pub probe_ports: BTreeSet<NonZeroU16>,
}

/// A live pod: neither succeeded nor failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// What it says.
    pub facts: PodFacts,
    /// Its topmost owner; for a pod without one, the group of its ServiceAccount.
    pub owner: WorkloadKey,
}

/// A workload with a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its UID.
    pub uid: String,
    /// `spec.selector.matchLabels`; empty where it has none or uses expressions.
    pub selector: Labels,
    /// Its template.
    pub template: PodFacts,
}

/// The cluster's name resolution, found through the operator's own resolver address, else `kube-system/kube-dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The namespace of its Service.
    pub namespace: Namespace,
    /// The selector of its Service; never empty.
    pub selector: Labels,
    /// The ports its pods listen on, by protocol: the resolved target ports.
    pub ports: BTreeSet<(Protocol, NonZeroU16)>,
    /// Its cluster addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether a cache runs on the nodes, which answers at 169.254.20.10.
    pub node_local: bool,
}

/// Where the Kubernetes API is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiServerAt {
    /// The addresses and ports of the EndpointSlices of `default/kubernetes`.
    pub endpoints: BTreeSet<(IpAddr, NonZeroU16)>,
    /// The cluster addresses and ports of that Service.
    pub service: BTreeSet<(IpAddr, NonZeroU16)>,
}

/// Whether the data plane matches the addresses of nodes by `ipBlock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeBlocks {
    /// As is known of the data plane.
    #[default]
    Auto,
    /// It does, says the platform.
    Yes,
    /// It does not, says the platform.
    No,
}

/// What enforces the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DataPlane {
    /// Cilium: never matches pods by `ipBlock`, and nodes only if told.
    Cilium,
    /// Calico.
    Calico,
    /// kube-router.
    KubeRouter,
    /// OVN-Kubernetes.
    OvnKubernetes,
    /// Antrea.
    Antrea,
    /// The AWS network policy agent.
    Aws,
    /// flannel alone: enforces nothing.
    Flannel,
    /// Nothing that is known.
    #[default]
    Unknown,
}

/// Everything that was observed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The namespaces.
    pub namespaces: BTreeMap<Namespace, NamespaceFacts>,
    /// The ServiceAccounts of each.
    pub accounts: BTreeMap<Namespace, BTreeSet<String>>,
    /// The live pods, by namespace and name.
    pub pods: BTreeMap<(Namespace, String), Pod>,
    /// The workloads.
    pub workloads: BTreeMap<WorkloadKey, Workload>,
    /// Name resolution, if it was found.
    pub dns: Option<Dns>,
    /// Where the Kubernetes API is.
    pub api_server: ApiServerAt,
    /// The internal addresses of the nodes.
    pub nodes: BTreeSet<IpAddr>,
    /// The known ranges of pods, Services and nodes.
    pub cluster_ranges: BTreeSet<Cidr>,
    /// What enforces the policies.
    pub data_plane: DataPlane,
    /// Whether node addresses match by `ipBlock`.
    pub node_blocks: NodeBlocks,
    /// The operator's own namespace.
    pub operator_namespace: Option<Namespace>,
}
