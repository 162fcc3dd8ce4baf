//! A real server's own states: new, sealed, served again; its namespaces.

use countersign::vault::Product;
use countersign_core::{api::Reason, fault::Class};
use serde_json::json;

use crate::{
    bao::Bao,
    setup::{NEW_ROOT, SIGN_ONLY, allowed, app_role, at_bao, now, pki, session, settings, token},
};

#[tokio::test]
async fn health_is_read_before_and_after_initialisation() {
    let mut bao = Bao::start_uninitialised().await;
    let (session, hours) = at_bao(&bao, token("s.none"));
    let health = session.client().health().await.unwrap();
    assert!(!health.initialized && health.sealed);
    assert_eq!(health.usable().unwrap_err().reason, Reason::VaultSealed);
    assert_eq!(session.client().health().await.unwrap_err().class, Class::Unavailable, "the breaker is open");

    bao.initialise().await;
    hours.add(7);
    let health = session.client().health().await.unwrap();
    assert_eq!(health.product, Product::OpenBao);
    assert!(health.version.starts_with("2."), "{}", health.version);
    assert!(health.initialized && !health.sealed && !health.standby && !health.recovery_secondary);
    assert!(now().duration_since(health.server_time).abs().as_secs() <= 5);
    assert_eq!(session.client().outage(), None);
}

#[tokio::test]
async fn a_sealed_server_is_left_alone_but_for_probes_and_found_again() {
    let mut bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let (session, hours) = at_bao(&bao, app_role(&bao, SIGN_ONLY, json!({})).await);
    session.sign(&allowed(&issuer), now()).await.unwrap();

    bao.seal().await;
    let failure = session.sign(&allowed(&issuer), now()).await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultSealed));

    bao.unseal().await;
    let before = bao.all_requests();
    for _ in 0..50 {
        let failure = session.sign(&allowed(&issuer), now()).await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultSealed));
        assert!(failure.retry_after.is_some_and(|left| left.as_secs() <= 6));
    }
    assert_eq!(bao.all_requests(), before, "nothing was sent while the breaker was open");
    hours.add(7);
    session.sign(&allowed(&issuer), now()).await.unwrap();
    assert_eq!(session.counters().logins, 1, "the token survived the outage");
}

#[tokio::test]
async fn the_connections_namespace_is_used() {
    let bao = Bao::start().await;
    bao.root("POST", "sys/namespaces/team-a", &json!({})).await;
    bao.root_in("team-a", "POST", "sys/mounts/pki_int", &json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "root", "ttl": "1h", "key_type": "ec" });
    let answer = bao.root_in("team-a", "POST", &format!("pki_int/{NEW_ROOT}"), &root).await;

    let mut inside = settings(&bao.address, &bao.ca_pem);
    inside.namespace = Some("team-a".parse().unwrap());
    let (inside, _) = session(&inside, token("s.none"));
    let (outside, _) = at_bao(&bao, token("s.none"));
    let mount = "pki_int".parse().unwrap();
    let listed = inside.list_issuers(&mount).await.unwrap();
    assert_eq!(listed[0].id.as_str(), answer["data"]["issuer_id"].as_str().unwrap());
    assert!(listed[0].is_default);
    assert!(outside.list_issuers(&mount).await.is_err());
    assert!(inside.client().health().await.is_ok(), "health is asked of the root namespace");
}
