//! Closes the namespaces of the shop around its calls, knocks at the closed door, and takes a grant back.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::calls::{self, Second};
use super::install::example;
use super::proof;
use super::stage::{Goal, OPERATOR, Stage};

/// Where nobody lives whom payment knows.
const STRANGER: &str = "quickstart";
/// The door that is to be closed.
const DOOR: &str = "payment.payments.svc:8443";
/// The Segment of the shop.
const SEGMENT: &[&str] = &["segment", "shop"];

/// Observes, says what would break, closes, and is killed in the middle; calls go on all the while.
pub fn around_the_calls(stage: &Stage, start: &Second) -> Result<Result<String, String>> {
    let pods = ["shop", "payments"].map(|namespace| stage.pods(namespace));
    let access = example("shop/manifests/access.yaml")?;
    let (grant, request) = access.split_once("\n---\n").context("the example has no grant and request")?;
    stage.kubectl.apply(grant)?;
    stage.kubectl.apply(&example("shop/manifests/segment.yaml")?)?;
    let goal = Goal {
        what: "in mode Observe nothing is written, and one connection would break",
        area: "network",
        describe: SEGMENT,
        advice: "docs/how-to/close-a-namespace.md goes through it step by step",
        within: Duration::from_secs(60),
    };
    let would_break = stage.wait_and_say(&goal, || first(&stage.object(SEGMENT)?, "/status/wouldBreak"))?;
    stage.say("network", &format!("would break: {}", broken(&would_break)));
    stage.kubectl.apply(request)?;
    let goal = Goal { what: "both sides have declared it, so nothing would break", ..goal };
    stage.wait_and_say(&goal, || {
        let segment = stage.object(SEGMENT)?;
        let observed = segment.pointer("/status/edges/observed").and_then(Value::as_i64) == Some(1);
        (observed && first(&segment, "/status/wouldBreak").is_none()).then_some(())
    })?;

    let enforce = r#"{"spec":{"mode":"Enforce"}}"#;
    stage.kubectl.text(&["patch", "segment", "shop", "--type", "merge", "-p", enforce])?;
    let goal = Goal { what: "the first policies are written, nothing is closed yet", ..goal };
    stage.wait_and_say(&goal, || (policies(stage) > 0).then_some(()))?;
    let all = ["-n", OPERATOR, "delete", "pods", "-l", "app.kubernetes.io/name=countersign", "--force"];
    stage.kubectl.text(&[&all[..], &["--grace-period=0"]].concat())?;
    stage.say("network", "the operator is killed in the middle");
    let goal =
        Goal { what: "its successor went on: both namespaces are closed", within: Duration::from_secs(180), ..goal };
    stage.wait_for_condition(&goal, "Applied")?;
    let closed = super::prove::last_second(stage).context("order prints nothing")?;
    super::prove::calls_go_on(stage, &closed, 150)?;
    let written = format!("{} policies", policies(stage));
    Ok(proof::all([
        proof::calls(super::prove::window(stage, start)),
        proof::same_pods(&pods.concat(), &["shop", "payments"].map(|namespace| stage.pods(namespace)).concat()),
        Ok(written),
    ]))
}

/// A pod that nobody granted anything, in a namespace of its own, before and after.
pub fn stranger_is_blocked(before: &str, stage: &Stage) -> Result<Result<String, String>> {
    let after = knock(stage, "after")?;
    if after.is_empty() {
        return Ok(Err("the knock was not heard of".to_owned()));
    }
    stage.say("network", &format!("a third pod knocks at {DOOR}: {after}"));
    Ok(proof::silenced(before, &after))
}

/// Deleting the grant closes the edge: calls fail that passed until then.
pub fn grant_is_taken_back(stage: &Stage) -> Result<Result<String, String>> {
    let before = super::prove::last_second(stage).context("order prints nothing")?;
    stage.kubectl.text(&["-n", "payments", "delete", "accessgrant", "order"])?;
    let goal = Goal {
        what: "the grant is deleted, and calls fail",
        area: "network",
        describe: SEGMENT,
        advice: "the policy of payment should have lost its rule",
        within: Duration::from_secs(60),
    };
    let failed = stage.wait_and_say(&goal, || {
        let now = super::prove::last_second(stage)?;
        (now.failed_since(&before) > 2).then(|| now.failed_since(&before))
    })?;
    let reason = calls::reasons(&super::prove::log(stage)).last().cloned().unwrap_or_default();
    Ok(Ok(format!("{failed} calls failed since: {reason}")))
}

/// What a pod hears that runs as nobody in particular; its own words.
pub fn knock(stage: &Stage, when: &str) -> Result<String> {
    let name = format!("knock-{when}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": STRANGER, "name": name},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "containers": [{
                "name": "knock", "image": "ghcr.io/countersign-dev/shop:0.1.0", "imagePullPolicy": "IfNotPresent",
                "args": ["probe", "--server", DOOR, "--certs", "/certs"],
                "volumeMounts": [{"name": "ca", "mountPath": "/certs"}],
            }],
            "volumes": [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}],
        },
    });
    stage.kubectl.apply(&pod.to_string())?;
    let goal = Goal {
        what: "a third pod has knocked",
        area: "network",
        describe: &["-n", STRANGER, "pod", &name],
        advice: "look at the pod's events",
        within: Duration::from_secs(60),
    };
    stage.wait(&goal, || {
        let pod = stage.object(goal.describe)?;
        let phase = pod.pointer("/status/phase").and_then(Value::as_str)?;
        (phase == "Succeeded" || phase == "Failed").then_some(())
    })?;
    let line = stage.kubectl.text(&["-n", STRANGER, "logs", &name])?;
    let said: Value = serde_json::from_str(line.trim()).context("the probe said nothing")?;
    Ok(said.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn first(object: &Value, list: &str) -> Option<Value> {
    object.pointer(list)?.as_array()?.first().cloned()
}

fn broken(item: &Value) -> String {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    format!("{} to {}, no {}", text("/from"), text("/to"), text("/missing/0"))
}

/// How many policies of ours there are.
fn policies(stage: &Stage) -> usize {
    let ours = "app.kubernetes.io/managed-by=countersign";
    let count = |namespace: &&str| {
        let list = stage.object(&["-n", namespace, "networkpolicies", "-l", ours]);
        list.and_then(|list| list.get("items").and_then(Value::as_array).map(Vec::len)).unwrap_or_default()
    };
    ["shop", "payments"].iter().map(count).sum()
}
