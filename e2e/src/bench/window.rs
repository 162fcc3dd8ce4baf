//! What a stretch of time cost: requests, Vault requests, CPU and memory between two moments.
//!
//! Must not know what happened in between.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::{
    audit::{AuditLog, Counts, Kind, Request},
    figures::per,
    procfs::{self, Memory},
    proxy,
    stage::{Stage, operator_user},
};

/// Without a request for so long, the operator has nothing more to do.
const SILENCE: Duration = Duration::from_secs(3);
/// By then it must be silent.
const SILENT_BY: Duration = Duration::from_secs(60);

/// A stretch of time that has begun.
pub struct Window<'a> {
    stage: &'a Stage,
    audit: AuditLog,
    vault: proxy::Counts,
    cpu: Cpu,
    requests: Vec<Request>,
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy)]
struct Cpu {
    operator: f64,
    api_server: f64,
    etcd: f64,
}

/// What it cost.
#[derive(Debug)]
pub struct Spent {
    /// What the operator asked, in the order of the log.
    pub requests: Vec<Request>,
    /// The same, counted.
    pub counts: Counts,
    /// What OpenBao was asked.
    pub vault: proxy::Counts,
    /// CPU seconds of the operator.
    pub operator: f64,
    /// CPU seconds of the API server.
    pub api_server: f64,
    /// CPU seconds of etcd.
    pub etcd: f64,
    /// The operator's memory at the end.
    pub memory: Memory,
}

impl<'a> Window<'a> {
    /// Begins now; with the process id of the operator if it runs already.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn open(stage: &'a Stage, operator: Option<u32>) -> Result<Self> {
        let (audit, vault, cpu) = (stage.audit()?, stage.proxy.counts(), Cpu::of(stage, operator)?);
        Ok(Self { stage, audit, vault, cpu, requests: Vec::new() })
    }

    /// Waits until the operator has asked nothing of the API server for three seconds.
    ///
    /// Election and fence do not count, they never rest; nor does OpenBao, nothing comes of it without a write.
    ///
    /// # Errors
    /// When it does not come to rest within a minute.
    pub async fn silence(&mut self) -> Result<()> {
        let (started, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < SILENCE {
            if started.elapsed() > SILENT_BY {
                bail!("the operator does not come to rest: {}", breakdown(&self.requests));
            }
            sleep(Duration::from_millis(50)).await;
            if self.read()? {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// Waits until the operator has asked for something that `is_it`, and returns that.
    ///
    /// # Errors
    /// When it has not within a minute.
    pub async fn first(&mut self, is_it: impl Fn(&Request) -> bool) -> Result<Request> {
        let started = Instant::now();
        loop {
            self.read()?;
            if let Some(request) = self.requests.iter().find(|request| is_it(request)) {
                return Ok(request.clone());
            }
            if started.elapsed() > SILENT_BY {
                bail!("the operator did not do what was waited for: {}", breakdown(&self.requests));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends now; `operator` is the process that runs.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn close(mut self, operator: u32) -> Result<Spent> {
        self.read()?;
        let cpu = Cpu::of(self.stage, Some(operator))?;
        Ok(Spent {
            counts: Counts::of(&self.requests, &operator_user()),
            requests: self.requests,
            vault: self.stage.proxy.counts() - self.vault,
            operator: cpu.operator - self.cpu.operator,
            api_server: cpu.api_server - self.cpu.api_server,
            etcd: cpu.etcd - self.cpu.etcd,
            memory: procfs::memory(operator)?,
        })
    }

    /// Whether the operator asked for anything since the last look.
    fn read(&mut self) -> Result<bool> {
        let user = operator_user();
        let before = self.requests.len();
        let new = self.audit.read()?;
        let regular = |request: &Request| matches!(request.kind, Kind::Lease | Kind::Probe);
        self.requests.extend(new.into_iter().filter(|request| request.user == user && !regular(request)));
        Ok(self.requests.len() > before)
    }
}

impl Cpu {
    fn of(stage: &Stage, operator: Option<u32>) -> Result<Self> {
        let seconds = |pid: u32| procfs::cpu(pid).map(|cpu| cpu.as_secs_f64());
        let processes = stage.processes;
        Ok(Self {
            operator: operator.map_or(Ok(0.0), seconds)?,
            api_server: seconds(processes.api_server)?,
            etcd: seconds(processes.etcd)?,
        })
    }
}

impl Spent {
    /// CPU milliseconds of everyone for each of `count` objects.
    pub fn cpu_ms(&self, count: u32) -> f64 {
        (self.operator + self.api_server + self.etcd) * 1000.0 / f64::from(count)
    }

    /// One line for a person, by object.
    pub fn describe(&self, count: u32) -> String {
        let ms = |seconds: f64| seconds * 1000.0 / f64::from(count);
        let mut text = format!(
            "CPU ms an object: operator {:.1}, API server {:.1}, etcd {:.1}; ",
            ms(self.operator),
            ms(self.api_server),
            ms(self.etcd)
        );
        let Counts { reads, lists, writes, refused_writes, events } = self.counts;
        let each = |total: u64| per(total, count);
        let _ = write!(
            text,
            "writes {:.3}, refused {:.3}, events {:.3}, reads {:.3}, lists in all {lists}; Vault signatures {:.3}, others in all {}; peak {:.1} MiB; {}",
            each(writes),
            each(refused_writes),
            each(events),
            each(reads),
            each(self.vault.signatures),
            self.vault.total() - self.vault.signatures,
            self.memory.peak,
            breakdown(&self.requests),
        );
        text
    }
}

/// How many requests of which kind for what.
pub fn breakdown(requests: &[Request]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for request in requests {
        let kind = match request.kind {
            Kind::Read => "read",
            Kind::List => "list",
            Kind::Watch => "watch",
            Kind::Write if request.refused => "refused write",
            Kind::Write => "write",
            Kind::Event | Kind::Lease | Kind::Probe | Kind::Ask => "ask",
        };
        *counts.entry(format!("{kind} {}", request.resource)).or_default() += 1;
    }
    counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}
