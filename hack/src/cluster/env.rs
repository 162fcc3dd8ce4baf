//! What tests are told about a cluster: the file that `COUNTERSIGN_TEST_ENV` names.
//!
//! Written by `cluster up` for a local cluster; made by probing for any other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kubectl::Kubectl;
use super::place::{Layer, Place, Run};
use super::programs::Programs;
use crate::cache::Cache;
use crate::files;

/// A test cluster as tests see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Env {
    /// Administrator's kubeconfig
    pub kubeconfig: PathBuf,
    /// `L0`, `L1`, `L2` or `external`
    pub layer: String,
    /// Where pods reach a process of the host
    pub host_address: Option<String>,
    /// Every request's metadata, one JSON object a line
    pub audit_log: Option<PathBuf>,
    /// Logs of the cluster's daemons, or where tests may write theirs
    pub logs: PathBuf,
    /// `audit`, `crash` (daemons may be ended), `node` (pods run), `enforcement` (NetworkPolicy works)
    pub capabilities: BTreeSet<String>,
    /// How to get an image tar into the cluster
    pub image_loader: ImageLoader,
    /// How long a pod may take to see a changed Secret volume
    pub secret_refresh_seconds: u32,
    /// Programs tests run
    pub programs: TestPrograms,
    /// The OpenBao server beside the cluster
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openbao: Option<OpenBaoEnv>,
}

/// How to get an image tar into a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageLoader {
    /// `cargo xtask cluster images`, or `<ctr> images import --local -`
    Ctr,
    /// `kind load image-archive`
    Kind,
    /// Not at all: images must be in a registry
    None,
}

/// Paths of programs; absent where the cluster has no use for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestPrograms {
    /// kubectl
    pub kubectl: PathBuf,
    /// Helm
    pub helm: PathBuf,
    /// OpenBao
    pub bao: PathBuf,
    /// containerd's client, already pointed at the node's images
    pub ctr: Option<PathBuf>,
}

/// How to reach and unlock the OpenBao server of a cluster; secrets are named by file only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenBaoEnv {
    /// URL
    pub address: String,
    /// Authority of its TLS certificate
    pub ca_file: PathBuf,
    /// Root token, readable by its owner only
    pub root_token_file: PathBuf,
    /// Unseal key, readable by its owner only
    pub unseal_key_file: PathBuf,
    /// The server's record of every request, one JSON object a line; values in it are hashed
    pub record_file: PathBuf,
}

impl Env {
    /// The description of a local cluster.
    pub fn local(place: Place, layer: Layer, run: &Run, programs: &Programs) -> Self {
        let node = layer >= Layer::L1;
        let mut capabilities = BTreeSet::from(["audit", "crash"]);
        if node {
            capabilities.insert("node");
        }
        if layer >= Layer::L2 {
            capabilities.insert("enforcement");
        }
        Self {
            kubeconfig: run.kubeconfig(),
            layer: layer.to_string(),
            host_address: node.then(|| place.host_address().to_string()),
            audit_log: Some(run.audit_log()),
            logs: run.logs(),
            capabilities: capabilities.into_iter().map(str::to_owned).collect(),
            image_loader: if node { ImageLoader::Ctr } else { ImageLoader::None },
            secret_refresh_seconds: 2,
            programs: TestPrograms::new(programs, node.then(|| run.dir().join("ctr"))),
            openbao: None,
        }
    }

    /// Reads a description.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read(path)?;
        serde_json::from_str(&text).with_context(|| format!("{} does not describe a cluster", path.display()))
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, format!("{}\n", self.render()?))
    }

    /// As JSON.
    pub fn render(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("cannot render the description of the cluster")
    }
}

impl TestPrograms {
    fn new(programs: &Programs, ctr: Option<PathBuf>) -> Self {
        let [kubectl, helm, bao] = ["kubectl", "helm", "bao"].map(|name| programs.program(name));
        Self { kubectl, helm, bao, ctr }
    }
}

/// Describes an existing cluster by asking it. Only the named kubeconfig is used, never an ambient one.
///
/// Enforcement of NetworkPolicy is not among its capabilities: no object tells, only traffic between two pods does.
pub fn external(kubeconfig: &Path, cache: &Cache) -> Result<Env> {
    let programs = Programs::locate(cache)?;
    programs.require_wheels()?;
    let logs = cache.run().join("external");
    files::create_folder(&logs)?;
    let kubeconfig = std::path::absolute(kubeconfig).context("the kubeconfig is not a usable path")?;
    if !kubeconfig.is_file() {
        bail!("{} is not a file", kubeconfig.display());
    }
    let kubectl = Kubectl::new(programs.program("kubectl"), kubeconfig.clone(), &logs);
    kubectl.text(&["get", "--raw", "/readyz"]).context("the cluster does not answer")?;
    let nodes = kubectl.json(&["get", "nodes"]).context("the cluster does not list its nodes")?;
    let (has_node, image_loader) = probe(&nodes);
    Ok(Env {
        kubeconfig,
        layer: "external".into(),
        host_address: None,
        audit_log: None,
        logs,
        capabilities: has_node.then(|| "node".to_owned()).into_iter().collect(),
        image_loader,
        // The kubelet's own period of a minute, plus what its caches add.
        secret_refresh_seconds: 90,
        programs: TestPrograms::new(&programs, None),
        openbao: None,
    })
}

/// Whether some node of the list is ready, and how images get there.
fn probe(nodes: &Value) -> (bool, ImageLoader) {
    let list = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let items = list(nodes, "/items");
    let ready = |node: &Value| {
        let conditions = list(node, "/status/conditions");
        conditions.iter().any(|condition| {
            condition.get("type") == Some(&"Ready".into()) && condition.get("status") == Some(&"True".into())
        })
    };
    let kind = |node: &Value| {
        node.pointer("/spec/providerID").and_then(Value::as_str).is_some_and(|id| id.starts_with("kind://"))
    };
    let loader = if !items.is_empty() && items.iter().all(kind) { ImageLoader::Kind } else { ImageLoader::None };
    (items.iter().any(ready), loader)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unready_node_is_no_node_and_only_kind_nodes_take_archives() {
        let node = |ready: &str, id: &str| json!({"spec": {"providerID": id}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        assert_eq!(probe(&json!({"items": []})), (false, ImageLoader::None));
        assert_eq!(probe(&json!({"items": [node("False", "kind://a")]})), (false, ImageLoader::Kind));
        let mixed = json!({"items": [node("True", "kind://a"), node("True", "aws://b")]});
        assert_eq!(probe(&mixed), (true, ImageLoader::None));
    }

    #[test]
    fn the_file_has_the_agreed_names() {
        let env = Env {
            kubeconfig: "/k".into(),
            layer: "L0".into(),
            host_address: None,
            audit_log: Some("/a".into()),
            logs: "/l".into(),
            capabilities: BTreeSet::from(["audit".to_owned()]),
            image_loader: ImageLoader::None,
            secret_refresh_seconds: 2,
            programs: TestPrograms { kubectl: "/p".into(), helm: "/h".into(), bao: "/b".into(), ctr: None },
            openbao: Some(OpenBaoEnv {
                address: "https://127.0.0.1:8200".into(),
                ca_file: "/ca".into(),
                root_token_file: "/t".into(),
                unseal_key_file: "/u".into(),
                record_file: "/b/record.jsonl".into(),
            }),
        };
        let expected = json!({
            "kubeconfig": "/k", "layer": "L0", "hostAddress": null, "auditLog": "/a", "logs": "/l",
            "capabilities": ["audit"], "imageLoader": "none", "secretRefreshSeconds": 2,
            "programs": {"kubectl": "/p", "helm": "/h", "bao": "/b", "ctr": null},
            "openbao": {"address": "https://127.0.0.1:8200", "caFile": "/ca", "rootTokenFile": "/t",
                "unsealKeyFile": "/u", "recordFile": "/b/record.jsonl"},
        });
        assert_eq!(serde_json::from_str::<Value>(&env.render().unwrap()).unwrap(), expected);
    }
}
