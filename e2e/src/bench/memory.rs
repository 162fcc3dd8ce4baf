//! Resident memory without objects, and what other people's Secrets add to it.
//!
//! Those Secrets stay: they end with the cluster, and removing them would take longer than making them.

use anyhow::Result;

use super::{
    figures::Figures,
    load::{Crowd, store_foreign_secrets},
    operator::Operator,
    procfs,
    stage::{EMBEDDED, Stage},
    window::Window,
};

/// Other people's Secrets.
const SECRETS: u32 = 2000;
/// Size of each.
const BYTES: usize = 100_000;

/// Measures both with one process.
///
/// # Errors
/// When a Secret is refused, or something cannot be read.
pub async fn measure(stage: &Stage, figures: &mut Figures) -> Result<()> {
    let load = procfs::load_average()?;
    let operator = Operator::start(&stage.binary).await?;
    Window::open(stage, Some(operator.pid()))?.silence().await?;
    let before = procfs::memory(operator.pid())?;
    let crowd = Crowd::new(&stage.client, "bench-foreign", EMBEDDED).await?;
    store_foreign_secrets(&crowd, SECRETS, BYTES).await?;
    Window::open(stage, Some(operator.pid()))?.silence().await?;
    let after = procfs::memory(operator.pid())?;
    operator.stop().await?;
    println!(
        "memory: {:.1} MiB idle, {:.1} MiB with {SECRETS} foreign Secrets, peak {:.1} MiB",
        before.now, after.now, after.peak
    );
    figures.set("rss_mib.idle", before.now, load)?;
    figures.set("rss_mib.growth_with_foreign_secrets", (after.now - before.now).max(0.0), load)
}
