//! Truth tables: three namespaces of three pods, all pairs, two ports, two protocols; see `cases/`.
//!
//! A line of a table says `allow`, `block` or `unclear`, then `from -> to`, then maybe a port, a protocol or both
//! (`80`, `UDP`, `80/UDP`). Of several lines about one question the last counts; without any, it is allowed.

use std::{collections::BTreeMap, net::IpAddr};

use countersign_core::network::evaluate::{End, Evaluator, PodId, PodView, Protocol, Question, Scene};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

const FILES: &[(&str, &str)] = &[
    ("isolation", include_str!("cases/isolation.yaml")),
    ("peers", include_str!("cases/peers.yaml")),
    ("ports", include_str!("cases/ports.yaml")),
    ("blocks", include_str!("cases/blocks.yaml")),
    ("malformed", include_str!("cases/malformed.yaml")),
];
const SCENE: &str = include_str!("cases/scene.yaml");

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Pods that are other than in the scene.
    #[serde(default)]
    pods: BTreeMap<String, Value>,
    /// Ends beside the pods.
    #[serde(default)]
    addresses: Vec<String>,
    /// One key each, `namespace/name`, and the spec.
    policies: Vec<BTreeMap<String, Value>>,
    table: Vec<String>,
}

#[test]
fn the_tables_hold() {
    let mut wrong = Vec::new();
    let mut names = Vec::new();
    for (file, text) in FILES {
        let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for case in cases {
            wrong.extend(case.check().into_iter().map(|line| format!("{file}, {}: {line}", case.name)));
            names.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "{} wrong, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    let cases = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases, "two cases have one name");
    assert!(cases >= 60, "only {cases} cases");
}

impl Case {
    fn check(&self) -> Vec<String> {
        let scene = self.scene();
        let evaluator = Evaluator::new(&scene);
        let lines: Vec<Line> = self.table.iter().map(|line| Line::parse(line)).collect();
        let mut met = vec![false; lines.len()];
        let mut wrong = Vec::new();
        let ends: Vec<String> =
            scene.pods.keys().map(ToString::to_string).chain(self.addresses.iter().cloned()).collect();
        for from in &ends {
            for to in &ends {
                for (port, protocol) in [(80, "TCP"), (80, "UDP"), (81, "TCP"), (81, "UDP")] {
                    let mut expected = "allow";
                    for (line, met) in lines.iter().zip(&mut met) {
                        // Nothing can part a pod from itself, so that no table needs to say so.
                        let by_name = line.from == *from && line.to == *to;
                        if line.is_about(from, to, port, protocol) && (from != to || by_name) {
                            expected = &line.outcome;
                            *met = true;
                        }
                    }
                    let question = Question { from: end(from), to: end(to), protocol: parse_protocol(protocol), port };
                    let found = match evaluator.ask(&question) {
                        Ok(verdict) if verdict.passes() => "allow",
                        Ok(_) => "block",
                        Err(_) => "unclear",
                    };
                    if found != expected {
                        wrong.push(format!("{from} -> {to} {port}/{protocol} is {found}, not {expected}"));
                    }
                }
            }
        }
        let unmet = lines.iter().zip(met).filter(|(_, met)| !met);
        wrong.extend(unmet.map(|(line, _)| format!("a line is about nothing: {line:?}")));
        wrong
    }

    fn scene(&self) -> Scene {
        let mut scene = base();
        for (name, view) in &self.pods {
            scene.pods.insert(pod_id(name), pod_view(view));
        }
        for (name, spec) in self.policies.iter().flatten() {
            let (namespace, name) = name.split_once('/').unwrap();
            scene.policies.push(policy(namespace, name, spec));
        }
        scene
    }
}

#[derive(Debug)]
struct Line {
    outcome: String,
    from: String,
    to: String,
    port: Option<u16>,
    protocol: Option<String>,
}

impl Line {
    fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (outcome, from, to, what) = match words[..] {
            [outcome, from, "->", to] => (outcome, from, to, ""),
            [outcome, from, "->", to, what] => (outcome, from, to, what),
            _ => panic!("no line of a table: {text}"),
        };
        assert!(["allow", "block", "unclear"].contains(&outcome), "{text}");
        let given = what.split('/').filter(|part| !part.is_empty());
        let (ports, protocols): (Vec<&str>, Vec<&str>) = given.partition(|part| part.parse::<u16>().is_ok());
        Self {
            outcome: outcome.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            port: ports.first().map(|port| port.parse().unwrap()),
            protocol: protocols.first().map(ToString::to_string),
        }
    }

    fn is_about(&self, from: &str, to: &str, port: u16, protocol: &str) -> bool {
        covers(&self.from, from)
            && covers(&self.to, to)
            && self.port.is_none_or(|own| own == port)
            && self.protocol.as_ref().is_none_or(|own| own == protocol)
    }
}

/// `*` is every end, `x/*` every pod of a namespace, `*/a` the pods of one name.
fn covers(pattern: &str, end: &str) -> bool {
    match (pattern.split_once('/'), end.split_once('/')) {
        (None, _) => pattern == "*" || pattern == end,
        (Some((namespace, name)), Some(end)) => {
            [(namespace, end.0), (name, end.1)].iter().all(|(p, e)| *p == "*" || p == e)
        }
        (Some(_), None) => false,
    }
}

/// The scene that every case begins with.
pub fn base() -> Scene {
    let scene: Value = serde_saphyr::from_str(SCENE).unwrap();
    let pods = scene["pods"].as_object().unwrap();
    Scene {
        namespaces: serde_json::from_value(scene["namespaces"].clone()).unwrap(),
        pods: pods.iter().map(|(name, view)| (pod_id(name), pod_view(view))).collect(),
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
