//! The closed network of a large cluster: 1,000 workloads in 100 namespaces, each calling ten others.
//!
//! One pass reads what people declared, compiles it, asks the second opinion and plans the writes. How long that takes
//! on one core is printed and never asserted; what is written is asserted, in a store that takes writes as the server
//! would. `cargo xtask bench` reads the line that is printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the impossible should stop at once, with the line"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    time::Instant,
};

use countersign_core::{
    api::{AccessGrant, AccessRequest, Segment},
    network::{
        applied::Standing,
        decide::{Decision, Objects, Rejections, Touched, decide},
        model::{Namespace, Protocol, WorkloadKey, WorkloadKind},
        plan::Write,
        render::Object,
        snapshot::{ContainerPort, Pod, PodFacts, Snapshot, Workload},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::json;

const NAMESPACES: usize = 100;
const WORKLOADS: usize = 10;
/// Edges of each workload as a client.
const EDGES: usize = 10;
/// What the data plane is given to follow a step.
const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// Passes within which a change must have come to rest.
const PATIENCE: usize = 50;

#[test]
fn a_large_cluster_costs_what_changes() {
    let mut city = City::build();
    city.rest();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let started = Instant::now();
        let decision = city.pass();
        best = best.min(started.elapsed().as_secs_f64() * 1_000.0);
        assert_eq!(decision.compiled.edges.len(), NAMESPACES * WORKLOADS * EDGES);
        assert_eq!(decision.plan.writes, [], "a pass in which nothing changed writes nothing");
    }
    let mut most = 0;
    for edit in [City::open_a_port, City::take_an_edge_back, City::declare_an_edge] {
        edit(&mut city);
        let written = city.rest();
        assert!((1..=2).contains(&written.len()), "an edge has two ends: {written:?}");
        most = most.max(written.len());
    }
    println!("network: {best:.0} ms a pass, 0 writes when nothing changed, {most} objects an edge");
}

/// The cluster: what people wrote, what runs, and what was written of ours.
struct City {
    segments: Vec<Segment>,
    grants: Vec<AccessGrant>,
    requests: Vec<AccessRequest>,
    snapshot: Snapshot,
    stored: BTreeMap<(String, String), NetworkPolicy>,
    touched: Touched,
    now: Timestamp,
    version: u64,
}

fn namespace(number: usize) -> String {
    format!("team-{number:03}")
}

fn account(number: usize) -> String {
    format!("service-{number}")
}

impl City {
    fn build() -> Self {
        let now = Timestamp::UNIX_EPOCH.saturating_add(SignedDuration::from_hours(24)).unwrap();
        let mut city = Self {
            segments: vec![
                serde_json::from_value(json!({
                    "apiVersion": "countersign.dev/v1alpha1", "kind": "Segment",
                    "metadata": {"name": "all", "uid": "segment", "creationTimestamp": "1970-01-01T00:00:00Z"},
                    "spec": {
                        "namespaces": {"names": (0..NAMESPACES).map(namespace).collect::<Vec<_>>()},
                        "mode": "Enforce",
                        "exceptions": {"dns": "Never"},
                        "rollout": {"settle": "10s", "maxNamespacesAtOnce": NAMESPACES},
                    },
                }))
                .unwrap(),
            ],
            grants: Vec::new(),
            requests: Vec::new(),
            snapshot: Snapshot::default(),
            stored: BTreeMap::new(),
            touched: Touched { at: BTreeMap::new(), since: Timestamp::UNIX_EPOCH },
            now,
            version: 0,
        };
        for there in 0..NAMESPACES {
            for number in 0..WORKLOADS {
                city.run(&namespace(there), &account(number));
                city.declare(there, number);
            }
        }
        city
    }

    /// A workload with two pods that listen on `http` and `metrics`.
    fn run(&mut self, there: &str, account: &str) {
        let place = Namespace::parse(there).unwrap();
        let key = WorkloadKey { namespace: place.clone(), kind: WorkloadKind::Deployment, name: account.to_owned() };
        let port = |name: &str, number: u16| ContainerPort {
            name: name.to_owned(),
            number: NonZeroU16::try_from(number).unwrap(),
            protocol: Protocol::Tcp,
        };
        let labels = BTreeMap::from([("app".to_owned(), account.to_owned())]);
        let facts = PodFacts {
            labels: labels.clone(),
            account: account.to_owned(),
            ports: BTreeSet::from([port("http", 8_080), port("metrics", 9_090)]),
            ..PodFacts::default()
        };
        for replica in 0..2 {
            let pod = Pod { uid: format!("{there}-{account}-{replica}"), facts: facts.clone(), owner: key.clone() };
            self.snapshot.pods.insert((place.clone(), format!("{account}-{replica}")), pod);
        }
        let uid = format!("{there}-{account}");
        self.snapshot.workloads.insert(key, Workload { uid, selector: labels, template: facts });
        self.snapshot.namespaces.entry(place.clone()).or_default();
        self.snapshot.accounts.entry(place).or_default().insert(account.to_owned());
    }

    /// Both halves of the edges of one client: to services of its own namespace and of the next ones.
    fn declare(&mut self, there: usize, number: usize) {
        let servers = (1..=EDGES).map(|step| ((there + step / 2) % NAMESPACES, (number + step) % WORKLOADS));
        let mut to = Vec::new();
        for (at, server) in servers {
            let server = if at == there && server == number { (server + 1) % WORKLOADS } else { server };
            to.push(json!({
                "namespace": namespace(at), "serviceAccountName": account(server), "ports": [{"port": "http"}],
            }));
            self.grants.push(serde_json::from_value(json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessGrant",
                "metadata": {
                    "name": format!("{}-{}-{server}", namespace(there), account(number)), "namespace": namespace(at),
                    "uid": format!("grant-{}", self.grants.len()),
                },
                "spec": {
                    "to": {"serviceAccountName": account(server)},
                    "from": [{"namespace": namespace(there), "serviceAccountName": account(number)}],
                    "ports": [{"port": "http"}],
                },
            })).unwrap());
        }
        self.requests.push(
            serde_json::from_value(json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessRequest",
                "metadata": {
                    "name": account(number), "namespace": namespace(there),
                    "uid": format!("request-{}", self.requests.len()),
                },
                "spec": {"from": {"serviceAccountName": account(number)}, "to": to},
            }))
            .unwrap(),
        );
    }

    /// One pass over everything.
    fn pass(&self) -> Decision {
        let objects = Objects {
            segments: self.segments.iter().collect(),
            grants: self.grants.iter().collect(),
            requests: self.requests.iter().collect(),
            externals: Vec::new(),
        };
        let standing = Standing::read(self.stored.values());
        let decision = decide(&objects, self.snapshot.clone(), standing, &self.touched, 1, self.now);
        assert_eq!(decision.rejections, Rejections::default());
        assert_eq!(decision.disagreement, None);
        decision
    }

    /// Passes until nothing is left to do; the objects that were written.
    fn rest(&mut self) -> BTreeSet<(String, String)> {
        let mut written = BTreeSet::new();
        for _ in 0..PATIENCE {
            let plan = self.pass().plan;
            if plan.writes.is_empty() && plan.wake.is_none() {
                return written;
            }
            for write in plan.writes {
                written.insert(self.write(write));
            }
            self.now = self.now.saturating_add(SETTLE).unwrap();
        }
        panic!("it does not come to rest")
    }

    fn write(&mut self, write: Write) -> (String, String) {
        let key = (write.namespace().to_owned(), write.name().to_owned());
        let place = Namespace::parse(&key.0).unwrap();
        self.version += 1;
        match write {
            Write::Apply { object: Object::NetworkPolicy(mut object), .. } => {
                object.metadata.resource_version = Some(self.version.to_string());
                object.metadata.uid = Some(format!("{}/{}", key.0, key.1));
                self.stored.insert(key.clone(), *object);
            }
            Write::Delete { .. } => drop(self.stored.remove(&key)),
        }
        self.touched.at.insert(place, self.now);
        key
    }

    /// One edge more ports, on both sides.
    fn open_a_port(&mut self) {
        let ports = |name: &str| serde_json::from_value(json!([{"port": "http"}, {"port": name}])).unwrap();
        let grant = self.grants.first_mut().unwrap();
        grant.spec.ports = ports("metrics");
        let request = self.requests.first_mut().unwrap();
        request.spec.to.first_mut().unwrap().ports = Some(ports("metrics"));
    }

    fn take_an_edge_back(&mut self) {
        self.requests.first_mut().unwrap().spec.to.pop().unwrap();
        self.grants.remove(EDGES - 1);
    }

    /// An edge between two that had none.
    fn declare_an_edge(&mut self) {
        let (there, far) = (namespace(0), namespace(NAMESPACES / 2));
        self.grants.push(
            serde_json::from_value(json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessGrant",
                "metadata": {"name": "new", "namespace": far, "uid": "grant-new"},
                "spec": {
                    "to": {"serviceAccountName": account(0)},
                    "from": [{"namespace": there, "serviceAccountName": account(0)}],
                    "ports": [{"port": "http"}],
                },
            }))
            .unwrap(),
        );
        self.requests.push(
            serde_json::from_value(json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessRequest",
                "metadata": {"name": "new", "namespace": there, "uid": "request-new"},
                "spec": {
                    "from": {"serviceAccountName": account(0)},
                    "to": [{"namespace": far, "serviceAccountName": account(0), "ports": [{"port": "http"}]}],
                },
            }))
            .unwrap(),
        );
    }
}
