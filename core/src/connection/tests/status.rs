//! Whole passes, and what the status says after them.

use super::*;

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
