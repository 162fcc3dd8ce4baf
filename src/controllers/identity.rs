//! The controller of `ServiceIdentity`: observe, drive, publish. No decision on a domain fact here.

use std::{sync::Arc, time::Duration};

use countersign_core::{
    api::{GROUP, Reason, ServiceIdentity, ServiceIdentityStatus, VERSION},
    fault::{Class, Failure},
    identity::{
        Identity,
        gates::Hold,
        intent::{self, Intent},
        names::older_claim,
        report,
        triggers::Trigger,
        world::{
            DomainView, Effect, KeyMaterial, Memory, NamespaceView, Outcome, Reply, ServiceView, Settled, TargetView,
            World,
        },
    },
    next::jittered,
    value::{domain::Domain, target::SecretWrite, x509::Roots},
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::time::Instant;

use super::{
    Context,
    drive::{Perform, drive},
    observe::stored,
    reconcile::{Requeue, endless, until},
};
use crate::{
    cluster::{OwnerKind, Seen},
    issuers::keys,
    runtime::{
        events::Action,
        metrics::{self, CertificateTimes, Controller, Kind, ObjectSample, Resource},
    },
};

/// One pass over one identity.
///
/// # Errors
/// When the status could not be published; what was decided is decided again.
pub async fn pass(object: Arc<ServiceIdentity>, cx: Context) -> Result<Requeue, Failure> {
    let stored = object.status.clone().unwrap_or_default();
    let previous = cx.carried.previous(&object.uid().unwrap_or_default(), &stored);
    let clock = &cx.handles.clock;
    let intent = match intent::parse(&object) {
        Ok(intent) => intent,
        Err(rejection) => {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = report::rejected(&rejection, generation, &previous, clock.now());
            publish(&cx, &object, &stored, &status).await?;
            return Ok(None);
        }
    };
    let roots = roots(&intent, &cx);
    let world = observe(&intent, &previous, roots.as_ref(), &cx).await;
    let started = clock.instant();
    let hands = Hands { intent: &intent, roots: roots.as_ref(), started, cx: &cx };
    let driven = drive::<Identity>(&intent, world, clock, &hands).await;
    let (world, mut settled) = driven.map_err(|_| endless("identity"))?;
    let now = clock.now();
    let status = report::report(&intent, &world, &settled, &previous, now);
    cx.carried.keep(&intent, settled.carry.take().map(|open| *open));
    tell(&cx, &object, &previous, &status, &settled);
    // Who cannot see the Secret does not repeat what was meant to be said before: it may have ceased to be true.
    let is_news = !(world.is_blind() && previous == status);
    publish(&cx, &object, if is_news { &stored } else { &status }, &status).await?;
    Ok(requeue(&cx, &intent, settled, now))
}

async fn observe(intent: &Intent, previous: &ServiceIdentityStatus, roots: Option<&Roots>, cx: &Context) -> World {
    let (view, clock) = (&cx.view, &cx.handles.clock);
    let service = |name: &String| {
        let found = view.services.get(&ObjectRef::new(name).within(&intent.namespace));
        let seen = ServiceView::of_type(found.as_deref().map(|service| service.spec.type_.as_deref()));
        (name.clone(), seen)
    };
    let namespace = view.namespaces.get(&ObjectRef::new(&intent.namespace));
    let domain = view.domains.get(&ObjectRef::new(&intent.trust_domain));
    let domain = domain.as_ref().map(|stored| stored.0.as_ref());
    let fenced = cx.fence.holds();
    // Read before anything else is looked at: what follows must not be older than the Secret.
    let target = if fenced { read_target(intent, roots, cx).await } else { unread() };
    World {
        account_exists: view
            .accounts
            .get(&ObjectRef::new(&intent.service_account).within(&intent.namespace))
            .is_some_and(|account| account.metadata.deletion_timestamp.is_none()),
        namespace: NamespaceView {
            labels: namespace.as_ref().and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default(),
            terminating: namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        },
        services: intent.services.iter().map(service).collect(),
        cluster_domain: cx.handles.settings.cluster_domain.clone(),
        issuer_in_doubt: domain.is_some_and(|stored| stored.is_ok_and(|domain| cx.signing.in_doubt(domain))),
        domain: match domain {
            None => DomainView::Missing,
            Some(Err(_)) => DomainView::NotReady,
            Some(Ok(domain)) => {
                let known = domain.status.as_ref().and_then(|status| Domain::new(&domain.spec, status));
                known.map_or(DomainView::NotReady, |domain| DomainView::Ready(Box::new(domain)))
            }
        },
        claimed_by: {
            let rivals = view.identities.state();
            older_claim(intent, rivals.iter().filter_map(|rival| rival.0.as_ref().ok()))
        },
        fenced,
        target,
        target_read_at: clock.now(),
        memory: Memory {
            issues: previous.issues.clone(),
            last_failure: previous.last_failure.clone(),
            transient: cx.handles.failures.attempts(Kind::ServiceIdentity, &intent.uid),
        },
        progress: cx.carried.progress(intent),
    }
}

fn unread() -> TargetView {
    TargetView::Unread(Failure::new(
        Class::Waiting,
        Reason::FenceMissing,
        "the Secret was not looked at: the admission policy that fences the operator is not in force",
    ))
}

/// Every root that the identity's trust domain knows, also while it cannot sign.
fn roots(intent: &Intent, cx: &Context) -> Option<Roots> {
    let stored = cx.view.domains.get(&ObjectRef::new(&intent.trust_domain))?;
    countersign_core::value::domain::trust(stored.0.as_ref().ok()?.status.as_ref()?)
}

async fn read_target(intent: &Intent, roots: Option<&Roots>, cx: &Context) -> TargetView {
    match cx.cluster.read_secret(&intent.namespace, &intent.target.name).await {
        Ok(Seen::Absent) => TargetView::Absent,
        Ok(Seen::Foreign) => TargetView::Foreign,
        Ok(Seen::Ours(secret)) => TargetView::Present(Box::new(stored(*secret, roots, cx.handles.clock.now()))),
        Err(failure) => TargetView::Unread(failure),
    }
}

/// What performing needs besides the effect.
struct Hands<'a> {
    intent: &'a Intent,
    roots: Option<&'a Roots>,
    started: Instant,
    cx: &'a Context,
}

impl Perform<Identity> for Hands<'_> {
    async fn perform(&self, effect: Effect) -> Reply {
        let performed = match effect {
            Effect::MakeKey { spec, names } => keys::make(spec, &names).await.map(|made| {
                let (private_key, spki, csr) = (made.private_key, made.spki, made.csr);
                Reply::Key(KeyMaterial { private_key, spki, spec, names, csr })
            }),
            Effect::Sign(request) => self.cx.signing.sign(&request).await.map(Reply::Issued),
            Effect::WriteSecret { write, trigger } => self.write_secret(&write, trigger).await,
        };
        performed.unwrap_or_else(Reply::Failed)
    }
}

impl Hands<'_> {
    async fn write_secret(&self, write: &SecretWrite, trigger: Trigger) -> Result<Reply, Failure> {
        const OWNER: OwnerKind<'_> =
            OwnerKind { group: GROUP, version: VERSION, kind: "ServiceIdentity", manager: "countersign.dev/identity" };
        let Self { intent, roots, started, cx } = self;
        let result = cx.cluster.write_secret(write, &OWNER).await;
        if let Some(trigger) = counted(trigger) {
            cx.handles.metrics.count_issue(&intent.trust_domain, trigger, metrics::Outcome::of(&result));
        }
        let written = result?;
        cx.handles.metrics.observe_issue(&intent.trust_domain, started.elapsed());
        Ok(Reply::Written(Box::new(stored(written, *roots, cx.handles.clock.now()))))
    }
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
async fn publish(
    cx: &Context,
    object: &ServiceIdentity,
    stored: &ServiceIdentityStatus,
    status: &ServiceIdentityStatus,
) -> Result<(), Failure> {
    if status != stored {
        let uid = object.uid().unwrap_or_default();
        cx.carried.means(&uid, status);
        let version = cx.cluster.write_status(object, Resource::ServiceIdentities, status).await?;
        cx.carried.wrote(&uid);
        cx.freshness.wrote(&uid, &version);
    }
    let times = status.not_after.as_ref().zip(status.renew_at.as_ref());
    cx.handles.metrics.show_object(&ObjectSample {
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

/// One event and one log line per new episode of failure; success is in the status and needs none.
fn tell(
    cx: &Context,
    object: &ServiceIdentity,
    previous: &ServiceIdentityStatus,
    status: &ServiceIdentityStatus,
    settled: &Settled,
) {
    let failure = match &settled.outcome {
        Outcome::Steady => return,
        Outcome::Held(Hold { failure, .. }) | Outcome::Failed { failure, .. } => failure,
    };
    let action = if status.serial.is_some() { Action::Renew } else { Action::Issue };
    super::reconcile::tell(cx, Controller::Identity, object, action, failure, &previous.conditions, &status.conditions);
}

/// The next look: when the settlement says, and at the latest when drift is due to be noticed.
fn requeue(cx: &Context, intent: &Intent, settled: Settled, now: Timestamp) -> Requeue {
    let failures = &cx.handles.failures;
    let mut wake = until(settled.wake, now);
    match settled.outcome {
        Outcome::Steady | Outcome::Held(_) | Outcome::Failed { counted: Some(_), .. } => {
            failures.clear(Kind::ServiceIdentity, &intent.uid);
        }
        Outcome::Failed { failure, counted: None } => {
            failures.record(Kind::ServiceIdentity, &intent.uid, failure.class);
            cx.handles.metrics.count_failure(Controller::Identity, &failure);
            wake = wake.map(|wake| cx.handles.settings.scaled(wake));
        }
    }
    if intent.suspended || intent.deleting {
        return None;
    }
    let drift = jittered(cx.handles.settings.drift_interval, &intent.uid);
    Some(wake.map_or(drift, |wake| wake.clamp(Duration::from_millis(100), drift)))
}
