//! What surrounds every pass of every controller: queue, deadline, panic fence, metrics, next time.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedReceiver};
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        controller::{Action, Config, applier},
        reflector::{ObjectRef, Store},
    },
};

use super::Context;
use crate::runtime::{
    metrics::{Controller, Kind, ReconcileResult},
    panics,
};

/// The longest a pass may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How soon a pass over a stale copy is tried again.
const STALE: Duration = Duration::from_millis(100);

/// When to look again by ourselves; `None` = only when something changes.
pub type Requeue = Option<Duration>;

/// Runs one controller until its queue ends.
pub async fn run<K, F>(
    controller: Controller,
    context: Context,
    store: Store<DeserializeGuard<K>>,
    work: UnboundedReceiver<ObjectRef<DeserializeGuard<K>>>,
    pass: fn(Arc<K>, Context) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Requeue, Failure>> + Send + 'static,
{
    let config = Config::default().concurrency(context.settings.concurrency);
    let reconciler = move |object: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
        async move { Ok::<_, Infallible>(one(controller, &object, &context, pass).await) }.boxed()
    };
    let never = |_: Arc<DeserializeGuard<K>>, error: &Infallible, _: Arc<Context>| match *error {};
    let queue = work.map(Ok::<_, Infallible>);
    applier(reconciler, never, Arc::new(context), store, queue, config).for_each(|_| async {}).await;
}

async fn one<K, F>(controller: Controller, object: &DeserializeGuard<K>, context: &Context, pass: fn(Arc<K>, Context) -> F) -> Action
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Requeue, Failure>> + Send + 'static,
{
    let Ok(object) = &object.0 else {
        // Only a change of the stored object helps, and that change is an event of its own.
        let name = object.name_any();
        tracing::warn!(controller = controller.as_str(), namespace = object.namespace(), name, "a stored object does not fit the schema and is left alone");
        context.metrics.count_reconcile(controller, ReconcileResult::Error);
        return Action::await_change();
    };
    let uid = object.uid().unwrap_or_default();
    if context.freshness.is_stale(&uid, &object.resource_version().unwrap_or_default()) {
        context.metrics.count_stale_skip();
        return Action::requeue(STALE);
    }
    let timed = tokio::time::timeout(DEADLINE, pass(Arc::new(object.clone()), context.clone())).map(|result| {
        result.unwrap_or_else(|_| {
            Err(Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "the pass took longer than a minute"))
        })
    });
    let result = panics::fenced(controller, &context.metrics, timed).await;
    let kind = kind(controller);
    match result {
        Ok(requeue) => {
            let result = if requeue.is_some() { ReconcileResult::RequeueAfter } else { ReconcileResult::Success };
            context.metrics.count_reconcile(controller, result);
            requeue.map_or_else(Action::await_change, Action::requeue)
        }
        Err(failure) => {
            context.metrics.count_reconcile(controller, ReconcileResult::Error);
            context.metrics.count_failure(controller, &failure);
            let attempts = context.failures.record(kind, &uid, failure.class);
            if attempts == 1 {
                tracing::warn!(
                    controller = controller.as_str(),
                    namespace = object.namespace(),
                    name = object.name_any(),
                    class = ?failure.class,
                    reason = ?failure.reason,
                    "a pass failed: {}",
                    failure.message
                );
            }
            Action::requeue(failure.backoff(attempts, &uid))
        }
    }
}

fn kind(controller: Controller) -> Kind {
    match controller {
        Controller::Connection => Kind::VaultConnection,
        Controller::TrustDomain => Kind::TrustDomain,
        Controller::Identity => Kind::ServiceIdentity,
    }
}
