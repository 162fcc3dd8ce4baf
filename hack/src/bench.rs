//! `cargo xtask bench`: measures the operator in a fresh local cluster.
//!
//! Prepares only: programs, control plane, OpenBao, release builds, the simulator's output. What is
//! measured, and how, is in `e2e/src/bench`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cache::Cache;
use crate::cargo::{cargo, executable};
use crate::cluster::env::Env;
use crate::cluster::kubectl::Kubectl;
use crate::cluster::place::{Layer, Place, Run};
use crate::cluster::record::Process;
use crate::cluster::{self};
use crate::files;
use crate::openbao::Server;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only the figures whose names begin so, such as `issue.vault` or `idle`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Index of the cluster that the benchmark starts; people use the lower ones.
const INDEX: u8 = 7;

/// Measures and prints; fails if a count is above its limit.
pub fn main(args: &BenchArgs, cache: &Cache) -> Result<()> {
    let place = Place::new(INDEX).context("there is no cluster of that number")?;
    let run = Run::new(cache, place);
    let target = build()?;
    let in_core: Vec<&Core> = CORE.iter().filter(|core| wants(args, core.case)).collect();
    let simulated: Option<String> =
        (!in_core.is_empty()).then(|| in_core.iter().map(|core| core.run()).collect()).transpose()?;
    if args.only.as_deref().is_some_and(|only| CORE.iter().any(|core| only.starts_with(core.case))) {
        files::create_folder(run.dir())?;
        return measure(args, &run, &target, simulated.as_deref(), &[]);
    }
    cluster::build(cache, Layer::L0)?;
    // Whatever an interrupted run has left would be measured too.
    cluster::stop(cache, place)?;
    let measured = prepared(args, cache, place, &run, &target, simulated.as_deref());
    cluster::stop(cache, place)?;
    measured
}

/// Whether the figures of a case are asked for.
fn wants(args: &BenchArgs, case: &str) -> bool {
    args.only.as_deref().is_none_or(|only| case.starts_with(only) || only.starts_with(case))
}

fn prepared(
    args: &BenchArgs,
    cache: &Cache,
    place: Place,
    run: &Run,
    target: &Target,
    simulated: Option<&str>,
) -> Result<()> {
    cluster::start(cache, Layer::L0, place)?;
    let mut env = Env::read(&run.env()).context("the cluster is not up")?;
    let server = Server::new(run, &env)?;
    server.start()?;
    server.unseal()?;
    server.setup(&Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), run.dir()))?;
    env.openbao = Some(server.env());
    env.write(&run.env())?;
    let pid = |name: &str| -> Result<String> {
        let process = Process::read(&run.pids().join(name)).with_context(|| format!("{name} does not run"))?;
        Ok(process.pid().to_string())
    };
    let (api_server, etcd) = (pid("kube-apiserver")?, pid("etcd")?);
    measure(args, run, target, simulated, &["--api-server", &api_server, "--etcd", &etcd])
}

fn measure(args: &BenchArgs, run: &Run, target: &Target, simulated: Option<&str>, more: &[&str]) -> Result<()> {
    let work = run.dir().join("bench");
    files::create_folder(&work)?;
    let mut bench = Command::new(&target.bench);
    bench
        .env("COUNTERSIGN_TEST_ENV", run.env())
        .env("COUNTERSIGN_BINARY", &target.operator)
        .arg("--work")
        .arg(&work)
        .args(more)
        .stdin(Stdio::null());
    if let Some(simulated) = simulated {
        let file = work.join("simulation.txt");
        files::write(&file, simulated)?;
        bench.arg("--simulation").arg(file);
    }
    if let Some(json) = &args.json {
        bench.arg("--json").arg(std::path::absolute(json).context("the JSON file is not a usable path")?);
    }
    if let Some(only) = &args.only {
        bench.arg("--only").arg(only);
    }
    if !bench.status().context("the benchmark cannot be started")?.success() {
        bail!("the benchmark failed");
    }
    Ok(())
}

/// The release builds.
struct Target {
    operator: PathBuf,
    bench: PathBuf,
}

/// Builds them; cargo itself says where they are.
fn build() -> Result<Target> {
    let mut command = cargo(&["build", "--release", "--message-format=json-render-diagnostics"]);
    command.args(["--package", "countersign", "--bin", "countersign"]);
    command.args(["--package", "countersign-e2e", "--bin", "bench"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the release build failed");
    }
    let messages = String::from_utf8(output.stdout).context("cargo printed something that is not text")?;
    let built = |name: &str| executable(&messages, name).with_context(|| format!("cargo did not build {name}"));
    Ok(Target { operator: built("countersign")?, bench: built("bench")? })
}

/// A test of `core` that measures something.
struct Core {
    /// What its figures begin with.
    case: &'static str,
    /// The target of cargo.
    target: &'static str,
    /// The test in it.
    test: &'static str,
}

const CORE: [Core; 2] = [
    Core { case: "simulate", target: "simulate", test: "no_schedule_breaks_a_promise" },
    Core { case: "network", target: "scale", test: "a_large_cluster_costs_what_changes" },
];

impl Core {
    /// Runs it before anything else shares the cores, and returns what it printed.
    fn run(&self) -> Result<String> {
        let mut command = cargo(&["test", "--release", "--package", "countersign-core", "--features", "load"]);
        command.args(["--test", self.target, "--", "--nocapture", self.test]);
        // A broken promise makes it fail, and is a figure like any other.
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo cannot be started")?;
        String::from_utf8(output.stdout).context("a test printed something that is not text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_wanted_by_the_start_of_its_name_or_one_of_its_figures() {
        let args = |only: Option<&str>| BenchArgs { json: None, only: only.map(str::to_owned) };
        assert!(wants(&args(None), "simulate"));
        assert!(wants(&args(Some("sim")), "simulate"));
        assert!(wants(&args(Some("simulate.violations")), "simulate"));
        assert!(!wants(&args(Some("issue")), "simulate"));
    }
}
