//! What Vault is asked.

use super::{
    breaks, keeps,
    scene::{HOUR, Run},
};
use crate::{checker::Invariant, history::*};

fn metadata(mount: &str, path: &str) -> VaultCall {
    VaultCall::Metadata { mount: mount.into(), path: path.into() }
}

#[test]
fn only_granted_paths_are_read() {
    keeps(&Run::ready(), Invariant::I09);

    let mut run = Run::ready();
    run.change(WorldChange::Granted(Vec::new())).wait(GRACE).metadata(0);
    keeps(&run, Invariant::I09);
    run.wait(1).metadata(0);
    breaks(&run, Invariant::I09);

    let mut run = Run::ready();
    run.call(Some(0), metadata("kv", "pay/other"), VaultAnswer::Status(404));
    breaks(&run, Invariant::I09);
}

#[test]
fn a_mount_is_looked_up_for_a_source_of_it() {
    let known = VaultAnswer::Mount { kv: true, versions: true };
    let mut run = Run::new();
    run.call(Some(0), VaultCall::Mount("kv".into()), known.clone());
    keeps(&run, Invariant::I09);
    run.call(Some(0), VaultCall::Mount("old".into()), known);
    breaks(&run, Invariant::I09);
}

#[test]
fn a_token_is_our_own_and_stays_here() {
    let sent = |sent_to: &str, token| {
        let mut run = Run::ready();
        let call = metadata("kv", "pay/db");
        let answer = VaultAnswer::Unreached;
        let request = VaultRequest { sent_to: sent_to.into(), token, slot: Some(0), call, answer };
        run.wait(100).push(Event::Vault(request));
        run
    };
    keeps(&sent(ADDRESS, Some(1)), Invariant::I09);
    breaks(&sent(ADDRESS, Some(2)), Invariant::I09);
    breaks(&sent(ADDRESS, None), Invariant::I09);
    breaks(&sent("https://elsewhere:8200", Some(1)), Invariant::I09);
    breaks(&sent("https://elsewhere:8200", None), Invariant::I09);

    // A restart forgets what its predecessor was given.
    let mut run = Run::ready();
    run.idle(HOUR).restart().metadata(0);
    breaks(&run, Invariant::I09);
}

#[test]
fn gates_come_before_vault() {
    let late = GRACE + WATCH_LAG;
    let shut: [fn(&mut Run) -> &mut Run; 4] = [
        |run| run.edit(0, |spec| spec.suspend = true).tell(0),
        |run| run.change(WorldChange::Account(false)),
        |run| run.change(WorldChange::Terminating(true)),
        |run| run.change(WorldChange::Claimed { slot: 0, claimed: true }),
    ];
    for shut in shut {
        let mut run = Run::ready();
        shut(&mut run);
        run.wait(late).metadata(0);
        keeps(&run, Invariant::GatesFirst);
        run.wait(1).metadata(0);
        breaks(&run, Invariant::GatesFirst);
    }
}

#[test]
fn vault_is_not_read_for_what_cannot_be_stored() {
    let mut run = Run::ready();
    run.change(WorldChange::ApiServer(false)).wait(GRACE + WATCH_LAG).metadata(0);
    keeps(&run, Invariant::ApiFirst);
    run.wait(1).metadata(0);
    breaks(&run, Invariant::ApiFirst);
}

#[test]
fn a_server_that_is_down_is_asked_for_its_health_only() {
    let mut run = Run::ready();
    run.idle(HOUR).vault_is(VaultState::Sealed);
    run.metadata_answered(0, VaultAnswer::Status(503));
    run.wait(GRACE + 5).call(None, VaultCall::Health, VaultAnswer::Status(503));
    assert_eq!(crate::checker::check(&run.history), Vec::new());
    run.metadata_answered(0, VaultAnswer::Status(503));
    breaks(&run, Invariant::Breaker);

    // Whoever has not heard of it yet finds out.
    let mut run = Run::ready();
    run.idle(HOUR).vault_is(VaultState::Cut).wait(GRACE + 5).metadata_answered(0, VaultAnswer::Unreached);
    keeps(&run, Invariant::Breaker);
}

#[test]
fn a_token_serves_its_life() {
    let mut run = Run::ready();
    run.idle(TOKEN_LIFE / 3 * 2).login();
    keeps(&run, Invariant::I14);

    let mut run = Run::ready();
    run.idle(HOUR / 2).login();
    breaks(&run, Invariant::I14);

    let mut run = Run::ready();
    run.idle(HOUR / 2).change(WorldChange::TokensRevoked).metadata_answered(0, VaultAnswer::Status(403));
    run.call(None, VaultCall::LookupSelf, VaultAnswer::Status(403)).login().metadata(0);
    keeps(&run, Invariant::I14);

    let mut run = Run::ready();
    run.idle(HOUR / 2).metadata_answered(0, VaultAnswer::Status(403));
    run.call(None, VaultCall::LookupSelf, VaultAnswer::Fine).login();
    breaks(&run, Invariant::I14);
}

#[test]
fn a_refused_login_is_not_repeated_at_once() {
    let dead = || {
        let mut run = Run::ready();
        run.idle(HOUR / 2).change(WorldChange::TokensRevoked).metadata_answered(0, VaultAnswer::Status(403));
        run.call(None, VaultCall::LookupSelf, VaultAnswer::Status(403)).refused_login();
        run
    };
    let mut run = dead();
    run.wait(25).refused_login();
    keeps(&run, Invariant::I14);
    let mut run = dead();
    run.wait(24).refused_login();
    breaks(&run, Invariant::I14);
}

#[test]
fn logins_that_fail_are_few() {
    let failing = |times: usize| {
        let mut run = Run::ready();
        run.idle(HOUR);
        for _ in 0..times {
            run.wait(5).call(None, VaultCall::Login, VaultAnswer::Lost);
        }
        run
    };
    keeps(&failing(8), Invariant::I14);
    breaks(&failing(9), Invariant::I14);
}
