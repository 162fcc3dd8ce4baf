//! One line an object: what it says, and in which order.

use serde_json::json;

use super::wire::{
    conditions, connection, connection_up, domain, domain_up, identity, identity_up, identity_waits, now, read,
};
use crate::{
    api::Verdict,
    explain::overview::{self, Row, Summary, Urgency, sort, summary},
};

fn identity_row(name: &str, mut object: serde_json::Value) -> Row {
    object["metadata"]["name"] = json!(name);
    overview::identity(&read(object), now())
}

#[test]
fn the_worst_is_first() {
    let mut ending = identity_up();
    let soon = conditions(&[("ExpiringSoon", "True", "ExpiringSoon", "the certificate ends soon")]);
    ending.as_array_mut().unwrap().push(soon[0].clone());
    let mut earlier = identity(&identity_up());
    earlier["status"]["notAfter"] = json!("2027-01-02T05:00:00Z");
    let mut rows = vec![
        overview::connection(&read(connection(&connection_up())), now()),
        overview::domain(&read(domain(&domain_up())), now()),
        identity_row("fine", identity(&identity_up())),
        identity_row("fine-earlier", earlier),
        identity_row("ending", identity(&ending)),
        identity_row("waiting", identity_waits("Reconciling", "ServiceMissing", "service \"api\" does not exist")),
        identity_row("stalled", identity_waits("Stalled", "NameNotAllowed", "\"x\" needs an allow rule")),
        identity_row("fresh", {
            let mut object = identity(&identity_up());
            object["status"] = json!({"observedGeneration": -1});
            object
        }),
    ];
    sort(&mut rows);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["stalled", "waiting", "fresh", "ending", "fine-earlier", "fine", "prod", "main"]);
    let expected = Summary {
        total: 8,
        ready: 5,
        not_ready: 2,
        unknown: 1,
        next_expiry: Some("2027-01-02T05:00:00Z".parse().unwrap()),
    };
    assert_eq!(summary(&rows, now()), expected);
}

#[test]
fn it_says_what_it_waits_for() {
    let row = identity_row("api", identity_waits("Reconciling", "ServiceMissing", "service \"api\" does not exist"));
    assert_eq!((row.ready, row.reason.as_str()), (Verdict::False, "SecretMissing"));
    assert_eq!(row.waits_for.as_deref(), Some("service \"api\" does not exist"));
    assert_eq!(identity_row("api", identity(&identity_up())).waits_for, None);
    let mut changed = identity(&identity_up());
    changed["metadata"]["generation"] = json!(4);
    let row = identity_row("api", changed);
    assert_eq!((row.ready, row.urgency), (Verdict::True, Urgency::Troubled));
    assert!(row.waits_for.is_some_and(|what| what.contains("generation 4")));
}

#[test]
fn a_certificate_that_ended_is_not_ready_whatever_the_status_says() {
    let object = identity(&identity_up());
    let row = overview::identity(&read(object), "2027-01-02T06:00:00Z".parse().unwrap());
    assert_eq!((row.ready, row.reason.as_str(), row.urgency), (Verdict::False, "Expired", Urgency::NotReady));
}

#[test]
fn a_reason_of_a_newer_version_is_shown_as_it_is() {
    let all = conditions(&[("Ready", "False", "NotYetInvented", "something new")]);
    let row = identity_row("api", identity(&all));
    assert_eq!((row.reason.as_str(), row.waits_for.as_deref()), ("NotYetInvented", Some("something new")));
}

#[test]
fn the_json_of_a_row_is_stable() {
    let row = identity_row("api", identity_waits("Stalled", "NameNotAllowed", "no"));
    let expected = json!({"kind": "ServiceIdentity", "namespace": "pay", "name": "api", "ready": "False",
        "reason": "SecretMissing", "urgency": "Stalled", "waitsFor": "no"});
    assert_eq!(serde_json::to_value(&row).unwrap(), expected);
    let row = overview::domain(&read(domain(&domain_up())), now());
    let expected = json!({"kind": "TrustDomain", "name": "prod", "ready": "True", "reason": "Valid",
        "urgency": "Fine", "expires": "2126-10-31T00:00:00Z"});
    assert_eq!(serde_json::to_value(&row).unwrap(), expected);
}
