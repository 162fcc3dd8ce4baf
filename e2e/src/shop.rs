//! The example workload as a judge of renewals: it counts every call that failed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{cluster::Cluster, wait::until};

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
