//! What the status says: conditions, reasons and times, from the settlement alone.
//!
//! Nothing here decides anything, and an unchanged world reports an unchanged status: that is what
//! makes "write only what differs" enough to keep a steady cluster silent.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{ConditionType, Finding, LastFailure, Reason, ServiceIdentityStatus, Verdict, conditions},
    fault::{Class, Failure},
    identity::{
        intent::{Intent, Rejection},
        renewal, storm,
        triggers::{self, Trigger},
        world::{DomainView, Outcome, Settled, Stored, TargetView, World},
    },
    value::{lifetime, x509::Leaf},
};

/// The status after a pass.
pub fn report(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    previous: &ServiceIdentityStatus,
    now: Timestamp,
) -> ServiceIdentityStatus {
    // What could not be looked at must not be spoken of: the next look comes soon.
    let blind = matches!(&world.target, TargetView::Unread(why) if why.class != Class::Waiting);
    if intent.deleting || blind && !previous.conditions.is_empty() {
        return previous.clone();
    }
    let mut status = previous.clone();
    status.observed_generation = Some(intent.generation);
    let stored = ours(intent, world);
    let leaf = stored.and_then(|stored| stored.leaf.as_ref());
    if let Some(leaf) = leaf {
        describe(&mut status, intent, world, leaf);
    }
    // A crash between the Secret and the status forgets the count, but not the new serial.
    let unrecorded = i32::from(leaf.is_some() && status.serial != previous.serial);
    let signed = world.progress.signed.max(unrecorded);
    if signed > 0 {
        status.issues = storm::count(&previous.issues, signed, now);
    }
    status.last_failure = last_failure(settled, previous, now);
    let answered = stored.is_some_and(|stored| stored.answered_request == triggers::answered_request(intent));
    if answered && settled.outcome == Outcome::Steady && intent.requested.is_some() {
        status.last_handled_request.clone_from(&intent.requested);
    }
    let findings = findings(intent, world, settled, &previous.conditions, now);
    status.conditions = conditions(&findings, &previous.conditions, intent.generation, now);
    status
}

/// The status of an object whose spec does not parse: what is stored stays as it was.
pub fn rejected(
    rejection: &Rejection,
    generation: i64,
    previous: &ServiceIdentityStatus,
    now: Timestamp,
) -> ServiceIdentityStatus {
    let message = format!("{} {}; correct it", rejection.field, rejection.rule);
    let findings = [
        kept(ConditionType::Ready, &previous.conditions),
        kept(ConditionType::Issued, &previous.conditions),
        Finding::new(ConditionType::Accepted, Verdict::False, Reason::InvalidSpec, message.clone()),
        Finding::new(ConditionType::Stalled, Verdict::True, Reason::InvalidSpec, message),
    ];
    let mut status = previous.clone();
    status.observed_generation = Some(generation);
    status.conditions = conditions(&findings, &previous.conditions, generation, now);
    status
}

fn ours<'a>(intent: &Intent, world: &'a World) -> Option<&'a Stored> {
    match &world.target {
        TargetView::Present(stored) if stored.owner_uid.as_deref() == Some(intent.uid.as_str()) => Some(stored),
        TargetView::Present(_) | TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
    }
}

fn describe(status: &mut ServiceIdentityStatus, intent: &Intent, world: &World, leaf: &Leaf) {
    let serial = leaf.serial.to_string();
    if status.serial.as_deref() != Some(serial.as_str()) {
        status.revision = Some(status.revision.unwrap_or_default().saturating_add(1));
    }
    status.serial = Some(serial);
    status.spiffe_id = leaf.names.uris.first().cloned();
    status.fingerprint = Some(leaf.fingerprint.to_string());
    if let DomainView::Ready(domain) = &world.domain
        && leaf.authority_key_id.as_deref() == Some(domain.active.subject_key_id.as_slice())
    {
        status.authority = Some(domain.active.id.clone());
    }
    status.not_before = Some(Time(leaf.not_before));
    status.not_after = Some(Time(leaf.not_after));
    status.renew_at = Some(Time(renewal::point(&intent.uid, leaf, intent.renew_before).at));
}

fn last_failure(settled: &Settled, previous: &ServiceIdentityStatus, now: Timestamp) -> Option<LastFailure> {
    match &settled.outcome {
        Outcome::Steady => None,
        Outcome::Failed { failure, counted: Some(counted) } => Some(LastFailure {
            reason: failure.reason,
            class: failure.class,
            at: Time(now),
            attempts: counted.attempts,
            message: failure.message.clone(),
            inputs: counted.inputs.clone(),
        }),
        Outcome::Failed { counted: None, .. } | Outcome::Held(_) => previous.last_failure.clone(),
    }
}

fn findings(intent: &Intent, world: &World, settled: &Settled, previous: &[Condition], now: Timestamp) -> Vec<Finding> {
    let failure = match &settled.outcome {
        Outcome::Steady => None,
        Outcome::Held(hold) => Some(&hold.failure),
        Outcome::Failed { failure, .. } => Some(failure),
    };
    let mut findings = vec![
        ready(intent, world, settled, now),
        accepted(settled, previous, intent.generation),
        issued(intent, world, settled, failure, previous),
    ];
    findings.extend(failure.and_then(progress));
    findings
        .extend(failure.filter(|f| f.reason == Reason::Suspended).map(|f| true_because(ConditionType::Suspended, f)));
    findings.extend(
        failure.filter(|f| f.reason == Reason::FieldConflict).map(|f| true_because(ConditionType::FieldConflict, f)),
    );
    findings.extend(
        ours(intent, world)
            .and_then(|stored| stored.leaf.as_ref())
            .into_iter()
            .flat_map(|leaf| ageing(intent, leaf, now)),
    );
    findings
}

/// Whether the material that is stored is good; not whether the last attempt worked.
fn ready(intent: &Intent, world: &World, settled: &Settled, now: Timestamp) -> Finding {
    let no = |reason, message: String| Finding::new(ConditionType::Ready, Verdict::False, reason, message);
    let name = &intent.target.name;
    let stored = match &world.target {
        TargetView::Unread(why) => {
            return Finding::new(ConditionType::Ready, Verdict::Unknown, why.reason, why.message.clone());
        }
        TargetView::Absent => return no(Reason::SecretMissing, format!("secret \"{name}\" does not exist yet")),
        TargetView::Foreign => {
            return no(Reason::TargetNotOwned, format!("secret \"{name}\" is not managed by this object"));
        }
        TargetView::Present(stored) => stored,
    };
    if stored.owner_uid.as_deref() != Some(intent.uid.as_str()) {
        return no(Reason::TargetNotOwned, format!("secret \"{name}\" is not managed by this object"));
    }
    let (Some(leaf), Some(key)) = (&stored.leaf, &stored.key) else {
        return no(Reason::SecretMissing, format!("secret \"{name}\" holds no readable certificate and key"));
    };
    if *key != leaf.spki {
        return no(Reason::KeyMismatch, format!("the key in secret \"{name}\" does not belong to its certificate"));
    }
    if leaf.not_after <= now {
        return no(Reason::Expired, format!("the certificate ended at {}", leaf.not_after));
    }
    if !stored.trusted {
        return no(
            Reason::NotTrusted,
            "the stored certificate does not verify against the trust domain's roots".to_owned(),
        );
    }
    if matches!(settled.due, Some(Trigger::NamesChanged | Trigger::KeyPolicyChanged)) {
        return no(Reason::OutOfDate, "the stored certificate is valid but not what the spec asks for yet".to_owned());
    }
    let message = format!("the certificate is valid until {}", leaf.not_after);
    Finding::new(ConditionType::Ready, Verdict::True, Reason::Valid, message)
}

fn accepted(settled: &Settled, previous: &[Condition], generation: i64) -> Finding {
    match &settled.outcome {
        Outcome::Held(hold) if speaks_of_the_spec(hold.failure.reason) => {
            Finding::new(ConditionType::Accepted, Verdict::False, hold.failure.reason, hold.failure.message.clone())
        }
        // A verdict holds for the spec it was passed on, and for no later one.
        Outcome::Held(_) if settled.due.is_none() => {
            let same_spec: Vec<_> =
                previous.iter().filter(|one| one.observed_generation == Some(generation)).cloned().collect();
            kept(ConditionType::Accepted, &same_spec)
        }
        Outcome::Held(_) | Outcome::Steady | Outcome::Failed { .. } => {
            Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, "the spec is understood and allowed")
        }
    }
}

/// Holds that say the spec cannot be carried out as it stands.
fn speaks_of_the_spec(reason: Reason) -> bool {
    use Reason::{
        NameNotAllowed, ReservedName, ServiceAccountMissing, ServiceMissing, TTLNotAllowed, TargetClaimed,
        TargetImmutable, TargetNotOwned, TargetTypeMismatch, TrustDomainNotFound, TrustDomainNotReady,
    };
    matches!(
        reason,
        TrustDomainNotFound
            | TrustDomainNotReady
            | ServiceAccountMissing
            | ServiceMissing
            | NameNotAllowed
            | ReservedName
            | TTLNotAllowed
            | TargetNotOwned
            | TargetClaimed
            | TargetImmutable
            | TargetTypeMismatch
    )
}

fn issued(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    failure: Option<&Failure>,
    previous: &[Condition],
) -> Finding {
    let finding = |verdict, reason, message: String| Finding::new(ConditionType::Issued, verdict, reason, message);
    let leaf = ours(intent, world).and_then(|stored| stored.leaf.as_ref());
    let waits_unnoticed = settled.due.is_none_or(Trigger::is_plain_renewal);
    match (&settled.outcome, leaf, failure) {
        (Outcome::Steady, Some(leaf), _) => shortened(intent, world, leaf).map_or_else(
            || finding(Verdict::True, Reason::Issued, "the certificate asked for is stored".to_owned()),
            |(reason, message)| finding(Verdict::True, reason, message),
        ),
        (Outcome::Failed { counted: Some(_), .. }, _, Some(failure)) => {
            finding(Verdict::False, failure.reason, failure.message.clone())
        }
        (_, Some(_), _) if waits_unnoticed => kept(ConditionType::Issued, previous),
        (_, _, Some(failure)) => finding(Verdict::False, failure.reason, failure.message.clone()),
        (_, _, None) => kept(ConditionType::Issued, previous),
    }
}

/// A certificate that is shorter than asked for, or whose `renewBefore` cannot be kept.
fn shortened(intent: &Intent, world: &World, leaf: &Leaf) -> Option<(Reason, String)> {
    let DomainView::Ready(domain) = &world.domain else { return None };
    let asked = intent.ttl.unwrap_or(domain.default_ttl);
    let got = std::time::Duration::from_secs(u64::try_from(renewal::lifetime(leaf)).unwrap_or_default());
    if got < asked {
        let message =
            format!("asked {}, got {}; the issuer's limit applies", lifetime::format(asked), lifetime::format(got));
        return Some((Reason::TTLShortened, message));
    }
    renewal::point(&intent.uid, leaf, intent.renew_before).renew_before_too_long.then(|| {
        (
            Reason::RenewBeforeTooLong,
            "renewBefore is half the lifetime or more; the default renewal point is used".to_owned(),
        )
    })
}

/// The kstatus pair: work goes on by itself, or a person must act.
fn progress(failure: &Failure) -> Option<Finding> {
    match failure.class {
        _ if matches!(failure.reason, Reason::Suspended | Reason::Deleting) => None,
        Class::Invalid | Class::Denied | Class::Bug => Some(true_because(ConditionType::Stalled, failure)),
        Class::Waiting | Class::Throttled | Class::Unavailable => {
            Some(true_because(ConditionType::Reconciling, failure))
        }
        // A lost race is over before anybody could read about it.
        Class::Conflict => None,
    }
}

fn true_because(kind: ConditionType, failure: &Failure) -> Finding {
    Finding::new(kind, Verdict::True, failure.reason, failure.message.clone())
}

/// The negative conditions that time alone brings.
fn ageing(intent: &Intent, leaf: &Leaf, now: Timestamp) -> Vec<Finding> {
    let point = renewal::point(&intent.uid, leaf, intent.renew_before);
    let overdue = (now >= renewal::overdue_at(leaf, point)).then(|| {
        let message = format!("the certificate should have been renewed at {}", point.at);
        Finding::new(ConditionType::RenewalOverdue, Verdict::True, Reason::RenewalOverdue, message)
    });
    let ending = (now >= renewal::expiring_soon_at(leaf) && now < leaf.not_after).then(|| {
        let message = format!("the certificate ends at {}", leaf.not_after);
        Finding::new(ConditionType::ExpiringSoon, Verdict::True, Reason::ExpiringSoon, message)
    });
    overdue.into_iter().chain(ending).collect()
}

/// A condition this pass learned nothing about: as it was, or `Unknown/Pending`.
fn kept(kind: ConditionType, previous: &[Condition]) -> Finding {
    let name = format!("{kind:?}");
    let unknown = || Finding::new(kind, Verdict::Unknown, Reason::Pending, "not known yet");
    previous.iter().find(|condition| condition.type_ == name).map_or_else(unknown, |condition| {
        let verdict = match condition.status.as_str() {
            "True" => Verdict::True,
            "False" => Verdict::False,
            _ => Verdict::Unknown,
        };
        let reason = Reason::ALL
            .iter()
            .find(|reason| format!("{reason:?}") == condition.reason)
            .copied()
            .unwrap_or(Reason::Pending);
        Finding::new(kind, verdict, reason, condition.message.clone())
    })
}
