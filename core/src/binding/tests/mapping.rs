//! From values to keys, by table.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::model::Stage;
use crate::{
    api::Reason,
    binding::{mapping::map, reads::Known},
    value::kv::{RemoteValue, Values},
};

/// The keys that `data` makes of `source`, or the reason why not.
fn made(data: Value, source: Value) -> Result<BTreeMap<String, String>, Reason> {
    let mut stage = Stage::new();
    stage.spec["secret"]["data"] = data;
    let RemoteValue::Object(fields) = serde_json::from_value(source).unwrap() else { panic!("an object") };
    let known = Known { values: Some(Values { version: None, fields }), ..Known::default() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    map(&stage.intent(), &BTreeMap::from([(0, known)]))
        .map(|data| data.into_iter().map(|(key, value)| (key, text(value.expose()))).collect())
        .map_err(|unusable| unusable.failure.reason)
}

#[test]
fn each_takes_every_key_that_fits() {
    let source = json!({"user": "u", "Pass": "p", "n-1": "x"});
    let table = [
        (json!([{"each": "app"}]), Ok(vec!["Pass", "n-1", "user"])),
        (json!([{"each": "app", "case": "Upper", "prefix": "APP_"}]), Ok(vec!["APP_N-1", "APP_PASS", "APP_USER"])),
        (json!([{"each": "app", "match": "^[a-z]+$"}]), Ok(vec!["user"])),
        (json!([{"each": "app", "match": "^nothing$"}]), Ok(vec![])),
        (
            json!([{"each": "app"}, {"each": "app", "prefix": "x"}]),
            Ok(vec!["Pass", "n-1", "user", "xPass", "xn-1", "xuser"]),
        ),
        (json!([{"each": "app"}, {"key": "user", "from": "app.user"}]), Err(Reason::KeyCollision)),
        (json!([{"each": "app"}, {"each": "app"}]), Err(Reason::KeyCollision)),
        (json!([{"each": "app", "prefix": "a b"}]), Err(Reason::InvalidKeyName)),
    ];
    for (data, expected) in table {
        let keys = made(data.clone(), source.clone()).map(|data| data.into_keys().collect::<Vec<_>>());
        assert_eq!(keys, expected.map(|keys| keys.into_iter().map(str::to_owned).collect()), "{data}");
    }
    for bad in ["a b", "ключ", "a/b", ".", "..x", ""] {
        assert_eq!(made(json!([{"each": "app"}]), json!({ bad: "v" })), Err(Reason::InvalidKeyName), "{bad}");
    }
    let upper = made(json!([{"each": "app", "case": "Lower"}]), json!({"A": "1", "a": "2"}));
    assert_eq!(upper, Err(Reason::KeyCollision));
}

#[test]
fn from_takes_a_key_as_it_stands_and_then_as_a_path() {
    let source = json!({"a.b": "literal", "a": {"b": "nested", "c": {"d": "deep"}}, "n": 7, "f": 1.5, "l": [1, "x"],
        "t": true, "z": null, "big": 9_007_199_254_740_993_u64});
    let one = |from: &str, non_string: &str| {
        let data = json!([{"key": "k", "from": from, "nonString": non_string}]);
        made(data, source.clone()).map(|data| data["k"].clone())
    };
    let table = [
        ("app.a.b", "Refuse", Ok("literal")),
        ("app.a.c.d", "Refuse", Ok("deep")),
        ("app.a.x", "Refuse", Err(Reason::RemoteKeyMissing)),
        ("app.nope", "Refuse", Err(Reason::RemoteKeyMissing)),
        ("app.z", "Refuse", Err(Reason::RemoteKeyMissing)),
        ("app.z", "JSON", Err(Reason::RemoteKeyMissing)),
        ("app.n", "Refuse", Err(Reason::NonStringValue)),
        ("app.n", "JSON", Ok("7")),
        ("app.t", "JSON", Ok("true")),
        ("app.l", "JSON", Ok(r#"[1,"x"]"#)),
        ("app.a", "JSON", Ok(r#"{"b":"nested","c":{"d":"deep"}}"#)),
        ("app.a", "Refuse", Err(Reason::NonStringValue)),
        ("app.f", "JSON", Err(Reason::LossyNumber)),
        ("app.big", "JSON", Err(Reason::LossyNumber)),
    ];
    for (from, non_string, expected) in table {
        assert_eq!(one(from, non_string), expected.map(str::to_owned), "{from} {non_string}");
    }
}

#[test]
fn decoding_is_exact() {
    let one = |decode: &str, text: &str| {
        made(json!([{"key": "k", "from": "app.v", "decode": decode}]), json!({ "v": text }))
            .map(|data| data["k"].clone())
    };
    for text in ["aGVsbG8/", "aGVsbG8_", " aGVs\nbG8/ "] {
        assert_eq!(one("Base64", text).as_deref(), Ok("hello?"), "{text}");
    }
    assert_eq!(one("Base64", "aGk=").as_deref(), Ok("hi"));
    assert_eq!(one("Base64", "aGk").as_deref(), Ok("hi"));
    assert_eq!(one("Hex", "68 69").as_deref(), Ok("hi"));
    assert_eq!(one("Hex", "6A").as_deref(), Ok("j"));
    assert_eq!(one("None", "aGk=").as_deref(), Ok("aGk="));
    for (decode, text) in
        [("Base64", "a"), ("Base64", "aGk=="), ("Base64", "a-/b"), ("Base64", "ä"), ("Hex", "6"), ("Hex", "xy")]
    {
        assert_eq!(one(decode, text), Err(Reason::DecodeFailed), "{decode} {text}");
    }
}

#[test]
fn a_secret_is_whole_for_its_type() {
    let made = |type_: &str, source: Value| {
        let mut stage = Stage::new();
        stage.spec["secret"]["type"] = json!(type_);
        let RemoteValue::Object(fields) = serde_json::from_value(source).unwrap() else { panic!("an object") };
        let known = Known { values: Some(Values { version: None, fields }), ..Known::default() };
        map(&stage.intent(), &BTreeMap::from([(0, known)]))
            .map(|data| data.len())
            .map_err(|unusable| unusable.failure.reason)
    };
    assert_eq!(made("kubernetes.io/tls", json!({"tls.crt": "c", "tls.key": "k"})), Ok(2));
    assert_eq!(made("kubernetes.io/tls", json!({"tls.crt": "c"})), Err(Reason::RemoteKeyMissing));
    let docker = "kubernetes.io/dockerconfigjson";
    assert_eq!(made(docker, json!({".dockerconfigjson": r#"{"auths":{}}"#})), Ok(1));
    for bad in ["", "{}", "{", r#"{"auths":1}"#] {
        assert_eq!(made(docker, json!({ ".dockerconfigjson": bad })), Err(Reason::InvalidDockerConfig), "{bad}");
    }
    assert_eq!(made("Opaque", json!({"a": "x".repeat(1_048_577)})), Err(Reason::SecretTooLarge));
    assert_eq!(made("Opaque", json!({"a": "x".repeat(1_048_576)})), Ok(1));
}

proptest! {
    #[test]
    fn no_message_has_a_value_in_it(value in "[a-z]{12}", key in "[A-Z]{1,8}") {
        for data in [json!([{"key": "k", "from": "app.x.y"}]), json!([{"key": "k", "from": format!("app.{key}"), "decode": "Hex"}])] {
            let mut stage = Stage::new();
            stage.spec["secret"]["data"] = data;
            let source = json!({ key.as_str(): value.as_str(), "x": [value.as_str()] });
            let RemoteValue::Object(fields) = serde_json::from_value(source).unwrap() else { panic!("an object") };
            let known = Known { values: Some(Values { version: None, fields }), ..Known::default() };
            if let Err(unusable) = map(&stage.intent(), &BTreeMap::from([(0, known)])) {
                let shown = format!("{unusable:?}");
                prop_assert!(!shown.contains(&value));
            }
        }
    }
}
