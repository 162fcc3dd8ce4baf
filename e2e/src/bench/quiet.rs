//! What it costs when there is nothing to do: idle, restarted, just started.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::{
    audit::Kind,
    bind::{SELDOM, write_paths},
    figures::{Figures, per},
    load::Crowd,
    operator::Operator,
    procfs,
    stage::{EMBEDDED, Stage, VAULT},
    town::Town,
    window::{Window, breakdown},
};

/// Certificates, half of them of each issuer; and as many bindings.
const OBJECTS: u32 = 500;
/// All of them must be ready by then.
const READY_BY: Duration = Duration::from_secs(180);
/// As long as the operator's drift interval: every object is looked at once.
const IDLE: Duration = Duration::from_secs(300);

/// With unchanged certificates of both issuers, unchanged bindings and closed namespaces: an idle while, then a restart.
///
/// # Errors
/// When not all objects become ready, or something cannot be read.
pub async fn measure(stage: &Stage, figures: &mut Figures, idle: bool, restart: bool) -> Result<()> {
    const BINDINGS: &str = "bench-quiet-bindings";
    write_paths(stage, BINDINGS, OBJECTS).await?;
    let crowds = [
        (Crowd::new(&stage.client, "bench-quiet-embedded", EMBEDDED).await?, OBJECTS / 2),
        (Crowd::new(&stage.client, "bench-quiet-vault", VAULT).await?, OBJECTS / 2),
        (Crowd::of_bindings(&stage.client, BINDINGS, 1, SELDOM).await?, OBJECTS),
    ];
    for (crowd, count) in &crowds {
        crowd.store(*count).await?;
    }
    let town = Town::store(&stage.client).await?;
    let mut operator = Operator::start(&stage.binary).await?;
    for (crowd, count) in &crowds {
        crowd.ready(*count, READY_BY).await?;
    }
    town.closed().await?;
    Window::open(stage, Some(operator.pid()))?.silence().await?;
    let memory = procfs::memory(operator.pid())?;
    figures.set("rss_mib.500_500", memory.now, procfs::load_average()?)?;
    if idle {
        measure_idle(stage, figures, &operator).await?;
    }
    if restart {
        operator.stop().await?;
        operator = measure_restart(stage, figures).await?;
    }
    town.remove().await?;
    operator.stop().await?;
    for (crowd, _) in &crowds {
        crowd.remove().await?;
    }
    Ok(())
}

async fn measure_idle(stage: &Stage, figures: &mut Figures, operator: &Operator) -> Result<()> {
    let load = procfs::load_average()?;
    let window = Window::open(stage, Some(operator.pid()))?;
    let started = Instant::now();
    sleep(IDLE).await;
    let seconds = started.elapsed().as_secs_f64();
    let spent = window.close(operator.pid())?;
    println!("idle for {seconds:.0} s, load {load:.1}; {}", spent.describe(2 * OBJECTS));
    let written = spent.counts.writes + spent.counts.refused_writes;
    figures.set("idle.api_writes_per_minute", per(written, 1) * 60.0 / seconds, load)?;
    figures.set("idle.cpu_percent", spent.operator / seconds * 100.0, load)
}

async fn measure_restart(stage: &Stage, figures: &mut Figures) -> Result<Operator> {
    let load = procfs::load_average()?;
    let mut window = Window::open(stage, None)?;
    let operator = Operator::start(&stage.binary).await?;
    window.silence().await?;
    let spent = window.close(operator.pid())?;
    let last = spent.requests.iter().map(|request| request.answered).max().unwrap_or(operator.leads.timestamp);
    let idle_after = last.duration_since(operator.leads.timestamp).as_secs_f64().max(0.0) * 1000.0;
    println!("restart, load {load:.1}; {}", spent.describe(2 * OBJECTS));
    let written = spent.counts.writes + spent.counts.refused_writes;
    figures.set("restart.api_writes", per(written, 1), load)?;
    figures.set("restart.vault_signatures", per(spent.vault.signatures, 1), load)?;
    figures.set("restart.vault_logins", per(spent.vault.logins, 1), load)?;
    figures.set("restart.idle_after_ms", idle_after, load)?;
    Ok(operator)
}

/// From the start of the process to the first request about an object; best of three.
///
/// # Errors
/// When the operator does not look at the object.
pub async fn start(stage: &Stage, figures: &mut Figures) -> Result<()> {
    const NAMESPACE: &str = "bench-start";
    let crowd = Crowd::new(&stage.client, NAMESPACE, EMBEDDED).await?;
    crowd.store(1).await?;
    let mut best = f64::INFINITY;
    let load = procfs::load_average()?;
    for attempt in 1..=3 {
        let mut window = Window::open(stage, None)?;
        let operator = Operator::start(&stage.binary).await?;
        let first = window
            .first(|request| request.namespace == NAMESPACE && !matches!(request.kind, Kind::List | Kind::Watch))
            .await
            .context("the operator does not look at its object")?;
        let took = first.received.duration_since(operator.started).as_secs_f64() * 1000.0;
        let leads = operator.leads.timestamp.duration_since(operator.started).as_secs_f64() * 1000.0;
        window.silence().await?;
        let spent = window.close(operator.pid())?;
        operator.stop().await?;
        println!(
            "start {attempt}/3: leads after {leads:.0} ms, first reconcile after {took:.0} ms; {}",
            breakdown(&spent.requests)
        );
        best = best.min(took);
    }
    crowd.remove().await?;
    figures.set("start_ms", best, load)
}
