//! The operator as it runs in the cluster: installed once, its pods, what it printed.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    api::{array, text},
    cluster::{Cluster, OURS},
    helm,
    wait::until,
};

/// Where it is installed.
pub const NAMESPACE: &str = "countersign-system";
/// Name of the Helm release.
pub const RELEASE: &str = "countersign";
/// Its ServiceAccount as the API server calls it.
pub const USER: &str = "system:serviceaccount:countersign-system:countersign";
/// What every Secret of its making is labelled with.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=countersign";

/// Makes the operator's namespace, with the strictest Pod Security level.
///
/// # Errors
/// When it cannot be made.
pub async fn namespace(cluster: &Cluster) -> Result<()> {
    let labels = json!({OURS: "countersign-e2e", "pod-security.kubernetes.io/enforce": "restricted"});
    cluster
        .api
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}))
        .await?;
    cluster.default_account(NAMESPACE).await
}

/// Installs the chart unless this process has seen to it before.
///
/// # Errors
/// When the operator does not become ready.
pub async fn installed(cluster: &Cluster) -> Result<()> {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_try_init(|| async {
        namespace(cluster).await?;
        helm::deploy(cluster, &["upgrade", "--install"], &[]).await?;
        fenced(cluster).await
    })
    .await?;
    Ok(())
}

/// Waits until the admission policy refuses the operator's account a foreign Secret: it acts a moment after its creation.
///
/// # Errors
/// When it does not act within half a minute.
pub async fn fenced(cluster: &Cluster) -> Result<()> {
    let operator = cluster.with_token(cluster.api.token(NAMESPACE, "countersign").await?).await?;
    let canary = format!("/api/v1/namespaces/{NAMESPACE}/secrets/countersign-fence-canary");
    until("the fence refuses", Duration::from_secs(30), async || {
        let answer = operator.patch(crate::api::Change::Merge, &canary, &json!({})).await?;
        Ok(if answer.status == 422 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.message())) })
    })
    .await
}

/// Names of its pods.
///
/// # Errors
/// When they cannot be listed.
pub async fn pods(cluster: &Cluster) -> Result<Vec<String>> {
    let selector = "app.kubernetes.io/component%3Dcontroller";
    let pods = cluster.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}")).await?;
    Ok(pods.iter().map(|pod| text(pod, "/metadata/name").to_owned()).collect())
}

/// How often containers of its pods were restarted.
///
/// # Errors
/// When the pods cannot be listed.
pub async fn restarts(cluster: &Cluster) -> Result<u64> {
    let pods = cluster.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await?;
    let containers = pods.iter().flat_map(|pod| array(pod, "/status/containerStatuses"));
    Ok(containers.filter_map(|container| container.pointer("/restartCount").and_then(Value::as_u64)).sum())
}

/// Everything its pods have printed, also before a restart.
///
/// # Errors
/// When there is a pod whose log cannot be read.
pub async fn logs(cluster: &Cluster) -> Result<String> {
    let mut all = String::new();
    for pod in pods(cluster).await? {
        all += &cluster.kubectl(&["-n", NAMESPACE, "logs", &pod, "--tail=-1"]).await?;
        // There is a previous container only after a restart.
        all += &cluster.kubectl(&["-n", NAMESPACE, "logs", &pod, "--tail=-1", "--previous"]).await.unwrap_or_default();
    }
    Ok(all)
}
