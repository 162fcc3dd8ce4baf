//! Issuers of a server: pinned at the first read, looked at for a reason.

use super::*;

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
