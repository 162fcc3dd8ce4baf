//! What is stored.

use countersign_core::api::DeletionPolicy;

use super::{
    breaks, keeps,
    scene::{DB, HOUR, Run, fields, mixed_spec, plain_spec},
};
use crate::{checker::Invariant, history::*};

#[test]
fn one_rendering_is_stored() {
    keeps(&Run::ready(), Invariant::I06);
    keeps(&Run::ready_with(mixed_spec()), Invariant::I06);
}

#[test]
fn a_part_or_a_mix_is_not() {
    let mut run = Run::with(mixed_spec());
    run.look(0).read_sources(0);
    let mut part = run.wanted(0);
    part.data.remove("password");
    run.store(0, part);
    breaks(&run, Invariant::I06);

    let mut run = Run::new();
    run.put(DB, &[("password", "two"), ("user", "new")]).look(0).metadata(0).values(0, 1).values(0, 2);
    let mut mix = run.wanted(0);
    mix.data.extend(fields(&[("user", "app")]));
    run.store(0, mix);
    breaks(&run, Invariant::I06);

    let mut run = Run::new();
    run.look(0).metadata(0).apply(0);
    breaks(&run, Invariant::I06);
}

#[test]
fn values_are_from_this_pass_and_this_process() {
    let mut run = Run::new();
    run.look(0).read_sources(0).wait(GRACE).apply(0).tell(0);
    keeps(&run, Invariant::I06);

    let mut run = Run::new();
    run.look(0).read_sources(0).wait(GRACE + 1).apply(0).tell(0);
    breaks(&run, Invariant::I06);

    let mut run = Run::new();
    run.look(0).read_sources(0).restart().look(0).apply(0);
    breaks(&run, Invariant::I06);
}

#[test]
fn an_old_spec_may_be_rendered_for_a_moment() {
    let mut run = Run::ready();
    run.wait(100).edit(0, |spec| {
        spec.entries = vec![Entries::One { key: "pw".into(), source: "db".into(), field: "password".into() }];
    });
    let new = run.specs[0].clone();
    run.specs[0] = plain_spec();
    run.wait(GRACE + WATCH_LAG).put(DB, &[("password", "two")]).look(0).read_sources(0).apply(0);
    run.specs[0] = new;
    run.look(0).read_sources(0).apply(0).tell(0);
    keeps(&run, Invariant::I05);
}

#[test]
fn a_key_that_collides_or_is_missing_has_no_rendering() {
    let mut spec = plain_spec();
    spec.entries.push(Entries::One { key: "user".into(), source: "db".into(), field: "password".into() });
    let mut run = Run::with(spec);
    run.look(0).read_sources(0).apply(0);
    breaks(&run, Invariant::I06);

    let mut run = Run::with(mixed_spec());
    run.put(DB, &[("user", "app")]).look(0).metadata(0).values(0, 2).plain_values(0);
    run.specs[0].entries.remove(0);
    run.apply(0);
    breaks(&run, Invariant::I06);
}

#[test]
fn a_key_vanishes_with_its_value_only() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two")]).look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I05);

    let mut run = Run::ready();
    run.wait(100).look(0).read_sources(0);
    let mut less = run.wanted(0);
    less.data.remove("user");
    run.store(0, less);
    breaks(&run, Invariant::I05);

    let mut run = Run::ready();
    run.wait(100).look(0).read_sources(0);
    let mut emptied = run.wanted(0);
    emptied.data.insert("user".into(), String::new());
    run.store(0, emptied);
    breaks(&run, Invariant::I05);
}

#[test]
fn the_pinned_version_is_stored() {
    let pinned = || {
        let mut spec = plain_spec();
        spec.sources[0].version = Some(1);
        let mut run = Run::with(spec);
        run.put(DB, &[("password", "two"), ("user", "app")]);
        run
    };
    let mut run = pinned();
    run.refresh(0);
    keeps(&run, Invariant::Pinned);

    let mut run = pinned();
    run.look(0).metadata(0).values(0, 2);
    let other = Stored { data: fields(&[("password", "two"), ("user", "app")]), ..run.wanted(0) };
    run.store(0, other);
    breaks(&run, Invariant::Pinned);
}

#[test]
fn type_and_owner_are_the_specs() {
    keeps(&Run::ready(), Invariant::Type);
    let mut run = Run::new();
    run.look(0).read_sources(0);
    let other = Stored { type_: "kubernetes.io/tls".into(), ..run.wanted(0) };
    run.store(0, other);
    breaks(&run, Invariant::Type);

    let mut retained = plain_spec();
    retained.deletion = DeletionPolicy::Retain;
    keeps(&Run::ready_with(retained.clone()), Invariant::Ownership);
    let mut run = Run::with(retained);
    run.look(0).read_sources(0);
    let owned = Stored { owner_reference: Some(10), ..run.wanted(0) };
    run.store(0, owned);
    breaks(&run, Invariant::Ownership);
}

#[test]
fn an_older_version_must_be_shown_for_a_minute() {
    let newer = || {
        let mut run = Run::new();
        run.at += 10;
        run.put(DB, &[("password", "two"), ("user", "app")]).refresh(0);
        run.idle(HOUR).change(WorldChange::Lagging(true)).look(0).metadata_as_of(0, 1);
        run
    };
    let older = |run: &mut Run| {
        let data = fields(&[("password", "one"), ("user", "app")]);
        run.look(0).metadata_as_of(0, 1).values(0, 1);
        let older = Stored { data, ..run.wanted(0) };
        run.store(0, older);
    };
    let mut run = newer();
    run.wait(60);
    older(&mut run);
    keeps(&run, Invariant::WentBack);

    let mut run = newer();
    run.wait(30);
    older(&mut run);
    breaks(&run, Invariant::WentBack);

    // What a predecessor saw is not known any more.
    let mut run = newer();
    run.wait(60).restart().login();
    older(&mut run);
    breaks(&run, Invariant::WentBack);
}

#[test]
fn what_is_gone_changes_nothing() {
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two"), ("user", "app")]).look(0).read_sources(0);
    run.wait(1).apply(0);
    keeps(&run, Invariant::DeletedIsKept);

    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two"), ("user", "app")]).look(0).read_sources(0);
    run.metadata_answered(0, VaultAnswer::Status(404)).apply(0);
    breaks(&run, Invariant::DeletedIsKept);

    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "two"), ("user", "app")]).delete_newest(DB);
    run.wait(SKEW + 1).look(0).values(0, 2).metadata(0).apply(0);
    breaks(&run, Invariant::DeletedIsKept);
}

#[test]
fn what_did_not_change_is_not_written() {
    let mut run = Run::ready();
    run.wait(100).look(0).read_sources(0).apply(0);
    // The first may have been made of what stood there before an edit that was on its way.
    keeps(&run, Invariant::I15);
    run.wait(100).look(0).read_sources(0).apply(0);
    breaks(&run, Invariant::I15);

    // Another version with the same values is another annotation.
    let mut run = Run::ready();
    run.wait(100).put(DB, &[("password", "one"), ("user", "app")]).look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I15);

    let mut run = Run::ready();
    run.restart().login().look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I15);

    let mut run = Run::ready();
    let relabelled = Stored { labelled: false, ..run.wanted(0) };
    let again = run.wanted(0);
    run.wait(9).write(Actor::User, 0, relabelled).write(Actor::User, 0, again);
    run.wait(100).look(0).read_sources(0).apply(0);
    keeps(&run, Invariant::I15);
}
