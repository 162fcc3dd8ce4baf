//! Which call is next, and how long a connection rests.

use super::*;

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
