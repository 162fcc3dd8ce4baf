//! The controllers: one file a kind, wiring only. What they decide is in `countersign_core`.
//!
//! [`run`] starts the watches and drives all kinds until the process stops leading. Every pass goes
//! through [`reconcile`], which gives it a deadline, a panic fence, metrics and a next time.

pub mod connection;
mod drive;
mod freshness;
pub mod identity;
mod reconcile;
pub mod trust_domain;
pub mod view;

use std::{sync::Arc, time::Duration};

use countersign_core::api::Reason;
use kube::{Client, Resource};

use crate::{
    cluster::{Cluster, Fence},
    issuers::Issuers,
    runtime::{
        clock::Clock,
        events::{Action, Events, Notice, Severity},
        failures::Failures,
        health::Health,
        leader::Leadership,
        metrics::{Check, Controller, Metrics},
        settings::Settings,
    },
    vault::Connections,
};

/// Handles that every pass needs; no per-object state that matters after a restart.
#[derive(Clone)]
pub struct Context(Arc<Handles>);

/// See [`Context`].
pub struct Handles {
    /// The API server.
    pub cluster: Cluster,
    /// The caches.
    pub view: view::View,
    /// Whether Secrets may be touched.
    pub fence: Fence,
    /// The time.
    pub clock: Clock,
    /// What is measured.
    pub metrics: Metrics,
    /// What is told.
    pub events: Events,
    /// Failures in a row, in memory.
    pub failures: Failures,
    /// Who signs.
    pub issuers: Issuers,
    /// The servers and our logins.
    pub connections: Connections,
    /// The flags.
    pub settings: Settings,
    /// Versions we wrote and have not seen come back.
    pub freshness: freshness::Freshness,
    /// Keys and answers that could not be stored yet.
    pub carried: identity::Carried,
}

impl std::ops::Deref for Context {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

impl Context {
    /// Drops an event off about `object`; best effort.
    pub fn tell<K: Resource<DynamicType = ()>>(&self, controller: Controller, object: &K, severity: Severity, action: Action, reason: Reason) {
        self.events.publish(Notice { controller, severity, action, reason, about: object.object_ref(&()), target: None });
    }
}

/// What [`run`] is given besides the settings.
pub struct Parts {
    /// Client of the API server.
    pub client: Client,
    /// The election's handle.
    pub leadership: Leadership,
    /// The time.
    pub clock: Clock,
    /// What is measured.
    pub metrics: Metrics,
    /// What the probes say.
    pub health: Health,
    /// What is told.
    pub events: Events,
}

/// Runs every controller for as long as the process leads; ends only by being dropped.
pub async fn run(parts: Parts, settings: Settings) {
    let Parts { client, leadership, clock, metrics, health, events } = parts;
    let cluster = Cluster::new(client.clone(), &settings.operator_namespace, leadership, metrics.clone());
    let heartbeat = health.heartbeat("watches");
    health.require(Check::Caches);
    let (view, queues, work) = view::watch(&client, move || heartbeat.tick());
    let connections = Connections::new(cluster.clone(), clock.clone(), metrics.clone(), &settings);
    let context = Context(Arc::new(Handles {
        issuers: Issuers::new(cluster.clone(), connections.clone(), clock.clone()),
        failures: Failures::new(clock.clone()),
        freshness: freshness::Freshness::default(),
        carried: identity::Carried::default(),
        fence: Fence::default(),
        cluster,
        view,
        clock,
        metrics,
        events,
        connections,
        settings,
    }));
    if !context.view.ready().await {
        return;
    }
    health.report(Check::Caches, Ok(()));
    tokio::join!(
        watch_fence(context.clone(), queues),
        reconcile::run(Controller::Connection, context.clone(), context.view.connections.clone(), work.connections, connection::pass),
        reconcile::run(Controller::TrustDomain, context.clone(), context.view.domains.clone(), work.domains, trust_domain::pass),
        reconcile::run(Controller::Identity, context.clone(), context.view.identities.clone(), work.identities, identity::pass),
    );
}

/// Keeps proving that the fence holds; when it starts or stops holding, every identity is looked at.
async fn watch_fence(context: Context, queues: view::Queues) {
    // A fence that was just installed acts within a second, and nobody wants to wait ten for the first certificate.
    const SOON: Duration = Duration::from_secs(1);
    loop {
        let (holds, changed) = context.fence.probe(&context.cluster).await;
        if changed {
            tracing::info!(holds, "the admission policy that fences the operator changed");
            for identity in context.view.identities.state() {
                let _ = queues.identities.unbounded_send(kube::runtime::reflector::ObjectRef::from_obj(identity.as_ref()));
            }
        }
        tokio::time::sleep(if holds { crate::cluster::FENCE_PERIOD } else { SOON }).await;
    }
}
