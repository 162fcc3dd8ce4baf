//! Developer commands of countersign: `cargo xtask <command>`.
//!
//! This file only parses arguments and dispatches; each command is one module. Nothing here is needed at run time.

mod cache;
mod cluster;
mod oci;
mod openbao;
mod pki;
mod process;

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
    /// A complete Kubernetes cluster on this machine, built from package registries alone
    Cluster(cluster::ClusterArgs),
    /// A real OpenBao server beside a local cluster
    Openbao(openbao::OpenbaoArgs),
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
        Command::Cluster(args) => cluster::main(args, &cache),
        Command::Openbao(args) => openbao::main(&args, &cache),
    }
}
