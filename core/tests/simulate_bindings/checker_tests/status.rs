//! What status and other texts say.

use countersign_core::api::{ConditionType, Reason, Verdict};

use super::{
    breaks, keeps,
    scene::{DB, HOUR, Run, fields},
};
use crate::{checker::Invariant, history::*};

#[test]
fn no_text_tells_a_secret() {
    let mut run = Run::ready();
    run.push(Event::Text("refreshed pay/app, version 1".into()));
    keeps(&run, Invariant::I23);
    for line in ["it is hush-one", "it is aHVzaC1vbmU=", "it is 687573682d6f6e65", "the server said canary-7d1f"] {
        let mut run = Run::ready();
        run.push(Event::Text(line.into()));
        breaks(&run, Invariant::I23);
        let mut run = Run::ready();
        run.tell_with(0, |status| status.text.push_str(line));
        breaks(&run, Invariant::I23);
    }
}

#[test]
fn nobody_panics() {
    let mut run = Run::ready();
    run.restart();
    keeps(&run, Invariant::I29);
    run.push(Event::Process(ProcessChange::Panicked));
    breaks(&run, Invariant::I29);
}

#[test]
fn ready_means_that_it_is_stored() {
    keeps(&Run::ready(), Invariant::I26);

    let mut run = Run::new();
    run.look(0).read_sources(0).tell(0);
    breaks(&run, Invariant::I26);

    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| {
        spec.entries = vec![Entries::One { key: "pw".into(), source: "db".into(), field: "password".into() }];
    });
    run.look(0).tell(0);
    breaks(&run, Invariant::I26);

    let mut run = Run::ready();
    let drifted = Stored { data: fields(&[("password", "other")]), ..run.wanted(0) };
    run.wait(100).write(Actor::User, 0, drifted).tell(0);
    assert_eq!(crate::checker::check(&run.history), Vec::new(), "nobody has looked yet");
    run.look(0).tell(0);
    breaks(&run, Invariant::I26);
}

#[test]
fn the_version_told_is_the_one_stored() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two"), ("user", "app")]).look(0).read_sources(0);
    run.tell_with(0, |status| status.sources[0].version = Some(1));
    assert_eq!(crate::checker::check(&run.history), Vec::new());
    run.tell(0);
    breaks(&run, Invariant::I26);
}

#[test]
fn a_spec_that_is_not_accepted_leaves_the_last_good_output() {
    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| spec.entries.clear()).look(0).tell_with(0, |status| {
        let (kind, verdict) = (ConditionType::Accepted, Verdict::False);
        status.conditions[2] = Condition { kind, verdict, reason: Reason::InvalidSpec, message: "no".into() };
    });
    keeps(&run, Invariant::I26);
}

#[test]
fn an_edit_is_told_in_time() {
    let late = TRUTH_WITHIN + WATCH_LAG + GRACE;
    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| spec.every = 600).wait(late).tell(0);
    keeps(&run, Invariant::I26);

    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| spec.every = 600).wait(late + 1);
    breaks(&run, Invariant::I26);

    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| spec.every = 600).change(WorldChange::ApiServer(false)).wait(HOUR);
    run.change(WorldChange::ApiServer(true)).wait(late).tell(0);
    keeps(&run, Invariant::I26);
}

#[test]
fn suspended_is_told() {
    let mut run = Run::ready();
    run.edit(0, |spec| spec.suspend = true).tell(0);
    keeps(&run, Invariant::I26);
    let mut run = Run::ready();
    run.edit(0, |spec| spec.suspend = true).tell_with(0, |status| drop(status.conditions.pop()));
    breaks(&run, Invariant::I26);
}

#[test]
fn no_refresh_succeeds_in_an_outage() {
    let mut run = Run::ready();
    run.wait(100).vault_is(VaultState::Cut).tell_failure(0, Reason::VaultUnavailable);
    run.wait(GRACE).tell(0);
    keeps(&run, Invariant::I26);
    // A refresh that succeeded just before may be told late.
    run.tell_failure(0, Reason::VaultUnavailable).vault_is(VaultState::Up).metadata(0).vault_is(VaultState::Cut);
    run.wait(GRACE + 1).tell(0);
    keeps(&run, Invariant::I26);
    run.wait(1).tell_failure(0, Reason::VaultUnavailable).wait(1).tell(0);
    breaks(&run, Invariant::I26);
}

#[test]
fn a_status_says_something_new() {
    let again = |lost: bool| {
        let mut run = Run::ready();
        run.wait(100).tell_with(0, |status| (status.text, status.answer_lost) = ("same".into(), lost));
        run.wait(5).tell_with(0, |status| status.text = "same".into());
        run
    };
    breaks(&again(false), Invariant::I15);
    keeps(&again(true), Invariant::I15);
}

#[test]
fn a_retry_is_no_reason_for_a_status() {
    let retried = |times: usize| {
        let mut run = Run::ready();
        run.idle(HOUR);
        for _ in 0..times {
            run.wait(60).look(0).tell_failure(0, Reason::VaultUnavailable);
        }
        run
    };
    keeps(&retried(7), Invariant::I15);
    breaks(&retried(8), Invariant::I15);
}

#[test]
fn a_steady_cluster_writes_no_status() {
    let mut run = Run::ready();
    run.idle(HOUR).mark(Mark::SteadyBegins).look(0).tell(0);
    breaks(&run, Invariant::I15);
    let mut run = Run::ready();
    run.idle(6 * HOUR).mark(Mark::SteadyBegins).look(0).tell(0);
    keeps(&run, Invariant::I15);

    // Time alone makes what fails stale.
    let failing = || {
        let mut run = Run::ready();
        run.idle(HOUR).look(0).tell_failure(0, Reason::RemoteMissing).idle(HOUR).mark(Mark::SteadyBegins).look(0);
        run
    };
    let stale = |status: &mut StatusWrite| {
        let (kind, verdict) = (ConditionType::Stale, Verdict::True);
        status.conditions[1].verdict = Verdict::False;
        status.conditions.push(Condition { kind, verdict, reason: Reason::Stale, message: "old".into() });
    };
    let mut run = failing();
    run.tell_with(0, stale);
    keeps(&run, Invariant::I15);
    let mut run = failing();
    run.tell_failure(0, Reason::RemoteMissing);
    breaks(&run, Invariant::I15);
}
