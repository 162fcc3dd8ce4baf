//! The controller of the network: one pass over all segments, grants and requests at a time.
//!
//! Who may talk to whom is one question, so it is not asked object by object: a change anywhere, after a moment of
//! quiet, starts a pass that reads the caches, decides, writes what is due, and tells every object where it stands.

mod memory;
mod publish;
mod watched;

use std::time::Duration;

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    network::{
        decide::{Decision, decide},
        declared::Mode,
        model::Namespace,
        observed::Resolvers,
        plan::Write,
    },
};
use kube::ResourceExt;
use tokio::time::Instant;

pub use watched::Watched;

use self::{memory::Memory, publish::publish, watched::fitting};
use super::{
    Context,
    reconcile::{Requeue, until},
};
use crate::{
    cluster::FINALIZER,
    runtime::{
        health::Heartbeat,
        metrics::{Controller, ReconcileResult},
        panics,
    },
};

/// How long a change is left to be followed by others.
const QUIET: Duration = Duration::from_secs(2);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest a pass may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often the loop turns when nothing happens.
const TURN: Duration = Duration::from_secs(10);
/// How soon a cache that does not show our own writes yet is looked at again.
const BEHIND: Duration = Duration::from_millis(100);
/// How soon a pass that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The most policies that one pass writes, and the time between two of them: 20 a second.
const MOST_WRITES: usize = 200;
const BETWEEN_WRITES: Duration = Duration::from_millis(50);

/// Runs for as long as the process leads.
pub async fn run(cx: Context) {
    let heartbeat = cx.handles.health.heartbeat("network");
    let mut memory = Memory::new(cx.handles.clock.steady(), cx.handles.settings.time_scale);
    let mut wait = Some(Duration::ZERO);
    loop {
        heartbeat.tick();
        let turn = wait.map_or(TURN, |wait| wait.min(TURN));
        tokio::select! {
            () = cx.queues.network_changed() => settle(&cx).await,
            () = tokio::time::sleep(turn) => {
                wait = wait.map(|wait| wait.saturating_sub(turn));
                if wait != Some(Duration::ZERO) {
                    continue;
                }
            }
        }
        let metrics = &cx.handles.metrics;
        let timed = async {
            tokio::time::timeout(DEADLINE, pass(&cx, &mut memory, &heartbeat)).await.unwrap_or_else(|_| {
                let words = "the pass took longer than five minutes and was ended";
                Err(Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, words))
            })
        };
        wait = match panics::fenced(Controller::Network, metrics, timed).await {
            Ok(requeue) => {
                let result = if requeue.is_some() { ReconcileResult::RequeueAfter } else { ReconcileResult::Success };
                metrics.count_reconcile(Controller::Network, result);
                requeue
            }
            Err(failure) => {
                metrics.count_reconcile(Controller::Network, ReconcileResult::Error);
                metrics.count_failure(Controller::Network, &failure);
                tracing::warn!(controller = "network", reason = ?failure.reason, "a pass failed: {}", failure.message);
                Some(cx.handles.settings.scaled(RETRY))
            }
        };
    }
}

/// Waits until nothing changes any more, so that a rename, or a rollout of many objects, is one change.
async fn settle(cx: &Context) {
    let scaled = |wait| cx.handles.settings.scaled(wait);
    let quiet = async { while tokio::time::timeout(scaled(QUIET), cx.queues.network_changed()).await.is_ok() {} };
    let _ = tokio::time::timeout(scaled(LONGEST), quiet).await;
}

async fn pass(cx: &Context, memory: &mut Memory, heartbeat: &Heartbeat) -> Result<Requeue, Failure> {
    let watched = &cx.network;
    let declarations = watched.declarations();
    if memory.is_ahead(&watched.policies) || publish::is_ahead(cx, &declarations) {
        return Ok(Some(BEHIND));
    }
    let started = Instant::now();
    let decision = think(cx, memory).await?;
    cx.handles.metrics.show_network(&decision, started.elapsed());
    if orphans(cx, &declarations).await? {
        return Ok(None);
    }
    keep(cx, &declarations, &decision).await?;
    let wrote = perform(cx, memory, heartbeat, &decision).await;
    memory.attempts.keep_failures(&decision.plan.writes);
    publish(cx, &declarations, &decision, &memory.attempts.failures(), heartbeat).await?;
    let now = cx.handles.clock.steady();
    let retries = decision.plan.writes.iter().filter_map(|write| memory.attempts.waits(write, now));
    let wake = retries.chain(decision.plan.wake).min();
    Ok(if wrote { Some(BEHIND) } else { until(wake, now).map(|wait| wait.max(BEHIND)) })
}

/// Decides, away from the threads that serve everybody.
async fn think(cx: &Context, memory: &Memory) -> Result<Decision, Failure> {
    let settings = &cx.handles.settings;
    let resolvers = Resolvers {
        name_servers: settings.name_servers.clone(),
        node_blocks: settings.node_blocks,
        operator_namespace: Namespace::parse(&settings.operator_namespace),
    };
    let (watched, view, touched) = (cx.network.clone(), cx.view.clone(), memory.attempts.touched().clone());
    let (now, scale) = (cx.handles.clock.steady(), settings.time_scale);
    let thinking = tokio::task::spawn_blocking(move || {
        let declarations = watched.declarations();
        let snapshot = watched.snapshot(&view, &resolvers);
        decide(&declarations.objects(), snapshot, watched.standing(), &touched, scale, now)
    });
    thinking.await.map_err(|_| {
        let words = "deciding about the network met a state that must not exist; the log names the place";
        Failure::new(Class::Bug, Reason::InternalError, words)
    })
}

/// Lets segments go without a change when their definition goes; says whether it does.
async fn orphans(cx: &Context, declarations: &watched::Declarations) -> Result<bool, Failure> {
    let segments = fitting(&declarations.segments);
    let going: Vec<_> = segments.filter(|segment| segment.metadata.deletion_timestamp.is_some()).collect();
    if going.is_empty() || !cx.cluster.segments_go().await? {
        return Ok(false);
    }
    tracing::warn!("the definition of Segment is being deleted; the policies are left as they are");
    for segment in going {
        cx.cluster.keep_segment(segment, false).await?;
    }
    Ok(true)
}

/// A segment that closes something is kept until it has withdrawn it.
async fn keep(cx: &Context, declarations: &watched::Declarations, decision: &Decision) -> Result<(), Failure> {
    for segment in fitting(&declarations.segments) {
        let is_kept = segment.finalizers().iter().any(|one| one == FINALIZER);
        let is_going = segment.metadata.deletion_timestamp.is_some();
        let has_left = decision.has_left(&segment.uid().unwrap_or_default());
        let closes = decision.declared.segments.get(&segment.name_any()).is_some_and(|one| one.mode == Mode::Enforce);
        if is_kept && is_going && has_left {
            cx.cluster.keep_segment(segment, false).await?;
        } else if !is_kept && !is_going && closes {
            cx.cluster.keep_segment(segment, true).await?;
        }
    }
    Ok(())
}

/// Writes what is due, in its order; a namespace whose write fails is left alone for a while. Says whether any was made.
async fn perform(cx: &Context, memory: &mut Memory, heartbeat: &Heartbeat, decision: &Decision) -> bool {
    let settings = &cx.handles.settings;
    let mut wrote = false;
    if !cx.fence.holds() {
        return false;
    }
    for write in decision.plan.writes.iter().take(MOST_WRITES) {
        heartbeat.tick();
        let now = cx.handles.clock.steady();
        if !memory.attempts.may(write, settings.namespaces.contains(write.namespace()), now) {
            continue;
        }
        match cx.cluster.write_policy(write).await {
            Ok(version) => {
                told(write);
                memory.wrote(write, version, cx.handles.clock.steady());
                wrote = true;
            }
            Err(failure) => {
                let (namespace, name) = (write.namespace(), write.name());
                tracing::warn!(controller = "network", namespace, name, reason = ?failure.reason, "{}", failure.message);
                cx.handles.metrics.count_failure(Controller::Network, &failure);
                memory.attempts.failed(write, failure, cx.handles.clock.steady());
            }
        }
        tokio::time::sleep(settings.scaled(BETWEEN_WRITES)).await;
    }
    wrote
}

/// One line for each change of what may pass.
fn told(write: &Write) {
    let (namespace, name) = (write.namespace(), write.name());
    match write {
        Write::Apply { repairs: true, .. } => {
            tracing::warn!(namespace, name, "a policy that somebody changed was restored");
        }
        Write::Apply { expected: Some(_), .. } => tracing::info!(namespace, name, "a policy was changed"),
        Write::Apply { expected: None, .. } => tracing::info!(namespace, name, "a policy was made"),
        Write::Delete { .. } => tracing::info!(namespace, name, "a policy was deleted"),
    }
}
