//! `cargo xtask e2e`: the release binary and the chart on a whole cluster, judged from outside.
//!
//! `cargo xtask crash`: the same binary behind a proxy that fails at each of its calls, one after another, and one that
//! answers everything a server can answer.
//!
//! Brings up a cluster with enforced NetworkPolicy, OpenBao and our images, runs the tests of `e2e/`, and ends all of
//! it. The tests know nothing of this file; they are told about the cluster by `COUNTERSIGN_TEST_ENV`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::cache::Cache;
use crate::cargo::cargo;
use crate::cluster::place::{Layer, Place, Run};
use crate::cluster::{self};
use crate::image;
use crate::process::{capture, find};
use crate::stage::{Counts, FEATURES, INDEX, counted};

/// The targets of `countersign-e2e` that need a node, in their order; those of one step run beside each other. `truth` does
/// not concern the operator, and `whole_run` looks back at all the others.
const NODE_TARGETS: [&[&[&str]]; 3] =
    [&[&["lifecycle", "operator", "traffic"]], &[&["walls"], &["truth"]], &[&["whole_run"]]];

/// What judges certificates in the end-to-end tests, with the Debian package of each.
const JUDGES: [(&str, &str); 2] = [("openssl", "openssl"), ("java", "default-jdk-headless")];

/// Arguments of `cargo xtask crash`.
#[derive(Debug, clap::Args)]
pub struct CrashArgs {
    /// Replay this one, as a run has named it: issue.W01.lost.kill
    plan: Option<String>,
}

/// The tests on a node; fails if one did.
pub fn main(cache: &Cache) -> Result<()> {
    let started = Instant::now();
    node(cache, Place::new(INDEX).context("there is no cluster of that number")?)?.conclude(started)
}

/// The crash plans; fails if one did.
pub fn crash_main(args: &CrashArgs, cache: &Cache) -> Result<()> {
    let started = Instant::now();
    let place = Place::new(INDEX).context("there is no cluster of that number")?;
    crash(cache, place, args.plan.as_deref())?.conclude(started)
}

/// The release binary and the chart on a whole node.
pub fn node(cache: &Cache, place: Place) -> Result<Counts> {
    let started = Instant::now();
    println!("\n== a cluster with a node, OpenBao and our images");
    install_judges()?;
    cluster::build(cache, Layer::L2)?;
    let [operator, shop] = image::pack_all(cache)?;
    let (binary, images) = (operator.binary, [operator.tar, shop.tar]);
    cluster::start(cache, Layer::L2, place)?;
    let result = furnish(cache, place, &images).and_then(|()| {
        println!("ok it is up ({} s)", started.elapsed().as_secs());
        let tests = |targets: &[&str]| {
            let mut tests = cargo(&["test", "--workspace", "--no-fail-fast", "--features", &features()]);
            tests.args(targets.iter().flat_map(|target| ["--test", target]));
            // The tests mostly wait, so more of them at once than there are cores.
            tests.args(["--", "--test-threads=16"]).env("COUNTERSIGN_TEST_ENV", Run::new(cache, place).env());
            // One test runs the operator beside the cluster, to kill it when it writes.
            tests.env("COUNTERSIGN_BINARY", &binary);
            // Where a test went wrong is in its words; a stack of asynchronous calls would only hide them.
            tests.env("RUST_BACKTRACE", "0");
            counted(&format!("end to end: {}", targets.join(", ")), &mut tests)
        };
        let mut counts = Counts::default();
        for step in NODE_TARGETS {
            std::thread::scope(|scope| {
                let running: Vec<_> = step.iter().map(|targets| scope.spawn(|| tests(targets))).collect();
                for one in running {
                    counts += one.join().map_err(|_| anyhow!("a step of the tests broke off"))??;
                }
                anyhow::Ok(())
            })?;
        }
        Ok(counts)
    });
    cluster::stop(cache, place)?;
    result
}

/// Faults at every call of the release binary, on a control plane without a node; `plan` replays one of them.
pub fn crash(cache: &Cache, place: Place, plan: Option<&str>) -> Result<Counts> {
    println!("\n== a control plane and OpenBao for the crash plans");
    cluster::build(cache, Layer::L0)?;
    let [operator, _] = image::pack_all(cache)?;
    cluster::start(cache, Layer::L0, place)?;
    let result = openbao(cache, place).and_then(|()| {
        let mut plans = cargo(&["test", "--workspace", "--no-fail-fast", "--features", &features()]);
        // A plan is named to be replayed alone.
        plans.args(plan.is_none().then_some(["--test", "answers"]).into_iter().flatten()).args(["--test", "crash"]);
        plans.args(["--", "--nocapture"]).env("COUNTERSIGN_TEST_ENV", Run::new(cache, place).env());
        plans.env("COUNTERSIGN_BINARY", operator.binary);
        // What went wrong is said in words, and last; a stack would push it out of sight.
        plans.env("RUST_BACKTRACE", "0");
        plans.envs(plan.map(|plan| ("COUNTERSIGN_PLAN", plan)));
        counted("crash plans", &mut plans)
    });
    cluster::stop(cache, place)?;
    result
}

/// Those of both kinds of tests, so that the second builds nothing.
fn features() -> String {
    format!("{FEATURES},countersign-e2e/cluster,countersign-e2e/crash")
}

/// Puts the images where the tests expect them, and OpenBao beside the cluster.
fn furnish(cache: &Cache, place: Place, images: &[PathBuf]) -> Result<()> {
    let index = place.index().to_string();
    capture(this(cache)?.args(["cluster", "images", "--index", &index]).args(images))
        .context("cannot load the images")?;
    openbao(cache, place)
}

fn openbao(cache: &Cache, place: Place) -> Result<()> {
    let index = place.index().to_string();
    capture(this(cache)?.args(["openbao", "--index", &index, "up"])).context("cannot start OpenBao").map(drop)
}

/// This program: what a person does by a command is done by the same one here.
fn this(cache: &Cache) -> Result<Command> {
    let images = cache.images();
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.env("COUNTERSIGN_CACHE", images.parent().context("the cache has no folder")?);
    Ok(command)
}

/// Installs the judges that are missing; fails with their packages where that is not possible.
fn install_judges() -> Result<()> {
    let is_missing = |program: &str| find(program).is_none();
    let packages: Vec<&str> =
        JUDGES.iter().filter(|(program, _)| is_missing(program)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {}", packages.join(" "));
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-q", "--no-install-recommends"]);
    capture(apt.args(&packages))
        .with_context(|| format!("these Debian packages are needed: {}", packages.join(" ")))?;
    Ok(())
}
