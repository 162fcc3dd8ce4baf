//! The simulator of bindings: the operator's decisions against a model API server and a model Vault, and an
//! independent judge of what came of it.
//!
//! `COUNTERSIGN_BINDING_SCHEDULES` runs another number of schedules, and `COUNTERSIGN_BINDING_SEED=N` replays one and
//! prints its history.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::struct_excessive_bools,
    clippy::single_match_else,
    clippy::unused_self,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    clippy::assigning_clones,
    clippy::needless_for_each,
    reason = "a simulator that meets the impossible should stop at once, with the line"
)]

#[path = "../simulate/chance.rs"]
mod chance;
#[macro_use]
#[path = "../simulate/mutant.rs"]
mod mutant;
mod checker;
#[cfg(test)]
mod checker_tests;
#[path = "../simulate/election.rs"]
mod election;
mod history;
mod model;
mod mutants;
mod operator;
mod schedule;
mod tally;
#[path = "../simulate/words.rs"]
mod words;

use std::{collections::BTreeMap, time::Instant};

use mutants::Mutant;
use schedule::Ended;
use tally::Tally;

/// Schedules of a run that was not told another number.
const SCHEDULES: u64 = 100_000;
/// One schedule in so many is also held against an undisturbed run.
const COMPARED: u64 = 4;
/// Schedules within which a mutant must be caught.
const PATIENCE: u64 = 20_000;
/// Seeds that once broke a promise; each is kept for what it found.
const ONCE_BROKEN: &[(u64, &str)] = &[
    (582, "the status did not say which version was stored, since whoever wrote it died before it was told"),
    (1_188, "as 582"),
    (1_500, "as 582, after a status whose answer was lost; a lagging server was believed by that"),
    (3_569, "a spec that was edited without a change of its rendering was told as synced, and its source as denied"),
    (3_777, "a failure that was told and whose answer was lost was taken back without a look at the server"),
    (10_273, "as 3569, while nobody could be asked at all"),
    (82_028, "a source that moved to another path was held, as its version there is a smaller number"),
];

#[expect(clippy::disallowed_methods, reason = "a test is told its seed by the environment")]
fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_schedule_breaks_a_promise() {
    if let Some(seed) = told("COUNTERSIGN_BINDING_SEED") {
        return replay(&schedule::run(seed, Mutant::None, &mut Tally::default()));
    }
    let schedules = told("COUNTERSIGN_BINDING_SCHEDULES").unwrap_or(SCHEDULES);
    let started = Instant::now();
    // Two workers: a seed is a run, whoever runs it.
    let workers: Vec<_> = (0..2).map(|first| std::thread::spawn(move || survey(first, schedules))).collect();
    let mut found = Survey::default();
    for worker in workers {
        found.merge(worker.join().unwrap());
    }
    let rate = f64::from(u32::try_from(schedules).unwrap()) / started.elapsed().as_secs_f64();
    for ((invariant, why), seeds) in &found.broken {
        let some: Vec<_> = seeds.iter().take(12).map(u64::to_string).collect();
        println!("{invariant}: {why}: {} schedules: {}", seeds.len(), some.join(" "));
    }
    let violations: usize = found.broken.values().map(Vec::len).sum();
    let (table, never) = found.tally.report();
    let Survey { judged, compared, .. } = &found;
    println!(
        "{schedules} schedules of bindings, {rate:.0} a second, {compared} against undisturbed ones, {violations} violations"
    );
    println!("{table}\njudged (every 64th): {judged:?}");
    assert_eq!(violations, 0, "replay a seed as listed above");
    assert!(schedules < SCHEDULES || never.is_empty(), "never hit: {never:?}");
}

/// What some schedules showed.
#[derive(Default)]
struct Survey {
    tally: Tally,
    judged: BTreeMap<checker::Invariant, usize>,
    broken: BTreeMap<(String, String), Vec<u64>>,
    compared: usize,
}

impl Survey {
    fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        other.judged.into_iter().for_each(|(invariant, times)| *self.judged.entry(invariant).or_insert(0) += times);
        other.broken.into_iter().for_each(|(kind, seeds)| self.broken.entry(kind).or_default().extend(seeds));
        self.compared += other.compared;
    }

    fn take(&mut self, seed: u64, ended: &Ended, violations: &[checker::Violation]) {
        let worst = violations.first().map(|violation| (format!("{:?}", violation.invariant), violation.why.clone()));
        if let Some(kind) = worst.or_else(|| ended.unsettled.clone().map(|why| ("unsettled".to_owned(), why))) {
            self.broken.entry(kind).or_default().push(seed);
        }
        if seed % 64 < 2 {
            for (invariant, times) in checker::exercised(&ended.history) {
                *self.judged.entry(invariant).or_insert(0) += times;
            }
        }
    }
}

/// Every second schedule, from `first`.
fn survey(first: u64, schedules: u64) -> Survey {
    let mut found = Survey::default();
    for seed in (first..schedules).step_by(2) {
        let ended = schedule::run(seed, Mutant::None, &mut found.tally);
        let mut violations = checker::check(&ended.history);
        if seed / 2 % COMPARED == 0 && violations.is_empty() && ended.unsettled.is_none() {
            violations = against_undisturbed(&ended);
            found.compared += 1;
        }
        found.take(seed, &ended, &violations);
    }
    found
}

/// How the end differs from what the same wishes come to when nothing is in the way (I-17, I-18).
fn against_undisturbed(ended: &Ended) -> Vec<checker::Violation> {
    checker::end_state_equal(&schedule::undisturbed(ended), &ended.history)
}

fn replay(ended: &Ended) {
    for entry in &ended.history.entries {
        println!("{:>5} {:>9} {:?} {:?}", entry.ordinal, entry.at, entry.actor, entry.event);
    }
    let mut violations = checker::check(&ended.history);
    if violations.is_empty() {
        violations = against_undisturbed(ended);
    }
    assert!(violations.is_empty() && ended.unsettled.is_none(), "{violations:?} {:?}", ended.unsettled);
}

#[test]
fn what_was_found_once_stays_repaired() {
    for (seed, found) in ONCE_BROKEN {
        let ended = schedule::run(*seed, Mutant::None, &mut Tally::default());
        assert_eq!(checker::check(&ended.history), Vec::new(), "seed {seed}: {found}");
        assert_eq!(ended.unsettled, None, "seed {seed}: {found}");
    }
}

#[test]
fn every_mutant_is_caught_by_its_invariant() {
    let mut escaped = Vec::new();
    for (mutant, invariant) in Mutant::ALL {
        let caught = (0..PATIENCE).find(|seed| {
            let ended = schedule::run(*seed, *mutant, &mut Tally::default());
            let mut violations = checker::check(&ended.history);
            if *invariant == checker::Invariant::I17 {
                violations.extend(against_undisturbed(&ended));
            }
            violations.iter().any(|violation| violation.invariant == *invariant)
        });
        match caught {
            Some(seed) => println!("{mutant:?} is caught by {invariant:?} at seed {seed}"),
            None => escaped.push((mutant, invariant)),
        }
    }
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}
