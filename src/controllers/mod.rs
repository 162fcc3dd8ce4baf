//! The controllers: one file a kind, wiring only. What they decide is in `countersign_core`.
//!
//! [`run`] starts the watches and drives all kinds until the process stops leading. Every pass goes
//! through [`reconcile`], which gives it a deadline, a panic fence, metrics and a next time.

mod binding;
mod carried;
mod connection;
mod connections;
mod drive;
mod freshness;
mod identity;
mod install_key;
mod network;
mod observe;
mod reading;
mod reconcile;
mod routes;
mod signing;
mod trust_domain;
mod view;

use std::{sync::Arc, time::Duration};

use countersign_core::{api::Reason, connection::address::Surroundings};
use futures::StreamExt;
use kube::Resource;

use self::{connections::Connections, freshness::Freshness, routes::Queues, signing::Signing, view::View};
use crate::{
    cluster::{Cluster, Crds, FENCE_PERIOD, Fence},
    runtime::{
        events::{Action, Notice, Severity},
        metrics::{Check, Controller},
        operator::Handles,
    },
};

/// Handles that every pass needs; no per-object state that matters after a restart.
#[derive(Clone)]
struct Context(Arc<Inner>);

/// See [`Context`].
struct Inner {
    handles: Handles,
    cluster: Cluster,
    view: View,
    queues: Queues,
    fence: Fence,
    connections: Connections,
    signing: Signing,
    reading: reading::Reading,
    install_key: install_key::InstallKeys,
    bindings: binding::Memories,
    network: network::Watched,
    /// Versions we wrote and have not seen come back.
    freshness: Freshness,
    carried: carried::Carried,
    attempts: trust_domain::Attempts,
    surroundings: Surroundings,
}

impl std::ops::Deref for Context {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Context {
    /// Drops a warning off about `object`; best effort.
    fn warn<K: Resource<DynamicType = ()>>(&self, controller: Controller, object: &K, action: Action, reason: Reason) {
        let about = object.object_ref(&());
        let severity = Severity::Warning;
        self.handles.events.publish(Notice { controller, severity, action, reason, about, target: None });
    }
}

/// Runs every controller for as long as the process leads; ends soon after `shutdown` was requested.
pub async fn run(handles: Handles) {
    let settings = handles.settings.clone();
    let shutdown = handles.shutdown.clone();
    let (clock, metrics, health) = (handles.clock.clone(), handles.metrics.clone(), handles.health.clone());
    let cluster =
        Cluster::new(handles.client.clone(), &settings.operator_namespace, handles.leadership.clone(), metrics.clone());
    health.require(Check::Crds);
    health.require(Check::Caches);
    health.require(Check::Fence);
    tokio::select! {
        () = await_crds(&cluster, &handles) => {}
        () = shutdown.requested() => return,
    }
    let heartbeat = health.heartbeat("watches");
    let alive = move || heartbeat.tick();
    let (view, queues, work, mut watches) = routes::watch(&handles.client, settings.namespaces.clone(), alive.clone());
    let (network, more) = network::Watched::start(&handles.client, &queues.network_signal(), &alive);
    watches.extend(more);
    let connections = Connections::new(cluster.clone(), clock.clone(), metrics, &settings.service_account);
    let signing = Signing::new(
        cluster.clone(),
        connections.clone(),
        view.clone(),
        queues.clone(),
        clock,
        handles.entropy.clone(),
    );
    let context = Context(Arc::new(Inner {
        surroundings: Surroundings {
            loopback_allowed: settings.allow_loopback_connections,
            api_servers: settings.api_server.iter().cloned().collect(),
            token_audiences: settings.token_audiences.clone(),
        },
        signing,
        reading: reading::Reading::new(connections.clone()),
        install_key: install_key::InstallKeys::default(),
        bindings: binding::Memories::new(handles.clock.now()),
        network,
        connections,
        freshness: Freshness::default(),
        carried: carried::Carried::default(),
        attempts: trust_domain::Attempts::default(),
        fence: Fence::default(),
        cluster,
        view,
        queues,
        handles,
    }));
    let watching = async { while watches.next().await.is_some() {} };
    let working = async {
        if !context.view.ready().await || !context.network.ready().await {
            return;
        }
        health.report(Check::Caches, Ok(()));
        await_fence(&context).await;
        let cx = || context.clone();
        tokio::join!(
            watch_fence(cx()),
            forget(cx(), work.gone),
            network::run(cx()),
            reconcile::run(
                Controller::Connection,
                cx(),
                context.view.connections.clone(),
                work.connections,
                connection::pass
            ),
            reconcile::run(
                Controller::TrustDomain,
                cx(),
                context.view.domains.clone(),
                work.domains,
                trust_domain::pass
            ),
            reconcile::run(
                Controller::Identity,
                cx(),
                context.view.identities.clone(),
                work.identities,
                identity::pass
            ),
            reconcile::run(Controller::Binding, cx(), context.view.bindings.clone(), work.bindings, binding::pass),
        );
    };
    tokio::select! {
        () = watching => {}
        () = working => {}
        () = shutdown.requested() => context.connections.stop().await,
    }
}

/// Waits until every CRD of ours is there and as new as this binary: with an older one, a status of
/// ours would be pruned, and written again, for ever.
async fn await_crds(cluster: &Cluster, handles: &Handles) {
    const PERIOD: Duration = Duration::from_secs(5);
    let heartbeat = handles.health.heartbeat("crds");
    loop {
        heartbeat.tick();
        let found = cluster.crds().await;
        let verdict = match &found {
            Crds::Current => Ok(()),
            Crds::Trouble(words) => Err(words.clone()),
        };
        if let Err(words) = &verdict {
            tracing::warn!(why = words, "the CRDs are not as this version needs them; nothing is done until they are");
        }
        handles.health.report(Check::Crds, verdict);
        if found == Crds::Current {
            handles.health.retire("crds");
            return;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// How soon a fence that does not hold, or did not answer, is tried again: one that was just installed acts within a
/// second, and nobody wants to wait ten for the first certificate.
const FENCE_RETRY: Duration = Duration::from_secs(1);

/// Waits for the first answer of the fence. Until then nobody knows whether Secrets may be looked at, and an identity
/// that was looked at without its Secret would say so in its status, at every start.
async fn await_fence(cx: &Context) {
    let heartbeat = cx.handles.health.heartbeat("fence");
    while cx.fence.probe(&cx.cluster).await.is_none() {
        heartbeat.tick();
        tokio::time::sleep(FENCE_RETRY).await;
    }
}

/// Keeps proving that the fence holds; when it starts or stops holding, whatever owns a Secret is looked at.
async fn watch_fence(cx: Context) {
    let heartbeat = cx.handles.health.heartbeat("fence");
    loop {
        heartbeat.tick();
        let holds = cx.fence.holds();
        let words = "the admission policy countersign-operator-fence does not refuse the canary";
        cx.handles.health.report(Check::Fence, if holds { Ok(()) } else { Err(words.to_owned()) });
        tokio::time::sleep(if holds { FENCE_PERIOD } else { FENCE_RETRY }).await;
        if cx.fence.probe(&cx.cluster).await == Some(true) {
            tracing::info!(holds = cx.fence.holds(), "the admission policy that fences the operator changed");
            cx.queues.identities(&cx.view, |_| true);
            cx.queues.bindings(&cx.view, |_| true);
            cx.queues.network();
        }
    }
}

/// Forgets what is known of objects that are gone.
async fn forget(cx: Context, mut gone: futures::channel::mpsc::UnboundedReceiver<routes::Gone>) {
    use crate::runtime::metrics::Kind;
    while let Some(routes::Gone { kind, namespace, name, uid }) = gone.next().await {
        cx.handles.metrics.forget_object(kind, namespace.as_deref(), &name);
        cx.handles.failures.clear(kind, &uid);
        cx.freshness.forget(&uid);
        match kind {
            Kind::VaultConnection => cx.connections.forget(&name),
            Kind::TrustDomain => {
                cx.signing.forget(&name);
                cx.attempts.forget(&uid);
                cx.handles.metrics.forget_trust_domain(&name);
            }
            Kind::ServiceIdentity => cx.carried.forget(&uid),
            Kind::SecretBinding => cx.bindings.forget(&uid),
            // Their passes know no single object.
            Kind::Segment | Kind::AccessGrant | Kind::AccessRequest | Kind::ExternalService => {}
        }
    }
}
