//! A selector that moves under calls, and the control of the whole test: the same objects in the wrong order.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    cluster::Cluster,
    wait::until,
};
use serde_json::{Value, json};

use super::{Log, SLOW, quiet};

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
const NAME: &str = "app.kubernetes.io/name";
const PART: &str = "app.kubernetes.io/part-of";

/// Gives the caller's pods a label more, by which they can be told from a workload that has all their others.
pub async fn prepare(cluster: &Cluster) -> Result<()> {
    let template = json!({"spec": {"template": {"metadata": {"labels": {PART: "shop"}}}}});
    cluster.api.merge("/apis/apps/v1/namespaces/shop/deployments/order", &template).await?;
    cluster.kubectl(&["-n", "shop", "rollout", "status", "deployment/order", "--timeout=90s"]).await?;
    until("one pod calls", SLOW, async || {
        let pods =
            cluster.api.list("/api/v1/namespaces/shop/pods?labelSelector=app.kubernetes.io%2Fname%3Dorder").await?;
        Ok(if pods.len() == 1 { Ok(()) } else { Err(format!("{} pods", pods.len())) })
    })
    .await
}

/// Another workload gets every label that the caller is selected by: its policy selects it by one label more from then
/// on, and so does that of the server.
pub async fn selector(cluster: &Cluster) -> Result<()> {
    let shadow = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "shop", "name": "shadow"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"shadow": "yes"}},
            "template": {
                "metadata": {"labels": {"shadow": "yes", NAME: "order"}},
                "spec": {"serviceAccountName": "default", "containers": [{"name": "none", "image": "localhost/none:1"}]},
            },
        },
    });
    let path = format!("{POLICIES}/countersign-deploy-order-out");
    let part = |policy: &Value| {
        let labels = policy.pointer("/spec/podSelector/matchLabels").cloned().unwrap_or_default();
        labels.get(PART).and_then(Value::as_str) == Some("shop")
    };
    ensure!(!part(&cluster.api.get(&path).await?), "the caller is selected by more than it needs");
    cluster.api.apply(&shadow).await?;
    until("the caller is selected by one label more", SLOW, async || {
        let policy = cluster.api.get(&path).await?;
        Ok(if part(&policy) { Ok(()) } else { Err(policy["spec"]["podSelector"].to_string()) })
    })
    .await?;
    let server = "/apis/networking.k8s.io/v1/namespaces/payments/networkpolicies/countersign-deploy-payment-in";
    until("the server knows its caller by one label more, and no other way", SLOW, async || {
        let spec = cluster.api.get(server).await?["spec"].to_string();
        let [old, new] =
            [json!({NAME: "order"}), json!({NAME: "order", PART: "shop"})].map(|labels| labels.to_string());
        Ok(if spec.contains(&new) && !spec.contains(&old) { Ok(()) } else { Err(spec) })
    })
    .await?;
    cluster.api.delete(&path_of(&shadow)?).await
}

/// The objects that close both namespaces, as somebody would write them by hand; the denies come first.
pub async fn objects(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for namespace in ["payments", "shop"] {
        for policy in cluster.api.list(&POLICIES.replace("shop", namespace)).await? {
            let name = text(&policy, "/metadata/name").replace("countersign", "by-hand");
            objects.push(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": name}, "spec": policy["spec"],
            }));
        }
    }
    objects.sort_by_key(|object| !text(object, "/metadata/name").ends_with("-deny"));
    ensure!(objects.len() >= 4, "{} policies close both namespaces", objects.len());
    Ok(objects)
}

/// The very same objects, the denies first: calls fail. So the test would have seen it.
pub async fn wrong_order(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let before = quiet(cluster).await?;
    let (denies, rest): (Vec<&Value>, Vec<&Value>) =
        objects.iter().partition(|object| text(object, "/metadata/name").ends_with("-deny"));
    ensure!(denies.len() == 2, "{} denies", denies.len());
    let mut cut = Ok(());
    for object in denies {
        cluster.api.apply(object).await?;
    }
    let failed = until("calls fail when the denies come first", SLOW, async || {
        let failed = Log::read(cluster, "shop").await?.total("failedTotal")?;
        Ok(if failed > before { Ok(()) } else { Err(format!("{failed} failed")) })
    })
    .await;
    for object in rest {
        cut = cut.and(cluster.api.apply(object).await.map(drop));
    }
    let whole = quiet(cluster).await;
    for object in objects {
        cluster.api.delete(&path_of(object)?).await?;
    }
    failed.and(cut)?;
    whole.map(drop).context("the right objects do not let the calls through")
}
