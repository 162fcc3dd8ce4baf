//! What a candidate does next, as tables.

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held_by(holder: &str, version: &str) -> Record {
    Record { holder: Some(holder.into()), version: version.into(), transitions: 1 }
}

fn released(version: &str) -> Record {
    Record { holder: None, version: version.into(), transitions: 1 }
}

fn me() -> View {
    View::new("me", Timing::default())
}

/// A leader whose last renewal was sent at `at` and answered at once.
fn leading_since(at: Duration) -> View {
    me().absorb(Reply::Written(held_by("me", "1")), at, at)
}

fn check(view: &View, now: Duration, expected: &Action) {
    assert_eq!(&decide(view, now), expected, "at {now:?} of {view:?}");
}

#[test]
fn a_follower_reads_at_once_and_then_every_two_seconds() {
    check(&me(), s(0), &Action::Read);
    let other = me().absorb(Reply::Read(Some(held_by("other", "7"))), s(0), s(0));
    check(&other, s(1), &Action::Wait(s(1)));
    check(&other, s(2), &Action::Read);
}

#[test]
fn a_follower_creates_a_lease_that_never_was() {
    check(&me().absorb(Reply::Read(None), s(0), s(0)), s(0), &Action::Create);
}

#[test]
fn a_deleted_lease_is_waited_out_because_its_holder_may_still_write() {
    let gone = me().absorb(Reply::Read(Some(held_by("other", "7"))), s(0), s(0)).absorb(Reply::Read(None), s(2), s(2));
    check(&gone, s(2), &Action::Wait(s(2)));
    let still = gone.absorb(Reply::Read(None), s(16), s(16));
    check(&still, s(16), &Action::Wait(s(2)));
    check(&still, s(17), &Action::Create);
}

#[test]
fn a_released_lease_is_taken_at_once() {
    check(&me().absorb(Reply::Read(Some(released("9"))), s(0), s(0)), s(0), &Action::Take(released("9")));
}

#[test]
fn an_unchanged_lease_is_taken_after_its_duration_and_a_renewed_one_is_not() {
    let seen = me().absorb(Reply::Read(Some(held_by("other", "7"))), s(0), s(1));
    let unchanged = seen.clone().absorb(Reply::Read(Some(held_by("other", "7"))), s(15), s(15));
    check(&unchanged, s(15), &Action::Wait(s(2)));
    check(&unchanged, s(16), &Action::Take(held_by("other", "7")));
    let renewed = seen.absorb(Reply::Read(Some(held_by("other", "8"))), s(15), s(15));
    check(&renewed, s(16), &Action::Wait(s(1)));
    check(&renewed, s(29), &Action::Read);
}

#[test]
fn after_a_failure_a_follower_looks_before_it_takes() {
    let seen = me().absorb(Reply::Read(Some(released("9"))), s(0), s(0));
    for reply in [Reply::Conflict, Reply::Failed] {
        let failed = seen.clone().absorb(reply, s(0), s(0));
        check(&failed, s(1), &Action::Wait(s(1)));
        check(&failed, s(2), &Action::Read);
    }
}

#[test]
fn a_lost_answer_to_my_take_is_finished_by_taking_again() {
    let lost = me().absorb(Reply::Read(Some(released("9"))), s(0), s(0)).absorb(Reply::Failed, s(0), s(10));
    let found = lost.absorb(Reply::Read(Some(held_by("me", "10"))), s(10), s(10));
    assert_eq!(found.renewed_at(), None, "a read is no renewal");
    check(&found, s(10), &Action::Take(held_by("me", "10")));
}

#[test]
fn a_leader_renews_every_five_seconds_with_the_version_it_wrote() {
    check(&leading_since(s(3)), s(3), &Action::Wait(s(5)));
    check(&leading_since(s(3)), s(8), &Action::Renew(held_by("me", "1")));
}

#[test]
fn a_leader_looks_before_it_renews_again_and_steps_down_at_the_grace() {
    for reply in [Reply::Conflict, Reply::Failed] {
        let failed = leading_since(s(0)).absorb(reply, s(5), s(5));
        check(&failed, s(5), &Action::Wait(s(1)));
        check(&failed, s(6), &Action::Read);
        check(&failed, s(10), &Action::StepDown(Loss::NotRenewed));
        let found = failed.absorb(Reply::Read(Some(held_by("me", "2"))), s(6), s(6));
        check(&found, s(6), &Action::Renew(held_by("me", "2")));
    }
}

#[test]
fn a_leader_that_sees_another_state_steps_down() {
    let table =
        [(Some(held_by("other", "2")), Loss::OtherHolder), (Some(released("2")), Loss::Cleared), (None, Loss::Deleted)];
    for (found, loss) in table {
        let view = leading_since(s(0)).absorb(Reply::Conflict, s(5), s(5)).absorb(Reply::Read(found), s(6), s(6));
        check(&view, s(6), &Action::StepDown(loss));
    }
}

#[test]
fn the_fence_counts_from_before_the_renewal_was_sent() {
    let view = leading_since(s(0)).absorb(Reply::Written(held_by("me", "2")), s(5), s(9));
    assert_eq!(view.renewed_at(), Some(s(5)));
    let ends = s(15);
    assert!(fence(view.renewed_at(), ends.saturating_sub(Duration::from_nanos(1)), Timing::default()));
    assert!(!fence(view.renewed_at(), ends, Timing::default()));
    assert!(!fence(None, s(0), Timing::default()));
}

#[test]
fn resigning_ends_the_term_before_anything_is_sent() {
    let mut view = leading_since(s(0));
    assert_eq!(view.resign(), Some(held_by("me", "1")));
    assert!(!fence(view.renewed_at(), s(0), Timing::default()));
    assert_eq!(view.resign(), None, "there is nothing left to release");

    let mut unsure = leading_since(s(0)).absorb(Reply::Failed, s(5), s(5));
    assert_eq!(unsure.resign(), None, "the version is not known");
    assert_eq!(unsure.renewed_at(), None);

    let mut follower = me().absorb(Reply::Read(Some(held_by("other", "7"))), s(0), s(0));
    assert_eq!(follower.resign(), None, "what another holds is not released");
}

#[test]
fn a_leader_keeps_time_for_a_second_try() {
    assert_eq!(me().deadline(s(0)), s(10));
    assert_eq!(leading_since(s(0)).deadline(s(5)), Duration::from_millis(2_500));
    assert_eq!(leading_since(s(0)).deadline(s(10)), Duration::from_millis(500));
}

#[test]
fn timings_leave_room_for_a_retry_and_for_the_takeover() {
    let table = [
        (15, 10, Ok(())),
        (4, 3, Ok(())),
        (10, 10, Err(TimingError::NoMargin)),
        (10, 15, Err(TimingError::NoMargin)),
        (15, 7, Err(TimingError::NoRetry)),
        (4_000, 3_000, Err(TimingError::OutOfRange)),
    ];
    for (duration, grace, expected) in table {
        assert_eq!(Timing::new(s(duration), s(grace)).map(|_| ()), expected, "{duration} {grace}");
    }
    assert_eq!(Timing::new(Duration::from_millis(15_500), s(10)), Err(TimingError::OutOfRange));
}
