//! The stage of every case: the chart's objects without its Deployment, the operator's credentials,
//! one connection and two trust domains with limits far above what is measured.
//!
//! Must not know the cases. Uses the chart as a person would, by `helm template` and `kubectl apply`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    config::Kubeconfig,
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    Options,
    audit::AuditLog,
    load::until_all,
    operator::{Binary, Operator},
    proxy::Proxy,
};
use crate::{bao::Bao, env::Env};

/// Namespace of the operator.
const NAMESPACE: &str = "countersign-system";
/// Account and release of the chart.
const ACCOUNT: &str = "countersign";
/// Field manager of what the benchmark makes.
pub const MANAGER: &str = "bench";
/// The trust domain with an authority of its own.
pub const EMBEDDED: &str = "bench-embedded";
/// The connection to OpenBao.
pub const CONNECTION: &str = "bench";
/// The namespaces whose bindings may read what lies below their names.
pub const BINDING_NAMESPACES: [&str; 3] = ["bench-bind", "bench-kv", "bench-quiet-bindings"];
/// The trust domain that OpenBao signs for.
pub const VAULT: &str = "bench-vault";

/// Where the cases play.
pub struct Stage {
    /// Administrator's client; what it asks is not counted.
    pub client: Client,
    /// OpenBao with root rights; what it is asked by this way is not counted.
    pub bao: Bao,
    /// How to run the operator.
    pub binary: Binary,
    /// The counting proxy before OpenBao.
    pub proxy: Proxy,
    /// Process ids of the control plane.
    pub processes: Processes,
    audit_log: PathBuf,
}

/// Process ids of the control plane.
#[derive(Debug, Clone, Copy)]
pub struct Processes {
    /// kube-apiserver
    pub api_server: u32,
    /// etcd
    pub etcd: u32,
}

/// The user name of the operator's account.
pub fn operator_user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
}

impl Stage {
    /// Sets it up in a fresh cluster.
    ///
    /// # Errors
    /// When the cluster, OpenBao or the chart is not as it should be.
    pub async fn set(env: &Env, options: &Options) -> Result<Self> {
        let audit_log =
            env.audit_log.clone().context("this cluster has no audit log, and writes are counted from it")?;
        let openbao = env.openbao.as_ref().context("there is no OpenBao beside this cluster")?;
        let client = env.client().await?;
        let proxy = Proxy::start(&openbao.address, &openbao.ca_file).await?;
        install_chart(env, &options.work).await?;
        let kubeconfig = options.work.join("operator.kubeconfig");
        write_kubeconfig(env, &client, &kubeconfig).await?;
        let binary = Binary { program: options.binary.clone(), kubeconfig, log: options.work.join("operator.log") };
        let processes = Processes { api_server: options.api_server, etcd: options.etcd };
        let bao = Bao::at(openbao)?;
        let stage = Self { client, bao, binary, proxy, processes, audit_log };
        stage.declare_domains().await?;
        Ok(stage)
    }

    /// The audit log from here on.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn audit(&self) -> Result<AuditLog> {
        AuditLog::open(&self.audit_log)
    }

    /// Lets the operator make its authorities and log in once, so that no case pays for it.
    ///
    /// # Errors
    /// When a trust domain does not become ready.
    pub async fn warm_up(&self) -> Result<()> {
        let operator = Operator::start(&self.binary).await?;
        let domains: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("TrustDomain", "trustdomains"));
        until_all(&domains, 2, super::load::is_ready, Duration::from_secs(60))
            .await
            .context("the trust domains do not become ready")?;
        operator.stop().await
    }

    async fn declare_domains(&self) -> Result<()> {
        let connection = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "VaultConnection", "metadata": {"name": CONNECTION},
            "spec": {
                "grants": [{
                    "namespaces": {"names": BINDING_NAMESPACES}, "as": "ServiceAccount", "role": "tenant",
                    "paths": ["secret/{namespace}/**"],
                }],
                "address": self.proxy.url, "tls": {"ca": {"inline": self.proxy.authority}},
                "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}},
                "limits": {"requestsPerSecond": 10_000, "inFlight": 1000, "timeout": "10s"},
            },
        });
        let domain = |name: &str, spiffe: &str, issuer: serde_json::Value| {
            json!({
                "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustDomain", "metadata": {"name": name},
                "spec": {"name": spiffe, "issuer": issuer, "limits": {"signsPerSecond": 10_000, "inFlight": 256}},
            })
        };
        let vault = json!({"vault": {"connection": CONNECTION, "mount": "pki_int", "role": "workload"}});
        self.apply("VaultConnection", "vaultconnections", &connection).await?;
        self.apply("TrustDomain", "trustdomains", &domain(EMBEDDED, "bench.example", json!({"embedded": {}}))).await?;
        // The name that the role of the local OpenBao is for.
        self.apply("TrustDomain", "trustdomains", &domain(VAULT, "prod.example", vault)).await
    }

    async fn apply(&self, kind: &str, plural: &str, object: &serde_json::Value) -> Result<()> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource(kind, plural));
        let name = object.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default();
        let params = PatchParams::apply(MANAGER).validation_strict();
        api.patch(name, &params, &Patch::Apply(object)).await.with_context(|| format!("cannot apply {kind} {name}"))?;
        Ok(())
    }
}

/// One of our kinds.
pub fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("countersign.dev", "v1alpha1", kind), plural)
}

async fn install_chart(env: &Env, work: &Path) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/countersign");
    let mut helm = Command::new(&env.programs.helm);
    helm.args(["template", ACCOUNT]).arg(&chart).args(["--namespace", NAMESPACE, "--values"]);
    helm.arg(chart.join("values-minimal.yaml"));
    let rendered = run(&mut helm, "").await?;
    let objects = without_workload(&rendered);
    let kubectl = |args: &[&str]| {
        let mut command = Command::new(&env.programs.kubectl);
        command.arg("--kubeconfig").arg(&env.kubeconfig).arg("--cache-dir").arg(work.join("kubectl")).args(args);
        command
    };
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n");
    let apply = ["apply", "--server-side", "--filename", "-"];
    run(&mut kubectl(&apply), &namespace).await?;
    run(&mut kubectl(&apply), &objects).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "customresourcedefinitions", "--all"];
    run(&mut kubectl(&established), "").await?;
    Ok(())
}

/// Everything but the pods: the operator runs beside the cluster.
fn without_workload(rendered: &str) -> String {
    let documents = rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    let workload = |document: &str| document.lines().any(|line| line == "kind: Deployment");
    documents.filter(|document| !workload(document)).collect::<Vec<_>>().join("\n---\n")
}

async fn run(command: &mut Command, input: &str) -> Result<String> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take().context("no input")?;
    let input = input.to_owned();
    let write = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = child.wait_with_output().await?;
    // A program that ends without reading its input says why on standard error.
    let _ = write.await;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not text"))
}

/// The administrator's way to the API server, with the token of the operator's account.
async fn write_kubeconfig(env: &Env, client: &Client, path: &Path) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let spec = TokenRequestSpec { expiration_seconds: Some(12 * 3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await
        .context("there is no token for the chart's account")?;
    let token = answer.status.context("the API server made no token")?.token;
    let admin = Kubeconfig::read_from(&env.kubeconfig).context("cannot read the kubeconfig")?;
    let cluster =
        admin.clusters.first().and_then(|named| named.cluster.clone()).context("the kubeconfig has no cluster")?;
    ensure!(cluster.certificate_authority_data.is_some(), "the kubeconfig has no inline certificate authority");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "operator",
        "clusters": [{"name": "bench", "cluster": {
            "server": cluster.server, "certificate-authority-data": cluster.certificate_authority_data,
        }}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "operator", "context": {"cluster": "bench", "user": "operator"}}],
    });
    write_private(path, &config.to_string())
}

/// A file that only its owner can read, from the first byte on.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::{
        fs::{OpenOptions, remove_file},
        io::{ErrorKind, Write as _},
        os::unix::fs::OpenOptionsExt as _,
    };
    match remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("cannot replace the kubeconfig");
        }
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).context("cannot write the kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_workload_is_left_out() {
        let rendered = "---\n# Source: a\nkind: ServiceAccount\nname: x\n---\n# Source: b\napiVersion: apps/v1\n\
                        kind: Deployment\n---\nkind: Secret\nnote: |\n  kind: Deployment\n";
        let expected = "# Source: a\nkind: ServiceAccount\nname: x\n---\nkind: Secret\nnote: |\n  kind: Deployment\n";
        assert_eq!(without_workload(rendered), expected);
    }
}
