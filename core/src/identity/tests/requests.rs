//! Requests for a new certificate: when they are served, and what they cost.

use super::shell::{START, Shell};
use crate::{
    api::Reason,
    fault::{Class, Failure},
    identity::{renewal::second, world::TargetView},
};

/// An identity whose certificate is an hour old.
fn issued() -> (Shell, i64) {
    let mut shell = Shell::new();
    shell.pass(START);
    assert_eq!((shell.says("Ready").as_str(), shell.asked), ("True/Valid", 1));
    (shell, START + 3_600)
}

fn request(shell: &mut Shell, text: &str) {
    shell.intent.requested = Some(text.to_owned());
}

fn refuses(_: i64, _: i64) -> Result<i64, Failure> {
    Err(Failure::new(Class::Denied, Reason::AccessDenied, "no"))
}

#[test]
fn a_second_request_within_the_minute_waits_for_it_and_is_served_once() {
    let (mut shell, now) = issued();
    request(&mut shell, "first");
    shell.pass(now);
    assert_eq!((shell.asked, shell.status.last_handled_request.as_deref()), (2, Some("first")));

    // Each pass is that of a new process: what holds it back is stored.
    request(&mut shell, "second");
    for at in [now + 1, now + 30, now + 59] {
        let settled = shell.pass(at);
        assert_eq!((shell.asked, settled.wake), (2, Some(second(now + 60))), "{at}");
        assert_eq!(shell.status.last_handled_request.as_deref(), Some("first"));
        assert_eq!(shell.says("Ready"), "True/Valid");
    }
    for at in [now + 60, now + 61, now + 7_200] {
        shell.pass(at);
        assert_eq!((shell.asked, shell.status.last_handled_request.as_deref()), (3, Some("second")), "{at}");
    }
}

#[test]
fn the_minute_outlives_other_writes_of_the_secret() {
    let (mut shell, now) = issued();
    request(&mut shell, "first");
    shell.pass(now);
    // A rewrite without a signature, then a renewal of another cause, then the annotation goes and comes.
    shell.intent.target.labels.insert("team".to_owned(), "pay".to_owned());
    shell.pass(now + 5);
    assert_eq!(shell.asked, 2);
    shell.intent.requested = None;
    shell.intent.service_account = "other".to_owned();
    shell.pass(now + 10);
    assert_eq!(shell.asked, 3);
    request(&mut shell, "second");
    shell.pass(now + 15);
    assert_eq!(shell.asked, 3, "less than a minute after the first");
}

#[test]
fn the_first_request_needs_no_minute_after_an_issue_of_another_cause() {
    let mut shell = Shell::new();
    shell.pass(START);
    request(&mut shell, "first");
    shell.pass(START + 1);
    assert_eq!((shell.asked, shell.status.last_handled_request.as_deref()), (2, Some("first")));
}

#[test]
fn a_time_in_the_future_and_a_mark_without_a_time_hold_nobody_up() {
    for mark in ["another 2999-01-01T00:00:00Z", "another"] {
        let (mut shell, now) = issued();
        let TargetView::Present(stored) = &mut shell.target else { panic!("it is there") };
        stored.answered_request = Some(mark.to_owned());
        request(&mut shell, "first");
        shell.pass(now);
        assert_eq!(shell.asked, 2, "{mark}");
    }
}

/// What an issuer that refuses is asked: by the first try of a request at once or at the minute, then by the back-off.
#[test]
fn a_request_clears_the_back_off_once() {
    let (mut shell, now) = issued();
    shell.issuer = refuses;
    request(&mut shell, "first");
    for (at, asked) in [(0, 2), (60, 2), (299, 2), (300, 3), (360, 3), (899, 3), (900, 4)] {
        shell.pass(now + at);
        assert_eq!(shell.asked, asked, "{at}");
    }
    // The next doubling would be 20 minutes.
    request(&mut shell, "second");
    for (at, asked) in [(901, 4), (959, 4), (960, 5), (1_020, 5), (1_259, 5), (1_260, 6)] {
        shell.pass(now + at);
        assert_eq!(shell.asked, asked, "{at}");
    }
    // Another generation does not wait at all.
    shell.intent.generation += 1;
    shell.pass(now + 1_261);
    assert_eq!(shell.asked, 7);
}

#[test]
fn a_request_clears_the_back_off_of_a_certificate_that_never_came() {
    let mut shell = Shell::new();
    shell.issuer = refuses;
    for (at, asked) in [(0, 1), (299, 1), (300, 2)] {
        shell.pass(START + at);
        assert_eq!(shell.asked, asked, "{at}");
    }
    request(&mut shell, "first");
    for (at, asked) in [(301, 2), (359, 2), (360, 3), (420, 3)] {
        shell.pass(START + at);
        assert_eq!(shell.asked, asked, "{at}");
    }
}

/// The end of every certificate of an issuer whose end stays.
const ONE_END: i64 = START + 72_000;

fn ends_at_one_time(_: i64, _: i64) -> Result<i64, Failure> {
    Ok(ONE_END)
}

#[test]
fn a_request_in_the_second_of_the_issue_is_answered() {
    let mut shell = Shell::new();
    shell.pass(START);
    request(&mut shell, "first");
    shell.pass(START);
    assert_eq!((shell.asked, shell.status.last_handled_request.as_deref()), (2, Some("first")));
    assert_eq!(shell.status.revision, Some(2));
}

#[test]
fn a_request_is_answered_though_the_end_stays() {
    let mut shell = Shell::new();
    shell.issuer = ends_at_one_time;
    shell.pass(START);
    request(&mut shell, "first");
    for at in [START + 1, START + 2, START + 600] {
        let settled = shell.pass(at);
        assert_eq!((shell.asked, shell.status.last_handled_request.as_deref()), (2, Some("first")), "{at}");
        assert_eq!((shell.says("Issued").as_str(), settled.due), ("True/TTLShortened", None));
    }
}

/// Renewal and request are both due: the renewal is refused, the request is not.
#[test]
fn a_request_is_answered_though_a_renewal_is_refused() {
    let mut shell = Shell::new();
    shell.issuer = ends_at_one_time;
    shell.pass(START);
    let due = START + 71_000;
    shell.pass(due);
    assert_eq!((shell.asked, shell.says("Issued").as_str()), (2, "False/RenewalNotLater"));
    request(&mut shell, "first");
    shell.pass(due + 60);
    // What was stored is due again, because its end is as near as before; that renewal waits.
    assert_eq!(shell.status.last_handled_request.as_deref(), Some("first"));
    assert_eq!(shell.status.revision, Some(2));
}

#[test]
fn an_end_that_would_go_down_refuses_a_request_and_backs_off() {
    let (mut shell, now) = issued();
    shell.issuer = |now, _| Ok(now + 3_600);
    request(&mut shell, "first");
    for (at, asked) in [(0, 2), (60, 2), (299, 2), (300, 3), (899, 3), (900, 4)] {
        shell.pass(now + at);
        assert_eq!((shell.asked, shell.says("Issued").as_str()), (asked, "False/RenewalNotLater"), "{at}");
        assert_eq!((shell.says("Ready").as_str(), &shell.status.last_handled_request), ("True/Valid", &None));
    }
}

/// Refused renewals back off to one an hour, and the end of the certificate changes nothing about it.
#[test]
fn an_issuer_whose_end_stays_is_not_asked_in_a_loop() {
    let mut shell = Shell::new();
    shell.issuer = ends_at_one_time;
    let mut at = START;
    while at < ONE_END + 36_000 {
        let settled = shell.pass(at);
        at = settled.wake.unwrap().as_second().max(at + 1);
    }
    let hours = 30;
    assert!(shell.asked <= 5 + hours, "{} signatures", shell.asked);
    assert_eq!(shell.status.revision, Some(1));
}
