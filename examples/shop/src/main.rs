//! `shop`: a client and a server that talk mutual TLS with the certificates countersign keeps.
//!
//! `shop payment` serves HTTPS to named SPIFFE identities, `shop order` calls it all the time and
//! counts what fails, `shop probe` checks that a caller without a certificate is turned away. All
//! of them read `tls.crt`, `tls.key` and `ca.crt` from one directory and follow its changes, as a
//! program that takes part in certificate rotation should. Everything printed is one JSON object
//! per line. The program knows nothing of Kubernetes: a mounted Secret is a directory to it.

mod args;
mod client;
mod database;
mod http;
mod reload;
mod server;
mod tls;

#[cfg(test)]
mod tests;

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use args::{Command, OrderArgs, PaymentArgs};
use database::Login;
use reload::{Loaded as _, Mount};

/// The command line was not understood (`EX_USAGE`; 1 and 2 have a meaning for `probe`).
const USAGE_ERROR: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(misuse) => {
            eprintln!("shop: {misuse}\n\n{}", args::USAGE);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let outcome = match command {
        Command::Payment(args) => payment(args).await,
        Command::Order(args) => order(args).await,
        Command::Probe(args) => {
            let verdict = client::probe(&args.server, &args.certs).await;
            say(&json!({"event": "probe", "verdict": verdict.name(), "detail": verdict.detail()}));
            return ExitCode::from(verdict.exit_code());
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&json!({"event": "fatal", "error": format!("{error:#}")}));
            ExitCode::FAILURE
        }
    }
}

/// Runs the server until SIGTERM.
async fn payment(args: PaymentArgs) -> Result<()> {
    let mount = Mount::new(args.certs);
    let build = move |files| tls::server(&tls::Pem::of(files)?, &args.client_ids);
    let (stamp, first) = mount.load(&build)?;
    say(&json!({"event": "listening", "address": args.listen.to_string(), "serial": first.serial}));
    let (reloaded, current) = watch::channel(Arc::new(first));
    let (_healthy, health) = watch::channel(true);
    let https = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let plain = TcpListener::bind(args.health).await.with_context(|| format!("cannot listen on {}", args.health))?;
    let stopped = terminated()?;
    let (database, follow_database) = database(args.database)?;
    tokio::select! {
        () = server::serve(https, current, database, &say, stopped) => Ok(()),
        () = reload::follow(&mount, stamp, &build, &reloaded, &say) => Ok(()),
        () = follow_database => Ok(()),
        () = http::serve_health(plain, health) => Ok(()),
    }
}

/// The database login, and what keeps it current; without a directory there is none, and nothing to follow.
fn database(directory: Option<PathBuf>) -> Result<(Option<watch::Receiver<Arc<Login>>>, impl Future<Output = ()>)> {
    let loaded = match directory {
        None => None,
        Some(directory) => {
            let mount = Mount::of(directory, &database::FILES);
            let (stamp, first) = mount.load(&Login::of)?;
            say(&first.state().into());
            Some((mount, stamp, watch::channel(Arc::new(first))))
        }
    };
    let current = loaded.as_ref().map(|(_, _, (_, current))| current.clone());
    Ok((current, async move {
        match loaded {
            Some((mount, stamp, (sender, _))) => reload::follow(&mount, stamp, &Login::of, &sender, &say).await,
            None => std::future::pending().await,
        }
    }))
}

/// Calls the server until SIGTERM.
async fn order(args: OrderArgs) -> Result<()> {
    let mount = Mount::new(args.certs);
    let build = |files| tls::client(&tls::Pem::of(files)?);
    let (stamp, first) = mount.load(&build)?;
    say(&json!({"event": "calling", "server": args.server.to_string(), "serial": first.serial}));
    let (reloaded, current) = watch::channel(Arc::new(first));
    let (healthy, health) = watch::channel(false);
    let plain = TcpListener::bind(args.health).await.with_context(|| format!("cannot listen on {}", args.health))?;
    let stopped = terminated()?;
    let caller = client::Caller { server: args.server, server_id: args.server_id, every: args.every };
    tokio::select! {
        () = client::run(&caller, current, &healthy, &say) => Ok(()),
        () = reload::follow(&mount, stamp, &build, &reloaded, &say) => Ok(()),
        () = http::serve_health(plain, health) => Ok(()),
        () = stopped => Ok(()),
    }
}

/// Resolves at SIGTERM or SIGINT. Process 1 of a container has no default action for them, so
/// without this a pod would take its whole grace period to stop.
fn terminated() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

/// Prints one line. A closed standard output is no reason to stop serving.
fn say(line: &Value) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
