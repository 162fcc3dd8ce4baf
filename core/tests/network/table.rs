//! Every case of the truth tables, asked of the evaluator; and what is made of their texts.

use std::net::IpAddr;

use countersign_core::network::evaluate::{End, Evaluator, PodId, PodView, Protocol, Question, Scene};
use countersign_truth::{Case, Outcome, cases, questions};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

#[test]
fn the_tables_hold() {
    let cases = cases().unwrap_or_else(|error| panic!("{error}"));
    let wrong: Vec<String> = cases.iter().flat_map(wrong).collect();
    assert!(wrong.is_empty(), "{} wrong, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(cases.len() >= 60, "only {} cases", cases.len());
}

fn wrong(case: &Case) -> Vec<String> {
    let scene = scene(case);
    let evaluator = Evaluator::new(&scene);
    let ends: Vec<String> = scene.pods.keys().map(ToString::to_string).chain(case.addresses.iter().cloned()).collect();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for asked in questions(&ends) {
        let expected = case.table.outcome(&asked);
        let protocol = parse_protocol(asked.protocol);
        let found =
            match evaluator.ask(&Question { from: end(asked.from), to: end(asked.to), protocol, port: asked.port }) {
                Ok(verdict) if verdict.passes() => Outcome::Allow,
                Ok(_) => Outcome::Block,
                Err(_) => Outcome::Unclear,
            };
        if found != expected {
            wrong.push(format!("{}: {asked} is {found}, not {expected}", case.name));
        }
    }
    wrong
}

fn scene(case: &Case) -> Scene {
    let mut scene = base();
    for (name, view) in &case.pods {
        scene.pods.insert(pod_id(name), pod_view(view));
    }
    scene.policies.extend(case.policies().map(|(namespace, name, spec)| policy(namespace, name, spec)));
    scene
}

/// The scene that every case begins with.
pub fn base() -> Scene {
    let scene = countersign_truth::scene().unwrap();
    Scene {
        namespaces: scene.namespaces,
        pods: scene.pods.iter().map(|(name, view)| (pod_id(name), pod_view(view))).collect(),
        policies: Vec::new(),
    }
}

pub fn policy(namespace: &str, name: &str, spec: &Value) -> NetworkPolicy {
    let metadata =
        if namespace.is_empty() { json!({"name": name}) } else { json!({"namespace": namespace, "name": name}) };
    let kind =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec});
    serde_json::from_value(kind).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

pub fn pod_id(text: &str) -> PodId {
    let (namespace, name) = text.split_once('/').unwrap();
    PodId { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub fn end(text: &str) -> End {
    text.parse::<IpAddr>().map_or_else(|_| End::Pod(pod_id(text)), End::Address)
}

pub fn pod_view(view: &Value) -> PodView {
    let list = |field: &str| view[field].as_array().cloned().unwrap_or_default();
    PodView {
        labels: serde_json::from_value(view["labels"].clone()).unwrap_or_default(),
        addresses: list("addresses").iter().map(|address| address.as_str().unwrap().parse().unwrap()).collect(),
        host_network: view["hostNetwork"].as_bool().unwrap_or_default(),
        ports: list("ports")
            .iter()
            .map(|port| {
                let name = port[0].as_str().unwrap().to_owned();
                (name, parse_protocol(port[1].as_str().unwrap()), u16::try_from(port[2].as_u64().unwrap()).unwrap())
            })
            .collect(),
    }
}

pub fn parse_protocol(text: &str) -> Protocol {
    match text {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => panic!("no protocol: {text}"),
    }
}
