//! Developer commands of countersign: `cargo xtask <command>`.
//!
//! This file only parses arguments and dispatches; each command is one module. Nothing here is needed at run time.

mod bench;
mod cache;
mod cargo;
mod chart;
mod cluster;
mod crds;
mod demo;
mod docs;
mod e2e;
mod files;
mod image;
mod oci;
mod openbao;
mod pki;
mod process;
mod python;
mod stage;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Developer commands of countersign", max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    cache: cache::CacheArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the operator against the raw limit of this machine
    Bench(bench::BenchArgs),
    /// A complete Kubernetes cluster on this machine, built from package registries alone
    Cluster(cluster::ClusterArgs),
    /// Pack images as OCI layout tars, without Docker
    Image(image::ImageArgs),
    /// The operator, OpenBao and two services on this machine, and a proof of each claim
    Demo(demo::DemoArgs),
    /// A real OpenBao server beside a local cluster
    Openbao(openbao::OpenbaoArgs),
    /// Run the tests of the release binary and the chart on a whole cluster; the last line is their sum
    E2e,
    /// Kill, cut and withhold at every call of the release binary, and judge what is left
    Crash(e2e::CrashArgs),
    /// Run every test; the last line is their sum
    Test(test::TestArgs),
    /// Writes everything that is generated: CRDs, chart templates, reference pages
    Crds {
        /// Change nothing; fail if anything would change
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let cache = cli.cache.resolve()?;
    match cli.command {
        Command::Bench(args) => bench::main(&args, &cache),
        Command::Cluster(args) => cluster::main(args, &cache),
        Command::Image(args) => image::main(&args, &cache),
        Command::Demo(args) => demo::main(&args, &cache),
        Command::Openbao(args) => openbao::main(&args, &cache),
        Command::E2e => e2e::main(&cache),
        Command::Crash(args) => e2e::crash_main(&args, &cache),
        Command::Test(args) => test::main(args, &cache),
        Command::Crds { check } => crds::run(check).and_then(|()| chart::run(check)).and_then(|()| docs::run(check)),
    }
}
