//! What a domain says of itself, whatever issues for it.

use super::*;

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
