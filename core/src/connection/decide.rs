//! The next call to a server, or none: gates, health, login.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::Reason,
    connection::{
        intent::Intent,
        world::{self, CaView, CredentialView, Effect, Health, Outcome, Probed, Reply, ServerState, Settled, World},
    },
    fault::{Class, Failure},
    next::{Machine, Next, jittered},
};

/// The machine of `VaultConnection`.
#[derive(Debug, Clone, Copy)]
pub struct Connection;

impl Machine for Connection {
    type Intent = Intent;
    type World = World;
    type Effect = Effect;
    type Reply = Reply;
    type Settled = Settled;

    fn decide(intent: &Intent, world: &World, now: Timestamp) -> Next<Effect, Settled> {
        decide(intent, world, now)
    }

    fn absorb(world: World, reply: Reply) -> World {
        world::absorb(world, reply)
    }
}

/// Names the next call, or settles.
pub fn decide(intent: &Intent, world: &World, now: Timestamp) -> Next<Effect, Settled> {
    if intent.deleting {
        return Next::Settle(Settled { outcome: Outcome::Deleting, wake: None });
    }
    if let Some(failure) = GATES.iter().find_map(|gate| gate(intent, world, now)) {
        return Next::Settle(held(intent, failure, now));
    }
    let Some(probed) = world.health.as_ref().filter(|probed| !probe_due(intent, world, probed, now)) else {
        return Next::Do(Effect::Probe);
    };
    let next_probe = probe_at(intent, probed);
    if let Some(failure) = unusable(probed) {
        return Next::Settle(Settled { outcome: Outcome::Down(failure), wake: Some(next_probe) });
    }
    if login_due(intent, world, now) {
        return Next::Do(Effect::Login { generation: intent.generation });
    }
    let wake = [Some(next_probe), login_at(intent, world, now)].into_iter().flatten().min();
    Next::Settle(Settled { outcome: login_outcome(world, now), wake })
}

type Gate = fn(&Intent, &World, Timestamp) -> Option<Failure>;

/// What keeps us from asking the server at all, in order.
const GATES: &[Gate] = &[suspended, ca_unusable, credential_missing];

fn suspended(intent: &Intent, _: &World, _: Timestamp) -> Option<Failure> {
    let message = "spec.suspend is true; remove it to go on";
    intent.suspended.then(|| Failure::new(Class::Waiting, Reason::Suspended, message))
}

fn ca_unusable(_: &Intent, world: &World, now: Timestamp) -> Option<Failure> {
    let bad = |what: String| {
        let message = format!("spec.tls.ca: {what}; give PEM certificates of authorities");
        Some(Failure::new(Class::Invalid, Reason::CABundleInvalid, message))
    };
    match &world.ca {
        CaView::Found(roots) if roots.iter().all(|root| root.leaf.not_after < now) => {
            bad("every certificate has expired".to_owned())
        }
        CaView::NotNeeded | CaView::Found(_) => None,
        CaView::Bad(fault) => bad(fault.to_string()),
        CaView::Unread(failure) => Some(failure.clone()),
        CaView::Missing => {
            let message =
                "the object or key that spec.tls.ca names does not exist in the operator's namespace; create it";
            Some(Failure::new(Class::Waiting, Reason::SourceMissing, message))
        }
    }
}

fn credential_missing(_: &Intent, world: &World, _: Timestamp) -> Option<Failure> {
    match &world.credential {
        CredentialView::NotNeeded | CredentialView::Found => None,
        CredentialView::Unread(failure) => Some(failure.clone()),
        CredentialView::Missing => {
            let message =
                "the Secret or key that spec.auth names does not exist in the operator's namespace; create it";
            Some(Failure::new(Class::Waiting, Reason::SourceMissing, message))
        }
    }
}

fn held(intent: &Intent, failure: Failure, now: Timestamp) -> Settled {
    // A suspended object is woken by its next change, and by nothing else.
    let asleep = failure.reason == Reason::Suspended;
    let wake = (!asleep).then(|| after(now, failure.backoff(1, &intent.uid)));
    Settled { outcome: Outcome::Held(failure), wake }
}

/// How often a server that serves us is asked for its health, seconds ±20 % by UID.
const HEALTH_INTERVAL: u64 = 60;

fn probe_due(intent: &Intent, world: &World, probed: &Probed, now: Timestamp) -> bool {
    // A clock that was set back must not silence us: an answer from the future is none.
    probed.at > now
        || now >= probe_at(intent, probed)
        || (!world.probed && (is_requested(intent, world) || contradicted(world, probed)))
}

/// Whether others have found since that the server cannot serve us: the status must not wait to say so.
fn contradicted(world: &World, probed: &Probed) -> bool {
    let away = world.outage.as_ref().is_some_and(|failure| failure.class == Class::Unavailable);
    away && probed.failures == 0
}

/// When the next probe is due; a cause that says when to ask again is obeyed.
fn probe_at(intent: &Intent, probed: &Probed) -> Timestamp {
    let told = probed.result.as_ref().err().and_then(|failure| failure.retry_after);
    let seconds = match probed.failures {
        0 => HEALTH_INTERVAL,
        1 => 5,
        2 => 10,
        3 => 20,
        4 => 40,
        _ => 60,
    };
    let own = jittered(Duration::from_secs(seconds), &intent.uid);
    after(probed.at, told.map_or(own, |told| told.max(Duration::from_secs(1))))
}

/// Whether somebody asked for action now and was not answered yet.
pub(super) fn is_requested(intent: &Intent, world: &World) -> bool {
    intent.requested.is_some() && intent.requested != world.handled_request
}

fn unusable(probed: &Probed) -> Option<Failure> {
    let away = |reason, message: &str| Some(Failure::new(Class::Unavailable, reason, message));
    match &probed.result {
        Err(failure) => Some(failure.clone()),
        Ok(Health { state: ServerState::Serving, .. }) => None,
        Ok(Health { state: ServerState::Sealed, .. }) => away(Reason::VaultSealed, "the server is sealed; unseal it"),
        Ok(Health { state: ServerState::Uninitialised, .. }) => {
            away(Reason::VaultSealed, "the server is not initialised; initialise it")
        }
        Ok(Health { state: ServerState::RecoverySecondary, .. }) => away(
            Reason::VaultUnavailable,
            "the server is a secondary for disaster recovery; point spec.address at the primary",
        ),
    }
}

/// A person's request shortens the wait for another login to this.
const FORCED_LOGIN: Duration = Duration::from_secs(60);

fn login_due(intent: &Intent, world: &World, now: Timestamp) -> bool {
    login_at(intent, world, now).is_some_and(|at| at <= now)
}

/// When the next login or renewal is due; `None` = never.
fn login_at(intent: &Intent, world: &World, now: Timestamp) -> Option<Timestamp> {
    let wanted = match world.session {
        world::SessionView::Live { due, ends } if world.session.is_live(now) => {
            [due, ends].into_iter().flatten().min()?
        }
        world::SessionView::Live { .. } | world::SessionView::Absent => now,
    };
    // A changed spec is a new login, whatever happened to the old one.
    let last = world.login_failure.as_ref().filter(|last| last.generation == intent.generation && last.at <= now);
    Some(last.map_or(wanted, |last| {
        let wait = last.failure.backoff(last.attempts, &intent.uid);
        let wait = if is_requested(intent, world) { wait.min(FORCED_LOGIN) } else { wait };
        after(last.at, wait).max(wanted)
    }))
}

fn login_outcome(world: &World, now: Timestamp) -> Outcome {
    match &world.login_failure {
        Some(last) if !world.session.is_live(now) => Outcome::LoginFailed(last.failure.clone()),
        Some(_) | None => Outcome::Usable,
    }
}

/// `at + wait`, in whole seconds, rounded up so that no wake comes too early.
fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let seconds = i64::try_from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).unwrap_or(i64::MAX);
    Timestamp::from_second(at.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}
