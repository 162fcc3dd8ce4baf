//! Each source is asked for by itself, and a further kind of source is one file: nothing but its [`Kind`] is needed for
//! it to be granted, read, compared, written, and told of in the status.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::model::{Stage, reason};
use crate::{
    api::{Reason, SourcePhase},
    binding::{
        reads::{Known, What},
        source::{Kind, Look, State},
    },
    fault::{Class, Failure},
    value::{
        kv::{RemoteValue, Values},
        vault_path::VaultPath,
    },
};

/// A credential that the server rotates: one read gives the values, and `last_vault_rotation` among them their state.
#[derive(Debug)]
struct StaticRole {
    mount: VaultPath,
    below: VaultPath,
    whole: VaultPath,
}

fn static_role(mount: &str, below: &str) -> Arc<dyn Kind> {
    let path = |text: &str| text.parse().unwrap();
    Arc::new(StaticRole { mount: path(mount), below: path(below), whole: path(&format!("{mount}/{below}")) })
}

impl Kind for StaticRole {
    fn path(&self) -> &VaultPath {
        &self.whole
    }

    fn identity(&self) -> Vec<String> {
        vec!["staticRole".to_owned(), self.whole.to_string()]
    }

    fn is_pinned(&self) -> bool {
        false
    }

    fn look(&self, known: &Known, _: bool, _: Timestamp) -> Result<Look, Failure> {
        let Some(values) = &known.values else { return Ok(Look::Ask(self.values(None))) };
        let words = "the answer does not tell when it was rotated";
        let state = self.state_of(values);
        state
            .map(|state| Look::Seen(Some(state)))
            .ok_or_else(|| Failure::new(Class::Unavailable, Reason::UpstreamInvalid, words))
    }

    fn values(&self, _: Option<&State>) -> What {
        What::Unversioned { mount: self.mount.clone(), path: self.below.clone() }
    }

    fn state_of(&self, values: &Values) -> Option<State> {
        let RemoteValue::Integer(second) = values.fields.get("last_vault_rotation")? else { return None };
        Some(State { number: None, identity: second.to_string() })
    }
}

fn rotated(stage: &mut Stage, second: i64, password: &str) {
    let answer = json!({"username": "app", "password": password, "last_vault_rotation": second});
    stage.put("shop/role", answer);
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.kind = Some(static_role("secret", "shop/role"));
    stage.spec["secret"]["data"] = json!([{"key": "PASSWORD", "from": "app.password"}]);
    rotated(&mut stage, 1, "p1");
    stage
}

#[test]
fn a_kind_of_its_own_is_read_written_and_told_of() {
    let mut stage = stage();
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!(stage.reads, ["unversioned shop/role"]);
    assert_eq!(stage.data().get("PASSWORD").map(String::as_str), Some("p1"));
    assert_eq!((stage.status.sources[0].phase, stage.status.sources[0].version), (SourcePhase::Current, None));
    assert_eq!(stage.secret.as_ref().unwrap().origin.as_deref(), Some("app=-@secret/shop/role"));
    // The same state again: one read, and no write, even if the values were to differ.
    rotated(&mut stage, 1, "another");
    stage.now += 900;
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.reads.len(), stage.writes), (2, 1));
    rotated(&mut stage, 2, "p2");
    stage.now += 900;
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.reads.len(), stage.writes), (3, 2));
    assert_eq!(stage.data().get("PASSWORD").map(String::as_str), Some("p2"));
}

#[test]
fn a_kind_of_its_own_is_refused_and_fails_as_any_other() {
    let mut stage = stage();
    stage.kind = Some(static_role("secret", "other/role"));
    assert_eq!(reason(&stage.pass()), Some(Reason::PathNotAllowed));
    assert!(stage.reads.is_empty());
    stage.kind = Some(static_role("secret", "shop/role"));
    stage.put("shop/role", json!({"password": "p"}));
    assert_eq!(reason(&stage.pass()), Some(Reason::UpstreamInvalid));
    assert_eq!((stage.writes, stage.status.sources[0].phase), (0, SourcePhase::Failing));
}

#[test]
fn another_kind_at_the_same_path_is_another_spec() {
    let mut stage = Stage::new();
    stage.put("shop/role", json!({"password": "p0"}));
    stage.spec["sources"][0]["kv"]["path"] = json!("shop/role");
    stage.spec["secret"]["data"] = json!([{"key": "PASSWORD", "from": "app.password"}]);
    stage.pass();
    rotated(&mut stage, 1, "p1");
    stage.kind = Some(static_role("secret", "shop/role"));
    assert_eq!(reason(&stage.pass()), None);
    assert_eq!((stage.writes, stage.data()["PASSWORD"].as_str()), (2, "p1"));
}

#[test]
fn of_several_sources_each_is_asked_of_the_grants() {
    for (paths, expected) in [
        (["shop/app", "other/app"], Some(Reason::PathNotAllowed)),
        (["other/app", "shop/app"], Some(Reason::PathNotAllowed)),
        (["shop/app", "shop/two"], None),
    ] {
        let mut stage = Stage::new();
        stage.put("shop/two", json!({"token": "t"}));
        let source = |name: &str, path: &str| json!({"name": name, "kv": {"mount": "secret", "path": path}});
        stage.spec["sources"] = json!([source("app", paths[0]), source("two", paths[1])]);
        assert_eq!(reason(&stage.pass()), expected, "{paths:?}");
        assert_eq!(stage.reads.is_empty(), expected.is_some(), "{:?}", stage.reads);
    }
}
