//! A whole run: learn from undisturbed runs, make the plans, play them in parallel lanes, judge, report.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{
    call::{Name, Owner},
    lane::{Common, Lane},
    oracle::{self, Reference, Summary, Violation},
    plan::{self, Act, Choice, Job, Place, Plan, Workload},
};

/// Undisturbed runs of each workload.
const RUNS: usize = 3;
/// How long an undisturbed run is watched after it settled.
const LONG_STAY: Duration = Duration::from_secs(6);
/// How long the end of a plan is watched.
const STAY: Duration = Duration::from_secs(2);

/// What is to be played.
#[derive(Debug, Clone, Copy)]
struct Task {
    workload: Workload,
    plan: Option<Plan>,
}

/// What came of it.
struct Outcome {
    task: Task,
    summary: Summary,
    violations: Vec<Violation>,
    /// From the last fault to the settled end.
    recovery: Option<Duration>,
}

/// The references by workload.
type References = BTreeMap<Workload, Reference>;

/// What a run found.
#[derive(Debug, Default)]
pub struct Report {
    /// Plans played.
    pub plans: usize,
    /// Plan ids (or `<workload> undisturbed`) with what was wrong.
    pub violations: Vec<(String, Violation)>,
}

/// Plays every plan of the workloads, or only those chosen.
///
/// # Errors
/// When the tests themselves fail.
pub async fn run(common: &Common, lanes: &[String], only: Option<Choice>) -> Result<Report> {
    let mut report = Report::default();
    let started = Instant::now();
    let needed = |workload: Workload| match only {
        None => workload.calls_of() == workload,
        Some(choice) => [choice.workload().calls_of(), choice.workload().ends_as()].contains(&workload),
    };
    let workloads = Workload::ALL.into_iter().filter(|workload| needed(*workload));
    let tasks = workloads.flat_map(|workload| [Task { workload, plan: None }; RUNS]).collect();
    let numbers = Arc::new(AtomicUsize::new(0));
    let players = start(common, lanes).await?;
    let (players, learned) = pool(players, tasks, &Arc::default(), &numbers).await?;
    let references = Arc::new(learn(&learned));
    for outcome in &learned {
        let id = format!("{} undisturbed", outcome.task.workload.name());
        report.violations.extend(outcome.violations.iter().map(|violation| (id.clone(), violation.clone())));
    }
    print_calls(&references);
    println!("learned from {} undisturbed runs in {:.1} s", learned.len(), started.elapsed().as_secs_f64());

    let plans = match only {
        Some(Choice::One(plan)) => vec![plan],
        Some(Choice::Every(workload)) => {
            all(&references).into_iter().filter(|plan| plan.workload == workload).collect()
        }
        None => all(&references),
    };
    report.plans = plans.len();
    let kills = plans.iter().filter(|plan| plan.act == Act::Kill).count();
    let tasks = plans.iter().map(|plan| Task { workload: plan.workload, plan: Some(*plan) }).collect();
    let started = Instant::now();
    let (players, outcomes) = pool(players, tasks, &references, &numbers).await?;
    let seconds = started.elapsed().as_secs_f64();
    for lane in players {
        lane.stop().await?;
    }
    for outcome in &outcomes {
        let Some(plan) = outcome.task.plan else { continue };
        report.violations.extend(outcome.violations.iter().map(|violation| (plan.to_string(), violation.clone())));
    }
    let slowest = outcomes.iter().filter_map(|o| Some((o.recovery?, o.task.plan?))).max_by_key(|(time, _)| *time);
    if let Some((time, plan)) = slowest {
        println!("slowest recovery: {plan}, {:.1} s", time.as_secs_f64());
    }
    let count = plans.len();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred plans")]
    let rate = count as f64 / seconds;
    println!(
        "{count} plans ({kills} kills) in {seconds:.1} s, {rate:.2}/s, {} lanes; {} violations",
        lanes.len(),
        report.violations.len()
    );
    Ok(report)
}

/// Every plan; all kills come before the other faults, and in each half those of segments lie among the others: they
/// have the operator compute most, and lanes that all did so at once would wait for the processor.
fn all(references: &References) -> Vec<Plan> {
    let calls = |workload: Workload| references.get(&workload.calls_of()).map(|r| r.calls.clone()).unwrap_or_default();
    // What the connection does by itself is the same whoever uses it.
    let connecting: Vec<Name> =
        calls(Workload::IssueVault).into_iter().filter(|c| c.owner == Owner::Connection).collect();
    let repeats = |plan: &Plan| {
        let calls = calls(plan.workload);
        let call = plan::places(&calls).into_iter().position(|place| place == plan.place).and_then(|at| calls.get(at));
        plan.workload == Workload::Bind && call.is_some_and(|call| connecting.contains(call))
    };
    let mut plans: Vec<Plan> = Workload::ALL.into_iter().flat_map(|w| Plan::all(w, &calls(w))).collect();
    plans.retain(|plan| !repeats(plan));
    let (kills, others) = plans.into_iter().partition(|plan| plan.act == Act::Kill);
    [spread(kills), spread(others)].concat()
}

/// The same plans, those of segments at even distances among the others.
fn spread(plans: Vec<Plan>) -> Vec<Plan> {
    let (heavy, light): (Vec<Plan>, Vec<Plan>) =
        plans.into_iter().partition(|plan| plan.workload.job() == Job::Segment);
    let total = heavy.len() + light.len();
    let (mut heavy, mut light, mut spread) = (heavy.into_iter(), light.into_iter(), Vec::with_capacity(total));
    let (count, mut taken) = (heavy.len(), 0);
    for place in 0..total {
        let is_due = (taken + 1) * total <= (place + 1) * count;
        taken += usize::from(is_due);
        spread.extend(if is_due { heavy.next() } else { light.next() });
    }
    spread
}

fn learn(outcomes: &[Outcome]) -> References {
    let runs =
        |workload: Workload| outcomes.iter().filter(move |o| o.task.workload == workload).map(|o| o.summary.clone());
    let learned = |workload: Workload| Some((workload, Reference::learn(&runs(workload).collect::<Vec<_>>())?));
    Workload::ALL.into_iter().filter_map(learned).collect()
}

fn print_calls(references: &References) {
    for (workload, reference) in references {
        println!("{}:", workload.name());
        for (place, call) in plan::places(&reference.calls).into_iter().zip(&reference.calls) {
            match place {
                Place::Write(number) => println!("  W{number:02} {call}"),
                Place::Vault(number) => println!("  V{number:02} {call}"),
                Place::Step => {}
            }
        }
        for call in &reference.stray {
            println!("  not in every run: {call}");
        }
        for pointer in &reference.varying {
            println!("  differs between undisturbed runs: {pointer}");
        }
    }
}

/// Starts the lanes one after another: each lists two dozen kinds, and all at once would keep each other from their Leases.
async fn start(common: &Common, names: &[String]) -> Result<Vec<Lane>> {
    let mut lanes = Vec::new();
    for name in names {
        let lane = Lane::start(common.clone(), name).await?;
        lane.leads().await?;
        lanes.push(lane);
    }
    Ok(lanes)
}

/// Plays tasks in parallel, one lane each, and gives the lanes back; prints each task as it ends.
async fn pool(
    lanes: Vec<Lane>,
    tasks: VecDeque<Task>,
    references: &Arc<References>,
    numbers: &Arc<AtomicUsize>,
) -> Result<(Vec<Lane>, Vec<Outcome>)> {
    let queue = Arc::new(Mutex::new(tasks));
    let mut players = JoinSet::new();
    for mut lane in lanes {
        let (queue, references, numbers) = (Arc::clone(&queue), Arc::clone(references), Arc::clone(numbers));
        players.spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(task) = next else { break };
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                outcomes.push(play(&mut lane, task, &references, number).await?);
            }
            anyhow::Ok((lane, outcomes))
        });
    }
    let (mut lanes, mut outcomes) = (Vec::new(), Vec::new());
    while let Some(player) = players.join_next().await {
        let (lane, played) = player.context("a lane failed")??;
        lanes.push(lane);
        outcomes.extend(played);
    }
    Ok((lanes, outcomes))
}

async fn play(lane: &mut Lane, task: Task, references: &References, number: usize) -> Result<Outcome> {
    let Task { workload, plan } = task;
    let calls = references.get(&workload.calls_of()).map(|reference| reference.calls.as_slice()).unwrap_or_default();
    let target = plan.filter(|plan| plan.place != Place::Step).map(|plan| {
        let at = plan::places(calls).into_iter().position(|place| place == plan.place);
        at.and_then(|at| calls.get(at)).cloned().with_context(|| format!("{plan}: the workload has no such call"))
    });
    let target = target.transpose()?;
    let reference = plan.and_then(|_| references.get(&workload.ends_as()));
    let started = Instant::now();
    let stay = if plan.is_some() { STAY } else { LONG_STAY };
    let history = lane.run(workload, plan, target, number, stay).await?;
    let violations = oracle::judge(&history, reference);
    let recovery = history.marks.settled.map(|settled| settled.saturating_sub(history.marks.calm));
    let id = plan.map_or_else(|| format!("{} undisturbed", workload.name()), |plan| plan.to_string());
    let verdict = if violations.is_empty() { "ok" } else { "FAILED" };
    println!("{verdict} {id} ({:.1} s)", started.elapsed().as_secs_f64());
    for violation in &violations {
        println!("    {} {}", violation.invariant, violation.what);
    }
    Ok(Outcome { task, summary: Summary::of(&history), violations, recovery })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::plan::Position;

    #[test]
    fn plans_of_segments_lie_among_the_others_and_none_is_lost() {
        let plan =
            |workload, number| Plan { workload, place: Place::Write(number), position: Position::Lost, act: Act::Kill };
        let light: Vec<Plan> = (0..7).map(|number| plan(Workload::Issue, number)).collect();
        let heavy: Vec<Plan> = (0..3).map(|number| plan(Workload::Close, number)).collect();
        let spread = spread([light.clone(), heavy.clone()].concat());
        let places: Vec<usize> = (0..10).filter(|place| spread[*place].workload == Workload::Close).collect();
        assert_eq!(places, [3, 6, 9]);
        let of = |workload| spread.iter().filter(move |plan| plan.workload == workload).copied().collect::<Vec<_>>();
        assert_eq!((of(Workload::Issue), of(Workload::Close)), (light, heavy));
    }
}
