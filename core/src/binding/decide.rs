//! The next effect of a binding, or why there is none.
//!
//! What tells the state of each source, then its values, then one write: each step for all sources at once, and only if
//! the one before is done. Where the states are those that the Secret was made of, no value is read and nothing is
//! written; where the values are needed whatever the state is, they are read at once if they tell it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{
        CONTENT_HASH, DeletionPolicy, INPUT_HASH, MANAGED_BY, MANAGED_BY_LABEL, OWNER_ANNOTATION, OWNER_UID_LABEL,
        Reason, RefreshMode, SourcePhase,
    },
    binding::{
        gates::{self, Admitted},
        hashes::{RENDERING, content_hash, fields_hash, rendering},
        intent::Intent,
        mapping::{self, Unusable},
        origin::{self, ORIGIN},
        phase::Phase,
        reads::Known,
        source::{Look, Source, State},
        triggers::{self, Trigger},
        world::{Attempt, ConnectionView, Effect, Memory, Outcome, Read, Settled, SourceFinding, TargetView, World},
    },
    fault::{Class, Failure},
    grants::Permit,
    next::{Next, jittered, spread},
    value::{
        digest,
        keyed::InstallKey,
        kv::Values,
        secret_data::SecretBytes,
        target::{Owner, SecretWrite},
    },
};

/// How long a version that is older than the stored one must be shown before it is taken.
const SETTLED_BACK: i64 = 60;
/// The least time between two tries of one thing that a person asked for.
const BETWEEN_FORCED: i64 = 60;
/// How long a binding waits for an API server that is away.
const AWAY: Duration = Duration::from_secs(10);
/// Over how long those are spread who were all told to ask again at one moment.
const TURNS: Duration = Duration::from_secs(5);
/// How long it waits for a connection that nobody has logged in by yet.
const UNREADY: Duration = Duration::from_secs(20);

/// Names the next effect, or settles. Total, pure, memoryless.
pub fn decide(intent: &Intent, world: &World, now: Timestamp) -> Next<Effect, Settled> {
    let pass = Pass { intent, world, now };
    let admitted = match gates::check(intent, world) {
        Ok(admitted) => admitted,
        Err(failure) => return pass.held(failure),
    };
    let Ok(key) = &world.key else { return pass.failed(internal("the install key was there a moment ago"), None) };
    let rendering = rendering(intent, &admitted);
    let phase = phase(intent, &admitted);
    if let Some(failure) = &world.progress.unwritten {
        return pass.failed(failure.clone(), None);
    }
    if world.progress.wrote {
        return pass.steady(phase, pass.findings(|_| SourcePhase::Current), true);
    }
    let Some(trigger) = triggers::first(intent, world, key, &rendering, phase, now) else {
        return pass.steady(phase, Vec::new(), false);
    };
    if let Some(outage) = gates::outage(world) {
        return pass.held(outage.clone());
    }
    if let Some((failure, until)) = pass.backing_off() {
        return pass.held_until(failure, until);
    }
    pass.refresh(&admitted, key, &rendering, phase, trigger)
}

/// How far a look at all sources got.
enum Looked {
    /// The reads that are missing, one a source.
    Missing(Vec<Read>),
    /// The state of each source, by its place.
    Seen(Vec<Option<State>>),
}

/// The three inputs of one decision, so that its steps need not hand them on one by one.
#[derive(Clone, Copy)]
struct Pass<'a> {
    intent: &'a Intent,
    world: &'a World,
    now: Timestamp,
}

impl<'a> Pass<'a> {
    /// Every source, then one write.
    fn refresh(
        self,
        admitted: &Admitted<'_>,
        key: &InstallKey,
        rendering: &str,
        phase: Phase,
        trigger: Trigger,
    ) -> Next<Effect, Settled> {
        let progress = &self.world.progress;
        if let Some((place, failure)) = progress.failures.first_key_value() {
            return self.failed(failure.clone(), Some(*place));
        }
        let states = match self.look(admitted, trigger) {
            Ok(Looked::Seen(states)) => states,
            Ok(Looked::Missing(reads)) => return Next::Do(Effect::Read { reads, fresh: trigger.is_waited_for() }),
            Err((place, failure)) => return self.failed(failure, Some(place)),
        };
        if let Some(settled) = self.went_back(&states) {
            return settled;
        }
        let input = self.input(key, rendering, &states);
        let stored = self.world.ours(&self.intent.uid);
        let is_unchanged = stored.is_some_and(|stored| stored.input.as_deref() == Some(input.as_str()));
        if is_unchanged && !trigger.needs_values() {
            return self.steady(phase, self.findings(|_| SourcePhase::Current), true);
        }
        let missing = self.values_to_read(admitted, &states);
        if !missing.is_empty() {
            return Next::Do(Effect::Read { reads: missing, fresh: trigger.is_waited_for() });
        }
        if let Err((place, failure)) = self.values_fit(&states) {
            return self.failed(failure, Some(place));
        }
        match mapping::map(self.intent, &progress.known) {
            Err(Unusable { failure, source }) => self.failed(failure, source),
            Ok(data) => Next::Do(Effect::Write(self.secret(data, key, rendering, input, &states))),
        }
    }

    /// The state of each source that is to be in the Secret, or the reads that are missing to tell them.
    fn look(self, admitted: &Admitted<'_>, trigger: Trigger) -> Result<Looked, (usize, Failure)> {
        let (mut reads, mut states) = (Vec::new(), Vec::new());
        let nothing = Known::default();
        for (place, (source, reader)) in self.intent.sources.iter().zip(&admitted.readers).enumerate() {
            let known = self.known(place).unwrap_or(&nothing);
            match source.kind.look(known, trigger.needs_values(), self.now).map_err(|failure| (place, failure))? {
                Look::Ask(what) => reads.push(Read { source: place, reader: reader.clone(), what }),
                Look::Seen(state) => states.push(state),
            }
        }
        Ok(if reads.is_empty() { Looked::Seen(states) } else { Looked::Missing(reads) })
    }

    /// A server that shows an older version than the stored one may only lag behind: it is believed a minute later.
    fn went_back(self, states: &[Option<State>]) -> Option<Next<Effect, Settled>> {
        let stored = self.world.ours(&self.intent.uid)?;
        let older = origin::older(self.intent, stored.origin.as_deref().unwrap_or_default(), states)?;
        let since = self.world.memory.went_back.as_ref().filter(|(_, seen)| *seen == older).map(|(since, _)| *since);
        let since = since.unwrap_or(self.now);
        let until = second(since.as_second().saturating_add(SETTLED_BACK));
        if until <= self.now {
            return None;
        }
        let words = "the server shows an older version than the one stored; it is taken if it still does in a minute";
        let failure = Failure::new(Class::Waiting, Reason::SourceWentBack, words);
        let memory = Memory { went_back: Some((since, older)), ..self.world.memory.clone() };
        let read = self.findings(|_| SourcePhase::Failing);
        Some(Next::Settle(Settled { outcome: Outcome::Failed { failure, read }, wake: Some(until), memory }))
    }

    fn values_to_read(self, admitted: &Admitted<'_>, states: &[Option<State>]) -> Vec<Read> {
        let sources = self.intent.sources.iter().zip(&admitted.readers).zip(states).enumerate();
        sources
            .filter(|(place, _)| self.values(*place).is_none())
            .map(|(place, ((source, reader), state))| {
                let what = source.kind.values(state.as_ref());
                Read { source: place, reader: reader.clone(), what }
            })
            .collect()
    }

    /// The values are those of the states asked for: between two calls somebody may have written.
    fn values_fit(self, states: &[Option<State>]) -> Result<(), (usize, Failure)> {
        for (place, (source, state)) in self.intent.sources.iter().zip(states).enumerate() {
            let fits = self.values(place).is_some_and(|values| source.kind.state_of(values) == *state);
            if !fits {
                let words = "a source changed while it was read; reading again";
                return Err((place, Failure::new(Class::Conflict, Reason::WriteConflict, words)));
            }
        }
        Ok(())
    }

    /// What the Secret is made of: the spec, and of each source its state, or where that tells nothing its values.
    fn input(self, key: &InstallKey, rendering: &str, states: &[Option<State>]) -> String {
        let mut parts: Vec<Vec<u8>> = vec![b"v1".to_vec(), rendering.as_bytes().to_vec()];
        for (place, state) in states.iter().enumerate() {
            parts.push(match (state, self.values(place)) {
                (Some(state), _) => state.identity.clone().into_bytes(),
                (None, Some(values)) => fields_hash(key, values).into_bytes(),
                (None, None) => Vec::new(),
            });
        }
        key.hash(parts.iter().map(Vec::as_slice))
    }

    fn known(self, place: usize) -> Option<&'a Known> {
        self.world.progress.known.get(&place)
    }

    fn values(self, place: usize) -> Option<&'a Values> {
        self.known(place)?.values.as_ref()
    }

    /// The sources as they were read, each with the phase that it is in.
    fn findings(self, phase: impl Fn(usize) -> SourcePhase) -> Vec<SourceFinding> {
        let one = |(place, source): (usize, &Source)| {
            let seen = self.known(place).map(|known| source.kind.look(known, false, self.now));
            let version = match seen {
                Some(Ok(Look::Seen(Some(state)))) => state.number,
                Some(Ok(Look::Seen(None) | Look::Ask(_)) | Err(_)) | None => None,
            };
            SourceFinding { name: source.name.clone(), version, phase: phase(place) }
        };
        self.intent.sources.iter().enumerate().map(one).collect()
    }

    fn secret(
        self,
        data: BTreeMap<String, SecretBytes>,
        key: &InstallKey,
        rendering: &str,
        input: String,
        states: &[Option<State>],
    ) -> SecretWrite {
        let Self { intent, world, .. } = self;
        let mut labels = intent.target.labels.clone();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels.insert(OWNER_UID_LABEL.to_owned(), intent.uid.clone());
        let mut annotations = intent.target.annotations.clone();
        annotations.extend([
            (OWNER_ANNOTATION.to_owned(), format!("SecretBinding/{}", intent.name)),
            (RENDERING.to_owned(), rendering.to_owned()),
            (INPUT_HASH.to_owned(), input),
            (ORIGIN.to_owned(), origin::origin(intent, states)),
            (CONTENT_HASH.to_owned(), content_hash(key, &intent.target.type_, &data)),
        ]);
        SecretWrite {
            namespace: intent.namespace.clone(),
            name: intent.target.name.clone(),
            type_: intent.target.type_.clone(),
            expected: match &world.target {
                TargetView::Present(stored) => Some(stored.resource_version.clone()),
                TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
            },
            owner: match intent.target.deletion {
                DeletionPolicy::Delete => Some(Owner { name: intent.name.clone(), uid: intent.uid.clone() }),
                DeletionPolicy::Retain => None,
            },
            labels,
            annotations,
            data,
        }
    }

    /// The failure that is still being backed off from, and until when.
    fn backing_off(self) -> Option<(Failure, Timestamp)> {
        let is_fresh = self.world.progress.known.is_empty() && self.world.progress.failures.is_empty();
        let last = self.world.memory.last.as_ref().filter(|_| is_fresh)?;
        let (wish, request) = self.inputs();
        let (old_wish, old_request) = last.inputs.split_once('/').unwrap_or((&last.inputs, ""));
        // Who owned a field of a Secret that is gone stands in nobody's way any more.
        let is_cleared = last.failure.reason == Reason::FieldConflict && self.world.ours(&self.intent.uid).is_none();
        if old_wish != wish || is_cleared {
            return None;
        }
        let wait = i64::try_from(last.failure.backoff(last.attempts, &self.intent.uid).as_secs()).unwrap_or(i64::MAX);
        let wait = if old_request == request { wait } else { wait.min(BETWEEN_FORCED) };
        let until = second(last.at.as_second().saturating_add(wait));
        (self.now < until).then(|| (last.failure.clone(), until))
    }

    /// What a failure is about: the spec and the connection, and the request apart.
    fn inputs(self) -> (String, String) {
        let revision = match &self.world.connection {
            ConnectionView::Known(connection) => connection.revision.as_bytes(),
            ConnectionView::Missing => b"",
        };
        let wish = digest::short(&[&self.intent.generation.to_be_bytes(), revision]);
        let request = self.intent.requested.as_ref().map(|request| digest::short(&[request.as_bytes()]));
        (wish, request.unwrap_or_default())
    }

    /// Nothing is left to do; `is_refreshed` if the sources were looked at in this pass.
    fn steady(self, phase: Phase, read: Vec<SourceFinding>, is_refreshed: bool) -> Next<Effect, Settled> {
        let mut memory = self.world.memory.clone();
        if is_refreshed {
            memory.checked = self.now;
            memory.handled.clone_from(&self.intent.requested);
            memory.went_back = None;
            memory.told = true;
        }
        memory.last = None;
        let wake = (self.intent.mode == RefreshMode::Auto).then(|| phase.next(self.now));
        Next::Settle(Settled { outcome: Outcome::Steady { read }, wake, memory })
    }

    fn held(self, failure: Failure) -> Next<Effect, Settled> {
        // A suspended or dying object is woken by its own change, not by time.
        let sleeps = matches!(failure.reason, Reason::Suspended | Reason::Deleting);
        let wake = (!sleeps).then(|| self.after(self.until_open(&failure)));
        // The status says so from now on: whether all is well is looked at once the gate is open again.
        let is_told = !sleeps && !self.world.is_blind();
        let memory = Memory { told: self.world.memory.told && !is_told, ..self.world.memory.clone() };
        Next::Settle(Settled { outcome: Outcome::Held(failure), wake, memory })
    }

    /// How long until a closed gate is looked at again; what a watch tells comes earlier.
    fn until_open(self, failure: &Failure) -> Duration {
        let uid = &self.intent.uid;
        let backoff = failure.backoff(1, uid);
        match (failure.reason, failure.class, failure.retry_after) {
            // All are told the same moment; one after the other, so that the first to ask finds out for all.
            (_, _, Some(_)) => backoff + TURNS.mul_f64(spread(&[uid.as_bytes()])),
            (Reason::ConnectionNotReady, ..) => jittered(UNREADY, uid),
            (_, Class::Unavailable, None) => jittered(AWAY, uid),
            (_, _, None) => backoff,
        }
    }

    fn held_until(self, failure: Failure, until: Timestamp) -> Next<Effect, Settled> {
        let memory = self.world.memory.clone();
        Next::Settle(Settled { outcome: Outcome::Held(failure), wake: Some(until), memory })
    }

    /// A refresh failed: nothing stored changes, and the next try waits as its class says.
    fn failed(self, failure: Failure, source: Option<usize>) -> Next<Effect, Settled> {
        let (wish, request) = self.inputs();
        let before = self.world.memory.last.as_ref().filter(|last| last.inputs.split('/').next() == Some(&wish));
        let attempts = before.map_or(0, |last| last.attempts).saturating_add(1);
        let wake = self.after(failure.backoff(attempts, &self.intent.uid));
        let progress = &self.world.progress;
        let read = self.findings(|place| match progress.failures.get(&place) {
            Some(failure) => phase_of(failure),
            None if source == Some(place) => phase_of(&failure),
            None => SourcePhase::Pending,
        });
        let mut memory = self.world.memory.clone();
        // Who is answered with a refusal was answered: the same request does not ask again at once.
        memory.last =
            Some(Attempt { failure: failure.clone(), at: self.now, attempts, inputs: format!("{wish}/{request}") });
        Next::Settle(Settled { outcome: Outcome::Failed { failure, read }, wake: Some(wake), memory })
    }

    fn after(self, wait: Duration) -> Timestamp {
        let seconds = i64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(3_600);
        second(self.now.as_second().saturating_add(seconds))
    }
}

/// What a failure says of the source that it came from.
fn phase_of(failure: &Failure) -> SourcePhase {
    match failure.reason {
        Reason::RemoteDeleted => SourcePhase::Deleted,
        Reason::RemoteMissing | Reason::RemoteVersionMissing | Reason::RemoteKeyMissing | Reason::MountMissing => {
            SourcePhase::Missing
        }
        Reason::AccessDenied | Reason::LoginFailed | Reason::LoginLimitsUses => SourcePhase::Denied,
        _ => SourcePhase::Failing,
    }
}

fn internal(words: &str) -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, words)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// When the sources of a binding are read: what reads the first of them by the same connection meets it.
pub fn phase(intent: &Intent, admitted: &Admitted<'_>) -> Phase {
    let reader = match admitted.readers.first() {
        Some(Permit::ServiceAccount { account, role }) => format!("{}/{account}/{role}", intent.namespace),
        Some(Permit::Operator) | None => String::new(),
    };
    let path = intent.sources.first().map(|source| source.kind.path().to_string());
    Phase::new(intent.every, &[admitted.connection.as_bytes(), reader.as_bytes(), path.unwrap_or_default().as_bytes()])
}
