//! From watched objects to the facts of a [`Snapshot`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use super::{
    PortText, SeenContainer, SeenCronJob, SeenDaemonSet, SeenDeployment, SeenEndpointSlice, SeenJob, SeenNode, SeenPod,
    SeenPodSpec, SeenProbe, SeenReplicaSet, SeenService, SeenServicePort, SeenServiceRange, SeenStatefulSet,
    SeenWorkloadSpec,
};
use crate::{
    network::{
        model::{Namespace, Protocol, WorkloadKey, WorkloadKind},
        snapshot::{
            ApiServerAt, ContainerPort, DataPlane, Dns, Labels, NamespaceFacts, NodeBlocks, Pod, PodFacts, Snapshot,
            Workload,
        },
    },
    value::names::Cidr,
};

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Where the Service of the Kubernetes API is.
const API_NAMESPACE: &str = "default";
/// Its name.
const API_SERVICE: &str = "kubernetes";
/// Where name resolution is, unless the operator's own resolver is a Service.
const DNS: (&str, &str) = ("kube-system", "kube-dns");

/// Everything that was watched; borrowed from the caches, each of them complete.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// Namespaces.
    pub namespaces: Vec<&'a ObjectMeta>,
    /// ServiceAccounts.
    pub accounts: Vec<&'a ObjectMeta>,
    /// Pods.
    pub pods: Vec<&'a SeenPod>,
    /// Deployments.
    pub deployments: Vec<&'a SeenDeployment>,
    /// StatefulSets.
    pub stateful_sets: Vec<&'a SeenStatefulSet>,
    /// DaemonSets.
    pub daemon_sets: Vec<&'a SeenDaemonSet>,
    /// ReplicaSets.
    pub replica_sets: Vec<&'a SeenReplicaSet>,
    /// Jobs.
    pub jobs: Vec<&'a SeenJob>,
    /// CronJobs.
    pub cron_jobs: Vec<&'a SeenCronJob>,
    /// Services.
    pub services: Vec<&'a SeenService>,
    /// EndpointSlices of the namespace `default`.
    pub slices: Vec<&'a SeenEndpointSlice>,
    /// Nodes.
    pub nodes: Vec<&'a SeenNode>,
    /// Ranges of addresses of Services.
    pub service_ranges: Vec<&'a SeenServiceRange>,
}

/// What is known from outside the cluster's objects.
#[derive(Debug, Clone, Default)]
pub struct Resolvers {
    /// The name servers that the operator itself asks.
    pub name_servers: BTreeSet<IpAddr>,
    /// Whether node addresses match by `ipBlock`, as the chart says.
    pub node_blocks: NodeBlocks,
    /// The operator's own namespace.
    pub operator_namespace: Option<Namespace>,
}

/// Decodes everything.
pub fn snapshot(found: &Found<'_>, resolvers: &Resolvers) -> Snapshot {
    let owners = Owners::new(found);
    let pods: BTreeMap<_, _> = found.pods.iter().filter_map(|pod| live(pod, &owners)).collect();
    Snapshot {
        namespaces: found.namespaces.iter().filter_map(|meta| namespace_facts(meta)).collect(),
        accounts: accounts(&found.accounts),
        workloads: workloads(found),
        dns: dns(found, resolvers, &pods),
        api_server: api_server(found),
        nodes: found.nodes.iter().flat_map(|node| internal(node)).collect(),
        cluster_ranges: ranges(found),
        data_plane: data_plane(&found.daemon_sets),
        node_blocks: resolvers.node_blocks,
        operator_namespace: resolvers.operator_namespace.clone(),
        pods,
    }
}

fn namespace_facts(meta: &ObjectMeta) -> Option<(Namespace, NamespaceFacts)> {
    let name = Namespace::parse(meta.name.as_deref()?)?;
    let labels = meta.labels.clone().unwrap_or_default();
    Some((name, NamespaceFacts { labels, terminating: meta.deletion_timestamp.is_some() }))
}

fn accounts(metas: &[&ObjectMeta]) -> BTreeMap<Namespace, BTreeSet<String>> {
    let mut accounts: BTreeMap<Namespace, BTreeSet<String>> = BTreeMap::new();
    for meta in metas {
        if let (Some(namespace), Some(name)) = (namespace_of(meta), &meta.name) {
            accounts.entry(namespace).or_default().insert(name.clone());
        }
    }
    accounts
}

fn namespace_of(meta: &ObjectMeta) -> Option<Namespace> {
    Namespace::parse(meta.namespace.as_deref()?)
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// What owns the owners of pods, by UID: a ReplicaSet its Deployment, a Job its CronJob.
struct Owners<'a>(BTreeMap<&'a str, &'a OwnerReference>);

impl<'a> Owners<'a> {
    fn new(found: &Found<'a>) -> Self {
        let sets = found.replica_sets.iter().map(|set| &set.metadata);
        let jobs = found.jobs.iter().map(|job| &job.metadata);
        let owned = sets.chain(jobs).filter_map(|meta| Some((meta.uid.as_deref()?, controller(meta)?)));
        Self(owned.collect())
    }

    fn top(&self, namespace: Namespace, pod: &ObjectMeta, account: &str) -> WorkloadKey {
        let Some(owner) = controller(pod) else {
            return WorkloadKey { namespace, kind: WorkloadKind::Pods, name: account.to_owned() };
        };
        let top = self.0.get(owner.uid.as_str()).copied().unwrap_or(owner);
        let kind = match top.kind.as_str() {
            "Deployment" => WorkloadKind::Deployment,
            "StatefulSet" => WorkloadKind::StatefulSet,
            "DaemonSet" => WorkloadKind::DaemonSet,
            "ReplicaSet" => WorkloadKind::ReplicaSet,
            "Job" => WorkloadKind::Job,
            "CronJob" => WorkloadKind::CronJob,
            _ => WorkloadKind::Opaque,
        };
        let is_known = top.api_version.starts_with("apps/") || top.api_version.starts_with("batch/");
        let kind = if is_known { kind } else { WorkloadKind::Opaque };
        WorkloadKey { namespace, kind, name: top.name.clone() }
    }
}

fn live(pod: &SeenPod, owners: &Owners<'_>) -> Option<((Namespace, String), Pod)> {
    let ended = pod.status.phase.as_deref().is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    let (namespace, name) = (namespace_of(&pod.metadata)?, pod.metadata.name.clone()?);
    if ended {
        return None;
    }
    let facts = facts(&pod.metadata, &pod.spec);
    let owner = owners.top(namespace.clone(), &pod.metadata, &facts.account);
    Some(((namespace, name), Pod { uid: pod.metadata.uid.clone().unwrap_or_default(), facts, owner }))
}

fn facts(meta: &ObjectMeta, spec: &SeenPodSpec) -> PodFacts {
    let sidecars = spec.init_containers.iter().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let containers: Vec<&SeenContainer> = spec.containers.iter().chain(sidecars).collect();
    let named = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    PodFacts {
        labels: meta.labels.clone().unwrap_or_default(),
        account: named.unwrap_or("default").to_owned(),
        host_network: spec.host_network == Some(true),
        ports: containers.iter().flat_map(|one| container_ports(one)).collect(),
        probe_ports: containers.iter().flat_map(|one| probe_ports(one)).collect(),
    }
}

fn container_ports(container: &SeenContainer) -> Vec<ContainerPort> {
    let port = |port: &super::SeenContainerPort| {
        Some(ContainerPort {
            name: port.name.clone().unwrap_or_default(),
            number: number(port.container_port)?,
            protocol: protocol(port.protocol.as_deref())?,
        })
    };
    container.ports.iter().filter_map(port).collect()
}

fn probe_ports(container: &SeenContainer) -> Vec<NonZeroU16> {
    let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
    let asked = |probe: &SeenProbe| {
        let ports = [&probe.http_get, &probe.tcp_socket, &probe.grpc];
        ports.into_iter().flatten().filter_map(|port| named_or_number(&port.port, container)).collect::<Vec<_>>()
    };
    probes.into_iter().flatten().flat_map(asked).collect()
}

/// A probe asks a port of its own container.
fn named_or_number(port: &PortText, container: &SeenContainer) -> Option<NonZeroU16> {
    match port {
        PortText::Number(one) => number(*one),
        PortText::Name(name) => {
            container_ports(container).into_iter().find(|port| port.name == *name).map(|port| port.number)
        }
    }
}

fn number(port: i32) -> Option<NonZeroU16> {
    u16::try_from(port).ok().and_then(NonZeroU16::new)
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn workloads(found: &Found<'_>) -> BTreeMap<WorkloadKey, Workload> {
    use WorkloadKind::{CronJob, DaemonSet, Deployment, Job, ReplicaSet, StatefulSet};
    let deployments = found.deployments.iter().filter_map(|one| workload(Deployment, &one.metadata, &one.spec));
    let stateful = found.stateful_sets.iter().filter_map(|one| workload(StatefulSet, &one.metadata, &one.spec));
    let daemons = found.daemon_sets.iter().filter_map(|one| workload(DaemonSet, &one.metadata, &one.spec));
    let free_sets = found.replica_sets.iter().filter(|one| controller(&one.metadata).is_none());
    let sets = free_sets.filter_map(|one| workload(ReplicaSet, &one.metadata, &one.spec));
    let free_jobs = found.jobs.iter().filter(|one| controller(&one.metadata).is_none());
    let jobs = free_jobs.filter_map(|one| workload(Job, &one.metadata, &one.spec));
    let crons = found.cron_jobs.iter().filter_map(|one| workload(CronJob, &one.metadata, &one.spec.job_template.spec));
    deployments.chain(stateful).chain(daemons).chain(sets).chain(jobs).chain(crons).collect()
}

fn workload(kind: WorkloadKind, meta: &ObjectMeta, spec: &SeenWorkloadSpec) -> Option<(WorkloadKey, Workload)> {
    let key = WorkloadKey { namespace: namespace_of(meta)?, kind, name: meta.name.clone()? };
    let template = facts(&spec.template.metadata, &spec.template.spec);
    let selector = spec.selector.as_ref().map(plain).unwrap_or_default();
    Some((key, Workload { uid: meta.uid.clone().unwrap_or_default(), selector, template }))
}

/// The labels of a selector; none where it also has expressions, which labels cannot say.
fn plain(selector: &LabelSelector) -> Labels {
    let has_expressions = selector.match_expressions.as_ref().is_some_and(|all| !all.is_empty());
    if has_expressions { Labels::new() } else { selector.match_labels.clone().unwrap_or_default() }
}

fn addresses(service: &SeenService) -> BTreeSet<IpAddr> {
    service.spec.cluster_ips.iter().filter_map(|address| address.parse().ok()).collect()
}

/// The Service whose address the operator's own resolver has, else the usual one.
fn dns(found: &Found<'_>, resolvers: &Resolvers, pods: &BTreeMap<(Namespace, String), Pod>) -> Option<Dns> {
    let asked = |service: &&&SeenService| !addresses(service).is_disjoint(&resolvers.name_servers);
    let usual = |service: &&&SeenService| {
        service.metadata.namespace.as_deref() == Some(DNS.0) && service.metadata.name.as_deref() == Some(DNS.1)
    };
    let service = found.services.iter().find(asked).or_else(|| found.services.iter().find(usual))?;
    let namespace = namespace_of(&service.metadata)?;
    let selected: Vec<&Pod> = pods
        .iter()
        .filter(|((there, _), pod)| *there == namespace && selects(&service.spec.selector, &pod.facts.labels))
        .map(|(_, pod)| pod)
        .collect();
    let ports = service.spec.ports.iter().flat_map(|port| target_ports(port, &selected)).collect();
    // A cache on the node answers at an address of its own, which then is what pods ask; it runs beside the Service.
    let cache = |one: &&SeenDaemonSet| {
        one.metadata.labels.as_ref().is_some_and(is_node_local)
            || one.spec.template.metadata.labels.as_ref().is_some_and(is_node_local)
    };
    let node_local = found.daemon_sets.iter().any(cache);
    Some(Dns { namespace, selector: service.spec.selector.clone(), ports, addresses: addresses(service), node_local })
}

fn is_node_local(labels: &Labels) -> bool {
    labels.get("k8s-app").is_some_and(|app| app == "node-local-dns")
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn target_ports(port: &SeenServicePort, pods: &[&Pod]) -> Vec<(Protocol, NonZeroU16)> {
    let Some(protocol) = protocol(port.protocol.as_deref()) else { return Vec::new() };
    match &port.target_port {
        Some(PortText::Name(name)) => {
            let ports = pods.iter().flat_map(|pod| &pod.facts.ports);
            let named = ports.filter(|one| one.name == *name && one.protocol == protocol);
            named.map(|one| (protocol, one.number)).collect()
        }
        Some(PortText::Number(one)) if *one != 0 => number(*one).map(|one| (protocol, one)).into_iter().collect(),
        _ => number(port.port).map(|one| (protocol, one)).into_iter().collect(),
    }
}

fn api_server(found: &Found<'_>) -> ApiServerAt {
    let is_ours = |meta: &ObjectMeta| meta.namespace.as_deref() == Some(API_NAMESPACE);
    let named = |slice: &&&SeenEndpointSlice| {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        is_ours(&slice.metadata) && service.is_some_and(|service| service == API_SERVICE)
    };
    let endpoints = found.slices.iter().filter(named).flat_map(|slice| {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
        let ports: Vec<NonZeroU16> = slice.ports.iter().filter_map(|port| number(port.port?)).collect();
        addresses.flat_map(move |address| ports.clone().into_iter().map(move |port| (address, port)))
    });
    let service = found
        .services
        .iter()
        .find(|service| is_ours(&service.metadata) && service.metadata.name.as_deref() == Some(API_SERVICE));
    let service = service.into_iter().flat_map(|service| {
        let ports: Vec<NonZeroU16> = service.spec.ports.iter().filter_map(|port| number(port.port)).collect();
        addresses(service)
            .into_iter()
            .flat_map(move |address| ports.clone().into_iter().map(move |port| (address, port)))
    });
    ApiServerAt { endpoints: endpoints.collect(), service: service.collect() }
}

fn internal(node: &SeenNode) -> Vec<IpAddr> {
    let addresses = node.status.addresses.iter().filter(|address| address.type_ == "InternalIP");
    addresses.filter_map(|address| address.address.parse().ok()).collect()
}

/// The ranges of pods and Services, and the addresses of nodes.
fn ranges(found: &Found<'_>) -> BTreeSet<Cidr> {
    let pods = found.nodes.iter().flat_map(|node| &node.spec.pod_cidrs);
    let services = found.service_ranges.iter().flat_map(|range| &range.spec.cidrs);
    let nodes = found.nodes.iter().flat_map(|node| internal(node));
    let one = |address: IpAddr| Cidr { address, prefix: if address.is_ipv4() { 32 } else { 128 } };
    pods.chain(services).filter_map(|text| text.parse().ok()).chain(nodes.map(one)).collect()
}

/// The agents of data planes, by a label of their DaemonSets.
const AGENTS: [(&str, &str, DataPlane); 7] = [
    ("k8s-app", "cilium", DataPlane::Cilium),
    ("k8s-app", "calico-node", DataPlane::Calico),
    ("k8s-app", "kube-router", DataPlane::KubeRouter),
    ("app", "ovnkube-node", DataPlane::OvnKubernetes),
    ("app", "antrea", DataPlane::Antrea),
    ("k8s-app", "aws-node", DataPlane::Aws),
    ("app", "flannel", DataPlane::Flannel),
];

/// The data plane whose agent runs. flannel beside another enforces nothing itself, so it comes last.
fn data_plane(daemon_sets: &[&SeenDaemonSet]) -> DataPlane {
    let runs = |(key, value, _): &&(&str, &str, DataPlane)| {
        daemon_sets.iter().any(|one| {
            let labels = one.spec.template.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(*key)).is_some_and(|found| found == value)
        })
    };
    AGENTS.iter().find(runs).map_or(DataPlane::Unknown, |(_, _, plane)| *plane)
}
