//! The controller of `SecretBinding`: observe, drive, publish. No decision on a domain fact here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::{CONTENT_HASH, GROUP, INPUT_HASH, OWNER_UID_LABEL, Reason, SecretBinding, SecretBindingStatus, VERSION},
    binding::{
        Binding,
        gates::older_claim,
        hashes::RENDERING,
        intent::{self, Intent},
        origin::ORIGIN,
        reads::Answer,
        report,
        world::{
            Connection, ConnectionView, Effect, Memory, Outcome, Progress, Read, Reply, Settled, Stored, TargetView,
            World,
        },
    },
    fault::{Class, Failure},
    grants::Permit,
    next::jittered,
    value::secret_data::SecretBytes,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Context,
    drive::{Perform, drive},
    reading::{Reader, not_ready},
    reconcile::{Requeue, endless, until},
};
use crate::{
    cluster::{OwnerKind, Seen},
    runtime::{
        events::Action,
        metrics::{Controller, Kind, ObjectSample, Resource},
    },
    vault::Tenant,
};

/// What the process remembers of each binding, by UID.
pub struct Memories {
    started: Timestamp,
    of: Mutex<HashMap<String, Memory>>,
}

impl Memories {
    /// Nothing is remembered; what was due before `started` was due to the process before.
    pub fn new(started: Timestamp) -> Self {
        Self { started, of: Mutex::default() }
    }

    fn recall(&self, intent: &Intent, status: &SecretBindingStatus) -> Memory {
        let known = self.lock().get(&intent.uid).cloned();
        known.unwrap_or_else(|| Memory::from_status(intent, status, self.started))
    }

    fn remember(&self, uid: &str, memory: Memory) {
        self.lock().insert(uid.to_owned(), memory);
    }

    /// Forgets a binding that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pass over one binding.
///
/// # Errors
/// When the status could not be published; what was decided is decided again.
pub async fn pass(object: Arc<SecretBinding>, cx: Context) -> Result<Requeue, Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let clock = &cx.handles.clock;
    let intent = match intent::parse(&object) {
        Ok(intent) => intent,
        Err(rejection) => {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = report::rejected(&rejection, generation, &previous, clock.now());
            publish(&cx, &object, &previous, &status).await?;
            return Ok(None);
        }
    };
    let world = observe(&intent, &previous, &cx).await;
    let hands = Hands { intent: &intent, cx: &cx };
    let driven = drive::<Binding>(&intent, world, clock, &hands).await;
    let (world, settled) = driven.map_err(|_| endless("binding"))?;
    let now = clock.now();
    let status = report::report(&intent, &world, &settled, &previous, now);
    tell(&cx, &object, &previous, &status, &settled);
    if let Err(failure) = publish(&cx, &object, &previous, &status).await {
        cx.bindings.remember(&intent.uid, world.memory.in_doubt());
        return Err(failure);
    }
    // Only now: what was found and could not be said is looked at again, or it would never be said.
    cx.bindings.remember(&intent.uid, settled.memory.clone());
    Ok(requeue(&cx, &intent, &settled, now))
}

async fn observe(intent: &Intent, previous: &SecretBindingStatus, cx: &Context) -> World {
    let view = &cx.view;
    let namespace = view.namespaces.get(&ObjectRef::new(&intent.namespace));
    let fenced = cx.fence.holds();
    // Read before anything else is looked at: what follows must not be older than the Secret.
    let target = if fenced { read_target(intent, cx).await } else { unread() };
    let key = cx.install_key.get(&cx.cluster, &cx.handles.entropy).await;
    let connection = view.connections.get(&ObjectRef::new(&intent.connection));
    let connection = connection.as_ref().and_then(|stored| stored.0.as_ref().ok());
    World {
        labels: namespace.as_ref().and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default(),
        terminating: namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()),
        longer_namespaces: view
            .namespaces
            .state()
            .iter()
            .map(|namespace| namespace.name_any())
            .filter(|name| name.len() > intent.namespace.len() && name.starts_with(&intent.namespace))
            .collect(),
        connection: connection.map_or(ConnectionView::Missing, |object| {
            let name = object.name_any();
            let outage = match cx.connections.session(&name) {
                Some(session) => session.client().refusal(),
                None => Some(not_ready(&name)),
            };
            let is_operators = intent.namespace == cx.handles.settings.operator_namespace;
            ConnectionView::Known(Box::new(Connection::new(object, outage, is_operators)))
        }),
        account_exists: account_uid(intent, cx).is_some(),
        claimed_by: {
            let rivals = view.bindings.state();
            older_claim(intent, rivals.iter().filter_map(|rival| rival.0.as_ref().ok()))
        },
        fenced,
        key,
        target,
        memory: cx.bindings.recall(intent, previous),
        progress: Progress::default(),
    }
}

/// UID of the account that reads, if there is one.
fn account_uid(intent: &Intent, cx: &Context) -> Option<String> {
    let account = intent.service_account.as_ref()?;
    let account = cx.view.accounts.get(&ObjectRef::new(account).within(&intent.namespace))?;
    if account.metadata.deletion_timestamp.is_some() { None } else { account.metadata.uid.clone() }
}

fn unread() -> TargetView {
    TargetView::Unread(Failure::new(
        Class::Waiting,
        Reason::FenceMissing,
        "the Secret was not looked at: the admission policy that fences the operator is not in force",
    ))
}

async fn read_target(intent: &Intent, cx: &Context) -> TargetView {
    match cx.cluster.read_secret(&intent.namespace, &intent.target.name).await {
        Ok(Seen::Absent) => TargetView::Absent,
        Ok(Seen::Foreign) => TargetView::Foreign,
        Ok(Seen::Ours(secret)) => TargetView::Present(Box::new(stored(*secret))),
        Err(failure) => TargetView::Unread(failure),
    }
}

/// The facts of a Secret of ours.
fn stored(secret: Secret) -> Stored {
    let annotation = |key: &str| secret.annotations().get(key).cloned();
    let (rendering, input, content) = (annotation(RENDERING), annotation(INPUT_HASH), annotation(CONTENT_HASH));
    let origin = annotation(ORIGIN);
    let data: BTreeMap<String, SecretBytes> =
        secret.data.iter().flatten().map(|(key, value)| (key.clone(), SecretBytes::new(value.0.clone()))).collect();
    Stored {
        resource_version: secret.resource_version().unwrap_or_default(),
        owner_uid: secret.labels().get(OWNER_UID_LABEL).cloned(),
        immutable: secret.immutable == Some(true),
        rendering,
        input,
        content,
        origin,
        data,
        type_: secret.type_.unwrap_or_default(),
    }
}

/// What performing needs besides the effect.
struct Hands<'a> {
    intent: &'a Intent,
    cx: &'a Context,
}

impl Perform<Binding> for Hands<'_> {
    async fn perform(&self, effect: Effect) -> Reply {
        const OWNER: OwnerKind<'_> =
            OwnerKind { group: GROUP, version: VERSION, kind: "SecretBinding", manager: "countersign.dev/binding" };
        match effect {
            Effect::Read { reads, fresh } => {
                let answers = reads.iter().map(|read| async move { (read.source, self.read(read, fresh).await) });
                Reply::Read(futures::future::join_all(answers).await)
            }
            Effect::Write(write) => match self.cx.cluster.write_secret(&write, &OWNER).await {
                Ok(written) => Reply::Written(Box::new(stored(written))),
                Err(failure) => Reply::Unwritten(failure),
            },
        }
    }
}

impl Hands<'_> {
    async fn read(&self, read: &Read, fresh: bool) -> Result<Answer, Failure> {
        let Self { intent, cx } = self;
        // Nothing is asked whose answer nobody could store.
        cx.cluster.may_act()?;
        let reader = match &read.reader {
            Permit::Operator => Reader::Operator,
            Permit::ServiceAccount { account, role } => Reader::Tenant(Tenant {
                namespace: intent.namespace.clone(),
                account: account.clone(),
                uid: account_uid(intent, cx).unwrap_or_default(),
                role: role.clone(),
            }),
        };
        cx.reading.read(&intent.connection, reader, &read.what, fresh).await
    }
}

/// Writes the status if it differs, and shows it in the metrics.
async fn publish(
    cx: &Context,
    object: &SecretBinding,
    stored: &SecretBindingStatus,
    status: &SecretBindingStatus,
) -> Result<(), Failure> {
    if status != stored {
        let uid = object.uid().unwrap_or_default();
        let version = cx.cluster.write_status(object, Resource::SecretBindings, status).await?;
        cx.freshness.wrote(&uid, &version);
    }
    cx.handles.metrics.show_object(&ObjectSample {
        kind: Kind::SecretBinding,
        namespace: object.metadata.namespace.as_deref(),
        name: &object.name_any(),
        conditions: &status.conditions,
        certificate: None,
    });
    Ok(())
}

/// One event and one log line per new episode of failure; success is in the status and needs none.
fn tell(
    cx: &Context,
    object: &SecretBinding,
    previous: &SecretBindingStatus,
    status: &SecretBindingStatus,
    settled: &Settled,
) {
    let failure = match &settled.outcome {
        Outcome::Steady { .. } => return,
        Outcome::Held(failure) | Outcome::Failed { failure, .. } => failure,
    };
    let (before, after) = (&previous.conditions, &status.conditions);
    super::reconcile::tell(cx, Controller::Binding, object, Action::Refresh, failure, before, after);
}

/// The next look: when the settlement says, and at the latest when drift is due to be noticed.
fn requeue(cx: &Context, intent: &Intent, settled: &Settled, now: Timestamp) -> Requeue {
    let mut wake = until(settled.wake, now);
    if let Outcome::Failed { failure, .. } = &settled.outcome {
        cx.handles.metrics.count_failure(Controller::Binding, failure);
        wake = wake.map(|wake| cx.handles.settings.scaled(wake));
    }
    if intent.suspended || intent.deleting {
        return None;
    }
    // Spread to both sides, and yet never later than promised.
    let drift = jittered(cx.handles.settings.drift_interval.mul_f64(5.0 / 6.0), &intent.uid);
    Some(wake.map_or(drift, |wake| wake.clamp(Duration::from_millis(100), drift)))
}
