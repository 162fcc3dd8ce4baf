//! The raw limit: what this machine's API server writes when nobody thinks.
//!
//! One pair is a server-side apply that creates a Secret as large as an identity's, and a merge patch of an
//! identity's status. Every rate is given as a part of the pairs a second just before it.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    figures::Figures,
    load::{Crowd, name, secret_name},
    procfs,
    stage::{MANAGER, Stage},
};

/// Custom resources, and so pairs.
const PAIRS: u32 = 500;
/// Clients that write them.
const CLIENTS: usize = 32;
/// Bytes of the Secret, as `kubectl` would show them.
const SECRET_BYTES: usize = 4096;

/// The raw limit just now.
#[derive(Debug, Clone, Copy)]
pub struct Raw {
    /// Pairs a second.
    pub per_second: f64,
    /// CPU of API server and etcd for one pair.
    pub cpu_ms: f64,
    /// Load average before it.
    pub load: f64,
}

/// Measures it three times and reports the best.
///
/// # Errors
/// As [`measure`].
pub async fn best_of_three(stage: &Stage, figures: &mut Figures) -> Result<()> {
    for attempt in 1..=3 {
        let raw = measure(stage).await?;
        println!(
            "raw {attempt}/3: {:.0} pairs/s, {:.1} CPU ms a pair, load {:.1}",
            raw.per_second, raw.cpu_ms, raw.load
        );
        raw.report(figures)?;
    }
    Ok(())
}

/// Measures it; the operator must not run.
///
/// # Errors
/// When the API server refuses anything.
pub async fn measure(stage: &Stage) -> Result<Raw> {
    let crowd = Crowd::new(&stage.client, "bench-raw", "nobody").await?;
    crowd.store(PAIRS).await?;
    let load = procfs::load_average()?;
    let cpu_before = control_plane(stage)?;
    let started = Instant::now();
    stream::iter(0..PAIRS).map(Ok).try_for_each_concurrent(CLIENTS, |at| pair(&crowd, at)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = control_plane(stage)? - cpu_before;
    crowd.remove().await?;
    let pairs = f64::from(PAIRS);
    Ok(Raw { per_second: pairs / seconds, cpu_ms: cpu * 1000.0 / pairs, load })
}

impl Raw {
    /// Keeps it if it is the best so far.
    ///
    /// # Errors
    /// Never.
    pub fn report(&self, figures: &mut Figures) -> Result<()> {
        if figures.value("raw.pairs_per_second").is_none_or(|best| best < self.per_second) {
            figures.set("raw.pairs_per_second", self.per_second, self.load)?;
            figures.set("raw.cpu_ms_per_pair", self.cpu_ms, self.load)?;
            figures.set("load_average", self.load, self.load)?;
        }
        Ok(())
    }
}

/// CPU seconds of API server and etcd so far.
fn control_plane(stage: &Stage) -> Result<f64> {
    let processes = stage.processes;
    Ok((procfs::cpu(processes.api_server)? + procfs::cpu(processes.etcd)?).as_secs_f64())
}

async fn pair(crowd: &Crowd, at: u32) -> Result<()> {
    let secret_name = secret_name(at);
    let apply = PatchParams::apply(MANAGER).validation_strict();
    crowd.secrets().patch(&secret_name, &apply, &Patch::Apply(secret(&secret_name))).await.context("a raw Secret")?;
    let merge = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    crowd.objects().patch_status(&name(at), &merge, &Patch::Merge(status())).await.context("a raw status")?;
    Ok(())
}

fn secret(name: &str) -> Value {
    // Base64 makes four characters of three bytes.
    let part = "QUFB".repeat(SECRET_BYTES / 12);
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": MANAGER}},
        "data": {"tls.crt": part, "tls.key": part, "ca.crt": part},
    })
}

/// As long as the operator's own.
fn status() -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Issued", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "the certificate is stored and fits the spec",
        })
    };
    json!({"status": {
        "observedGeneration": 1, "spiffeId": "spiffe://bench.example/ns/bench-raw/sa/load",
        "serial": "4f1c0b4f1c0b4f1c0b4f1c0b4f1c0b4f1c0b4f1c", "fingerprint": format!("sha256:{}", "9c".repeat(32)),
        "authority": format!("sha256:{}", "41".repeat(20)), "notBefore": "2026-01-01T00:00:00Z",
        "notAfter": "2026-01-02T00:00:00Z", "renewAt": "2026-01-01T16:00:00Z", "revision": 1,
        "issues": [{"window": "TenMinutes", "since": "2026-01-01T00:00:00Z", "count": 1},
                   {"window": "Day", "since": "2026-01-01T00:00:00Z", "count": 1}],
        "conditions": [condition("Ready"), condition("Issued"), condition("Accepted")],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_as_large_as_it_says() {
        let secret = secret("a");
        let data = secret.get("data").and_then(Value::as_object).unwrap();
        let bytes: usize = data.values().map(|part| part.as_str().unwrap().len()).sum();
        assert!((SECRET_BYTES - 16..=SECRET_BYTES).contains(&bytes), "{bytes}");
    }
}
