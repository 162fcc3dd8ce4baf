//! What surrounds every pass of every controller: queue, deadline, panic fence, metrics, next time.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedReceiver};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        controller::{self, Config, applier},
        reflector::{ObjectRef, Store},
    },
};

use super::Context;
use crate::runtime::{
    events::Action,
    metrics::{Controller, Kind, ReconcileResult},
    panics,
};

/// The longest a pass may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How soon a pass over a stale copy is tried again.
const STALE: Duration = Duration::from_millis(100);

/// When to look again by ourselves; `None` = only when something changes.
pub type Requeue = Option<Duration>;

/// The time from `now` until `wake`; none of it if that has passed.
pub fn until(wake: Option<Timestamp>, now: Timestamp) -> Requeue {
    wake.map(|wake| Duration::from_secs(u64::try_from(wake.as_second() - now.as_second()).unwrap_or_default()))
}

/// A machine that does not settle.
pub fn endless(what: &str) -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, format!("the decisions about this {what} do not settle"))
}

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
    let config = Config::default().concurrency(context.handles.settings.concurrency);
    let reconciler = move |object: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
        async move { Ok::<_, Infallible>(one(controller, &object, &context, pass).await) }.boxed()
    };
    let never = |_: Arc<DeserializeGuard<K>>, error: &Infallible, _: Arc<Context>| match *error {};
    let queue = work.map(Ok::<_, Infallible>);
    applier(reconciler, never, Arc::new(context), store, queue, config).for_each(|_| async {}).await;
}

async fn one<K, F>(
    controller: Controller,
    object: &DeserializeGuard<K>,
    context: &Context,
    pass: fn(Arc<K>, Context) -> F,
) -> controller::Action
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Requeue, Failure>> + Send + 'static,
{
    let metrics = &context.handles.metrics;
    let Ok(object) = &object.0 else {
        // Only a change of the stored object helps, and that change is an event of its own.
        let (namespace, name) = (object.namespace(), object.name_any());
        tracing::warn!(
            controller = controller.as_str(),
            namespace,
            name,
            "a stored object does not fit the schema and is left alone"
        );
        metrics.count_reconcile(controller, ReconcileResult::Error);
        return controller::Action::await_change();
    };
    let uid = object.uid().unwrap_or_default();
    if context.freshness.is_stale(&uid, &object.resource_version().unwrap_or_default()) {
        metrics.count_stale_skip();
        return controller::Action::requeue(STALE);
    }
    let timed = tokio::time::timeout(DEADLINE, pass(Arc::new(object.clone()), context.clone())).map(|result| {
        result.unwrap_or_else(|_| {
            let words = "the pass took longer than a minute and was ended";
            Err(Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, words))
        })
    });
    match panics::fenced(controller, metrics, timed).await {
        Ok(requeue) => {
            let result = if requeue.is_some() { ReconcileResult::RequeueAfter } else { ReconcileResult::Success };
            metrics.count_reconcile(controller, result);
            requeue.map_or_else(controller::Action::await_change, controller::Action::requeue)
        }
        Err(failure) => {
            metrics.count_reconcile(controller, ReconcileResult::Error);
            metrics.count_failure(controller, &failure);
            let attempts = context.handles.failures.record(kind(controller), &uid, failure.class);
            if attempts == 1 {
                log(controller, object, &failure, "a pass failed");
            }
            controller::Action::requeue(context.handles.settings.scaled(failure.backoff(attempts, &uid)))
        }
    }
}

/// One event and one log line when `failure` begins to show in the conditions, none while it lasts.
pub fn tell<K: Resource<DynamicType = ()>>(
    cx: &Context,
    controller: Controller,
    object: &K,
    action: Action,
    failure: &Failure,
    before: &[Condition],
    after: &[Condition],
) {
    let reason = format!("{:?}", failure.reason);
    let shows = |conditions: &[Condition]| conditions.iter().any(|condition| condition.reason == reason);
    let worth_telling = match failure.class {
        // What waits for somebody's next step, or for a moment, is told by its condition alone.
        Class::Waiting | Class::Throttled | Class::Conflict => false,
        Class::Invalid | Class::Denied | Class::Unavailable | Class::Bug => true,
    };
    if worth_telling && shows(after) && !shows(before) {
        cx.warn(controller, object, action, failure.reason);
        log(controller, object, failure, "cannot go on");
    }
}

fn log<K: Resource<DynamicType = ()>>(controller: Controller, object: &K, failure: &Failure, what: &str) {
    tracing::warn!(
        controller = controller.as_str(),
        namespace = object.namespace(),
        name = object.name_any(),
        class = ?failure.class,
        reason = ?failure.reason,
        "{what}: {}",
        failure.message
    );
}

fn kind(controller: Controller) -> Kind {
    match controller {
        Controller::Connection => Kind::VaultConnection,
        Controller::TrustDomain => Kind::TrustDomain,
        Controller::Identity => Kind::ServiceIdentity,
        Controller::Binding => Kind::SecretBinding,
        Controller::Network => Kind::Segment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_that_has_passed_is_now() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(until(Some(at(70)), at(60)), Some(Duration::from_secs(10)));
        assert_eq!(until(Some(at(50)), at(60)), Some(Duration::ZERO));
        assert_eq!(until(None, at(60)), None);
    }
}
