//! Answers that a real server cannot be made to give.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use countersign::vault::{ConnectionSettings, Limits};
use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use serde_json::json;

use crate::{
    bao::server_certificate,
    impostor::{Impostor, Reply},
    setup::{WIDE, allowed, at_impostor, now, session, settings, token, token_end},
};

fn healthy() -> Reply {
    let body = json!({ "initialized": true, "sealed": false, "standby": false, "server_time_utc": now().as_second(),
        "version": "2.7.2" });
    Reply::json(200, &body)
}

fn known_token() -> Reply {
    Reply::json(200, &json!({ "data": { "ttl": 3_600, "renewable": true } }))
}

fn unknown_token() -> Reply {
    Reply::json(403, &json!({ "errors": ["permission denied"] }))
}

fn signed() -> Reply {
    Reply::json(200, &json!({ "data": { "certificate": "C", "issuing_ca": "I", "ca_chain": ["I"] } }))
}

/// A server whose login works and whose signatures are answered by `reply`.
async fn signing(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Impostor {
    Impostor::start(move |head| match head.split(' ').nth(1) {
        Some("/v1/sys/health") => healthy(),
        Some("/v1/auth/token/lookup-self") => known_token(),
        _ => reply(),
    })
    .await
}

async fn sign_at(impostor: &Impostor) -> Failure {
    at_impostor(impostor).0.sign(&allowed("default"), now()).await.unwrap_err()
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let other = Impostor::start(|_| healthy()).await;
    for status in [307, 308, 301, 302] {
        let location: &'static str = format!("location: {}v1/x\r\n", other.address).leak();
        let first = signing(move || Reply::Plain(status, location, String::new())).await;
        let failure = sign_at(&first).await;
        assert_eq!(failure.class, Class::Unavailable);
        let expected = if status < 307 { Reason::NotVault } else { Reason::StandbyRedirect };
        assert_eq!(failure.reason, expected, "{status}");
        assert_eq!(first.requests("post /v1/pki_int"), 1);
    }
    assert_eq!(other.connections(), 0, "the token would have gone along");
}

#[tokio::test]
async fn a_flood_is_cut_at_two_megabytes() {
    for announced in [true, false] {
        let impostor = signing(move || Reply::Flood { announced }).await;
        let failure = sign_at(&impostor).await;
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::UpstreamInvalid), "{failure}");
        // What was under way in buffers is sent, not read.
        assert!(impostor.sent() < 20 * 1024 * 1024, "{} bytes were taken from it", impostor.sent());
    }
}

#[tokio::test]
async fn what_is_no_vault_and_what_is_broken_is_told_apart() {
    let html = "<html>Welcome</html>".to_owned();
    let whole = r#"{"data":{"certificate":"C","issuing_ca":"I"}}"#;
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", whole.len(), &whole[..20]);
    let table = [
        (Reply::Plain(200, "content-type: text/html\r\n", html.clone()), Reason::NotVault),
        (Reply::Plain(403, "content-type: text/html\r\n", html.clone()), Reason::NotVault),
        (Reply::Plain(404, "", html.clone()), Reason::NotVault),
        (Reply::Plain(502, "", html), Reason::VaultUnavailable),
        (Reply::Plain(200, "", whole[..20].to_owned()), Reason::UpstreamInvalid),
        (Reply::Plain(200, "", r#"{"data":{"certificate":null}}"#.to_owned()), Reason::UpstreamInvalid),
        (Reply::Plain(200, "", "{\"a\":".repeat(10_000)), Reason::UpstreamInvalid),
        // A compression bomb: nothing was asked for in compressed form, so nothing is unpacked.
        (Reply::Plain(200, "content-encoding: gzip\r\n", "\x1f\u{8b}bomb".to_owned()), Reason::NotVault),
        (Reply::Raw(cut), Reason::VaultUnavailable),
        (Reply::Raw("SSH-2.0-OpenSSH\r\n".to_owned()), Reason::VaultUnavailable),
        (Reply::Raw(String::new()), Reason::VaultUnavailable),
    ];
    for (reply, reason) in table {
        let impostor = signing(move || reply.clone()).await;
        let failure = sign_at(&impostor).await;
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, reason), "{failure}");
        for head in impostor.heads() {
            assert!(!head.contains("accept-encoding") && !head.contains("referer"), "{head}");
        }
    }
}

#[tokio::test]
async fn a_drip_hits_the_deadline() {
    let impostor = signing(|| Reply::Drip).await;
    let limits = Limits { timeout: Duration::from_secs(1), ..WIDE };
    let settings = ConnectionSettings { limits, ..settings(&impostor.address, &impostor.ca_pem) };
    let (session, _) = session(&settings, token("s.canary"));
    let started = Instant::now();
    let failure = session.sign(&allowed("default"), now()).await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultUnavailable));
    assert!(failure.message.contains("deadline"), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ca_pem, ..) = server_certificate("localhost");
    let (session, _) = session(&settings(&format!("https://{free}").parse().unwrap(), &ca_pem), token("s.canary"));
    let failure = session.client().health().await.unwrap_err();
    assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultUnavailable));
    assert!(failure.message.contains("nobody listens"), "{failure}");
}

#[tokio::test]
async fn tls_failures_name_their_class() {
    let impostor = Impostor::named("bao.infra.svc", |_| healthy()).await;
    let there = settings(&impostor.address, &impostor.ca_pem);
    let (other_ca, ..) = server_certificate("localhost");
    let named = |name: &str| ConnectionSettings { server_name: Some(name.to_owned()), ..there.clone() };
    let old = Impostor::without_tls(b"\x15\x03\x01\x00\x02\x02\x46").await;
    let plain = Impostor::without_tls(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let table = [
        (named("vault.infra.svc"), "name"),
        (settings(&impostor.address, &other_ca), "trust"),
        (settings(&old.address, &old.ca_pem), "version"),
        (settings(&plain.address, &plain.ca_pem), "handshake"),
    ];
    for (settings, class) in table {
        let failure = session(&settings, token("s.canary")).0.client().health().await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::TLSFailed), "{class}: {failure}");
        assert!(failure.message.contains(&format!("TLS failed: {class};")), "{failure}");
    }
    assert!(impostor.heads().is_empty(), "not one request was sent before trust");
    let (session, _) = session(&named("bao.infra.svc"), token("s.canary"));
    assert!(session.client().health().await.is_ok(), "the name is verified, the address is dialled");
    assert!(impostor.heads()[0].contains("host: bao.infra.svc:"));
}

#[tokio::test]
async fn an_outage_costs_one_probe_at_a_time() {
    let away = std::sync::Arc::new(AtomicUsize::new(1));
    let flag = away.clone();
    let impostor = Impostor::start(move |head| match head.split(' ').nth(1) {
        _ if flag.load(Ordering::SeqCst) == 1 => Reply::Plain(503, "", "upstream gone".to_owned()),
        Some("/v1/sys/health") => healthy(),
        Some("/v1/auth/token/lookup-self") => known_token(),
        _ => signed(),
    })
    .await;
    let (session, hours) = at_impostor(&impostor);
    let asked = allowed("default");
    for _ in 0..20 {
        let failure = session.sign(&asked, now()).await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultUnavailable));
    }
    assert_eq!(impostor.heads().len(), 1, "the first call, and nothing more");
    for (seconds, total) in [(7, 2), (13, 3), (25, 4), (49, 5), (73, 6), (73, 7)] {
        hours.add(seconds);
        for _ in 0..20 {
            assert!(session.sign(&asked, now()).await.is_err());
        }
        assert_eq!(impostor.heads().len(), total, "after {seconds} s more");
    }
    assert_eq!(impostor.requests("get /v1/sys/health"), 6);
    away.store(0, Ordering::SeqCst);
    assert!(session.sign(&asked, now()).await.is_err(), "not before the next probe");
    hours.add(73);
    session.sign(&asked, now()).await.unwrap();
}

#[tokio::test]
async fn a_429_parks_everybody() {
    let impostor = signing(|| Reply::Plain(429, "retry-after: 9\r\n", String::new())).await;
    let (session, hours) = at_impostor(&impostor);
    let asked = allowed("default");
    for _ in 0..20 {
        let failure = session.sign(&asked, now()).await.unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Throttled, Reason::Throttled));
        assert!(failure.retry_after.is_some_and(|wait| (8..=9).contains(&wait.as_secs())));
    }
    assert_eq!(impostor.requests("post /v1/pki_int"), 1);
    hours.add(10);
    assert!(session.sign(&asked, now()).await.is_err());
    assert_eq!(impostor.requests("post /v1/pki_int"), 2);
}

#[tokio::test]
async fn a_passing_500_is_tried_once_more() {
    let asked = AtomicUsize::new(0);
    let impostor = signing(move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::json(500, &json!({ "errors": ["storage hiccup"] })),
        _ => signed(),
    })
    .await;
    let (session, _) = at_impostor(&impostor);
    assert!(session.sign(&allowed("default"), now()).await.is_ok());
}

#[tokio::test]
async fn a_standby_that_does_not_know_a_new_token_yet_gets_one_more_try() {
    let looked = AtomicUsize::new(0);
    let asked = AtomicUsize::new(0);
    let impostor = Impostor::start(move |head| match head.split(' ').nth(1) {
        // The first look is the adoption of the token, at the active node; the second is at the standby.
        Some("/v1/auth/token/lookup-self") if looked.fetch_add(1, Ordering::SeqCst) == 0 => known_token(),
        Some("/v1/auth/token/lookup-self") => unknown_token(),
        _ if asked.fetch_add(1, Ordering::SeqCst) == 0 => unknown_token(),
        _ => signed(),
    })
    .await;
    let (session, _) = at_impostor(&impostor);
    let started = Instant::now();
    session.sign(&allowed("default"), now()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(1_500), "the token was given time to arrive");
    assert_eq!(impostor.requests("get /v1/auth/token/lookup-self"), 2);
}

#[tokio::test]
async fn a_lying_ttl_does_no_harm() {
    for (ttl, works) in [(json!(u64::MAX), true), (json!(-1), false), (json!("1h"), false), (json!(1e300), false)] {
        let body = json!({ "data": { "ttl": ttl, "renewable": true } });
        let impostor = Impostor::start(move |head| match head.split(' ').nth(1) {
            Some("/v1/auth/token/lookup-self") => Reply::json(200, &body),
            _ => signed(),
        })
        .await;
        let (session, _) = at_impostor(&impostor);
        let result = session.sign(&allowed("default"), now()).await;
        assert_eq!(result.as_ref().err().map(|failure| failure.reason), (!works).then_some(Reason::UpstreamInvalid));
        assert_eq!(token_end(&session, now()), None, "a time that cannot be shown is not shown");
    }
}
