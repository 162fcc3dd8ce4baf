//! Whole runs compared, and coverage counted.

use std::collections::BTreeSet;

use countersign_core::api::{ConditionType, Reason};

use super::scene::{LEADER, Run, holds};
use crate::{
    checker::{Invariant, check, end_state_equal, exercised},
    history::*,
};

fn renewed() -> Run {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store(&leaf).tell();
    run
}

/// The same, with a crash between signature and write.
fn crashed_and_renewed() -> Run {
    let mut run = Run::due();
    run.mark(Mark::FaultsBegin);
    run.sign();
    run.world(Event::Process(ProcessChange::Killed), LEADER);
    run.mark(Mark::FaultsEnd);
    run.process = Process { epoch: 2, ..LEADER };
    run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken));
    run.wait(5).login().issue();
    run
}

fn differences(disturbed: &Run) -> BTreeSet<Invariant> {
    end_state_equal(&renewed().history, &disturbed.history).iter().map(|one| one.invariant).collect()
}

#[test]
fn a_disturbed_run_ends_like_the_undisturbed_one() {
    assert_eq!(check(&crashed_and_renewed().history), Vec::new());
    assert_eq!(differences(&crashed_and_renewed()), BTreeSet::new());
}

#[test]
fn another_end_is_seen() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.ca_crt.push(Root(2))).tell();
    assert_eq!(differences(&run), BTreeSet::from([Invariant::I17]));

    let mut run = renewed();
    run.tell_with(|status| status.conditions.push(holds(ConditionType::Stalled, Reason::InternalError)));
    assert_eq!(differences(&run), BTreeSet::from([Invariant::I17]));
}

#[test]
fn an_end_that_does_not_stay_is_seen() {
    let mut run = crashed_and_renewed();
    let leaf = run.target().unwrap().1.content.tls_crt.clone().unwrap();
    run.wait(60).store_with(&leaf, |stored| stored.content.ca_crt.push(Root(2)));
    run.store(&leaf);
    assert_eq!(differences(&run), BTreeSet::from([Invariant::I17]));
}

#[test]
fn more_creates_and_deletes_are_seen_unless_permitted() {
    let twice = || {
        let mut run = Run::due();
        run.mark(Mark::FaultsBegin);
        let delete = run.delete();
        run.perform(delete).read();
        let leaf = run.sign();
        run.store(&leaf).tell().mark(Mark::FaultsEnd);
        run
    };
    assert_eq!(differences(&twice()), BTreeSet::from([Invariant::I18]));
    let mut run = twice();
    run.history.settings.permitted_extras.push(run.who.spec.secret);
    assert_eq!(differences(&run), BTreeSet::new());
}

#[test]
fn what_is_exercised_is_counted() {
    let nothing = exercised(&History::new(Settings::default()));
    assert!(nothing.is_empty());
    let counted = exercised(&renewed().history);
    assert_eq!(counted.get(&Invariant::I03), Some(&1), "one renewal");
    assert_eq!(counted.get(&Invariant::I02), Some(&2), "two leaves");
    assert_eq!(counted.get(&Invariant::I07), None, "no outage");
}
