//! What the conditions say of a certificate that is not quite what was asked for.

use std::time::Duration;

use super::shell::{START, Shell, as_asked};
use crate::{
    api::Reason,
    fault::{Class, Failure},
    identity::world::{DomainView, TargetView, World},
};

const HOUR: u64 = 3_600;

fn two_hours_at_most(now: i64, ttl: i64) -> Result<i64, Failure> {
    as_asked(now, ttl.min(7_200))
}

#[test]
fn a_shortened_life_and_a_point_that_does_not_fit_in_it_are_both_told() {
    let shorter = "asked 20h, got 2h5m; the issuer's limit applies";
    let too_long = "renewBefore 1h30m is half the lifetime or more; the default renewal point is used";
    let both = format!("{too_long}; the lifetime was shortened (TTLShortened: {shorter})");
    for (limited, renew_before, reason, message) in [
        (false, None, "Issued", "the certificate asked for is stored"),
        (true, None, "TTLShortened", shorter),
        (true, Some(HOUR / 2), "TTLShortened", shorter),
        (true, Some(3 * HOUR / 2), "RenewBeforeTooLong", &both),
        (false, Some(3 * HOUR / 2), "Issued", "the certificate asked for is stored"),
    ] {
        let mut shell = Shell::new();
        shell.issuer = if limited { two_hours_at_most } else { as_asked };
        shell.intent.ttl = Some(Duration::from_secs(20 * HOUR));
        shell.intent.renew_before = renew_before.map(Duration::from_secs);
        shell.pass(START);
        assert_eq!((shell.says("Issued"), shell.message("Issued")), (format!("True/{reason}"), message));
        assert_eq!((shell.says("Ready").as_str(), shell.says("Stalled").as_str()), ("True/Valid", ""));
    }
    let mut shell = Shell::new();
    shell.intent.ttl = Some(Duration::from_secs(2 * HOUR));
    shell.intent.renew_before = Some(Duration::from_secs(3 * HOUR / 2));
    shell.pass(START);
    assert_eq!((shell.says("Issued").as_str(), shell.message("Issued")), ("True/RenewBeforeTooLong", too_long));
}

/// The guard is the last of the gates that decide `Accepted` (bad input, row 36).
#[test]
fn what_the_guard_holds_is_not_accepted_until_it_lets_go() {
    let mut shell = Shell::new();
    for number in 0..4 {
        shell.intent.service_account = format!("account-{number}");
        shell.intent.generation += 1;
        shell.pass(START + number);
    }
    let reason = "False/IssuanceThrottled";
    assert_eq!((shell.asked, shell.says("Accepted").as_str(), shell.says("Issued").as_str()), (3, reason, reason));
    assert_eq!(
        (shell.says("Ready").as_str(), shell.says("Reconciling").as_str()),
        ("False/OutOfDate", "True/IssuanceThrottled")
    );
    shell.pass(START + 600);
    assert_eq!(
        (shell.asked, shell.says("Accepted").as_str(), shell.says("Issued").as_str()),
        (4, "True/Accepted", "True/Issued")
    );
}

/// What is stored is what the spec asks for: only the wish for another one is not accepted for now.
#[test]
fn a_request_that_is_held_leaves_the_rest_as_it_was() {
    let mut shell = Shell::new();
    for (at, text) in [(0, "first"), (1, "second")] {
        shell.pass(START + at);
        shell.intent.requested = Some(text.to_owned());
        shell.pass(START + at);
    }
    let says = ["Accepted", "Issued", "Ready", "Reconciling"].map(|kind| shell.says(kind));
    assert_eq!(says, ["False/IssuanceThrottled", "True/Issued", "True/Valid", "True/IssuanceThrottled"]);
    assert_eq!(
        shell.message("Accepted"),
        "a request was answered at 2026-01-01T00:00:00Z, and one a minute is served; this one is kept and served at 2026-01-01T00:01:00Z"
    );
}

/// What is not accepted any more is not kept as accepted, whatever else holds the identity.
#[test]
fn a_held_identity_does_not_say_that_a_spec_is_accepted_which_is_not() {
    let suspended: fn(&mut Shell, &mut World) = |shell, _| shell.intent.suspended = true;
    let terminating: fn(&mut Shell, &mut World) = |_, world| world.namespace.terminating = true;
    let unread: fn(&mut Shell, &mut World) = |_, world| {
        world.target = TargetView::Unread(Failure::new(Class::Waiting, Reason::FenceMissing, "not looked at"));
    };
    for held in [suspended, terminating, unread] {
        for (lost, said) in [(false, "True/Accepted"), (true, "False/TrustDomainNotFound")] {
            let mut shell = Shell::new();
            shell.pass(START);
            let mut world = shell.world(START + 60);
            held(&mut shell, &mut world);
            if lost {
                world.domain = DomainView::Missing;
            }
            shell.pass_over(world, START + 60);
            assert_eq!((shell.says("Accepted").as_str(), shell.asked), (said, 1));
        }
    }
}
