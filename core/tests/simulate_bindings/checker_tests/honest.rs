//! A long history in which much happens and nothing is wrong.

use countersign_core::api::Reason;

use super::scene::{API, DB, HOUR, Run, asked, fields, mixed_spec};
use crate::{
    checker::{Invariant, check, exercised},
    history::*,
};

/// Two bindings, one of them of both engines; an edit, new versions, an outage, a restart, a deletion at the server,
/// drift, a standby that lags, a request, dead tokens, and an end.
fn much() -> Run {
    let mut run = Run::ready();
    run.edit(1, |spec| *spec = mixed_spec()).wait(2).refresh(1).idle(HOUR);

    // An edit.
    run.edit(0, |spec| {
        spec.entries = vec![Entries::One { key: "pw".into(), source: "db".into(), field: "password".into() }];
    });
    run.wait(20).refresh(0).idle(HOUR / 4);

    // A new version, found by both; the first write of the second binding meets somebody else's.
    run.call(None, VaultCall::LookupSelf, VaultAnswer::Status(403)).login();
    run.put(DB, &[("password", "two"), ("user", "new")]).wait(300).refresh(0);
    run.look(1).read_sources(1);
    run.push(Event::Secret(asked(1, Verb::Apply, Outcome::Conflict)));
    let Some(Event::Secret(refused)) = run.history.entries.last_mut().map(|entry| &mut entry.event) else { return run };
    refused.version = run.held[1].as_ref().map(|(version, _)| *version);
    run.wait(1).refresh(1).idle(HOUR / 4);

    // New values without a version.
    run.put(API, &[("KEY", "k2")]).wait(200).look(1).metadata(1).plain_values(1).values(1, 2).apply(1).tell(1);

    // An outage: one try, then health alone; nothing changes.
    run.idle(500).vault_is(VaultState::Sealed).wait(5).look(0).metadata_answered(0, VaultAnswer::Status(503));
    run.tell_failure(0, Reason::VaultSealed);
    for pause in [5, 10, 20, 40, 60, 60] {
        run.wait(pause).call(None, VaultCall::Health, VaultAnswer::Status(503));
    }
    run.idle(600).vault_is(VaultState::Up).wait(50).call(None, VaultCall::Health, VaultAnswer::Fine);
    run.look(0).metadata(0).tell(0);

    // A restart, and the next moment.
    run.idle(1_200).restart().login().look(0).look(1).idle(400).look(0).metadata(0).look(1).metadata(1).plain_values(1);

    // The newest version is deleted at the server: it is kept, and told of.
    run.idle(HOUR).delete_newest(DB).wait(SKEW + 100).look(0).metadata(0).tell_failure(0, Reason::RemoteDeleted);
    run.look(1).metadata(1).tell_failure(1, Reason::RemoteDeleted);
    run.idle(900).put(DB, &[("password", "three"), ("user", "new")]).wait(400).refresh(0).refresh(1);

    // Drift: a key is gone, then the whole Secret.
    let mut drifted = run.held[1].clone().unwrap().1;
    drifted.data.remove("password");
    run.idle(HOUR).write(Actor::User, 1, drifted).wait(250).look(1);
    run.call(None, VaultCall::LookupSelf, VaultAnswer::Status(403)).login().read_sources(1).apply(1).tell(1);
    run.idle(HOUR).delete(Actor::User, 0).wait(200).login().refresh(0);

    // A standby that lags; it is not believed, and then it is right again.
    run.idle(HOUR / 2).change(WorldChange::Lagging(true)).wait(10).look(0).metadata_as_of(0, 2);
    run.tell_failure(0, Reason::SourceWentBack).wait(30).change(WorldChange::Lagging(false));
    run.wait(30).metadata(0).tell(0);

    // Somebody asks, and is answered.
    run.idle(600).request(0, "please").wait(10).look(0).metadata(0);
    run.handled[0] = Some("please".into());
    run.tell(0);

    // The second binding goes, and its target with it.
    run.idle(600).edited(1, BindingEdit::Deleted).delete(Actor::Cluster, 1);
    run.generations[1] = 0;
    run.idle(2 * HOUR).mark(Mark::SteadyBegins).idle(600).mark(Mark::SteadyEnds).mark(Mark::End);
    run
}

#[test]
fn an_honest_history_breaks_nothing() {
    let run = much();
    assert_eq!(check(&run.history), Vec::new());
    let judged = exercised(&run.history);
    // What needs two runs, a pin or an older version that is taken is judged elsewhere.
    let elsewhere = [
        Invariant::I17,
        Invariant::I18,
        Invariant::I23,
        Invariant::Pinned,
        Invariant::WentBack,
        Invariant::OneForcedTry,
    ];
    let vacuous = |invariant: &&Invariant| !judged.contains_key(*invariant) && !elsewhere.contains(invariant);
    let vacuous: Vec<&Invariant> = Invariant::ALL.iter().filter(vacuous).collect();
    assert_eq!(vacuous, Vec::<&Invariant>::new());
}

#[test]
fn a_late_slip_in_a_long_history_is_seen() {
    let mut run = much();
    run.look(0).metadata(0).values(0, 3);
    let slip = Stored { data: fields(&[("pw", "two")]), ..run.wanted(0) };
    run.store(0, slip);
    let found = check(&run.history);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].invariant, found[0].at), (Invariant::I06, run.history.entries.len() - 1));
}
