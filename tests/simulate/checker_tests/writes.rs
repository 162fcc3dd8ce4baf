//! How objects are written and deleted.

use std::sync::Arc;

use countersign_core::api::DeletionPolicy;

use super::{
    breaks, keeps,
    scene::{HOUR, LEADER, RIVAL, Run, request},
};
use crate::{checker::Invariant, history::*};

/// What a stranger put in the target's place.
fn strangers_secret() -> Stored {
    let password = OtherKey { name: "password".into(), key_pair: None };
    Stored {
        uid: Some(Uid(5_000)),
        content: Content { other: vec![password], ..Content::default() },
        ..Stored::default()
    }
}

fn by_user(run: &mut Run, stored: Stored) {
    let object = run.who.spec.secret;
    run.perform_by(Actor::User, KubeRequest { stored: Some(Arc::new(stored)), ..request(Verb::Update, object) });
}

#[test]
fn the_target_goes_with_its_owner() {
    let mut run = Run::issued();
    let gone = run.delete();
    run.edited(IdentityEdit::Deleted).perform_by(Actor::Cluster, gone);
    keeps(&run, Invariant::I04);
}

#[test]
fn the_target_does_not_go_before_its_owner() {
    let mut run = Run::issued();
    let gone = run.delete();
    run.perform_by(Actor::Cluster, gone);
    breaks(&run, Invariant::I04);

    let mut run = Run::issued();
    run.edit(|spec| spec.deletion_policy = DeletionPolicy::Retain).tell();
    let gone = run.delete();
    run.edited(IdentityEdit::Deleted).perform_by(Actor::Cluster, gone);
    breaks(&run, Invariant::I04);
}

#[test]
fn a_user_may_delete_the_target_and_gets_it_back() {
    let mut run = Run::issued();
    let gone = run.delete();
    run.wait(HOUR).perform_by(Actor::User, gone);
    run.login().issue();
    keeps(&run, Invariant::I01);
}

#[test]
fn not_found_is_no_order_to_delete() {
    let mut run = Run::issued();
    run.wait(60).call(VaultCall::ReadIssuer, VaultAnswer::Status(404));
    keeps(&run, Invariant::I01);
    let delete = run.delete();
    run.perform(delete);
    breaks(&run, Invariant::I05);
}

#[test]
fn nothing_is_emptied() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store(&leaf).tell();
    keeps(&run, Invariant::I05);

    let mut run = Run::issued();
    let leaf = run.target().unwrap().1.content.tls_crt.clone().unwrap();
    run.wait(60).store_with(&leaf, |stored| stored.content.tls_key = None);
    breaks(&run, Invariant::I05);

    let mut run = Run::issued();
    let leaf = run.target().unwrap().1.content.tls_crt.clone().unwrap();
    run.wait(60).store_with(&leaf, |stored| stored.content.ca_crt.clear());
    breaks(&run, Invariant::I05);
}

#[test]
fn forbidden_is_not_gone() {
    for state in [VaultState::Answers(403), VaultState::Answers(404), VaultState::Sealed, VaultState::Cut] {
        let mut run = Run::issued();
        run.wait(60).vault_is(state).wait(1);
        let delete = run.delete();
        run.perform(delete);
        breaks(&run, Invariant::I07);

        let mut run = Run::issued();
        let leaf = run.target().unwrap().1.content.tls_crt.clone().unwrap();
        run.wait(60).vault_is(state).wait(1).store_with(&leaf, |stored| stored.content.tls_crt = None);
        assert!(crate::checker::check(&run.history).iter().any(|one| one.invariant == Invariant::I07));
    }
}

#[test]
fn what_was_answered_before_an_outage_is_stored() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.vault_is(VaultState::Sealed).store(&leaf).tell();
    keeps(&run, Invariant::I07);
}

#[test]
fn a_strangers_secret_is_left_alone() {
    let mut run = Run::new();
    run.login().read();
    let leaf = run.sign();
    by_user(&mut run, strangers_secret());
    run.read().store_with(&leaf, |stored| stored.content.other = strangers_secret().content.other);
    breaks(&run, Invariant::I08);
}

#[test]
fn a_strangers_config_map_is_left_alone() {
    let mut run = Run::issued();
    let object = run.history.object(Kind::ConfigMap, "pay", "settings");
    let stored = Some(Arc::<Stored>::default());
    run.perform_by(Actor::User, KubeRequest { stored, ..request(Verb::Create, object) });
    let sent = Preconditions { version: Some(1), uid: None };
    let ours = Stored { labelled: true, owner_uid: Some(run.who.uid), ..Stored::default() };
    run.perform(KubeRequest { sent, stored: Some(Arc::new(ours)), ..request(Verb::Apply, object) });
    breaks(&run, Invariant::I08);
}

#[test]
fn whoever_meets_a_faster_stranger_withdraws() {
    let raced = || {
        let mut run = Run::new();
        run.login().read();
        let leaf = run.sign();
        by_user(&mut run, strangers_secret());
        let merged = |stored: &mut Stored| stored.content.other = strangers_secret().content.other;
        run.store_as(&leaf, merged, |request| request.sent.version = None);
        run
    };
    let mut run = raced();
    let (version, _) = run.target().unwrap();
    let withdraw = KubeRequest {
        sent: Preconditions { version: Some(version), uid: None },
        stored: Some(Arc::new(strangers_secret())),
        ..request(Verb::Withdraw, run.who.spec.secret)
    };
    run.perform(withdraw).tell_with(|status| status.conditions.clear()).wait(60).mark(Mark::End);
    keeps(&run, Invariant::I08);

    let mut run = raced();
    run.tell_with(|status| status.conditions.clear()).wait(60).mark(Mark::End);
    breaks(&run, Invariant::I08);
}

#[test]
fn an_owner_is_a_uid_not_a_name() {
    let mut run = Run::issued();
    run.edit(|spec| spec.deletion_policy = DeletionPolicy::Retain).tell();
    run.edited(IdentityEdit::Deleted).turn_to("api", 11).read();
    run.wait(1).read();
    // Signed for the new one while nothing was in the way, stored over the Secret of the old one.
    let (version, _) = run.target().unwrap();
    let gone = run.delete();
    let old = run.target().unwrap().1;
    run.perform_by(Actor::User, gone).read();
    let leaf = run.sign();
    let object = run.who.spec.secret;
    run.perform_by(Actor::User, KubeRequest { stored: Some(old), ..request(Verb::Create, object) });
    run.read().store_as(&leaf, |_| {}, |request| request.sent.version = Some(version + 2));
    breaks(&run, Invariant::I08);
}

#[test]
fn what_we_write_carries_label_and_owner() {
    let mut run = Run::new();
    run.login().read();
    let leaf = run.sign();
    run.store_with(&leaf, |stored| stored.labelled = false);
    breaks(&run, Invariant::I08);
}

#[test]
fn writes_stay_in_the_owners_namespace() {
    let mut run = Run::issued();
    keeps(&run, Invariant::I09);
    run.wait(16 * HOUR).login().read();
    let leaf = run.sign();
    let elsewhere = run.history.object(Kind::Secret, "shop", "api-tls");
    run.store_as(&leaf, |_| {}, |request| (request.object, request.sent.version) = (elsewhere, None));
    breaks(&run, Invariant::I09);
}

#[test]
fn updates_and_deletes_carry_preconditions() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store(&leaf).tell();
    keeps(&run, Invariant::I10);

    let mut run = Run::due();
    let leaf = run.sign();
    run.store_as(&leaf, |_| {}, |request| request.sent.version = None);
    breaks(&run, Invariant::I10);

    for drop in [|sent: &mut Preconditions| sent.uid = None, |sent: &mut Preconditions| sent.version = None] {
        let mut run = Run::issued();
        let mut delete = run.delete();
        drop(&mut delete.sent);
        run.edited(IdentityEdit::Deleted).perform(delete);
        breaks(&run, Invariant::I10);
    }
}

#[test]
fn a_refused_write_without_precondition_was_still_sent() {
    let mut run = Run::due();
    let object = run.who.spec.secret;
    run.request(KubeRequest { outcome: Outcome::Conflict, ..request(Verb::Apply, object) });
    breaks(&run, Invariant::I10);
}

#[test]
fn nothing_is_forced() {
    let mut run = Run::issued();
    keeps(&run, Invariant::N9);
    run.wait(16 * HOUR).login().read();
    let leaf = run.sign();
    run.store_as(&leaf, |_| {}, |request| request.force = true);
    breaks(&run, Invariant::N9);
}

#[test]
fn a_steady_cluster_costs_nothing() {
    let steady = || {
        let mut run = Run::issued();
        run.wait(60).mark(Mark::SteadyBegins).wait(60);
        run
    };
    let mut run = steady();
    run.read().call(VaultCall::Health, VaultAnswer::Fine).mark(Mark::SteadyEnds);
    run.wait(16 * HOUR).login().issue();
    keeps(&run, Invariant::I15);

    let mut run = steady();
    let leaf = run.target().unwrap().1.content.tls_crt.clone().unwrap();
    run.read().store(&leaf);
    breaks(&run, Invariant::I15);

    let mut run = steady();
    run.call(VaultCall::Lookup, VaultAnswer::Fine);
    breaks(&run, Invariant::I15);

    let mut run = steady();
    run.edited(IdentityEdit::Requested("now".into())).read();
    run.sign();
    breaks(&run, Invariant::I15);
}

#[test]
fn only_the_holder_of_the_lease_writes() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.world(Event::Lease(LeaseChange::Released), LEADER);
    run.at += 1;
    run.store(&leaf);
    keeps(&run, Invariant::I16);

    let mut run = Run::due();
    let leaf = run.sign();
    run.world(Event::Process(ProcessChange::Started), RIVAL);
    run.world(Event::Lease(LeaseChange::Taken), RIVAL);
    run.at += 2;
    run.store(&leaf);
    breaks(&run, Invariant::I16);

    // The lease ran out although nobody took it.
    let mut run = Run::due();
    let leaf = run.sign();
    run.at += 17;
    run.store(&leaf);
    breaks(&run, Invariant::I16);

    // Where two leaders are wanted, both may write.
    let mut run = Run::due();
    run.history.settings.election = false;
    let leaf = run.sign();
    run.at += 17;
    run.store(&leaf).tell();
    keeps(&run, Invariant::I01);
}

#[test]
fn without_the_fence_no_secret_is_touched() {
    let mut run = Run::issued();
    keeps(&run, Invariant::FenceFirst);
    run.change(WorldChange::Fence { in_force: false }).wait(10).read();
    keeps(&run, Invariant::FenceFirst);
    run.wait(10).read();
    breaks(&run, Invariant::FenceFirst);
}

#[test]
fn a_renewal_is_two_writes() {
    let renewed = || {
        let mut run = Run::due();
        let leaf = run.sign();
        run.store(&leaf);
        (run, leaf)
    };
    let (mut run, _) = renewed();
    run.tell();
    keeps(&run, Invariant::TwoWrites);

    let (mut run, leaf) = renewed();
    run.store(&leaf).tell();
    breaks(&run, Invariant::TwoWrites);

    let (mut run, _) = renewed();
    run.tell().wait(1).tell_with(|status| status.conditions.truncate(2));
    breaks(&run, Invariant::TwoWrites);

    let mut run = Run::due();
    let leaf = run.sign();
    run.tell_with(|status| status.conditions.truncate(2));
    run.store(&leaf).tell_with(|status| status.conditions.truncate(1));
    breaks(&run, Invariant::TwoWrites);
}
