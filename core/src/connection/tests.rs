//! Tables over parse, decide and report of a connection.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        AppRoleAuth, CertificateSource, ConditionType, ConnectionAuth, ConnectionLimits, ConnectionTls, JwtAuth,
        KeyRef, REQUESTED_AT, Reason, SecretSource, TokenAuth, VaultConnection, VaultConnectionSpec,
        VaultConnectionStatus,
    },
    connection::{
        address::Surroundings,
        decide::{Connection, decide},
        intent::{CaSource, Intent, Limits, Login, Problem, Rejection, parse},
        report::{rejected, report},
        world::{
            CaView, CredentialView, Effect, Health, LoginAttempt, Outcome, Probed, Product, Reply, ServerState,
            SessionView, Settled, World,
        },
    },
    fault::{Class, Failure},
    next::{Machine, Next},
    value::x509::{Certificate, Leaf, Roots, X509Fault},
};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    now() + seconds.seconds()
}

fn key(name: &str) -> KeyRef {
    KeyRef { name: name.to_owned(), key: "value".to_owned() }
}

fn no_auth() -> ConnectionAuth {
    ConnectionAuth { kubernetes: None, jwt: None, app_role: None, token: None }
}

fn jwt(audience: &str) -> JwtAuth {
    JwtAuth { mount: "kubernetes".to_owned(), role: "countersign".to_owned(), audience: audience.to_owned() }
}

fn object() -> VaultConnection {
    let spec = VaultConnectionSpec {
        address: "https://bao.infra.svc:8200".to_owned(),
        vault_namespace: None,
        tls: ConnectionTls {
            ca: Some(CertificateSource { config_map: Some(key("bao-ca")), secret: None, inline: None }),
            server_name: None,
            system_roots: None,
        },
        auth: ConnectionAuth { kubernetes: Some(jwt("vault")), ..no_auth() },
        limits: None,
        grants: Vec::new(),
        suspend: None,
    };
    let mut object = VaultConnection::new("main", spec);
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.generation = Some(3);
    object
}

fn intent() -> Intent {
    parse(&object(), &Surroundings::test()).unwrap()
}

fn requested() -> Intent {
    Intent { requested: Some("now".to_owned()), ..intent() }
}

fn roots() -> Roots {
    let mut roots = Roots::default();
    roots.insert(Certificate::test(Leaf::test_authority("bao"))).unwrap();
    roots
}

fn health(state: ServerState) -> Health {
    Health { product: Product::OpenBao, version: "2.7.2".to_owned(), state, skew: 0 }
}

/// Probed ten seconds ago, logged in for fifty minutes more.
fn world() -> World {
    World {
        ca: CaView::Found(roots()),
        credential: CredentialView::NotNeeded,
        health: Some(Probed { at: at(-10), failures: 0, result: Ok(health(ServerState::Serving)) }),
        session: SessionView::Live { ends: Some(at(3_000)), due: Some(at(1_800)) },
        login_failure: None,
        outage: None,
        throttled_since: None,
        handled_request: None,
        probed: false,
    }
}

fn away() -> Failure {
    Failure::new(Class::Unavailable, Reason::VaultUnavailable, "the server does not answer")
}

fn refused() -> Failure {
    Failure::new(Class::Denied, Reason::LoginFailed, "the login was refused")
}

fn down(failures: u32, failure: Failure) -> World {
    World { health: Some(Probed { at: at(0), failures, result: Err(failure) }), ..world() }
}

fn attempt(seconds: i64, generation: i64) -> LoginAttempt {
    LoginAttempt { at: at(seconds), attempts: 1, generation, failure: refused() }
}

#[test]
fn a_spec_is_parsed() {
    let intent = intent();
    assert_eq!(intent.server.ca, Some(CaSource::ConfigMap(key("bao-ca"))));
    assert_eq!(intent.limits, Limits { requests_per_second: 50, in_flight: 32, timeout: Duration::from_secs(10) });
    assert_eq!((intent.generation, intent.login.credential()), (3, None));

    let mut object = object();
    object.spec.auth = ConnectionAuth { token: Some(TokenAuth { secret: key("token") }), ..no_auth() };
    let login = parse(&object, &Surroundings::test()).unwrap().login;
    assert_eq!(login, Login::Token { secret: key("token") });
    assert_eq!(login.credential(), Some(&key("token")));
}

#[test]
fn bad_specs_are_rejected_with_their_field() {
    type Change = fn(&mut VaultConnectionSpec);
    let cases: &[(Change, &str, Reason)] = &[
        (|spec| spec.address = "http://bao".to_owned(), "spec.address", Reason::InvalidSpec),
        (|spec| spec.address = "https://169.254.169.254".to_owned(), "spec.address", Reason::AddressForbidden),
        (|spec| spec.address = "https://localhost:8200".to_owned(), "spec.address", Reason::AddressForbidden),
        (|spec| spec.vault_namespace = Some("../root".to_owned()), "spec.vaultNamespace", Reason::InvalidSpec),
        (|spec| spec.vault_namespace = Some("a//b".to_owned()), "spec.vaultNamespace", Reason::InvalidSpec),
        (|spec| spec.tls.ca = None, "spec.tls.ca", Reason::InvalidSpec),
        (
            |spec| spec.tls.ca = Some(CertificateSource { config_map: None, secret: None, inline: None }),
            "spec.tls.ca",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let inline = Some("-----BEGIN PRIVATE KEY-----".to_owned());
                spec.tls.ca = Some(CertificateSource { config_map: None, secret: None, inline });
            },
            "spec.tls.ca.inline",
            Reason::CABundleInvalid,
        ),
        (|spec| spec.tls.server_name = Some("a b".to_owned()), "spec.tls.serverName", Reason::InvalidSpec),
        (|spec| spec.auth = no_auth(), "spec.auth", Reason::InvalidSpec),
        (|spec| spec.auth.jwt = Some(jwt("vault")), "spec.auth", Reason::InvalidSpec),
        (
            |spec| spec.auth.kubernetes = Some(jwt("https://elsewhere")),
            "spec.auth.kubernetes.audience",
            Reason::AudienceNotAllowed,
        ),
        (
            |spec| spec.auth.kubernetes = Some(JwtAuth { mount: "sys/x".to_owned(), ..jwt("vault") }),
            "spec.auth.kubernetes.mount",
            Reason::InvalidSpec,
        ),
        (
            |spec| spec.auth.kubernetes = Some(JwtAuth { role: "a/b".to_owned(), ..jwt("vault") }),
            "spec.auth.kubernetes.role",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let secret_id = SecretSource { secret: key("id") };
                let app_role = AppRoleAuth { mount: "..".to_owned(), role_id: "x".to_owned(), secret_id };
                spec.auth = ConnectionAuth { app_role: Some(app_role), ..no_auth() };
            },
            "spec.auth.appRole.mount",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let timeout = Some("61s".to_owned());
                spec.limits = Some(ConnectionLimits { requests_per_second: None, in_flight: None, timeout });
            },
            "spec.limits.timeout",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                spec.limits = Some(ConnectionLimits { requests_per_second: Some(0), in_flight: None, timeout: None });
            },
            "spec.limits.requestsPerSecond",
            Reason::InvalidSpec,
        ),
    ];
    for (change, field, reason) in cases {
        let mut object = object();
        change(&mut object.spec);
        let rejection = parse(&object, &Surroundings::test()).unwrap_err();
        assert_eq!((rejection.field, rejection.reason()), (*field, *reason));
    }
}

#[test]
fn the_next_call_follows_from_the_world() {
    let probe = Next::Do(Effect::Probe);
    let login = Next::Do(Effect::Login { generation: 3 });
    let cases = [
        ("never probed", intent(), World { health: None, ..world() }, probe.clone()),
        (
            "probe is old",
            intent(),
            World { health: world().health.map(|probed| Probed { at: at(-73), ..probed }), ..world() },
            probe.clone(),
        ),
        (
            "probe is from the future",
            intent(),
            World { health: world().health.map(|probed| Probed { at: at(1), ..probed }), ..world() },
            probe.clone(),
        ),
        ("a person asks", requested(), world(), probe.clone()),
        ("others found it away", intent(), World { outage: Some(away()), ..world() }, probe),
        ("no login", intent(), World { session: SessionView::Absent, ..world() }, login.clone()),
        (
            "others were told to slow down, which a probe does not change",
            intent(),
            World {
                outage: Some(Failure::new(Class::Throttled, Reason::Throttled, "too fast")),
                session: SessionView::Absent,
                ..world()
            },
            login.clone(),
        ),
        (
            "the login has ended",
            intent(),
            World { session: SessionView::Live { ends: Some(at(0)), due: None }, ..world() },
            login.clone(),
        ),
        (
            "renewal is due",
            intent(),
            World { session: SessionView::Live { ends: Some(at(900)), due: Some(at(0)) }, ..world() },
            login.clone(),
        ),
        (
            "the last refusal was five minutes ago",
            intent(),
            World { session: SessionView::Absent, login_failure: Some(attempt(-300, 3)), ..world() },
            login.clone(),
        ),
        (
            "the last refusal was of another spec",
            intent(),
            World { session: SessionView::Absent, login_failure: Some(attempt(-5, 2)), ..world() },
            login.clone(),
        ),
        (
            "a person asks for another login",
            requested(),
            World { session: SessionView::Absent, login_failure: Some(attempt(-60, 3)), probed: true, ..world() },
            login,
        ),
    ];
    for (what, intent, world, next) in cases {
        assert_eq!(decide(&intent, &world, now()), next, "{what}");
    }
}

#[test]
fn settling_says_why_and_for_how_long() {
    let expired = {
        let mut roots = Roots::default();
        let root = Leaf::test_authority("old").valid(at(-900), at(-1));
        roots.insert(Certificate::test(root)).unwrap();
        roots
    };
    let settled = |intent: &Intent, world: &World| match decide(intent, world, now()) {
        Next::Settle(settled) => settled,
        Next::Do(effect) => panic!("{effect:?}"),
    };
    let reason = |settled: &Settled| match &settled.outcome {
        Outcome::Deleting | Outcome::Usable => None,
        Outcome::Held(failure) | Outcome::Down(failure) | Outcome::LoginFailed(failure) => Some(failure.reason),
    };
    let seconds = |settled: &Settled| settled.wake.map(|wake| wake.as_second() - now().as_second());
    // `uid` moves every wait that is ours alone by this factor.
    let moved = |wait: u64| {
        let moved = crate::next::jittered(Duration::from_secs(wait), "uid");
        i64::try_from(moved.as_millis().div_ceil(1_000)).unwrap()
    };
    let told = away().retry_after(Duration::from_secs(33));
    let table = [
        (Intent { deleting: true, ..intent() }, world(), None, None),
        (Intent { suspended: true, ..intent() }, world(), Some(Reason::Suspended), None),
        (intent(), World { ca: CaView::Missing, ..world() }, Some(Reason::SourceMissing), Some(600)),
        (
            intent(),
            World { ca: CaView::Bad(X509Fault::PrivateKey), ..world() },
            Some(Reason::CABundleInvalid),
            Some(3_600),
        ),
        (intent(), World { ca: CaView::Found(expired), ..world() }, Some(Reason::CABundleInvalid), Some(3_600)),
        (intent(), World { credential: CredentialView::Missing, ..world() }, Some(Reason::SourceMissing), Some(600)),
        (intent(), down(1, away()), Some(Reason::VaultUnavailable), Some(moved(5))),
        (intent(), down(4, away()), Some(Reason::VaultUnavailable), Some(moved(40))),
        (intent(), down(9, away()), Some(Reason::VaultUnavailable), Some(moved(60))),
        (intent(), down(1, told), Some(Reason::VaultUnavailable), Some(33)),
        (
            intent(),
            World {
                health: Some(Probed { at: at(0), failures: 1, result: Ok(health(ServerState::Sealed)) }),
                session: SessionView::Absent,
                ..world()
            },
            Some(Reason::VaultSealed),
            Some(moved(5)),
        ),
        (
            intent(),
            World { session: SessionView::Absent, login_failure: Some(attempt(-100, 3)), ..world() },
            Some(Reason::LoginFailed),
            Some(moved(60) - 10),
        ),
        // The renewal failed; the login goes on until its end, and the next try comes with the failure's wait.
        (
            intent(),
            World {
                session: SessionView::Live { ends: Some(at(200)), due: Some(at(-100)) },
                login_failure: Some(attempt(-280, 3)),
                ..world()
            },
            None,
            Some(20),
        ),
        (intent(), world(), None, Some(moved(60) - 10)),
    ];
    for (intent, world, why, wake) in table {
        let settled = settled(&intent, &world);
        assert_eq!((reason(&settled), seconds(&settled)), (why, wake), "{settled:?}");
    }
}

/// Runs a pass as the operator does, with one reply per effect.
fn pass(intent: &Intent, mut world: World, mut replies: Vec<Reply>) -> (Vec<Effect>, World, Settled) {
    let mut effects = Vec::new();
    replies.reverse();
    loop {
        match Connection::decide(intent, &world, now()) {
            Next::Settle(settled) => return (effects, world, settled),
            Next::Do(effect) => {
                effects.push(effect);
                world = Connection::absorb(world, replies.pop().unwrap());
            }
        }
    }
}

fn fresh() -> World {
    World { health: None, session: SessionView::Absent, ..world() }
}

fn probed(result: Result<Health, Failure>) -> Reply {
    Reply::Probed { at: now(), result }
}

fn verdicts(status: &VaultConnectionStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

#[test]
fn the_first_pass_probes_logs_in_and_says_so() {
    let session = SessionView::Live { ends: Some(at(3_600)), due: Some(at(2_400)) };
    let replies = vec![probed(Ok(health(ServerState::Serving))), Reply::Session(session)];
    let (effects, world, settled) = pass(&requested(), fresh(), replies);
    assert_eq!(effects, [Effect::Probe, Effect::Login { generation: 3 }]);
    let status = report(&requested(), &world, &settled, &VaultConnectionStatus::default(), now());
    assert_eq!(
        verdicts(&status),
        ["Ready=True/Authenticated", "Reachable=True/Reachable", "Authenticated=True/Authenticated"]
    );
    assert_eq!(status.product.as_deref(), Some("OpenBao"));
    assert_eq!((status.sealed, status.clock_skew.as_deref()), (Some(false), Some("0s")));
    assert_eq!(status.token_expires_at, Some(Time(at(3_600))));
    assert_eq!(status.last_handled_request.as_deref(), Some("now"));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn a_steady_connection_writes_nothing() {
    let settle = |world: &World, at: Timestamp, status: &VaultConnectionStatus| {
        let settled = Settled { outcome: Outcome::Usable, wake: None };
        report(&intent(), world, &settled, status, at)
    };
    let mut world = world();
    let first = settle(&world, now(), &VaultConnectionStatus::default());
    // Forty minutes later the login was renewed and the clocks have moved by ten seconds.
    world.session = SessionView::Live { ends: Some(at(2_400 + 3_600)), due: Some(at(4_800)) };
    world.health =
        Some(Probed { at: at(2_400), failures: 0, result: Ok(Health { skew: 10, ..health(ServerState::Serving) }) });
    assert_eq!(settle(&world, at(2_400), &first), first);
    // When the published end has passed, the true one takes its place.
    assert_eq!(settle(&world, at(3_001), &first).token_expires_at, Some(Time(at(6_000))));
    // An end that was told in whole seconds and is now seen two earlier is the same end.
    world.session = SessionView::Live { ends: Some(at(2_998)), due: Some(at(2_900)) };
    assert_eq!(settle(&world, at(2_400), &first), first);
    // An end that came closer is told at once.
    world.session = SessionView::Live { ends: Some(at(2_500)), due: None };
    assert_eq!(settle(&world, at(2_400), &first).token_expires_at, Some(Time(at(2_500))));
    world.session = SessionView::Live { ends: None, due: None };
    assert_eq!(settle(&world, at(2_400), &first).token_expires_at, None);
}

/// The status of a connection that was usable ten minutes ago.
fn ready() -> VaultConnectionStatus {
    let settled = Settled { outcome: Outcome::Usable, wake: None };
    report(&intent(), &world(), &settled, &VaultConnectionStatus::default(), at(-600))
}

/// A pass from the world with these replies tells exactly these conditions, and tells them once.
fn check_told(what: &str, world: World, replies: Vec<Reply>, told: &[&str]) {
    let (_, world, settled) = pass(&intent(), world, replies);
    let status = report(&intent(), &world, &settled, &ready(), now());
    assert_eq!(verdicts(&status), told, "{what}");
    assert_eq!(report(&intent(), &world, &settled, &status, at(1)), status, "{what}");
}

#[test]
fn a_server_that_cannot_serve_is_told_by_its_conditions() {
    let sealed = || probed(Ok(health(ServerState::Sealed)));
    let refused = Failure::new(Class::Unavailable, Reason::VaultSealed, "sealed");
    let told_sealed = vec![
        "Ready=False/VaultSealed",
        "Reachable=True/Reachable",
        "Authenticated=True/Authenticated",
        "Reconciling=True/VaultSealed",
        "Sealed=True/VaultSealed",
    ];
    let cases = [
        (
            "a caller was refused by a sealed server",
            World { outage: Some(refused.clone()), ..world() },
            vec![probed(Err(refused))],
            told_sealed.clone(),
        ),
        (
            "away",
            fresh(),
            vec![probed(Err(away()))],
            vec![
                "Ready=False/VaultUnavailable",
                "Reachable=False/VaultUnavailable",
                "Authenticated=True/Authenticated",
                "Reconciling=True/VaultUnavailable",
            ],
        ),
        (
            "not a Vault",
            fresh(),
            vec![probed(Err(Failure::new(Class::Invalid, Reason::NotVault, "no Vault")))],
            vec![
                "Ready=False/NotVault",
                "Reachable=False/NotVault",
                "Authenticated=True/Authenticated",
                "Stalled=True/NotVault",
            ],
        ),
        ("sealed", fresh(), vec![sealed()], told_sealed),
    ];
    for (what, world, replies, told) in cases {
        check_told(what, world, replies, &told);
    }
}

#[test]
fn trouble_with_the_login_is_told_by_its_conditions() {
    let serving = || probed(Ok(health(ServerState::Serving)));
    let login = |failure| Reply::LoginFailed { at: now(), generation: 3, failure };
    let cases = [
        (
            "login refused",
            fresh(),
            vec![serving(), login(refused())],
            vec![
                "Ready=False/LoginFailed",
                "Reachable=True/Reachable",
                "Authenticated=False/LoginFailed",
                "Stalled=True/LoginFailed",
            ],
        ),
        (
            "login unanswered",
            fresh(),
            vec![serving(), login(away())],
            vec![
                "Ready=False/VaultUnavailable",
                "Reachable=True/Reachable",
                "Authenticated=True/Authenticated",
                "Reconciling=True/VaultUnavailable",
            ],
        ),
        (
            "renewal refused",
            World { session: SessionView::Live { ends: Some(at(900)), due: Some(at(-1)) }, ..world() },
            vec![login(refused())],
            vec![
                "Ready=True/Authenticated",
                "Reachable=True/Reachable",
                "Authenticated=True/Authenticated",
                "TokenExpiring=True/TokenExpiring",
            ],
        ),
        (
            "throttled for a minute",
            World { throttled_since: Some(at(-60)), ..world() },
            vec![],
            vec![
                "Ready=True/Authenticated",
                "Reachable=True/Reachable",
                "Authenticated=True/Authenticated",
                "Throttled=True/Throttled",
            ],
        ),
        (
            "throttled for a moment",
            World { throttled_since: Some(at(-58)), ..world() },
            vec![],
            vec!["Ready=True/Authenticated", "Reachable=True/Reachable", "Authenticated=True/Authenticated"],
        ),
        (
            "CA gone",
            World { ca: CaView::Missing, ..fresh() },
            vec![],
            vec![
                "Ready=False/SourceMissing",
                "Reachable=True/Reachable",
                "Authenticated=True/Authenticated",
                "Reconciling=True/SourceMissing",
            ],
        ),
    ];
    for (what, world, replies, told) in cases {
        check_told(what, world, replies, &told);
    }
}

#[test]
fn what_is_suspended_says_so_and_what_is_deleted_says_nothing() {
    let suspended = Intent { suspended: true, ..intent() };
    let (_, world, settled) = pass(&suspended, fresh(), vec![]);
    let status = report(&suspended, &world, &settled, &ready(), now());
    assert_eq!(
        verdicts(&status),
        [
            "Ready=False/Suspended",
            "Reachable=True/Reachable",
            "Authenticated=True/Authenticated",
            "Suspended=True/Suspended"
        ]
    );
    let deleting = Intent { deleting: true, ..intent() };
    let (_, world, settled) = pass(&deleting, fresh(), vec![]);
    assert_eq!(report(&deleting, &world, &settled, &ready(), now()), ready());
}

#[test]
fn clocks_that_differ_are_told_without_flapping() {
    let mut status = VaultConnectionStatus::default();
    for (measured, published, told) in [
        (0, "0s", false),
        (60, "0s", false),
        (61, "1m1s", true),
        (31, "1m1s", true),
        (90, "1m1s", true),
        (121, "2m1s", true),
        (29, "0s", false),
        (59, "0s", false),
        (-3_600, "-1h", true),
        (-3_620, "-1h", true),
        (3_600, "1h", true),
    ] {
        let answer = Health { skew: measured, ..health(ServerState::Serving) };
        let world = World { health: Some(Probed { at: now(), failures: 0, result: Ok(answer) }), ..world() };
        status = report(&intent(), &world, &Settled { outcome: Outcome::Usable, wake: None }, &status, now());
        assert_eq!(status.clock_skew.as_deref(), Some(published), "{measured}");
        let name = format!("{:?}", ConditionType::ClockSkew);
        assert_eq!(status.conditions.iter().any(|condition| condition.type_ == name), told, "{measured}");
    }
}

#[test]
fn failures_in_a_row_are_counted() {
    let mut world = fresh();
    for (result, failures) in [
        (Err(away()), 1),
        (Ok(health(ServerState::Sealed)), 2),
        (Err(away()), 3),
        (Ok(health(ServerState::Serving)), 0),
        (Err(away()), 1),
    ] {
        world = Connection::absorb(world, probed(result));
        assert_eq!(world.health.as_ref().map(|probed| probed.failures), Some(failures));
    }
    for (generation, attempts) in [(3, 1), (3, 2), (4, 1)] {
        world = Connection::absorb(world, Reply::LoginFailed { at: now(), generation, failure: refused() });
        assert_eq!(world.login_failure.as_ref().map(|last| last.attempts), Some(attempts));
    }
    world = Connection::absorb(world, Reply::Session(SessionView::Live { ends: None, due: None }));
    assert_eq!(world.login_failure, None);
}

#[test]
fn a_rejected_spec_keeps_what_is_known() {
    let before = report(
        &intent(),
        &world(),
        &Settled { outcome: Outcome::Usable, wake: None },
        &VaultConnectionStatus::default(),
        now(),
    );
    let rejection = Rejection { field: "spec.address", problem: Problem::Forbidden };
    let status = rejected(rejection, 4, &before, at(5));
    assert_eq!(
        verdicts(&status),
        [
            "Ready=False/AddressForbidden",
            "Reachable=True/Reachable",
            "Authenticated=True/Authenticated",
            "Stalled=True/AddressForbidden"
        ]
    );
    assert_eq!((status.observed_generation, status.product), (Some(4), before.product));
}

#[test]
fn sources_are_viewed() {
    assert_eq!(CaView::of_bytes(Ok(None)), CaView::Missing);
    assert_eq!(CaView::of_bytes(Ok(Some(b"\xff"))), CaView::Bad(X509Fault::NotPem));
    assert_eq!(CaView::of_bytes(Ok(Some(b""))), CaView::Bad(X509Fault::Empty));
    assert_eq!(CaView::of_bytes(Err(away())), CaView::Unread(away()));
}

#[test]
fn a_request_is_read_from_its_annotation() {
    let mut object = object();
    object.metadata.annotations = Some([(REQUESTED_AT.to_owned(), "x".to_owned())].into());
    assert_eq!(parse(&object, &Surroundings::test()).unwrap().requested.as_deref(), Some("x"));
}
