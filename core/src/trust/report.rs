//! What the status of a `TrustDomain` says, from world and settlement alone.
//!
//! `Ready` says whether the pinned authority can sign, not whether the issuer answers just now: an
//! outage leaves it as it was, and identities go on waiting for their turn. Nothing in the status
//! moves by itself, so a domain at rest is never written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{Authority, AuthorityState, ConditionType, Finding, Reason, TrustDomainStatus, Verdict, conditions},
    fault::{Class, Failure},
    trust::{
        decide::is_requested,
        intent::Intent,
        rules::expiring_from,
        world::{Outcome, Settled, World},
    },
    value::{domain::FieldProblem, x509::Certificate},
};

/// The status after a pass.
///
/// To be written with the version of the object it was decided on: what is built on an old copy does not know what was
/// pinned since, and would erase it.
pub fn report(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    previous: &TrustDomainStatus,
    now: Timestamp,
) -> TrustDomainStatus {
    let mut status = previous.clone();
    let failure = match &settled.outcome {
        Outcome::Deleting => return status,
        Outcome::Ready { authority, looked } => {
            status.authorities = recorded(&previous.authorities, authority);
            if *looked && is_requested(intent, world) {
                status.last_handled_request.clone_from(&intent.requested);
            }
            None
        }
        Outcome::Held(failure) => Some(failure),
    };
    status.observed_generation = Some(intent.generation);
    let active = active(&status);
    let mut findings = vec![
        ready(failure, active.as_ref(), &previous.conditions, now),
        issuer_reachable(failure, &previous.conditions),
        accepted(failure),
    ];
    findings.extend(failure.filter(|failure| failure.reason != Reason::Suspended).and_then(Failure::progress));
    findings.extend(
        failure.filter(|failure| failure.reason == Reason::Suspended).map(|failure| {
            Finding::new(ConditionType::Suspended, Verdict::True, failure.reason, failure.message.clone())
        }),
    );
    findings.extend(active.as_ref().and_then(|active| expiring(intent, active, now)));
    status.conditions = conditions(&findings, &previous.conditions, intent.generation, now);
    status
}

/// The status of an object whose spec does not parse: what is pinned stays as it was.
pub fn rejected(
    problem: FieldProblem,
    generation: i64,
    previous: &TrustDomainStatus,
    now: Timestamp,
) -> TrustDomainStatus {
    let failure = Failure::new(Class::Invalid, Reason::InvalidSpec, problem.to_string());
    let mut findings = vec![
        Finding::kept(ConditionType::Ready, &previous.conditions),
        Finding::kept(ConditionType::IssuerReachable, &previous.conditions),
        false_because(ConditionType::Accepted, &failure),
    ];
    findings.extend(failure.progress());
    let mut status = previous.clone();
    status.observed_generation = Some(generation);
    status.conditions = conditions(&findings, &previous.conditions, generation, now);
    status
}

/// The authorities with this one as the active one; those that no longer sign stay.
fn recorded(before: &[Authority], active: &Authority) -> Vec<Authority> {
    let others = before.iter().filter(|other| other.state != AuthorityState::Active && other.id != active.id);
    std::iter::once(active).chain(others).cloned().collect()
}

fn active(status: &TrustDomainStatus) -> Option<Certificate> {
    let active = status.authorities.iter().find(|authority| authority.state == AuthorityState::Active)?;
    Certificate::parse_pem(&active.certificate).ok()
}

fn ready(failure: Option<&Failure>, active: Option<&Certificate>, previous: &[Condition], now: Timestamp) -> Finding {
    match (failure, active) {
        (None, Some(active)) => {
            let message = format!("the authority can sign until {}", active.leaf.not_after);
            Finding::new(ConditionType::Ready, Verdict::True, Reason::Valid, message)
        }
        // Nothing was ever pinned, or what was pinned cannot sign: waiting alone does not help.
        (Some(failure), active) if stops_signing(failure.reason) || active.is_none_or(|it| it.leaf.not_after < now) => {
            false_because(ConditionType::Ready, failure)
        }
        (Some(_) | None, _) => Finding::kept(ConditionType::Ready, previous),
    }
}

/// Reasons that say the domain cannot sign, as opposed to: not just now, or not known.
fn stops_signing(reason: Reason) -> bool {
    use Reason::{AuthorityLost, Expired, IssuerNotUsable, RoleNotFound, RootUnknown, TrustDomainConflict};
    matches!(reason, AuthorityLost | Expired | IssuerNotUsable | RoleNotFound | RootUnknown | TrustDomainConflict)
}

fn issuer_reachable(failure: Option<&Failure>, previous: &[Condition]) -> Finding {
    use Reason::{CABundleInvalid, SourceMissing, Suspended, TrustDomainConflict};
    match failure {
        None => {
            Finding::new(ConditionType::IssuerReachable, Verdict::True, Reason::IssuerReachable, "the issuer can sign")
        }
        // These keep us from asking and say nothing of the issuer.
        Some(failure)
            if matches!(failure.reason, CABundleInvalid | SourceMissing | Suspended | TrustDomainConflict) =>
        {
            Finding::kept(ConditionType::IssuerReachable, previous)
        }
        Some(failure) => false_because(ConditionType::IssuerReachable, failure),
    }
}

fn accepted(failure: Option<&Failure>) -> Finding {
    match failure {
        Some(failure) if failure.reason == Reason::TrustDomainConflict => {
            false_because(ConditionType::Accepted, failure)
        }
        Some(_) | None => {
            let message = "the spec is understood and allowed";
            Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, message)
        }
    }
}

fn expiring(intent: &Intent, active: &Certificate, now: Timestamp) -> Option<Finding> {
    (expiring_from(&active.leaf, &intent.rules) <= now).then(|| {
        let message = format!("the authority ends at {}; prepare a new trust domain", active.leaf.not_after);
        Finding::new(ConditionType::AuthorityExpiring, Verdict::True, Reason::AuthorityExpiring, message)
    })
}

fn false_because(kind: ConditionType, failure: &Failure) -> Finding {
    Finding::new(kind, Verdict::False, failure.reason, failure.message.clone())
}
