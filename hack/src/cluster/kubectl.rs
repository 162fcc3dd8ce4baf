//! kubectl against one named kubeconfig, blind to the caller's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{SEARCH_PATH, capture, feed, succeeds};

/// How to reach one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Holds kubectl's discovery cache, so that clusters with the same address do not share one
    cache: PathBuf,
}

impl Kubectl {
    /// `cache` is a folder kubectl may write to.
    pub fn new(program: PathBuf, kubeconfig: PathBuf, cache: &Path) -> Self {
        Self { program, kubeconfig, cache: cache.join("kubectl-cache") }
    }

    /// Runs it and returns what it printed.
    pub fn text(&self, args: &[&str]) -> Result<String> {
        capture(&mut self.command(args))
    }

    /// Runs it with `-o json` and returns the object.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = capture(self.command(args).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl printed something that is not JSON")
    }

    /// Whether it ends well.
    pub fn succeeds(&self, args: &[&str]) -> bool {
        succeeds(&mut self.command(args))
    }

    /// Server-side apply of a manifest, as the only owner of its fields.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=countersign-xtask", "-f", "-"];
        feed(&mut self.command(&args), manifest.as_bytes()).map(drop)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", SEARCH_PATH).env("HOME", &self.cache);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        command.args(["--request-timeout", "20s"]).args(args);
        command
    }
}
