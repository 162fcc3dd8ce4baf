//! The operator's own NetworkPolicy on a data plane that enforces it: what can be reached, and by whom.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{array, text},
    cluster::{Cluster, unique},
    operator::{self, NAMESPACE},
    wait::until,
};
use serde_json::{Value, json};

/// Metrics, probes, and a port that nobody serves.
const PORTS: [u16; 3] = [8080, 8081, 9443];

#[tokio::test]
async fn only_probes_and_metrics_can_be_reached() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "enforcement"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let pods = cluster.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await?;
    let address = pods.iter().map(|pod| text(pod, "/status/podIP")).find(|address| !address.is_empty());
    let address = address.context("no pod of the operator has an address")?;
    // By its name: that is whom the chart lets read metrics unless told otherwise.
    let monitoring = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}});
    cluster.api.apply(&monitoring).await?;
    cluster.default_account("monitoring").await?;
    let elsewhere = cluster.namespace("elsewhere").await?;

    // The same pair with another label on its namespace is the positive control of "blocked".
    let allowed = scan(&cluster, "monitoring", address).await?;
    ensure!(reached(&allowed[0]), "the monitoring namespace cannot read metrics: {}", allowed[0]);
    ensure!(reached(&allowed[1]), "probes cannot be reached: {}", allowed[1]);
    let others = scan(&cluster, &elsewhere, address).await?;
    ensure!(blocked(&others[0]), "metrics can be read from everywhere: {}", others[0]);
    ensure!(reached(&others[1]), "probes cannot be reached: {}", others[1]);
    for scan in [&allowed, &others] {
        ensure!(blocked(&scan[2]), "a port besides can be reached: {}", scan[2]);
    }
    Ok(())
}

/// It got an answer that is no TLS: both ports speak plain HTTP.
fn reached(detail: &str) -> bool {
    detail.starts_with("handshake")
}

/// Nothing came back, not even that the port is closed.
fn blocked(detail: &str) -> bool {
    detail.contains("no answer in time")
}

/// Runs one container for each port and returns what each came to.
async fn scan(cluster: &Cluster, namespace: &str, address: &str) -> Result<Vec<String>> {
    let container = |port: u16| {
        json!({
            "name": format!("port-{port}"), "image": "ghcr.io/countersign-dev/shop:0.1.0", "imagePullPolicy": "IfNotPresent",
            "args": ["probe", "--server", format!("{address}:{port}"), "--certs", "/certs"],
            "volumeMounts": [{"name": "ca", "mountPath": "/certs"}],
        })
    };
    let name = format!("scan-{}", unique());
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "containers": PORTS.map(container),
            "volumes": [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}],
        },
    });
    cluster.api.apply(&pod).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    until("every port was tried", Duration::from_secs(60), async || {
        let pod = cluster.api.get(&path).await?;
        let states = array(&pod, "/status/containerStatuses");
        let ended = states.iter().filter(|state| state.pointer("/state/terminated").is_some()).count();
        Ok(if ended == PORTS.len() { Ok(()) } else { Err(pod["status"].to_string()) })
    })
    .await?;
    let mut details = Vec::new();
    for port in PORTS {
        let log = cluster.kubectl(&["-n", namespace, "logs", &name, "-c", &format!("port-{port}")]).await?;
        let line: Value = serde_json::from_str(log.trim()).with_context(|| format!("port {port}: {log}"))?;
        details.push(text(&line, "/detail").to_owned());
    }
    Ok(details)
}
