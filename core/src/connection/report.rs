//! What the status of a `VaultConnection` says, from world and settlement alone.
//!
//! The server is asked once a minute and the login is renewed every hour or so; neither is a reason
//! to write. So numbers that move by themselves are published coarsely:
//! `clockSkew` is `0s` until the clocks differ by more than a minute, and then moves by whole
//! minutes; `tokenExpiresAt` keeps what it says as long as that is true in the careful direction
//! (it lies ahead, and the login lasts at least that long, but for a few seconds). A login that is renewed in time costs
//! one status write per token lifetime, a login that never ends none.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{ConditionType, Finding, Reason, VaultConnectionStatus, Verdict, conditions},
    connection::{
        decide::is_requested,
        intent::{Intent, Rejection},
        world::{Health, Outcome, ServerState, SessionView, Settled, World},
    },
    fault::{Class, Failure},
    value::lifetime,
};

/// The status after a pass.
pub fn report(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    previous: &VaultConnectionStatus,
    now: Timestamp,
) -> VaultConnectionStatus {
    if settled.outcome == Outcome::Deleting {
        return previous.clone();
    }
    let mut status = previous.clone();
    status.observed_generation = Some(intent.generation);
    if let Some(health) = answer(world) {
        status.product = Some(format!("{:?}", health.product));
        status.version = Some(health.version.clone());
        status.sealed = Some(is_sealed(health));
        status.clock_skew = Some(signed(published_skew(seconds(previous.clock_skew.as_deref()), health.skew)));
    }
    status.token_expires_at = token_end(world.session, previous.token_expires_at.as_ref(), now);
    if is_requested(intent, world) && world.probed {
        status.last_handled_request.clone_from(&intent.requested);
    }
    let findings = findings(world, settled, &status, &previous.conditions, now);
    status.conditions = conditions(&findings, &previous.conditions, intent.generation, now);
    status
}

/// The status of an object whose spec does not parse.
pub fn rejected(
    rejection: Rejection,
    generation: i64,
    previous: &VaultConnectionStatus,
    now: Timestamp,
) -> VaultConnectionStatus {
    let failure = Failure::new(Class::Invalid, rejection.reason(), rejection.message());
    let mut findings = vec![
        false_because(ConditionType::Ready, &failure),
        Finding::kept(ConditionType::Reachable, &previous.conditions),
        Finding::kept(ConditionType::Authenticated, &previous.conditions),
    ];
    findings.extend(failure.progress());
    let mut status = previous.clone();
    status.observed_generation = Some(generation);
    status.conditions = conditions(&findings, &previous.conditions, generation, now);
    status
}

fn answer(world: &World) -> Option<&Health> {
    world.health.as_ref().and_then(|probed| probed.result.as_ref().ok())
}

fn is_sealed(health: &Health) -> bool {
    match health.state {
        ServerState::Sealed | ServerState::Uninitialised => true,
        ServerState::Serving | ServerState::RecoverySecondary => false,
    }
}

fn findings(
    world: &World,
    settled: &Settled,
    status: &VaultConnectionStatus,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Finding> {
    let failure = match &settled.outcome {
        Outcome::Deleting | Outcome::Usable => None,
        Outcome::Held(failure) | Outcome::Down(failure) | Outcome::LoginFailed(failure) => Some(failure),
    };
    let mut findings = vec![
        failure.map_or_else(
            || Finding::new(ConditionType::Ready, Verdict::True, Reason::Authenticated, "the connection can be used"),
            |failure| false_because(ConditionType::Ready, failure),
        ),
        reachable(world, settled, previous),
        authenticated(world, settled, previous, now),
    ];
    findings.extend(failure.filter(|failure| failure.reason != Reason::Suspended).and_then(Failure::progress));
    findings.extend(
        failure
            .filter(|failure| failure.reason == Reason::Suspended)
            .map(|failure| true_because(ConditionType::Suspended, failure)),
    );
    findings.extend(
        answer(world)
            .filter(|health| is_sealed(health))
            .and(failure)
            .map(|failure| true_because(ConditionType::Sealed, failure)),
    );
    findings
        .extend([throttled(world, now), token_expiring(world, status, now), clock_skew(status)].into_iter().flatten());
    findings
}

fn reachable(world: &World, settled: &Settled, previous: &[Condition]) -> Finding {
    match (&settled.outcome, &world.health) {
        (Outcome::Held(_) | Outcome::Deleting, _) | (_, None) => Finding::kept(ConditionType::Reachable, previous),
        (_, Some(probed)) => match &probed.result {
            Ok(_) => Finding::new(ConditionType::Reachable, Verdict::True, Reason::Reachable, "the server answers"),
            Err(failure) => false_because(ConditionType::Reachable, failure),
        },
    }
}

/// An outage says nothing about the login: it stays as it was.
fn authenticated(world: &World, settled: &Settled, previous: &[Condition], now: Timestamp) -> Finding {
    match &settled.outcome {
        Outcome::Usable if world.session.is_live(now) => {
            Finding::new(ConditionType::Authenticated, Verdict::True, Reason::Authenticated, "the login works")
        }
        Outcome::LoginFailed(failure) if matches!(failure.class, Class::Denied | Class::Invalid) => {
            false_because(ConditionType::Authenticated, failure)
        }
        Outcome::Deleting | Outcome::Usable | Outcome::Held(_) | Outcome::Down(_) | Outcome::LoginFailed(_) => {
            Finding::kept(ConditionType::Authenticated, previous)
        }
    }
}

/// Being slowed down is normal for a moment.
const THROTTLED_AFTER: i64 = 60;

fn throttled(world: &World, now: Timestamp) -> Option<Finding> {
    let since = world.throttled_since.filter(|since| now.as_second() - since.as_second() >= THROTTLED_AFTER)?;
    let message = format!(
        "the server refuses requests because of their rate since {since}; raise its quota or lower spec.limits"
    );
    Some(Finding::new(ConditionType::Throttled, Verdict::True, Reason::Throttled, message))
}

/// The login still works, and will not for long unless somebody helps.
fn token_expiring(world: &World, status: &VaultConnectionStatus, now: Timestamp) -> Option<Finding> {
    let last = world.login_failure.as_ref().filter(|_| world.session.is_live(now))?;
    let end = status.token_expires_at.as_ref()?;
    let message = format!("the login ends at {} and could not be renewed: {}", end.0, last.failure.message);
    Some(Finding::new(ConditionType::TokenExpiring, Verdict::True, Reason::TokenExpiring, message))
}

fn clock_skew(status: &VaultConnectionStatus) -> Option<Finding> {
    let skew = seconds(status.clock_skew.as_deref());
    (skew != 0).then(|| {
        let message = format!("the server's clock minus ours is {}; correct one of them", signed(skew));
        Finding::new(ConditionType::ClockSkew, Verdict::True, Reason::ClockSkew, message)
    })
}

/// What the status says of the end of the login; see the module's text.
fn token_end(session: SessionView, published: Option<&Time>, now: Timestamp) -> Option<Time> {
    let SessionView::Live { ends: Some(ends), .. } = session else {
        // Gone or everlasting: there is no end to speak of.
        return None;
    };
    // The end is told from now and from what is left, both in whole seconds: it trembles, and the status must not.
    let tremble = |published: &&Time| published.0.as_second() - ends.as_second() <= TREMBLE;
    let holds = published.filter(|published| published.0 > now).filter(tremble);
    Some(holds.cloned().unwrap_or(Time(ends)))
}

/// So much later than the end may be what is published of it, in seconds.
const TREMBLE: i64 = 5;

/// Clocks that differ by no more than this, in seconds, agree.
const SKEW: i64 = 60;

/// Enters at more than a minute, leaves below half of one, moves by a minute: no flapping in between.
fn published_skew(published: i64, measured: i64) -> i64 {
    match published {
        0 if measured.abs() <= SKEW => 0,
        0 => measured,
        _ if measured.abs() < SKEW / 2 => 0,
        _ if (measured - published).abs() >= SKEW => measured,
        _ => published,
    }
}

fn signed(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    format!("{sign}{}", lifetime::format(Duration::from_secs(seconds.unsigned_abs())))
}

fn seconds(text: Option<&str>) -> i64 {
    let text = text.unwrap_or_default();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    lifetime::parse(digits).map_or(0, |skew| sign * i64::try_from(skew.as_secs()).unwrap_or(0))
}

fn false_because(kind: ConditionType, failure: &Failure) -> Finding {
    Finding::new(kind, Verdict::False, failure.reason, failure.message.clone())
}

fn true_because(kind: ConditionType, failure: &Failure) -> Finding {
    Finding::new(kind, Verdict::True, failure.reason, failure.message.clone())
}
