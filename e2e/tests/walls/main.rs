//! Two namespaces are closed around calls that go on every 20 ms, changed, attacked, and opened again: no declared call
//! fails, and what nobody declared finds no answer.
//!
//! A target of its own: a call that is late because the machine is busy with other tests would look like one that a
//! policy cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod kills;
mod moves;
mod places;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{Change, array, path_of, text},
    cluster::Cluster,
    conditions::{Expected, TRUTH, ready, reports},
    manifests,
    operator::{self, NAMESPACE},
    shop::{self, Knock, Log, knock},
    wait::until,
};
use serde_json::{Value, json};

const SEGMENT: &str = "/apis/countersign.dev/v1alpha1/segments/shop";
const GRANT: &str = "/apis/countersign.dev/v1alpha1/namespaces/payments/accessgrants/order";
const REQUEST: &str = "/apis/countersign.dev/v1alpha1/namespaces/shop/accessrequests/payment";
const DOOR: &str = "payment.payments.svc:8443";
/// How long each step may take: several steps of a few seconds each, on a busy machine.
const SLOW: Duration = Duration::from_secs(120);

#[tokio::test]
async fn no_declared_call_fails_and_no_other_is_answered() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao", "enforcement"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    shop::open(&cluster).await?;
    let played = play(&cluster).await;
    cluster.api.delete(SEGMENT).await?; // also after a failure: other targets follow, and need the namespaces open
    played
}

async fn play(cluster: &Cluster) -> Result<()> {
    let begun = Instant::now();
    let told = |step: &str| println!("{:6.1} s  {step}", begun.elapsed().as_secs_f64());
    let stranger = cluster.namespace("stranger").await?;
    moves::prepare(cluster).await?;
    let failed = quiet(cluster).await?;
    // The positive control of "no answer": the same pairs, while everything is open.
    ensure!(knock(cluster, &stranger, "default", DOOR).await? == Knock::Answered, "an open door gives no answer");
    ensure!(knock(cluster, "shop", "default", DOOR).await? == Knock::Answered, "an open door gives no answer");

    told("the doors are open, and answer");
    places::outside(cluster).await?;
    told("places outside are told from those inside");
    observe(cluster).await?;
    told("observed");
    places::requested(cluster).await?;
    enforce(cluster).await?;
    for namespace in [stranger.as_str(), "shop"] {
        let heard = knock(cluster, namespace, "default", DOOR).await?;
        ensure!(heard == Knock::Silence, "{namespace}/default was answered, and nobody granted it");
    }
    ensure!(quiet(cluster).await? == failed, "a declared call failed while namespaces were closed");

    told("closed, and silent to strangers");
    places::opened(cluster).await?;
    ensure!(quiet(cluster).await? == failed, "a declared call failed while a place outside was opened");
    told("two names of one place outside were opened, and nothing was written again");
    reach_the_api_server(cluster).await?;
    told("the API server is reached by who asked for it");
    tamper(cluster, &stranger).await?;
    ensure!(quiet(cluster).await? == failed, "a declared call failed while a policy was restored");

    told("what somebody opened was closed again");
    widen(cluster).await?;
    told("a foreign policy that widens was told");
    moves::selector(cluster).await?;
    ensure!(quiet(cluster).await? == failed, "a declared call failed while a selector moved");
    told("a selector moved");
    kills::twenty(cluster).await?;
    ensure!(quiet(cluster).await? == failed, "a declared call failed while the operator was killed");
    told("twenty deaths");
    revoke(cluster).await?;
    let failed = quiet(cluster).await?;
    let objects = moves::objects(cluster).await?;
    told("a grant was taken back and given again");
    open(cluster).await?;
    ensure!(knock(cluster, &stranger, "default", DOOR).await? == Knock::Answered, "the namespaces stayed closed");
    ensure!(quiet(cluster).await? == failed, "a call failed while namespaces were opened");
    told("opened again");
    moves::wrong_order(cluster, &objects).await?;
    told("the wrong order was seen to cut");
    println!("{} calls", Log::read(cluster, "shop").await?.total("okTotal")?);
    Ok(())
}

/// Waits for a second in which every call passed; returns how many have failed in all.
async fn quiet(cluster: &Cluster) -> Result<u64> {
    let before = Log::read(cluster, "shop").await?.total("okTotal").unwrap_or_default();
    until("calls go on", SLOW, async || {
        let log = Log::read(cluster, "shop").await?;
        let (Ok(passed), Ok(last)) = (log.total("okTotal"), log.last()) else { return Ok(Err("none yet".to_owned())) };
        let is_calm = passed > before + 40 && last.get("failed").and_then(Value::as_u64) == Some(0);
        Ok(if is_calm { Ok(log.total("failedTotal")?) } else { Err(last.to_string()) })
    })
    .await
}

/// In Observe nothing is written, and what would break is told until both sides have declared it.
async fn observe(cluster: &Cluster) -> Result<()> {
    let [grant, request]: [Value; 2] =
        manifests::read("examples/shop/manifests/access.yaml")?.try_into().expect("a grant and a request");
    cluster.api.apply(&grant).await?;
    for object in manifests::read("examples/shop/manifests/segment.yaml")? {
        cluster.api.apply(&object).await?;
    }
    let would_break = Expected::status("WouldBreak", "True").because("Held");
    let segment = reports(&cluster.api, SEGMENT, &would_break, SLOW).await?;
    let told = array(&segment, "/status/wouldBreak");
    ensure!(told.len() == 1 && text(&told[0], "/from") == "shop/order", "told to break: {told:?}");
    ensure!(told[0]["missing"] == json!(["Request"]), "told to lack: {told:?}");
    let pending = Expected::status("Ready", "False").because("RequestMissing");
    reports(&cluster.api, GRANT, &pending, SLOW).await?;

    cluster.api.apply(&request).await?;
    reports(&cluster.api, GRANT, &ready().because("Observing"), SLOW).await?;
    reports(&cluster.api, REQUEST, &ready().because("Observing"), SLOW).await?;
    let segment = reports(&cluster.api, SEGMENT, &ready().because("Observing"), SLOW).await?;
    ensure!(array(&segment, "/status/wouldBreak").is_empty(), "still told to break: {segment}");
    ensure!(policies(cluster).await?.is_empty(), "something was written in mode Observe");
    Ok(())
}

/// Closes both namespaces, with the operator killed on the way.
async fn enforce(cluster: &Cluster) -> Result<()> {
    mode(cluster, "Enforce").await?;
    until("the first policies are written", SLOW, async || {
        let written = policies(cluster).await?;
        Ok(if written.is_empty() { Err("none".to_owned()) } else { Ok(()) })
    })
    .await?;
    for pod in operator::pods(cluster).await? {
        cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &pod, "--grace-period=0", "--force"]).await?;
    }
    let segment = reports(&cluster.api, SEGMENT, &ready().because("Applied"), SLOW).await?;
    for namespace in array(&segment, "/status/namespaces") {
        ensure!(text(namespace, "/phase") == "Closed", "not closed: {namespace}");
    }
    reports(&cluster.api, GRANT, &ready().because("Live"), SLOW).await?;
    reports(&cluster.api, REQUEST, &ready().because("Live"), SLOW).await?;
    let expected = [
        "payments/countersign-deny",
        "payments/countersign-deploy-payment-in",
        "shop/countersign-deny",
        "shop/countersign-deploy-order-out",
    ];
    let written = policies(cluster).await?;
    ensure!(written == expected, "written: {written:?}");
    Ok(())
}

/// Who requests the Kubernetes API reaches it, by its name and through its Service; who does not, does not.
async fn reach_the_api_server(cluster: &Cluster) -> Result<()> {
    const API: &str = "kubernetes.default.svc:443";
    let labels = json!({"app.kubernetes.io/name": "caller"});
    // Without a pod yet: a policy that comes after a pod would let its first connection fail.
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {"serviceAccountName": "caller", "containers": [{"name": "none", "image": "localhost/none:1"}]},
    });
    cluster.api.apply(&manifests::account("shop", "caller")).await?;
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": "caller"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    });
    cluster.api.apply(&workload).await?;
    ensure!(knock(cluster, "shop", "caller", API).await? == Knock::Silence, "the API answers whom nobody let out");
    let request = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessRequest",
        "metadata": {"namespace": "shop", "name": "caller"},
        "spec": {"from": {"serviceAccountName": "caller"}, "to": [{"apiServer": true}]},
    });
    cluster.api.apply(&request).await?;
    let path = path_of(&request)?;
    reports(&cluster.api, &path, &ready().because("Live"), SLOW).await?;
    until("the API answers whom it was requested for", SLOW, async || {
        let heard = knock(cluster, "shop", "caller", API).await?;
        Ok(if heard == Knock::Answered { Ok(()) } else { Err(format!("{heard:?}")) })
    })
    .await?;
    cluster.api.delete(&path).await?;
    cluster.api.delete(&path_of(&workload)?).await
}

/// A deny that somebody opens by hand is closed again, and told so.
async fn tamper(cluster: &Cluster, stranger: &str) -> Result<()> {
    let path = "/apis/networking.k8s.io/v1/namespaces/payments/networkpolicies/countersign-deny";
    cluster.api.patch(Change::Merge, path, &json!({"spec": {"ingress": [{}]}})).await?;
    until("the deny is restored", SLOW, async || {
        let policy = cluster.api.get(path).await?;
        Ok(if policy["spec"].get("ingress").is_none() { Ok(()) } else { Err(policy["spec"].to_string()) })
    })
    .await?;
    until("the door is closed again", SLOW, async || {
        let heard = knock(cluster, stranger, "default", DOOR).await?;
        Ok(if heard == Knock::Silence { Ok(()) } else { Err(format!("{heard:?}")) })
    })
    .await
}

/// A policy of somebody else that opens what is closed is named while it stands; nobody touches it.
async fn widen(cluster: &Cluster) -> Result<()> {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "payments", "name": "open-sesame"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 9999}]}]},
    });
    cluster.api.apply(&policy).await?;
    let widens = Expected::status("ForeignPolicyWidens", "True").because("ForeignPolicyWidens");
    let segment = reports(&cluster.api, SEGMENT, &widens, TRUTH).await?;
    ensure!(array(&segment, "/status/foreignPolicies").contains(&json!("payments/open-sesame")), "{segment}");
    cluster.api.delete(&path_of(&policy)?).await?;
    until("nothing widens any more", TRUTH, async || {
        let segment = cluster.api.get(SEGMENT).await?;
        let conditions = array(&segment, "/status/conditions");
        let found = conditions.iter().find(|one| text(one, "/type") == "ForeignPolicyWidens");
        Ok(found.map_or(Ok(()), |one| Err(one.to_string())))
    })
    .await
}

/// A grant that is deleted closes its edge; one that comes back opens it.
async fn revoke(cluster: &Cluster) -> Result<()> {
    let before = quiet(cluster).await?;
    cluster.api.delete(GRANT).await?;
    let pending = Expected::status("Ready", "False").because("GrantMissing");
    reports(&cluster.api, REQUEST, &pending, SLOW).await?;
    until("calls fail", SLOW, async || {
        let failed = Log::read(cluster, "shop").await?.total("failedTotal")?;
        Ok(if failed > before + 2 { Ok(()) } else { Err(format!("{failed} failed")) })
    })
    .await?;
    let grant = manifests::read("examples/shop/manifests/access.yaml")?;
    cluster.api.apply(grant.first().context("no grant in the example")?).await?;
    reports(&cluster.api, REQUEST, &ready().because("Live"), SLOW).await?;
    Ok(())
}

/// A segment that is deleted withdraws everything, and only then goes.
async fn open(cluster: &Cluster) -> Result<()> {
    cluster.api.delete(SEGMENT).await?;
    until("the segment is gone", SLOW, async || {
        Ok(cluster.api.find(SEGMENT).await?.map_or(Ok(()), |segment| Err(segment["status"]["namespaces"].to_string())))
    })
    .await?;
    let left = policies(cluster).await?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    cluster.api.delete(GRANT).await?;
    cluster.api.delete(REQUEST).await
}

async fn mode(cluster: &Cluster, mode: &str) -> Result<()> {
    cluster.api.merge(SEGMENT, &json!({"spec": {"mode": mode}})).await.map(drop)
}

/// Our policies in both namespaces, `namespace/name`, in order.
async fn policies(cluster: &Cluster) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for namespace in ["payments", "shop"] {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies");
        for policy in cluster.api.list(&path).await? {
            names.push(format!("{namespace}/{}", text(&policy, "/metadata/name")));
        }
    }
    names.sort();
    Ok(names)
}
