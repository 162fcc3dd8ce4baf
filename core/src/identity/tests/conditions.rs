//! What the conditions say of a certificate that is not quite what was asked for.

use std::time::Duration;

use super::shell::{START, Shell, as_asked};
use crate::fault::Failure;

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
