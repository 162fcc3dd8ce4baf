//! Authorities of our own: made once, adopted, never replaced.

use super::*;

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
