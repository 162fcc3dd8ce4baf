//! Tables over parse, decide and report of a trust domain.

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

#[test]
fn bad_specs_are_rejected_with_their_field() {
    type Change = fn(&mut TrustDomainSpec);
    let cases: &[(Change, &str)] = &[
        (|spec| spec.name = "Prod".to_owned(), "spec.name"),
        (|spec| spec.name = "prod:443".to_owned(), "spec.name"),
        (|spec| spec.name = "a/b".to_owned(), "spec.name"),
        (|spec| spec.name = String::new(), "spec.name"),
        (|spec| spec.issuer.embedded = None, "spec.issuer"),
        (|spec| spec.issuer.vault = vault_spec().issuer.vault, "spec.issuer"),
        (
            |spec| spec.defaults = Some(DomainDefaults { ttl: Some("59m".to_owned()), ..DomainDefaults::default() }),
            "spec.defaults.ttl",
        ),
        (
            |spec| {
                let key = Some(KeySpec { algorithm: KeyAlgorithm::RSA, size: Some(1_024) });
                spec.defaults = Some(DomainDefaults { key, ..DomainDefaults::default() });
            },
            "spec.defaults.key",
        ),
        (|spec| spec.allow = vec![rule("*.pay.internal", "10.0.0.0/0")], "spec.allow[].ipRanges"),
        (|spec| spec.allow = vec![rule("a.*.b", "10.0.0.0/8")], "spec.allow[].dnsNames"),
        (
            |spec| spec.issuer.embedded = Some(EmbeddedIssuer { key: None, lifetime: Some("23h".to_owned()) }),
            "spec.issuer.embedded.lifetime",
        ),
        (
            // Three lives of a leaf and two soaks: 74 h.
            |spec| spec.issuer.embedded = Some(EmbeddedIssuer { key: None, lifetime: Some("73h".to_owned()) }),
            "spec.issuer.embedded.lifetime",
        ),
        (
            |spec| {
                let key = Some(KeySpec { algorithm: KeyAlgorithm::RSA, size: Some(3_072) });
                spec.issuer.embedded = Some(EmbeddedIssuer { key, lifetime: None });
            },
            "spec.issuer.embedded.key",
        ),
    ];
    for (change, field) in cases {
        let mut spec = embedded_spec();
        change(&mut spec);
        assert_eq!(parse(&object(spec)).unwrap_err().field, *field);
    }
    let mut spec = vault_spec();
    spec.issuer.vault.as_mut().unwrap().mount = "sys/pki".to_owned();
    assert_eq!(parse(&object(spec)).unwrap_err().field, "spec.issuer.vault.mount");
    let mut spec = vault_spec();
    let inline = Some("no PEM".to_owned());
    spec.issuer.vault.as_mut().unwrap().roots = Some(CertificateSource { config_map: None, secret: None, inline });
    assert_eq!(parse(&object(spec)).unwrap_err().field, "spec.issuer.vault.roots.inline");
}

fn rule(name: &str, range: &str) -> AllowRule {
    AllowRule {
        namespaces: NamespaceSelector { names: None, match_labels: None, all: Some(true) },
        dns_names: vec![name.to_owned()],
        ip_ranges: vec![range.to_owned()],
        max_ttl: Some("168h".to_owned()),
    }
}

#[test]
fn a_spec_is_parsed_with_its_defaults() {
    let intent = embedded();
    let lifetime = Duration::from_secs(8_760 * 3_600);
    let key = KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) };
    assert_eq!(intent.issuer, Issuer::Embedded { key, lifetime });
    assert_eq!(intent.rules.default_ttl, Duration::from_secs(86_400));
    assert_eq!((intent.rules.limits.signs_per_second, intent.rules.limits.in_flight), (50, 8));
    let mut spec = embedded_spec();
    spec.allow = vec![rule("*.Pay.Internal", "10.0.0.0/8")];
    let rules = parse(&object(spec)).unwrap().rules;
    assert_eq!(rules.longest_ttl(), Duration::from_secs(168 * 3_600));
    assert_eq!(rules.allow[0].dns_names, ["*.pay.internal"]);
    assert!(rules.allow[0].ip_ranges[0].contains("10.255.0.1".parse().unwrap()));
}

#[test]
fn an_authority_of_our_own_is_made_once() {
    let made = Reply::Made { number: 1, certificate: Box::new(root()) };
    let (effects, world, settled) = pass(&embedded(), fresh(), vec![made]);
    assert_eq!(effects, [make()]);
    let status = report(&embedded(), &world, &settled, &TrustDomainStatus::default(), now());
    assert_eq!(status.authorities, [authority(None)]);
    assert_eq!(
        verdicts(&status),
        ["Ready=True/Valid", "IssuerReachable=True/IssuerReachable", "Accepted=True/Accepted"]
    );
    assert_eq!(Memory::of(&status), memory(None));

    // The next pass finds it, does nothing and writes nothing.
    let world = World { memory: Memory::of(&status), secrets: secrets(&[(1, kept())]), ..fresh() };
    let (effects, world, settled) = pass(&embedded(), world, vec![]);
    assert_eq!(effects, []);
    assert_eq!(report(&embedded(), &world, &settled, &status, at(600)), status);
    assert!(settled.wake.is_some_and(|wake| wake <= at(720)), "the Secret is looked at now and then");
}

#[test]
fn whoever_created_the_secret_first_is_adopted() {
    let read = Effect::ReadAuthority { number: 1, secret: "countersign-ca-prod.example-1".to_owned() };
    let taken = Reply::Taken { number: 1 };
    let (effects, _, settled) =
        pass(&embedded(), fresh(), vec![taken.clone(), Reply::Kept { number: 1, view: Some(kept()) }]);
    assert_eq!(effects, [make(), read.clone()]);
    let adopted = Outcome::Ready { authority: Box::new(authority(None)), looked: true };
    assert_eq!(settled.outcome, adopted);

    // Created and deleted again by somebody else: ours after all.
    let made = Reply::Made { number: 1, certificate: Box::new(root()) };
    let replies = vec![taken.clone(), Reply::Kept { number: 1, view: None }, made];
    let (effects, _, settled) = pass(&embedded(), fresh(), replies);
    assert_eq!((effects, settled.outcome), (vec![make(), read, make()], adopted.clone()));

    // A pass whose status was lost.
    let (effects, _, settled) = pass(&embedded(), World { secrets: secrets(&[(1, kept())]), ..fresh() }, vec![]);
    assert_eq!((effects, settled.outcome), (vec![], adopted));

    let (_, _, settled) = pass(&embedded(), fresh(), vec![taken, Reply::Kept { number: 1, view: Some(unusable()) }]);
    assert_eq!(reason(&settled), Some(Reason::AuthorityLost));
}

#[test]
fn a_lost_authority_is_never_replaced() {
    let ready = report(
        &embedded(),
        &World { memory: memory(None), secrets: secrets(&[(1, kept())]), ..fresh() },
        &Settled {
            outcome: Outcome::Ready { authority: Box::new(authority(None)), looked: true },
            attempt: None,
            wake: None,
        },
        &TrustDomainStatus::default(),
        now(),
    );
    let denied = SecretsView::Unread(failure(Class::Denied, Reason::PermissionMissing));
    for (what, view) in [
        ("gone", secrets(&[])),
        ("broken", secrets(&[(1, unusable())])),
        ("another one in its place", secrets(&[(1, stranger())])),
        ("another one under another number", secrets(&[(2, stranger())])),
        ("not readable", denied),
    ] {
        let world = World { memory: memory(None), secrets: view, ..fresh() };
        let (effects, world, settled) = pass(&embedded(), world, vec![]);
        assert_eq!((effects, reason(&settled)), (vec![], Some(Reason::AuthorityLost)), "{what}");
        let status = report(&embedded(), &world, &settled, &ready, now());
        assert_eq!(
            verdicts(&status),
            [
                "Ready=False/AuthorityLost",
                "IssuerReachable=False/AuthorityLost",
                "Accepted=True/Accepted",
                "Stalled=True/AuthorityLost"
            ],
            "{what}"
        );
        assert_eq!(status.authorities, ready.authorities, "what leaves were verified against stays, {what}");
    }
    // The status remembers an authority, but none that signs.
    let draining = Authority { state: AuthorityState::Draining, ..authority(None) };
    let memory_of_one = Memory { authorities: vec![draining], ..memory(None) };
    let (effects, _, settled) = pass(&embedded(), World { memory: memory_of_one, ..fresh() }, vec![]);
    assert_eq!((effects, reason(&settled)), (vec![], Some(Reason::AuthorityLost)));

    // Restored under any number, it is the same.
    let world = World { memory: memory(None), secrets: secrets(&[(1, stranger()), (2, kept())]), ..fresh() };
    assert_eq!(reason(&pass(&embedded(), world, vec![]).2), None);

    // The API server being away loses nothing.
    let away = SecretsView::Unread(failure(Class::Unavailable, Reason::ApiServerUnavailable));
    let (_, world, settled) = pass(&embedded(), World { memory: memory(None), secrets: away, ..fresh() }, vec![]);
    let status = report(&embedded(), &world, &settled, &ready, now());
    assert_eq!(verdicts(&status)[0], "Ready=True/Valid");
}

fn first_read(issuers: MountIssuers) -> Vec<Reply> {
    vec![Reply::Role(RoleView::Present), Reply::Issuers(issuers), Reply::Issuer(pki("one"))]
}

fn issuers(default: Option<&str>, ids: &[&str]) -> MountIssuers {
    MountIssuers { default: default.map(str::to_owned), ids: ids.iter().map(|id| (*id).to_owned()).collect() }
}

#[test]
fn the_default_issuer_is_pinned_at_the_first_read() {
    let (effects, world, settled) = pass(&vault(), fresh(), first_read(issuers(Some("one"), &["two", "one"])));
    let Issuer::Vault(pki) = vault().issuer else { panic!("a mount") };
    assert_eq!(
        effects,
        [
            Effect::ReadRole { mount: pki.mount.clone(), role: pki.role },
            Effect::ReadIssuers { mount: pki.mount.clone() },
            Effect::ReadIssuer { mount: pki.mount, issuer: "one".to_owned() },
        ]
    );
    let status = report(&vault(), &world, &settled, &TrustDomainStatus::default(), now());
    assert_eq!(status.authorities, [authority(Some("one"))]);
    assert_eq!(
        verdicts(&status),
        ["Ready=True/Valid", "IssuerReachable=True/IssuerReachable", "Accepted=True/Accepted"]
    );

    // At rest nothing is asked and nothing is written.
    let (effects, world, settled) = pass(&vault(), World { memory: Memory::of(&status), ..fresh() }, vec![]);
    assert_eq!(effects, []);
    assert_eq!(report(&vault(), &world, &settled, &status, at(600)), status);

    // The only issuer does as well; several without a default do not.
    let (_, _, settled) = pass(&vault(), fresh(), first_read(issuers(None, &["one"])));
    assert_eq!(reason(&settled), None);
    for none in [issuers(None, &[]), issuers(None, &["one", "two"])] {
        let replies = vec![Reply::Role(RoleView::Present), Reply::Issuers(none)];
        assert_eq!(reason(&pass(&vault(), fresh(), replies).2), Some(Reason::IssuerNotUsable));
    }
}

fn intermediate(label: &str, above: &Leaf) -> Certificate {
    Certificate::test(Leaf::test_authority(label).issued_by(above))
}

#[test]
fn the_root_is_the_self_signed_end_or_what_the_spec_says() {
    let top = root();
    let middle = intermediate("middle", &top.leaf);
    let low = intermediate("low", &middle.leaf);
    let ring = [intermediate("a", &Leaf::test_authority("b")), intermediate("b", &Leaf::test_authority("a"))];
    let chained = |certificate: &Certificate, chain: Vec<Certificate>| {
        let issuer = PkiIssuer { id: "one".to_owned(), certificate: certificate.clone(), chain, may_sign: Some(true) };
        let replies = vec![
            Reply::Role(RoleView::Present),
            Reply::Issuers(issuers(Some("one"), &["one"])),
            Reply::Issuer(IssuerView::Present(Box::new(issuer))),
        ];
        match pass(&vault(), fresh(), replies).2.outcome {
            Outcome::Ready { authority, .. } => Ok(authority.root),
            Outcome::Held(failure) => Err(failure.reason),
            Outcome::Deleting => panic!("not deleting"),
        }
    };
    let pem = Ok(ROOT.to_owned());
    assert_eq!(chained(&top, vec![]), pem, "itself");
    assert_eq!(chained(&low, vec![low.clone(), middle.clone(), top.clone()]), pem, "in order");
    assert_eq!(chained(&low, vec![top, middle.clone()]), pem, "in any order");
    assert_eq!(chained(&low, vec![middle.clone()]), Err(Reason::RootUnknown), "cut");
    assert_eq!(chained(&low, vec![]), Err(Reason::RootUnknown), "alone");
    assert_eq!(chained(&ring[0], ring.to_vec()), Err(Reason::RootUnknown), "a ring");

    // Anchors of the spec win at the first read and follow the spec, without asking the mount.
    let roots = Roots::parse(&format!("{ROOT}{OTHER}")).unwrap();
    let world = World { roots: RootsView::Found(roots.clone()), memory: memory(Some("one")), ..fresh() };
    let (effects, _, settled) = pass(&vault(), world, vec![]);
    let followed = Authority { root: roots.pem(), ..authority(Some("one")) };
    assert_eq!(effects, []);
    assert_eq!(settled.outcome, Outcome::Ready { authority: Box::new(followed), looked: false });
}

#[test]
fn a_pinned_issuer_is_looked_at_for_a_reason_and_never_exchanged() {
    let pinned = || World { memory: memory(Some("one")), ..fresh() };
    let look = || vec![Reply::Role(RoleView::Present), Reply::Issuer(pki("one"))];
    let complaint = |reason| {
        let failure = failure(Class::Invalid, reason);
        Some(Complaint { at: at(-1), generation: 3, failure })
    };
    let role_hidden = || vec![Reply::Role(RoleView::Hidden)];
    let (_, _, settled) = pass(&Intent { generation: 4, ..vault() }, pinned(), look());
    assert_eq!(settled.outcome, Outcome::Ready { authority: Box::new(authority(Some("one"))), looked: true });
    let requested = Intent { requested: Some("x".to_owned()), ..vault() };
    assert_eq!(reason(&pass(&requested, pinned(), look()).2), None);
    let not_good = World { memory: Memory { good: false, ..memory(Some("one")) }, ..fresh() };
    assert_eq!(reason(&pass(&vault(), not_good, look()).2), None);

    let stranger = PkiIssuer {
        id: "one".to_owned(),
        certificate: Certificate::test(Leaf::test_authority("stranger").valid(at(-60), at(9_999_999))),
        chain: Vec::new(),
        may_sign: None,
    };
    let retired = PkiIssuer { certificate: root(), may_sign: Some(false), ..stranger.clone() };
    let leaf = PkiIssuer { certificate: Certificate::test(Leaf::test("leaf")), ..stranger.clone() };
    let cases = [
        ("gone", IssuerView::Gone),
        ("another key", IssuerView::Present(Box::new(stranger))),
        ("may not sign", IssuerView::Present(Box::new(retired))),
        ("no authority", IssuerView::Present(Box::new(leaf))),
    ];
    for (what, view) in cases {
        let world = World { complaint: complaint(Reason::IssuerUnavailable), ..pinned() };
        let (_, world, settled) = pass(&vault(), world, vec![Reply::Role(RoleView::Present), Reply::Issuer(view)]);
        assert_eq!(reason(&settled), Some(Reason::IssuerNotUsable), "{what}");
        let status = report(&vault(), &world, &settled, &TrustDomainStatus::default(), now());
        assert_eq!(verdicts(&status)[..2], ["Ready=False/IssuerNotUsable", "IssuerReachable=False/IssuerNotUsable"]);
    }
    // What we may not see is believed to whoever saw it.
    let world = World { complaint: complaint(Reason::RoleNotFound), ..pinned() };
    assert_eq!(reason(&pass(&vault(), world, role_hidden()).2), Some(Reason::RoleNotFound));
    let world = World { complaint: complaint(Reason::IssuerNotUsable), ..pinned() };
    assert_eq!(reason(&pass(&vault(), world, look()).2), Some(Reason::IssuerNotUsable));
    // Of another spec: forgotten.
    let old = complaint(Reason::RoleNotFound).map(|complaint| Complaint { generation: 2, ..complaint });
    assert_eq!(pass(&vault(), World { complaint: old, ..pinned() }, vec![]).0, []);
}

#[test]
fn a_failed_look_waits_its_turn_and_then_forgets_the_complaint() {
    let missing = failure(Class::Invalid, Reason::RoleNotFound);
    let world = |seconds| World {
        memory: Memory { good: false, ..memory(Some("one")) },
        complaint: Some(Complaint { at: at(seconds - 1), generation: 3, failure: missing.clone() }),
        attempt: Some(attempt(seconds, missing.clone())),
        ..fresh()
    };
    let (effects, _, settled) = pass(&vault(), world(-3_599), vec![]);
    assert_eq!((effects, reason(&settled)), (vec![], Some(Reason::RoleNotFound)));
    assert_eq!((settled.wake, settled.attempt), (Some(at(1)), Some(attempt(-3_599, missing.clone()))));
    let look = vec![Reply::Role(RoleView::Hidden), Reply::Issuer(pki("one"))];
    assert_eq!(reason(&pass(&vault(), world(-3_600), look.clone()).2), None);
    // A changed spec and a person need not wait.
    let changed = Intent { generation: 4, ..vault() };
    assert_eq!(reason(&pass(&changed, world(-5), look.clone()).2), None);
    let requested = Intent { requested: Some("x".to_owned()), ..vault() };
    assert_eq!(reason(&pass(&requested, world(-5), look).2), None);
    // An outage doubles its waits.
    let away = failure(Class::Unavailable, Reason::VaultUnavailable);
    let world = World { attempt: Some(Attempt { attempts: 3, ..attempt(-3_600, away.clone()) }), ..fresh() };
    let settled = pass(&vault(), world, vec![Reply::Failed(away)]).2;
    assert_eq!(settled.attempt.map(|last| (last.at, last.attempts)), Some((now(), 4)));
}

#[test]
fn an_outage_leaves_ready_as_it_was() {
    let ready = {
        let (_, world, settled) = pass(&vault(), fresh(), first_read(issuers(Some("one"), &["one"])));
        report(&vault(), &world, &settled, &TrustDomainStatus::default(), now())
    };
    let pinned = || World { memory: Memory::of(&ready), ..fresh() };
    let bad = RootsView::Bad(X509Fault::PrivateKey);
    let cases = [
        (
            World { connection: ConnectionView::NotReady, ..pinned() },
            ["Ready=True/Valid", "IssuerReachable=False/ConnectionNotReady", "Accepted=True/Accepted"],
            "Reconciling=True/ConnectionNotReady",
        ),
        (
            World { connection: ConnectionView::Missing, ..pinned() },
            ["Ready=True/Valid", "IssuerReachable=False/ConnectionNotFound", "Accepted=True/Accepted"],
            "Reconciling=True/ConnectionNotFound",
        ),
        (
            World { roots: RootsView::Missing, ..pinned() },
            ["Ready=True/Valid", "IssuerReachable=True/IssuerReachable", "Accepted=True/Accepted"],
            "Reconciling=True/SourceMissing",
        ),
        (
            World { roots: bad, ..pinned() },
            ["Ready=True/Valid", "IssuerReachable=True/IssuerReachable", "Accepted=True/Accepted"],
            "Stalled=True/CABundleInvalid",
        ),
        (
            World { namesake: Some("older".to_owned()), ..pinned() },
            [
                "Ready=False/TrustDomainConflict",
                "IssuerReachable=True/IssuerReachable",
                "Accepted=False/TrustDomainConflict",
            ],
            "Stalled=True/TrustDomainConflict",
        ),
    ];
    for (world, told, progress) in cases {
        let (effects, world, settled) = pass(&vault(), world, vec![]);
        assert_eq!(effects, []);
        let status = report(&vault(), &world, &settled, &ready, now());
        assert_eq!(verdicts(&status), [&told[..], &[progress]].concat());
        assert_eq!(status.authorities, ready.authorities);
        assert_eq!(report(&vault(), &world, &settled, &status, at(1)), status, "said once");
    }
    // Without anything pinned there is nothing that could sign.
    let away = Reply::Failed(failure(Class::Unavailable, Reason::VaultUnavailable));
    let (_, world, settled) = pass(&vault(), fresh(), vec![away]);
    let status = report(&vault(), &world, &settled, &TrustDomainStatus::default(), now());
    assert_eq!(
        verdicts(&status),
        [
            "Ready=False/VaultUnavailable",
            "IssuerReachable=False/VaultUnavailable",
            "Accepted=True/Accepted",
            "Reconciling=True/VaultUnavailable"
        ]
    );
}

#[test]
fn the_kind_of_issuer_is_pinned_too() {
    let world = World { memory: memory(Some("one")), secrets: secrets(&[(1, kept())]), ..fresh() };
    let (effects, _, settled) = pass(&embedded(), world, vec![]);
    assert_eq!((effects, reason(&settled)), (vec![], Some(Reason::IssuerNotUsable)));
    let (effects, _, settled) = pass(&vault(), World { memory: memory(None), ..fresh() }, vec![]);
    assert_eq!((effects, reason(&settled)), (vec![], Some(Reason::IssuerNotUsable)));
}

#[test]
fn suspended_deleting_and_rejected_domains_keep_what_they_have() {
    let (_, world, settled) = pass(&vault(), fresh(), first_read(issuers(Some("one"), &["one"])));
    let ready = report(&vault(), &world, &settled, &TrustDomainStatus::default(), now());
    let suspended = Intent { suspended: true, ..vault() };
    let (_, world, settled) = pass(&suspended, fresh(), vec![]);
    let status = report(&suspended, &world, &settled, &ready, now());
    assert_eq!(verdicts(&status)[3..], ["Suspended=True/Suspended"]);
    assert_eq!((verdicts(&status)[0].as_str(), settled.wake), ("Ready=True/Valid", None));
    let deleting = Intent { deleting: true, ..vault() };
    let (_, world, settled) = pass(&deleting, fresh(), vec![]);
    assert_eq!(report(&deleting, &world, &settled, &ready, now()), ready);
    let problem = FieldProblem { field: "spec.name", rule: "must be a SPIFFE trust domain" };
    let status = rejected(problem, 4, &ready, now());
    assert_eq!(
        verdicts(&status),
        [
            "Ready=True/Valid",
            "IssuerReachable=True/IssuerReachable",
            "Accepted=False/InvalidSpec",
            "Stalled=True/InvalidSpec"
        ]
    );
    assert_eq!((status.observed_generation, status.authorities), (Some(4), ready.authorities));
}

#[test]
fn an_authority_tells_of_its_end_in_time() {
    let rules = embedded().rules;
    let life = |hours: i64| Leaf::test_authority("a").valid(now(), now() + hours.hours());
    // A sixth of a year; three lives of a leaf and a soak where that is more.
    assert_eq!(expiring_from(&life(8_760), &rules), now() + (8_760 - 1_460).hours());
    assert_eq!(expiring_from(&life(100), &rules), now() + (100 - 73).hours());

    let world = World { memory: memory(None), secrets: secrets(&[(1, kept())]), ..fresh() };
    let end = root().leaf.not_after;
    let told = |when: Timestamp| {
        let Next::Settle(settled) = decide(&embedded(), &world, when) else { panic!("nothing is to be done") };
        let status = report(&embedded(), &world, &settled, &TrustDomainStatus::default(), when);
        (verdicts(&status), settled.wake)
    };
    let (verdict, _) = told(end - 24.hours());
    assert_eq!(verdict.last().map(String::as_str), Some("AuthorityExpiring=True/AuthorityExpiring"));
    assert_eq!(told(end - 5.seconds()).1, Some(end + 1.second()), "woken by the end itself");
    let (verdict, _) = told(end + 1.second());
    assert_eq!(verdict[..2], ["Ready=False/Expired", "IssuerReachable=False/Expired"]);
}

#[test]
fn secrets_are_named_after_their_domain() {
    assert_eq!(secret_name("prod.example", 2), "countersign-ca-prod.example-2");
    let hashed = |name: &str| {
        let secret = secret_name(name, 1);
        assert!(secret.len() < 60 && !secret.contains(name), "{secret}");
        secret
    };
    assert_ne!(hashed("a_b"), hashed("a_c"));
    hashed(&"a".repeat(255));
    hashed("a..b");
    hashed("a-.b");
}

#[test]
fn of_two_domains_with_one_name_the_older_keeps_it() {
    let claim = |name: &'static str, uid: &'static str, seconds: i64, trust_domain: &'static str| Claim {
        created: at(seconds),
        uid,
        name,
        trust_domain,
    };
    let all = [
        claim("first", "u3", 0, "prod"),
        claim("second", "u1", 5, "prod"),
        claim("same second", "u2", 5, "prod"),
        claim("elsewhere", "u0", -9, "test"),
    ];
    let older = |mine: &Claim<'_>| older_namesake(mine, all).map(str::to_owned);
    assert_eq!(older(&all[0]), None);
    assert_eq!(older(&all[1]).as_deref(), Some("first"));
    assert_eq!(older(&all[2]).as_deref(), Some("first"));
    assert_eq!(older(&all[3]), None);
    assert_eq!(older_namesake(&all[2], [all[1], all[2], all[3]]), Some("second"));
}

#[test]
fn roots_are_viewed() {
    assert_eq!(RootsView::of_bytes(Ok(None)), RootsView::Missing);
    assert_eq!(RootsView::of_bytes(Ok(Some(b"\xff"))), RootsView::Bad(X509Fault::NotPem));
    assert_eq!(RootsView::of_bytes(Ok(Some(ROOT.as_bytes()))), RootsView::Found(Roots::parse(ROOT).unwrap()));
}

#[test]
fn a_domain_can_sign_while_it_is_ready() {
    let (_, world, settled) = pass(&vault(), fresh(), first_read(issuers(Some("one"), &["one"])));
    let ready = report(&vault(), &world, &settled, &TrustDomainStatus::default(), now());
    let domain = Domain::new(&vault_spec(), &ready).unwrap();
    assert_eq!((domain.name.as_str(), domain.roots.as_str()), ("prod.example", ROOT));
    assert_eq!(domain.active.issuer_ref.as_deref(), Some("one"));
    assert_eq!(domain.active.id, root().leaf.spki.to_string());
    assert_eq!(Some(&domain.active.subject_key_id), root().leaf.subject_key_id.as_ref());
    assert_eq!(domain.active.not_after, root().leaf.not_after);

    let revision = |spec: &TrustDomainSpec, status: &TrustDomainStatus| Domain::new(spec, status).unwrap().revision;
    assert_eq!(revision(&vault_spec(), &ready), domain.revision);
    let mut role = vault_spec();
    role.issuer.vault.as_mut().unwrap().role = "other".to_owned();
    assert_ne!(revision(&role, &ready), domain.revision);
    let mut wider = ready.clone();
    wider.authorities[0].root = Roots::parse(&format!("{ROOT}{OTHER}")).unwrap().pem();
    assert_ne!(revision(&vault_spec(), &wider), domain.revision);
    let mut again = ready.clone();
    let condition = again.conditions.iter_mut().find(|condition| condition.type_ == "Ready").unwrap();
    condition.last_transition_time.0 = Timestamp::MAX;
    assert_ne!(revision(&vault_spec(), &again), domain.revision);

    let mut suspended = vault_spec();
    suspended.suspend = Some(true);
    assert_eq!(Domain::new(&suspended, &ready), None);
    assert_eq!(Domain::new(&vault_spec(), &TrustDomainStatus::default()), None);
    let mut not_ready = ready.clone();
    not_ready.conditions[0].status = "False".to_owned();
    assert_eq!(Domain::new(&vault_spec(), &not_ready), None);
    let mut draining = ready;
    draining.authorities[0].state = AuthorityState::Draining;
    assert_eq!(Domain::new(&vault_spec(), &draining), None);
    assert_eq!(trust(&draining).map(|roots| roots.len()), Some(1), "what drains is still trusted");
}
