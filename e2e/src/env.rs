//! The cluster under test, as the file that `COUNTERSIGN_TEST_ENV` names describes it.
//!
//! Written by `cargo xtask cluster up` for a local cluster and by `cargo xtask cluster env` for any other;
//! tests know nothing else about where they run.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;

/// A test cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Env {
    /// Administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// `L0`, `L1`, `L2` or `external`.
    pub layer: String,
    /// Where pods reach a process of the host.
    pub host_address: Option<String>,
    /// Every request's metadata, one JSON object a line.
    pub audit_log: Option<PathBuf>,
    /// `audit`, `crash` (daemons may be ended), `node` (pods run), `enforcement` (NetworkPolicy works).
    pub capabilities: BTreeSet<String>,
    /// How long a pod may take to see a changed Secret volume.
    pub secret_refresh_seconds: u32,
    /// Programs to run.
    pub programs: Programs,
    /// The OpenBao server beside the cluster.
    pub openbao: Option<OpenBao>,
}

/// Paths of programs; absent where the cluster has no use for one.
#[derive(Debug, Clone, Deserialize)]
pub struct Programs {
    /// kubectl.
    pub kubectl: PathBuf,
    /// Helm.
    pub helm: PathBuf,
    /// OpenBao.
    pub bao: PathBuf,
    /// containerd's client, already pointed at the node's images.
    pub ctr: Option<PathBuf>,
}

/// How to reach and unlock an OpenBao server; secrets are named by file only.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenBao {
    /// URL.
    pub address: String,
    /// Authority of its TLS certificate.
    pub ca_file: PathBuf,
    /// Root token, readable by its owner only.
    pub root_token_file: PathBuf,
    /// Unseal key, readable by its owner only.
    pub unseal_key_file: PathBuf,
    /// The server's record of every request, one JSON object a line.
    pub record_file: PathBuf,
}

impl Env {
    /// The cluster of this test run.
    ///
    /// # Errors
    /// When `COUNTERSIGN_TEST_ENV` is not set or names no such file.
    pub fn read() -> Result<Self> {
        let path = std::env::var_os("COUNTERSIGN_TEST_ENV")
            .context("COUNTERSIGN_TEST_ENV is not set; `cargo xtask test` sets it")?;
        let path = PathBuf::from(path);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} does not describe a cluster", path.display()))
    }

    /// Whether the cluster can do what a test needs.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(capability)
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        // With two providers compiled in, rustls would have to guess; a second call finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).context("cannot read the kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("the kubeconfig cannot be used")?;
        config.default_retry = false;
        Client::try_from(config).context("no client can be made of the kubeconfig")
    }
}
