//! One hand-made history for each invariant: it violates exactly that one. The undisturbed history violates none.

use std::{collections::BTreeSet, time::Duration};

use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use super::{Reference, Summary, judge};
use crate::crash::{
    call::{Name, Owner, Request, Scope, Side},
    history::{Call, Change, History, Marks, Process, Subject, Version},
    plan::{Act, Job, Place, Plan, Position, Workload},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What a leaf of the tests may differ in.
struct Wish {
    names: Vec<&'static str>,
    year: i32,
    is_authority: bool,
}

impl Default for Wish {
    fn default() -> Self {
        let names = vec!["spiffe://td/ns/n/sa/web", "web.n.svc", "web.n.svc.cluster.local"];
        Self { names, year: 2030, is_authority: false }
    }
}

/// A leaf and its key, PEM.
fn leaf(authority: &Authority, wish: &Wish) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = wish
        .names
        .iter()
        .map(|name| {
            if name.starts_with("spiffe:") {
                SanType::URI((*name).try_into().unwrap())
            } else {
                SanType::DnsName((*name).try_into().unwrap())
            }
        })
        .collect();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(wish.year, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if wish.is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, authority).unwrap();
    (leaf.pem(), key.serialize_pem())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secret(version: u32, certificate: &str, key: &str) -> Value {
    let encode = |text: &str| BASE64.encode(text.as_bytes());
    json!({
        "metadata": {"name": "web-tls", "namespace": "n", "uid": "s1", "resourceVersion": version.to_string(), "labels": {
            "app.kubernetes.io/managed-by": "countersign", "countersign.dev/owner-uid": "u1",
        }},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": encode(certificate), "tls.key": encode(key), "ca.crt": encode("roots")},
    })
}

fn identity(version: u32, ready: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "u1", "resourceVersion": version.to_string(), "generation": 1},
        "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "Valid"}], "observedGeneration": 1},
    })
}

fn version(at: u64, change: Change, kind: &str, object: Value) -> Version {
    Version { at: ms(at), change, kind: kind.into(), object }
}

fn call(at: u64, request: Request, owner: Option<Owner>, body: Value) -> Call {
    let (forwarded, status, answered) = (true, Some(200), Some(200));
    Call {
        at: ms(at),
        process: 1,
        request,
        owner,
        name: None,
        body,
        forwarded,
        status,
        answered,
        resource_version: None,
    }
}

fn apply(at: u64, path: &str, body: Value) -> Call {
    let request = Request::api("PATCH", path, "application/apply-patch+yaml", &body);
    call(at, request, Some(Owner::Identity), body)
}

fn lease(at: u64) -> Call {
    let body = json!({"spec": {}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/countersign-system/leases/l";
    call(at, Request::api("PATCH", path, "application/merge-patch+json", &body), Some(Owner::Operator), body)
}

fn vault(at: u64, path: &str) -> Call {
    call(at, Request::vault("POST", path), Some(Owner::Connection), Value::Null)
}

const SECRET: &str = "/api/v1/namespaces/n/secrets/web-tls";
const STATUS: &str = "/apis/countersign.dev/v1alpha1/namespaces/n/serviceidentities/web/status";
const LOGIN: &str = "/v1/auth/kubernetes/login";
const SIGN: &str = "/v1/pki_int/issuer/4ba1ed07-6a2f-4ec1-a6e7-4d0b4c5d9fbd/sign/workload";

/// A first certificate, as it should be.
fn issue(authority: &Authority, wish: &Wish) -> History {
    let (certificate, key) = leaf(authority, wish);
    let root = authority.pem();
    let domain = json!({"metadata": {"name": "d", "uid": "d1"},
        "status": {"authorities": [{"id": "sha256:a", "certificate": root, "root": root}]}});
    let bystander = json!({"metadata": {"name": "by", "namespace": "n", "uid": "b1"}});
    let mut stored = apply(3_000, SECRET, json!({"metadata": {"name": "web-tls"}}));
    stored.resource_version = Some("10".into());
    let mut calls: Vec<Call> = (0..14).map(|step| lease(500 + step * 500)).collect();
    calls.extend([vault(2_000, LOGIN), vault(2_500, SIGN), stored, apply(3_200, STATUS, json!({"status": {}}))]);
    calls.sort_by_key(|call| call.at);
    History {
        workload: Workload::IssueVault,
        plan: None,
        target: None,
        subject: Subject {
            scope: Scope { namespace: "n".into(), domain: "d".into(), connection: Some("c".into()), closed: None },
            job: Job::Identity,
            identity: "web".into(),
            secret: "web-tls".into(),
            bystander: "by".into(),
            trust_domain: "td".into(),
            service_account: "web".into(),
            services: vec!["web".into()],
            retains: false,
            settle: Duration::ZERO,
        },
        marks: Marks { begun: ms(1_500), calm: ms(1_501), settled: Some(ms(4_500)), ended: ms(6_500), outage: None },
        versions: vec![
            version(1_000, Change::Added, "TrustDomain", domain),
            version(1_000, Change::Added, "Secret", bystander),
            version(2_000, Change::Added, "ServiceIdentity", identity(5, "Unknown")),
            version(3_100, Change::Added, "Secret", secret(10, &certificate, &key)),
            version(3_300, Change::Modified, "ServiceIdentity", identity(11, "True")),
        ],
        calls,
        processes: vec![Process { number: 1, started: ms(0), ended: None, surprise: None }],
        grace: ms(1_500),
    }
}

/// The same, and what undisturbed runs taught.
fn good() -> (Authority, History, Reference) {
    let authority = authority();
    let history = issue(&authority, &Wish::default());
    let reference = Reference::learn(&[Summary::of(&history)]).unwrap();
    (authority, history, reference)
}

/// A renewal on top of the first certificate.
fn renew(history: &mut History, authority: &Authority, wish: &Wish) {
    let (certificate, key) = leaf(authority, wish);
    let mut stored = apply(3_600, SECRET, json!({"metadata": {"resourceVersion": "10"}}));
    stored.resource_version = Some("12".into());
    history.calls.push(stored);
    history.calls.sort_by_key(|call| call.at);
    history.versions.push(version(3_700, Change::Modified, "Secret", secret(12, &certificate, &key)));
}

fn invariants(history: &History, reference: Option<&Reference>) -> BTreeSet<&'static str> {
    judge(history, reference).into_iter().map(|violation| violation.invariant).collect()
}

/// Without a reference, for histories that are no first certificate and nothing else.
fn alone(history: &History) -> BTreeSet<&'static str> {
    invariants(history, None)
}

#[test]
fn nothing_is_wrong_with_good_histories() {
    let (authority, mut history, reference) = good();
    assert_eq!(judge(&history, Some(&reference)), []);
    renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
    assert_eq!(judge(&history, None), []);
    // Deleted with its owner.
    let (_, mut history, _) = good();
    history.versions.push(version(3_800, Change::Deleted, "ServiceIdentity", identity(13, "True")));
    history.versions.push(version(3_900, Change::Deleted, "Secret", secret(14, "", "")));
    assert_eq!(judge(&history, None), []);
}

#[test]
fn i_01_a_key_of_another_certificate() {
    let (authority, mut history, _) = good();
    let (certificate, _) = leaf(&authority, &Wish::default());
    let (_, key) = leaf(&authority, &Wish::default());
    history.versions[3].object = secret(10, &certificate, &key);
    assert_eq!(alone(&history), ["I-01"].into());
}

#[test]
fn i_02_a_name_too_many_a_ca_and_a_foreign_authority() {
    let authority = authority();
    for wish in [
        Wish { names: vec!["spiffe://td/ns/n/sa/web", "web.n.svc"], ..Wish::default() },
        Wish { names: vec!["spiffe://td/ns/n/sa/other", "web.n.svc", "web.n.svc.cluster.local"], ..Wish::default() },
        Wish { is_authority: true, ..Wish::default() },
    ] {
        assert_eq!(alone(&issue(&authority, &wish)), ["I-02"].into());
    }
    let mut history = issue(&authority, &Wish::default());
    let (certificate, key) = leaf(&self::authority(), &Wish::default());
    history.versions[3].object = secret(10, &certificate, &key);
    assert_eq!(alone(&history), ["I-02"].into());
}

#[test]
fn i_03_an_end_that_moves_back_and_a_new_authority() {
    let (authority, mut history, _) = good();
    renew(&mut history, &authority, &Wish { year: 2029, ..Wish::default() });
    assert_eq!(alone(&history), ["I-03"].into());

    let (_, mut history, _) = good();
    let root = history.versions[0].object.pointer("/status/authorities/0/root").unwrap().clone();
    let domain = json!({"metadata": {"name": "d", "uid": "d1"},
        "status": {"authorities": [{"id": "sha256:b", "certificate": root, "root": root}]}});
    history.versions.push(version(3_900, Change::Modified, "TrustDomain", domain));
    assert_eq!(alone(&history), ["I-03"].into());
}

#[test]
fn i_04_a_secret_deleted_under_its_owner_or_although_it_is_retained() {
    let (_, mut history, _) = good();
    let last = history.versions[3].object.clone();
    history.versions.push(version(3_900, Change::Deleted, "Secret", last.clone()));
    assert_eq!(alone(&history), ["I-04"].into());

    let (_, mut history, _) = good();
    history.subject.retains = true;
    history.versions.push(version(3_800, Change::Deleted, "ServiceIdentity", identity(13, "True")));
    history.versions.push(version(3_900, Change::Deleted, "Secret", last));
    assert_eq!(alone(&history), ["I-04"].into());

    let (_, mut history, _) = good();
    history.versions.remove(3);
    assert_eq!(alone(&history), ["I-04"].into());
}

#[test]
fn i_05_a_key_that_vanishes_or_empties() {
    for change in [Value::Null, json!("")] {
        let (_, mut history, _) = good();
        let mut object = history.versions[3].object.clone();
        match change {
            Value::Null => _ = object["data"].as_object_mut().unwrap().remove("ca.crt"),
            empty => object["data"]["ca.crt"] = empty,
        }
        history.versions.push(version(3_900, Change::Modified, "Secret", object));
        assert_eq!(alone(&history), ["I-05"].into());
    }
}

#[test]
fn i_05_and_i_06_values_that_are_missing_or_of_two_versions() {
    let bound = |user: &str, password: &str| {
        let (_, mut history, _) = good();
        history.subject.job = Job::Binding;
        history.versions.retain(|version| version.kind != "ServiceIdentity");
        let (user, password) = (BASE64.encode(user.as_bytes()), BASE64.encode(password.as_bytes()));
        history.versions[2].object["data"] = json!({"user": user, "password": password});
        alone(&history)
    };
    assert_eq!(bound("user-1", "password-1"), [].into());
    assert_eq!(bound("user-1", "password-2"), ["I-06"].into());
    assert_eq!(bound("user-1", ""), ["I-05", "I-06"].into());
}

#[test]
fn i_07_a_change_while_openbao_is_away() {
    let (authority, mut history, _) = good();
    renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
    history.marks.outage = Some((ms(3_400), ms(4_400)));
    assert_eq!(alone(&history), ["I-07"].into());
    history.marks.outage = Some((ms(3_800), ms(4_400)));
    assert_eq!(alone(&history), [].into());
}

#[test]
fn i_08_a_secret_of_somebody_else() {
    let (_, mut history, _) = good();
    let bystander = history.versions[1].object.clone();
    history.versions.push(version(3_900, Change::Modified, "Secret", bystander));
    assert_eq!(alone(&history), ["I-08"].into());

    for label in ["app.kubernetes.io/managed-by", "countersign.dev/owner-uid"] {
        let (authority, mut history, _) = good();
        history.versions[3].object["metadata"]["labels"].as_object_mut().unwrap().remove(label);
        renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
        assert_eq!(alone(&history), ["I-08"].into(), "without {label}");
    }
    let (authority, mut history, _) = good();
    history.versions[3].object["metadata"]["labels"]["countersign.dev/owner-uid"] = json!("u0");
    renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
    assert_eq!(alone(&history), ["I-08"].into());
}

#[test]
fn i_10_a_blind_update_and_a_blind_delete() {
    let (authority, mut history, _) = good();
    renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
    let update = history.calls.iter_mut().find(|call| call.resource_version.as_deref() == Some("12")).unwrap();
    update.body = json!({"metadata": {}});
    assert_eq!(alone(&history), ["I-10"].into());

    let (_, mut history, _) = good();
    let delete =
        |body| call(3_400, Request::api("DELETE", "/api/v1/namespaces/x/secrets/s", "", &Value::Null), None, body);
    history.calls.push(delete(json!({"preconditions": {"uid": "1"}})));
    history.calls.sort_by_key(|call| call.at);
    assert_eq!(alone(&history), [].into());
    history.calls.push(delete(Value::Null));
    history.calls.sort_by_key(|call| call.at);
    assert_eq!(alone(&history), ["I-10"].into());
}

#[test]
fn i_14_a_login_per_request_and_too_many_calls() {
    let (_, mut history, _) = good();
    history.calls.push(vault(2_600, LOGIN));
    assert_eq!(alone(&history), ["I-14"].into());
    // One whose answer was lost may be repeated.
    let lost = history.calls.iter_mut().find(|call| call.request.logs_in()).unwrap();
    lost.answered = None;
    assert_eq!(alone(&history), [].into());

    let (_, mut history, reference) = good();
    history.calls.extend((0..20).map(|step| vault(2_600 + step, "/v1/auth/token/lookup-self")));
    assert_eq!(invariants(&history, Some(&reference)), ["I-14"].into());
}

#[test]
fn i_15_a_write_and_a_call_when_all_is_quiet() {
    for late in [apply(5_000, STATUS, json!({"status": {}})), vault(5_000, "/v1/auth/token/renew-self")] {
        let (_, mut history, _) = good();
        history.calls.push(late);
        history.calls.sort_by_key(|call| call.at);
        assert_eq!(alone(&history), ["I-15"].into());
    }
    let (_, mut history, _) = good();
    history.calls.push(call(5_000, Request::vault("GET", "/v1/sys/health"), Some(Owner::Connection), Value::Null));
    history.calls.push(call(
        5_000,
        Request::api("PATCH", SECRET, "application/merge-patch+json", &json!({})),
        None,
        json!({}),
    ));
    assert_eq!(alone(&history), [].into());
}

#[test]
fn i_16_a_write_without_the_lease() {
    let (_, mut history, _) = good();
    for call in history.calls.iter_mut().filter(|call| call.request.resource == "leases" && call.at < ms(4_000)) {
        call.process = 2;
    }
    assert_eq!(alone(&history), ["I-16"].into());

    let (_, mut history, _) = good();
    history.calls.retain(|call| call.request.resource != "leases" || call.at < ms(600));
    assert_eq!(alone(&history), ["I-16"].into(), "2.7 s are more than grace and transit");
}

#[test]
fn i_17_another_end_no_end_and_a_call_that_never_came() {
    let (_, mut history, reference) = good();
    history.versions[4].object["status"]["conditions"][0]["reason"] = json!("Issuing");
    assert_eq!(invariants(&history, Some(&reference)), ["I-17"].into());

    let (_, mut history, reference) = good();
    history.marks.settled = None;
    assert_eq!(invariants(&history, Some(&reference)), ["I-17"].into());

    let (_, mut history, reference) = good();
    let (resource, verb) = ("secrets".to_owned(), "APPLY".to_owned());
    history.target = Some(Name { side: Side::Api, owner: Owner::Identity, verb, resource, ordinal: 2 });
    history.marks.calm = history.marks.begun;
    assert_eq!(invariants(&history, Some(&reference)), ["I-17"].into());
}

#[test]
fn i_18_a_second_secret_a_second_certificate_and_a_second_signature() {
    let (authority, mut history, reference) = good();
    renew(&mut history, &authority, &Wish { year: 2031, ..Wish::default() });
    assert_eq!(invariants(&history, Some(&reference)), ["I-18"].into());

    let (_, mut history, reference) = good();
    history.calls.push(vault(2_600, SIGN));
    assert_eq!(invariants(&history, Some(&reference)), ["I-18"].into());
    // Permitted: the first answer was lost.
    let (resource, verb) = ("pki_int/issuer/*/sign/workload".to_owned(), "POST".to_owned());
    history.target = Some(Name { side: Side::Vault, owner: Owner::Identity, verb, resource, ordinal: 1 });
    let (workload, place) = (Workload::IssueVault, Place::Vault(2));
    history.plan = Some(Plan { workload, place, position: Position::Lost, act: Act::Kill });
    assert_eq!(invariants(&history, Some(&reference)), [].into());

    let (_, mut history, reference) = good();
    let last = history.versions[3].object.clone();
    history.versions.push(version(3_350, Change::Deleted, "Secret", last.clone()));
    history.versions.push(version(3_400, Change::Added, "Secret", last));
    // A Secret that comes back was gone: I-04 sees the same.
    assert_eq!(invariants(&history, Some(&reference)), ["I-04", "I-18"].into());
}

#[test]
fn i_29_a_process_that_ends_by_itself() {
    let (_, mut history, _) = good();
    history
        .processes
        .insert(0, Process { number: 0, started: ms(0), ended: Some(ms(1_600)), surprise: Some("signal: 6".into()) });
    assert_eq!(alone(&history), ["I-29"].into());
}
