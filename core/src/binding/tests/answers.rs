//! Every kind of answer that is no success: its class, the next try, and a Secret that stays byte for byte.

use jiff::Timestamp;
use serde_json::json;

use super::model::{Stage, at, reason};
use crate::{
    api::{Reason, SourcePhase},
    binding::world::Outcome,
    fault::{Class, Failure},
    value::kv::{Engine, MountKind},
};

struct Row {
    what: &'static str,
    class: Class,
    reason: Reason,
    phase: SourcePhase,
}

const fn row(what: &'static str, class: Class, reason: Reason, phase: SourcePhase) -> Row {
    Row { what, class, reason, phase }
}

const ROWS: [Row; 12] = [
    row("metadata", Class::Unavailable, Reason::VaultSealed, SourcePhase::Failing),
    row("metadata", Class::Unavailable, Reason::VaultUnavailable, SourcePhase::Failing),
    row("metadata", Class::Unavailable, Reason::StandbyRedirect, SourcePhase::Failing),
    row("values", Class::Unavailable, Reason::UpstreamInvalid, SourcePhase::Failing),
    row("values", Class::Throttled, Reason::Throttled, SourcePhase::Failing),
    row("values", Class::Denied, Reason::AccessDenied, SourcePhase::Denied),
    row("metadata", Class::Denied, Reason::LoginFailed, SourcePhase::Denied),
    row("metadata", Class::Waiting, Reason::RemoteMissing, SourcePhase::Missing),
    row("values", Class::Waiting, Reason::RemoteMissing, SourcePhase::Missing),
    row("mount", Class::Waiting, Reason::MountMissing, SourcePhase::Missing),
    row("mount", Class::Denied, Reason::AccessDenied, SourcePhase::Denied),
    row("values", Class::Conflict, Reason::WriteConflict, SourcePhase::Failing),
];

#[test]
fn no_answer_but_a_whole_one_changes_what_is_stored() {
    for Row { what, class, reason: expected, phase } in ROWS {
        let mut stage = Stage::new();
        stage.pass();
        stage.put("shop/app", json!({"user": "u2"}));
        let before = stage.secret.clone();
        let failure = Failure::new(class, expected, "as the server says");
        stage.faults.insert(what, failure.clone());
        stage.now += 900;
        let outcome = stage.pass();
        assert!(matches!(outcome, Outcome::Failed { .. }), "{expected:?}");
        assert_eq!(reason(&outcome), Some(expected));
        assert_eq!(stage.secret, before, "{expected:?}");
        let name = expected.name();
        assert_eq!(stage.condition("Ready"), Some(("True", "Valid")), "{name}");
        assert_eq!(stage.condition("Synced"), Some(("False", name)));
        let progress = match class {
            Class::Invalid | Class::Denied | Class::Bug => Some("Stalled"),
            Class::Waiting | Class::Throttled | Class::Unavailable => Some("Reconciling"),
            Class::Conflict => None,
        };
        for kind in ["Stalled", "Reconciling"] {
            assert_eq!(stage.condition(kind).is_some(), progress == Some(kind), "{name} {kind}");
        }
        assert_eq!(stage.status.sources[0].phase, phase, "{name}");
        assert_eq!(stage.status.sources[0].version, Some(1), "{name}");
        // The next try is that of the class, and the one after it waits no less.
        let last = stage.memory.last.clone().unwrap();
        let wait = |attempts| failure.backoff(attempts, super::model::UID);
        assert_eq!((last.attempts, last.at), (1, at(stage.now)));
        assert!(wait(2) >= wait(1));
        // Whatever it was, once it is over the new version arrives.
        stage.faults.clear();
        stage.now += 3_700;
        assert_eq!(reason(&stage.pass()), None, "{name}");
        assert_eq!(stage.data().get("user").map(String::as_str), Some("u2"), "{name}");
    }
}

fn gone(change: impl FnOnce(&mut crate::value::kv::Version)) -> Stage {
    let mut stage = Stage::new();
    stage.pass();
    change(&mut stage.remote.get_mut("shop/app").unwrap().versions.get_mut(&1).unwrap().0);
    stage.now += 900;
    stage
}

#[test]
fn a_deleted_version_is_told_from_one_that_will_be() {
    let now = Stage::new().now + 900;
    let mut stage = gone(|version| version.deleted = Some(at(now - 1)));
    assert_eq!(reason(&stage.pass()), Some(Reason::RemoteDeleted));
    assert_eq!((stage.data().len(), stage.status.sources[0].phase), (2, SourcePhase::Deleted));
    assert_eq!(stage.condition("SourceMissing"), Some(("True", "RemoteDeleted")));
    let mut stage = gone(|version| version.destroyed = true);
    assert_eq!(reason(&stage.pass()), Some(Reason::RemoteDeleted));
    let mut stage = gone(|version| version.deleted = Some(Timestamp::MAX));
    assert_eq!(reason(&stage.pass()), None);
}

#[test]
fn a_pinned_version_stays_and_an_unknown_one_is_said() {
    let mut stage = Stage::new();
    stage.put("shop/app", json!({"user": "u2"}));
    stage.spec["sources"][0]["kv"]["version"] = json!(1);
    stage.pass();
    assert_eq!(stage.data().get("user").map(String::as_str), Some("u1"));
    stage.spec["sources"][0]["kv"]["version"] = json!(7);
    stage.generation = 2;
    assert_eq!(reason(&stage.pass()), Some(Reason::RemoteVersionMissing));
    assert_eq!(stage.condition("Ready"), Some(("False", "OutOfDate")));
    assert_eq!(stage.data().len(), 2);
}

#[test]
fn an_engine_that_is_no_kv_or_lies_elsewhere_is_said() {
    let mut stage = Stage::new();
    stage.engine = MountKind::Other;
    assert_eq!(reason(&stage.pass()), Some(Reason::NotKv));
    let mut stage = Stage::new();
    stage.spec["sources"][0]["kv"] = json!({"mount": "secret/shop", "path": "app"});
    assert_eq!(reason(&stage.pass()), Some(Reason::InvalidSpec));
    let mut stage = Stage::new();
    stage.engine = MountKind::Kv { engine: Engine::V1, path: "secret".parse().unwrap() };
    stage.spec["sources"][0]["kv"]["version"] = json!(1);
    assert_eq!(reason(&stage.pass()), Some(Reason::InvalidSpec));
}

#[test]
fn values_of_another_version_than_asked_for_are_read_again() {
    let mut stage = Stage::new();
    stage.pass();
    stage.put("shop/app", json!({"user": "u2"}));
    stage.now += 900;
    // The server answers with a version that was made at another moment.
    let world = stage.world();
    let intent = stage.intent();
    let mut world = crate::binding::world::absorb(
        world,
        crate::binding::world::Reply::Read(vec![(0, Ok(crate::binding::reads::Answer::Mount(stage.engine.clone())))]),
    );
    let remote = &stage.remote["shop/app"];
    let metadata = crate::value::kv::Metadata {
        current: 2,
        versions: remote.versions.iter().map(|(number, (version, _))| (*number, version.clone())).collect(),
    };
    let values = crate::value::kv::Values {
        version: Some(remote.versions[&1].0.clone()),
        fields: std::collections::BTreeMap::new(),
    };
    let known = world.progress.known.get_mut(&0).unwrap();
    known.metadata = Some(metadata);
    known.values = Some(values);
    let crate::next::Next::Settle(settled) = crate::binding::decide::decide(&intent, &world, at(stage.now)) else {
        panic!("nothing may be written");
    };
    assert_eq!(reason(&settled.outcome), Some(Reason::WriteConflict));
}
