//! How often a secret is read, and whether what is due is done.

use countersign_core::api::{Reason, RefreshMode};

use super::{
    breaks, keeps,
    scene::{DB, HOUR, Run, fields, plain_spec},
};
use crate::{checker::Invariant, history::*};

#[test]
fn reads_of_a_minute_are_few() {
    let failing = |times: i64| {
        let mut run = Run::ready();
        run.idle(HOUR);
        for _ in 0..times {
            run.wait(4).metadata_answered(0, VaultAnswer::Status(500));
        }
        run
    };
    keeps(&failing(12), Invariant::I14);
    breaks(&failing(13), Invariant::I14);
}

#[test]
fn a_source_is_read_once_in_its_time() {
    let read_at = |moments: &[i64]| {
        let mut run = Run::ready();
        run.idle(HOUR);
        let mut last = 0;
        for moment in moments {
            run.idle(moment - last).look(0).metadata(0);
            last = *moment;
        }
        run
    };
    keeps(&read_at(&[900, 1_800, 2_700]), Invariant::NotDue);
    keeps(&read_at(&[900, 1_000, 1_900]), Invariant::NotDue);
    breaks(&read_at(&[900, 1_000, 1_200]), Invariant::NotDue);

    // What changed may be looked at again.
    let mut run = read_at(&[900, 1_000]);
    run.request(0, "now").metadata(0);
    keeps(&run, Invariant::NotDue);
}

#[test]
fn a_start_reads_nothing_that_is_not_due() {
    let started = || {
        let mut run = Run::ready();
        run.idle(HOUR).restart().login().wait(5).look(0).metadata(0);
        run
    };
    let mut run = started();
    run.idle(895).metadata(0);
    keeps(&run, Invariant::NotDue);
    let mut run = started();
    run.idle(300).metadata(0);
    breaks(&run, Invariant::NotDue);
}

#[test]
fn only_time_refreshes_what_is_refreshed_by_time() {
    let mut spec = plain_spec();
    spec.mode = RefreshMode::OnChange;
    let mut run = Run::ready_with(spec.clone());
    run.wait(HOUR).request(0, "again").look(0).metadata(0);
    keeps(&run, Invariant::I14);

    let mut run = Run::ready_with(spec);
    run.wait(HOUR).metadata(0);
    breaks(&run, Invariant::NotDue);

    let mut spec = plain_spec();
    spec.mode = RefreshMode::Once;
    let mut run = Run::ready_with(spec);
    run.wait(HOUR).mark(Mark::SteadyBegins).wait(10).metadata(0);
    breaks(&run, Invariant::I15);
}

#[test]
fn a_steady_cluster_reads_what_is_due() {
    let steady = || {
        let mut run = Run::ready();
        run.idle(HOUR).mark(Mark::SteadyBegins).wait(10).look(0).metadata(0);
        run
    };
    let mut run = steady();
    run.idle(900).metadata(0);
    keeps(&run, Invariant::I15);
    let mut run = steady();
    run.idle(300).metadata(0);
    breaks(&run, Invariant::I15);
    let mut run = steady();
    run.values(0, 1);
    breaks(&run, Invariant::I15);
    let mut run = steady();
    run.login().idle(600).call(None, VaultCall::LookupSelf, VaultAnswer::Status(403)).login();
    breaks(&run, Invariant::I15);
}

#[test]
fn what_fails_is_tried_once_a_minute() {
    let requested = |times: i64, apart: i64| {
        let mut run = Run::ready();
        run.idle(HOUR).metadata_answered(0, VaultAnswer::Status(404)).tell_failure(0, Reason::RemoteMissing);
        for _ in 0..times {
            run.wait(apart).request(0, "again").metadata_answered(0, VaultAnswer::Status(404));
        }
        run
    };
    keeps(&requested(5, 60), Invariant::I14);
    keeps(&requested(2, 10), Invariant::OneForcedTry);
    breaks(&requested(3, 10), Invariant::OneForcedTry);
}

#[test]
fn a_target_is_looked_at() {
    let mut run = Run::ready();
    run.idle(HOUR).look(0);
    keeps(&run, Invariant::DriftSeen);
    run.wait(DRIFT + GRACE + WATCH_LAG + 1);
    breaks(&run, Invariant::DriftSeen);

    // Nobody looks at what is suspended.
    let mut run = Run::ready();
    run.idle(HOUR).edit(0, |spec| spec.suspend = true).tell(0).wait(HOUR);
    assert_eq!(crate::checker::check(&run.history), Vec::new());
}

#[test]
fn what_is_due_is_done() {
    let put = || {
        let mut run = Run::ready();
        run.idle(HOUR).put(DB, &[("password", "two"), ("user", "app")]);
        run
    };
    let mut run = put();
    run.wait(100).refresh(0).idle(2 * HOUR).mark(Mark::End);
    keeps(&run, Invariant::Due);

    let mut run = put();
    run.idle(2 * HOUR).mark(Mark::End);
    breaks(&run, Invariant::Due);

    // What failed once is tried again within the longest back-off, and told of.
    let mut run = put();
    run.look(0).metadata_answered(0, VaultAnswer::Status(404)).tell_failure(0, Reason::RemoteMissing);
    run.idle(2 * HOUR).mark(Mark::End);
    breaks(&run, Invariant::Due);
    let mut run = put();
    run.wait(100).look(0).read_sources(0).apply(0).tell_failure(0, Reason::RemoteMissing);
    run.idle(2 * HOUR).mark(Mark::End);
    breaks(&run, Invariant::Due);

    let mut run = put();
    run.idle(2 * 900 + DRIFT + GRACE + WATCH_LAG).wait(1);
    breaks(&run, Invariant::Due);

    // It is no excuse that the new version was seen.
    let mut run = put();
    run.wait(100).look(0).metadata(0).idle(2 * 900 + DRIFT + GRACE + WATCH_LAG);
    breaks(&run, Invariant::Due);

    // What fails has its own times.
    let mut run = put();
    run.metadata_answered(0, VaultAnswer::Status(500)).idle(HOUR);
    assert_eq!(crate::checker::check(&run.history), Vec::new());

    // A deleted version is no values, and it may be that there was no time yet.
    let mut run = put();
    run.delete_newest(DB).idle(2 * HOUR).mark(Mark::End);
    assert_eq!(crate::checker::check(&run.history), Vec::new());
    let mut run = put();
    run.idle(HOUR / 2).mark(Mark::End);
    assert_eq!(crate::checker::check(&run.history), Vec::new());
}

#[test]
fn drift_is_repaired() {
    let drifted = |path_is_shown: bool| {
        let mut run = Run::ready();
        let mut less = run.held[0].clone().unwrap().1;
        less.data.remove("user");
        run.idle(HOUR).write(Actor::User, 0, less);
        if !path_is_shown {
            run.metadata_answered(0, VaultAnswer::Status(500));
        }
        run
    };
    let late = DRIFT + GRACE + WATCH_LAG;
    let mut run = drifted(true);
    run.idle(DRIFT).login().read_sources(0).apply(0).idle(HOUR);
    keeps(&run, Invariant::DriftSeen);
    let mut run = drifted(true);
    run.idle(late + 1);
    breaks(&run, Invariant::DriftSeen);
    let mut run = drifted(false);
    run.idle(late + 1);
    keeps(&run, Invariant::DriftSeen);

    // A value that somebody else owns now is a conflict to be told of.
    let mut run = Run::ready();
    let other = Stored { data: fields(&[("password", "other"), ("user", "app")]), ..run.held[0].clone().unwrap().1 };
    run.idle(HOUR).write(Actor::User, 0, other).idle(2 * HOUR);
    keeps(&run, Invariant::DriftSeen);
}

#[test]
fn a_clock_that_jumps_moves_every_moment() {
    let mut run = Run::ready();
    run.idle(HOUR).look(0).metadata(0).idle(100).metadata(0);
    run.change(WorldChange::ClockStep { leader: 1, seconds: 60 }).wait(60).metadata(0);
    keeps(&run, Invariant::NotDue);
}

#[test]
fn refused_metadata_are_no_failure() {
    let mut run = Run::ready();
    run.idle(HOUR).change(WorldChange::MetadataClosed(true));
    for _ in 0..4 {
        run.wait(10).metadata_answered(0, VaultAnswer::Status(403)).values(0, 1);
    }
    keeps(&run, Invariant::I14);
}
