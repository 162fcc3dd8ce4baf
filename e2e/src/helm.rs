//! Helm with the administrator's rights, and the chart of this clone.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use crate::{
    cluster::Cluster,
    manifests::repository,
    operator::{NAMESPACE, RELEASE},
    program::{self, Ended},
};

/// The chart under test.
pub fn chart() -> PathBuf {
    repository().join("charts/countersign")
}

/// A chart that only tests use.
pub fn test_chart(name: &str) -> PathBuf {
    repository().join("e2e/charts").join(name)
}

/// Runs Helm to its end, whatever that is.
///
/// # Errors
/// When it cannot be started or does not end.
pub async fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<Ended> {
    let variables = [("KUBECONFIG", cluster.env.kubeconfig.as_path())];
    program::finish(&cluster.env.programs.helm, arguments, &variables, Duration::from_secs(240)).await
}

/// Runs Helm and returns what it printed.
///
/// # Errors
/// When it fails; the operator's state is in the error.
pub async fn run(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let ended = helm(cluster, arguments).await?;
    if ended.success {
        return Ok(ended.stdout);
    }
    let pods =
        cluster.kubectl(&["-n", NAMESPACE, "get", "pods,events"]).await.unwrap_or_else(|error| error.to_string());
    let logs = crate::operator::logs(cluster).await.unwrap_or_else(|error| error.to_string());
    let end = logs.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
    bail!("helm {arguments:?} failed:\n{}\n{}\n{pods}\n{end}", ended.stdout.trim(), ended.stderr.trim());
}

/// `helm <verb> … --wait` for the chart under test with some `--set` values.
///
/// # Errors
/// When it fails or the operator does not become ready.
pub async fn deploy(cluster: &Cluster, verb: &[&str], values: &[&str]) -> Result<()> {
    let chart = chart();
    let chart = chart.to_string_lossy();
    let mut arguments = verb.to_vec();
    arguments.extend([RELEASE, &chart, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"]);
    for value in values {
        arguments.extend(["--set", value]);
    }
    run(cluster, &arguments).await.map(drop)
}
