//! The benchmark as a program; `cargo xtask bench` builds and starts it.

use std::process::ExitCode;

use clap::Parser;
use countersign_e2e::bench::{Options, run};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures countersign in the cluster that COUNTERSIGN_TEST_ENV describes")]
struct Line {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Line::parse().options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
