//! The release binary as a process of this machine, with the rights of the chart's ServiceAccount.
//!
//! Must not know what is measured. It is told by its own log when it leads; that line is the start of
//! every clock.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::oneshot,
    time::timeout,
};

use super::now;

/// How to run it.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The program.
    pub program: PathBuf,
    /// Kubeconfig with the token of its account.
    pub kubeconfig: PathBuf,
    /// Where it logs; a start overwrites the log of the last.
    pub log: PathBuf,
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    pid: u32,
    /// When the process was started.
    pub started: Timestamp,
    /// When it took the Lease.
    pub leads: Leads,
}

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Leads {
    /// For differences.
    pub instant: Instant,
    /// For comparing with the audit log.
    pub timestamp: Timestamp,
}

/// How long a candidate may take: the Lease of one that was killed has to run out.
const LEADING: Duration = Duration::from_secs(40);
/// How long a stop may take.
const STOPPING: Duration = Duration::from_secs(20);

impl Operator {
    /// Starts it and waits until it leads.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not lead in time.
    pub async fn start(binary: &Binary) -> Result<Self> {
        let mut command = Command::new(&binary.program);
        command
            .args(["run", "--metrics-address=127.0.0.1:0", "--probe-address=127.0.0.1:0", "--log-format=json"])
            .arg("--allow-loopback-connections")
            .arg("--kubeconfig")
            .arg(&binary.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.program.display()))?;
        let pid = child.id().context("the operator ended at once")?;
        let log = child.stderr.take().context("the operator has no log")?;
        let file = File::create(&binary.log).await.with_context(|| format!("cannot write {}", binary.log.display()))?;
        let (tell, leads) = oneshot::channel();
        tokio::spawn(follow(log, file, tell));
        match timeout(LEADING, leads).await {
            Ok(Ok(leads)) => Ok(Self { child, pid, started, leads }),
            Ok(Err(_)) => bail!("the operator ended before it led; {}", end_of(&binary.log)),
            Err(_) => bail!("the operator does not lead within {} s; {}", LEADING.as_secs(), end_of(&binary.log)),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it as a kubelet would and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM).context("the operator has ended by itself")?;
        let status = timeout(STOPPING, self.child.wait()).await.context("the operator does not stop")??;
        anyhow::ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }
}

/// Copies the log into its file and tells when the line comes that says it leads.
async fn follow(log: ChildStderr, mut file: File, tell: oneshot::Sender<Leads>) {
    let mut tell = Some(tell);
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if is_leading(&line)
            && let Some(tell) = tell.take()
        {
            let _ = tell.send(Leads { instant: Instant::now(), timestamp: now() });
        }
        // Only for reading when something went wrong.
        let _ = file.write_all(format!("{line}\n").as_bytes()).await;
        let _ = file.flush().await;
    }
}

fn is_leading(line: &str) -> bool {
    let line: Option<serde_json::Value> = serde_json::from_str(line).ok();
    line.is_some_and(|line| line.get("msg").is_some_and(|message| message == "leading"))
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("the end of its log:\n{}", lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_about_leading_starts_the_clock() {
        assert!(is_leading(r#"{"ts":"2026-11-25T22:00:00Z","level":"INFO","msg":"leading","lease":"a"}"#));
        assert!(!is_leading(r#"{"ts":"2026-11-25T22:00:00Z","level":"INFO","msg":"not leading","lease":"leading"}"#));
        assert!(!is_leading("leading"));
    }
}
