//! Hand-made histories of policies: one that is right, and for each judgement one that is wrong in that alone.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::check;
use crate::crash::{
    call::{Closed, Scope},
    history::{Change, History, Marks, Subject, Version},
    plan::{Job, Workload},
};

const DENY: &str = "countersign-deny";
const ALLOW: &str = "countersign-deploy";

fn subject() -> Subject {
    let closed = Closed { peer: "pay".into(), segment: "seg".into() };
    Subject {
        scope: Scope { namespace: "shop".into(), domain: "d".into(), connection: None, closed: Some(closed) },
        job: Job::Segment,
        identity: "seg".into(),
        settle: Duration::from_millis(500),
        ..Subject::default()
    }
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {"countersign.dev/owner-uid": "u"}}, "spec": spec})
}

/// The complete set of a side, with these ports.
fn allow(namespace: &str, ports: &[u16]) -> Value {
    let peer = |namespace: &str, app: &str| {
        json!([{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "podSelector": {"matchLabels": {"app": app}},
        }])
    };
    let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect();
    let spec = if namespace == "pay" {
        json!({"podSelector": {"matchLabels": {"app": "payment"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": peer("shop", "order"), "ports": ports}]})
    } else {
        json!({"podSelector": {"matchLabels": {"app": "order"}}, "policyTypes": ["Egress"],
            "egress": [{"to": peer("pay", "payment"), "ports": ports}]})
    };
    policy(namespace, ALLOW, &spec)
}

fn deny(namespace: &str, types: &[&str]) -> Value {
    policy(namespace, DENY, &json!({"podSelector": {}, "policyTypes": types}))
}

fn seen(at: u64, change: Change, kind: &str, object: Value) -> Version {
    Version { at: Duration::from_millis(at), change, kind: kind.into(), object }
}

fn wrote(at: u64, object: Value) -> Version {
    seen(at, Change::Modified, "NetworkPolicy", object)
}

fn history(workload: Workload, versions: Vec<Version>) -> History {
    History {
        workload,
        plan: None,
        target: None,
        subject: subject(),
        marks: Marks { settled: Some(Duration::from_secs(60)), ..Marks::default() },
        versions,
        calls: Vec::new(),
        processes: Vec::new(),
        grace: Duration::ZERO,
    }
}

fn segment(at: u64, deleted: bool) -> Version {
    let mut object = json!({"metadata": {"name": "seg", "finalizers": ["countersign.dev/network"]}});
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    seen(at, Change::Modified, "Segment", object)
}

/// A segment that was closed in the right order.
fn close() -> Vec<Version> {
    let mut versions = vec![segment(0, false)];
    let bystander = |namespace| {
        seen(0, Change::Added, "NetworkPolicy", policy(namespace, "bystander", &json!({"podSelector": {}})))
    };
    versions.extend(["shop", "pay"].map(bystander));
    versions.extend([wrote(100, allow("pay", &[8443])), wrote(120, allow("shop", &[8443]))]);
    for (at, types) in [(1_000, &["Ingress"][..]), (2_000, &["Ingress", "Egress"])] {
        versions.extend(["shop", "pay"].map(|namespace| wrote(at, deny(namespace, types))));
    }
    versions
}

/// The port changed: widened, and after the barrier narrowed.
fn edit() -> Vec<Version> {
    let mut versions = close();
    for (at, ports) in [(5_000, &[8443, 9443][..]), (6_000, &[9443])] {
        versions.extend(["pay", "shop"].map(|namespace| wrote(at, allow(namespace, ports))));
    }
    versions
}

/// Withdrawn: the denies first.
fn open() -> Vec<Version> {
    let mut versions = close();
    versions.push(segment(4_900, true));
    for (at, object) in [
        (5_000, deny("shop", &[])),
        (5_000, deny("pay", &[])),
        (6_000, allow("shop", &[8443])),
        (6_000, allow("pay", &[8443])),
    ] {
        let mut object = object;
        if object["metadata"]["name"] == DENY {
            object["spec"]["policyTypes"] = json!(["Ingress", "Egress"]);
        }
        versions.push(seen(at, Change::Deleted, "NetworkPolicy", object));
    }
    versions
}

fn broken(workload: Workload, versions: Vec<Version>) -> BTreeSet<&'static str> {
    check(&history(workload, versions)).into_iter().map(|violation| violation.invariant).collect()
}

fn with(versions: Vec<Version>, version: Version) -> Vec<Version> {
    versions.into_iter().chain([version]).collect()
}

#[test]
fn nothing_is_wrong_with_the_right_order() {
    assert_eq!(check(&history(Workload::Close, close())), []);
    assert_eq!(check(&history(Workload::Edit, edit())), []);
    assert_eq!(check(&history(Workload::Open, open())), []);
}

/// Every two neighbouring writes of one namespace swapped are seen.
#[test]
fn two_writes_in_the_other_order_are_seen() {
    for (workload, versions, from) in
        [(Workload::Close, close(), 3), (Workload::Edit, edit(), 9), (Workload::Open, open(), 10)]
    {
        let place = |version: &Version| version.text("/metadata/namespace").to_owned();
        let mut swaps = 0;
        for a in from..versions.len() {
            let next = (a + 1..versions.len()).find(|b| place(&versions[*b]) == place(&versions[a]));
            let Some(b) = next else { continue };
            // A deny that is first written whole is legal if it then loses nothing; that it does is seen as I-20.
            let mut swapped = versions.clone();
            swapped.swap(a, b);
            (swapped[a].at, swapped[b].at) = (versions[a].at, versions[b].at);
            assert_ne!(broken(workload, swapped), BTreeSet::new(), "{workload:?}: {a} and {b} swapped");
            swaps += 1;
        }
        assert!(swaps >= 2, "{workload:?}");
    }
}

#[test]
fn i_32_a_delete_before_the_create() {
    let gone = seen(5_000, Change::Deleted, "NetworkPolicy", allow("pay", &[8443]));
    let again = wrote(5_100, allow("pay", &[8443]));
    assert_eq!(broken(Workload::Close, with(with(close(), gone), again)), ["I-32"].into());
}

#[test]
fn i_32_a_barrier_that_is_skipped() {
    let mut versions = close();
    versions[5].at = Duration::from_millis(200); // the first deny, 80 ms after the allow object
    assert_eq!(broken(Workload::Close, versions), ["I-32"].into());

    let mut versions = edit();
    versions[11].at = Duration::from_millis(5_100);
    assert_eq!(broken(Workload::Edit, versions), ["I-32"].into());

    let mut versions = open();
    versions[12].at = Duration::from_millis(5_100);
    assert_eq!(broken(Workload::Open, versions), ["I-32"].into());
}

#[test]
fn i_32_a_port_that_is_shut_before_the_other_is_open() {
    // The client moves at once, while the server has only the old port.
    assert_eq!(broken(Workload::Edit, with(close(), wrote(5_000, allow("shop", &[9443])))), ["I-32"].into());
}

#[test]
fn i_21_and_i_22_a_rule_that_lets_everybody_through() {
    let changed = |pointer: &str, value: Value| {
        let mut object = allow("pay", &[8443]);
        *object.pointer_mut(pointer).unwrap() = value;
        broken(Workload::Close, with(close(), wrote(5_000, object)))
    };
    assert_eq!(changed("/spec/ingress/0/from", json!([])), ["I-21", "I-22"].into());
    assert_eq!(changed("/spec/ingress/0", json!({})), ["I-21", "I-22"].into());
    assert_eq!(changed("/spec/ingress/0/ports", json!([])), ["I-21", "I-22"].into());
    assert_eq!(changed("/spec/ingress/0/from/0/podSelector", json!({})), ["I-21", "I-22"].into());
    assert_eq!(changed("/spec/ingress/0/from/0/namespaceSelector", json!({})), ["I-21", "I-22"].into());
    let other = json!({"matchLabels": {"app": "stranger"}});
    assert!(changed("/spec/ingress/0/from/0/podSelector", other).contains("I-22"));
    let mut bare = deny("pay", &[]);
    bare["spec"].as_object_mut().unwrap().remove("policyTypes");
    // Without the entry it isolates in one direction alone.
    assert_eq!(broken(Workload::Close, with(close(), wrote(5_000, bare))), ["I-20", "I-21"].into());
    let mut wide = deny("pay", &["Ingress", "Egress"]);
    wide["spec"]["ingress"] = json!([{}]);
    assert_eq!(broken(Workload::Close, with(close(), wrote(5_000, wide))), ["I-20", "I-21", "I-22"].into());
}

#[test]
fn i_08_a_policy_of_somebody_else_and_one_of_nobody() {
    let bystander = wrote(5_000, policy("pay", "bystander", &json!({"podSelector": {}})));
    assert_eq!(broken(Workload::Close, with(close(), bystander)), ["I-08"].into());
    let mut orphan = allow("pay", &[8443]);
    orphan["metadata"]["labels"] = json!({});
    assert_eq!(broken(Workload::Close, with(close(), wrote(5_000, orphan))), ["I-08"].into());
}

#[test]
fn i_17_policies_that_are_left_and_i_20_a_namespace_that_is_not_closed() {
    let mut versions = open();
    versions.pop();
    assert_eq!(broken(Workload::Open, versions), ["I-17"].into());
    let mut versions = close();
    versions.pop();
    assert_eq!(broken(Workload::Close, versions), ["I-20"].into());
    // Opened before it was asked for.
    let mut versions = open();
    versions.remove(9);
    assert!(broken(Workload::Open, versions).contains("I-20"));
}

#[test]
fn i_19_and_i_34_a_finalizer_that_goes_first_and_an_owner_that_takes_policies_along() {
    let mut free = segment(5_000, false);
    free.object["metadata"].as_object_mut().unwrap().remove("finalizers");
    assert_eq!(broken(Workload::Close, with(close(), free)), ["I-19"].into());
    let mut owned = allow("pay", &[8443]);
    owned["metadata"]["ownerReferences"] = json!([{"kind": "Segment"}]);
    assert_eq!(broken(Workload::Close, with(close(), wrote(5_000, owned))), ["I-34"].into());
}
