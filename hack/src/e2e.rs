//! `cargo xtask e2e`: the release binary and the chart on a whole cluster, judged from outside.
//!
//! Brings up a cluster with enforced NetworkPolicy, OpenBao and our images, runs the tests of `e2e/`, and ends all of
//! it. The tests know nothing of this file; they are told about the cluster by `COUNTERSIGN_TEST_ENV`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::cluster::place::{Layer, Place, Run};
use crate::cluster::{self};
use crate::image::{self, Image};
use crate::process::{capture, find};
use crate::test::{Counts, FEATURES, INDEX, counted, run};

/// The targets of `countersign-e2e` that need a node, in the order in which Cargo runs them.
const NODE_TARGETS: [&str; 4] = ["lifecycle", "operator", "traffic", "whole_run"];

/// What judges certificates in the end-to-end tests, with the Debian package of each.
const JUDGES: [(&str, &str); 2] = [("openssl", "openssl"), ("java", "default-jdk-headless")];

/// Runs them; fails if one did.
pub fn main(cache: &Cache) -> Result<()> {
    let started = Instant::now();
    let place = Place::new(INDEX).context("there is no cluster of that number")?;
    node(cache, place)?.conclude(started)
}

/// The release binary and the chart on a whole node.
pub fn node(cache: &Cache, place: Place) -> Result<Counts> {
    let started = Instant::now();
    println!("\n== a cluster with a node, OpenBao and our images");
    install_judges()?;
    cluster::build(cache, Layer::L2)?;
    let images = [image::pack(Image::Countersign, cache)?.tar, image::pack(Image::Shop, cache)?.tar];
    cluster::start(cache, Layer::L2, place)?;
    let result = furnish(cache, place, &images).and_then(|()| {
        println!("ok it is up ({} s)", started.elapsed().as_secs());
        let mut tests = run(&["test", "--workspace", "--no-fail-fast"]);
        tests.args(["--features", &format!("{FEATURES},countersign-e2e/cluster")]);
        tests.args(NODE_TARGETS.iter().flat_map(|target| ["--test", target]));
        // The tests mostly wait, so more of them at once than there are cores.
        tests.args(["--", "--test-threads=16"]).env("COUNTERSIGN_TEST_ENV", Run::new(cache, place).env());
        // Where a test went wrong is in its words; a stack of asynchronous calls would only hide them.
        tests.env("RUST_BACKTRACE", "0");
        counted("end to end", &mut tests)
    });
    cluster::stop(cache, place)?;
    result
}

/// Puts the images and OpenBao where the tests expect them, by the commands that a person uses.
fn furnish(cache: &Cache, place: Place, images: &[PathBuf]) -> Result<()> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let index = place.index().to_string();
    let images_folder = cache.images();
    let root = images_folder.parent().context("the cache has no folder")?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&this);
        command.env("COUNTERSIGN_CACHE", root).args(arguments);
        command
    };
    capture(command(&["cluster", "images", "--index", &index]).args(images)).context("cannot load the images")?;
    capture(&mut command(&["openbao", "--index", &index, "up"])).context("cannot start OpenBao").map(drop)
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
