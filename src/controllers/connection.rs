//! The controller of `VaultConnection`: observe, drive, publish. No decision on a domain fact here.

use std::{sync::Arc, time::Duration};

use countersign_core::{
    api::{Reason, VaultConnection, VaultConnectionStatus},
    connection::{
        decide::Connection,
        intent::{self, CaSource, Intent},
        report,
        world::{CaView, CredentialView, Effect, Health, Outcome, Product, Reply, ServerState, SessionView, World},
    },
    fault::{Class, Failure},
    next::jittered,
    value::secret_data::SecretBytes,
};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Context,
    connections::{Material, Memory},
    drive::{Perform, drive},
    observe::{Place, value},
    reconcile::{Requeue, endless, until},
};
use crate::{
    runtime::{
        events::Action,
        metrics::{Against, Controller, Kind, ObjectSample, Resource},
    },
    vault::{self, Session},
};

/// One pass over one connection.
///
/// # Errors
/// When the status could not be published.
pub async fn pass(object: Arc<VaultConnection>, cx: Context) -> Result<Requeue, Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let clock = &cx.handles.clock;
    let intent = match intent::parse(&object, &cx.surroundings) {
        Ok(intent) => intent,
        Err(rejection) => {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = report::rejected(rejection, generation, &previous, clock.now());
            publish(&cx, &object, &previous, &status).await?;
            return Ok(None);
        }
    };
    let (world, session) = observe(&intent, &previous, &cx).await;
    cx.connections.pause(&intent.name, intent.suspended);
    let driven = drive::<Connection>(&intent, world, clock, &Hands { session: session.as_ref(), cx: &cx }).await;
    let (mut world, settled) = driven.map_err(|_| endless("connection"))?;
    let now = clock.now();
    world.throttled_since = throttled_since(&world, session.as_ref(), now);
    remember(&cx, &intent, &world);
    let status = report::report(&intent, &world, &settled, &previous, now);
    if let Outcome::Held(failure) | Outcome::Down(failure) | Outcome::LoginFailed(failure) = &settled.outcome {
        let (before, after) = (&previous.conditions, &status.conditions);
        super::reconcile::tell(&cx, Controller::Connection, object.as_ref(), Action::Connect, failure, before, after);
    }
    publish(&cx, &object, &previous, &status).await?;
    // Its CA or credential may have changed; nobody watches those.
    let look = jittered(cx.handles.settings.drift_interval, &intent.uid);
    let wake = until(settled.wake, now).map(|wake| wake.clamp(Duration::from_millis(200), look));
    Ok(wake.map(|wake| cx.handles.settings.scaled(wake)))
}

async fn observe(intent: &Intent, previous: &VaultConnectionStatus, cx: &Context) -> (World, Option<Arc<Session>>) {
    let ca = ca(intent, cx).await;
    let (credential, secret) = match intent.login.credential() {
        None => (CredentialView::NotNeeded, None),
        Some(reference) => match value(&cx.cluster, Place::Secret(reference)).await {
            Ok(Some(bytes)) if !bytes.is_empty() => (CredentialView::Found, Some(bytes)),
            Ok(_) => (CredentialView::Missing, None),
            Err(failure) => (CredentialView::Unread(failure), None),
        },
    };
    let ready = matches!(ca, CaView::NotNeeded | CaView::Found(_))
        && matches!(credential, CredentialView::NotNeeded | CredentialView::Found);
    let pem = match &ca {
        CaView::Found(roots) => Some(roots.pem()),
        CaView::NotNeeded | CaView::Missing | CaView::Unread(_) | CaView::Bad(_) => None,
    };
    let material = Material { ca: pem, credential: secret, surroundings: &cx.surroundings };
    // What cannot be made shows at the first call, with its cause; what cannot be read keeps the login there is.
    let session = if ready { cx.connections.connect(intent, &material) } else { Err(nothing_to_connect_with()) };
    let memory = cx.connections.memory(&intent.name);
    let session = session.ok().or_else(|| cx.connections.session(&intent.name));
    let world = World {
        ca,
        credential,
        health: memory.health,
        session: session.as_ref().map_or(SessionView::Absent, |session| session.view(cx.handles.clock.now())),
        login_failure: memory.login_failure,
        outage: session.as_ref().and_then(|session| session.client().outage()),
        throttled_since: memory.throttled_since,
        handled_request: previous.last_handled_request.clone(),
        probed: false,
    };
    (world, session)
}

async fn ca(intent: &Intent, cx: &Context) -> CaView {
    let place = match &intent.server.ca {
        Some(CaSource::ConfigMap(reference)) => Place::ConfigMap(reference),
        Some(CaSource::Secret(reference)) => Place::Secret(reference),
        Some(CaSource::Inline(roots)) => return CaView::Found(roots.clone()),
        None => return CaView::NotNeeded,
    };
    let read = value(&cx.cluster, place).await;
    CaView::of_bytes(match &read {
        Ok(found) => Ok(found.as_ref().map(SecretBytes::expose)),
        Err(failure) => Err(failure.clone()),
    })
}

fn nothing_to_connect_with() -> Failure {
    Failure::new(Class::Waiting, Reason::SourceMissing, "what the connection is made of could not be read")
}

/// What performing needs besides the effect.
struct Hands<'a> {
    session: Option<&'a Arc<Session>>,
    cx: &'a Context,
}

impl Perform<Connection> for Hands<'_> {
    async fn perform(&self, effect: Effect) -> Reply {
        let Self { session, cx } = *self;
        let clock = &cx.handles.clock;
        match effect {
            Effect::Probe => {
                let answer = match session {
                    Some(session) => session.client().health().await,
                    None => Err(nothing_to_connect_with()),
                };
                let result = answer.map(|health| described(&health, clock.skew_to(health.server_time).as_secs()));
                Reply::Probed { at: clock.now(), result }
            }
            Effect::Login { generation } => {
                let result = match (session, cx.cluster.may_act()) {
                    (Some(session), Ok(())) => session.authenticate().await.map(|()| session.view(clock.now())),
                    (_, Err(failure)) => Err(failure),
                    (None, Ok(())) => Err(nothing_to_connect_with()),
                };
                match result {
                    Ok(view) => Reply::Session(view),
                    Err(failure) => Reply::LoginFailed { at: clock.now(), generation, failure },
                }
            }
        }
    }
}

fn described(health: &vault::Health, skew: i64) -> Health {
    Health {
        product: match health.product {
            vault::Product::Vault => Product::Vault,
            vault::Product::OpenBao => Product::OpenBao,
        },
        version: health.version.clone(),
        state: match (health.initialized, health.sealed, health.recovery_secondary) {
            (false, _, _) => ServerState::Uninitialised,
            (true, true, _) => ServerState::Sealed,
            (true, false, true) => ServerState::RecoverySecondary,
            (true, false, false) => ServerState::Serving,
        },
        skew,
    }
}

/// Since when the server limits our rate, if it does now.
fn throttled_since(world: &World, session: Option<&Arc<Session>>, now: Timestamp) -> Option<Timestamp> {
    let limited = session.and_then(|session| session.client().outage()).is_some_and(|it| it.class == Class::Throttled);
    limited.then(|| world.throttled_since.unwrap_or(now))
}

fn remember(cx: &Context, intent: &Intent, world: &World) {
    let memory = Memory {
        health: world.health.clone(),
        login_failure: world.login_failure.clone(),
        throttled_since: world.throttled_since,
    };
    cx.connections.remember(&intent.name, memory);
    let health = world.health.as_ref().and_then(|probed| probed.result.as_ref().ok());
    let sealed = health.is_some_and(|health| health.state == ServerState::Sealed);
    cx.handles.metrics.set_vault(&intent.name, health.is_some(), sealed);
    if let Some(health) = health {
        cx.handles.metrics.set_clock_skew(Against::Vault, health.skew);
    }
}

async fn publish(
    cx: &Context,
    object: &VaultConnection,
    previous: &VaultConnectionStatus,
    status: &VaultConnectionStatus,
) -> Result<(), Failure> {
    if status != previous {
        let version = cx.cluster.write_cluster_status(object, Resource::VaultConnections, status).await?;
        cx.freshness.wrote(&object.uid().unwrap_or_default(), &version);
    }
    cx.handles.metrics.show_object(&ObjectSample {
        kind: Kind::VaultConnection,
        namespace: None,
        name: &object.name_any(),
        conditions: &status.conditions,
        certificate: None,
    });
    Ok(())
}
