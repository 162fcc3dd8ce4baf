//! The countersign binary.

use std::process::ExitCode;

use countersign::{cli, runtime::process};

/// musl's own allocator is slow under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Named before any client is made: with two providers compiled in, rustls would have to guess.
    let provider = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if provider.is_err() || process::harden().is_err() {
        eprintln!("countersign: the process could not be secured");
        return ExitCode::FAILURE;
    }
    cli::run(std::env::args_os())
}
