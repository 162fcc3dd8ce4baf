//! `countersign check`: is the installation as it should be? Run by `helm test` in a pod of its own.

use std::time::Duration;

use clap::{ArgGroup, Args};
use countersign_core::{
    api::{TrustDomain, VaultConnection},
    explain::{
        Look, State,
        guard::Guard,
        installation::{self, Check, Seen, checks, definitions, passed},
    },
    leader::DEFAULT_LEASE,
    rights::{DELETION_GUARD, OPERATOR_FENCE},
};
use futures::{future::join_all, join};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde::Serialize;

use super::{
    NOT_SO, OK,
    shared::{Access, Output, WIDTH, answer, json, with_view, wrap},
};
use crate::{
    cluster::inspect::View,
    runtime::{clock::Clock, settings},
};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest wait that makes sense for an installation.
const LONGEST: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).args(["in_cluster", "kubeconfig"]))]
pub(super) struct Arguments {
    /// Run in a pod, with the pod's own account
    #[arg(long)]
    in_cluster: bool,

    /// How long to wait for everything to become good, at most 1h
    #[arg(long, default_value = "0s", value_parser = wait, value_name = "DURATION")]
    wait: Duration,

    /// Namespace that the operator runs in
    #[arg(long, env = "COUNTERSIGN_OPERATOR_NAMESPACE", default_value = "countersign-system", value_parser = settings::label, value_name = "NAME")]
    operator_namespace: String,

    /// Name of the leader Lease in the operator's namespace
    #[arg(long, env = "COUNTERSIGN_LEASE_NAME", default_value = DEFAULT_LEASE, value_parser = settings::name, value_name = "NAME")]
    lease_name: String,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    #[command(flatten)]
    access: Access,
}

fn wait(text: &str) -> Result<Duration, &'static str> {
    if text == "0s" {
        return Ok(Duration::ZERO);
    }
    settings::duration(text).and_then(|wait| if wait <= LONGEST { Ok(wait) } else { Err("must be at most 1h") })
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    passed: bool,
    checks: Vec<Check>,
}

/// Looks until all is good or the time is up, and prints the last look.
pub(super) fn run(arguments: &Arguments) -> u8 {
    // The flag wins over a variable that names a file.
    let kubeconfig = arguments.access.kubeconfig.clone().filter(|_| !arguments.in_cluster);
    with_view(&Access { kubeconfig }, |view, clock| async move {
        let verdict = Box::pin(verdict(arguments, &view, &clock)).await;
        let code = if verdict.passed { OK } else { NOT_SO };
        match arguments.output {
            Output::Text => answer(&text(&verdict), code),
            Output::Json => answer(&json("CheckResult", &verdict), code),
        }
    })
}

async fn verdict(arguments: &Arguments, view: &View, clock: &Clock) -> Verdict {
    let deadline = clock.monotonic().saturating_add(arguments.wait);
    let mut first_renewal = None;
    loop {
        let mut seen = Box::pin(look(arguments, view)).await;
        let renewal = renewal(&seen.lease);
        seen.renewed = first_renewal.is_some() && renewal.is_some() && renewal != first_renewal;
        first_renewal = first_renewal.or(renewal);
        let checks = checks(&seen, clock.now());
        let passed = passed(&checks);
        if passed || clock.monotonic().saturating_add(PAUSE) > deadline {
            return Verdict { passed, checks };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn renewal(lease: &Look<Lease>) -> Option<Timestamp> {
    lease.found()?.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)
}

async fn look(arguments: &Arguments, view: &View) -> installation::Seen {
    let home = &arguments.operator_namespace;
    let definitions = definitions();
    let (definitions, fence, deletion, lease, connections, domains) = join!(
        join_all(definitions.iter().map(|name| view.global(name))),
        guard(view, OPERATOR_FENCE),
        guard(view, DELETION_GUARD),
        view.local(home, &arguments.lease_name),
        view.list_global::<VaultConnection>(),
        view.list_global::<TrustDomain>(),
    );
    Seen {
        definitions,
        lease_name: arguments.lease_name.clone(),
        lease,
        renewed: false,
        fence,
        deletion,
        connections: connections.map(|listed| listed.objects),
        domains: domains.map(|listed| listed.objects),
    }
}

async fn guard(view: &View, name: &str) -> Guard {
    let (policy, binding) = join!(view.global(name), view.global(name));
    Guard { policy, binding }
}

/// Width of everything left of the details.
const INDENT: usize = 9;

fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    for check in &verdict.checks {
        let state = match check.state {
            State::Ok => "ok",
            State::Failed => "FAILED",
            State::Unknown if check.needed => "UNKNOWN",
            State::Unknown => "unknown",
        };
        let next = check.next.map(|next| format!("; {next}")).unwrap_or_default();
        for (index, line) in
            wrap(&format!("{}: {}{next}", check.object, check.message), WIDTH - INDENT).iter().enumerate()
        {
            let head = if index == 0 { state } else { "" };
            text.extend([format!("{head:INDENT$}{line}\n")]);
        }
    }
    text.push_str(if verdict.passed { "passed\n" } else { "not as it should be\n" });
    text
}

#[cfg(test)]
mod tests;
