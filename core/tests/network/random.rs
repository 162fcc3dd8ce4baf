//! Random scenes, as JSON: small worlds of few labels and addresses, so that things meet; now and then something odd.

use countersign_core::network::evaluate::{PodId, Scene};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use crate::table::pod_view;

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const ADDRESSES: [&str; 8] =
    ["10.0.0.1", "10.0.0.2", "10.0.0.130", "10.0.1.1", "192.0.2.1", "2001:db8::1", "2001:db8::8001", "2001:db9::1"];

/// A scene in the form that the naive evaluator reads.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub namespaces: Value,
    pub pods: Vec<Value>,
    pub policies: Vec<Value>,
}

impl Drawn {
    pub fn scene(&self) -> Scene {
        let id = |pod: &Value| PodId {
            namespace: pod["namespace"].as_str().unwrap().to_owned(),
            name: pod["name"].as_str().unwrap().to_owned(),
        };
        Scene {
            namespaces: serde_json::from_value(self.namespaces.clone()).unwrap(),
            pods: self.pods.iter().map(|pod| (id(pod), pod_view(pod))).collect(),
            policies: self
                .policies
                .iter()
                .map(|policy| {
                    serde_json::from_value(policy.clone()).unwrap_or_else(|error| panic!("{policy}: {error}"))
                })
                .collect(),
        }
    }
}

/// Scenes of up to so many policies, each of them odd with the given probability.
pub fn scenes(most: usize, odd: f64) -> impl Strategy<Value = Drawn> {
    let pods = NAMESPACES.map(|namespace| ["a", "b", "c"].map(|name| pod(namespace, name)));
    let policies = vec(maybe_odd(odd), 0..=most);
    (vec(labels(), 3), pods, policies).prop_map(|(labels, pods, policies)| {
        let namespaces: Map<String, Value> = NAMESPACES.map(ToOwned::to_owned).into_iter().zip(labels).collect();
        let named = policies.into_iter().enumerate().map(|(index, mut policy)| {
            if policy["metadata"]["name"].is_null() {
                policy["metadata"]["name"] = json!(format!("p{index}"));
            }
            policy
        });
        Drawn { namespaces: namespaces.into(), pods: pods.into_iter().flatten().collect(), policies: named.collect() }
    })
}

/// Pods, pods that do not exist, and addresses.
pub fn ends() -> impl Strategy<Value = Value> {
    let pod = (select(&NAMESPACES), select(vec!["a", "b", "c"]));
    let pod = pod.prop_map(|(namespace, name)| json!({"namespace": namespace, "name": name}));
    prop_oneof![
        12 => pod,
        3 => select(&ADDRESSES).prop_map(|address| json!(address)),
        1 => Just(json!({"namespace": "x", "name": "none"})),
    ]
}

/// A policy that a server would store.
pub fn policy() -> impl Strategy<Value = Value> {
    let types = select(vec![
        json!(null),
        json!([]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
        json!(["Egress", "Egress"]),
    ]);
    let spec = (option::of(selector()), types, option::of(vec(rule("from"), 0..3)), option::of(vec(rule("to"), 0..3)));
    let spec = spec.prop_map(|(subject, types, ingress, egress)| {
        object([
            ("podSelector", json!(subject)),
            ("policyTypes", types),
            ("ingress", json!(ingress)),
            ("egress", json!(egress)),
        ])
    });
    (select(&NAMESPACES), spec).prop_map(|(namespace, spec)| {
        let metadata = json!({"namespace": namespace});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    })
}

fn maybe_odd(odd: f64) -> impl Strategy<Value = Value> {
    (policy(), proptest::bool::weighted(odd), oddity()).prop_map(|(mut policy, odd, (field, value))| {
        if odd {
            match field {
                "metadata" => policy["metadata"] = value,
                "spec" if value.is_null() => drop(policy.as_object_mut().unwrap().remove("spec")),
                field => policy["spec"][field] = value,
            }
        }
        policy
    })
}

fn oddity() -> impl Strategy<Value = (&'static str, Value)> {
    let peer = |peer: Value| ("ingress", json!([{"from": [peer]}]));
    let port = |port: Value| ("egress", json!([{"ports": [{"port": 80}, port]}]));
    let subject = |selector: Value| ("podSelector", selector);
    let expression = |expression: Value| subject(json!({"matchExpressions": [expression]}));
    select(vec![
        ("spec", json!(null)),
        ("metadata", json!({})),
        ("metadata", json!({"namespace": "w"})),
        ("metadata", json!({"namespace": "x", "name": "p0"})),
        ("policyTypes", json!(["ingress"])),
        ("policyTypes", json!(["Ingress", "Egress", "Egress"])),
        peer(json!({})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/24"}, "podSelector": {}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/24"}, "namespaceSelector": {}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/+8"}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/08"}})),
        peer(json!({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.1.0/25"]}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.0/24"]}})),
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["2001:db8::/64"]}})),
        port(json!({"protocol": "tcp"})),
        port(json!({"protocol": "ICMP"})),
        port(json!({"port": 0})),
        port(json!({"port": 65536})),
        port(json!({"port": -1})),
        port(json!({"port": "80"})),
        port(json!({"port": "a--b"})),
        port(json!({"port": "-web"})),
        port(json!({"port": "sixteen-letters-"})),
        port(json!({"port": "sixteen-letterss"})),
        port(json!({"endPort": 81})),
        port(json!({"port": "web", "endPort": 81})),
        port(json!({"port": 81, "endPort": 80})),
        port(json!({"port": 80, "endPort": 65536})),
        expression(json!({"key": "a", "operator": "Equals", "values": ["1"]})),
        expression(json!({"key": "a", "operator": "In"})),
        expression(json!({"key": "a", "operator": "NotIn", "values": []})),
        expression(json!({"key": "a", "operator": "Exists", "values": ["1"]})),
        expression(json!({"key": "", "operator": "Exists"})),
        expression(json!({"key": "a/b/c", "operator": "Exists"})),
        expression(json!({"key": "A/b", "operator": "Exists"})),
        expression(json!({"key": "k8s.io/b", "operator": "DoesNotExist"})),
        expression(json!({"key": "a", "operator": "NotIn", "values": ["-1"]})),
        subject(json!({"matchLabels": {"a": "no value"}})),
        subject(json!({"matchLabels": {"a.": "1"}})),
    ])
}

fn pod(namespace: &'static str, name: &'static str) -> impl Strategy<Value = Value> {
    let port = (select(vec!["web", "dns"]), select(vec!["TCP", "UDP"]), select(vec![80, 81]));
    let addresses = vec(select(&ADDRESSES), 0..=2);
    (labels(), addresses, proptest::bool::weighted(0.15), vec(port, 0..=3)).prop_map(
        move |(labels, addresses, host, ports)| {
            json!({"namespace": namespace, "name": name, "labels": labels, "addresses": addresses, "hostNetwork": host,
                "ports": ports})
        },
    )
}

fn labels() -> impl Strategy<Value = Value> {
    let value = || option::of(select(vec!["1", "2", ""]));
    (value(), value()).prop_map(|(a, b)| object([("a", json!(a)), ("b", json!(b))]))
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || select(vec!["a", "a", "b", "b", "kubernetes.io/metadata.name"]);
    let values = || vec(select(vec!["1", "2", "", "x", "y"]), 1..3);
    let expression =
        (key(), select(vec!["In", "NotIn", "Exists", "DoesNotExist"]), values()).prop_map(|(key, operator, values)| {
            let values = if operator.ends_with("In") { json!(values) } else { json!(null) };
            object([("key", json!(key)), ("operator", json!(operator)), ("values", values)])
        });
    prop_oneof![
        2 => Just(json!({})),
        3 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => vec(expression.clone(), 1..3).prop_map(|all| json!({"matchExpressions": all})),
        1 => (labels(), vec(expression, 0..2)).prop_map(|(labels, all)| json!({"matchLabels": labels, "matchExpressions": all})),
    ]
}

fn rule(peers: &'static str) -> impl Strategy<Value = Value> {
    (option::weighted(0.8, vec(peer(), 0..3)), option::weighted(0.6, vec(port(), 0..3)))
        .prop_map(move |(list, ports)| object([(peers, json!(list)), ("ports", json!(ports))]))
}

fn peer() -> impl Strategy<Value = Value> {
    let block = select(vec![
        json!({"cidr": "10.0.0.0/8"}),
        json!({"cidr": "10.0.0.0/24", "except": ["10.0.0.128/25"]}),
        json!({"cidr": "10.0.0.0/16", "except": ["10.0.0.0/25", "10.0.1.1/32"]}),
        json!({"cidr": "10.0.0.77/24", "except": []}),
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "192.0.2.1/32"}),
        json!({"cidr": "::/0"}),
        json!({"cidr": "2001:db8::/32", "except": ["2001:db8::8000/113"]}),
    ]);
    prop_oneof![
        2 => selector().prop_map(|pods| json!({"podSelector": pods})),
        2 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        2 => (selector(), selector()).prop_map(|(namespaces, pods)| json!({"namespaceSelector": namespaces, "podSelector": pods})),
        2 => block.prop_map(|block| json!({"ipBlock": block})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let which = select(vec![
        (json!(null), json!(null)),
        (json!(80), json!(null)),
        (json!(81), json!(null)),
        (json!(80), json!(81)),
        (json!(1), json!(80)),
        (json!(81), json!(65535)),
        (json!("web"), json!(null)),
        (json!("web"), json!(null)),
        (json!("dns"), json!(null)),
    ]);
    let protocol = select(vec![json!(null), json!("TCP"), json!("UDP"), json!("SCTP")]);
    (protocol, which)
        .prop_map(|(protocol, (port, end))| object([("protocol", protocol), ("port", port), ("endPort", end)]))
}

/// Without the fields that have no value.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(present.map(|(key, value)| (key.to_owned(), value)).collect())
}
