//! When it reads, when it writes, and that it does neither without a cause.

use proptest::prelude::*;
use serde_json::json;

use super::model::{START, Stage, reason};
use crate::{
    api::{Reason, SecretBindingStatus},
    binding::world::Outcome,
    fault::{Class, Failure},
    value::{
        kv::{Engine, MountKind},
        secret_data::SecretBytes,
    },
};

fn unavailable() -> Failure {
    Failure::new(Class::Unavailable, Reason::VaultUnavailable, "away")
}

fn synced() -> Stage {
    let mut stage = Stage::new();
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.writes, stage.condition("Ready")), (1, Some(("True", "Valid"))));
    stage.reads.clear();
    stage.status_writes = 0;
    stage
}

/// Lets so many seconds pass.
fn after(stage: &mut Stage, seconds: i64) {
    stage.now += seconds;
}

#[test]
fn the_first_pass_reads_values_at_once_and_writes_once() {
    let mut stage = Stage::new();
    stage.pass();
    assert_eq!(stage.reads, ["mount", "values shop/app"]);
    assert_eq!(stage.writes, 1);
    assert_eq!(stage.data(), [("password", "p1"), ("user", "u1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let source = &stage.status.sources[0];
    assert_eq!((source.version, stage.condition("Synced")), (Some(1), Some(("True", "Synced"))));
}

#[test]
fn an_unchanged_version_reads_no_value_and_writes_nothing() {
    let mut stage = synced();
    for _ in 0..20 {
        after(&mut stage, 900);
        assert_eq!(reason(&stage.pass()), None);
    }
    assert!(!stage.fresh, "bindings of one path share what is due");
    assert_eq!(stage.reads.len(), 40, "{:?}", stage.reads);
    assert!(!stage.reads.iter().any(|read| read.starts_with("values")));
    assert_eq!((stage.writes, stage.status_writes), (1, 0));
}

#[test]
fn the_time_of_the_last_look_is_written_when_it_is_old() {
    let mut stage = synced();
    for _ in 0..96 {
        after(&mut stage, 900);
        stage.pass();
    }
    // A day: every six hours, though it was looked at every quarter of an hour.
    assert!((2..=4).contains(&stage.status_writes), "{}", stage.status_writes);
}

#[test]
fn a_new_version_is_written_whole() {
    let mut stage = synced();
    stage.put("shop/app", json!({"user": "u2", "password": "p2", "extra": "x"}));
    after(&mut stage, 900);
    stage.pass();
    assert_eq!(stage.writes, 2);
    assert_eq!(stage.data().get("password").map(String::as_str), Some("p2"));
    assert_eq!(stage.data().len(), 3);
    assert_eq!(stage.status.sources[0].version, Some(2));
}

#[test]
fn nothing_is_read_between_two_moments_and_none_at_a_restart() {
    let mut stage = synced();
    stage.restart();
    stage.pass();
    stage.pass();
    assert_eq!(stage.reads, Vec::<String>::new());
    assert_eq!((stage.writes, stage.status_writes), (1, 0));
    after(&mut stage, 900);
    stage.pass();
    assert_eq!(stage.reads.len(), 2);
}

#[test]
fn a_request_is_served_once() {
    let mut stage = synced();
    stage.requested = Some("now".to_owned());
    stage.put("shop/app", json!({"user": "u2"}));
    stage.pass();
    assert!(stage.fresh, "who asks is not served with an answer of a moment ago");
    assert_eq!((stage.writes, stage.status.last_handled_request.as_deref()), (2, Some("now")));
    let reads = stage.reads.len();
    stage.pass();
    stage.restart();
    stage.pass();
    assert_eq!(stage.reads.len(), reads);
}

#[test]
fn who_owned_a_field_of_a_secret_that_is_gone_stands_in_nobodys_way() {
    let mut stage = synced();
    let owned = Failure::new(Class::Waiting, Reason::FieldConflict, "argocd owns it");
    stage.put("shop/app", json!({"user": "u2"}));
    stage.requested = Some("first".to_owned());
    stage.write_fault = Some((owned, false));
    assert_eq!(reason(&stage.pass()), Some(Reason::FieldConflict));
    // While the Secret is there, its failure is backed off from.
    assert_eq!((reason(&stage.pass()), stage.writes), (Some(Reason::FieldConflict), 1));
    stage.secret = None;
    assert_eq!((reason(&stage.pass()), stage.writes), (None, 2));
}

#[test]
fn what_somebody_changed_is_written_again() {
    let mut stage = synced();
    let stored = stage.secret.as_mut().unwrap();
    stored.data.insert("password".to_owned(), SecretBytes::from("tampered".to_owned()));
    stage.pass();
    assert_eq!((stage.writes, stage.data().get("password").map(String::as_str)), (2, Some("p1")));
    let mut stage = synced();
    stage.secret = None;
    stage.pass();
    assert_eq!((stage.writes, stage.data().len()), (2, 2));
}

#[test]
fn a_lost_install_key_writes_once_and_changes_no_value() {
    let mut stage = synced();
    let before = stage.data();
    stage.key = 2;
    stage.pass();
    stage.pass();
    assert_eq!((stage.writes, stage.data()), (2, before));
}

#[test]
fn a_changed_spec_is_written_and_a_changed_back_one_ends_where_it_began() {
    let mut stage = synced();
    let before = stage.data();
    let spec = stage.spec.clone();
    stage.spec["secret"]["data"] = json!([{"each": "app", "prefix": "APP_", "case": "Upper"}]);
    stage.generation = 2;
    stage.pass();
    assert!(stage.data().contains_key("APP_PASSWORD") && stage.data().len() == 2);
    stage.spec = spec;
    stage.generation = 3;
    stage.pass();
    assert_eq!((stage.data(), stage.writes), (before, 3));
}

#[test]
fn once_reads_until_it_was_written_and_never_again() {
    let mut stage = Stage::new();
    stage.spec["refresh"] = json!({"mode": "Once"});
    stage.pass();
    stage.put("shop/app", json!({"user": "u2"}));
    stage.secret.as_mut().unwrap().data.insert("own".to_owned(), SecretBytes::from("x".to_owned()));
    stage.reads.clear();
    after(&mut stage, 90_000);
    stage.pass();
    assert_eq!((stage.writes, stage.reads.len()), (1, 0));
    assert_eq!(stage.condition("Ready"), Some(("True", "Valid")));
}

#[test]
fn on_change_reads_when_asked() {
    let mut stage = Stage::new();
    stage.spec["refresh"] = json!({"mode": "OnChange"});
    stage.pass();
    stage.put("shop/app", json!({"user": "u2"}));
    after(&mut stage, 90_000);
    stage.pass();
    assert_eq!(stage.writes, 1);
    stage.requested = Some("1".to_owned());
    stage.pass();
    assert_eq!(stage.writes, 2);
}

/// The Secret was written and the answer was lost: the next pass looks, and takes back what it said.
#[test]
fn a_write_whose_answer_was_lost_is_not_told_as_a_failure_for_long() {
    for mode in ["Auto", "OnChange", "Once"] {
        let mut stage = Stage::new();
        stage.spec["refresh"] = json!({"mode": mode});
        stage.write_fault = Some((Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "no answer"), true));
        assert_eq!(reason(&stage.pass()), Some(Reason::ApiServerUnavailable), "{mode}");
        after(&mut stage, 10);
        assert_eq!(reason(&stage.pass()), None, "{mode}");
        assert_eq!(stage.condition("Synced"), Some(("True", "Synced")), "{mode}");
        assert_eq!(stage.writes, 1, "{mode}");
    }
}

/// Whoever wrote the Secret died before the status was written: its successor says what it is made of, and would
/// otherwise believe any older version.
#[test]
fn what_the_dead_wrote_is_told_by_their_successor() {
    let mut stage = Stage::new();
    stage.pass();
    stage.status = SecretBindingStatus::default();
    stage.restart();
    stage.reads.clear();
    stage.pass();
    assert_eq!((stage.reads.as_slice(), stage.writes), (&["mount".to_owned(), "metadata shop/app".to_owned()][..], 1));
    assert_eq!(stage.status.sources[0].version, Some(1));
    // It is told once.
    stage.reads.clear();
    stage.restart();
    stage.pass();
    assert!(stage.reads.is_empty());
}

#[test]
fn an_engine_without_versions_is_read_and_written_only_if_it_differs() {
    let mut stage = Stage::new();
    stage.engine = MountKind::Kv { engine: Engine::V1, path: "secret".parse().unwrap() };
    stage.pass();
    after(&mut stage, 900);
    stage.pass();
    assert_eq!((stage.writes, stage.reads.len()), (1, 4), "{:?}", stage.reads);
    stage.put("shop/app", json!({"user": "u2"}));
    after(&mut stage, 900);
    stage.pass();
    assert_eq!((stage.writes, stage.data().len()), (2, 1));
}

#[test]
fn hidden_metadata_costs_a_read_of_the_values_and_no_write() {
    let mut stage = Stage::new();
    stage.metadata_denied = true;
    stage.pass();
    after(&mut stage, 900);
    stage.pass();
    assert_eq!(stage.writes, 1);
    assert_eq!(stage.reads, ["mount", "values shop/app", "mount", "metadata shop/app", "values shop/app"]);
}

#[test]
fn an_older_version_is_believed_a_minute_later() {
    let mut stage = synced();
    stage.put("shop/app", json!({"user": "u2"}));
    after(&mut stage, 900);
    stage.pass();
    stage.remote.get_mut("shop/app").unwrap().current = 1;
    after(&mut stage, 900);
    assert_eq!(reason(&stage.pass()), Some(Reason::SourceWentBack));
    after(&mut stage, 30);
    assert_eq!(reason(&stage.pass()), Some(Reason::SourceWentBack));
    assert_eq!((stage.writes, stage.data().len()), (2, 1));
    after(&mut stage, 31);
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.writes, stage.data().len()), (3, 2));
}

#[test]
fn a_secret_that_was_made_anew_at_version_one_is_another_one() {
    let mut stage = synced();
    stage.remote.remove("shop/app");
    after(&mut stage, 900);
    stage.put("shop/app", json!({"user": "again"}));
    stage.pass();
    assert_eq!((stage.writes, stage.data().get("user").map(String::as_str)), (2, Some("again")));
}

#[test]
fn two_sources_are_written_together_or_not_at_all() {
    let mut stage = Stage::new();
    stage.put("shop/db", json!({"password": "d1"}));
    stage.spec["sources"] = json!([
        {"name": "app", "kv": {"mount": "secret", "path": "shop/app"}},
        {"name": "db", "kv": {"mount": "secret", "path": "shop/db"}},
    ]);
    stage.spec["secret"]["data"] = json!([{"key": "A", "from": "app.password"}, {"key": "B", "from": "db.password"}]);
    stage.pass();
    assert_eq!(stage.data().len(), 2);
    stage.put("shop/app", json!({"password": "p2"}));
    stage.put("shop/db", json!({"other": "x"}));
    after(&mut stage, 900);
    assert_eq!(reason(&stage.pass()), Some(Reason::RemoteKeyMissing));
    assert_eq!((stage.writes, stage.data()["A"].as_str(), stage.data()["B"].as_str()), (1, "p1", "d1"));
    assert_eq!(stage.condition("Ready"), Some(("True", "Valid")));
    assert_eq!(stage.condition("SourceMissing"), Some(("True", "RemoteKeyMissing")));
}

#[test]
fn a_grant_that_is_gone_stops_reading_and_leaves_the_secret() {
    let mut stage = synced();
    stage.grants.clear();
    after(&mut stage, 900);
    assert_eq!(reason(&stage.pass()), Some(Reason::ConnectionNotAllowed));
    assert_eq!((stage.reads.len(), stage.data().len()), (0, 2));
    assert_eq!(stage.condition("Ready"), Some(("True", "Valid")));
    assert_eq!(stage.condition("Accepted"), Some(("False", "ConnectionNotAllowed")));
}

#[test]
fn the_secret_that_the_connection_logs_in_with_is_never_written() {
    let mut stage = Stage::new();
    stage.login = Some("app-env".to_owned());
    assert_eq!(reason(&stage.pass()), Some(Reason::TargetForbidden));
    assert_eq!((stage.reads.len(), stage.writes), (0, 0));
    assert_eq!(stage.condition("Accepted"), Some(("False", "TargetForbidden")));
    stage.login = Some("another".to_owned());
    after(&mut stage, 3_600);
    assert_eq!((reason(&stage.pass()), stage.writes), (None, 1));
}

#[test]
fn a_path_outside_the_grant_is_never_sent() {
    let mut stage = Stage::new();
    stage.spec["sources"] = json!([{"name": "app", "kv": {"mount": "secret", "path": "payments/app"}}]);
    assert_eq!(reason(&stage.pass()), Some(Reason::PathNotAllowed));
    assert_eq!((stage.reads.len(), stage.writes), (0, 0));
}

#[test]
fn a_failure_is_backed_off_from_whoever_calls() {
    let mut stage = synced();
    stage.faults.insert("metadata", unavailable());
    after(&mut stage, 900);
    stage.pass();
    let reads = stage.reads.len();
    stage.pass();
    assert_eq!(stage.reads.len(), reads);
    after(&mut stage, 3);
    stage.pass();
    assert!(stage.reads.len() > reads);
}

#[test]
fn an_outage_of_two_intervals_is_stale_and_ends_by_itself() {
    let mut stage = synced();
    stage.faults.insert("metadata", unavailable());
    for _ in 0..4 {
        after(&mut stage, 900);
        stage.pass();
    }
    assert_eq!(stage.condition("Stale"), Some(("True", "Stale")));
    assert_eq!(stage.condition("Ready"), Some(("True", "Valid")));
    stage.faults.clear();
    after(&mut stage, 900);
    stage.pass();
    assert_eq!((stage.condition("Stale"), stage.condition("Synced")), (None, Some(("True", "Synced"))));
    assert_eq!(stage.writes, 1);
}

#[test]
fn a_write_whose_answer_was_lost_is_looked_at_again() {
    let mut stage = Stage::new();
    stage.write_fault = Some((unavailable(), true));
    assert_eq!(reason(&stage.pass()), Some(Reason::VaultUnavailable));
    after(&mut stage, 5);
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.writes, stage.condition("Ready")), (1, Some(("True", "Valid"))));
}

proptest! {
    /// Whatever fails, dies or changes meanwhile: the Secret is always what one version of each source gave, nothing
    /// shrinks while the server fails, and in the end it is the newest.
    #[test]
    fn no_fault_leaves_a_part(steps in proptest::collection::vec((0_u8..7, 0_usize..5, 1_i64..1200), 1..30)) {
        let mut stage = Stage::new();
        stage.put("shop/db", json!({"n": "1"}));
        stage.spec["sources"] = json!([
            {"name": "app", "kv": {"mount": "secret", "path": "shop/app"}},
            {"name": "db", "kv": {"mount": "secret", "path": "shop/db"}},
        ]);
        stage.spec["secret"]["data"] = json!([{"key": "A", "from": "app.user"}, {"key": "B", "from": "db.n"}]);
        let mut versions = 1;
        for (act, die, wait) in steps {
            let faulty = match act {
                0 => Some(("metadata", unavailable())),
                1 => Some(("values", Failure::new(Class::Denied, Reason::AccessDenied, "no"))),
                2 => Some(("values", Failure::new(Class::Waiting, Reason::RemoteMissing, "gone"))),
                _ => None,
            };
            stage.faults = faulty.into_iter().collect();
            match act {
                3 => {
                    versions += 1;
                    stage.put("shop/app", json!({"user": format!("u{versions}")}));
                    stage.put("shop/db", json!({"n": versions.to_string()}));
                }
                4 => stage.write_fault = Some((unavailable(), wait % 2 == 0)),
                5 => stage.restart(),
                _ => {}
            }
            stage.now += wait;
            let before = stage.data();
            let ended = stage.pass_until(die);
            let after = stage.data();
            prop_assert!(after.is_empty() || after.len() == 2);
            prop_assert!(before.is_empty() || !after.is_empty());
            if let (Some(a), Some(b)) = (after.get("A"), after.get("B")) {
                prop_assert_eq!(a.trim_start_matches('u'), b.as_str());
            }
            if matches!(ended, Some(Outcome::Steady { .. })) {
                prop_assert_eq!(stage.condition("Ready"), Some(("True", "Valid")));
            }
        }
        stage.faults.clear();
        stage.write_fault = None;
        for _ in 0..3 {
            stage.now += 86_400;
            stage.pass();
        }
        prop_assert_eq!(&stage.data()["A"], &format!("u{versions}"));
        let writes = stage.writes;
        stage.pass();
        prop_assert_eq!(stage.writes, writes);
        prop_assert!(stage.now > START);
    }
}
