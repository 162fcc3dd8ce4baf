//! Crash plans: a fault at every call of the release binary, against a real API server and a real OpenBao.
//!
//! Needs `COUNTERSIGN_TEST_ENV` (a cluster with an OpenBao) and `COUNTERSIGN_BINARY` (the release binary).
//! `COUNTERSIGN_PLAN=issue.W01.lost.kill` replays one plan, `COUNTERSIGN_PLAN=issue` those of a workload;
//! `COUNTERSIGN_LANES` sets how many run at a time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    bao::Bao,
    crash::{call::Side, install, lane::Common, plan::Choice, proxy::Upstream, recorder::Recorder, run, tls::Identity},
    env::Env,
};

/// By what the operator's waiting times are divided.
const TIME_SCALE: u32 = 20;
/// Plans at a time, unless told otherwise.
const LANES: usize = 12;

fn text(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_survives_every_fault() -> Result<()> {
    let env = Env::read()?;
    let binary = PathBuf::from(text("COUNTERSIGN_BINARY").context("COUNTERSIGN_BINARY names no release binary")?);
    ensure!(binary.is_file(), "COUNTERSIGN_BINARY is not a file");
    let only = text("COUNTERSIGN_PLAN").map(|id| id.parse::<Choice>()).transpose()?;
    let lanes = text("COUNTERSIGN_LANES").map_or(Ok(LANES), |count| count.parse()).context("COUNTERSIGN_LANES")?;
    let lanes: Vec<String> = (1..=lanes).map(|lane| lane.to_string()).collect();
    let openbao = env.openbao.as_ref().context("the cluster has no OpenBao; `cargo xtask openbao up` starts one")?;

    let client = env.client().await?;
    let epoch = Instant::now();
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/countersign");
    install::install(&env, &chart, &lanes)?;
    let (server, authority) = install::server(&env)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
    std::fs::create_dir_all(&folder)?;
    let common = Common {
        epoch,
        // Names of one run never meet those of another on the same cluster.
        run: std::process::id().to_string(),
        recorder: Recorder::start(&client, epoch).await?,
        api: Upstream::new(Side::Api, &server, &authority)?,
        vault: Upstream::new(Side::Vault, &openbao.address, &std::fs::read(&openbao.ca_file)?)?,
        tls: Identity::new()?,
        token: install::token(&client).await?,
        client,
        bao: Arc::new(Bao::at(openbao)?),
        binary,
        folder,
        time_scale: TIME_SCALE,
    };
    let report = run::run(&common, &lanes, only).await?;
    for (plan, violation) in &report.violations {
        println!("{plan}: {} {}", violation.invariant, violation.what);
    }
    ensure!(report.plans > 0, "no plan was played");
    ensure!(report.violations.is_empty(), "{} violations in {} plans", report.violations.len(), report.plans);
    Ok(())
}
