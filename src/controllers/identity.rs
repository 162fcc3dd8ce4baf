//! The controller of `ServiceIdentity`: observe, drive, publish. No decision on a domain fact here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use countersign_core::{
    api::{GROUP, OWNER_UID_LABEL, Reason, ServiceIdentity, ServiceIdentityStatus, VERSION},
    fault::{Class, Failure},
    identity::{
        Identity,
        decide::{ANSWERED_REQUEST, RENDERING},
        intent::{self, Intent},
        report,
        triggers::Trigger,
        world::{DomainView, Effect, Memory, NamespaceView, Outcome, Progress, Reply, SecretWrite, ServiceView, Settled, Stored, TargetView, World},
    },
    value::{secret_data::SecretBytes, x509},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::time::Instant;

use super::{Context, drive::drive, reconcile::Requeue};
use crate::{
    cluster::{OwnerKind, Seen},
    issuers::{keys, verify},
    runtime::{
        events::{Action, Severity},
        metrics::{self, CertificateTimes, Controller, Kind, ObjectSample, Resource},
    },
};

/// How long key and answer that could not be stored are kept.
const CARRIED_FOR: Duration = Duration::from_secs(600);

/// Keys and answers that could not be stored, by UID and generation; lost at a restart without harm.
#[derive(Default)]
pub struct Carried(Mutex<HashMap<(String, i64), (Progress, Instant)>>);

impl Carried {
    fn take(&self, intent: &Intent) -> Progress {
        let Ok(mut carried) = self.0.lock() else { return Progress::default() };
        carried.retain(|_, (_, since)| since.elapsed() < CARRIED_FOR);
        carried.remove(&(intent.uid.clone(), intent.generation)).map(|(progress, _)| progress).unwrap_or_default()
    }

    fn keep(&self, intent: &Intent, progress: Progress) {
        if let Ok(mut carried) = self.0.lock() {
            carried.insert((intent.uid.clone(), intent.generation), (progress, Instant::now()));
        }
    }
}

/// One pass over one identity.
///
/// # Errors
/// When the status could not be published; what was decided is decided again.
pub async fn pass(object: Arc<ServiceIdentity>, cx: Context) -> Result<Requeue, Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let intent = match intent::parse(&object) {
        Ok(intent) => intent,
        Err(rejection) => {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = report::rejected(&rejection, generation, &previous, cx.clock.now());
            publish(&cx, &object, &previous, &status).await?;
            return Ok(None);
        }
    };
    if intent.deleting {
        // The Secret goes with its owner reference or stays; there is nothing outside to release.
        cx.failures.clear(Kind::ServiceIdentity, &intent.uid);
        cx.metrics.forget_object(Kind::ServiceIdentity, Some(&intent.namespace), &intent.name);
        return Ok(None);
    }
    let world = observe(&intent, &previous, &cx).await;
    let driven = drive::<Identity>(&intent, world, &cx.clock, async |effect| perform(effect, &intent, &cx).await).await;
    let (world, settled) =
        driven.map_err(|_| Failure::new(Class::Bug, Reason::InternalError, "the decisions about this identity do not settle"))?;
    let now = cx.clock.now();
    let status = report::report(&intent, &world, &settled, &previous, now);
    tell(&cx, &object, &previous, &status, &settled);
    publish(&cx, &object, &previous, &status).await?;
    Ok(requeue(&cx, &intent, settled, now))
}

async fn observe(intent: &Intent, previous: &ServiceIdentityStatus, cx: &Context) -> World {
    let view = &cx.view;
    let key = |name: &str| ObjectRef::new(name).within(&intent.namespace);
    let service = |name: &String| {
        let found = view.services.get(&ObjectRef::new(name).within(&intent.namespace));
        let seen = match found.as_deref().map(|service| service.spec.type_.as_deref()) {
            None => ServiceView::Missing,
            Some(Some("ExternalName")) => ServiceView::ExternalName,
            Some(_) => ServiceView::Usable,
        };
        (name.clone(), seen)
    };
    let namespace = view.namespaces.get(&ObjectRef::new(&intent.namespace));
    let fenced = cx.fence.holds();
    let (domain, roots) = domain(intent, cx);
    let target = if fenced && !intent.suspended {
        read_target(intent, roots.as_deref(), cx).await
    } else {
        TargetView::Unread(Failure::new(Class::Waiting, Reason::FenceMissing, "the Secret was not looked at"))
    };
    World {
        account_exists: view.accounts.get(&key(&intent.service_account)).is_some(),
        namespace: NamespaceView {
            labels: namespace.as_ref().and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default(),
            terminating: namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        },
        services: intent.services.iter().map(service).collect(),
        cluster_domain: cx.settings.cluster_domain.clone(),
        domain,
        claimed_by: older_claim(intent, cx),
        fenced,
        target,
        target_read_at: cx.clock.now(),
        memory: Memory {
            issues: previous.issues.clone(),
            last_failure: previous.last_failure.clone(),
            transient: cx.failures.attempts(Kind::ServiceIdentity, &intent.uid),
        },
        progress: cx.carried.take(intent),
    }
}

/// The trust domain as the intent may use it, and its roots even when it cannot sign.
fn domain(intent: &Intent, cx: &Context) -> (DomainView, Option<String>) {
    let Some(object) = cx.view.domains.get(&ObjectRef::new(&intent.trust_domain)) else { return (DomainView::Missing, None) };
    let Ok(domain) = &object.0 else { return (DomainView::NotReady, None) };
    crate::issuers::domain_view(domain)
}

/// The older identity that names the same Secret.
fn older_claim(intent: &Intent, cx: &Context) -> Option<String> {
    let rivals = cx.view.identities.state();
    let mut claims = rivals.iter().filter_map(|rival| rival.0.as_ref().ok()).filter(|rival| {
        rival.namespace().as_deref() == Some(intent.namespace.as_str())
            && rival.spec.secret.name == intent.target.name
            && rival.uid().as_deref() != Some(intent.uid.as_str())
            && rival.metadata.deletion_timestamp.is_none()
    });
    let older = claims.find(|rival| {
        let created = rival.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        (created, rival.uid().unwrap_or_default()) < (intent.created, intent.uid.clone())
    })?;
    Some(format!("{}/{}", intent.namespace, older.name_any()))
}

async fn read_target(intent: &Intent, roots: Option<&str>, cx: &Context) -> TargetView {
    match cx.cluster.read_secret(&intent.namespace, &intent.target.name).await {
        Ok(Seen::Absent) => TargetView::Absent,
        Ok(Seen::Foreign) => TargetView::Foreign,
        Ok(Seen::Ours(secret)) => TargetView::Present(Box::new(stored(*secret, roots, cx.clock.now()))),
        Err(failure) => TargetView::Unread(failure),
    }
}

/// Reads a Secret of ours into facts; bytes that cannot be read are simply not there.
fn stored(secret: Secret, roots: Option<&str>, now: Timestamp) -> Stored {
    let resource_version = secret.resource_version().unwrap_or_default();
    let label = |key: &str| secret.labels().get(key).cloned();
    let annotation = |key: &str| secret.annotations().get(key).cloned();
    let (owner_uid, rendering, answered_request) = (label(OWNER_UID_LABEL), annotation(RENDERING), annotation(ANSWERED_REQUEST));
    let data: BTreeMap<String, SecretBytes> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, SecretBytes::new(value.0))).collect();
    let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(bytes.expose()).ok());
    let chain = text("tls.crt").unwrap_or_default();
    let leaf = x509::parse_pem_chain(chain).ok().and_then(|chain| chain.into_iter().next()).map(|certificate| certificate.leaf);
    let anchors = roots.or_else(|| text("ca.crt")).unwrap_or_default();
    let trusted = verify::chain(chain, anchors, &[now]).is_ok();
    let key = data.get("tls.key").and_then(keys::spki_of_private_key);
    Stored {
        resource_version,
        owner_uid,
        type_: secret.type_.unwrap_or_default(),
        immutable: secret.immutable == Some(true),
        leaf,
        key,
        trusted,
        rendering,
        answered_request,
        data,
    }
}

async fn perform(effect: Effect, intent: &Intent, cx: &Context) -> Reply {
    let performed = match effect {
        Effect::MakeKey { spec, names } => keys::make(spec, names).await.map(Reply::Key),
        Effect::Sign(request) => cx.issuers.sign(&request).await.map(Reply::Issued),
        Effect::WriteSecret(write) => write_secret(&write, intent, cx).await,
    };
    performed.unwrap_or_else(Reply::Failed)
}

async fn write_secret(write: &SecretWrite, intent: &Intent, cx: &Context) -> Result<Reply, Failure> {
    const OWNER: OwnerKind<'_> = OwnerKind { group: GROUP, version: VERSION, kind: "ServiceIdentity" };
    let result = cx.cluster.write_secret(write, &OWNER).await;
    if let Some(trigger) = counted(write.trigger) {
        cx.metrics.count_issue(&intent.trust_domain, trigger, metrics::Outcome::of(&result));
    }
    let (_, roots) = domain(intent, cx);
    Ok(Reply::Written(Box::new(stored(result?, roots.as_deref(), cx.clock.now()))))
}

/// How metrics call a trigger; a write without a signature is not an issue.
fn counted(trigger: Trigger) -> Option<metrics::Trigger> {
    match trigger {
        Trigger::SecretMissing | Trigger::KeyMismatch => Some(metrics::Trigger::Initial),
        Trigger::NamesChanged | Trigger::KeyPolicyChanged => Some(metrics::Trigger::Spec),
        Trigger::IssuerChanged => Some(metrics::Trigger::Authority),
        Trigger::Expired | Trigger::RenewalDue => Some(metrics::Trigger::Renewal),
        Trigger::RequestedNow => Some(metrics::Trigger::Requested),
        Trigger::RootsChanged => None,
    }
}

/// Writes the status if it differs, and shows it in the metrics.
async fn publish(cx: &Context, object: &ServiceIdentity, previous: &ServiceIdentityStatus, status: &ServiceIdentityStatus) -> Result<(), Failure> {
    if status != previous {
        let version = cx.cluster.write_status(object, Resource::ServiceIdentities, status).await?;
        cx.freshness.wrote(&object.uid().unwrap_or_default(), &version);
    }
    let times = status.not_after.as_ref().zip(status.renew_at.as_ref());
    cx.metrics.show_object(&ObjectSample {
        kind: Kind::ServiceIdentity,
        namespace: object.metadata.namespace.as_deref(),
        name: &object.name_any(),
        conditions: &status.conditions,
        certificate: times.map(|(not_after, renew_at)| CertificateTimes {
            trust_domain: &object.spec.trust_domain,
            not_after: not_after.0,
            renew_at: renew_at.0,
        }),
    });
    Ok(())
}

/// One event per new episode of failure; success is in the status and needs none.
fn tell(cx: &Context, object: &ServiceIdentity, previous: &ServiceIdentityStatus, status: &ServiceIdentityStatus, settled: &Settled) {
    let (Outcome::Held(countersign_core::identity::gates::Hold { failure, .. }) | Outcome::Failed { failure, .. }) = &settled.outcome else {
        return;
    };
    let reason = format!("{:?}", failure.reason);
    let shows = |status: &ServiceIdentityStatus| status.conditions.iter().any(|condition| condition.reason == reason);
    if shows(status) && !shows(previous) && failure.class != Class::Waiting {
        let action = if status.serial.is_some() { Action::Renew } else { Action::Issue };
        cx.tell(Controller::Identity, object, Severity::Warning, action, failure.reason);
        tracing::warn!(
            namespace = object.namespace(),
            name = object.name_any(),
            class = ?failure.class,
            reason,
            "an identity cannot go on: {}",
            failure.message
        );
    }
}

/// The next look: when the settlement says, and at the latest when drift is due to be noticed.
fn requeue(cx: &Context, intent: &Intent, settled: Settled, now: Timestamp) -> Requeue {
    match settled.outcome {
        Outcome::Steady | Outcome::Held(_) | Outcome::Failed { counted: Some(_), .. } => cx.failures.clear(Kind::ServiceIdentity, &intent.uid),
        Outcome::Failed { failure, carry, counted: None } => {
            cx.failures.record(Kind::ServiceIdentity, &intent.uid, failure.class);
            cx.metrics.count_failure(Controller::Identity, &failure);
            if let Some(progress) = carry {
                cx.carried.keep(intent, *progress);
            }
        }
    }
    if intent.suspended {
        return None;
    }
    let drift = countersign_core::next::jittered(cx.settings.drift_interval, &intent.uid);
    let due = settled.wake.map(|wake| Duration::from_secs(u64::try_from(wake.as_second() - now.as_second()).unwrap_or_default()));
    Some(due.map_or(drift, |due| due.clamp(Duration::from_millis(100), drift)))
}
