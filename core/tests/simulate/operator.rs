//! One process of the operator: it observes the model, runs the real decisions, performs their
//! effects on the model, and remembers only what a real process remembers.
//!
//! Every decision is the operator's own: `Identity::decide`, `absorb`, `report`, the connection's
//! breaker, the leader's fence. What stands here is the shell, with a fault before, in and after
//! every call, and the mutants that show that the checker bites.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use countersign_core::{
    api::{Reason, ServiceIdentityStatus},
    connection::breaker::{Breaker, Outcome as CallOutcome, Permit},
    fault::{Class, Failure},
    identity::{
        Identity,
        decide::{ANSWERED_REQUEST, RENDERING, next_boundary},
        intent, report,
        world::{
            Answer, DomainView, Effect, KeyMaterial, Memory, NamespaceView, Outcome, Progress, Reply, ServiceView,
            Settled, SignRequest, Stored, TargetView, World,
        },
    },
    leader::{Timing, fence},
    next::{MAX_EFFECTS, Machine, Next},
    value::{domain::Domain, secret_data::SecretBytes, target::SecretWrite, x509::Leaf},
};

use crate::{
    chance::{Chance, Fault},
    history::{
        self, Actor, Event, FailureClass, KubeRequest, LastFailure, Preconditions, Process, ProcessChange, SignAnswer,
        SignEndpoint, SignPath, Signature, Sink, StatusWrite, Text, TextLine, VaultAnswer, VaultCall, VaultRequest,
        Verb,
    },
    model::{
        ADDRESS, FOREIGN_TEXT, Model, Rotation, SecretState, VaultMode, Version, key_pair, serial_number, time,
        uid_number,
    },
    mutants::Mutant,
    tally::{Effects, Tally},
};

/// How long a Vault token lives.
const TOKEN_LIFE: i64 = 3_600;
/// How often drift is looked for; longer than in production, or a run would mostly be looking.
const DRIFT: i64 = 4 * 3_600;
/// How often a closed gate is looked at whose opening a watch would tell; every ten minutes in production.
const WAITING: i64 = 2 * 3_600;
/// After a refused login the next waits this long.
const LOGIN_PAUSE: i64 = 30;

/// The process died in the middle of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crashed;

/// One process.
pub struct Operator {
    /// Which life of which replica.
    pub process: Process,
    /// When the last renewal of the lease was sent; `None` = it does not lead.
    pub renewed_at: Option<i64>,
    /// Its clock minus the servers'.
    pub skew: i64,
    /// Its copy of each identity, with the version; the watch may hold back newer ones.
    pub cache: Vec<Option<Version>>,
    /// When it looks at each identity again by itself.
    pub wake: Vec<Option<i64>>,
    wrote: Vec<u64>,
    /// The status of each identity that it meant to write and that is not known to be stored.
    unwritten: Vec<Option<(String, Rc<ServiceIdentityStatus>)>>,
    worlds: Vec<Option<Observed>>,
    carried: Vec<Option<Carried>>,
    transient: Vec<u32>,
    token: Option<Token>,
    refused_login_at: Option<i64>,
    breaker: Breaker,
}

/// Key and answer that could not be stored, for one generation of one object.
#[derive(Clone)]
struct Carried {
    uid: String,
    generation: i64,
    since: i64,
    progress: Progress,
}

/// What a process saw last, so that what did not change since need not be built again.
struct Observed {
    intent: Option<Rc<intent::Intent>>,
    status: Rc<ServiceIdentityStatus>,
    domain: (bool, bool, Rotation),
    world: World,
}

#[derive(Clone, Copy)]
struct Token {
    born: i64,
    until: i64,
}

/// What a pass may use besides the model.
pub struct Surroundings<'a> {
    /// The domain as it can sign, at each stage of its rotation.
    pub domains: &'a [Domain; 3],
    /// Draws faults.
    pub chance: &'a mut Chance,
    /// Counts what was hit.
    pub tally: &'a mut Tally,
    /// How the shell is broken, if it is.
    pub mutant: Mutant,
    /// Closed gates are left to the watches for longer than in production.
    pub patient: bool,
}

impl Operator {
    /// A process that has just started.
    pub fn new(process: Process, identities: usize) -> Self {
        Self {
            process,
            renewed_at: None,
            skew: 0,
            cache: vec![None; identities],
            wake: vec![None; identities],
            wrote: vec![0; identities],
            unwritten: vec![None; identities],
            worlds: (0..identities).map(|_| None).collect(),
            carried: vec![None; identities],
            transient: vec![0; identities],
            token: None,
            refused_login_at: None,
            breaker: Breaker::new("connection"),
        }
    }

    fn actor(&self) -> Actor {
        Actor::Operator(self.process)
    }

    /// The election's fence, asked before every write and every call to Vault.
    fn may_act(&self, model: &Model, mutant: Mutant) -> Result<(), Failure> {
        let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap());
        if mutant == Mutant::WritesAfterLostLease
            || fence(self.renewed_at.map(seconds), seconds(model.now), Timing::default())
        {
            return Ok(());
        }
        Err(unavailable("leadership is in doubt"))
    }

    /// One pass over one identity.
    ///
    /// # Errors
    /// [`Crashed`] when the process died in it.
    pub fn pass(&mut self, slot: usize, model: &mut Model, around: &mut Surroundings<'_>) -> Result<(), Crashed> {
        self.wake[slot] = None;
        let Some(version) = self.cache[slot].clone() else { return Ok(()) };
        if version.at < self.wrote[slot] {
            self.wake[slot] = Some(model.now + 1);
            return Ok(());
        }
        let intent = &*version.intent;
        if intent.deleting {
            return Ok(());
        }
        let stored = version.status.clone();
        self.unwritten[slot].take_if(|(uid, status)| *uid != intent.uid || **status == *stored);
        let previous = self.unwritten[slot].as_ref().map_or_else(
            || stored.clone(),
            |(_, meant)| {
                // The times of conditions are those that the server has.
                Rc::new(ServiceIdentityStatus { conditions: stored.conditions.clone(), ..(**meant).clone() })
            },
        );
        let mut world = self.observe(slot, &version, &previous, model, around)?;
        for _ in 0..=MAX_EFFECTS {
            let now = time(model.now + self.skew);
            match Identity::decide(intent, &world, now) {
                Next::Do(effect) => {
                    if let Effect::WriteSecret { trigger, .. } = &effect {
                        around.tally.trigger(*trigger);
                    }
                    let reply = self.perform(slot, effect, &world, model, around)?;
                    world = Identity::absorb(world, reply);
                }
                Next::Settle(settled) => {
                    around.tally.settled(&settled);
                    let status = report::report(intent, &world, &settled, &previous, now);
                    self.remember(slot, intent, &settled, model.now);
                    let wake = if around.patient && is_watched(&settled) {
                        let wait = Some(time(now.as_second() + WAITING));
                        wait.min(stored_leaf(&world).and_then(|leaf| next_boundary(intent, leaf, now)).or(wait))
                    } else {
                        settled.wake
                    };
                    let wake = wake.map(|wake| (wake.as_second() - self.skew).max(model.now + 1));
                    self.wake[slot] = Some(wake.unwrap_or(i64::MAX).min(model.now + DRIFT));
                    let is_news = status != *stored && !(world.is_blind() && *previous == status);
                    if is_news || around.mutant == Mutant::StatusEachPass {
                        self.write_status(slot, intent, status, model, around)?;
                    }
                    let intent = Some(version.intent);
                    let domain = (model.domain.0, model.domain.1, model.rotation);
                    self.worlds[slot] = Some(Observed { intent, status: previous, domain, world });
                    return Ok(());
                }
            }
        }
        model.push(self.actor(), Event::Process(ProcessChange::Panicked));
        Ok(())
    }

    fn remember(&mut self, slot: usize, intent: &intent::Intent, settled: &Settled, now: i64) {
        match settled.outcome {
            Outcome::Failed { counted: None, .. } => self.transient[slot] += 1,
            Outcome::Steady | Outcome::Held(_) | Outcome::Failed { .. } => self.transient[slot] = 0,
        }
        let since = self.carried[slot].take().map_or(now, |before| before.since);
        self.carried[slot] = settled.carry.as_ref().map(|progress| Carried {
            uid: intent.uid.clone(),
            generation: intent.generation,
            since,
            progress: (**progress).clone(),
        });
    }

    fn observe(
        &mut self,
        slot: usize,
        version: &Version,
        previous: &Rc<ServiceIdentityStatus>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<World, Crashed> {
        let intent = &*version.intent;
        let before = self.worlds[slot].take();
        let known = before.as_ref().map(|before| &before.world.target);
        let target = if model.fence {
            self.read_target(slot, known, model, around)?
        } else {
            Some(TargetView::Unread(Failure::new(Class::Waiting, Reason::FenceMissing, "not looked at")))
        };
        let outdated = |kept: &mut Carried| kept.uid != intent.uid || model.now - kept.since >= 600;
        self.carried[slot].take_if(outdated);
        let progress = self.carried[slot].as_ref().map(|kept| {
            let progress = kept.progress.clone();
            if kept.generation == intent.generation { progress } else { progress.for_another_spec() }
        });
        let mut observed = before.unwrap_or_else(|| Observed {
            intent: None,
            status: Rc::default(),
            domain: (false, false, Rotation::First),
            world: nothing_seen(),
        });
        let world = &mut observed.world;
        let domain = (model.domain.0, model.domain.1, model.rotation);
        if observed.domain != domain {
            world.domain = match model.domain {
                (false, _) => DomainView::Missing,
                (true, false) => DomainView::NotReady,
                (true, true) => DomainView::Ready(Box::new(around.domains[model.rotation as usize].clone())),
            };
        }
        if !Rc::ptr_eq(&observed.status, previous) {
            world.memory.issues.clone_from(&previous.issues);
            world.memory.last_failure.clone_from(&previous.last_failure);
        }
        let service = if model.service { ServiceView::Usable } else { ServiceView::Missing };
        if !observed.intent.as_ref().is_some_and(|seen| Rc::ptr_eq(seen, &version.intent)) {
            world.services = intent.services.iter().map(|name| (name.clone(), service)).collect();
        }
        world.services.values_mut().for_each(|view| *view = service);
        world.account_exists = model.account;
        world.namespace.terminating = model.terminating;
        world.issuer_in_doubt = model.vault != VaultMode::Up;
        world.claimed_by =
            (model.slots[slot].claimed && around.mutant != Mutant::ClaimIgnored).then(|| "pay/older".to_owned());
        world.fenced = model.fence;
        world.target = target.unwrap_or_else(|| std::mem::replace(&mut world.target, TargetView::Absent));
        world.target_read_at = time(model.now + self.skew);
        world.memory.transient = self.transient[slot];
        world.progress = progress.unwrap_or_default();
        Ok(observed.world)
    }

    /// The target as it is; `None` if it is as `known`.
    fn read_target(
        &mut self,
        slot: usize,
        known: Option<&TargetView>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Option<TargetView>, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Some(TargetView::Unread(failure)));
        }
        let fault = self.fault(Effects::Read, model, around)?;
        let target = model.slots[slot].target;
        let secret = model.slots[slot].secret.as_ref();
        let answered = model.api_up && !matches!(fault, Fault::Refused | Fault::Lost);
        let (outcome, stored, view) = match secret {
            _ if !answered => {
                let failure = unavailable("the API server does not answer");
                (history::Outcome::Unavailable, None, Some(TargetView::Unread(failure)))
            }
            None => (history::Outcome::Absent, None, Some(TargetView::Absent)),
            Some(secret) if !secret.labelled => (history::Outcome::Refused(422), None, Some(TargetView::Foreign)),
            Some(secret) => {
                let is_known = matches!(known, Some(TargetView::Present(stored)) if is_at(stored, secret.version));
                let view = (!is_known).then(|| TargetView::Present(Box::new(facts(model, secret))));
                (history::Outcome::Found(secret.version), Some(secret.told.clone()), view)
            }
        };
        let request = KubeRequest {
            verb: Verb::Read,
            object: target,
            sent: Preconditions::default(),
            field_manager: "countersign.dev/read".into(),
            force: false,
            outcome,
            answer_lost: false,
            stored,
        };
        model.push(self.actor(), Event::Kube(request));
        self.after(fault, model)?;
        Ok(view)
    }

    fn perform(
        &mut self,
        slot: usize,
        effect: Effect,
        world: &World,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Crashed> {
        match effect {
            Effect::MakeKey { spec, names } => {
                let fault = self.fault(Effects::MakeKey, model, around)?;
                let label = model.new_key(spec);
                self.after(fault, model)?;
                Ok(Reply::Key(KeyMaterial {
                    spki: model.public_half(&label),
                    csr: label.clone(),
                    private_key: SecretBytes::from(label),
                    spec,
                    names,
                }))
            }
            Effect::Sign(request) => self.sign(slot, &request, world, model, around),
            Effect::WriteSecret { mut write, trigger } => {
                if around.mutant == Mutant::OwnerForgotten {
                    write.owner = None;
                }
                if around.mutant == Mutant::RequestTimeForgotten
                    && let Some(mark) = write.annotations.get_mut(ANSWERED_REQUEST)
                    && let Some((request, _)) = mark.split_once(' ')
                {
                    *mark = request.to_owned();
                }
                if around.mutant == Mutant::TwoWrites && trigger.needs_signature() {
                    let mut first = write.clone();
                    first.data.insert("tls.key".to_owned(), world.target_key());
                    self.write(slot, &first, model, around)?;
                    let version = model.slots[slot].secret.as_ref().map(|secret| secret.version.to_string());
                    return self.write(slot, &SecretWrite { expected: version, ..write }, model, around);
                }
                self.write(slot, &write, model, around)
            }
        }
    }

    fn sign(
        &mut self,
        slot: usize,
        request: &SignRequest,
        world: &World,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Reply::Failed(failure));
        }
        let clock = Duration::from_secs(u64::try_from(model.now).unwrap());
        match self.breaker.ask(clock) {
            Permit::Refuse(failure) => return Ok(Reply::Failed(failure)),
            Permit::Probe => {
                let answer = model.answer();
                self.vault(VaultCall::Health, answer.clone(), model);
                match answer {
                    VaultAnswer::Fine => self.breaker.probed(clock),
                    _ => {
                        let failure = unavailable("the server does not answer");
                        self.breaker.record(clock, CallOutcome::Unavailable(failure.clone()));
                        return Ok(Reply::Failed(failure));
                    }
                }
            }
            Permit::Call => {}
        }
        let fault = self.fault(Effects::Sign, model, around)?;
        if around.mutant == Mutant::LoginPerSignature {
            self.token = None;
        }
        let mut result = self.log_in(model);
        if result.is_ok() {
            result = Err(Failure::new(Class::Bug, Reason::InternalError, "no answer"));
            for attempt in 0..2 {
                let dead = self.token.is_none_or(|token| token.born < model.tokens_valid_since);
                let answer = self.answer_signature(slot, request, dead, fault, model, around);
                match answer {
                    Ok(reply) => {
                        self.breaker.record(clock, CallOutcome::Answered);
                        self.after(fault, model)?;
                        return Ok(self.mutated_reply(reply, around));
                    }
                    Err(failure) if failure.reason == Reason::AccessDenied && attempt == 0 => {
                        let lookup = if dead || !matches!(model.vault, VaultMode::Up | VaultMode::Forbids) {
                            VaultAnswer::Status(403)
                        } else {
                            VaultAnswer::Fine
                        };
                        let is_dead = lookup != VaultAnswer::Fine;
                        self.vault(VaultCall::Lookup, lookup, model);
                        result = Err(failure);
                        if !is_dead {
                            break;
                        }
                        self.token = None;
                        if let Err(failure) = self.log_in(model) {
                            result = Err(failure);
                            break;
                        }
                    }
                    Err(failure) => {
                        result = Err(failure);
                        break;
                    }
                }
            }
        }
        self.after(fault, model)?;
        let failure = result.err().unwrap();
        match failure.class {
            Class::Unavailable => self.breaker.record(clock, CallOutcome::Unavailable(failure.clone())),
            Class::Throttled => self.breaker.record(clock, CallOutcome::Throttled(failure.clone())),
            Class::Invalid | Class::Waiting | Class::Denied | Class::Conflict | Class::Bug => {
                self.breaker.record(clock, CallOutcome::Answered);
            }
        }
        self.mutated_failure(slot, &failure, world, model, around)?;
        Ok(Reply::Failed(mutated(failure, around.mutant)))
    }

    /// One login serves all signatures until its token ends.
    fn log_in(&mut self, model: &mut Model) -> Result<(), Failure> {
        if self.token.is_some_and(|token| model.now < token.until) {
            return Ok(());
        }
        if self.refused_login_at.is_some_and(|at| model.now < at + LOGIN_PAUSE) {
            return Err(Failure::new(Class::Denied, Reason::LoginFailed, "the login was just refused"));
        }
        let answer = model.answer();
        let told = if answer == VaultAnswer::Fine { VaultAnswer::Token(TOKEN_LIFE) } else { answer.clone() };
        self.vault(VaultCall::Login, told, model);
        match answer {
            VaultAnswer::Fine => {
                self.token = Some(Token { born: model.now, until: model.now + TOKEN_LIFE * 9 / 10 });
                Ok(())
            }
            VaultAnswer::Status(403 | 404) => {
                self.refused_login_at = Some(model.now);
                Err(Failure::new(Class::Denied, Reason::LoginFailed, "the login was refused"))
            }
            VaultAnswer::Status(429) => Err(Failure::new(Class::Throttled, Reason::Throttled, "too fast")),
            _ => Err(unavailable("the server does not answer")),
        }
    }

    fn answer_signature(
        &mut self,
        slot: usize,
        request: &SignRequest,
        dead: bool,
        fault: Fault,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Failure> {
        let spki = model.public_half(&request.csr);
        let asked = Arc::new(history::SignRequest {
            public_key: key_pair(&spki),
            spiffe_id: Text::from(request.names.uris.first().cloned().unwrap_or_default()),
            dns_names: request.names.dns.iter().cloned().map(Text::from).collect(),
            ip_addresses: Vec::new(),
            ttl: request.ttl,
        });
        let uid = self.cache[slot].as_ref().unwrap().uid();
        let answer = match (model.answer(), dead, fault) {
            (VaultAnswer::Fine, true, _) => SignAnswer::Status(403),
            (VaultAnswer::Fine, false, _) if model.vault == VaultMode::Answers(404) => SignAnswer::Status(404),
            (VaultAnswer::Fine, false, _) if model.vault == VaultMode::Forbids => SignAnswer::Status(403),
            (VaultAnswer::Fine, false, Fault::Refused) => SignAnswer::Unreached,
            (VaultAnswer::Fine, false, _) => {
                let doctoring = model.doctor.take();
                let (leaf, facts, chain) = model.answer_for(request, doctoring);
                if fault == Fault::Lost {
                    SignAnswer::Lost
                } else {
                    let told = doctoring.map_or_else(
                        || SignAnswer::Honest(facts.clone()),
                        |how| SignAnswer::Doctored(facts.clone(), how),
                    );
                    self.signature(uid, asked, told, model, around.mutant);
                    return Ok(Reply::Issued(Answer { chain, trusted: facts.verifies, leaf }));
                }
            }
            (VaultAnswer::Status(code), _, _) => SignAnswer::Status(code),
            (_, _, _) => SignAnswer::Unreached,
        };
        self.signature(uid, asked, answer.clone(), model, around.mutant);
        Err(match answer {
            SignAnswer::Status(403) => {
                Failure::new(Class::Denied, Reason::AccessDenied, "the server refuses the signature")
            }
            SignAnswer::Status(404) => Failure::new(Class::Invalid, Reason::IssuerNotUsable, "the issuer is gone"),
            SignAnswer::Status(429) => Failure::new(Class::Throttled, Reason::Throttled, "too fast"),
            _ => unavailable("the server does not answer"),
        })
    }

    fn signature(
        &self,
        uid: history::Uid,
        asked: Arc<history::SignRequest>,
        answer: SignAnswer,
        model: &mut Model,
        mutant: Mutant,
    ) {
        let elsewhere = mutant == Mutant::RedirectsFollowed && matches!(answer, SignAnswer::Status(_));
        let path = SignPath::Vault {
            connection: model.ids.connection,
            sent_to: if elsewhere { "https://elsewhere.example".into() } else { ADDRESS.into() },
            mount: "pki_int".into(),
            role: "workload".into(),
            endpoint: SignEndpoint::Sign,
        };
        model.push(self.actor(), Event::Sign(Signature { identity: uid, path, asked, answer }));
    }

    fn vault(&self, call: VaultCall, answer: VaultAnswer, model: &mut Model) {
        let request = VaultRequest { connection: model.ids.connection, sent_to: ADDRESS.into(), call, answer };
        model.push(self.actor(), Event::Vault(request));
    }

    fn write(
        &mut self,
        slot: usize,
        write: &SecretWrite,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Reply, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Reply::Failed(failure));
        }
        let expected = if around.mutant == Mutant::NoVersion { None } else { write.expected.clone() };
        let fault = self.fault(Effects::WriteSecret, model, around)?;
        let before = model.slots[slot].secret.clone();
        let sent = Preconditions { version: expected.as_deref().and_then(|version| version.parse().ok()), uid: None };
        let foreign = before.as_ref().is_some_and(|secret| !secret.labelled);
        let moved = expected.is_some() && expected != before.as_ref().map(|secret| secret.version.to_string());
        let (outcome, failure) = if !model.api_up || fault == Fault::Refused {
            (history::Outcome::Unavailable, Some(unavailable("the API server does not answer")))
        } else if foreign {
            (history::Outcome::Refused(422), Some(Failure::new(Class::Waiting, Reason::TargetNotOwned, "not ours")))
        } else if moved {
            (
                history::Outcome::Conflict,
                Some(Failure::new(Class::Conflict, Reason::WriteConflict, "it changed meanwhile")),
            )
        } else {
            let after = apply(write, before.as_ref(), model);
            let versions =
                history::Outcome::Written { before: before.map(|secret| secret.version), after: after.version };
            model.slots[slot].secret = Some(after);
            (versions, None)
        };
        let secret = model.slots[slot].secret.clone();
        let written = matches!(outcome, history::Outcome::Written { .. });
        let request = KubeRequest {
            verb: Verb::Apply,
            object: model.slots[slot].target,
            sent,
            field_manager: "countersign.dev/identity".into(),
            force: false,
            outcome,
            answer_lost: fault == Fault::Lost && written,
            stored: secret.as_ref().filter(|_| written).map(|secret| secret.told.clone()),
        };
        model.push(self.actor(), Event::Kube(request));
        self.after(fault, model)?;
        Ok(match (failure, secret) {
            (Some(failure), _) => Reply::Failed(failure),
            (None, _) if fault == Fault::Lost => Reply::Failed(unavailable("no answer")),
            (None, Some(secret)) => Reply::Written(Box::new(facts(model, &secret))),
            (None, None) => Reply::Failed(unavailable("no answer")),
        })
    }

    fn write_status(
        &mut self,
        slot: usize,
        intent: &intent::Intent,
        status: ServiceIdentityStatus,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Crashed> {
        let status = Rc::new(status);
        if around.mutant != Mutant::UnwrittenIsForgotten {
            self.unwritten[slot] = Some((intent.uid.clone(), status.clone()));
        }
        if self.may_act(model, around.mutant).is_err() {
            self.wake[slot] = Some(model.now + 2);
            return Ok(());
        }
        let fault = self.fault(Effects::WriteStatus, model, around)?;
        let told = self.told(&status, around.mutant);
        let current = model.slots[slot].identity.as_ref().is_some_and(|now| now.intent.uid == intent.uid);
        let outcome = if !model.api_up || fault == Fault::Refused {
            history::Outcome::Unavailable
        } else if current {
            let after = model.fresh();
            let here = model.slots[slot].identity.as_mut().unwrap();
            let before = Some(here.at);
            (here.at, here.status) = (after, status);
            history::Outcome::Written { before, after }
        } else {
            history::Outcome::Conflict
        };
        let uid = uid_number(&intent.uid);
        let lost = fault == Fault::Lost && matches!(outcome, history::Outcome::Written { .. });
        let written = StatusWrite { object: model.slots[slot].object, uid, outcome, answer_lost: lost, ..told };
        model.push(self.actor(), Event::Status(Box::new(written)));
        match outcome {
            history::Outcome::Written { after, .. } if !lost => {
                (self.wrote[slot], self.unwritten[slot]) = (after, None);
            }
            _ => self.wake[slot] = Some(model.now + 2),
        }
        self.after(fault, model)
    }

    fn told(&self, status: &ServiceIdentityStatus, mutant: Mutant) -> StatusWrite {
        let conditions = status.conditions.iter().filter_map(|condition| {
            Some(history::Condition {
                kind: crate::words::condition(&condition.type_)?,
                verdict: crate::words::verdict(&condition.status),
                reason: crate::words::reason(&condition.reason)?,
                message: Text::from(match mutant {
                    Mutant::ForeignErrorText if condition.status == "False" => {
                        format!("{}: {FOREIGN_TEXT}", condition.message)
                    }
                    _ => condition.message.clone(),
                }),
            })
        });
        StatusWrite {
            object: history::ObjectId(0),
            uid: history::Uid(0),
            outcome: history::Outcome::Absent,
            answer_lost: false,
            observed_generation: status.observed_generation.unwrap_or(-1),
            conditions: conditions.collect(),
            not_after: status.not_after.as_ref().map(|end| end.0.as_second()),
            serial: status.serial.as_deref().map(serial_number),
            authority: status.authority.clone().map(Text::from),
            renew_at: status.renew_at.as_ref().map(|at| at.0.as_second()),
            revision: status.revision.unwrap_or_default(),
            issues: status.issues.iter().map(|window| i64::from(window.count)).max().unwrap_or_default(),
            last_failure: status.last_failure.as_ref().map(|failure| LastFailure {
                reason: failure.reason,
                class: class(failure.class),
                attempts: failure.attempts,
                inputs: Text::from(failure.inputs.clone()),
                message: Text::from(failure.message.clone()),
            }),
            last_handled_request: status.last_handled_request.clone().map(Text::from),
        }
    }

    /// Draws the fault of a call and dies before it if that is the fault.
    fn fault(&self, effect: Effects, model: &mut Model, around: &mut Surroundings<'_>) -> Result<Fault, Crashed> {
        let fault = around.chance.fault();
        around.tally.call(effect, fault);
        if fault == Fault::KilledBefore {
            return self.die(model);
        }
        Ok(fault)
    }

    fn after(&self, fault: Fault, model: &mut Model) -> Result<(), Crashed> {
        if fault == Fault::KilledAfter { self.die(model) } else { Ok(()) }
    }

    fn die<T>(&self, model: &mut Model) -> Result<T, Crashed> {
        model.push(self.actor(), Event::Process(ProcessChange::Killed));
        Err(Crashed)
    }

    fn mutated_reply(&self, reply: Reply, around: &Surroundings<'_>) -> Reply {
        match reply {
            Reply::Issued(mut answer) if around.mutant == Mutant::AnswerNotVerified => {
                // As if no check were made: the facts are what was asked for, whatever the bytes say.
                answer.trusted = true;
                Reply::Issued(answer)
            }
            other => other,
        }
    }

    /// Mutants that act on a refusal as if it proved something.
    fn mutated_failure(
        &mut self,
        slot: usize,
        failure: &Failure,
        _world: &World,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Crashed> {
        let deletes = match around.mutant {
            Mutant::NotFoundDeletes => failure.reason == Reason::IssuerNotUsable,
            Mutant::ForbiddenIsGone => matches!(failure.reason, Reason::AccessDenied | Reason::LoginFailed),
            _ => false,
        };
        if around.mutant == Mutant::ForeignErrorText {
            let text = Text::from(format!("vault said {FOREIGN_TEXT}"));
            model.push(self.actor(), Event::Text(TextLine { sink: Sink::Log, text }));
        }
        if let Some(secret) = deletes.then(|| model.slots[slot].secret.take()).flatten() {
            let request = KubeRequest {
                verb: Verb::Delete,
                object: model.slots[slot].target,
                sent: Preconditions { version: Some(secret.version), uid: Some(secret.uid) },
                field_manager: "countersign.dev/identity".into(),
                force: false,
                outcome: history::Outcome::Deleted,
                answer_lost: false,
                stored: None,
            };
            model.push(self.actor(), Event::Kube(request));
        }
        Ok(())
    }
}

/// The mutant that counts an outage against the object.
fn mutated(failure: Failure, mutant: Mutant) -> Failure {
    if mutant == Mutant::OutageCounts && failure.class == Class::Unavailable {
        Failure::new(Class::Denied, Reason::AccessDenied, failure.message)
    } else {
        failure
    }
}

trait TargetKey {
    fn target_key(&self) -> SecretBytes;
}

impl TargetKey for World {
    fn target_key(&self) -> SecretBytes {
        match &self.target {
            TargetView::Present(stored) => stored.data.get("tls.key").cloned().unwrap_or_default(),
            TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => SecretBytes::default(),
        }
    }
}

/// A Secret of the model as the shell reads it.
fn facts(model: &Model, secret: &SecretState) -> Stored {
    let data = [("tls.crt", &secret.chain), ("tls.key", &secret.key), ("ca.crt", &secret.roots)];
    let known = model.leaves.get(&secret.chain);
    Stored {
        resource_version: secret.version.to_string(),
        owner_uid: secret.owner.clone(),
        type_: secret.type_.clone(),
        immutable: secret.immutable,
        leaf: known.map(|(leaf, _)| leaf.clone()),
        key: (!secret.key.is_empty()).then(|| model.public_half(&secret.key)),
        trusted: known.is_some_and(|(_, facts)| facts.verifies),
        rendering: secret.rendering.clone(),
        answered_request: secret.answered.clone(),
        data: data.into_iter().map(|(key, text)| (key.to_owned(), SecretBytes::from(text.clone()))).collect(),
    }
}

/// What an apply makes of a Secret.
fn apply(write: &SecretWrite, before: Option<&SecretState>, model: &mut Model) -> SecretState {
    let text = |key: &str| {
        write.data.get(key).map(|bytes| String::from_utf8(bytes.expose().to_vec()).unwrap()).unwrap_or_default()
    };
    let (uid, version) = (model.fresh(), model.fresh());
    let written = SecretState {
        told: Arc::default(),
        uid: before.map_or(history::Uid(uid), |secret| secret.uid),
        version,
        labelled: write.labels.contains_key("app.kubernetes.io/managed-by"),
        owner: write.labels.get("countersign.dev/owner-uid").cloned(),
        owned_by_reference: write.owner.is_some(),
        type_: before.map_or_else(|| "kubernetes.io/tls".to_owned(), |secret| secret.type_.clone()),
        immutable: false,
        chain: text("tls.crt"),
        key: text("tls.key"),
        roots: text("ca.crt"),
        rendering: write.annotations.get(RENDERING).cloned(),
        answered: write.annotations.get(ANSWERED_REQUEST).cloned(),
    };
    written.tell(model)
}

/// Nothing was looked at yet.
fn nothing_seen() -> World {
    World {
        account_exists: false,
        namespace: NamespaceView::default(),
        services: BTreeMap::new(),
        cluster_domain: "cluster.local".to_owned(),
        domain: DomainView::Missing,
        issuer_in_doubt: false,
        claimed_by: None,
        fenced: false,
        target: TargetView::Absent,
        target_read_at: time(0),
        memory: Memory::default(),
        progress: Progress::default(),
    }
}

/// Whether a watch tells when a pass that ended like this is worth another.
fn is_watched(settled: &Settled) -> bool {
    matches!(&settled.outcome, Outcome::Held(hold) if hold.failure.class == Class::Waiting && hold.until.is_none())
}

fn stored_leaf(world: &World) -> Option<&Leaf> {
    match &world.target {
        TargetView::Present(stored) => stored.leaf.as_ref(),
        TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
    }
}

/// Whether this is what stands there at a version.
fn is_at(stored: &Stored, version: u64) -> bool {
    stored.resource_version.parse() == Ok(version)
}

fn unavailable(what: &str) -> Failure {
    Failure::new(Class::Unavailable, Reason::IssuerUnavailable, what)
}

fn class(class: Class) -> FailureClass {
    match class {
        Class::Invalid => FailureClass::Invalid,
        Class::Waiting => FailureClass::Waiting,
        Class::Denied => FailureClass::Denied,
        Class::Throttled => FailureClass::Throttled,
        Class::Unavailable => FailureClass::Unavailable,
        Class::Conflict => FailureClass::Conflict,
        Class::Bug => FailureClass::Bug,
    }
}
