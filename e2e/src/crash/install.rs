//! Installs the chart's cluster objects without its pods, and gets what a process outside of the cluster needs to be the
//! operator: the token of its account, and a Lease of its own.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams, config::Kubeconfig};
use serde_json::{Value, json};

use super::{call::OPERATOR_NAMESPACE, operator};
use crate::env::Env;

/// The API server as its kubeconfig names it: URL and authority (PEM).
///
/// # Errors
/// When the kubeconfig names none.
pub fn server(env: &Env) -> Result<(String, Vec<u8>)> {
    let config = Kubeconfig::read_from(&env.kubeconfig).context("cannot read the kubeconfig")?;
    let cluster = config.clusters.into_iter().next().and_then(|named| named.cluster).context("no cluster")?;
    let url = cluster.server.context("the cluster has no server")?;
    let authority = match (cluster.certificate_authority_data, cluster.certificate_authority) {
        (Some(data), _) => BASE64.decode(data.as_bytes()).context("the authority is not base64")?,
        (None, Some(file)) => std::fs::read(file).context("cannot read the authority")?,
        (None, None) => anyhow::bail!("the cluster has no authority"),
    };
    Ok((url, authority))
}

/// Applies the chart at `chart` without what needs a node, and lets the operator's account keep a Lease for each lane.
///
/// # Errors
/// When helm or kubectl fail.
pub fn install(env: &Env, chart: &Path, lanes: &[String]) -> Result<()> {
    let mut helm = Command::new(&env.programs.helm);
    helm.arg("template").arg("countersign").arg(chart).args(["--namespace", OPERATOR_NAMESPACE]);
    for off in ["tests.enabled", "networkPolicy.enabled", "podDisruptionBudget.enabled"] {
        helm.args(["--set", &format!("{off}=false")]);
    }
    let output = helm.env_clear().stdin(Stdio::null()).output().context("helm cannot be started")?;
    ensure!(output.status.success(), "helm template failed: {}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).context("helm printed no text")?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}});
    apply(env, &namespace.to_string())?;
    let documents: Vec<&str> = rendered.split("\n---").filter(|text| !text.contains("\nkind: Deployment\n")).collect();
    apply(env, &documents.join("\n---"))?;
    self::lanes(env, lanes)
}

/// Lets the operator's account keep a Lease for each lane.
///
/// # Errors
/// When kubectl fails.
pub fn lanes(env: &Env, lanes: &[String]) -> Result<()> {
    apply(env, &leases(lanes).to_string())
}

/// The chart grants one Lease by name; each lane has one of its own.
fn leases(lanes: &[String]) -> Value {
    let names: Vec<String> = lanes.iter().map(|lane| operator::lease(lane)).collect();
    let metadata = json!({"name": "crash-lanes", "namespace": OPERATOR_NAMESPACE});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": names, "verbs": ["get", "patch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "crash-lanes"},
            "subjects": [{"kind": "ServiceAccount", "name": "countersign", "namespace": OPERATOR_NAMESPACE}]},
    ]})
}

fn apply(env: &Env, manifest: &str) -> Result<()> {
    let mut kubectl = Command::new(&env.programs.kubectl);
    kubectl.env_clear().arg("--kubeconfig").arg(&env.kubeconfig).arg("--cache-dir").arg(std::env::temp_dir());
    kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
    let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    std::io::Write::write_all(&mut input, manifest.as_bytes()).context("kubectl does not read")?;
    drop(input);
    let output = child.wait_with_output().context("kubectl does not end")?;
    ensure!(output.status.success(), "kubectl apply failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A token of the operator's account for the API server.
///
/// # Errors
/// When the API server refuses.
pub async fn token(client: &Client) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let spec = TokenRequestSpec { audiences: vec![], expiration_seconds: Some(7_200), bound_object_ref: None };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request("countersign", &PostParams::default(), &request).await;
    let status = answer.context("the API server gives no token")?.status.context("an answer without a token")?;
    Ok(status.token)
}
