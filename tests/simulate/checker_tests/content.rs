//! What a stored version holds.

use std::sync::Arc;

use super::{
    breaks, keeps,
    scene::{AUTHORITY, DAY, DOMAIN_UID, HOUR, Run, START, request},
};
use crate::{checker::Invariant, history::*};

/// How an answer is doctored.
type Change = fn(&mut Leaf);

/// Issued and renewed as the documents say.
fn renewed() -> Run {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store(&leaf).tell();
    run
}

#[test]
fn key_and_certificate_in_one_write() {
    keeps(&renewed(), Invariant::I01);
}

#[test]
fn key_and_certificate_in_two_writes() {
    let mut run = Run::due();
    let old = run.target().unwrap().1.content.tls_crt.clone();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.tls_crt = old);
    run.store(&leaf).tell();
    breaks(&run, Invariant::I01);

    let mut run = Run::due();
    let old = run.target().unwrap().1.content.tls_key;
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.tls_key = old);
    run.store(&leaf).tell();
    breaks(&run, Invariant::I01);
}

#[test]
fn a_keystore_holds_the_same_pair() {
    let keystore = |pair| OtherKey { name: "keystore.p12".into(), key_pair: Some(pair) };
    let mut run = Run::due();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.other.push(keystore(leaf.public_key))).tell();
    keeps(&run, Invariant::I01);

    let mut run = Run::due();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.other.push(keystore(KeyPair(77)))).tell();
    breaks(&run, Invariant::I01);
}

#[test]
fn an_answer_for_another_key_is_not_stored() {
    let mut run = Run::due();
    let asked = KeyPair(55);
    let leaf = run.sign_doctored(Doctoring::Key, |leaf| leaf.public_key = KeyPair(66));
    run.store_with(&leaf, |stored| stored.content.tls_key = Some(asked));
    breaks(&run, Invariant::I01);
}

#[test]
fn names_and_authority_are_the_domains() {
    keeps(&renewed(), Invariant::I02);
    let doctored: [(Doctoring, Change); 5] = [
        (Doctoring::Names, |leaf| leaf.spiffe_id = "spiffe://prod.example/ns/pay/sa/admin".into()),
        (Doctoring::Names, |leaf| leaf.dns_names.push("api.shop.svc".into())),
        (Doctoring::Names, |leaf| leaf.dns_names.clear()),
        (Doctoring::Ca, |leaf| leaf.is_ca = true),
        (Doctoring::Authority, |leaf| leaf.authority = AuthorityId(99)),
    ];
    for (doctoring, change) in doctored {
        let mut run = Run::due();
        let leaf = run.sign_doctored(doctoring, change);
        run.store(&leaf);
        breaks(&run, Invariant::I02);
    }
}

#[test]
fn names_of_an_edit_that_just_happened_may_still_be_the_old_ones() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.wait(5).edit(|spec| spec.services.clear()).store(&leaf);
    keeps(&run, Invariant::I02);

    let mut run = Run::due();
    let leaf = run.sign();
    run.edit(|spec| spec.services.clear()).tell_with(|status| status.conditions.clear());
    run.wait(90).store(&leaf);
    breaks(&run, Invariant::I02);
}

#[test]
fn an_answer_is_verified_before_it_is_stored() {
    keeps(&renewed(), Invariant::N3);
    let doctored: [(Doctoring, Change); 7] = [
        (Doctoring::Chain, |leaf| leaf.verifies = false),
        (Doctoring::Validity, |leaf| leaf.not_before += 1_000),
        (Doctoring::Validity, |leaf| leaf.not_before -= 2 * DAY),
        (Doctoring::Validity, |leaf| leaf.not_after += 91 * DAY),
        (Doctoring::Validity, |leaf| leaf.not_after = AUTHORITY.not_after),
        (Doctoring::Key, |leaf| leaf.key_kind = KeyKind::Rsa(2048)),
        // The first leaf of a run has serial 1.
        (Doctoring::Serial, |leaf| leaf.serial = Serial(1)),
    ];
    for (doctoring, change) in doctored {
        let mut run = Run::due();
        let leaf = run.sign_doctored(doctoring, change);
        run.store(&leaf);
        breaks(&run, Invariant::N3);
    }
}

#[test]
fn the_end_never_comes_earlier() {
    keeps(&renewed(), Invariant::I03);
    let shorter = |leaf: &mut Leaf| leaf.not_after = leaf.not_before + 4 * HOUR;
    let mut run = Run::due();
    let leaf = run.sign_for(|mut leaf| {
        shorter(&mut leaf);
        SignAnswer::Honest(Arc::new(leaf))
    });
    run.store(&leaf).tell();
    breaks(&run, Invariant::I03);

    // Asked for by its owner it may.
    let mut run = Run::issued();
    run.wait(2 * HOUR).edit(|spec| spec.ttl = Some(HOUR)).login().issue();
    keeps(&run, Invariant::I02);
}

#[test]
fn a_leaf_too_short_to_be_worth_it() {
    keeps(&renewed(), Invariant::I30);
    let mut run = Run::new();
    run.login().read();
    let now = run.at;
    let leaf = run.sign_for(|leaf| SignAnswer::Honest(Arc::new(Leaf { not_after: now + 600, ..leaf })));
    run.store(&leaf).tell();
    breaks(&run, Invariant::I30);
}

#[test]
fn one_write_carries_one_answer() {
    keeps(&renewed(), Invariant::I06);
    let mut run = Run::due();
    let leaf = run.sign();
    let other = Arc::new(Leaf { serial: Serial(500), ..(*leaf).clone() });
    run.store(&other).tell();
    breaks(&run, Invariant::I06);

    // Eleven minutes later the answer is too old.
    let mut run = Run::due();
    let leaf = run.sign();
    run.wait(700).read().store(&leaf).tell();
    breaks(&run, Invariant::I06);
}

#[test]
fn a_key_lives_in_one_secret() {
    let mut run = Run::issued();
    let first = run.target().unwrap().1.content.tls_key.unwrap();
    run.turn_to("web", 20).issue();
    keeps(&run, Invariant::N2);

    run.turn_to("cart", 30).read();
    let leaf = run.sign();
    let copy = OtherKey { name: "old.key".into(), key_pair: Some(first) };
    run.store_with(&leaf, |stored| stored.content.other.push(copy)).tell();
    breaks(&run, Invariant::N2);
}

#[test]
fn a_ca_key_stays_home() {
    keeps(&renewed(), Invariant::N8);
    let mut run = Run::due();
    let leaf = run.sign();
    let ca = OtherKey { name: "ca.key".into(), key_pair: Some(AUTHORITY.key) };
    run.store_with(&leaf, |stored| stored.content.other.push(ca)).tell();
    breaks(&run, Invariant::N8);
}

#[test]
fn trust_before_issue() {
    keeps(&renewed(), Invariant::N6);
    let next = Authority {
        id: AuthorityId(2),
        key: KeyPair(901),
        root: Root(2),
        state: AuthorityState::Prepared,
        ..AUTHORITY
    };
    let mut run = Run::issued();
    run.add_authority(next).wait(16 * HOUR).login().read();
    let leaf = run.sign_for(|leaf| SignAnswer::Honest(Arc::new(Leaf { authority: next.id, ..leaf })));
    run.store_with(&leaf, |stored| stored.content.ca_crt.push(next.root)).tell();
    breaks(&run, Invariant::N6);

    let mut run = Run::issued();
    run.add_authority(next).wait(16 * HOUR).login().read();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.ca_crt = vec![next.root]).tell();
    breaks(&run, Invariant::N6);
}

#[test]
fn distrust_comes_last() {
    let next = Authority { id: AuthorityId(2), key: KeyPair(901), root: Root(2), ..AUTHORITY };
    let rotated = |old: AuthorityState, signer: AuthorityId, roots: Vec<Root>| {
        let mut run = Run::issued();
        run.add_authority(next).add_authority(Authority { state: old, ..AUTHORITY }).wait(HOUR).login().read();
        let leaf = run.sign_for(|leaf| SignAnswer::Honest(Arc::new(Leaf { authority: signer, ..leaf })));
        run.store_with(&leaf, |stored| stored.content.ca_crt = roots).tell();
        run
    };
    let both = vec![AUTHORITY.root, next.root];
    keeps(&rotated(AuthorityState::Draining, next.id, both.clone()), Invariant::N6);
    breaks(&rotated(AuthorityState::Draining, next.id, vec![next.root]), Invariant::N6);
    breaks(&rotated(AuthorityState::Draining, AUTHORITY.id, both), Invariant::N6);
    keeps(&rotated(AuthorityState::Retired, next.id, vec![next.root]), Invariant::N6);
}

#[test]
fn the_key_is_of_the_kind_asked_for() {
    for kind in [KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa(3_072)] {
        let mut run = Run::issued();
        run.wait(HOUR).edit(|spec| spec.key = Some(kind)).login().issue();
        keeps(&run, Invariant::N3);
    }
}

#[test]
fn roots_come_from_the_domain() {
    keeps(&renewed(), Invariant::TrustSet);
    let mut run = Run::due();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.content.ca_crt.push(Root(66))).tell();
    breaks(&run, Invariant::TrustSet);
}

/// An embedded authority's Secret, number `n`, is looked for and then created.
fn mint(run: &mut Run, n: u64, found: Outcome) {
    let object = run.history.object(Kind::Secret, "countersign-system", format!("countersign-ca-prod.example-{n}"));
    run.request(KubeRequest { outcome: found, ..request(Verb::Read, object) });
    let mut leaf = run.honest_leaf();
    leaf.is_ca = true;
    leaf.public_key = KeyPair(900 + n);
    let content = Content { tls_key: Some(leaf.public_key), tls_crt: Some(Arc::new(leaf)), ..Content::default() };
    let stored = Stored { labelled: true, owner_uid: Some(DOMAIN_UID), content, ..Stored::default() };
    run.perform(KubeRequest { stored: Some(Arc::new(stored)), ..request(Verb::Create, object) });
}

/// A run whose domain signs by itself and has no authority yet.
fn embedded() -> Run {
    let mut run = Run::new();
    let gone = DomainChange { object: run.domain, uid: DOMAIN_UID, change: DomainEdit::Deleted };
    run.user(Event::Domain(gone)).change_domain(|spec| spec.issuer = Issuer::Embedded);
    run
}

#[test]
fn no_new_root_when_the_old_key_cannot_be_read() {
    let mut run = embedded();
    mint(&mut run, 0, Outcome::Absent);
    run.add_authority(AUTHORITY).read();
    let path = SignPath::Embedded(run.domain);
    let leaf = run.sign_at(path, |leaf| SignAnswer::Honest(Arc::new(leaf)));
    run.store(&leaf).tell();
    keeps(&run, Invariant::N7);

    for found in [Outcome::Refused(403), Outcome::Unavailable, Outcome::Absent] {
        let mut run = embedded();
        mint(&mut run, 0, Outcome::Absent);
        run.add_authority(AUTHORITY).wait(5);
        mint(&mut run, 1, found);
        breaks(&run, Invariant::N7);
    }

    let mut run = embedded();
    mint(&mut run, 0, Outcome::Absent);
    let change = DomainEdit::RotationRequested;
    let asked = DomainChange { object: run.domain, uid: DOMAIN_UID, change };
    run.add_authority(AUTHORITY).user(Event::Domain(asked));
    mint(&mut run, 1, Outcome::Absent);
    keeps(&run, Invariant::N7);
}

#[test]
fn runs_start_where_the_scene_says() {
    assert_eq!(Run::new().at, START);
}
