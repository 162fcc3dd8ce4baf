//! What the status says: conditions, reasons and sources, from the settlement alone.
//!
//! An unchanged world reports an unchanged status, so a refresh that finds nothing new writes nothing: the time of the
//! last look is written only beside another change, or when it is old.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        ConditionType, Finding, Reason, RefreshMode, SecretBindingStatus, SourceStatus, Verdict, WrittenSecret,
        conditions,
    },
    binding::{
        gates,
        hashes::rendering,
        intent::Intent,
        origin,
        rejection::Rejection,
        triggers::is_as_written,
        world::{Outcome, Settled, SourceFinding, TargetView, World},
    },
    fault::{Class, Failure},
};

/// How old the time of the last look may become in the status, at least.
const OLD: i64 = 6 * 3_600;

/// The status after a pass.
pub fn report(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    previous: &SecretBindingStatus,
    now: Timestamp,
) -> SecretBindingStatus {
    if intent.deleting || world.is_blind() && !previous.conditions.is_empty() {
        return previous.clone();
    }
    let mut status = SecretBindingStatus {
        observed_generation: Some(intent.generation),
        secret: written(intent, world, previous, now),
        sources: sources(intent, world, settled, previous, now),
        last_handled_request: settled.memory.handled.clone(),
        conditions: Vec::new(),
    };
    let findings = findings(intent, world, settled, &previous.conditions, now);
    status.conditions = conditions(&findings, &previous.conditions, intent.generation, now);
    keep_times(intent, &mut status, previous, now);
    status
}

/// The status of an object whose spec does not parse: what is stored stays as it was.
pub fn rejected(
    rejection: &Rejection,
    generation: i64,
    previous: &SecretBindingStatus,
    now: Timestamp,
) -> SecretBindingStatus {
    let message = format!("{} {}; correct it", rejection.field, rejection.rule);
    let findings = [
        Finding::kept(ConditionType::Ready, &previous.conditions),
        Finding::kept(ConditionType::Synced, &previous.conditions),
        Finding::new(ConditionType::Accepted, Verdict::False, Reason::InvalidSpec, message.clone()),
        Finding::new(ConditionType::Stalled, Verdict::True, Reason::InvalidSpec, message),
    ];
    let mut status = previous.clone();
    status.observed_generation = Some(generation);
    status.conditions = conditions(&findings, &previous.conditions, generation, now);
    status
}

fn written(intent: &Intent, world: &World, previous: &SecretBindingStatus, now: Timestamp) -> Option<WrittenSecret> {
    let Some(stored) = world.ours(&intent.uid) else { return previous.secret.clone() };
    let content_hash = stored.content.clone()?;
    let since = previous.secret.as_ref().filter(|before| before.content_hash == content_hash);
    let changed_at = since.map_or(Time(now), |before| before.changed_at.clone());
    Some(WrittenSecret { name: intent.target.name.clone(), content_hash, changed_at })
}

fn sources(
    intent: &Intent,
    world: &World,
    settled: &Settled,
    previous: &SecretBindingStatus,
    now: Timestamp,
) -> Vec<SourceStatus> {
    let read = match &settled.outcome {
        Outcome::Steady { read } | Outcome::Failed { read, .. } => read.as_slice(),
        Outcome::Held(_) => &[],
    };
    // What the Secret was made of is on the Secret; whoever was to write it here may have died.
    let origin = world.ours(&intent.uid).and_then(|stored| stored.origin.as_deref()).unwrap_or_default();
    let in_secret = |name: &str| origin::parse(origin).find(|one| one.name == name).map(|one| one.version);
    let known = |name: &str| previous.sources.iter().find(|source| source.name == name);
    let kept = |source: &SourceStatus| SourceStatus {
        version: in_secret(&source.name).unwrap_or(source.version),
        ..source.clone()
    };
    let one = |found: &SourceFinding| {
        // What is in the Secret stays in it until another version is written.
        let is_current = found.phase == crate::api::SourcePhase::Current;
        let version = if is_current { found.version } else { known(&found.name).map(kept).and_then(|one| one.version) };
        SourceStatus { name: found.name.clone(), version, phase: found.phase, checked_at: Some(Time(now)) }
    };
    if read.is_empty() {
        return intent.sources.iter().filter_map(|source| known(&source.name).map(kept)).collect();
    }
    read.iter().map(one).collect()
}

/// Keeps the times of an otherwise unchanged status while they are young.
fn keep_times(intent: &Intent, status: &mut SecretBindingStatus, previous: &SecretBindingStatus, now: Timestamp) {
    let every = i64::try_from(intent.every.as_secs()).unwrap_or(OLD);
    let old = OLD.max(every.saturating_mul(10));
    let is_young = |time: &Option<Time>| time.as_ref().is_some_and(|at| now.as_second() - at.0.as_second() < old);
    let mut as_before = status.clone();
    for source in &mut as_before.sources {
        let before = previous.sources.iter().find(|before| before.name == source.name);
        if let Some(before) = before.filter(|before| is_young(&before.checked_at)) {
            source.checked_at.clone_from(&before.checked_at);
        }
    }
    if as_before == *previous {
        *status = as_before;
    }
}

fn findings(intent: &Intent, world: &World, settled: &Settled, previous: &[Condition], now: Timestamp) -> Vec<Finding> {
    let failure = match &settled.outcome {
        Outcome::Steady { .. } => None,
        Outcome::Held(failure) | Outcome::Failed { failure, .. } => Some(failure),
    };
    let synced = synced(intent, settled, previous);
    let mut findings = vec![ready(intent, world), synced.clone(), accepted(intent, world, failure, previous)];
    findings.extend(failure.filter(|f| !sleeps(f)).and_then(Failure::progress));
    let because = |kind, failure: &Failure| Finding::new(kind, Verdict::True, failure.reason, failure.message.clone());
    findings.extend(stale(intent, &synced, previous, now));
    findings.extend(failure.filter(|f| is_missing(f.reason)).map(|f| because(ConditionType::SourceMissing, f)));
    findings.extend(
        failure.filter(|f| f.reason == Reason::FieldConflict).map(|f| because(ConditionType::FieldConflict, f)),
    );
    findings.extend(failure.filter(|f| f.reason == Reason::Suspended).map(|f| because(ConditionType::Suspended, f)));
    findings
}

/// Whether the Secret is what the spec asks for, made of one round of reads; not whether the last refresh worked.
fn ready(intent: &Intent, world: &World) -> Finding {
    let no = |reason, message: String| Finding::new(ConditionType::Ready, Verdict::False, reason, message);
    let name = &intent.target.name;
    let foreign = || no(Reason::TargetNotOwned, format!("secret \"{name}\" is not managed by this object"));
    let stored = match &world.target {
        TargetView::Unread(why) => {
            return Finding::new(ConditionType::Ready, Verdict::Unknown, why.reason, why.message.clone());
        }
        TargetView::Absent => return no(Reason::SecretMissing, format!("secret \"{name}\" does not exist yet")),
        TargetView::Foreign => return foreign(),
        TargetView::Present(stored) if stored.owner_uid.as_deref() != Some(intent.uid.as_str()) => return foreign(),
        TargetView::Present(stored) => stored,
    };
    // Who may no longer read keeps what was read; whether it is what the spec asks for was said before.
    if let Ok(admitted) = gates::admit(intent, world)
        && stored.rendering.as_deref() != Some(rendering(intent, &admitted).as_str())
    {
        return no(Reason::OutOfDate, format!("secret \"{name}\" is not what the spec asks for yet"));
    }
    if intent.mode != RefreshMode::Once
        && let Ok(key) = &world.key
        && !is_as_written(stored, key)
    {
        return no(Reason::Drifted, format!("the content of secret \"{name}\" is not what was written"));
    }
    Finding::new(ConditionType::Ready, Verdict::True, Reason::Valid, format!("secret \"{name}\" is whole"))
}

fn synced(intent: &Intent, settled: &Settled, previous: &[Condition]) -> Finding {
    let kind = ConditionType::Synced;
    match &settled.outcome {
        Outcome::Steady { read } if read.is_empty() && intent.mode != RefreshMode::Once => {
            let same_spec: Vec<_> =
                previous.iter().filter(|one| one.observed_generation == Some(intent.generation)).cloned().collect();
            let kept = Finding::kept(kind, &same_spec);
            if kept.verdict == Verdict::Unknown {
                // Nothing was due, and the Secret is as it was written: the refresh before this process was the last.
                return Finding::new(kind, Verdict::True, Reason::Synced, "the Secret holds what was last read");
            }
            kept
        }
        Outcome::Steady { .. } => {
            Finding::new(kind, Verdict::True, Reason::Synced, "the Secret holds what was last read")
        }
        Outcome::Held(failure) if sleeps(failure) => Finding::kept(kind, previous),
        Outcome::Held(failure) | Outcome::Failed { failure, .. } => {
            Finding::new(kind, Verdict::False, failure.reason, failure.message.clone())
        }
    }
}

fn accepted(intent: &Intent, world: &World, failure: Option<&Failure>, previous: &[Condition]) -> Finding {
    let no = |failure: &Failure| {
        Finding::new(ConditionType::Accepted, Verdict::False, failure.reason, failure.message.clone())
    };
    if let Err(refused) = gates::admit(intent, world) {
        return no(&refused);
    }
    match failure {
        Some(failure) if speaks_of_the_spec(failure) => no(failure),
        Some(failure) if sleeps(failure) => {
            let same_spec: Vec<_> =
                previous.iter().filter(|one| one.observed_generation == Some(intent.generation)).cloned().collect();
            Finding::kept(ConditionType::Accepted, &same_spec)
        }
        Some(_) | None => {
            Finding::new(ConditionType::Accepted, Verdict::True, Reason::Accepted, "the spec is understood and allowed")
        }
    }
}

/// Failures that a change of the spec, the grant or the target mends.
fn speaks_of_the_spec(failure: &Failure) -> bool {
    use Reason::{
        KeyCollision, NotKv, RemoteVersionMissing, TargetClaimed, TargetImmutable, TargetNotOwned, TargetTypeMismatch,
    };
    failure.class == Class::Invalid
        || matches!(
            failure.reason,
            KeyCollision
                | NotKv
                | RemoteVersionMissing
                | TargetClaimed
                | TargetImmutable
                | TargetNotOwned
                | TargetTypeMismatch
        )
}

/// Holds that are somebody's wish, and no trouble.
fn sleeps(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::Suspended | Reason::Deleting)
}

fn is_missing(reason: Reason) -> bool {
    use Reason::{MountMissing, RemoteDeleted, RemoteKeyMissing, RemoteMissing, RemoteVersionMissing};
    matches!(reason, MountMissing | RemoteDeleted | RemoteKeyMissing | RemoteMissing | RemoteVersionMissing)
}

/// Refreshes have failed for twice the time between two of them.
fn stale(intent: &Intent, synced: &Finding, previous: &[Condition], now: Timestamp) -> Option<Finding> {
    if synced.verdict != Verdict::False || intent.mode != RefreshMode::Auto {
        return None;
    }
    let since = previous.iter().find(|one| one.type_ == ConditionType::Synced.name() && one.status == "False")?;
    let limit = i64::try_from(intent.every.as_secs()).unwrap_or(i64::MAX).saturating_mul(2);
    let since = since.last_transition_time.0;
    (now.as_second() - since.as_second() >= limit).then(|| {
        let message = format!("no refresh has succeeded since {since}; the Secret holds what was read before");
        Finding::new(ConditionType::Stale, Verdict::True, Reason::Stale, message)
    })
}
