//! The operator's process: the unchanged release binary, started again whenever it ends.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use rustix::process::Pid;
use serde_json::json;
use tokio::{process::Command, sync::oneshot, task::JoinHandle};

use super::{call::OPERATOR_NAMESPACE, wire::Wire};

/// Life of the leader Lease: the shortest there is, so that a killed process is soon replaced.
pub const LEASE_DURATION: Duration = Duration::from_secs(3);
/// How long a leader goes on without a renewal.
pub const LEASE_GRACE: Duration = Duration::from_secs(2);
/// How often a process may end by itself before its lane is given up.
const MOST_SURPRISES: usize = 20;

/// How to run it.
#[derive(Clone)]
pub struct Settings {
    /// The binary.
    pub binary: PathBuf,
    /// Folder for kubeconfigs and logs.
    pub folder: PathBuf,
    /// Lane, for the names of files and the Lease.
    pub lane: String,
    /// `https://127.0.0.1:port` of the proxy.
    pub server: String,
    /// Authority of the proxy, PEM.
    pub authority: String,
    /// Token of the chart's ServiceAccount.
    pub token: String,
    /// By what waiting times are divided.
    pub time_scale: u32,
}

/// A running operator; ends when stopped or dropped.
pub struct Operator {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<()>>,
}

impl Operator {
    /// Starts it, and keeps it running.
    pub fn start(settings: Settings, wire: Arc<Wire>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), task: tokio::spawn(live(settings, wire, stopped)) }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it could not be kept running.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            // Without a receiver it has given up already, which the task's result tells.
            let _ = stop.send(());
        }
        (&mut self.task).await.context("the operator's watcher failed")?
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(settings: Settings, wire: Arc<Wire>, mut stopped: oneshot::Receiver<()>) -> Result<()> {
    let mut surprises = 0;
    for number in 1_u32.. {
        let kubeconfig = settings.kubeconfig(number)?;
        let mut child = settings.command(&kubeconfig)?.spawn().context("the operator cannot be started")?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        wire.born(number, pid);
        tokio::select! {
            status = child.wait() => {
                let expected = wire.state().killed;
                wire.died(&status.map_or_else(|error| error.to_string(), |status| status.to_string()));
                if !expected {
                    surprises += 1;
                    anyhow::ensure!(surprises < MOST_SURPRISES, "the operator ended by itself {surprises} times");
                    // As a kubelet would: not at once, and not in a tight loop.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            _ = &mut stopped => {
                wire.kill();
                child.wait().await.context("the operator does not end")?;
                wire.died("");
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Settings {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("lane-{}-{name}", self.lane))
    }

    /// A kubeconfig whose server's path tells the proxy which process asks.
    fn kubeconfig(&self, number: u32) -> Result<PathBuf> {
        let path = self.path("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {
                "server": format!("{}/p{number}", self.server),
                "certificate-authority-data": BASE64.encode(self.authority.as_bytes()),
            }}],
            "users": [{"name": "operator", "user": {"token": self.token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        });
        let mut file = private(&path)?;
        file.write_all(text.to_string().as_bytes()).context("cannot write a kubeconfig")?;
        Ok(path)
    }

    fn command(&self, kubeconfig: &Path) -> Result<Command> {
        let log = OpenOptions::new().append(true).create(true).open(self.path("operator.log")).context("no log")?;
        let mut command = Command::new(&self.binary);
        command.env_clear().arg("run").arg("--kubeconfig").arg(kubeconfig);
        command.args(["--operator-namespace", OPERATOR_NAMESPACE, "--service-account", "countersign"]);
        command.args(["--lease-name", &lease(&self.lane)]);
        command.arg(format!("--lease-duration={}s", LEASE_DURATION.as_secs()));
        command.arg(format!("--lease-grace={}s", LEASE_GRACE.as_secs()));
        command.arg(format!("--time-scale={}", self.time_scale));
        command.args(["--probe-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0", "--allow-loopback-connections"]);
        command.args(["--log-format=json", "--log-level=info"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(command)
    }
}

/// Name of a lane's Lease.
pub fn lease(lane: &str) -> String {
    format!("crash-{lane}")
}

fn private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).with_context(|| format!("cannot write {}", path.display()))
}
