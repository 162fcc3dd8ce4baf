//! KV engines of a real server: mounts, versions, values, and every answer that is none of them.

use countersign::vault::Session;
use countersign_core::{
    api::Reason,
    binding::reads::{Answer, What},
    fault::Class,
    value::{
        kv::{Engine, Metadata, MountKind, RemoteValue, Values},
        vault_path::VaultPath,
    },
};
use serde_json::{Value, json};

use crate::{
    bao::Bao,
    impostor::{Impostor, Reply},
    setup::{APP_ROLE_LOGIN, app_role, at_bao, at_impostor, now},
};

const READS: &str = r#"path "secret/data/shop/*" { capabilities = ["read"] }
path "secret/metadata/shop/*" { capabilities = ["read"] }
path "secret/data/closed/*" { capabilities = ["read"] }
path "one/*" { capabilities = ["read"] }"#;

fn path(text: &str) -> VaultPath {
    text.parse().unwrap()
}

fn metadata_of(below: &str) -> What {
    What::Metadata { mount: path("secret"), path: path(below) }
}

fn values_of(below: &str, version: Option<i64>) -> What {
    What::Values { mount: path("secret"), path: path(below), version }
}

/// A server with both engines, and a session that may read below `shop` and the values below `closed`.
async fn stage() -> (Bao, Session) {
    let bao = Bao::start().await;
    bao.root("POST", "sys/mounts/secret", &json!({ "type": "kv", "options": { "version": "2" } })).await;
    bao.root("POST", "sys/mounts/one", &json!({ "type": "kv", "options": { "version": "1" } })).await;
    let login = app_role(&bao, READS, json!({})).await;
    let (session, _) = at_bao(&bao, login);
    (bao, session)
}

async fn put(bao: &Bao, below: &str, data: Value) {
    bao.root("POST", &format!("secret/data/{below}"), &json!({ "data": data })).await;
}

async fn metadata(session: &Session, below: &str) -> Metadata {
    match session.read(&metadata_of(below)).await.unwrap() {
        Answer::Metadata(metadata) => metadata,
        other => panic!("{other:?}"),
    }
}

async fn values(session: &Session, what: &What) -> Values {
    match session.read(what).await.unwrap() {
        Answer::Values(values) => values,
        other => panic!("{other:?}"),
    }
}

async fn refused(session: &Session, what: &What) -> (Class, Reason) {
    let failure = session.read(what).await.unwrap_err();
    assert!(failure.message.contains("/v1/") && !failure.message.contains("canary"), "{failure}");
    (failure.class, failure.reason)
}

fn text(values: &Values, key: &str) -> String {
    match &values.fields[key] {
        RemoteValue::Text(text) => String::from_utf8(text.expose().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mount_says_which_engine_it_is() {
    let (bao, session) = stage().await;
    bao.root("POST", "sys/mounts/pki_int", &json!({ "type": "pki" })).await;
    let read = async |mount: &str| session.read(&What::Mount(path(mount))).await;
    for (asked, engine, mounted) in [("secret", Engine::V2, "secret"), ("one", Engine::V1, "one")] {
        let Answer::Mount(MountKind::Kv { engine: found, path }) = read(asked).await.unwrap() else { panic!() };
        assert_eq!((found, path.to_string().as_str()), (engine, mounted));
    }
    let Answer::Mount(MountKind::Kv { path: mounted, .. }) = read("secret/shop/app").await.unwrap() else { panic!() };
    assert_eq!(mounted, path("secret"), "a path below a mount leads to the mount");
    // A mount below which this login has no right is hidden, like one that is not there.
    for hidden in ["pki_int", "nowhere"] {
        let failure = read(hidden).await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Waiting, Reason::MountMissing), "{hidden}");
    }
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 1, "a refusal cost a login");
}

#[tokio::test]
async fn versions_are_told_apart_by_number_and_birth() {
    let (bao, session) = stage().await;
    put(&bao, "shop/app", json!({ "k": "first" })).await;
    put(&bao, "shop/app", json!({ "k": "second" })).await;
    let known = metadata(&session, "shop/app").await;
    assert_eq!((known.current, known.versions.len()), (2, 2));
    let newest = values(&session, &values_of("shop/app", None)).await;
    assert_eq!((text(&newest, "k").as_str(), newest.version.as_ref()), ("second", known.versions.get(&2)));
    let pinned = values(&session, &values_of("shop/app", Some(1))).await;
    assert_eq!((text(&pinned, "k").as_str(), pinned.version.as_ref()), ("first", known.versions.get(&1)));

    // All of it is removed and made anew: the number is the same, the birth is not.
    bao.root("DELETE", "secret/metadata/shop/app", &Value::Null).await;
    put(&bao, "shop/app", json!({ "k": "again" })).await;
    let anew = metadata(&session, "shop/app").await;
    assert_eq!(anew.current, 1);
    assert_ne!(anew.versions[&1].created, known.versions[&1].created);
}

#[tokio::test]
async fn deleted_destroyed_undeleted_and_to_be_deleted() {
    let (bao, session) = stage().await;
    put(&bao, "shop/app", json!({ "k": "v" })).await;
    bao.root("DELETE", "secret/data/shop/app", &Value::Null).await;
    assert!(metadata(&session, "shop/app").await.versions[&1].is_gone(now()));
    let gone = (Class::Waiting, Reason::RemoteDeleted);
    assert_eq!(refused(&session, &values_of("shop/app", Some(1))).await, gone);
    bao.root("POST", "secret/undelete/shop/app", &json!({ "versions": [1] })).await;
    assert!(!metadata(&session, "shop/app").await.versions[&1].is_gone(now()));
    assert_eq!(text(&values(&session, &values_of("shop/app", Some(1))).await, "k"), "v");
    bao.root("POST", "secret/destroy/shop/app", &json!({ "versions": [1] })).await;
    assert!(metadata(&session, "shop/app").await.versions[&1].destroyed);
    assert_eq!(refused(&session, &values_of("shop/app", Some(1))).await, gone);

    bao.root("POST", "secret/metadata/shop/later", &json!({ "delete_version_after": "1h" })).await;
    put(&bao, "shop/later", json!({ "k": "v" })).await;
    let later = metadata(&session, "shop/later").await.versions[&1].clone();
    assert!(later.deleted.is_some() && !later.is_gone(now()), "an end in the future is no deletion");
}

#[tokio::test]
async fn nothing_there_and_nothing_allowed() {
    let (bao, session) = stage().await;
    put(&bao, "closed/app", json!({ "k": "v" })).await;
    put(&bao, "payments/app", json!({ "k": "canary" })).await;
    let nothing = (Class::Waiting, Reason::RemoteMissing);
    assert_eq!(refused(&session, &metadata_of("shop/none")).await, nothing);
    assert_eq!(refused(&session, &values_of("shop/none", None)).await, nothing);
    assert!(matches!(session.read(&metadata_of("closed/app")).await, Ok(Answer::MetadataDenied)));
    assert_eq!(text(&values(&session, &values_of("closed/app", None)).await, "k"), "v");
    assert_eq!(refused(&session, &values_of("payments/app", None)).await, (Class::Denied, Reason::AccessDenied));
    let unversioned = What::Unversioned { mount: path("one"), path: path("none") };
    assert_eq!(refused(&session, &unversioned).await, nothing);
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 1, "a refusal cost a login");
}

#[tokio::test]
async fn values_are_what_was_written() {
    let (bao, session) = stage().await;
    let data = json!({ "text": "ü\n\"", "n": 7, "big": 8_019_210_420_527_506_405_u64, "f": 1.5, "b": true, "z": null,
        "l": [1, "x"], "o": { "deep": { "er": "y" } } });
    put(&bao, "shop/all", data.clone()).await;
    bao.root("POST", "one/all", &data).await;
    let both = [values_of("shop/all", None), What::Unversioned { mount: path("one"), path: path("all") }];
    for what in both {
        let values = values(&session, &what).await;
        assert_eq!(text(&values, "text"), "ü\n\"");
        assert_eq!(values.fields["n"], RemoteValue::Integer(7));
        // The server itself rounds it; what cannot be kept exactly is never taken for exact.
        assert_eq!(values.fields["big"], RemoteValue::Inexact);
        assert_eq!(values.fields["f"], RemoteValue::Inexact);
        assert_eq!((&values.fields["b"], &values.fields["z"]), (&RemoteValue::Bool(true), &RemoteValue::Null));
        assert!(matches!(&values.fields["o"], RemoteValue::Object(fields) if fields.contains_key("deep")));
        assert!(!format!("{values:?}").contains("ü"));
    }
}

#[tokio::test]
async fn a_hundred_reads_are_one_login() {
    let (bao, session) = stage().await;
    put(&bao, "shop/app", json!({ "k": "v" })).await;
    for _ in 0..100 {
        metadata(&session, "shop/app").await;
    }
    assert_eq!((bao.requests(APP_ROLE_LOGIN), session.counters().logins), (1, 1));
}

#[tokio::test]
async fn what_an_evil_server_says_is_not_believed() {
    let version =
        json!({ "version": 1, "created_time": "2026-01-02T03:04:05Z", "deletion_time": "", "destroyed": false });
    let body = |data: &str| format!(r#"{{"data":{{"data":{data},"metadata":{version}}}}}"#);
    let invalid = (Class::Unavailable, Reason::UpstreamInvalid);
    let deep = format!("{}1{}", "[".repeat(80), "]".repeat(80));
    let table = [
        (Reply::Plain(200, "", body(r#"{"k":"canary","k":"other"}"#)), invalid),
        (Reply::Plain(200, "", body(&format!(r#"{{"k":{deep}}}"#))), invalid),
        (Reply::Plain(200, "", body(r#""canary""#)), invalid),
        (Reply::Plain(200, "", body(r#"{"k":"canary"}"#)[..60].to_owned()), invalid),
        (Reply::Plain(200, "", "<html>canary</html>".to_owned()), (Class::Unavailable, Reason::NotVault)),
        (Reply::Flood { announced: true }, invalid),
        (Reply::Flood { announced: false }, invalid),
        (Reply::json(404, &json!({ "errors": [] })), (Class::Waiting, Reason::RemoteMissing)),
        (Reply::json(404, &json!({ "errors": ["no handler for route"] })), (Class::Waiting, Reason::MountMissing)),
        (
            Reply::json(404, &json!({ "data": { "data": null, "metadata": version } })),
            (Class::Waiting, Reason::RemoteDeleted),
        ),
        (Reply::json(405, &json!({ "errors": ["unsupported operation"] })), (Class::Invalid, Reason::NotKv)),
        (Reply::json(429, &json!({ "errors": ["quota"] })), (Class::Throttled, Reason::Throttled)),
        (Reply::json(503, &json!({ "errors": ["sealed"] })), (Class::Unavailable, Reason::VaultSealed)),
        (Reply::json(500, &json!({ "errors": ["1 error"] })), (Class::Unavailable, Reason::BackendFailing)),
        (
            Reply::Plain(307, "location: https://127.0.0.1:1/v1/secret/data/a\r\n", String::new()),
            (Class::Unavailable, Reason::StandbyRedirect),
        ),
    ];
    for (number, (reply, expected)) in table.into_iter().enumerate() {
        let token = json!({ "data": { "ttl": 3600, "renewable": false } });
        let impostor = Impostor::start(move |head| {
            if head.contains("/v1/auth/token/lookup-self") { Reply::json(200, &token) } else { reply.clone() }
        })
        .await;
        let (session, _) = at_impostor(&impostor);
        assert_eq!(refused(&session, &values_of("a", None)).await, expected, "{number}");
    }
}
