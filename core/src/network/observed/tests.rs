//! Objects as an API server serves them, and what is kept of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::network::{
    model::{Namespace, Protocol, WorkloadKind},
    snapshot::{DataPlane, Snapshot},
};

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn owned(kind: &str, version: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn pod(name: &str, owners: &Value) -> SeenPod {
    parse(json!({
        "metadata": {"name": name, "namespace": "pay", "uid": name, "labels": {"app": "api"}, "ownerReferences": owners,
            "annotations": {"secret": "canary"}},
        "spec": {"serviceAccountName": "api", "containers": [{
            "name": "main", "env": [{"name": "A", "value": "canary"}],
            "ports": [{"name": "http", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
            "livenessProbe": {"tcpSocket": {"port": 81}},
            "startupProbe": {"exec": {"command": ["true"]}},
        }]},
        "status": {"phase": "Running"},
    }))
}

fn decode(found: &Found<'_>) -> Snapshot {
    snapshot(found, &Resolvers::default())
}

#[test]
fn what_a_decision_does_not_read_is_not_kept() {
    let text = serde_json::to_string(&pod("api-1", &json!([]))).unwrap();
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_pod_belongs_to_the_topmost_owner_that_is_known() {
    let set: SeenReplicaSet = parse(json!({"metadata": {"name": "api-7f", "namespace": "pay", "uid": "rs",
        "ownerReferences": owned("Deployment", "apps/v1", "api", "d")}}));
    let job: SeenJob = parse(json!({"metadata": {"name": "night-1", "namespace": "pay", "uid": "job",
        "ownerReferences": owned("CronJob", "batch/v1", "night", "c")}}));
    let of = |owners: Value| {
        let pod = pod("p", &owners);
        let found = Found { pods: vec![&pod], replica_sets: vec![&set], jobs: vec![&job], ..Found::default() };
        let snapshot = decode(&found);
        let owner = snapshot.pods.values().next().unwrap().owner.clone();
        (owner.kind, owner.name)
    };
    assert_eq!(of(owned("ReplicaSet", "apps/v1", "api-7f", "rs")), (WorkloadKind::Deployment, "api".to_owned()));
    assert_eq!(of(owned("Job", "batch/v1", "night-1", "job")), (WorkloadKind::CronJob, "night".to_owned()));
    assert_eq!(of(owned("ReplicaSet", "apps/v1", "own", "?")), (WorkloadKind::ReplicaSet, "own".to_owned()));
    assert_eq!(of(owned("Rollout", "argoproj.io/v1", "r", "?")), (WorkloadKind::Opaque, "r".to_owned()));
    // A kind of another group that is called like one of ours is not ours.
    assert_eq!(of(owned("Deployment", "other.io/v1", "d", "?")), (WorkloadKind::Opaque, "d".to_owned()));
    assert_eq!(of(json!([])), (WorkloadKind::Pods, "api".to_owned()));
}

#[test]
fn ports_and_probes_are_numbers() {
    let pod = pod("p", &json!([]));
    let snapshot = decode(&Found { pods: vec![&pod], ..Found::default() });
    let facts = &snapshot.pods.values().next().unwrap().facts;
    let ports: Vec<_> = facts.ports.iter().map(|port| (port.name.as_str(), port.number.get(), port.protocol)).collect();
    assert_eq!(ports, [("dns", 53, Protocol::Udp), ("http", 80, Protocol::Tcp)]);
    assert_eq!(facts.probe_ports.iter().map(|port| port.get()).collect::<Vec<_>>(), [80, 81]);
    assert_eq!((facts.account.as_str(), facts.host_network), ("api", false));
}

#[test]
fn a_pod_that_has_ended_is_not_live_and_an_owned_set_is_no_workload() {
    let mut ended = pod("p", &json!([]));
    ended.status.phase = Some("Succeeded".to_owned());
    let template = json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": []}});
    let set = |owners: Value| -> SeenReplicaSet {
        parse(json!({"metadata": {"name": "api-7f", "namespace": "pay", "uid": "rs", "ownerReferences": owners},
            "spec": {"selector": {"matchLabels": {"app": "api"}}, "template": template}}))
    };
    let (free, bound) = (set(json!([])), set(owned("Deployment", "apps/v1", "api", "d")));
    let snapshot = |sets| decode(&Found { pods: vec![&ended], replica_sets: sets, ..Found::default() });
    assert!(snapshot(vec![]).pods.is_empty());
    assert!(snapshot(vec![&bound]).workloads.is_empty());
    let found = snapshot(vec![&free]);
    let (key, workload) = found.workloads.iter().next().unwrap();
    assert_eq!((key.kind, workload.template.account.as_str()), (WorkloadKind::ReplicaSet, "default"));
}

fn dns_service() -> SeenService {
    parse(json!({"metadata": {"name": "dns", "namespace": "infra"}, "spec": {"selector": {"app": "api"},
        "clusterIPs": ["10.96.0.10", "fd00::a"], "ports": [{"port": 53, "targetPort": "dns", "protocol": "UDP"},
        {"port": 53, "targetPort": 5353, "protocol": "TCP"}]}}))
}

#[test]
fn name_resolution_is_the_service_that_the_operator_asks_itself() {
    let usual: SeenService = parse(json!({"metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"selector": {"k8s-app": "kube-dns"}, "clusterIPs": ["10.96.0.2"], "ports": [{"port": 53}]}}));
    let mut server = pod("dns-1", &json!([]));
    server.metadata.namespace = Some("infra".to_owned());
    let asked = dns_service();
    let found = Found { services: vec![&usual, &asked], pods: vec![&server], ..Found::default() };
    let of = |servers: &[&str]| {
        let name_servers = servers.iter().map(|address| address.parse().unwrap()).collect();
        snapshot(&found, &Resolvers { name_servers, ..Resolvers::default() }).dns.unwrap()
    };
    let asks_it = of(&["10.96.0.10"]);
    let ports: Vec<_> = asks_it.ports.iter().map(|(protocol, port)| (*protocol, port.get())).collect();
    assert_eq!(ports, [(Protocol::Tcp, 5353), (Protocol::Udp, 53)]);
    assert_eq!((asks_it.namespace.as_str(), asks_it.addresses.len(), asks_it.node_local), ("infra", 2, false));
    assert_eq!(of(&["192.0.2.1"]).namespace.as_str(), "kube-system");
    assert_eq!(snapshot(&Found::default(), &Resolvers::default()).dns, None);
}

#[test]
fn the_api_server_is_where_its_slices_and_its_service_say() {
    let slice = |namespace: &str, service: &str| -> SeenEndpointSlice {
        parse(
            json!({"metadata": {"name": "s", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"port": 6443}]}),
        )
    };
    let service: SeenService = parse(json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 443, "targetPort": 6443}]}}));
    let (right, other, elsewhere) =
        (slice("default", "kubernetes"), slice("default", "web"), slice("shop", "kubernetes"));
    let found = Found { slices: vec![&right, &other, &elsewhere], services: vec![&service], ..Found::default() };
    let at = decode(&found).api_server;
    let shown = |set: &BTreeSet<(std::net::IpAddr, std::num::NonZeroU16)>| {
        set.iter().map(|(address, port)| format!("{address}:{port}")).collect::<Vec<_>>()
    };
    assert_eq!(
        (shown(&at.endpoints), shown(&at.service)),
        (vec!["192.0.2.7:6443".into()], vec!["10.96.0.1:443".into()])
    );
}

#[test]
fn ranges_of_the_cluster_and_its_data_plane_are_found() {
    let node: SeenNode = parse(json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "n"}]}}));
    let range: SeenServiceRange =
        parse(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}));
    let agent = |key: &str, value: &str| -> SeenDaemonSet {
        parse(json!({"metadata": {"name": "agent", "namespace": "kube-system"},
            "spec": {"template": {"metadata": {"labels": {key: value}}}}}))
    };
    let (calico, flannel) = (agent("k8s-app", "calico-node"), agent("app", "flannel"));
    let found = Found {
        nodes: vec![&node],
        service_ranges: vec![&range],
        daemon_sets: vec![&flannel, &calico],
        ..Found::default()
    };
    let snapshot = decode(&found);
    let ranges: Vec<_> = snapshot.cluster_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/12", "10.244.0.0/24", "192.0.2.7/32"]);
    assert_eq!((snapshot.data_plane, snapshot.nodes.len()), (DataPlane::Calico, 1));
    assert_eq!(decode(&Found { daemon_sets: vec![&flannel], ..Found::default() }).data_plane, DataPlane::Flannel);
}

#[test]
fn a_namespace_that_ends_is_known_to() {
    let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        parse(json!({"name": "shop", "deletionTimestamp": "2027-01-01T00:00:00Z"}));
    let snapshot = decode(&Found { namespaces: vec![&meta], ..Found::default() });
    assert!(snapshot.namespaces[&Namespace::parse("shop").unwrap()].terminating);
}
