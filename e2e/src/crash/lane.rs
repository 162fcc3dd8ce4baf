//! One lane: an operator behind its own pair of proxies, which takes one plan after another.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use kube::Client;
use tokio::sync::{mpsc, oneshot};

use super::{
    call::{Name, Side, Sort},
    history::{History, Marks, Subject, is_ready},
    maker::Maker,
    operator::{self, Operator, Settings},
    plan::{Act, Job, Place, Plan, Position, Workload},
    proxy::{Proxy, Upstream},
    recorder::Recorder,
    segment,
    tls::Identity,
    wire::{Fault, Wire},
    workload,
};
use crate::{bao::Bao, wait::until};

/// Within this time without faults the end must be reached (D of the design).
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Nothing happens for so long: settled.
const QUIET: Duration = Duration::from_secs(1);
/// How long OpenBao stays away.
const OUTAGE: Duration = Duration::from_secs(3);
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What all lanes share.
#[derive(Clone)]
pub struct Common {
    /// Start of the run.
    pub epoch: Instant,
    /// Unique part of names.
    pub run: String,
    /// Administrator's client.
    pub client: Client,
    /// Watches.
    pub recorder: Arc<Recorder>,
    /// API server.
    pub api: Upstream,
    /// OpenBao.
    pub vault: Upstream,
    /// OpenBao itself, with root rights.
    pub bao: Arc<Bao>,
    /// TLS of the proxies.
    pub tls: Identity,
    /// Token of the operator's account.
    pub token: String,
    /// Release binary.
    pub binary: PathBuf,
    /// Folder for logs.
    pub folder: PathBuf,
    /// By what waiting times are divided.
    pub time_scale: u32,
}

/// A lane.
pub struct Lane {
    common: Common,
    wire: Arc<Wire>,
    maker: Maker,
    steps: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    operator: Operator,
    _proxies: [Proxy; 2],
}

impl Lane {
    /// Starts proxies and operator.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(common: Common, name: &str) -> Result<Self> {
        let (sender, steps) = mpsc::unbounded_channel();
        let wire = Arc::new(Wire::new(common.epoch, Some(name), sender));
        let api = Proxy::start(Arc::clone(&wire), common.api.clone(), &common.tls).await?;
        let vault = Proxy::start(Arc::clone(&wire), common.vault.clone(), &common.tls).await?;
        let settings = Settings {
            binary: common.binary.clone(),
            folder: common.folder.clone(),
            lane: name.to_owned(),
            server: format!("https://{}", api.address),
            authority: common.tls.authority.clone(),
            token: common.token.clone(),
            time_scale: common.time_scale,
        };
        let maker = Maker {
            client: common.client.clone(),
            lane: name.to_owned(),
            vault: format!("https://{}", vault.address),
            authority: common.tls.authority.clone(),
            bao: Arc::clone(&common.bao),
        };
        let operator = Operator::start(settings, Arc::clone(&wire));
        Ok(Self { common, wire, maker, steps, operator, _proxies: [api, vault] })
    }

    /// Waits until the operator leads and has looked at its objects.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn leads(&self) -> Result<()> {
        until("the operator of a lane leads", DEADLINE, async || {
            Ok(self.looked(Job::default()).map_or_else(|| Err("it has listed nothing".to_owned()), |_| Ok(())))
        })
        .await
    }

    /// Ends the operator.
    ///
    /// # Errors
    /// When it could not be kept running.
    pub async fn stop(self) -> Result<()> {
        self.operator.stop().await
    }

    /// Runs a workload with a plan, or undisturbed; `target` is the call that the plan names. Watches it for `stay` once it
    /// has settled.
    ///
    /// # Errors
    /// When the tests themselves fail; what the operator does wrong is in the history.
    pub async fn run(
        &mut self,
        workload: Workload,
        plan: Option<Plan>,
        target: Option<Name>,
        number: usize,
        stay: Duration,
    ) -> Result<History> {
        let subject = workload::subject(workload, &self.common.run, number, self.common.time_scale);
        self.wire.arm(subject.scope.clone(), None);
        let first_call = self.wire.state().calls.len();
        self.common.recorder.begin(&subject);
        self.maker.ground(&subject).await?;
        let fault = match (plan, &target) {
            (Some(plan), Some(target)) => {
                Some(Fault { target: target.clone(), position: plan.position, act: plan.act })
            }
            _ => None,
        };
        let outcome = self.play(workload, plan, fault, &subject, stay).await;
        let versions = self.common.recorder.of(&subject)?;
        self.maker.clear(&subject, &versions).await;
        let marks = outcome?;
        let state = self.wire.state();
        // The Lease as it was when the plan began was renewed before.
        let from = state
            .calls
            .get(..first_call)
            .map_or(0, |before| before.iter().rposition(|c| c.request.sort == Sort::Lease).unwrap_or(0));
        // What follows the end answers the clearing away.
        let mut calls = state.calls.get(from..).map(<[_]>::to_vec).unwrap_or_default();
        calls.retain(|call| call.at <= marks.ended);
        let lived = |end: Option<Duration>| end.is_none_or(|end| calls.first().is_none_or(|call| end >= call.at));
        let processes = state.processes.iter().filter(|process| lived(process.ended)).cloned().collect();
        Ok(History { workload, plan, target, subject, marks, versions, calls, processes, grace: operator::LEASE_GRACE })
    }

    async fn play(
        &mut self,
        workload: Workload,
        plan: Option<Plan>,
        fault: Option<Fault>,
        subject: &Subject,
        stay: Duration,
    ) -> Result<Marks> {
        let mut marks = Marks::default();
        if subject.job == Job::Segment && !self.until(DEADLINE, subject, segment::is_declared).await? {
            bail!("{}: client and server are told nothing of what they declared", workload.name());
        }
        let Some(first) = workload.first() else {
            marks.begun = self.wire.now();
            self.wire.arm(subject.scope.clone(), fault.clone());
            let made = self.make(subject).await?;
            if made {
                self.settle(workload, fault.is_some(), subject, None, stay, &mut marks).await?;
            }
            marks.ended = self.wire.now();
            return Ok(marks);
        };
        if !self.make(subject).await?
            || !self.calm(|versions| workload::reached(first, versions, subject, None), subject).await?
        {
            bail!("{}: there is nothing to begin with", workload.name());
        }
        let versions = self.common.recorder.of(subject)?;
        let before = workload::stored(&versions, subject).context("what was stored is gone")?;
        // Lifetimes are whole seconds: a renewal within the same two would end no later, and would rightly be refused.
        let written =
            versions.iter().rfind(|version| version.is("Secret", &subject.secret)).map_or(Duration::ZERO, |v| v.at);
        tokio::time::sleep_until((self.common.epoch + written + Duration::from_secs(2)).into()).await;
        marks.begun = self.wire.now();
        self.wire.arm(subject.scope.clone(), fault.clone());
        self.act(workload, plan, subject, &mut marks).await?;
        self.settle(workload, fault.is_some(), subject, Some(&before), stay, &mut marks).await?;
        marks.ended = self.wire.now();
        Ok(marks)
    }

    /// Makes the objects one after another, each when the one before is ready, so that calls do not depend on timing.
    /// Says whether it came to the identity.
    async fn make(&mut self, subject: &Subject) -> Result<bool> {
        if subject.job == Job::Segment {
            self.maker.segment(subject).await?;
            return Ok(true);
        }
        if let Some(connection) = &subject.scope.connection {
            self.maker.connection(connection).await?;
            if !self.until(DEADLINE * 2, subject, |v| is_ready(v, "VaultConnection")).await? {
                return Ok(false);
            }
        }
        if subject.job == Job::Binding {
            self.maker.binding(subject).await?;
            return Ok(true);
        }
        self.maker.domain(subject).await?;
        if !self.until(DEADLINE * 2, subject, |v| is_ready(v, "TrustDomain")).await? {
            return Ok(false);
        }
        self.maker.identity(subject).await?;
        Ok(true)
    }

    /// The test's own step.
    async fn act(
        &mut self,
        workload: Workload,
        plan: Option<Plan>,
        subject: &Subject,
        marks: &mut Marks,
    ) -> Result<()> {
        let own = plan.filter(|plan| plan.place == Place::Step);
        match (workload, own) {
            (Workload::Delete | Workload::Retain, own) => {
                if own.is_some_and(|plan| plan.position == Position::Before) {
                    self.wire.kill();
                }
                self.maker.delete(subject).await?;
                if own.is_some_and(|plan| plan.position == Position::After) {
                    self.wire.kill();
                }
            }
            (Workload::Outage, Some(plan)) => {
                let from = self.wire.now();
                self.wire.state().outage = Some(if plan.act == Act::Kill { Act::Reset } else { plan.act });
                if plan.act == Act::Kill {
                    self.wire.kill();
                }
                self.maker.request(subject).await?;
                tokio::time::sleep(OUTAGE).await;
                self.wire.state().outage = None;
                marks.outage = Some((from, self.wire.now()));
                // What does not exist is looked for once an hour, or when somebody says that it does now.
                if plan.act == Act::Answer(404) {
                    self.maker.repaired(subject).await?;
                }
            }
            (Workload::Edit, _) => self.maker.other_port(subject).await?,
            (Workload::Open, _) => self.maker.delete(subject).await?,
            _ => self.maker.request(subject).await?,
        }
        Ok(())
    }

    /// Waits for fault, goal and quiet, then watches on.
    async fn settle(
        &mut self,
        workload: Workload,
        armed: bool,
        subject: &Subject,
        before: Option<&str>,
        stay: Duration,
        marks: &mut Marks,
    ) -> Result<()> {
        let wire = Arc::clone(&self.wire);
        if armed && !self.until(DEADLINE, subject, |_| wire.state().fired.is_some()).await? {
            marks.calm = marks.begun; // the call was never made
            return Ok(());
        }
        marks.calm = match (marks.outage, self.wire.state().fired) {
            (Some((_, end)), _) => end,
            (None, Some(fired)) => fired,
            (None, None) => marks.begun + Duration::from_nanos(1),
        };
        let reached = |versions: &[super::history::Version]| workload::reached(workload, versions, subject, before);
        if self.calm(reached, subject).await? {
            marks.settled = Some(self.wire.now());
            tokio::time::sleep(stay).await;
        }
        Ok(())
    }

    /// Waits until the goal is reached, a process leads and has looked, and nothing happens for [`QUIET`].
    async fn calm(&mut self, reached: impl Fn(&[super::history::Version]) -> bool, subject: &Subject) -> Result<bool> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            self.steps(subject).await?;
            let last = self.last().max(self.common.recorder.last(subject));
            let is_quiet = self.looked(subject.job).is_some_and(|looked| self.wire.now() > last.max(looked) + QUIET);
            if is_quiet && reached(&self.common.recorder.of(subject)?) {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Waits for a condition on the objects.
    async fn until(
        &mut self,
        within: Duration,
        subject: &Subject,
        holds: impl Fn(&[super::history::Version]) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + within;
        let recorder = Arc::clone(&self.common.recorder);
        // Taken anew only when there is a newer version: a dozen lanes that look fifty times a second would need a processor.
        let (mut last, mut versions) = (recorder.last(subject), recorder.of(subject)?);
        while Instant::now() < deadline {
            self.steps(subject).await?;
            if recorder.last(subject) != last {
                (last, versions) = (recorder.last(subject), recorder.of(subject)?);
            }
            if holds(&versions) {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Takes the test's own steps that a proxy asks for.
    async fn steps(&mut self, subject: &Subject) -> Result<()> {
        while let Ok(done) = self.steps.try_recv() {
            self.maker.delete(subject).await?;
            // The proxy may have lost its client meanwhile.
            let _ = done.send(());
        }
        Ok(())
    }

    /// When the process that runs listed the job's kind, if it holds the Lease: from then on it acts.
    fn looked(&self, job: Job) -> Option<Duration> {
        let state = self.wire.state();
        let process = state.processes.last().filter(|process| process.ended.is_none())?;
        let calls = || state.calls.iter().filter(|call| call.process == process.number && call.done());
        let leads = |call: &super::history::Call| call.request.sort == Sort::Lease && call.request.verb != "GET";
        let looks =
            |call: &&super::history::Call| call.request.resource == job.resource() && call.request.verb == "GET";
        let api = || calls().filter(|call| call.request.side == Side::Api);
        api().any(leads).then(|| api().find(looks).map(|call| call.at)).flatten()
    }

    /// When the last call was made that is not of a steady operator.
    fn last(&self) -> Duration {
        let state = self.wire.state();
        let busy = |call: &&super::history::Call| {
            !matches!(call.request.sort, Sort::Read | Sort::Lease | Sort::Health) && call.owner.is_some()
        };
        let born = state.processes.last().map_or(Duration::ZERO, |process| process.started);
        state.calls.iter().rev().find(busy).map_or(Duration::ZERO, |call| call.at).max(born)
    }
}
