//! The example workload as a judge: it counts every call that failed, and knocks at doors that should be closed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    api::{path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{TRUTH, ready, reports},
    manifests,
    operator::NAMESPACE,
    wait::until,
};

/// What `order` has printed so far.
pub struct Log {
    lines: Vec<Value>,
}

impl Log {
    /// Reads the log of the Deployment `order`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let text = cluster.kubectl(&["-n", namespace, "logs", "deployment/order", "--tail=-1"]).await?;
        Ok(Self { lines: text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() })
    }

    /// The lines of one event.
    pub fn events(&self, event: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line.get("event").and_then(Value::as_str) == Some(event)).collect()
    }

    /// The last second's summary.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn last(&self) -> Result<&Value> {
        self.events("second").pop().context("order has not counted a second yet")
    }

    /// A total of the last second.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn total(&self, name: &str) -> Result<u64> {
        self.last()?.get(name).and_then(Value::as_u64).with_context(|| format!("order does not count {name}"))
    }
}

/// Waits until calls use the two certificates, and for one more second with them.
///
/// # Errors
/// When they do not within `patience`.
pub async fn uses(cluster: &Cluster, namespace: &str, client: &str, server: &str, patience: Duration) -> Result<Log> {
    until("calls use the new certificates", patience, async || {
        let log = Log::read(cluster, namespace).await?;
        let Ok(last) = log.last() else { return Ok(Err("no second counted".to_owned())) };
        let seen = |name: &str| last.get(name).and_then(Value::as_str).unwrap_or_default();
        let new = seen("clientSerial") == client && seen("serverSerial") == server;
        Ok(if new { Ok(log) } else { Err(last.to_string()) })
    })
    .await
}

/// Opens the shop: the trust domain `prod` as in the examples, with this cluster's OpenBao, then both services. Does
/// nothing new where it is open already.
///
/// # Errors
/// When it does not come up.
pub async fn open(cluster: &Cluster) -> Result<()> {
    let ca = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": NAMESPACE, "name": "bao-ca"},
        "data": {"ca.crt": bao::authority(cluster)?},
    });
    cluster.api.apply(&ca).await?;
    for mut object in manifests::read("examples/trust-domain-vault.yaml")? {
        if text(&object, "/kind") == "VaultConnection" {
            let address = object.pointer_mut("/spec/address").context("the connection has no address")?;
            *address = bao::address_by_name(cluster)?.into();
        }
        cluster.api.apply(&object).await?;
        reports(&cluster.api, &path_of(&object)?, &ready(), TRUTH).await?;
    }
    let login = json!({"data": {"username": "payment", "password": "canary-of-the-database", "revision": "1"}});
    Bao::of(cluster)?.write("secret/data/payments/database", &login).await?;
    for file in ["00-namespaces", "identities", "secrets", "payment", "order"] {
        for object in manifests::read(&format!("examples/shop/manifests/{file}.yaml"))? {
            cluster.api.apply(&object).await?;
        }
    }
    for (namespace, name) in [("payments", "payment"), ("shop", "order")] {
        let deployment = format!("deployment/{name}");
        cluster.kubectl(&["-n", namespace, "rollout", "status", &deployment, "--timeout=90s"]).await?;
    }
    Ok(())
}

/// What came of a knock at a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knock {
    /// Somebody answered, whatever they said.
    Answered,
    /// Nothing came back, not even that the door is closed.
    Silence,
}

/// Tries one connection from a pod of its own that runs as `account` and carries its name as a label.
///
/// # Errors
/// When the pod did not run, or said something else.
pub async fn knock(cluster: &Cluster, namespace: &str, account: &str, address: &str) -> Result<Knock> {
    let name = format!("knock-{}", unique());
    let container = json!({
        "name": "knock", "image": "ghcr.io/countersign-dev/shop:0.1.0", "imagePullPolicy": "IfNotPresent",
        "args": ["probe", "--server", address, "--certs", "/certs"],
        "volumeMounts": [{"name": "ca", "mountPath": "/certs"}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app.kubernetes.io/name": account}},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false, "serviceAccountName": account,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}],
        },
    });
    cluster.api.apply(&pod).await?;
    let path = path_of(&pod)?;
    until("the knock was tried", Duration::from_secs(60), async || {
        let pod = cluster.api.get(&path).await?;
        let phase = text(&pod, "/status/phase");
        Ok(if phase == "Succeeded" || phase == "Failed" { Ok(()) } else { Err(format!("{phase:?}")) })
    })
    .await?;
    let log = cluster.kubectl(&["-n", namespace, "logs", &name]).await?;
    cluster.api.delete(&path).await?;
    let line: Value = serde_json::from_str(log.trim()).with_context(|| format!("the knock said: {log}"))?;
    let detail = text(&line, "/detail");
    if detail.contains("no answer in time") {
        return Ok(Knock::Silence);
    }
    // A name that is not found is no answer of the door.
    anyhow::ensure!(!detail.is_empty() && !detail.contains("look-up"), "the knock said: {log}");
    Ok(Knock::Answered)
}
