//! Logins, renewals and lost tokens at a real server, counted by its own audit file.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use countersign::vault::{Credential, Session};
use countersign_core::{api::Reason, fault::Class, value::secret_data::SecretBytes};
use data_encoding::BASE64URL_NOPAD;
use futures::{FutureExt, future::join_all};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use crate::{
    bao::Bao,
    setup::{APP_ROLE_LOGIN, SIGN_ONLY, allowed, app_role, at_bao, now, pki, token, token_end},
};

const LOOKUP: &str = "auth/token/lookup-self";

/// A JWT of `claims`, signed with `key`.
fn jwt(key: &KeyPair, claims: &Value) -> String {
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", encode(&json!({ "alg": "ES256", "typ": "JWT" })), encode(claims));
    let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
    let signature = signer.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// A session that logs in with JWTs of `key` for `audience`, and how many it made.
fn with_jwt(bao: &Bao, key: KeyPair, audience: &'static str) -> (Session, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let credential = Credential::Jwt {
        mount: "jwt".parse().unwrap(),
        role: "countersign".parse().unwrap(),
        jwt: Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let seconds = now().as_second();
            let claims = json!({ "iss": "test", "sub": "system:serviceaccount:countersign-system:countersign",
                "aud": [audience], "iat": seconds, "nbf": seconds - 5, "exp": seconds + 600 });
            let jwt = SecretBytes::from(jwt(&key, &claims));
            async { Ok(jwt) }.boxed()
        }),
    };
    (at_bao(bao, credential).0, made)
}

#[tokio::test]
async fn a_jwt_logs_in_and_one_for_another_audience_or_of_another_key_does_not() {
    let bao = Bao::start().await;
    let key = KeyPair::generate().unwrap();
    let public = pem(&key);
    bao.root("POST", "sys/auth/jwt", &json!({ "type": "jwt" })).await;
    bao.root("POST", "auth/jwt/config", &json!({ "jwt_validation_pubkeys": [public] })).await;
    let role = json!({ "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub",
        "bound_subject": "system:serviceaccount:countersign-system:countersign", "token_ttl": "1h" });
    bao.root("POST", "auth/jwt/role/countersign", &role).await;

    let copy = || KeyPair::try_from(key.serialize_der()).unwrap();
    let (session, made) = with_jwt(&bao, copy(), "vault");
    join_all((0..20).map(|_| session.authenticate())).await.into_iter().for_each(|result| result.unwrap());
    assert_eq!((session.counters().logins, made.load(Ordering::SeqCst)), (1, 1), "twenty callers, one login");
    assert_eq!(bao.requests("auth/jwt/login"), 1);

    for (key, audience) in [(copy(), "other"), (KeyPair::generate().unwrap(), "vault")] {
        let (session, _) = with_jwt(&bao, key, audience);
        let failure = session.authenticate().await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::LoginFailed), "{failure}");
    }
}

fn pem(key: &KeyPair) -> String {
    let body = data_encoding::BASE64.encode(&key.subject_public_key_info());
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

#[tokio::test]
async fn a_refused_login_is_asked_once_in_30_seconds_for_everybody() {
    let bao = Bao::start().await;
    let Credential::AppRole { mount, role_id, .. } = app_role(&bao, SIGN_ONLY, json!({})).await else { panic!() };
    let secret_id = SecretBytes::from("wrong".to_owned());
    let (session, hours) = at_bao(&bao, Credential::AppRole { mount, role_id, secret_id });
    for result in join_all((0..20).map(|_| session.authenticate())).await {
        let failure = result.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::LoginFailed));
    }
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 1);
    hours.add(31);
    assert!(session.authenticate().await.is_err());
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 2);
    assert_eq!(session.client().outage(), None);
}

#[tokio::test]
async fn a_role_that_limits_the_uses_of_its_tokens_is_refused() {
    let bao = Bao::start().await;
    let (session, _) = at_bao(&bao, app_role(&bao, SIGN_ONLY, json!({ "token_num_uses": 5 })).await);
    for _ in 0..3 {
        let failure = session.authenticate().await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::LoginLimitsUses), "{failure}");
    }
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 1);
}

#[tokio::test]
async fn a_dead_token_is_one_look_and_one_login_for_everybody() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let (session, hours) = at_bao(&bao, app_role(&bao, SIGN_ONLY, json!({})).await);
    let asked = allowed(&issuer);
    session.sign(&asked, now()).await.unwrap();

    hours.add(60);
    bao.root("POST", &format!("sys/leases/revoke-prefix/{APP_ROLE_LOGIN}"), &json!({})).await;
    for answer in join_all((0..30).map(|_| session.sign(&asked, now()))).await {
        answer.unwrap();
    }
    assert_eq!((bao.requests(LOOKUP), bao.requests(APP_ROLE_LOGIN)), (1, 2));
    assert_eq!(session.counters().logins, 2);

    // Again, 10 seconds after that login: whoever takes our tokens away does not get a login each time.
    hours.add(10);
    bao.root("POST", &format!("sys/leases/revoke-prefix/{APP_ROLE_LOGIN}"), &json!({})).await;
    for _ in 0..3 {
        let failure = session.sign(&asked, now()).await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Throttled, Reason::Throttled), "{failure}");
        assert!(failure.retry_after.is_some_and(|wait| wait.as_secs() <= 20));
    }
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 2);
    hours.add(25);
    session.sign(&asked, now()).await.unwrap();
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 3);
}

#[tokio::test]
async fn a_living_token_without_the_policy_is_denied_after_one_look() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let nothing = r#"path "secret/none" { capabilities = ["read"] }"#;
    let (session, _) = at_bao(&bao, app_role(&bao, nothing, json!({})).await);
    let asked = allowed(&issuer);
    let sign = format!("pki_int/issuer/{issuer}/sign/workload");

    let failure = session.sign(&asked, now()).await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::AccessDenied));
    assert_eq!((bao.requests(&sign), bao.requests(LOOKUP), bao.requests(APP_ROLE_LOGIN)), (1, 1, 1));

    // Many at once share the next look.
    for result in join_all((0..20).map(|_| session.sign(&asked, now()))).await {
        assert_eq!(result.unwrap_err().reason, Reason::AccessDenied);
    }
    assert_eq!((bao.requests(&sign), bao.requests(LOOKUP), bao.requests(APP_ROLE_LOGIN)), (21, 2, 1));
}

#[tokio::test]
async fn a_token_is_renewed_at_two_thirds_and_given_back_at_the_end() {
    let bao = Bao::start().await;
    let login = app_role(&bao, SIGN_ONLY, json!({ "token_ttl": "1h", "token_max_ttl": "24h" })).await;
    let (session, hours) = at_bao(&bao, login);
    session.authenticate().await.unwrap();
    let left = |session: &Session| token_end(session, now()).unwrap().duration_since(now()).as_secs();
    assert!((3_590..=3_600).contains(&left(&session)));

    hours.add(2_300);
    session.authenticate().await.unwrap();
    assert_eq!(session.counters().renewals, 0);
    hours.add(150);
    join_all((0..20).map(|_| session.authenticate())).await.into_iter().for_each(|result| result.unwrap());
    assert_eq!((session.counters().logins, session.counters().renewals), (1, 1));
    assert_eq!((bao.requests("auth/token/renew-self"), bao.requests(APP_ROLE_LOGIN)), (1, 1));
    assert!((3_590..=3_600).contains(&left(&session)));

    session.stop().await;
    assert_eq!(bao.requests("auth/token/revoke-self"), 1);
    assert_eq!(token_end(&session, now()), None);
    let failure = session.authenticate().await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::ConnectionNotReady));
    assert_eq!(bao.requests(APP_ROLE_LOGIN), 1, "no login after the end");
}

#[tokio::test]
async fn an_unrenewable_token_is_replaced_when_a_tenth_is_left() {
    let bao = Bao::start().await;
    let login = app_role(&bao, SIGN_ONLY, json!({ "token_ttl": "1h", "token_type": "batch" })).await;
    let (session, hours) = at_bao(&bao, login);
    for (add, logins) in [(0, 1), (3_200, 1), (60, 2), (4_000, 3)] {
        hours.add(add);
        session.authenticate().await.unwrap();
        assert_eq!(session.counters().logins, logins, "after {add} s more");
    }
    assert_eq!((session.counters().renewals, bao.requests("auth/token/renew-self")), (0, 0));
}

#[tokio::test]
async fn a_given_token_is_looked_up_once_and_never_revoked() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let (session, _) = at_bao(&bao, token(bao.root_token()));
    for _ in 0..3 {
        session.sign(&allowed(&issuer), now()).await.unwrap();
    }
    assert_eq!(bao.requests(LOOKUP), 1);
    assert_eq!(token_end(&session, now()), None, "root's does not end");
    session.stop().await;
    bao.root("GET", LOOKUP, &Value::Null).await;

    let (session, _) = at_bao(&bao, token("s.unknown"));
    let failure = session.authenticate().await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::LoginFailed));
    let (session, _) = at_bao(&bao, token("s.newline\n"));
    assert_eq!(session.authenticate().await.unwrap_err().reason, Reason::LoginFailed);
}
