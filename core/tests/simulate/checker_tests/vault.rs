//! Logins, calls and signatures.

use std::sync::Arc;

use super::{
    breaks, keeps,
    scene::{ADDRESS, DAY, HOUR, LEADER, RIVAL, Run, request},
};
use crate::{checker::Invariant, history::*};

#[test]
fn one_login_for_many_signatures() {
    let mut run = Run::issued();
    for (name, uid) in [("web", 20), ("cart", 30), ("mail", 40)] {
        run.turn_to(name, uid).issue();
    }
    run.wait(HOUR).login();
    keeps(&run, Invariant::I14);
}

#[test]
fn a_login_for_each_signature() {
    let mut run = Run::issued();
    run.wait(5).turn_to("web", 20).login().issue();
    breaks(&run, Invariant::I14);
}

#[test]
fn a_dead_token_is_replaced_once() {
    let mut run = Run::issued();
    let connection = run.connection;
    run.wait(60).change(WorldChange::TokensRevoked(connection)).login();
    keeps(&run, Invariant::I14);
    run.login();
    breaks(&run, Invariant::I14);

    let mut run = Run::issued();
    run.wait(60).call(VaultCall::Lookup, VaultAnswer::Status(403)).login();
    keeps(&run, Invariant::I14);

    // A new process knows no token.
    let mut run = Run::issued();
    run.world(Event::Process(ProcessChange::Killed), LEADER);
    run.process = Process { epoch: 2, ..LEADER };
    run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken)).login();
    keeps(&run, Invariant::I14);
}

#[test]
fn a_refused_login_is_not_a_loop() {
    let retried = |after: i64| {
        let mut run = Run::new();
        run.tell_with(|status| status.conditions.clear());
        run.call(VaultCall::Login, VaultAnswer::Status(403)).wait(after).login();
        run
    };
    keeps(&retried(300), Invariant::I14);
    breaks(&retried(1), Invariant::I14);
}

#[test]
fn an_outage_costs_one_probe_at_a_time() {
    let probing = |every: i64, times: i64| {
        let mut run = Run::issued();
        run.wait(60).vault_is(VaultState::Sealed);
        for _ in 0..times {
            run.wait(every).call(VaultCall::Health, VaultAnswer::Status(503));
        }
        run
    };
    keeps(&probing(60, 60), Invariant::I14);
    breaks(&probing(1, 60), Invariant::I14);
}

#[test]
fn a_refused_signature_is_not_asked_for_all_the_time() {
    let asking = |every: i64, times: usize| {
        let mut run = Run::issued();
        run.wait(16 * HOUR + 600).login();
        for _ in 0..times {
            run.wait(every).read();
            run.sign_for(|_| SignAnswer::Status(403));
        }
        run
    };
    keeps(&asking(1, 2), Invariant::I14);
    breaks(&asking(1, 8), Invariant::I14);
}

#[test]
fn redirects_are_not_followed() {
    let mut run = Run::issued();
    run.wait(60).call(VaultCall::ReadIssuer, VaultAnswer::Redirect("https://evil.example".into()));
    keeps(&run, Invariant::I09);
    let connection = run.connection;
    let followed = VaultRequest {
        connection,
        sent_to: "https://evil.example".into(),
        call: VaultCall::ReadIssuer,
        answer: VaultAnswer::Fine,
    };
    run.push(Event::Vault(followed));
    breaks(&run, Invariant::I09);
}

#[test]
fn a_signature_is_asked_for_at_the_domains_own_place() {
    type Change = fn(&mut Text, &mut Text, &mut Text);
    let changes: [Change; 3] = [
        |_, mount, _| *mount = "pki_root".into(),
        |_, _, role| *role = "admin".into(),
        |sent_to, _, _| *sent_to = "https://other.example".into(),
    ];
    for change in changes {
        let mut run = Run::due();
        let mut path = run.path();
        if let SignPath::Vault { sent_to, mount, role, .. } = &mut path {
            change(sent_to, mount, role);
        }
        let leaf = run.sign_at(path, |leaf| SignAnswer::Honest(Arc::new(leaf)));
        run.store(&leaf);
        breaks(&run, Invariant::I09);
    }
}

#[test]
fn keys_are_never_made_by_vault() {
    for wrong in [SignEndpoint::Issue, SignEndpoint::SignVerbatim] {
        let mut run = Run::due();
        let mut path = run.path();
        if let SignPath::Vault { endpoint, .. } = &mut path {
            *endpoint = wrong;
        }
        let leaf = run.sign_at(path, |leaf| SignAnswer::Honest(Arc::new(leaf)));
        run.store(&leaf);
        breaks(&run, Invariant::N2);
    }
}

#[test]
fn a_changed_address_is_used_from_then_on() {
    let moved = |sent_to: &'static str| {
        let mut run = Run::issued();
        let object = run.connection;
        let address = Some("https://new.example".into());
        run.user(Event::Connection(ConnectionChange { object, address })).wait(90);
        let request = VaultRequest {
            connection: object,
            sent_to: sent_to.into(),
            call: VaultCall::Health,
            answer: VaultAnswer::Fine,
        };
        run.push(Event::Vault(request));
        run
    };
    keeps(&moved("https://new.example"), Invariant::I09);
    breaks(&moved(ADDRESS), Invariant::I09);
}

#[test]
fn gates_come_before_signatures() {
    let mut run = Run::due();
    let leaf = run.sign();
    run.store(&leaf).tell();
    keeps(&run, Invariant::GatesFirst);

    let mut run = Run::due();
    run.edit(|spec| spec.suspend = true).tell().wait(90).read();
    run.sign();
    breaks(&run, Invariant::GatesFirst);

    for object in [|run: &Run| run.who.spec.service_account, |run: &Run| run.who.spec.services[0]] {
        let mut run = Run::due();
        let object = object(&run);
        run.change(WorldChange::Present { object, present: false }).wait(90).read();
        run.sign();
        breaks(&run, Invariant::GatesFirst);
    }

    let mut run = Run::due();
    run.edited(IdentityEdit::Deleted).wait(90).read();
    run.sign();
    breaks(&run, Invariant::GatesFirst);
}

#[test]
fn the_target_is_read_before_a_signature() {
    let mut run = Run::due();
    run.wait(9);
    run.sign();
    keeps(&run, Invariant::TargetReadFirst);

    let mut run = Run::due();
    run.wait(11);
    run.sign();
    breaks(&run, Invariant::TargetReadFirst);

    // A target that is somebody else's could not be written.
    let mut run = Run::new();
    let object = run.who.spec.secret;
    run.perform_by(Actor::User, KubeRequest { stored: Some(Arc::default()), ..request(Verb::Create, object) });
    run.login().read();
    run.sign();
    breaks(&run, Invariant::TargetReadFirst);
}

#[test]
fn one_signature_for_one_decision() {
    let conflict = |run: &mut Run| {
        let (version, _) = run.target().unwrap();
        let sent = Preconditions { version: Some(version), uid: None };
        let object = run.who.spec.secret;
        run.request(KubeRequest { sent, outcome: Outcome::Conflict, ..request(Verb::Apply, object) });
    };
    let mut run = Run::due();
    let leaf = run.sign();
    conflict(&mut run);
    run.read().store(&leaf).tell();
    keeps(&run, Invariant::OneSignature);

    let mut run = Run::due();
    run.sign();
    conflict(&mut run);
    run.read();
    let second = run.sign();
    run.store(&second).tell();
    breaks(&run, Invariant::OneSignature);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let mut run = Run::due();
    run.sign_for(|_| SignAnswer::Lost);
    let leaf = run.wait(2).read().sign();
    run.store(&leaf).tell();
    keeps(&run, Invariant::OneSignature);

    let mut run = Run::due();
    run.sign();
    run.world(Event::Process(ProcessChange::Killed), LEADER);
    run.process = Process { epoch: 2, ..LEADER };
    run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken));
    run.login().read();
    let leaf = run.sign();
    run.store(&leaf).tell();
    keeps(&run, Invariant::OneSignature);
}

#[test]
fn what_needs_nothing_gets_no_signature() {
    let mut run = Run::issued();
    run.wait(2 * HOUR).login().read();
    run.sign();
    breaks(&run, Invariant::OneSignature);

    // An early renewal that its owner asked for.
    let mut run = Run::issued();
    run.edit(|spec| spec.renew_before = Some(20 * HOUR)).tell().wait(13 * HOUR).login().read();
    run.sign();
    breaks(&run, Invariant::OneSignature);
    let mut run = Run::issued();
    run.edit(|spec| spec.renew_before = Some(11 * HOUR)).tell().wait(13 * HOUR).login().read();
    run.sign();
    keeps(&run, Invariant::OneSignature);
}

#[test]
fn storms_are_held_back() {
    let forced = |times: usize, every: i64| {
        let mut run = Run::issued();
        run.wait(DAY / 2);
        for turn in 0..times {
            let (connection, request) = (run.connection, Text::from(format!("turn {turn}")));
            run.wait(every).edited(IdentityEdit::Requested(request.clone()));
            run.change(WorldChange::TokensRevoked(connection)).login();
            run.read();
            let leaf = run.sign();
            run.store(&leaf).tell_with(|status| status.last_handled_request = Some(request));
        }
        run
    };
    keeps(&forced(3, 60), Invariant::StormGuard);
    breaks(&forced(4, 60), Invariant::StormGuard);
    keeps(&forced(19, 900), Invariant::StormGuard);
    breaks(&forced(21, 900), Invariant::StormGuard);
}

#[test]
fn one_try_a_minute_is_forced_whoever_leads() {
    let forced = |seconds: i64, step: i64, heir: bool| {
        let mut run = Run::issued();
        run.wait(HOUR).login();
        for turn in ["first", "second"] {
            run.edited(IdentityEdit::Requested(turn.into())).read();
            let leaf = run.sign();
            run.store(&leaf).tell_with(|status| status.last_handled_request = Some(turn.into()));
            run.wait(seconds);
            if turn == "first" && heir {
                run.push(Event::Process(ProcessChange::Killed));
                run.process = RIVAL;
                run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken)).login();
            }
            if turn == "first" && step != 0 {
                run.change(WorldChange::ClockStep { leader: run.process.leader, seconds: step });
            }
        }
        run
    };
    for heir in [false, true] {
        keeps(&forced(60, 0, heir), Invariant::OneForcedTry);
        breaks(&forced(59, 0, heir), Invariant::OneForcedTry);
        keeps(&forced(40, 20, heir), Invariant::OneForcedTry);
        breaks(&forced(60, -1, heir), Invariant::OneForcedTry);
    }
}

#[test]
fn the_shortest_lives_are_renewed_more_than_twenty_times_a_day() {
    let mut run = Run::new();
    run.edit(|spec| spec.ttl = Some(HOUR)).login().issue();
    for _ in 0..40 {
        let connection = run.connection;
        run.wait(35 * 60).change(WorldChange::TokensRevoked(connection)).login().issue();
    }
    keeps(&run, Invariant::StormGuard);
}

#[test]
fn a_renewed_token_serves_on() {
    let renewed = |then: i64| {
        let mut run = Run::issued();
        run.wait(40 * 60).call(VaultCall::Renew, VaultAnswer::Token(HOUR)).wait(then).login();
        run
    };
    keeps(&renewed(HOUR), Invariant::I14);
    breaks(&renewed(30 * 60), Invariant::I14);
}

#[test]
fn a_login_without_answer_is_tried_again() {
    for answer in [VaultAnswer::Lost, VaultAnswer::Unreached, VaultAnswer::Status(503)] {
        let mut run = Run::new();
        run.call(VaultCall::Login, answer).wait(5).login().issue();
        keeps(&run, Invariant::I14);
    }
}
