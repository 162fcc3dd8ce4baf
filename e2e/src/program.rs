//! Running a program to its end, with what it printed in the error.
//!
//! Secrets never stand in arguments or in what is run here: arguments are shown.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Whether it ended well.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `program` until it ends, at most `patience`.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub async fn finish(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &Path)],
    patience: Duration,
) -> Result<Ended> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(patience, command.output()).await;
    let output = output.with_context(|| format!("{name} {arguments:?} did not end within {patience:?}"))?;
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Runs `program` and returns its standard output.
///
/// # Errors
/// Like [`finish`], and when it ends badly.
pub async fn capture(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &Path)],
    patience: Duration,
) -> Result<String> {
    let ended = finish(program, arguments, variables, patience).await?;
    if !ended.success {
        bail!("{} {arguments:?} failed:\n{}\n{}", program.display(), ended.stdout.trim(), ended.stderr.trim());
    }
    Ok(ended.stdout)
}
