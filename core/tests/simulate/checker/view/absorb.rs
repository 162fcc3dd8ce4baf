//! Takes entries in: what requests and their answers change in what the observer knows.

use std::sync::Arc;

use countersign_core::api::{ConditionType, Verdict};

use super::{Answered, LoginView, Look, Race, Renewal, Seen, Tally, View, operator};
use crate::{
    checker::{content, signing, vault},
    history::{
        Condition, Entry, Event, KubeRequest, Leaf, ObjectId, Outcome, Process, SignAnswer, SignPath, Signature,
        StatusWrite, Uid, VaultAnswer, VaultCall, VaultRequest, Verb,
    },
};

impl<'h> View<'h> {
    /// Takes an entry in.
    pub fn absorb(&mut self, entry: &'h Entry) {
        self.now = entry.at;
        match &entry.event {
            Event::Kube(request) => self.absorb_kube(entry, request),
            Event::Status(write) => self.absorb_status(entry, write),
            Event::Vault(request) => self.absorb_vault(entry, request),
            Event::Sign(signature) => self.absorb_signature(entry, signature),
            Event::Identity(change) => self.absorb_identity(change),
            Event::Domain(change) => self.absorb_domain(change),
            Event::Connection(change) => self.absorb_connection(change),
            Event::World(change) => self.absorb_world(change),
            Event::Lease(change) => self.absorb_lease(entry, *change),
            Event::Process(change) => self.absorb_process(entry, *change),
            Event::Mark(mark) => self.absorb_mark(*mark),
            Event::Text(_) => {}
        }
    }

    fn absorb_kube(&mut self, entry: &'h Entry, request: &'h KubeRequest) {
        let process = operator(entry);
        if let Some(process) = process {
            self.remember_look(process, request);
        }
        match request.outcome {
            Outcome::Written { .. } => {
                if let Some(process) = process {
                    self.absorb_own_write(process, request);
                } else {
                    self.absorb_foreign_write(request);
                }
                let stored = request.stored.as_deref();
                if let Some(object) = self.objects.get_mut(request.object.0) {
                    object.stored = stored;
                }
            }
            Outcome::Deleted => {
                self.forget_baseline(request);
                if let Some(object) = self.objects.get_mut(request.object.0) {
                    object.stored = None;
                    object.foreign = false;
                }
            }
            Outcome::Conflict | Outcome::Refused(_) | Outcome::Unavailable => {
                if let Some(uid) = self.owner_of(request).map(|owner| owner.uid) {
                    self.excuse(uid);
                }
            }
            Outcome::Found(_) | Outcome::Absent => {}
        }
    }

    fn remember_look(&mut self, process: Process, request: &'h KubeRequest) {
        let seen = match request.outcome {
            _ if request.answer_lost => Seen::Unknown,
            Outcome::Found(_) | Outcome::Written { .. } => Seen::There(request.stored.as_deref()),
            Outcome::Absent | Outcome::Deleted => Seen::Absent,
            // A refused write leaves what was known before it.
            Outcome::Conflict | Outcome::Refused(_) if request.verb != Verb::Read => return,
            Outcome::Conflict | Outcome::Refused(_) | Outcome::Unavailable => Seen::Unknown,
        };
        let (object, now) = (request.object, self.now);
        let known = self.looks.iter_mut().find(|look| look.object == object && look.process == process);
        let read_at = match (request.verb, seen) {
            (_, Seen::Unknown) => i64::MIN / 2,
            (Verb::Read, _) => now,
            _ => known.as_ref().map_or(i64::MIN / 2, |look| look.read_at),
        };
        match known {
            Some(look) => (look.read_at, look.seen) = (read_at, seen),
            None => self.looks.push(Look { process, object, read_at, seen }),
        }
    }

    fn absorb_own_write(&mut self, process: Process, request: &'h KubeRequest) {
        let object = request.object;
        if request.verb == Verb::Withdraw {
            self.races.retain(|race| race.object != object);
            return;
        }
        let Some(stored) = request.stored.as_deref() else { return };
        let before = self.stored(object);
        if before.is_some_and(|before| !before.labelled || before.owner_uid != stored.owner_uid) {
            self.races.push(Race { process, object, at: self.now });
            if let Some(known) = self.objects.get_mut(object.0) {
                known.foreign = true;
            }
        }
        if let Some(key) = stored.content.tls_key
            && !self.key_homes.iter().any(|(known, _)| *known == key)
        {
            self.key_homes.push((key, object));
        }
        if let Some(authority) = content::embedded_authority(self, object, stored) {
            self.minted.push(authority);
        }
        if let Some(leaf) = content::new_leaf(before, stored)
            && let Some(uid) = self.owner_of(request).map(|owner| owner.uid)
        {
            let renews = before.is_some_and(|before| before.content.tls_crt.is_some());
            let clock = self.clock_of(process, self.now);
            self.absorb_stored_leaf(uid, leaf, renews, clock);
        }
        if request.answer_lost
            && let Some(uid) = self.owner_of(request).map(|owner| owner.uid)
        {
            self.excuse(uid);
        }
    }

    fn absorb_stored_leaf(&mut self, uid: Uid, leaf: &'h Arc<Leaf>, renews: bool, clock: i64) {
        let now = self.now;
        let Some(spec) = self.current_spec(uid) else { return };
        // Who asks for a late renewal, or for none, gets it.
        let wants_margin = spec.spec.renew_before.is_none() && !spec.spec.suspend;
        let due = wants_margin.then(|| leaf.not_after - (leaf.not_after - leaf.not_before) / 4);
        let Some(identity) = self.identity_mut(uid) else { return };
        identity.baseline = Some((leaf, identity.generation));
        if identity.forcing.take().is_some_and(|forced| forced.serial == leaf.serial) {
            identity.forced_at = Some(clock);
        }
        identity.unsaved = None;
        identity.failing = false;
        let (statuses, excused) = (identity.statuses_since_sign, identity.troubled);
        identity.renewal = renews.then_some(Renewal { at: now, statuses, excused });
        identity.renewal_due = due;
        self.expect_by(due.unwrap_or(i64::MAX));
    }

    fn absorb_foreign_write(&mut self, request: &KubeRequest) {
        let is_new = self.stored(request.object).is_none();
        let ours = request.stored.as_ref().is_some_and(|stored| stored.labelled && stored.owner_uid.is_some());
        self.forget_baseline(request);
        if let Some(object) = self.objects.get_mut(request.object.0)
            && is_new
        {
            object.foreign = !ours;
        }
    }

    /// Somebody else changed the target: what we stored last says nothing about it any more.
    fn forget_baseline(&mut self, request: &KubeRequest) {
        let Some(uid) = self.owner_of(request).map(|owner| owner.uid) else { return };
        if let Some(identity) = self.identity_mut(uid) {
            identity.baseline = None;
            identity.renewal_due = None;
            identity.excuse();
        }
    }

    fn absorb_status(&mut self, entry: &'h Entry, write: &'h StatusWrite) {
        let is_stored = matches!(write.outcome, Outcome::Written { .. });
        let knows = operator(entry).filter(|_| !write.answer_lost);
        let told_before = self.status(write.object, write.uid).and_then(|(status, _)| status.serial);
        if let Some(object) = self.objects.get_mut(write.object.0).filter(|_| is_stored) {
            object.status = Some((write, knows));
        }
        let Some(identity) = self.identity_mut(write.uid) else { return };
        if !is_stored || write.answer_lost {
            identity.excuse();
        }
        if !is_stored {
            return;
        }
        identity.statuses_since_sign += 1;
        // Who neither bought a certificate nor tells of it could not count it: that is left to whoever finds it.
        let is_told = write.serial.is_some() && write.serial != told_before;
        identity.tally = if is_told || identity.tally.answerer == operator(entry) {
            Tally::default()
        } else {
            Tally { unreached: 0, refused: 0, ..identity.tally }
        };
        if let Some(renewal) = &mut identity.renewal {
            renewal.statuses += 1;
        }
        if write.last_handled_request.is_some() && write.last_handled_request.as_ref() == identity.requested {
            identity.requested = None;
        }
        let is_ready = |one: &Condition| one.kind == ConditionType::Ready && one.verdict == Verdict::True;
        identity.ready_once |= write.conditions.iter().any(is_ready);
    }

    fn absorb_vault(&mut self, entry: &Entry, request: &VaultRequest) {
        let Some(process) = operator(entry) else { return };
        self.count_call(request.connection);
        let (now, place) = (self.now, self.logins.iter().position(|one| one.is_of(process, request.connection)));
        let serves_until = match (request.call, &request.answer) {
            (VaultCall::Login | VaultCall::Renew, VaultAnswer::Token(ttl)) => Some(now + ttl * 9 / 10),
            (VaultCall::Login, _) | (VaultCall::Lookup | VaultCall::Renew, VaultAnswer::Status(400 | 403)) => None,
            _ => return,
        };
        let is_login = request.call == VaultCall::Login;
        let refused = is_login && matches!(request.answer, VaultAnswer::Status(400 | 403));
        match place.and_then(|place| self.logins.get_mut(place)) {
            Some(login) => {
                login.serves_until = serves_until;
                if is_login {
                    (login.tried_at, login.refused) = (now, refused);
                }
            }
            None => self.logins.push(LoginView {
                process,
                connection: request.connection,
                tried_at: if is_login { now } else { i64::MIN / 2 },
                refused,
                serves_until,
            }),
        }
    }

    fn count_call(&mut self, connection: ObjectId) {
        if let Some(connection) = self.connections.iter_mut().find(|one| one.object == connection)
            && vault::is_shared_outage(connection.state)
        {
            connection.calls_in_outage += 1;
        }
    }

    fn absorb_signature(&mut self, entry: &Entry, signature: &'h Signature) {
        let Some(process) = operator(entry) else { return };
        if let SignPath::Vault { connection, .. } = &signature.path {
            self.count_call(*connection);
        }
        let keeps = signing::fitting_answer(self, signature);
        let due_renewal = signing::is_due_renewal(self, signature.identity);
        let is_forced = signing::is_forced(self, entry, signature);
        let (now, incidents, within) = (self.now, self.incidents, self.history.settings.truth_within);
        if let SignAnswer::Honest(leaf) | SignAnswer::Doctored(leaf, _) = &signature.answer {
            self.answers.push(Answered { process, identity: signature.identity, at: now, leaf });
        }
        let Some(identity) = self.identity_mut(signature.identity) else { return };
        (identity.statuses_since_sign, identity.troubled) = (0, false);
        identity.minute = identity.minute.at(now, signing::MINUTE, incidents);
        identity.minute.count += 1;
        if keeps.is_some() {
            identity.unsaved = keeps.map(|leaf| (process, leaf, now));
        }
        identity.forcing = match &signature.answer {
            SignAnswer::Honest(leaf) if is_forced => Some(leaf),
            _ => None,
        };
        match &signature.answer {
            SignAnswer::Honest(_) | SignAnswer::Doctored(..) => {
                identity.tally.answered += 1;
                identity.tally.answerer = Some(process);
                identity.ten_minutes = identity.ten_minutes.at(now, signing::TEN_MINUTES, incidents);
                identity.ten_minutes.count += 1;
                identity.day = identity.day.at(now, signing::DAY, incidents);
                identity.day.count += usize::from(!due_renewal);
            }
            SignAnswer::Status(code) if signing::refuses(*code) => {}
            SignAnswer::Lost | SignAnswer::Unreached | SignAnswer::Redirect(_) | SignAnswer::Status(_) => {
                identity.tally.unreached += 1;
            }
        }
        if signing::is_refusal(&signature.answer) {
            identity.tally.refused += 1;
            identity.failing = true;
            // What the issuer refuses cannot be renewed in time.
            identity.renewal_due = None;
            // What is deleted has no status that could tell of it.
            if identity.deleted_at.is_some() {
                return;
            }
            let due = *identity.truth_due.get_or_insert(now + within);
            self.expect_by(due);
        }
    }

    fn excuse(&mut self, uid: Uid) {
        if let Some(identity) = self.identity_mut(uid) {
            identity.excuse();
        }
    }
}

impl LoginView {
    fn is_of(&self, process: Process, connection: ObjectId) -> bool {
        self.process == process && self.connection == connection
    }
}
