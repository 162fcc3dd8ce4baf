//! What the two proxies of a lane share: numbering, the fault to inject, the log of calls.
//!
//! It decides what happens to a request; `proxy.rs` moves the bytes.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    call::{Name, Owner, Request, Scope, Side, Sort},
    history::{Call, Process},
    plan::{Act, Position},
    script::{Canned, Rule},
};

/// A fault at a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The call.
    pub target: Name,
    /// When.
    pub position: Position,
    /// What.
    pub act: Act,
}

/// Shared by the proxies and the plan's runner.
pub struct Wire {
    /// Start of the run; all times count from it.
    pub epoch: Instant,
    /// Raised at every change of state.
    pub changed: Notify,
    /// Label value by which the API proxy narrows lists of our kinds, so that lanes do not see each other.
    pub lane: Option<String>,
    state: Mutex<State>,
    steps: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// The mutable part.
#[derive(Default)]
pub struct State {
    /// Objects of the plan that runs.
    pub scope: Scope,
    /// How often each call was made: the ordinal of the next one minus one.
    counts: BTreeMap<(Side, Owner, String, String), u32>,
    /// Armed fault.
    fault: Option<Fault>,
    /// When it struck.
    pub fired: Option<Duration>,
    /// Every call.
    pub calls: Vec<Call>,
    /// What OpenBao answers instead of itself.
    pub outage: Option<Act>,
    /// What it answers at some paths instead of itself; the first that fits holds.
    pub rules: Vec<Rule>,
    /// Processes, the last of which runs.
    pub processes: Vec<Process>,
    /// The running process.
    pid: Option<Pid>,
    /// Whether the test ended it.
    pub killed: bool,
}

/// What to do with a call.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Its place in the log.
    pub index: usize,
    /// Fault that strikes.
    pub fault: Option<(Position, Act)>,
    /// What is answered instead, if so.
    pub canned: Option<Canned>,
}

impl Wire {
    /// Nothing armed. The test's own step is asked for through `steps`; without a lane, everything is seen.
    pub fn new(epoch: Instant, lane: Option<&str>, steps: mpsc::UnboundedSender<oneshot::Sender<()>>) -> Self {
        let lane = lane.map(str::to_owned);
        Self { epoch, changed: Notify::new(), lane, state: Mutex::default(), steps }
    }

    /// The state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Starts the numbering anew, with a fault or none.
    pub fn arm(&self, scope: Scope, fault: Option<Fault>) {
        let mut state = self.state();
        state.scope = scope;
        state.counts.clear();
        state.fault = fault;
        state.fired = None;
    }

    /// Takes note of a call and says what happens to it.
    pub fn admit(&self, request: Request, body: &Value, process: Option<u32>) -> Verdict {
        let at = self.now();
        let mut state = self.state();
        let owner = request.owner(&state.scope, body);
        let numbered = matches!(request.sort, Sort::Write | Sort::Vault);
        let name = owner.filter(|_| numbered).map(|owner| {
            let key = (request.side, owner, request.verb.clone(), request.resource.clone());
            let count = state.counts.entry(key).or_default();
            *count += 1;
            let (verb, resource) = (request.verb.clone(), request.resource.clone());
            Name { side: request.side, owner, verb, resource, ordinal: *count }
        });
        let outage = state.outage.filter(|_| request.side == Side::Vault).map(|act| (Position::Before, act));
        let armed = state.fault.take_if(|fault| Some(&fault.target) == name.as_ref());
        if armed.is_some() {
            state.fired = Some(at);
        }
        let fault = armed.map(|fault| (fault.position, fault.act)).or(outage);
        let canned = state.rules.iter().find(|rule| rule.fits(&request)).map(|rule| rule.canned.clone());
        let process = process.unwrap_or_else(|| state.processes.last().map_or(0, |process| process.number));
        let body = without_secrets(body);
        let call = Call {
            at,
            process,
            request,
            owner,
            name,
            body,
            forwarded: false,
            status: None,
            answered: None,
            resource_version: None,
        };
        state.calls.push(call);
        let index = state.calls.len() - 1;
        drop(state);
        self.changed.notify_waiters();
        Verdict { index, fault, canned }
    }

    /// The call was sent on.
    pub fn forwarded(&self, index: usize) {
        self.edit(index, |call| call.forwarded = true);
    }

    /// The server answered.
    pub fn done(&self, index: usize, status: u16, body: &Value) {
        let version = body.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        self.edit(index, |call| {
            call.status = Some(status);
            call.resource_version = version;
        });
    }

    /// The operator got that status.
    pub fn answered(&self, index: usize, status: u16) {
        self.edit(index, |call| call.answered = Some(status));
    }

    fn edit(&self, index: usize, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.state().calls.get_mut(index) {
            change(call);
        }
        self.changed.notify_waiters();
    }

    /// A process was started.
    pub fn born(&self, number: u32, pid: Option<Pid>) {
        let started = self.now();
        let mut state = self.state();
        state.pid = pid;
        state.killed = false;
        state.processes.push(Process { number, started, ended: None, surprise: None });
        drop(state);
        self.changed.notify_waiters();
    }

    /// The process has ended; says how if the test did not end it.
    pub fn died(&self, how: &str) {
        let ended = self.now();
        let mut state = self.state();
        state.pid = None;
        let surprise = (!state.killed).then(|| how.to_owned());
        if let Some(process) = state.processes.last_mut() {
            process.ended = Some(ended);
            process.surprise = surprise;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Kills the process with the signal that cannot be caught.
    pub fn kill(&self) {
        let mut state = self.state();
        if let Some(pid) = state.pid.take() {
            state.killed = true;
            // It can only fail if the process ended by itself, which its watcher reports.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Has the test take its own step, and waits until it is done.
    pub async fn step(&self) {
        let (done, wait) = oneshot::channel();
        if self.steps.send(done).is_ok() {
            let _ = wait.await;
        }
    }
}

/// A body without what must not be kept: values of Secrets, tokens, requests for signatures.
fn without_secrets(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        for name in ["data", "stringData", "csr", "jwt", "token", "secret_id", "status"] {
            object.remove(name);
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wire() -> Wire {
        Wire::new(Instant::now(), Some("1"), mpsc::unbounded_channel().0)
    }

    fn scope() -> Scope {
        Scope { namespace: "n".into(), domain: "d".into(), connection: None, closed: None }
    }

    fn write(name: &str) -> Request {
        Request::api(
            "PATCH",
            &format!("/api/v1/namespaces/n/secrets/{name}"),
            "application/apply-patch+yaml",
            &json!({"a": 1}),
        )
    }

    #[test]
    fn the_same_call_is_hit_in_any_order_and_once() {
        let target = Name {
            side: Side::Api,
            owner: Owner::Identity,
            verb: "APPLY".into(),
            resource: "secrets".into(),
            ordinal: 2,
        };
        let wire = wire();
        wire.arm(scope(), Some(Fault { target, position: Position::Lost, act: Act::Kill }));
        let body = json!({"a": 1});
        let hits: Vec<_> = (0..4)
            .map(|_| {
                let domain = Request::api("PATCH", "/apis/countersign.dev/v1alpha1/trustdomains/d/status", "", &body);
                assert_eq!(wire.admit(domain, &body, None).fault, None);
                wire.admit(write("s"), &body, None).fault
            })
            .collect();
        assert_eq!(hits, [None, Some((Position::Lost, Act::Kill)), None, None]);
        assert!(wire.state().fired.is_some());
    }

    #[test]
    fn an_outage_takes_every_call_to_openbao_and_no_other() {
        let wire = wire();
        wire.arm(scope(), None);
        wire.state().outage = Some(Act::Answer(503));
        let health = wire.admit(Request::vault("GET", "/v1/sys/health"), &Value::Null, None);
        assert_eq!(health.fault, Some((Position::Before, Act::Answer(503))));
        assert_eq!(wire.admit(write("s"), &json!({"a": 1}), None).fault, None);
    }

    #[test]
    fn values_are_not_kept() {
        let wire = wire();
        wire.arm(scope(), None);
        wire.admit(write("s"), &json!({"data": {"tls.key": "x"}, "metadata": {"resourceVersion": "7"}}), None);
        assert_eq!(wire.state().calls[0].body, json!({"metadata": {"resourceVersion": "7"}}));
    }
}
