//! Signatures under the documented role, and what each refusal of a real server becomes.

use std::time::Duration;

use countersign::vault::{Session, SignRequest, sign_path};
use countersign_core::{api::Reason, fault::Class};
use jiff::Timestamp;
use serde_json::json;
use x509_parser::{
    extensions::GeneralName,
    pem::parse_x509_pem,
    prelude::{FromDer, X509Certificate},
};

use crate::{
    bao::Bao,
    setup::{SIGN_ONLY, WITH_READS, allowed, another_root, app_role, asking, at_bao, now, pki},
};

async fn refused(session: &Session, asked: &SignRequest, expected: (Class, Reason), words: &str) {
    let failure = session.sign(asked, now()).await.unwrap_err();
    assert_eq!((failure.class, failure.reason), expected, "{failure}");
    assert!(failure.message.contains(words), "{failure}");
    assert_eq!(session.client().outage(), None, "a refusal is no outage");
}

#[tokio::test]
async fn the_pinned_issuer_signs_exactly_the_names_asked_for() {
    let bao = Bao::start().await;
    let first = pki(&bao, "1000h").await;
    let second = another_root(&bao, "1000h").await;
    bao.root("POST", "pki_int/config/issuers", &json!({ "default": first })).await;
    let (session, _) = at_bao(&bao, app_role(&bao, WITH_READS, json!({})).await);
    let mount = "pki_int".parse().unwrap();

    let pinned = session.read_issuer(&mount, &second.parse().unwrap()).await.unwrap();
    assert_eq!(pinned.issuer_id.as_str(), second);
    let default = session.read_issuer(&mount, &"default".parse().unwrap()).await.unwrap();
    assert_eq!(default.issuer_id.as_str(), first);
    assert_eq!(default.ca_chain.len(), 1);

    let answer = session.sign(&allowed(&second), now()).await.unwrap();
    assert_eq!(answer.issuing_ca.trim(), pinned.certificate_pem.trim());
    assert_eq!(answer.ca_chain.len(), 1);
    let (_, leaf) = parse_x509_pem(answer.certificate_pem.as_bytes()).unwrap();
    let leaf = leaf.parse_x509().unwrap();
    let (_, authority) = parse_x509_pem(pinned.certificate_pem.as_bytes()).unwrap();
    let (_, authority) = X509Certificate::from_der(&authority.contents).unwrap();
    assert_eq!(leaf.issuer(), authority.subject());
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    let mut names: Vec<String> = names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort();
    let expected = ["cart.shop.svc", "cart.shop.svc.cluster.local", "spiffe://prod.example/ns/shop/sa/cart"];
    assert_eq!(names, expected);

    let issuers = session.list_issuers(&mount).await.unwrap();
    assert_eq!(issuers.iter().find(|issuer| issuer.is_default).unwrap().id.as_str(), first);
    assert_eq!(issuers.len(), 2);
    assert!(session.issuer_settings(&mount, &second.parse().unwrap()).await.unwrap().may_sign());
    let role = session.role(&mount, &"workload".parse().unwrap()).await.unwrap();
    assert!(!role.require_cn && !role.use_csr_sans && role.no_store && !role.generate_lease);
    assert_eq!((role.key_type.as_str(), role.max_ttl), ("ec", 604_800));
    assert_eq!(role.allowed_uri_sans, ["spiffe://prod.example/ns/*"]);
    let paths = [
        sign_path(&mount, &second.parse().unwrap(), &"workload".parse().unwrap()),
        "pki_int/issue/workload".to_owned(),
    ];
    let capabilities = session.capabilities_self(&paths).await.unwrap();
    assert_eq!(capabilities, [vec!["update".to_owned()], vec!["deny".to_owned()]]);
}

#[tokio::test]
async fn each_refusal_becomes_its_reason() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "4h").await;
    let (session, _) = at_bao(&bao, app_role(&bao, WITH_READS, json!({})).await);

    let unknown_role = SignRequest { role: "nope".parse().unwrap(), ..allowed(&issuer) };
    refused(&session, &unknown_role, (Class::Invalid, Reason::RoleNotFound), "pki_int/roles/nope").await;
    for (uri, dns) in [
        ("spiffe://evil.example/ns/shop/sa/cart", "cart.shop.svc"),
        ("spiffe://prod.example/ns/shop/sa/cart", "www.example.com"),
        ("spiffe://prod.example/ns/shop/sa/cart", "*.shop.svc"),
    ] {
        let asked = asking(&issuer, uri, &[dns]);
        refused(&session, &asked, (Class::Invalid, Reason::RoleRefused), "allowed names").await;
    }
    let garbage = SignRequest { csr_pem: "no CSR".to_owned(), ..allowed(&issuer) };
    refused(&session, &garbage, (Class::Invalid, Reason::RoleRefused), "sign/workload").await;

    let too_long = SignRequest { ttl: Duration::from_secs(5 * 3_600), ..allowed(&issuer) };
    refused(&session, &too_long, (Class::Invalid, Reason::AuthorityExpiring), "ends at").await;
    assert!(session.sign(&allowed(&issuer), now()).await.is_ok());

    let gone = allowed("11111111-1111-1111-1111-111111111111");
    refused(&session, &gone, (Class::Invalid, Reason::IssuerNotUsable), "does not exist").await;
    let failure = session.read_issuer(&gone.mount, &gone.issuer).await.unwrap_err();
    assert_eq!(failure.reason, Reason::IssuerNotUsable);
    let failure = session.issuer_settings(&gone.mount, &gone.issuer).await.unwrap_err();
    assert_eq!(failure.reason, Reason::IssuerNotUsable);

    let retired = another_root(&bao, "4h").await;
    bao.root("POST", &format!("pki_int/issuer/{retired}"), &json!({ "usage": "read-only" })).await;
    refused(&session, &allowed(&retired), (Class::Invalid, Reason::IssuerNotUsable), "may not sign").await;

    let elsewhere = SignRequest { mount: "pki_none".parse().unwrap(), ..allowed(&issuer) };
    refused(&session, &elsewhere, (Class::Denied, Reason::AccessDenied), "policy").await;
    assert_eq!(session.counters().logins, 1);
}

#[tokio::test]
async fn with_the_least_policy_refusals_are_vaguer_but_no_outage() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "4h").await;
    let (session, _) = at_bao(&bao, app_role(&bao, SIGN_ONLY, json!({})).await);
    session.sign(&allowed(&issuer), now()).await.unwrap();

    let asked = asking(&issuer, "spiffe://evil.example/ns/a/sa/b", &[]);
    refused(&session, &asked, (Class::Invalid, Reason::RoleRefused), "allowed names").await;
    let too_long = SignRequest { ttl: Duration::from_secs(5 * 3_600), ..allowed(&issuer) };
    refused(&session, &too_long, (Class::Invalid, Reason::AuthorityExpiring), "ends at").await;
    let gone = allowed("11111111-1111-1111-1111-111111111111");
    refused(&session, &gone, (Class::Invalid, Reason::IssuerNotUsable), "does not exist").await;

    let retired = another_root(&bao, "4h").await;
    bao.root("POST", &format!("pki_int/issuer/{retired}"), &json!({ "usage": "read-only" })).await;
    let unavailable = (Class::Unavailable, Reason::IssuerUnavailable);
    refused(&session, &allowed(&retired), unavailable, "its usage may lack").await;
    assert_eq!(bao.requests("auth/token/lookup-self"), 0, "optional rights that are missing cost no look at the token");
}

#[tokio::test]
async fn a_clock_that_is_far_off_does_not_invent_an_expiring_authority() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "4h").await;
    let (session, _) = at_bao(&bao, app_role(&bao, WITH_READS, json!({})).await);
    let past: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
    let too_long = SignRequest { ttl: Duration::from_secs(5 * 3_600), ..allowed(&issuer) };
    let failure = session.sign(&too_long, past).await.unwrap_err();
    assert_eq!(failure.reason, Reason::RoleRefused, "by this clock the authority has years left");
}

#[tokio::test]
async fn a_thousand_signatures_are_one_login() {
    let bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let (session, _) = at_bao(&bao, app_role(&bao, SIGN_ONLY, json!({})).await);
    let asked = allowed(&issuer);
    for _ in 0..40 {
        let batch = (0..25).map(|_| session.sign(&asked, now()));
        for answer in futures::future::join_all(batch).await {
            answer.unwrap();
        }
    }
    assert_eq!(session.counters().logins, 1);
    assert_eq!(bao.requests("auth/approle/login"), 1);
    assert_eq!(bao.requests(&format!("pki_int/issuer/{issuer}/sign/workload")), 1_000);
}
