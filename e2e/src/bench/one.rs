//! One new object while the operator has nothing else to do: how long until its Secret is there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::TryStreamExt as _;
use kube::{
    ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::time::timeout;

use super::{
    figures::{Figures, percentile},
    load::{Crowd, secret_name},
    operator::Operator,
    procfs,
    stage::{EMBEDDED, Stage},
    window::Window,
};

/// Objects that exist already.
const EXISTING: u32 = 2000;
/// All of them must be ready by then.
const READY_BY: Duration = Duration::from_secs(300);
/// New objects, one after another.
const TRIES: u32 = 50;
/// One must be ready by then.
const ONE_BY: Duration = Duration::from_secs(10);

/// Measures from the request that creates the object to the event that shows its Secret.
///
/// # Errors
/// When a Secret does not come, or something cannot be read.
pub async fn measure(stage: &Stage, figures: &mut Figures) -> Result<()> {
    let existing = Crowd::new(&stage.client, "bench-existing", EMBEDDED).await?;
    existing.store(EXISTING).await?;
    let operator = Operator::start(&stage.binary).await?;
    existing.ready(EXISTING, READY_BY).await?;
    Window::open(stage, Some(operator.pid()))?.silence().await?;

    let fresh = Crowd::new(&stage.client, "bench-one", EMBEDDED).await?;
    let secrets = fresh.secrets();
    let version =
        secrets.list(&ListParams::default()).await?.metadata.resource_version.context("a list without a version")?;
    let mut events = Box::pin(secrets.watch(&WatchParams::default(), &version).await?);
    let load = procfs::load_average()?;
    let mut times = Vec::new();
    for at in 0..TRIES {
        let wanted = secret_name(at);
        let started = Instant::now();
        fresh.store_one(at).await?;
        let seen = async {
            while let Some(event) = events.try_next().await? {
                match event {
                    WatchEvent::Added(secret) if secret.name_any() == wanted => return Ok(started.elapsed()),
                    WatchEvent::Error(status) => return Err(anyhow!("the watch ended with status {}", status.code)),
                    _ => {}
                }
            }
            Err(anyhow!("the API server ended the watch"))
        };
        let took = timeout(ONE_BY, seen).await.with_context(|| format!("secret {wanted} does not come"))??;
        times.push(took.as_secs_f64() * 1000.0);
        // The next one meets an idle operator again.
        fresh.ready(at + 1, ONE_BY).await?;
    }
    let memory = procfs::memory(operator.pid())?;
    operator.stop().await?;
    let at = |percent: f64| percentile(&times, percent).context("nothing was measured");
    println!(
        "one, load {load:.1}: {TRIES} tries from {:.1} to {:.1} ms; {:.1} MiB with {EXISTING} objects",
        at(0.0)?,
        at(100.0)?,
        memory.now
    );
    figures.set("one.p50_ms", at(50.0)?, load)?;
    figures.set("one.p99_ms", at(99.0)?, load)?;
    fresh.remove().await?;
    existing.remove().await
}
