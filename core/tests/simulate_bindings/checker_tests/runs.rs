//! Two runs side by side.

use countersign_core::api::Reason;

use super::scene::{DB, LEADER, Run, fields};
use crate::{
    checker::{Invariant, end_state_equal},
    history::*,
};

fn differ(undisturbed: &Run, disturbed: &Run, wanted: &[Invariant]) {
    let found = end_state_equal(&undisturbed.history, &disturbed.history);
    let invariants: Vec<Invariant> = found.iter().map(|violation| violation.invariant).collect();
    assert_eq!(invariants, wanted, "{found:#?}");
}

#[test]
fn runs_that_end_alike_are_alike() {
    let mut disturbed = Run::new();
    disturbed.mark(Mark::FaultsBegin).look(0).read_sources(0).restart().login().mark(Mark::FaultsEnd);
    disturbed.edit(0, |spec| spec.every = 600).edit(0, |spec| spec.every = 900).wait(5).refresh(0);
    differ(&Run::ready(), &disturbed, &[]);
}

#[test]
fn another_end_is_seen() {
    let mut disturbed = Run::ready();
    let stored = Stored { data: fields(&[("password", "other")]), ..disturbed.wanted(0) };
    disturbed.write(Actor::User, 0, stored);
    differ(&Run::ready(), &disturbed, &[Invariant::I17]);

    let mut disturbed = Run::ready();
    disturbed.tell_failure(0, Reason::VaultUnavailable);
    differ(&Run::ready(), &disturbed, &[Invariant::I17]);

    let mut disturbed = Run::ready();
    disturbed.edit(0, |_| {});
    differ(&Run::ready(), &disturbed, &[Invariant::I17]);

    let mut disturbed = Run::ready();
    disturbed.tell_with(0, |status| status.sources[0].version = Some(7));
    differ(&Run::ready(), &disturbed, &[Invariant::I17]);
}

#[test]
fn a_target_is_made_once() {
    let twice = || {
        let mut run = Run::ready();
        run.delete(Actor::User, 0).wait(100).refresh(0);
        run
    };
    differ(&Run::ready(), &twice(), &[Invariant::I18]);
    let mut excused = twice();
    excused.history.deleted_by_others[0] = true;
    differ(&Run::ready(), &excused, &[]);

    let mut disturbed = Run::ready();
    disturbed.delete(Actor::Operator(LEADER), 0).put(DB, &[("password", "one"), ("user", "app")]);
    differ(&Run::ready(), &disturbed, &[Invariant::I18, Invariant::I17]);
}

#[test]
fn a_binding_that_is_made_again_is_another() {
    let mut disturbed = Run::ready();
    disturbed.edited(0, BindingEdit::Deleted).delete(Actor::Cluster, 0);
    disturbed.uids[0] = 11;
    disturbed.edit(0, |_| {}).refresh(0);
    differ(&Run::ready(), &disturbed, &[]);
}
