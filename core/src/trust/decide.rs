//! The next call for a trust domain, or none: what stands before both kinds of issuer.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::Reason,
    fault::{Class, Failure},
    next::{Machine, Next},
    trust::{
        embedded,
        intent::{Intent, Issuer},
        vault,
        world::{self, Attempt, Effect, Outcome, Reply, Settled, World},
    },
};

/// The machine of `TrustDomain`.
#[derive(Debug, Clone, Copy)]
pub struct Trust;

impl Machine for Trust {
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
        return Next::Settle(Settled { outcome: Outcome::Deleting, attempt: None, wake: None });
    }
    if intent.suspended {
        let failure = Failure::new(Class::Waiting, Reason::Suspended, "spec.suspend is true; remove it to go on");
        return Next::Settle(Settled { outcome: Outcome::Held(failure), attempt: world.attempt.clone(), wake: None });
    }
    if let Some(older) = &world.namesake {
        return held(intent, world, conflict(intent, older), now);
    }
    if let Some(failure) = &world.found.failure {
        return held(intent, world, failure.clone(), now);
    }
    match &intent.issuer {
        Issuer::Embedded { key, lifetime } => embedded::decide(intent, world, *key, *lifetime, now),
        Issuer::Vault(pki) => vault::decide(intent, world, pki, now),
    }
}

fn conflict(intent: &Intent, older: &str) -> Failure {
    let message =
        format!("TrustDomain {older} is older and has the same spec.name {}; delete one of the two", intent.rules.name);
    Failure::new(Class::Invalid, Reason::TrustDomainConflict, message)
}

/// Settles with a failure: it is counted against the spec it happened with, and tried again by its class.
pub(super) fn held(intent: &Intent, world: &World, failure: Failure, now: Timestamp) -> Next<Effect, Settled> {
    let before = world.attempt.as_ref().filter(|last| last.generation == intent.generation && last.at <= now);
    let same = before.filter(|last| last.failure.reason == failure.reason);
    let attempts = same.map_or(0, |last| last.attempts).saturating_add(1);
    let wake = after(now, failure.backoff(attempts, &intent.uid));
    let attempt = Attempt { at: now, attempts, generation: intent.generation, failure: failure.clone() };
    Next::Settle(Settled { outcome: Outcome::Held(failure), attempt: Some(attempt), wake: Some(wake) })
}

/// Whether somebody asked for action now and was not answered yet.
pub(super) fn is_requested(intent: &Intent, world: &World) -> bool {
    intent.requested.is_some() && intent.requested != world.memory.handled_request
}

/// `at + wait`, in whole seconds, rounded up so that no wake comes too early.
pub(super) fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let seconds = i64::try_from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).unwrap_or(i64::MAX);
    Timestamp::from_second(at.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

/// When time alone changes what is true of an authority that signs: it gets close to its end, or ends.
pub(super) fn next_boundary(
    intent: &Intent,
    authority: &crate::value::x509::Leaf,
    now: Timestamp,
) -> Option<Timestamp> {
    let end = after(authority.not_after, Duration::from_secs(1));
    [crate::trust::rules::expiring_from(authority, &intent.rules), end].into_iter().filter(|at| *at > now).min()
}

/// An authority that has ended signs no more.
pub(super) fn ended(authority: &crate::value::x509::Leaf) -> Failure {
    let message = format!("the authority ended at {}; make a new trust domain", authority.not_after);
    Failure::new(Class::Invalid, Reason::Expired, message)
}
