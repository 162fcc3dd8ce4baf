//! Performs the election that `countersign_core::leader` decides.
//!
//! [`Election::run`] is one task; [`Leadership`] is the handle that everybody else asks before every
//! write and every call to Vault. The fence is computed from the clock at each question, so it also
//! closes when the election's task hangs or the process was stopped for a while.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_core::{
    api::{MANAGED_BY, MANAGED_BY_LABEL},
    leader::{Action, Loss, Record, Reply, Timing, View, decide, fence},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use super::{
    clock::Clock,
    health::{Health, Heartbeat},
    metrics::{Check, Metrics, Outcome, Resource, Verb},
    shutdown::RELEASE,
};

/// Our field manager on the Lease.
pub const FIELD_MANAGER: &str = "countersign.dev/leader";

/// The loop turns at least this often, so that its heartbeat shows that it lives.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Whether this process leads. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Term>);

#[derive(Debug)]
struct Term {
    clock: Clock,
    timing: Timing,
    /// When the last renewal that succeeded was sent, in milliseconds of the monotonic clock, plus
    /// one; 0 while following. Rounded down, which closes the fence early rather than late.
    renewed_at: AtomicU64,
    leads: watch::Sender<bool>,
}

impl Leadership {
    fn new(clock: Clock, timing: Timing) -> Self {
        Self(Arc::new(Term { clock, timing, renewed_at: AtomicU64::new(0), leads: watch::Sender::new(false) }))
    }

    /// A leadership that is never lost, for tests of what happens with two leaders.
    #[cfg(any(test, feature = "testing"))]
    pub fn forced(clock: Clock) -> Self {
        let forced =
            Self::new(clock, Timing::new(Duration::from_secs(3_600), Duration::from_secs(3_599)).unwrap_or_default());
        forced.publish(Some(forced.0.clock.monotonic()));
        forced
    }

    /// The fence: asked before every write and every call to Vault; on `false` the effect is dropped.
    pub fn may_write(&self) -> bool {
        let renewed_at = self.0.renewed_at.load(Ordering::Acquire).checked_sub(1).map(Duration::from_millis);
        fence(renewed_at, self.0.clock.monotonic(), self.0.timing)
    }

    /// Ends when this process first leads.
    pub async fn gained(&self) {
        // The sender lives in `self`, so the wait ends only by leading.
        let _ = self.0.leads.subscribe().wait_for(|leads| *leads).await;
    }

    /// Returns whether leading began or ended with this.
    fn publish(&self, renewed_at: Option<Duration>) -> bool {
        let mark = renewed_at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1) + 1);
        self.0.renewed_at.store(mark, Ordering::Release);
        self.0.leads.send_if_modified(|leads| std::mem::replace(leads, mark != 0) != (mark != 0))
    }
}

/// How a candidacy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We were told to resign; the Lease was released if we held it and the server answered.
    Resigned,
    /// We led and lost the Lease: the process must end at once with exit code 3.
    Lost(Loss),
}

/// One candidate for one Lease.
pub struct Election {
    leases: Api<Lease>,
    lease: String,
    timing: Timing,
    view: View,
    leadership: Leadership,
    clock: Clock,
    metrics: Metrics,
    health: Health,
    heartbeat: Heartbeat,
    troubled: bool,
}

/// Which Lease, and who asks for it.
#[derive(Debug, Clone)]
pub struct Candidacy {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// Name of this process; unique, also among the restarts of one pod.
    pub me: String,
    /// The same for all candidates.
    pub timing: Timing,
}

/// Why a request gave no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    NoAnswer,
    Status(u16),
}

impl Election {
    /// A candidate that has not asked yet, and the handle to its leadership.
    pub fn new(
        client: Client,
        candidacy: Candidacy,
        clock: &Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> (Self, Leadership) {
        let Candidacy { namespace, lease, me, timing } = candidacy;
        let leadership = Leadership::new(clock.clone(), timing);
        metrics.set_leader(&lease, false);
        health.require(Check::ApiServer);
        let election = Self {
            leases: Api::namespaced(client, &namespace),
            lease,
            timing,
            view: View::new(me, timing),
            leadership: leadership.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            heartbeat: health.heartbeat("election"),
            troubled: false,
        };
        (election, leadership)
    }

    /// Follows, leads and follows no more, until `resign` ends or a term is lost.
    ///
    /// A call that is under way when `resign` ends is finished first: its outcome decides whether
    /// there is anything to release.
    pub async fn run(mut self, resign: impl Future<Output = ()>) -> Ended {
        let mut resign = std::pin::pin!(resign);
        loop {
            self.heartbeat.tick();
            let pause = match decide(&self.view, self.clock.monotonic()) {
                Action::StepDown(loss) => {
                    self.end_term();
                    tracing::error!(lease = self.lease, loss = ?loss, "leadership lost");
                    return Ended::Lost(loss);
                }
                Action::Wait(pause) => pause.min(LONGEST_SLEEP),
                request => {
                    self.perform(request).await;
                    Duration::ZERO
                }
            };
            // Asked even without a pause, or a server that answers at once would keep us from stopping.
            tokio::select! {
                biased;
                () = &mut resign => {
                    self.release().await;
                    return Ended::Resigned;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn perform(&mut self, request: Action) {
        let sent = self.clock.monotonic();
        let result = timeout(self.view.deadline(sent), self.ask(&request)).await.unwrap_or(Err(Trouble::NoAnswer));
        self.count(&request, &result);
        self.note(result.as_ref().err().copied());
        let answered = self.clock.monotonic();
        self.view = self.view.clone().absorb(result.unwrap_or(Reply::Failed), sent, answered);
        if self.leadership.publish(self.view.renewed_at()) {
            self.metrics.set_leader(&self.lease, true);
            tracing::info!(lease = self.lease, candidate = self.view.me(), "leading");
        }
    }

    async fn ask(&self, request: &Action) -> Result<Reply, Trouble> {
        let now = MicroTime(self.clock.now());
        let me = self.view.me();
        let seconds = i32::try_from(self.timing.duration().as_secs()).unwrap_or(i32::MAX);
        match request {
            Action::Read => {
                let found = self.leases.get_opt(&self.lease).await.map_err(|error| Trouble::of(&error))?;
                Ok(Reply::Read(found.as_ref().map(record)))
            }
            Action::Create => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.lease.clone()),
                        labels: Some([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec {
                        holder_identity: Some(me.to_owned()),
                        lease_duration_seconds: Some(seconds),
                        lease_transitions: Some(0),
                        acquire_time: Some(now.clone()),
                        renew_time: Some(now),
                        ..LeaseSpec::default()
                    }),
                };
                let manager = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                written(self.leases.create(&manager, &lease).await, &[409])
            }
            Action::Take(on) => {
                let spec = json!({
                    "holderIdentity": me, "leaseDurationSeconds": seconds,
                    "acquireTime": now, "renewTime": now, "leaseTransitions": on.transitions.saturating_add(1),
                });
                self.patch(on, &spec).await
            }
            Action::Renew(on) => {
                self.patch(on, &json!({ "holderIdentity": me, "leaseDurationSeconds": seconds, "renewTime": now }))
                    .await
            }
            // Neither is a request; `run` acts on both.
            Action::Wait(_) | Action::StepDown(_) => Ok(Reply::Conflict),
        }
    }

    /// Changes the Lease if it is still the version that was decided on.
    async fn patch(&self, on: &Record, spec: &serde_json::Value) -> Result<Reply, Trouble> {
        let change = json!({ "metadata": { "resourceVersion": on.version }, "spec": spec });
        let manager = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        // Gone is another state than the one decided on, like a newer version.
        written(self.leases.patch(&self.lease, &manager, &Patch::Merge(change)).await, &[404, 409])
    }

    /// Gives the Lease up, so that a follower need not wait for its end. The fence closes first.
    async fn release(&mut self) {
        let held = self.view.resign();
        self.end_term();
        if let Some(record) = held {
            let change = json!({ "holderIdentity": null, "renewTime": MicroTime(self.clock.now()) });
            let result = timeout(RELEASE, self.patch(&record, &change)).await.unwrap_or(Err(Trouble::NoAnswer));
            self.count(&Action::Renew(record), &result);
            if result.is_ok() {
                tracing::info!(lease = self.lease, "lease released");
            } else {
                tracing::warn!(lease = self.lease, "lease not released; a follower takes it when it ends");
            }
        }
    }

    fn end_term(&self) {
        self.leadership.publish(None);
        self.metrics.set_leader(&self.lease, false);
    }

    fn count(&self, request: &Action, result: &Result<Reply, Trouble>) {
        let verb = match request {
            Action::Create => Verb::Create,
            Action::Take(_) | Action::Renew(_) => Verb::Patch,
            Action::Read | Action::Wait(_) | Action::StepDown(_) => return,
        };
        let outcome = match result {
            Ok(Reply::Conflict) => Outcome::Conflict,
            Ok(_) => Outcome::Success,
            Err(Trouble::Status(400..=499)) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.metrics.count_write(Resource::Leases, verb, outcome);
    }

    /// One log line when an episode begins and one when it ends, and the readiness check.
    fn note(&mut self, trouble: Option<Trouble>) {
        match trouble {
            None if self.troubled => tracing::info!(lease = self.lease, "the API server answers again"),
            Some(Trouble::NoAnswer) if !self.troubled => {
                tracing::warn!(lease = self.lease, "the API server does not answer");
            }
            Some(Trouble::Status(code)) if !self.troubled => {
                tracing::warn!(lease = self.lease, code, "the API server refuses the leader Lease");
            }
            _ => {}
        }
        self.troubled = trouble.is_some();
        let words = trouble.map(|trouble| match trouble {
            Trouble::NoAnswer => "the API server does not answer".to_owned(),
            Trouble::Status(code) => format!("the API server refuses the leader Lease with status {code}"),
        });
        self.health.report(Check::ApiServer, words.map_or(Ok(()), Err));
    }
}

impl Trouble {
    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status.code),
            _ => Self::NoAnswer,
        }
    }
}

/// The reply to a write that found another state than it was decided on when it gets one of `conflicts`.
fn written(result: Result<Lease, kube::Error>, conflicts: &[u16]) -> Result<Reply, Trouble> {
    match result {
        Ok(lease) => Ok(Reply::Written(record(&lease))),
        Err(error) => match Trouble::of(&error) {
            Trouble::Status(code) if conflicts.contains(&code) => Ok(Reply::Conflict),
            trouble => Err(trouble),
        },
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
