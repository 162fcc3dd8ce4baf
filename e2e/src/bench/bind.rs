//! Many bindings at once, and what it costs to look at sources in which nothing has changed.
//!
//! As with certificates the objects are stored first and the clock runs from leadership; each attempt is compared with
//! the raw limit just before it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    figures::{Figures, per},
    load::{CLIENTS, Crowd, path_name},
    operator::Operator,
    procfs, raw,
    stage::Stage,
    window::Window,
};

/// Bindings of one attempt, each of a path of its own.
const OBJECTS: u32 = 2_000;
/// Bindings of the refresh, and how many of them share a path.
const REFRESHED: u32 = 500;
const A_PATH: u32 = 10;
/// How often bindings look that are not to be due while something is measured.
pub const SELDOM: &str = "15m";
/// The interval of the refresh, and how many of them are watched.
const INTERVAL: Duration = Duration::from_secs(30);
const INTERVALS: u32 = 2;
/// All of them must be ready by then.
const READY_BY: Duration = Duration::from_secs(300);

/// Bindings of five keys each that were never synced.
///
/// # Errors
/// When not all become ready, or something cannot be read.
pub async fn first(stage: &Stage, figures: &mut Figures) -> Result<()> {
    const NAMESPACE: &str = "bench-bind";
    write_paths(stage, NAMESPACE, OBJECTS).await?;
    warm_up(stage, NAMESPACE).await?;
    let mut best = 0.0;
    for number in 1..=3 {
        let raw = raw::measure(stage).await?;
        let crowd = Crowd::of_bindings(&stage.client, NAMESPACE, 1, SELDOM).await?;
        crowd.store(OBJECTS).await?;
        let load = procfs::load_average()?;
        let window = Window::open(stage, None)?;
        let waiting = tokio::spawn({
            let crowd = crowd.clone();
            async move { crowd.ready(OBJECTS, READY_BY).await }
        });
        let operator = Operator::start(&stage.binary).await?;
        let ended = waiting.await?.context("not everything was read")?;
        let per_second = f64::from(OBJECTS) / (ended - operator.leads.instant).as_secs_f64();
        // Counted to the last status: the next refresh is not a part of the first.
        let spent = window.close(operator.pid())?;
        operator.stop().await?;
        crowd.remove().await?;
        let ratio = per_second / raw.per_second;
        println!(
            "bind {number}/3: {per_second:.0}/s of {:.0} raw ({ratio:.2}), load {load:.1}; {}",
            raw.per_second,
            spent.describe(OBJECTS)
        );
        raw.report(figures)?;
        figures.raise("bind.vault_requests_per_object", per(spent.vault.total(), OBJECTS), load)?;
        figures.raise("bind.api_writes_per_object", per(spent.counts.writes, OBJECTS), load)?;
        if ratio > best {
            best = ratio;
            figures.set("bind.per_second", per_second, load)?;
            figures.set("bind.ratio_to_raw", ratio, load)?;
        }
    }
    Ok(())
}

/// One binding, so that no attempt pays for what is made once in the life of an installation.
async fn warm_up(stage: &Stage, namespace: &str) -> Result<()> {
    let crowd = Crowd::of_bindings(&stage.client, namespace, 1, SELDOM).await?;
    crowd.store(1).await?;
    let operator = Operator::start(&stage.binary).await?;
    crowd.ready(1, READY_BY).await?;
    operator.stop().await?;
    crowd.remove().await
}

/// Two intervals in which every source is looked at and nothing has changed; ten bindings share each path.
///
/// # Errors
/// As [`first`].
pub async fn unchanged(stage: &Stage, figures: &mut Figures) -> Result<()> {
    const NAMESPACE: &str = "bench-kv";
    let paths = REFRESHED / A_PATH;
    write_paths(stage, NAMESPACE, paths).await?;
    let crowd = Crowd::of_bindings(&stage.client, NAMESPACE, A_PATH, "30s").await?;
    crowd.store(REFRESHED).await?;
    let operator = Operator::start(&stage.binary).await?;
    crowd.ready(REFRESHED, READY_BY).await?;
    // The phases are spread over an interval, so after one every binding keeps to its own.
    sleep(INTERVAL).await;
    let load = procfs::load_average()?;
    let window = Window::open(stage, Some(operator.pid()))?;
    let started = Instant::now();
    sleep(INTERVAL * INTERVALS).await;
    let refreshes = started.elapsed().as_secs_f64() / INTERVAL.as_secs_f64();
    let spent = window.close(operator.pid())?;
    operator.stop().await?;
    crowd.remove().await?;
    println!("kv, load {load:.1}: {paths} paths, {refreshes:.2} intervals; {}", spent.describe(REFRESHED));
    let requests = spent.vault.others + spent.vault.logins;
    figures.set("kv.vault_requests_per_unchanged_path", per(requests, paths) / refreshes, load)?;
    let written = spent.counts.writes + spent.counts.refused_writes;
    figures.set("kv.api_writes_per_refresh", per(written, REFRESHED) / refreshes, load)
}

/// Writes secrets of five keys at the paths `0..count` below the name of the namespace.
///
/// # Errors
/// When OpenBao refuses one.
pub async fn write_paths(stage: &Stage, namespace: &str, count: u32) -> Result<()> {
    stream::iter(0..count)
        .map(Ok)
        .try_for_each_concurrent(CLIENTS, |at| async move {
            let pairs = (0..5).map(|key| (format!("key-{key}"), Value::from(format!("value {key} of {at}"))));
            let data: serde_json::Map<String, Value> = pairs.collect();
            stage.bao.write(&format!("secret/data/{namespace}/{}", path_name(at)), &json!({"data": data})).await?;
            Ok(())
        })
        .await
}
