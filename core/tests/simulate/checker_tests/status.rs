//! What status says, what texts hold, and what happens in time.

use std::sync::Arc;

use countersign_core::api::{ConditionType, Reason, Verdict};

use super::{
    breaks, keeps,
    scene::{HOUR, RIVAL, Run, holds, request},
};
use crate::{checker::Invariant, history::*};

#[test]
fn a_status_is_not_written_again_unchanged() {
    let mut run = Run::issued();
    run.wait(60).tell_with(|status| status.conditions.push(holds(ConditionType::ExpiringSoon, Reason::ExpiringSoon)));
    keeps(&run, Invariant::I15);
    run.wait(60).tell();
    breaks(&run, Invariant::I15);
}

#[test]
fn a_status_whose_fate_is_unknown_may_be_written_again() {
    let mut run = Run::new();
    run.login().read();
    let leaf = run.sign();
    run.store(&leaf).tell_with(|status| status.answer_lost = true);
    run.wait(1).tell_with(|status| status.answer_lost = false);
    keeps(&run, Invariant::I15);
}

#[test]
fn ready_is_true() {
    keeps(&Run::issued(), Invariant::I26);

    // Somebody put another key into the Secret, and the status still praises it.
    let mut run = Run::issued();
    let mut mangled = (*run.target().unwrap().1).clone();
    mangled.content.tls_key = Some(KeyPair(77));
    let object = run.who.spec.secret;
    let by_user = KubeRequest { stored: Some(Arc::new(mangled)), ..request(Verb::Update, object) };
    run.wait(60).perform_by(Actor::User, by_user).read().tell_with(|status| status.issues = 0);
    breaks(&run, Invariant::I26);
}

#[test]
fn ready_speaks_of_the_generation_it_names() {
    let mut run = Run::issued();
    run.wait(60).edit(|spec| spec.services.clear()).read().tell();
    breaks(&run, Invariant::I26);

    // Refused as a whole, the last good output stays Ready.
    let mut run = Run::issued();
    run.wait(60).edit(|spec| spec.dns_names.push("*.com".into())).read().tell_with(|status| {
        status.conditions.retain(|one| one.kind != ConditionType::Accepted);
        status
            .conditions
            .push(Condition { verdict: Verdict::False, ..holds(ConditionType::Accepted, Reason::ReservedName) });
    });
    keeps(&run, Invariant::I26);
}

#[test]
fn an_expired_leaf_is_not_ready() {
    let mut run = Run::issued();
    run.mark(Mark::FaultsBegin).wait(25 * HOUR).mark(Mark::FaultsEnd).read().tell_with(|status| status.issues = 0);
    breaks(&run, Invariant::I26);
}

#[test]
fn status_tells_in_time() {
    let mut run = Run::new();
    run.wait(20).tell_with(|status| status.conditions.clear());
    run.wait(20).mark(Mark::End);
    keeps(&run, Invariant::I26);

    let mut run = Run::new();
    run.wait(40).mark(Mark::End);
    breaks(&run, Invariant::I26);

    // What is in the way does not count.
    let mut run = Run::new();
    run.change(WorldChange::ApiServer { up: false }).wait(300).change(WorldChange::ApiServer { up: true });
    run.wait(20).tell_with(|status| status.conditions.clear()).wait(60).mark(Mark::End);
    keeps(&run, Invariant::I26);
}

#[test]
fn a_refusal_is_told() {
    let refused = || {
        let mut run = Run::due();
        run.sign_for(|_| SignAnswer::Status(403));
        run
    };
    let mut run = refused();
    run.tell_with(|status| status.conditions.push(holds(ConditionType::Stalled, Reason::AccessDenied)));
    run.wait(60).mark(Mark::End);
    keeps(&run, Invariant::I26);

    let mut run = refused();
    run.wait(60).mark(Mark::End);
    breaks(&run, Invariant::I26);
}

#[test]
fn a_quarter_of_life_is_left() {
    let late = |outage: i64, wait: i64| {
        let mut run = Run::issued();
        run.wait(16 * HOUR).vault_is(VaultState::Cut).wait(outage).vault_is(VaultState::Up);
        run.wait(wait - outage).mark(Mark::End);
        run
    };
    breaks(&late(300, 3 * HOUR), Invariant::I30);
    keeps(&late(1_200, 3 * HOUR), Invariant::I30);
    let mut run = Run::due();
    run.issue().wait(HOUR).mark(Mark::End);
    keeps(&run, Invariant::I30);
}

#[test]
fn what_nobody_could_foresee_excuses_lateness() {
    let domain = |run: &Run| run.domain;
    let changes: [fn(ObjectId) -> Event; 2] = [
        |domain| Event::World(WorldChange::RoleLimit { domain, max_ttl: HOUR }),
        |_| Event::World(WorldChange::ClockStep { leader: 1, seconds: 20 * HOUR }),
    ];
    for change in changes {
        let mut run = Run::issued();
        let change = change(domain(&run));
        run.wait(17 * HOUR).user(change).wait(3 * HOUR).mark(Mark::End);
        keeps(&run, Invariant::I30);
    }
    // Nobody runs: nobody is late.
    let mut run = Run::issued();
    run.wait(HOUR).push(Event::Process(ProcessChange::Stopped)).wait(20 * HOUR).mark(Mark::End);
    keeps(&run, Invariant::I30);
}

#[test]
fn a_redirect_is_an_outage() {
    let mut run = Run::due();
    run.sign_for(|_| SignAnswer::Redirect("https://active.example".into()));
    run.tell_with(|status| status.conditions.push(holds(ConditionType::Reconciling, Reason::StandbyRedirect)));
    keeps(&run, Invariant::OutageIsNoAttempt);
    run.tell_with(|status| status.conditions.push(holds(ConditionType::Stalled, Reason::StandbyRedirect)));
    breaks(&run, Invariant::OutageIsNoAttempt);
}

#[test]
fn other_failures_than_outages_are_counted() {
    use FailureClass::{Bug, Conflict, Invalid, Throttled, Waiting};
    for class in [Invalid, Waiting, Throttled, Conflict, Bug] {
        let mut run = Run::due();
        run.sign_for(|_| SignAnswer::Unreached);
        let reason = Reason::TrustDomainNotReady;
        let failure =
            LastFailure { reason, class, attempts: 1, inputs: "".into(), message: "the domain is not ready".into() };
        run.tell_with(|status| status.last_failure = Some(failure));
        keeps(&run, Invariant::OutageIsNoAttempt);
    }
}

#[test]
fn an_outage_is_no_attempt() {
    let cut = |told: fn(&mut StatusWrite)| {
        let mut run = Run::due();
        run.vault_is(VaultState::Cut);
        run.sign_for(|_| SignAnswer::Unreached);
        run.tell_with(told);
        run
    };
    let failure = |class, reason| {
        Some(LastFailure {
            reason,
            class,
            attempts: 1,
            inputs: "".into(),
            message: "the issuer does not answer".into(),
        })
    };
    let reconciling = |status: &mut StatusWrite| {
        status.conditions.push(holds(ConditionType::Reconciling, Reason::IssuerUnavailable));
    };
    keeps(&cut(reconciling), Invariant::OutageIsNoAttempt);
    let stalled = |status: &mut StatusWrite| {
        status.conditions.push(holds(ConditionType::Stalled, Reason::IssuerUnavailable));
    };
    breaks(&cut(stalled), Invariant::OutageIsNoAttempt);
    breaks(&cut(|status| status.issues += 1), Invariant::OutageIsNoAttempt);
    for (class, reason) in
        [(FailureClass::Unavailable, Reason::VaultUnavailable), (FailureClass::Denied, Reason::AnswerRejected)]
    {
        let mut run = Run::due();
        run.vault_is(VaultState::Cut);
        run.sign_for(|_| SignAnswer::Unreached);
        run.tell_with(|status| status.last_failure = failure(class, reason));
        breaks(&run, Invariant::OutageIsNoAttempt);
    }

    // A refusal is one.
    let mut run = Run::due();
    run.sign_for(|_| SignAnswer::Unreached);
    run.wait(2).read().sign_for(|_| SignAnswer::Status(403));
    run.tell_with(|status| {
        status.last_failure = failure(FailureClass::Denied, Reason::AccessDenied);
        status.conditions.push(holds(ConditionType::Stalled, Reason::AccessDenied));
    });
    keeps(&run, Invariant::OutageIsNoAttempt);
}

#[test]
fn a_certificate_of_a_process_that_died_is_counted_by_whoever_finds_it() {
    let mut run = Run::new();
    run.login().read();
    let leaf = run.sign();
    run.store(&leaf).push(Event::Process(ProcessChange::Killed));
    run.process = RIVAL;
    run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken));
    // It cannot read the Secret at first, and says so.
    run.wait(10).tell_with(|status| {
        (status.serial, status.not_after, status.revision, status.issues) = (None, None, 0, 0);
        status.conditions.clear();
    });
    let find = |run: &mut Run, issues| {
        run.login().read().sign_for(|_| SignAnswer::Unreached);
        run.wait(60).tell_with(|status| status.issues = issues);
    };
    find(&mut run, 1);
    keeps(&run, Invariant::OutageIsNoAttempt);
    // Once counted it is counted.
    run.wait(16 * HOUR + 600);
    find(&mut run, 2);
    breaks(&run, Invariant::OutageIsNoAttempt);
}

#[test]
fn a_status_that_names_the_authority_at_last_is_news() {
    let mut run = Run::issued();
    run.wait(60).tell_with(|status| status.authority = Some("sha256:a".into()));
    keeps(&run, Invariant::I15);
    run.wait(60).tell();
    breaks(&run, Invariant::I15);
}

#[test]
fn no_foreign_text_in_status() {
    let told = |message: &'static str| {
        let mut run = Run::due();
        run.sign_for(|_| SignAnswer::Status(400));
        let condition = Condition { message: message.into(), ..holds(ConditionType::Stalled, Reason::RoleRefused) };
        run.tell_with(|status| status.conditions.push(condition));
        run
    };
    keeps(&told("the role refuses the request; ask the platform team"), Invariant::I23);
    breaks(&told("error: zebra-of-the-issuer is not allowed"), Invariant::I23);
    breaks(&told("logged in with hvs.zebra-token"), Invariant::I24);
}

#[test]
fn no_credential_in_any_line() {
    for sink in [Sink::Log, Sink::Event, Sink::Metric] {
        let line = |text: &'static str| Event::Text(TextLine { sink, text: text.into() });
        let mut run = Run::issued();
        run.push(line("issued pay/api, hvs.zebra is no token"));
        keeps(&run, Invariant::I24);
        run.push(line("X-Vault-Token: hvs.zebra-token"));
        breaks(&run, Invariant::I24);
    }
}

#[test]
fn a_panic_ends_no_process() {
    let mut run = Run::issued();
    keeps(&run, Invariant::I29);
    run.push(Event::Process(ProcessChange::Panicked));
    breaks(&run, Invariant::I29);
}
