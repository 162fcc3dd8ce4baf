//! What an answer names, and how long many answers take.

use std::collections::BTreeMap;

use countersign_core::network::evaluate::{
    Evaluator, PodView, PolicyName, Problem, Protocol, Question, RuleName, Scene, Side, Unclear, Verdict, evaluate,
};
use serde_json::{Value, json};

use crate::table::{base, end, pod_id, policy};

fn ask(policies: &[(&str, &str, Value)], from: &str, to: &str) -> Result<Verdict, Unclear> {
    let mut scene = base();
    scene.policies = policies.iter().map(|(namespace, name, spec)| policy(namespace, name, spec)).collect();
    evaluate(&scene, &question(from, to, 80))
}

fn question(from: &str, to: &str, port: u16) -> Question {
    Question { from: end(from), to: end(to), protocol: Protocol::Tcp, port }
}

fn name(namespace: &str, name: &str) -> PolicyName {
    PolicyName { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[test]
fn an_answer_names_every_rule_that_allows() {
    let grants = json!({"ingress": [{"from": [{"podSelector": {}}]}, {"ports": [{"port": 81}]}, {}]});
    let also = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"ports": [{"port": 80}]}]});
    let verdict = ask(&[("x", "q", grants), ("x", "p", also)], "y/a", "x/a").unwrap();
    let by = vec![RuleName { policy: name("x", "p"), rule: 0 }, RuleName { policy: name("x", "q"), rule: 2 }];
    assert_eq!(verdict, Verdict { egress: Side::NotIsolated, ingress: Side::Allowed { by } });
}

#[test]
fn an_answer_names_every_policy_that_isolates() {
    let closed = json!({"policyTypes": ["Ingress", "Egress"]});
    let other = json!({"podSelector": {"matchLabels": {"pod": "b"}}});
    let policies = [("x", "q", closed.clone()), ("x", "p", closed), ("x", "o", other)];
    let by = vec![name("x", "p"), name("x", "q")];
    let verdict = ask(&policies, "x/a", "y/a").unwrap();
    assert_eq!(verdict, Verdict { egress: Side::Blocked { by: by.clone() }, ingress: Side::NotIsolated });
    let verdict = ask(&policies, "y/a", "x/a").unwrap();
    assert_eq!(verdict, Verdict { egress: Side::NotIsolated, ingress: Side::Blocked { by } });
}

#[test]
fn a_closed_pod_is_not_isolated_from_itself() {
    let verdict = ask(&[("x", "p", json!({"policyTypes": ["Ingress", "Egress"]}))], "x/a", "10.0.1.1").unwrap();
    assert_eq!(verdict, Verdict { egress: Side::NotIsolated, ingress: Side::NotIsolated });
}

#[test]
fn what_nobody_saw_is_unclear() {
    assert_eq!(ask(&[], "x/none", "x/a"), Err(Unclear::NoSuchPod(pod_id("x/none"))));
    assert_eq!(ask(&[], "x/none", "x/none"), Err(Unclear::NoSuchPod(pod_id("x/none"))));
    assert_eq!(ask(&[], "x/a", "w/a"), Err(Unclear::NoSuchPod(pod_id("w/a"))));
    let mut scene = base();
    scene.pods.insert(pod_id("w/a"), PodView::default());
    assert_eq!(evaluate(&scene, &question("w/a", "x/a", 80)), Err(Unclear::NoSuchNamespace(pod_id("w/a"))));
    assert_eq!(evaluate(&scene, &question("x/b", "x/a", 0)), Err(Unclear::PortZero));
}

#[test]
fn a_malformed_policy_is_named_with_the_place() {
    let spec = json!({"egress": [{}, {"to": [{"podSelector": {}}, {}]}]});
    let unclear = ask(&[("x", "p", spec)], "y/a", "x/a").unwrap_err();
    let place = "egress[1].to[1]".to_owned();
    assert_eq!(unclear, Unclear::Malformed { policy: name("x", "p"), place, problem: Problem::EmptyPeer });
    assert!(unclear.to_string().starts_with("the policy x/p cannot be read: in egress[1].to[1], "));
}

#[test]
fn a_label_cannot_pose_as_the_name_of_a_namespace() {
    let mut scene = base();
    let labels = scene.namespaces.get_mut("y").unwrap();
    labels.insert("kubernetes.io/metadata.name".to_owned(), "z".to_owned());
    let only_z = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "z"}}});
    scene.policies = vec![policy("x", "p", &json!({"ingress": [{"from": [only_z]}]}))];
    assert!(!evaluate(&scene, &question("y/a", "x/a", 80)).unwrap().passes());
    assert!(evaluate(&scene, &question("z/a", "x/a", 80)).unwrap().passes());
}

/// A thousand workloads with ten edges each, all of one namespace: both halves of each edge, and a deny for all.
#[test]
fn ten_thousand_edges_are_judged_one_by_one() {
    const WORKLOADS: usize = 1_000;
    const EDGES: usize = 10;
    let mut scene = Scene { namespaces: BTreeMap::from([("x".to_owned(), BTreeMap::new())]), ..Scene::default() };
    let rule = |direction: &str, other: usize| {
        let app = format!("app-{}", other % WORKLOADS);
        json!({direction: [{"podSelector": {"matchLabels": {"app": app}}}], "ports": [{"port": 80}]})
    };
    for own in 0..WORKLOADS {
        let labels = [("app".to_owned(), format!("app-{own}")), ("part-of".to_owned(), "shop".to_owned())];
        scene.pods.insert(pod_id(&format!("x/app-{own}")), PodView { labels: labels.into(), ..PodView::default() });
        let to: Vec<Value> = (1..=EDGES).map(|step| rule("to", own + step)).collect();
        let from: Vec<Value> = (1..=EDGES).map(|step| rule("from", own + WORKLOADS - step)).collect();
        let subject = json!({"matchLabels": {"app": format!("app-{own}"), "part-of": "shop"}});
        let types = ["Ingress", "Egress"];
        let spec = json!({"podSelector": subject, "policyTypes": types, "ingress": from, "egress": to});
        scene.policies.push(policy("x", &format!("app-{own}"), &spec));
    }
    scene.policies.push(policy("x", "deny", &json!({"policyTypes": ["Ingress", "Egress"]})));

    let edge =
        |own: usize, step: usize| question(&format!("x/app-{own}"), &format!("x/app-{}", (own + step) % WORKLOADS), 80);
    let evaluator = Evaluator::new(&scene);
    for own in 0..WORKLOADS {
        for step in 1..=EDGES {
            assert!(evaluator.ask(&edge(own, step)).unwrap().passes());
        }
        assert!(!evaluator.ask(&edge(own, EDGES + 1)).unwrap().passes());
    }
}
