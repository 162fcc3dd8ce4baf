//! The cluster of this run, and what a test needs of it.
//!
//! One cluster serves the whole run, so every test works in namespaces of its own.

use std::{
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    api::{Api, path_of, text},
    env::{Env, OpenBao},
    program,
    wait::until,
};

/// Label of every namespace made by a test, for whoever cleans up a cluster that stays.
pub const OURS: &str = "app.kubernetes.io/created-by";

/// The cluster with the administrator's rights.
#[derive(Clone)]
pub struct Cluster {
    /// Where it is and what it can do.
    pub env: Env,
    /// The API server, as administrator.
    pub api: Api,
}

impl Cluster {
    /// The cluster, if it can do all that the test needs: `audit`, `node`, `enforcement`, `openbao`.
    ///
    /// If not, a line `skipped: <test>: <reason>` goes to standard output past the harness, which can only be told
    /// before a test runs that it is ignored; `cargo xtask test` counts these lines.
    ///
    /// # Errors
    /// When the cluster cannot be reached.
    pub async fn with(needs: &[&str]) -> Result<Option<Self>> {
        let env = Env::read()?;
        let has = |need: &str| if need == "openbao" { env.openbao.is_some() } else { env.can(need) };
        if let Some(missing) = needs.iter().find(|need| !has(need)) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a test");
            writeln!(std::io::stdout(), "skipped: {name}: the cluster lacks `{missing}`")
                .context("no standard output")?;
            return Ok(None);
        }
        let api = Api::new(env.client().await?);
        Ok(Some(Self { env, api }))
    }

    /// The API server with the rights of whoever holds `token`.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn with_token(&self, token: String) -> Result<Api> {
        let mut kubeconfig = Kubeconfig::read_from(&self.env.kubeconfig).context("cannot read the kubeconfig")?;
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
        }
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Api::new(Client::try_from(config).context("no client can be made of a token")?))
    }

    /// The OpenBao server beside the cluster.
    ///
    /// # Errors
    /// When there is none: the test did not say that it needs one.
    pub fn openbao(&self) -> Result<&OpenBao> {
        self.env.openbao.as_ref().context("the test does not declare that it needs `openbao`")
    }

    /// Makes a namespace of that prefix which no other test uses, and waits until pods can start in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", unique());
        let labels = json!({OURS: "countersign-e2e"});
        self.api
            .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
            .await?;
        self.default_account(&name).await?;
        Ok(name)
    }

    /// Waits until what is created is younger than `object` by the API server's clock, which counts in seconds.
    ///
    /// # Errors
    /// When the clock stands still.
    pub async fn a_later_second(&self, object: &Value) -> Result<()> {
        let path = path_of(object)?;
        let born = text(&self.api.get(&path).await?, "/metadata/creationTimestamp").to_owned();
        until("the next second", Duration::from_secs(5), async || {
            let name = format!("second-{}", unique());
            let mark =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}});
            let made = self.api.apply(&mark).await?;
            self.api.delete(&path_of(&mark)?).await?;
            let now = text(&made, "/metadata/creationTimestamp");
            Ok(if now > born.as_str() { Ok(()) } else { Err(now.to_owned()) })
        })
        .await
    }

    /// Waits for the ServiceAccount without which no pod starts.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn default_account(&self, namespace: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        until("the default ServiceAccount exists", Duration::from_secs(30), async || {
            Ok(self.api.find(&path).await?.map(drop).ok_or_else(|| "absent".to_owned()))
        })
        .await
    }

    /// Runs kubectl as administrator.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let variables = [("KUBECONFIG", self.env.kubeconfig.as_path())];
        program::capture(&self.env.programs.kubectl, arguments, &variables, Duration::from_secs(120)).await
    }
}

/// A short text that no other caller of this run got, fit for names.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
