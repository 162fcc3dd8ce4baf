//! How targets are touched and deleted.

use countersign_core::api::DeletionPolicy;

use super::{
    breaks, keeps,
    scene::{API, DB, HOUR, LEADER, RIVAL, Run, asked, fields},
};
use crate::{checker::Invariant, history::*};

const OPERATOR: Actor = Actor::Operator(LEADER);

#[test]
fn the_target_goes_with_its_owner() {
    let mut run = Run::ready();
    run.edited(0, BindingEdit::Deleted).delete(Actor::Cluster, 0);
    keeps(&run, Invariant::I04);
}

#[test]
fn the_target_does_not_go_before_its_owner() {
    let mut run = Run::ready();
    run.delete(Actor::Cluster, 0);
    breaks(&run, Invariant::I04);

    let mut run = Run::ready();
    run.edit(0, |spec| spec.deletion = DeletionPolicy::Retain).refresh(0);
    let kept_its_reference = Stored { owner_reference: Some(10), ..run.wanted(0) };
    run.write(Actor::User, 0, kept_its_reference).edited(0, BindingEdit::Deleted).delete(Actor::Cluster, 0);
    breaks(&run, Invariant::I04);
}

#[test]
fn a_user_may_delete_the_target_and_gets_it_back() {
    let mut run = Run::ready();
    run.wait(100).delete(Actor::User, 0).wait(100).look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I06);
}

#[test]
fn the_operator_deletes_no_target() {
    let mut run = Run::ready();
    run.delete(OPERATOR, 0);
    breaks(&run, Invariant::I05);

    let mut run = Run::ready();
    run.vault_is(VaultState::Cut).wait(GRACE + 1).delete(OPERATOR, 0);
    breaks(&run, Invariant::I07);
}

#[test]
fn a_delete_says_which() {
    let mut run = Run::ready();
    let refused = SecretRequest { uid: None, ..asked(0, Verb::Delete, Outcome::Conflict) };
    run.push(Event::Secret(refused));
    breaks(&run, Invariant::I10);
}

#[test]
fn an_apply_insists_on_what_was_read() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0);
    let wanted = run.wanted(0);
    run.write_with(OPERATOR, 0, wanted, |request| request.version = None);
    breaks(&run, Invariant::I10);

    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).read_sources(0);
    let touched = run.held[0].clone().unwrap().1;
    run.write(Actor::User, 0, touched).apply(0);
    breaks(&run, Invariant::I10);

    let mut run = Run::ready();
    let stale = run.held[0].as_ref().map(|(version, _)| *version);
    run.wait(100).put(DB, &[("password", "two")]).read_sources(0);
    let touched = run.held[0].clone().unwrap().1;
    run.write(Actor::User, 0, touched);
    let wanted = run.wanted(0);
    run.write_with(OPERATOR, 0, wanted, |request| request.version = stale);
    breaks(&run, Invariant::I10);
}

#[test]
fn a_create_needs_no_version() {
    let mut run = Run::new();
    run.look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I10);
}

#[test]
fn what_is_foreign_is_not_written_over() {
    let foreign = |run: &mut Run| Stored { labelled: false, owner_uid: None, owner_reference: None, ..run.wanted(0) };
    let mut run = Run::new();
    let stored = Stored { data: fields(&[("other", "x")]), ..foreign(&mut run) };
    run.write(Actor::User, 0, stored).look(0).read_sources(0);
    let wanted = run.wanted(0);
    let mut merged = wanted.clone();
    merged.data.extend(fields(&[("other", "x")]));
    run.store(0, merged);
    breaks(&run, Invariant::I08);

    let mut run = Run::new();
    let unmarked = foreign(&mut run);
    let unmarked = Stored { owner_reference: Some(10), ..unmarked };
    run.look(0).read_sources(0).store(0, unmarked);
    breaks(&run, Invariant::I08);
}

#[test]
fn what_a_user_added_stays() {
    let mut run = Run::ready();
    let mut stored = run.wanted(0);
    stored.data.extend(fields(&[("other", "x")]));
    run.wait(10).write(Actor::User, 0, stored).wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0);
    let mut wanted = run.wanted(0);
    wanted.data.extend(fields(&[("other", "x")]));
    run.store(0, wanted);
    keeps(&run, Invariant::I08);
}

#[test]
fn nothing_is_forced() {
    let mut run = Run::new();
    run.look(0).read_sources(0);
    let wanted = run.wanted(0);
    run.write_with(OPERATOR, 0, wanted, |request| request.force = true);
    breaks(&run, Invariant::NoForce);
    keeps(&Run::ready(), Invariant::NoForce);
}

#[test]
fn only_the_leader_writes() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0);
    run.at += LEASE_SECONDS + 2;
    run.apply(0);
    breaks(&run, Invariant::I16);

    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0);
    run.at += LEASE_SECONDS;
    run.apply(0);
    keeps(&run, Invariant::I16);

    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0);
    run.process = RIVAL;
    run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken));
    run.process = LEADER;
    run.at += 2;
    run.apply(0);
    breaks(&run, Invariant::I16);

    let mut run = Run::ready();
    run.push(Event::Lease(LeaseChange::Released));
    run.at += 2;
    run.tell(0);
    breaks(&run, Invariant::I16);
}

#[test]
fn the_fence_comes_first() {
    let mut run = Run::ready();
    run.change(WorldChange::Fence(false)).wait(GRACE).look(0);
    keeps(&run, Invariant::GatesFirst);
    run.wait(1).look(0);
    breaks(&run, Invariant::GatesFirst);
}

#[test]
fn who_must_not_act_does_not_write() {
    let mut run = Run::ready();
    run.edit(0, |spec| spec.suspend = true).tell(0).wait(GRACE).put(DB, &[("password", "two")]);
    run.read_sources(0).look(0).apply(0);
    keeps(&run, Invariant::GatesFirst);
    let version = run.held[0].as_ref().map(|(version, _)| *version);
    let refused = SecretRequest { version, ..asked(0, Verb::Apply, Outcome::Conflict) };
    run.wait(WATCH_LAG + 1).push(Event::Secret(refused.clone()));
    breaks(&run, Invariant::GatesFirst);

    let mut run = Run::ready();
    run.change(WorldChange::Claimed { slot: 0, claimed: true }).wait(GRACE + WATCH_LAG + 1);
    run.push(Event::Secret(SecretRequest { version: run.held[0].as_ref().map(|(version, _)| *version), ..refused }));
    breaks(&run, Invariant::GatesFirst);
}

#[test]
fn nothing_changes_while_vault_is_in_doubt() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0).vault_is(VaultState::Sealed);
    run.wait(GRACE).apply(0);
    keeps(&run, Invariant::I06);

    for state in [VaultState::Sealed, VaultState::Answers(404), VaultState::Babbles, VaultState::RefusesLogins] {
        let mut run = Run::ready();
        run.vault_is(state).wait(GRACE + 1).look(0);
        let emptied = Stored { data: fields(&[]), ..run.wanted(0) };
        run.store(0, emptied);
        breaks(&run, Invariant::I07);
    }
}

#[test]
fn a_steady_cluster_is_quiet() {
    let mut run = Run::ready();
    run.idle(HOUR).mark(Mark::SteadyBegins).put(API, &[("KEY", "k2")]).look(0).metadata(0);
    keeps(&run, Invariant::I15);
    let stored = run.held[0].clone().unwrap().1;
    run.store(0, stored);
    breaks(&run, Invariant::I15);
}
