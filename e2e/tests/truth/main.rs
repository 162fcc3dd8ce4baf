//! The truth tables of NetworkPolicy, played against a real data plane: what a packet finds is what our evaluator says,
//! or the case tells where Cilium differs.
//!
//! A target of its own: a round of some hundred probes at once wants the machine for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod echo;
mod play;
mod probe;
mod stage;
mod stand;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{cilium::Agent, cluster::Cluster};
use countersign_truth::{Case, Cilium, cases, scene};
use futures::future::{join_all, try_join_all};
use stage::Stage;

/// Scenes side by side: most of a case is waiting for silence, and for Cilium to take its policies.
const STAGES: usize = 3;
/// Fewer would say that the tables have grown away from what a cluster can show.
const FEWEST_PLAYED: usize = 60;
/// Of one case, so that one that is wrong altogether does not hide the others.
const MOST_TOLD: usize = 20;

#[tokio::test]
async fn packets_find_what_the_tables_say() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "enforcement"]).await? else { return Ok(()) };
    let begun = Instant::now();
    let (cases, scene) = (cases()?, scene()?);
    let built = join_all((0..STAGES).map(|_| Stage::build(&cluster, scene.clone()))).await;
    let (stages, failed): (Vec<_>, Vec<_>) = built.into_iter().partition(Result::is_ok);
    let stages: Vec<Stage> = stages.into_iter().flatten().collect();
    println!("{:6.1} s  {} scenes are up", begun.elapsed().as_secs_f64(), stages.len());
    let played = match failed.into_iter().find_map(Result::err) {
        Some(error) => Err(error),
        None => play_all(&cluster, &stages, &cases).await,
    };
    println!("{:6.1} s  played", begun.elapsed().as_secs_f64());
    let struck: Result<()> = join_all(stages.iter().map(|stage| stage.strike(&cluster))).await.into_iter().collect();
    println!("{:6.1} s  the scenes are gone", begun.elapsed().as_secs_f64());
    let wrong = played?;
    struck?;
    tell(&cases, &wrong)
}

/// What a case was found to be, line by line; nothing if it was as its table says.
type Found<'a> = (&'a Case, Vec<String>);

/// Every stage takes the next case until there is none.
async fn play_all<'a>(cluster: &Cluster, stages: &[Stage], cases: &'a [Case]) -> Result<Vec<Found<'a>>> {
    let first = stages.first().context("no scene")?.addresses();
    let agent = Agent::of(&first.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let next = AtomicUsize::new(0);
    let lanes = stages.iter().map(async |stage| {
        let mut found = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let wrong = match &case.cilium {
                None => play::play(cluster, &agent, stage, case, &case.table).await,
                Some(Cilium::Differs { table, .. }) => play::play(cluster, &agent, stage, case, table).await,
                Some(Cilium::Refused(_)) => play::refused(cluster, stage, case).await,
                Some(Cilium::Unplayable(_)) => Ok(Vec::new()),
            };
            found.push((case, wrong.with_context(|| case.name.clone())?));
        }
        anyhow::Ok(found)
    });
    Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
}

fn tell(cases: &[Case], found: &[Found<'_>]) -> Result<()> {
    let (mut played, mut differ, mut unplayable) = (0, 0, 0);
    for case in cases {
        match &case.cilium {
            None => played += 1,
            Some(Cilium::Differs { why, .. }) => {
                (played, differ) = (played + 1, differ + 1);
                println!("differs: {}: {why}", case.name);
            }
            Some(Cilium::Refused(why)) => {
                unplayable += 1;
                println!("refused by the API server: {}: {why}", case.name);
            }
            Some(Cilium::Unplayable(why)) => {
                unplayable += 1;
                println!("not playable: {}: {why}", case.name);
            }
        }
    }
    println!("{played} cases played, {differ} differ, {unplayable} not playable");
    let wrong: Vec<String> = found
        .iter()
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(case, lines)| {
            let such = lines[..lines.len().min(MOST_TOLD)].join("\n  ");
            format!("\n{}: {} wrong, such as\n  {such}", case.name, lines.len())
        })
        .collect();
    ensure!(wrong.is_empty(), "not what the tables say:{}", wrong.concat());
    ensure!(found.len() == cases.len(), "{} of {} cases were come to", found.len(), cases.len());
    ensure!(played >= FEWEST_PLAYED, "only {played} cases were played");
    Ok(())
}
