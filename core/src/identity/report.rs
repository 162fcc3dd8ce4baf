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
        gates,
        intent::{Intent, Rejection},
        renewal, requests, storm,
        triggers::Trigger,
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
    let is_told = !previous.conditions.is_empty() || world.progress.bought.is_some();
    if intent.deleting || world.is_blind() && is_told {
        return previous.clone();
    }
    let mut status = without_conditions(previous);
    status.observed_generation = Some(intent.generation);
    let stored = ours(intent, world);
    let leaf = stored.and_then(|stored| stored.leaf.as_ref());
    if let Some(leaf) = leaf {
        describe(&mut status, intent, world, leaf);
    }
    // A crash between the Secret and the status forgets the count, but not the new serial.
    let is_unrecorded = leaf
        .is_some_and(|leaf| status.serial != previous.serial && world.progress.bought.as_ref() != Some(&leaf.serial));
    let signed = world.progress.signed.saturating_add(i32::from(is_unrecorded));
    if signed > 0 {
        // A renewal that was due and is stored now; the status still speaks of the certificate before it.
        let renewed = status.serial != previous.serial && previous.renew_at.as_ref().is_some_and(|at| at.0 <= now);
        status.issues = storm::count(&previous.issues, signed, i32::from(renewed), now);
    }
    status.last_failure = last_failure(settled, previous, now);
    let is_answered = stored.is_some_and(|stored| requests::is_answered(intent, stored));
    if is_answered {
        status.last_handled_request.clone_from(&intent.requested);
    }
    let findings = findings(intent, world, settled, &previous.conditions, now);
    status.conditions = conditions(&findings, &previous.conditions, intent.generation, now);
    status
}

/// A status but for its conditions, which every pass finds anew.
fn without_conditions(previous: &ServiceIdentityStatus) -> ServiceIdentityStatus {
    ServiceIdentityStatus {
        observed_generation: previous.observed_generation,
        spiffe_id: previous.spiffe_id.clone(),
        serial: previous.serial.clone(),
        fingerprint: previous.fingerprint.clone(),
        authority: previous.authority.clone(),
        not_before: previous.not_before.clone(),
        not_after: previous.not_after.clone(),
        renew_at: previous.renew_at.clone(),
        revision: previous.revision,
        issues: previous.issues.clone(),
        last_failure: previous.last_failure.clone(),
        last_handled_request: previous.last_handled_request.clone(),
        conditions: Vec::new(),
    }
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
        Finding::kept(ConditionType::Ready, &previous.conditions),
        Finding::kept(ConditionType::Issued, &previous.conditions),
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
    if status.serial.as_deref() != Some(leaf.serial.as_str()) {
        status.revision = Some(status.revision.unwrap_or_default().saturating_add(1));
        status.serial = Some(leaf.serial.to_string());
    }
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
        accepted(intent, world, settled, previous),
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

fn accepted(intent: &Intent, world: &World, settled: &Settled, previous: &[Condition]) -> Finding {
    let no = |failure: &Failure| {
        Finding::new(ConditionType::Accepted, Verdict::False, failure.reason, failure.message.clone())
    };
    match &settled.outcome {
        Outcome::Held(hold) if speaks_of_the_spec(hold.failure.reason) => no(&hold.failure),
        Outcome::Held(_) if settled.due.is_none() => {
            // Whoever is suspended, say, was not asked for the trust domain, which may have gone meanwhile.
            if let Err(hold) = gates::admit(intent, world) {
                return no(&hold.failure);
            }
            // A verdict holds for the spec it was passed on, and for no later one.
            let same_spec = |one: &&Condition| one.observed_generation == Some(intent.generation);
            let same_spec: Vec<_> = previous.iter().filter(same_spec).cloned().collect();
            Finding::kept(ConditionType::Accepted, &same_spec)
        }
        Outcome::Held(_) | Outcome::Steady | Outcome::Failed { .. } => {
            Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, "the spec is understood and allowed")
        }
    }
}

/// Holds that decide whether the spec is accepted: what forbids a signature, from the trust domain to the storm guard.
fn speaks_of_the_spec(reason: Reason) -> bool {
    use Reason::{
        IssuanceThrottled, NameNotAllowed, ReservedName, ServiceAccountMissing, ServiceMissing, TTLNotAllowed,
        TargetClaimed, TargetImmutable, TargetNotOwned, TargetTypeMismatch, TrustDomainNotFound, TrustDomainNotReady,
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
            | IssuanceThrottled
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
        (_, Some(_), _) if waits_unnoticed => Finding::kept(ConditionType::Issued, previous),
        (_, _, Some(failure)) => finding(Verdict::False, failure.reason, failure.message.clone()),
        (_, _, None) => Finding::kept(ConditionType::Issued, previous),
    }
}

/// A certificate that is shorter than asked for, or whose `renewBefore` cannot be kept; one that is both says both.
///
/// The reason is then the one that the spec can mend; the other fact is in the message.
fn shortened(intent: &Intent, world: &World, leaf: &Leaf) -> Option<(Reason, String)> {
    let DomainView::Ready(domain) = &world.domain else { return None };
    let asked = intent.ttl.unwrap_or(domain.default_ttl);
    let got = std::time::Duration::from_secs(u64::try_from(renewal::lifetime(leaf)).unwrap_or_default());
    let shorter = (got < asked).then(|| {
        format!("asked {}, got {}; the issuer's limit applies", lifetime::format(asked), lifetime::format(got))
    });
    let too_long = renewal::point(&intent.uid, leaf, intent.renew_before).renew_before_too_long;
    let too_long = intent.renew_before.filter(|_| too_long).map(|before| {
        let before = lifetime::format(before);
        format!("renewBefore {before} is half the lifetime or more; the default renewal point is used")
    });
    match (shorter, too_long) {
        (None, None) => None,
        (Some(shorter), None) => Some((Reason::TTLShortened, shorter)),
        (None, Some(too_long)) => Some((Reason::RenewBeforeTooLong, too_long)),
        (Some(shorter), Some(too_long)) => Some((
            Reason::RenewBeforeTooLong,
            format!("{too_long}; the lifetime was shortened (TTLShortened: {shorter})"),
        )),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        api::Window,
        identity::{
            renewal::second,
            tests::shell::intent,
            world::{Memory, NamespaceView, Progress},
        },
    };

    /// A world in which `leaf` is stored, and this was obtained.
    fn world(leaf: &Leaf, progress: Progress) -> World {
        let stored = Stored {
            resource_version: "7".to_owned(),
            owner_uid: Some("uid".to_owned()),
            type_: "kubernetes.io/tls".to_owned(),
            immutable: false,
            leaf: Some(leaf.clone()),
            key: Some(leaf.spki.clone()),
            trusted: true,
            rendering: None,
            answered_request: None,
            data: BTreeMap::new(),
        };
        World {
            account_exists: true,
            namespace: NamespaceView::default(),
            services: BTreeMap::new(),
            cluster_domain: "cluster.local".to_owned(),
            domain: DomainView::NotReady,
            issuer_in_doubt: false,
            claimed_by: None,
            fenced: true,
            target: TargetView::Present(Box::new(stored)),
            target_read_at: second(0),
            memory: Memory::default(),
            progress,
        }
    }

    /// The counts of both windows, zero where there is none.
    fn counts(leaf: &Leaf, progress: Progress, previous: &ServiceIdentityStatus) -> [i32; 2] {
        let settled = Settled { outcome: Outcome::Steady, due: None, wake: None, carry: None };
        let status = report(&intent(), &world(leaf, progress), &settled, previous, leaf.not_before);
        [Window::TenMinutes, Window::Day]
            .map(|window| status.issues.iter().find(|one| one.window == window).map_or(0, |one| one.count))
    }

    #[test]
    fn a_signature_is_counted_once_whenever_it_is_found_to_be_stored() {
        let (leaf, nothing) = (Leaf::test("a1"), ServiceIdentityStatus::default());
        let bought = Progress { bought: Some(leaf.serial.clone()), ..Progress::default() };
        assert_eq!(counts(&leaf, Progress { signed: 1, ..bought.clone() }, &nothing), [1, 1], "bought and stored now");
        assert_eq!(counts(&leaf, Progress::default(), &nothing), [1, 1], "stored by a process that died");
        assert_eq!(counts(&leaf, bought, &nothing), [0, 0], "counted when it was bought, its write was lost");
        let told = ServiceIdentityStatus { serial: Some(leaf.serial.to_string()), ..nothing };
        assert_eq!(counts(&leaf, Progress::default(), &told), [0, 0], "nothing new");
    }

    #[test]
    fn a_renewal_that_was_due_and_is_stored_counts_in_the_ten_minutes_alone() {
        let (old, new) = (Leaf::test("a1"), Leaf::test("a2"));
        let told = |renew_at| ServiceIdentityStatus {
            serial: Some(old.serial.to_string()),
            renew_at: Some(Time(renew_at)),
            ..ServiceIdentityStatus::default()
        };
        let bought = |leaf: &Leaf| Progress { signed: 1, bought: Some(leaf.serial.clone()), ..Progress::default() };
        let (due, early) = (told(new.not_before), told(new.not_after));
        assert_eq!(counts(&new, bought(&new), &due), [1, 0], "due and stored");
        assert_eq!(counts(&new, bought(&new), &early), [1, 1], "before its time");
        assert_eq!(counts(&old, bought(&new), &due), [1, 1], "due, and not stored");
    }
}
