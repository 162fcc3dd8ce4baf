//! What the operator's pods serve at `/metrics`, by a port-forward: that works on every cluster and past every policy.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::{cluster::Cluster, operator::NAMESPACE};

/// Reads a path of a port of one of the operator's pods.
///
/// # Errors
/// When the pod cannot be reached or answers with an error.
pub async fn read(cluster: &Cluster, pod: &str, port: u16, path: &str) -> Result<String> {
    let mut forward = Command::new(&cluster.env.programs.kubectl);
    forward.env("KUBECONFIG", &cluster.env.kubeconfig).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    forward.args(["-n", NAMESPACE, "port-forward", &format!("pod/{pod}"), &format!(":{port}")]);
    let mut child = forward.spawn().context("cannot start kubectl")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = timeout(Duration::from_secs(20), lines.next_line()).await.context("no port-forward within 20 s")??;
    // `Forwarding from 127.0.0.1:40001 -> 8080`
    let line = line.context("kubectl forwards no port")?;
    let local = line.split_whitespace().nth(2).context("kubectl names no port")?;
    let answer = timeout(Duration::from_secs(20), reqwest::get(format!("http://{local}{path}"))).await;
    let text = answer.context("no answer within 20 s")??.error_for_status()?.text().await?;
    child.kill().await.context("kubectl does not end")?;
    Ok(text)
}
