//! `cargo xtask openbao`: a real OpenBao server beside a local cluster, as a process of the host.
//!
//! It is not a development server: it has TLS, storage, a root token and an unseal key, so it can be sealed, stopped and
//! started again like a real one. It listens on the host's end of the link to the node, or on loopback without a node, and
//! nowhere else. Tokens and keys stay in files only their owner can read and never stand in an argument.

mod setup;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::Signal;
use serde::Deserialize;

use crate::cache::Cache;
use crate::cluster::IndexArgs;
use crate::cluster::env::{Env, OpenBaoEnv};
use crate::cluster::kubectl::Kubectl;
use crate::cluster::launch::{Site, spawn};
use crate::cluster::place::Run;
use crate::cluster::record::Process;
use crate::files;
use crate::pki::{Authority, Usage};
use crate::process::{SEARCH_PATH, capture, feed, lock, poll, tail};

/// Arguments of `cargo xtask openbao`.
#[derive(Debug, Args)]
pub struct OpenbaoArgs {
    #[command(subcommand)]
    command: OpenbaoCommand,
    #[command(flatten)]
    index: IndexArgs,
}

#[derive(Debug, Subcommand)]
enum OpenbaoCommand {
    /// Start, unseal and set it up for the operator; does only what is missing
    Up,
    /// Stop it; what it stores is kept until `cluster down --purge`
    Down,
    /// Seal it: it keeps running and answers 503
    Seal,
    /// Unseal it
    Unseal,
}

/// Runs one subcommand.
pub fn main(args: &OpenbaoArgs, cache: &Cache) -> Result<()> {
    let run = Run::new(cache, args.index.place()?);
    let mut env = Env::read(&run.env()).context("the cluster is not up; `cargo xtask cluster up` starts one")?;
    let _lock = lock(&run.openbao().join("lock"), "this OpenBao")?;
    let server = Server::new(&run, &env)?;
    match args.command {
        OpenbaoCommand::Up => {
            server.start()?;
            server.unseal()?;
            let kubectl = Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), run.dir());
            server.setup(&kubectl)?;
            env.openbao = Some(server.env());
            env.write(&run.env())?;
            println!("OpenBao is up: {}", server.url());
        }
        OpenbaoCommand::Down => {
            env.openbao = None;
            env.write(&run.env())?;
            server.stop()?;
            println!("OpenBao is down");
        }
        OpenbaoCommand::Seal => {
            server.seal()?;
            println!("OpenBao is sealed");
        }
        OpenbaoCommand::Unseal => {
            server.unseal()?;
            println!("OpenBao is unsealed");
        }
    }
    Ok(())
}

/// The OpenBao server of one cluster, running or not.
pub struct Server {
    program: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    record: PathBuf,
    address: SocketAddr,
}

/// How a server answers a question about its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seal {
    Unreachable,
    Sealed,
    Unsealed,
}

impl Server {
    /// The server of that cluster; its address stays the same from start to start.
    pub fn new(run: &Run, env: &Env) -> Result<Self> {
        let dir = run.openbao();
        files::create_folder(&dir)?;
        let kept = dir.join("address");
        let address = match (&env.host_address, fs::read_to_string(&kept)) {
            (_, Ok(address)) => address,
            (Some(host), Err(_)) => format!("{host}:8200"),
            (None, Err(_)) => format!("127.0.0.1:{}", free_port()?),
        };
        files::write(&kept, &address)?;
        Ok(Self {
            program: env.programs.bao.clone(),
            log: run.log("openbao"),
            record: run.guests().join("openbao"),
            address: address.trim().parse().with_context(|| format!("{} holds no address", kept.display()))?,
            dir,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Starts the process unless it runs; it comes up sealed.
    pub fn start(&self) -> Result<()> {
        if self.process().is_some() {
            return Ok(());
        }
        let data = self.dir.join("data");
        files::create_folder(&data)?;
        if !self.dir.join("server.key").exists() {
            self.make_certificates()?;
        }
        let config = self.dir.join("config.json");
        files::write(&config, self.config(free_port()?))?;
        let args = ["server".to_owned(), format!("-config={}", config.display())];
        let (mut child, _) =
            spawn(&Command::new(&self.program), &self.env_vars(), &args, &self.log, &self.record, Site::Host)?;
        let answers = poll(Duration::from_secs(30), || {
            if let Some(status) = child.try_wait()? {
                bail!("OpenBao ended ({status}); the end of its log:\n{}", self.log_end());
            }
            Ok(self.seal_state()? != Seal::Unreachable)
        })?;
        if !answers {
            bail!("OpenBao does not answer within 30 s; the end of its log:\n{}", self.log_end());
        }
        Ok(())
    }

    /// Ends the process, with time to finish its writes; does nothing if it does not run.
    pub fn stop(&self) -> Result<()> {
        let Some(process) = self.process() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        if !poll(Duration::from_secs(10), || Ok(!process.is_running()))? {
            process.signal(Signal::KILL)?;
        }
        files::remove(&self.record)
    }

    /// Seals it: every request but those about the seal is answered 503.
    pub fn seal(&self) -> Result<()> {
        capture(self.authorized()?.args(["operator", "seal"])).context("cannot seal OpenBao").map(drop)
    }

    /// Unseals it, making root token and unseal key the first time, and waits until it serves requests.
    pub fn unseal(&self) -> Result<()> {
        if !self.unseal_key_file().exists() {
            self.initialize()?;
        }
        match self.seal_state()? {
            Seal::Unreachable => bail!("OpenBao does not run; `cargo xtask openbao up` starts it"),
            Seal::Unsealed => {}
            Seal::Sealed => {
                let key = fs::read(self.unseal_key_file()).context("cannot read the unseal key")?;
                feed(self.command().args(["write", "sys/unseal", "key=-"]), &key).context("cannot unseal OpenBao")?;
            }
        }
        let serves = poll(Duration::from_secs(30), || {
            Ok(capture(self.authorized()?.args(["token", "lookup", "-format=json"])).is_ok())
        })?;
        if !serves {
            bail!("OpenBao does not serve requests within 30 s; the end of its log:\n{}", self.log_end());
        }
        Ok(())
    }

    /// What tests are told about it.
    pub fn env(&self) -> OpenBaoEnv {
        OpenBaoEnv {
            address: self.url(),
            ca_file: self.ca_file(),
            root_token_file: self.root_token_file(),
            unseal_key_file: self.unseal_key_file(),
            record_file: self.record_file(),
        }
    }

    fn initialize(&self) -> Result<()> {
        #[derive(Deserialize)]
        struct Keys {
            unseal_keys_b64: Vec<String>,
            root_token: String,
        }
        let mut command = self.command();
        command.args(["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"]);
        let keys: Keys = serde_json::from_str(&capture(&mut command).context("cannot initialize OpenBao")?)
            .context("OpenBao answered its initialization in an unknown form")?;
        let unseal_key = keys.unseal_keys_b64.first().context("OpenBao made no unseal key")?;
        files::write_private(self.root_token_file(), &keys.root_token)?;
        files::write_private(self.unseal_key_file(), unseal_key)
    }

    fn make_certificates(&self) -> Result<()> {
        let authority = Authority::new("local OpenBao CA")?;
        // The authority's key is dropped here: nobody can sign for this server again.
        files::write(self.ca_file(), authority.pair().certificate)?;
        let names = [self.address.ip().to_string(), "127.0.0.1".into(), "localhost".into(), "host.node.test".into()];
        authority.issue("openbao", None, Usage::Server, &names)?.write(&self.dir, "server")
    }

    fn config(&self, cluster_port: u16) -> String {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let config = serde_json::json!({
            // The smallest multiplier: a single server need not wait long for rivals in its own election.
            "storage": {"raft": {"path": path("data"), "node_id": "single", "performance_multiplier": "1"}},
            "listener": {"tcp": {
                "address": self.address.to_string(),
                "cluster_address": format!("127.0.0.1:{cluster_port}"),
                "tls_cert_file": path("server.crt"),
                "tls_key_file": path("server.key"),
            }},
            "api_addr": self.url(),
            "cluster_addr": format!("https://127.0.0.1:{cluster_port}"),
            "ui": false,
            // The record is the judge of what the operator asks for: no value is in it, only its hash.
            "audit": [{"type": "file", "path": "record", "options": {"file_path": self.record_file(), "mode": "0600"}}],
        });
        format!("{config:#}\n")
    }

    fn process(&self) -> Option<Process> {
        Process::read(&self.record)
    }

    fn seal_state(&self) -> Result<Seal> {
        let mut command = self.command();
        command.arg("status").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The command's documented exit codes: 0 unsealed, 2 sealed, 1 error.
        Ok(match command.status().context("cannot start bao")?.code() {
            Some(0) => Seal::Unsealed,
            Some(2) => Seal::Sealed,
            _ => Seal::Unreachable,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env_vars());
        command
    }

    fn authorized(&self) -> Result<Command> {
        let token = files::read(self.root_token_file())?;
        let mut command = self.command();
        command.env("BAO_TOKEN", token);
        Ok(command)
    }

    fn env_vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PATH", SEARCH_PATH.to_owned()),
            ("HOME", self.dir.display().to_string()),
            ("BAO_ADDR", self.url()),
            ("BAO_CACERT", self.ca_file().display().to_string()),
        ]
    }

    fn log_end(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default(), 30)
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    fn root_token_file(&self) -> PathBuf {
        self.dir.join("root-token")
    }

    fn record_file(&self) -> PathBuf {
        self.dir.join("record.jsonl")
    }

    fn unseal_key_file(&self) -> PathBuf {
        self.dir.join("unseal-key")
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback")?;
    Ok(listener.local_addr().context("no free port on loopback")?.port())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn it_listens_on_its_one_address_with_tls_and_its_cluster_port_on_loopback() {
        let server = Server {
            program: "/bao".into(),
            dir: "/run".into(),
            log: "/log".into(),
            record: "/record".into(),
            address: "10.250.3.1:8200".parse().unwrap(),
        };
        let config: Value = serde_json::from_str(&server.config(4444)).unwrap();
        let listener = &config["listener"]["tcp"];
        assert_eq!(listener["address"], "10.250.3.1:8200");
        assert_eq!(listener["cluster_address"], "127.0.0.1:4444");
        assert!(listener["tls_disable"].is_null() && listener["tls_key_file"].is_string());
        assert_eq!(config["api_addr"], "https://10.250.3.1:8200");
    }
}
