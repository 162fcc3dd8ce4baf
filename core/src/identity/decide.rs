//! The next effect of an identity, or why there is none.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{DeletionPolicy, MANAGED_BY, MANAGED_BY_LABEL, OWNER_ANNOTATION, OWNER_UID_LABEL, Reason},
    fault::{Class, Failure},
    identity::{
        answer::{self, Asked},
        attempts::Inputs,
        gates::{self, Admitted, Hold},
        intent::Intent,
        queue::Urgency,
        renewal::{self, second},
        requests,
        storm::{self, Cause},
        triggers::{self, Trigger},
        world::{Answer, Counted, Effect, KeyMaterial, Outcome, Progress, Settled, SignRequest, TargetView, World},
    },
    next::Next,
    value::{
        digest,
        secret_data::SecretBytes,
        target::{Owner, SecretWrite},
        x509::Leaf,
    },
};

/// Hash of what a Secret was rendered from besides key and leaf.
pub const RENDERING: &str = "countersign.dev/rendering";
/// The request that the stored certificate answered, hashed, and when.
pub const ANSWERED_REQUEST: &str = "countersign.dev/answered-request";
/// The leaf must end this long before its authority.
const AUTHORITY_MARGIN: i64 = 3_600;
/// Below this a certificate is not worth asking for.
const SHORTEST_TTL: i64 = 3_600;

/// Names the next effect, or settles. Total, pure, memoryless.
pub fn decide(intent: &Intent, world: &World, now: Timestamp) -> Next<Effect, Settled> {
    let pass = Pass { intent, world, now };
    let admitted = match gates::check(intent, world) {
        Ok(admitted) => admitted,
        Err(hold) => return pass.held(hold, None),
    };
    let rendering = rendering(intent, &admitted);
    let due = triggers::first(intent, world, &admitted, &rendering, now);
    match (due, &world.progress.failure, &world.target) {
        (None, None, _) => pass.settle(Outcome::Steady, None, None),
        (due, Some(failure), _) => pass.failed(failure, due, &admitted),
        (Some(Trigger::RootsChanged), None, _) if world.issuer_in_doubt => pass.in_doubt(),
        (Some(Trigger::RootsChanged), None, TargetView::Present(stored)) => {
            let roots = SecretBytes::from(admitted.domain.roots.clone());
            let data = stored.data.clone().into_iter().chain([("ca.crt".to_owned(), roots)]).collect();
            let write = pass.secret(data, stored.answered_request.clone(), &rendering);
            Next::Do(Effect::WriteSecret { write, trigger: Trigger::RootsChanged })
        }
        (Some(trigger), None, _) => pass.issue(&admitted, trigger, &rendering),
    }
}

/// The three inputs of one decision, so that its steps need not hand them on one by one.
#[derive(Clone, Copy)]
struct Pass<'a> {
    intent: &'a Intent,
    world: &'a World,
    now: Timestamp,
}

impl Pass<'_> {
    /// Key, signature, check, write: each step only if the one before is done and still fits.
    fn issue(self, admitted: &Admitted<'_>, trigger: Trigger, rendering: &str) -> Next<Effect, Settled> {
        let Self { intent, world, now } = self;
        let spec = intent.key.unwrap_or(admitted.domain.default_key);
        let usable = world.progress.key.as_ref().filter(|key| key.spec == spec && key.names == admitted.names);
        if let (Some(key), Some(answer)) = (usable, &world.progress.answer) {
            return self.store(admitted, trigger, key, answer, rendering);
        }
        if let Some(hold) = self.not_now(admitted, trigger) {
            return self.held(hold, Some(trigger));
        }
        let Some(key) = usable else {
            return Next::Do(Effect::MakeKey { spec, names: admitted.names.clone() });
        };
        // A signature whose result could not be stored is wasted, so the target must have been seen just now.
        if !gates::target_is_fresh(world, now) {
            let failure =
                Failure::new(Class::Conflict, Reason::WriteConflict, "the Secret was read too long ago; looking again");
            return self.carry_on(failure, Some(trigger));
        }
        let ends_in = admitted.domain.active.not_after.as_second() - AUTHORITY_MARGIN - now.as_second();
        if ends_in < SHORTEST_TTL {
            let message =
                format!("the authority of trust domain {} ends too soon to sign; replace it", intent.trust_domain);
            return self.failed(
                &Failure::new(Class::Invalid, Reason::AuthorityExpiring, message),
                Some(trigger),
                admitted,
            );
        }
        Next::Do(Effect::Sign(SignRequest {
            trust_domain: intent.trust_domain.clone(),
            authority: admitted.domain.active.id.clone(),
            csr: key.csr.clone(),
            names: admitted.names.clone(),
            ttl: admitted.ttl.min(ends_in),
            urgency: Urgency::of(self.stored_leaf(), now),
        }))
    }

    /// A back-off, the minute between two requests or the storm guard, any of which says wait.
    fn not_now(self, admitted: &Admitted<'_>, trigger: Trigger) -> Option<Hold> {
        let last_failure = self.world.memory.last_failure.as_ref();
        let backing_off = self.inputs(admitted).backing_off(last_failure, &self.intent.uid, self.now);
        backing_off.or_else(|| requests::too_soon(self.world, trigger, self.now)).or_else(|| {
            let cause = if self.is_due() { Cause::Due } else { Cause::Early };
            // What this process has bought and could not record yet counts as well.
            let issues = storm::count(&self.world.memory.issues, self.world.progress.signed, 0, self.now);
            let until = storm::blocked_until(&issues, cause, self.now)?;
            let message =
                format!("too many certificates were issued for this identity; the next may be asked for at {until}");
            Some(Hold {
                failure: Failure::new(Class::Throttled, Reason::IssuanceThrottled, message),
                until: Some(until),
            })
        })
    }

    /// The answer is checked, then key, certificate and roots travel in one write.
    fn store(
        self,
        admitted: &Admitted<'_>,
        trigger: Trigger,
        key: &KeyMaterial,
        answer: &Answer,
        rendering: &str,
    ) -> Next<Effect, Settled> {
        let stored = self.stored_leaf();
        if let Err(fault) = answer::check(&Asked { admitted, key, stored }, answer, self.now) {
            let domain = &self.intent.trust_domain;
            let message = format!(
                "the issuer's answer was refused ({fault:?}) and not stored; check the PKI role of trust domain {domain}"
            );
            return self.failed(&Failure::new(Class::Denied, Reason::AnswerRejected, message), Some(trigger), admitted);
        }
        if trigger.is_plain_renewal() && stored.is_some_and(|old| !self.is_progress(old, &answer.leaf)) {
            let message = "the new certificate does not end later than the stored one and was not stored; check the issuer's limits";
            return self.failed(
                &Failure::new(Class::Denied, Reason::RenewalNotLater, message),
                Some(trigger),
                admitted,
            );
        }
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), SecretBytes::from(answer.chain.clone())),
            ("tls.key".to_owned(), key.private_key.clone()),
            ("ca.crt".to_owned(), SecretBytes::from(admitted.domain.roots.clone())),
        ]);
        let answered = requests::mark(self.intent, self.world, self.now);
        Next::Do(Effect::WriteSecret { write: self.secret(data, answered, rendering), trigger })
    }

    fn inputs(self, admitted: &Admitted<'_>) -> Inputs {
        Inputs::of(self.intent, self.world, admitted)
    }

    /// Whether `new` is worth storing where `old` is still what the spec asks for.
    ///
    /// A renewal that does not end later would be due again at once. Who asks for a certificate wants another one, say
    /// because a key was seen, also of an issuer whose certificates all end at one time; but the end never goes down.
    fn is_progress(self, old: &Leaf, new: &Leaf) -> bool {
        let is_requested = requests::pending(self.intent, self.world).is_some();
        new.not_after > old.not_after || is_requested && new.not_after == old.not_after
    }

    /// Whether time alone is reason enough to replace what is stored.
    fn is_due(self) -> bool {
        let Self { intent, now, .. } = self;
        self.stored_leaf().is_some_and(|leaf| renewal::point(&intent.uid, leaf, intent.renew_before).at <= now)
    }

    fn stored_leaf(&self) -> Option<&Leaf> {
        match &self.world.target {
            TargetView::Present(stored) => stored.leaf.as_ref(),
            TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
        }
    }

    fn secret(self, data: BTreeMap<String, SecretBytes>, answered: Option<String>, rendering: &str) -> SecretWrite {
        let intent = self.intent;
        let mut labels = intent.target.labels.clone();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels.insert(OWNER_UID_LABEL.to_owned(), intent.uid.clone());
        let mut annotations = intent.target.annotations.clone();
        annotations.insert(OWNER_ANNOTATION.to_owned(), format!("ServiceIdentity/{}", intent.name));
        annotations.insert(RENDERING.to_owned(), rendering.to_owned());
        annotations.extend(answered.map(|request| (ANSWERED_REQUEST.to_owned(), request)));
        SecretWrite {
            namespace: intent.namespace.clone(),
            name: intent.target.name.clone(),
            type_: "kubernetes.io/tls".to_owned(),
            expected: match &self.world.target {
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

    /// Fail static: while the issuer is in doubt, what is stored stays as it is.
    fn in_doubt(self) -> Next<Effect, Settled> {
        let message = "the issuer does not answer as it should; the Secret is rewritten when it does";
        let failure =
            Failure::new(Class::Unavailable, Reason::IssuerUnavailable, message).retry_after(Duration::from_secs(60));
        self.held(Hold { failure, until: None }, Some(Trigger::RootsChanged))
    }

    fn held(self, hold: Hold, due: Option<Trigger>) -> Next<Effect, Settled> {
        // A suspended or dying object is woken by its own change, not by time.
        let sleeps = matches!(hold.failure.reason, Reason::Suspended | Reason::Deleting);
        let until = hold.until.or_else(|| (!sleeps).then(|| self.after(hold.failure.backoff(1, &self.intent.uid))));
        self.settle(Outcome::Held(hold), due, until)
    }

    /// An effect failed: an outage only parks the object, a refusal counts against it.
    fn failed(self, failure: &Failure, due: Option<Trigger>, admitted: &Admitted<'_>) -> Next<Effect, Settled> {
        match failure.class {
            Class::Conflict | Class::Unavailable | Class::Throttled => self.carry_on(failure.clone(), due),
            Class::Invalid | Class::Waiting | Class::Denied | Class::Bug => {
                let inputs = self.inputs(admitted);
                let before = inputs.attempts_before(self.world.memory.last_failure.as_ref());
                let counted = Counted { attempts: before.saturating_add(1), inputs: inputs.to_string() };
                let wait = failure.backoff(u32::try_from(counted.attempts).unwrap_or(1), &self.intent.uid);
                let outcome = Outcome::Failed { failure: failure.clone(), counted: Some(counted) };
                self.settle(outcome, due, Some(self.after(wait)))
            }
        }
    }

    /// The other side could not take it now: nothing is counted.
    fn carry_on(self, failure: Failure, due: Option<Trigger>) -> Next<Effect, Settled> {
        let wait = failure.backoff(self.world.memory.transient.saturating_add(1), &self.intent.uid);
        self.settle(Outcome::Failed { failure, counted: None }, due, Some(self.after(wait)))
    }

    fn after(self, wait: Duration) -> Timestamp {
        let seconds = i64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(3_600);
        second(self.now.as_second().saturating_add(seconds))
    }

    /// Settles, and wakes no later than the next instant at which the status must say something else.
    fn settle(self, outcome: Outcome, due: Option<Trigger>, until: Option<Timestamp>) -> Next<Effect, Settled> {
        let boundary = self.stored_leaf().and_then(|leaf| next_boundary(self.intent, leaf, self.now));
        let asleep = self.intent.deleting;
        let wake = [until, boundary].into_iter().flatten().min().filter(|_| !asleep);
        // An answer that was refused is dropped; one that nobody could store yet is kept, and so is the knowledge of
        // what was bought while nobody could see what became of it.
        let is_open = match &outcome {
            Outcome::Steady | Outcome::Failed { counted: Some(_), .. } => false,
            Outcome::Held(_) | Outcome::Failed { counted: None, .. } => self.world.progress.bought.is_some(),
        };
        // Who is blind does not report, and so has not counted yet.
        let signed = if self.world.is_blind() { self.world.progress.signed } else { 0 };
        let carry = is_open.then(|| Box::new(Progress { failure: None, signed, ..self.world.progress.clone() }));
        Next::Settle(Settled { outcome, due, wake, carry })
    }
}

/// What the Secret is rendered from besides key and leaf; all of it is public.
fn rendering(intent: &Intent, admitted: &Admitted<'_>) -> String {
    let mut parts: Vec<&[u8]> = vec![b"v1", admitted.domain.roots.as_bytes(), intent.uid.as_bytes()];
    for (key, value) in intent.target.labels.iter().chain(&intent.target.annotations) {
        parts.extend([key.as_bytes(), value.as_bytes()]);
    }
    parts.push(match intent.target.deletion {
        DeletionPolicy::Delete => b"Delete",
        DeletionPolicy::Retain => b"Retain",
    });
    digest::short(&parts)
}

/// The next instant at which time alone changes what is true of a stored leaf.
pub fn next_boundary(intent: &Intent, leaf: &Leaf, now: Timestamp) -> Option<Timestamp> {
    let point = renewal::point(&intent.uid, leaf, intent.renew_before);
    [point.at, renewal::overdue_at(leaf, point), renewal::expiring_soon_at(leaf), leaf.not_after]
        .into_iter()
        .filter(|at| *at > now)
        .min()
}
