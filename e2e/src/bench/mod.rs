//! The benchmark: what the operator costs a cluster, against the raw limit of the same machine.
//!
//! Runs the release binary with the rights of the chart's account. `cargo xtask bench` prepares the cluster
//! and starts it; docs/reference/performance.md says what each figure means. One module an idea:
//! `stage` is where it plays, `load` and `town` the objects, `operator` the process, `window` what a stretch of time
//! cost, `audit`, `proxy` and `procfs` what is counted, `issue`, `bind`, `quiet`, `one` and `memory` the cases,
//! `figures` the report.

mod audit;
mod bind;
mod figures;
mod issue;
mod load;
mod memory;
mod one;
mod operator;
mod procfs;
mod proxy;
mod quiet;
mod raw;
mod simulation;
mod stage;
mod town;
mod window;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::env::Env;
use figures::Figures;
use stage::Stage;

/// What to measure, with what.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The operator's release binary
    #[arg(long, env = "COUNTERSIGN_BINARY", value_name = "FILE")]
    binary: PathBuf,
    /// Folder for credentials and logs
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Process id of kube-apiserver
    #[arg(long, default_value_t = 0, value_name = "PID")]
    api_server: u32,
    /// Process id of etcd
    #[arg(long, default_value_t = 0, value_name = "PID")]
    etcd: u32,
    /// What the simulator printed
    #[arg(long, value_name = "FILE")]
    simulation: Option<PathBuf>,
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only the cases whose names begin so
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// A case: some figures that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Simulate,
    Network,
    Raw,
    IssueEmbedded,
    IssueVault,
    Renew,
    Bind,
    Kv,
    Idle,
    Restart,
    One,
    Start,
    /// Last: what it stores is left to the end of the cluster.
    Memory,
}

impl Case {
    const ALL: [Self; 13] = [
        Self::Simulate,
        Self::Network,
        Self::Raw,
        Self::IssueEmbedded,
        Self::IssueVault,
        Self::Renew,
        Self::Bind,
        Self::Kv,
        Self::Idle,
        Self::Restart,
        Self::One,
        Self::Start,
        Self::Memory,
    ];

    /// What the names of its figures begin with.
    fn name(self) -> &'static str {
        match self {
            Self::Simulate => "simulate",
            Self::Network => "network",
            Self::Raw => "raw",
            Self::IssueEmbedded => "issue.embedded",
            Self::IssueVault => "issue.vault",
            Self::Renew => "renew",
            Self::Bind => "bind",
            Self::Kv => "kv",
            Self::Idle => "idle",
            Self::Restart => "restart",
            Self::One => "one",
            Self::Start => "start_ms",
            Self::Memory => "rss_mib",
        }
    }

    /// The cases that `only` asks for, by the start of their name or by one of their figures; all without it.
    fn chosen(only: Option<&str>) -> Vec<Self> {
        let only = only.unwrap_or_default();
        let wanted = |case: &Self| case.name().starts_with(only) || only.starts_with(case.name());
        Self::ALL.into_iter().filter(wanted).collect()
    }
}

/// Measures, prints the table and writes the JSON.
///
/// # Errors
/// When something cannot be measured, or a count is above its hard limit.
pub async fn run(options: &Options) -> Result<()> {
    let cases = Case::chosen(options.only.as_deref());
    if cases.is_empty() {
        let names: Vec<&str> = Case::ALL.into_iter().map(Case::name).collect();
        bail!("no case has such a name; there are {}", names.join(", "));
    }
    let mut figures = Figures::default();
    let in_core = |case: &Case| matches!(case, Case::Simulate | Case::Network);
    if cases.iter().any(in_core) {
        let file = options.simulation.as_ref().context("--simulation is missing")?;
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        of_core(&cases, &text, &mut figures)?;
    }
    let played = if cases.iter().all(in_core) { Ok(()) } else { play(&cases, options, &mut figures).await };
    // What was measured before something failed is still worth reading.
    println!("\n{figures}");
    played?;
    if let Some(file) = &options.json {
        std::fs::write(file, figures.json()?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let broken = figures.broken();
    if !broken.is_empty() {
        bail!("above the hard limit: {}", broken.join(", "));
    }
    Ok(())
}

fn of_core(cases: &[Case], text: &str, figures: &mut Figures) -> Result<()> {
    let load = procfs::load_average()?;
    if cases.contains(&Case::Simulate) {
        let simulated = simulation::parse(text)?;
        figures.set("simulate.schedules_per_second", simulated.schedules_per_second, load)?;
        figures.set("simulate.violations", simulated.violations, load)?;
    }
    if cases.contains(&Case::Network) {
        let network = simulation::network(text)?;
        figures.set("network.compile_ms", network.pass_ms, load)?;
        figures.set("network.resync_writes", network.resync_writes, load)?;
        figures.set("network.objects_written_per_edge_edit", network.objects_an_edge, load)?;
    }
    Ok(())
}

async fn play(cases: &[Case], options: &Options, figures: &mut Figures) -> Result<()> {
    let env = Env::read()?;
    let stage = Stage::set(&env, options).await?;
    if cases != [Case::Raw] {
        stage.warm_up().await?;
    }
    let has = |case: Case| cases.contains(&case);
    if has(Case::Raw) {
        raw::best_of_three(&stage, figures).await?;
    }
    if has(Case::IssueEmbedded) {
        issue::embedded(&stage, figures).await?;
    }
    if has(Case::IssueVault) {
        issue::vault(&stage, figures).await?;
    }
    if has(Case::Renew) {
        issue::renew(&stage, figures).await?;
    }
    if has(Case::Bind) {
        bind::first(&stage, figures).await?;
    }
    if has(Case::Kv) {
        bind::unchanged(&stage, figures).await?;
    }
    if has(Case::Idle) || has(Case::Restart) {
        quiet::measure(&stage, figures, has(Case::Idle), has(Case::Restart)).await?;
    }
    if has(Case::One) {
        one::measure(&stage, figures).await?;
    }
    if has(Case::Start) {
        quiet::start(&stage, figures).await?;
    }
    if has(Case::Memory) {
        memory::measure(&stage, figures).await?;
    }
    Ok(())
}

/// The time, for comparing with that of the audit log.
#[expect(clippy::disallowed_methods, reason = "a measurement is about the real clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_chooses_the_cases_that_begin_with_it() {
        assert_eq!(Case::chosen(None), Case::ALL);
        assert_eq!(Case::chosen(Some("issue")), [Case::IssueEmbedded, Case::IssueVault]);
        assert_eq!(Case::chosen(Some("rss_mib")), [Case::Memory]);
        assert_eq!(Case::chosen(Some("one.p99_ms")), [Case::One]);
        assert_eq!(Case::chosen(Some("bind.per_second")), [Case::Bind]);
        assert_eq!(Case::chosen(Some("rotation")), []);
    }

    #[test]
    fn every_case_has_figures_and_every_figure_a_case() {
        let names: Vec<&str> = Case::ALL.into_iter().map(Case::name).collect();
        for key in figures::KEYS {
            let shared = key.name == "load_average"
                || ["api_writes", "refused", "events"]
                    .iter()
                    .any(|part| key.name.strip_prefix("issue.").is_some_and(|rest| rest.starts_with(part)));
            assert!(shared || names.iter().any(|name| key.name.starts_with(name)), "{}", key.name);
        }
        for name in names {
            assert!(figures::KEYS.iter().any(|key| key.name.starts_with(name)), "{name}");
        }
    }
}
