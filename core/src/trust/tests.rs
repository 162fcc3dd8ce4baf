//! Tables over parse, decide and report of a trust domain.

mod authorities;
mod domains;
mod issuers;
mod specs;

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, ToSpan};

use crate::{
    api::{
        AllowRule, Authority, AuthorityState, CertificateSource, DomainDefaults, EmbeddedIssuer, IssuerSpec,
        KeyAlgorithm, KeySpec, NamespaceSelector, Reason, TrustDomain, TrustDomainSpec, TrustDomainStatus, VaultIssuer,
    },
    fault::{Class, Failure},
    next::{Machine, Next},
    trust::{
        decide::{Trust, decide},
        intent::{Intent, Issuer, parse},
        report::{rejected, report},
        rules::{Claim, expiring_from, older_namesake, secret_name},
        world::{
            Attempt, Complaint, ConnectionView, Effect, Found, IssuerView, Memory, MountIssuers, Outcome, PkiIssuer,
            Reply, RoleView, RootsView, SecretView, SecretsView, Settled, World,
        },
    },
    value::{
        domain::{Domain, FieldProblem, trust},
        x509::{Certificate, Leaf, Roots, X509Fault},
    },
};

/// A self-signed authority with a name and a key identifier, from 2026-11-24 for a hundred years.
const ROOT: &str = include_str!("../value/x509/fixtures/root.pem");
/// Another one, without a key identifier.
const OTHER: &str = include_str!("../value/x509/fixtures/forever.pem");

fn now() -> Timestamp {
    "2027-01-01T12:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    now() + seconds.seconds()
}

fn root() -> Certificate {
    Certificate::parse_pem(ROOT).unwrap()
}

fn embedded_spec() -> TrustDomainSpec {
    TrustDomainSpec {
        name: "prod.example".to_owned(),
        issuer: IssuerSpec { vault: None, embedded: Some(EmbeddedIssuer { key: None, lifetime: None }) },
        defaults: None,
        limits: None,
        allow: Vec::new(),
        suspend: None,
    }
}

fn vault_spec() -> TrustDomainSpec {
    let vault = VaultIssuer {
        connection: "main".to_owned(),
        mount: "pki_int".to_owned(),
        role: "workload".to_owned(),
        roots: None,
    };
    TrustDomainSpec { issuer: IssuerSpec { vault: Some(vault), embedded: None }, ..embedded_spec() }
}

fn object(spec: TrustDomainSpec) -> TrustDomain {
    let mut object = TrustDomain::new("prod", spec);
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.generation = Some(3);
    object
}

fn embedded() -> Intent {
    parse(&object(embedded_spec())).unwrap()
}

fn vault() -> Intent {
    parse(&object(vault_spec())).unwrap()
}

fn fresh() -> World {
    World {
        namesake: None,
        memory: Memory::default(),
        secrets: SecretsView::Read(BTreeMap::new()),
        connection: ConnectionView::Usable,
        roots: RootsView::NotAsked,
        complaint: None,
        attempt: None,
        found: Found::default(),
    }
}

fn authority(issuer_ref: Option<&str>) -> Authority {
    Authority {
        id: root().leaf.spki.to_string(),
        state: AuthorityState::Active,
        issuer_ref: issuer_ref.map(str::to_owned),
        certificate: ROOT.to_owned(),
        root: ROOT.to_owned(),
        not_after: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(root().leaf.not_after),
    }
}

/// What the status of a domain at rest remembers.
fn memory(issuer_ref: Option<&str>) -> Memory {
    Memory { authorities: vec![authority(issuer_ref)], generation: Some(3), good: true, handled_request: None }
}

fn kept() -> SecretView {
    SecretView::Authority(Box::new(root()))
}

fn stranger() -> SecretView {
    SecretView::Authority(Box::new(Certificate::parse_pem(OTHER).unwrap()))
}

fn unusable() -> SecretView {
    SecretView::Unusable(Failure::new(Class::Invalid, Reason::AuthorityLost, "tls.key does not belong to tls.crt"))
}

fn secrets(all: &[(u32, SecretView)]) -> SecretsView {
    SecretsView::Read(all.iter().cloned().collect())
}

fn pki(id: &str) -> IssuerView {
    let issuer = PkiIssuer { id: id.to_owned(), certificate: root(), chain: Vec::new(), may_sign: None };
    IssuerView::Present(Box::new(issuer))
}

fn failure(class: Class, reason: Reason) -> Failure {
    Failure::new(class, reason, "in a test")
}

fn attempt(seconds: i64, failure: Failure) -> Attempt {
    Attempt { at: at(seconds), attempts: 1, generation: 3, failure }
}

/// Runs a pass as the operator does, with one reply per effect.
fn pass(intent: &Intent, mut world: World, mut replies: Vec<Reply>) -> (Vec<Effect>, World, Settled) {
    let mut effects = Vec::new();
    replies.reverse();
    loop {
        match Trust::decide(intent, &world, now()) {
            Next::Settle(settled) => {
                assert_eq!(replies, [], "a reply nobody asked for");
                return (effects, world, settled);
            }
            Next::Do(effect) => {
                effects.push(effect);
                world = Trust::absorb(world, replies.pop().unwrap());
            }
        }
    }
}

fn reason(settled: &Settled) -> Option<Reason> {
    match &settled.outcome {
        Outcome::Deleting | Outcome::Ready { .. } => None,
        Outcome::Held(failure) => Some(failure.reason),
    }
}

fn verdicts(status: &TrustDomainStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

fn make() -> Effect {
    Effect::MakeAuthority {
        number: 1,
        secret: "countersign-ca-prod.example-1".to_owned(),
        trust_domain: "prod.example".to_owned(),
        key: KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) },
        lifetime: 8_760 * 3_600,
    }
}

fn first_read(issuers: MountIssuers) -> Vec<Reply> {
    vec![Reply::Role(RoleView::Present), Reply::Issuers(issuers), Reply::Issuer(pki("one"))]
}

fn issuers(default: Option<&str>, ids: &[&str]) -> MountIssuers {
    MountIssuers { default: default.map(str::to_owned), ids: ids.iter().map(|id| (*id).to_owned()).collect() }
}
