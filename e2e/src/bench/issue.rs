//! Many certificates at once: first ones by each issuer, and renewals.
//!
//! The objects are stored first and the clock runs from leadership, because storing them would share the
//! cores with the work. Each attempt is compared with the raw limit just before it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    figures::{Figures, per},
    load::{Crowd, is_ready, until_all},
    operator::Operator,
    procfs,
    raw::{self, Raw},
    stage::{EMBEDDED, Stage, VAULT},
    window::{Spent, Window},
};

/// Objects of one attempt.
const OBJECTS: u32 = 500;
/// All of them must be ready by then.
const READY_BY: Duration = Duration::from_secs(180);
/// The request that a renewal answers.
const REQUEST: &str = "bench";

/// What one attempt showed.
struct Attempt {
    raw: Raw,
    per_second: f64,
    load: f64,
    spent: Spent,
}

/// Signed by the operator's own authority.
///
/// # Errors
/// When not all objects become ready, or something cannot be read.
pub async fn embedded(stage: &Stage, figures: &mut Figures) -> Result<()> {
    let best = best_of_three("issue.embedded", stage, EMBEDDED, figures).await?;
    figures.set("issue.embedded.per_second", best.per_second, best.load)?;
    figures.set("issue.embedded.ratio_to_raw", best.ratio(), best.load)?;
    figures.set("issue.embedded.cpu_ms_per_object", best.spent.cpu_ms(OBJECTS), best.load)
}

/// Signed by OpenBao.
///
/// # Errors
/// As [`embedded`].
pub async fn vault(stage: &Stage, figures: &mut Figures) -> Result<()> {
    let best = best_of_three("issue.vault", stage, VAULT, figures).await?;
    figures.set("issue.vault.per_second", best.per_second, best.load)?;
    figures.set("issue.vault.ratio_to_raw", best.ratio(), best.load)?;
    figures.set("issue.vault.requests_per_object", per(best.spent.vault.total(), OBJECTS), best.load)
}

/// All certificates anew, at a person's request, while the operator runs; signed by OpenBao.
///
/// # Errors
/// As [`embedded`].
pub async fn renew(stage: &Stage, figures: &mut Figures) -> Result<()> {
    for attempt in 1..=3 {
        let crowd = Crowd::new(&stage.client, "bench-renew", VAULT).await?;
        crowd.store(OBJECTS).await?;
        let operator = Operator::start(&stage.binary).await?;
        crowd.ready(OBJECTS, READY_BY).await?;
        Window::open(stage, None)?.silence().await?;

        let load = procfs::load_average()?;
        let mut window = Window::open(stage, Some(operator.pid()))?;
        let waiting = {
            let identities = crowd.objects();
            tokio::spawn(async move { until_all(&identities, OBJECTS, is_renewed, READY_BY).await })
        };
        let started = Instant::now();
        crowd.request(OBJECTS, REQUEST).await?;
        let ended = waiting.await?.context("not everything was renewed")?;
        window.silence().await?;
        let spent = window.close(operator.pid())?;
        operator.stop().await?;
        crowd.remove().await?;

        let per_second = f64::from(OBJECTS) / (ended - started).as_secs_f64();
        println!("renew {attempt}/3: {per_second:.0}/s, load {load:.1}; {}", spent.describe(OBJECTS));
        figures.raise("renew.per_second", per_second, load)?;
        figures.raise("renew.api_writes_per_object", per(spent.counts.writes, OBJECTS), load)?;
        figures.raise("renew.vault_logins", per(spent.vault.logins, 1), load)?;
    }
    Ok(())
}

impl Attempt {
    fn ratio(&self) -> f64 {
        self.per_second / self.raw.per_second
    }
}

/// The attempt with the best ratio; the counts of the worst are kept.
async fn best_of_three(name: &str, stage: &Stage, domain: &str, figures: &mut Figures) -> Result<Attempt> {
    let mut best: Option<Attempt> = None;
    for number in 1..=3 {
        let attempt = attempt(stage, domain).await?;
        let Attempt { raw, per_second, load, spent } = &attempt;
        println!(
            "{name} {number}/3: {per_second:.0}/s of {:.0} raw ({:.2}), load {load:.1}; {}",
            raw.per_second,
            attempt.ratio(),
            spent.describe(OBJECTS)
        );
        raw.report(figures)?;
        let counts = spent.counts;
        figures.raise("issue.api_writes_per_object", per(counts.writes, OBJECTS), *load)?;
        figures.raise("issue.refused_writes_per_object", per(counts.refused_writes, OBJECTS), *load)?;
        figures.raise("issue.events_per_object", per(counts.events, OBJECTS), *load)?;
        if best.as_ref().is_none_or(|best| best.ratio() < attempt.ratio()) {
            best = Some(attempt);
        }
    }
    let load = procfs::load_average()?;
    let with_creation = with_creation(stage, domain).await?;
    figures.set(&format!("{name}.per_second_with_creation"), with_creation, load)?;
    best.context("no attempt")
}

async fn attempt(stage: &Stage, domain: &str) -> Result<Attempt> {
    let raw = raw::measure(stage).await?;
    let crowd = Crowd::new(&stage.client, "bench-issue", domain).await?;
    crowd.store(OBJECTS).await?;
    let load = procfs::load_average()?;
    let mut window = Window::open(stage, None)?;
    // Watches before the operator starts: the wait must not cost anything while the clock runs.
    let waiting = tokio::spawn({
        let crowd = crowd.clone();
        async move { crowd.ready(OBJECTS, READY_BY).await }
    });
    let operator = Operator::start(&stage.binary).await?;
    let ended = waiting.await?.context("not everything was issued")?;
    let seconds = (ended - operator.leads.instant).as_secs_f64();
    window.silence().await?;
    let spent = window.close(operator.pid())?;
    operator.stop().await?;
    crowd.remove().await?;
    Ok(Attempt { raw, per_second: f64::from(OBJECTS) / seconds, load, spent })
}

/// Objects a second when they are stored while the operator runs, as its peers are usually measured.
async fn with_creation(stage: &Stage, domain: &str) -> Result<f64> {
    let crowd = Crowd::new(&stage.client, "bench-issue", domain).await?;
    let operator = Operator::start(&stage.binary).await?;
    Window::open(stage, Some(operator.pid()))?.silence().await?;
    let waiting = tokio::spawn({
        let crowd = crowd.clone();
        async move { crowd.ready(OBJECTS, READY_BY).await }
    });
    let started = Instant::now();
    crowd.store(OBJECTS).await?;
    let ended = waiting.await?.context("not everything was issued")?;
    operator.stop().await?;
    crowd.remove().await?;
    Ok(f64::from(OBJECTS) / (ended - started).as_secs_f64())
}

fn is_renewed(object: &Value) -> bool {
    let answered = object.pointer("/status/lastHandledRequest").and_then(Value::as_str);
    is_ready(object) && answered == Some(REQUEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_renewal_is_done_when_the_request_is_answered() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert!(is_renewed(&json!({"status": {"conditions": ready, "lastHandledRequest": "bench"}})));
        assert!(!is_renewed(&json!({"status": {"conditions": ready}})));
        assert!(!is_renewed(&json!({"status": {"conditions": ready, "lastHandledRequest": "earlier"}})));
    }
}
