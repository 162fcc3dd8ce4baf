//! What goes wrong, and what people do, while a run is disturbed.

use std::sync::Arc;

use countersign_core::api::{DeletionPolicy, RefreshMode};

use super::{Run, specs};
use crate::{
    history::{Actor, BindingEdit, Outcome, Remote, SLOTS, Stored, VaultState, Verb, Version, WATCH_LAG, WorldChange},
    model::{
        GRANTS, OPAQUE, SecretState,
        server::{PLACES, new_fields, whole},
    },
};

impl Run<'_> {
    pub(super) fn disturb(&mut self) {
        let slot = usize::try_from(self.chance.below(2)).unwrap();
        match self.chance.below(52) {
            0..=11 => self.remote(),
            12..=23 => self.around(slot),
            24..=31 => self.person(slot),
            32..=35 => self.target(slot),
            36..=39 => self.process(),
            40..=42 => self.mend_some(),
            _ => {
                let long = self.chance.one_of(&[20, 62, 130, 320, 700, 1_000, 2_000, 4_000]);
                let wait = long + i64::try_from(self.chance.below(60)).unwrap();
                self.advance(wait);
            }
        }
    }

    /// What the server holds changes.
    fn remote(&mut self) {
        let place = usize::try_from(self.chance.below(PLACES.len() as u64)).unwrap();
        let now = self.model.now;
        let held = self.model.server.held[place].as_ref();
        let newest = held.map_or(0, |held| held.current);
        let number = (newest - i64::try_from(self.chance.below(2)).unwrap()).max(1);
        let soon = now + 30 + i64::try_from(self.chance.below(3_000)).unwrap();
        let server = &mut self.model.server;
        let change = match self.chance.below(12) {
            0 => server.change(place, number, |version| version.deleted = Some(now)),
            1 => server.change(place, newest, |version| version.deleted = None),
            2 => server.change(place, number, |version| version.destroyed = true),
            3 => server.change(place, newest, |version| version.deleted = Some(soon)),
            4 => server.remove(place),
            5 => {
                if let Some(gone) = server.remove(place) {
                    self.world(gone);
                }
                Some(self.put(place))
            }
            6 => {
                let shows_older = self.model.server.lagging.take().is_some();
                let back = usize::try_from(self.chance.below(2)).unwrap();
                let lags = !shows_older && self.model.server.lag(back);
                if lags != shows_older {
                    self.world(WorldChange::Lagging(lags));
                    // Long enough for somebody to see it.
                    let wait = i64::try_from(self.chance.below(900)).unwrap();
                    self.advance(wait);
                }
                None
            }
            7 => {
                let ends = Some(soon);
                let fields = new_fields(self.model.fresh(), true);
                Some(self.model.server.put(place, fields, now, ends))
            }
            _ => Some(self.put(place)),
        };
        if let Some(change) = change {
            self.world(change);
        }
    }

    /// A new version, sometimes of the same values.
    pub(super) fn put(&mut self, place: usize) -> WorldChange {
        let known = self.model.server.current(place).map(|(_, fields)| fields.clone());
        let known = known.filter(|_| self.chance.below(5) == 0);
        let number = self.model.fresh();
        let has_extra = self.chance.below(2) == 0;
        let fields = known.unwrap_or_else(|| new_fields(number, has_extra));
        self.model.server.put(place, fields, self.model.now, None)
    }

    /// What lies around a binding changes.
    fn around(&mut self, slot: usize) {
        match self.chance.below(16) {
            0..=5 => {
                let state = self.chance.one_of(&[
                    VaultState::Up,
                    VaultState::Sealed,
                    VaultState::Cut,
                    VaultState::Answers(403),
                    VaultState::Answers(404),
                    VaultState::Answers(429),
                    VaultState::Answers(500),
                    VaultState::RefusesLogins,
                    VaultState::Babbles,
                    VaultState::Redirects,
                ]);
                self.vault(state);
            }
            6 => {
                self.model.revoked = self.model.next;
                self.world(WorldChange::TokensRevoked);
            }
            7 | 8 => {
                let granted = self.chance.below(GRANTS.len() as u64);
                self.grant(usize::try_from(granted).unwrap());
            }
            9 => {
                let uid = self.model.fresh();
                self.model.account = if self.model.account.is_some() { None } else { Some(uid) };
                self.world(WorldChange::Account(self.model.account.is_some()));
                self.wake_all();
            }
            10 => {
                self.model.metadata_closed = !self.model.metadata_closed;
                self.world(WorldChange::MetadataClosed(self.model.metadata_closed));
            }
            11 | 12 => {
                self.model.api_up = !self.model.api_up;
                self.world(WorldChange::ApiServer(self.model.api_up));
            }
            13 => {
                self.model.fence = !self.model.fence;
                self.world(WorldChange::Fence(self.model.fence));
                self.wake_all();
            }
            14 => {
                self.model.terminating = !self.model.terminating;
                self.world(WorldChange::Terminating(self.model.terminating));
                self.wake_all();
            }
            _ => self.claim(slot, !self.model.slots[slot].claimed),
        }
    }

    /// The server answers otherwise from now on; whoever looks at its health does so within a minute.
    pub(super) fn vault(&mut self, state: VaultState) {
        if self.model.vault == state {
            return;
        }
        self.model.vault = state;
        if state == VaultState::RefusesLogins {
            self.model.revoked = self.model.next;
        }
        self.world(WorldChange::Vault(state));
        let next = self.model.now + i64::try_from(self.chance.below(60)).unwrap();
        for operator in self.replicas.iter_mut().filter_map(|replica| replica.operator.as_mut()) {
            if !operator.watches_health(&self.model) || operator.next_health <= self.model.now {
                operator.next_health = next;
            }
        }
    }

    /// Another grant: an edit of the connection.
    pub(super) fn grant(&mut self, granted: usize) {
        if self.model.granted == granted {
            return;
        }
        self.model.granted = granted;
        self.model.connection.generation += 1;
        self.tell_grants();
        self.wake_all();
    }

    /// An older binding names the target of this one, or does so no longer.
    pub(super) fn claim(&mut self, slot: usize, claimed: bool) {
        self.model.slots[slot].claimed = claimed;
        self.world(WorldChange::Claimed { slot, claimed });
        self.wake_all();
    }

    /// Whatever is broken around is whole again.
    pub(super) fn mend_some(&mut self) {
        self.vault(VaultState::Up);
        if self.model.account.is_none() {
            self.model.account = Some(self.model.fresh());
            self.world(WorldChange::Account(true));
        }
        if !std::mem::replace(&mut self.model.api_up, true) {
            self.world(WorldChange::ApiServer(true));
        }
        if !std::mem::replace(&mut self.model.fence, true) {
            self.world(WorldChange::Fence(true));
        }
        if std::mem::replace(&mut self.model.terminating, false) {
            self.world(WorldChange::Terminating(false));
        }
        if std::mem::replace(&mut self.model.metadata_closed, false) {
            self.world(WorldChange::MetadataClosed(false));
        }
        if self.model.server.lagging.take().is_some() {
            self.world(WorldChange::Lagging(false));
        }
        self.grant(0);
        for slot in 0..SLOTS {
            if self.model.slots[slot].claimed {
                self.claim(slot, false);
            }
        }
        self.wake_all();
    }

    /// A person changes a binding.
    fn person(&mut self, slot: usize) {
        let Self { chance, .. } = self;
        match chance.below(16) {
            0 | 1 => {
                let mut drawn = specs::new_spec(chance);
                self.edit(slot, |spec| (spec.sources, spec.entries) = (drawn.sources.split_off(0), drawn.entries));
            }
            2 | 3 => {
                let mut drawn = self.model.slots[slot].binding.as_ref().map(|binding| (*binding.spec).clone());
                if let Some(drawn) = drawn.as_mut() {
                    specs::draw_entries(drawn, &mut self.chance);
                }
                self.edit(slot, |spec| spec.entries = drawn.map(|drawn| drawn.entries).unwrap_or_default());
            }
            4..=6 => {
                let Some(binding) = self.model.slots[slot].binding.as_ref() else { return };
                let mut drawn = (*binding.spec).clone();
                specs::draw_pin(&mut drawn, &self.model.server, &mut self.chance);
                self.edit(slot, |spec| *spec = drawn);
            }
            7 => self.edit(slot, |spec| spec.suspend = !spec.suspend),
            8 => {
                let every = chance.one_of(&[300, 900]);
                self.edit(slot, |spec| spec.every = every);
            }
            9 => self.edit(slot, |spec| {
                spec.deletion = match spec.deletion {
                    DeletionPolicy::Delete => DeletionPolicy::Retain,
                    DeletionPolicy::Retain => DeletionPolicy::Delete,
                };
            }),
            10 => {
                let mode =
                    chance.one_of(&[RefreshMode::Auto, RefreshMode::Auto, RefreshMode::OnChange, RefreshMode::Once]);
                self.edit(slot, |spec| spec.mode = mode);
            }
            11..=13 => {
                self.request(slot);
                // An impatient one asks again at once.
                if self.chance.below(3) == 0 {
                    self.advance_to_next();
                    let soon = i64::try_from(self.chance.below(40)).unwrap();
                    self.advance(soon);
                    self.request(slot);
                }
            }
            _ => {
                self.delete(slot);
                if self.model.slots[slot].binding.is_none() {
                    let spec = specs::new_spec(&mut self.chance);
                    self.create(slot, spec);
                }
            }
        }
    }

    /// Deletes a binding; the cluster collects what it owns.
    fn delete(&mut self, slot: usize) {
        let here = &self.model.slots[slot];
        let Some(binding) = here.binding.as_ref() else { return };
        let (uid, retains) = (binding.uid, binding.spec.deletion == DeletionPolicy::Retain);
        let is_owned = here.secret.as_ref().is_some_and(|secret| secret.told.owner_reference == Some(uid));
        if here.secret.as_ref().is_some_and(|secret| secret.told.owner_uid == Some(uid)) && is_owned == retains {
            // The policy was changed and nobody has acted on it yet: what the cluster collects is a race, not a promise.
            return;
        }
        self.model.slots[slot].binding = None;
        self.user(slot, uid, BindingEdit::Deleted);
        if is_owned {
            self.model.others_delete(Actor::Cluster, slot);
        }
        self.deliver(slot);
        self.wake_all();
    }

    /// Somebody else changes or takes away a target.
    fn target(&mut self, slot: usize) {
        match self.chance.below(10) {
            0..=2 => {
                let kind = self.chance.below(3);
                // Nobody can change the data of what is immutable.
                let is_immutable = self.model.slots[slot].secret.as_ref().is_some_and(|secret| secret.told.immutable);
                if is_immutable {
                    return;
                }
                self.model.others_change(slot, |secret| match kind {
                    0 => drop(secret.data.insert("foreign".to_owned(), "somebody's".to_owned())),
                    1 => drop(secret.data.pop_first()),
                    _ => secret.data.values_mut().for_each(|value| "somebody's".clone_into(value)),
                });
            }
            3 => self.model.others_change(slot, |secret| secret.immutable = true),
            4 => self.replace(slot, |secret| (secret.labelled, secret.owner_uid) = (false, None)),
            5 => self.replace(slot, |secret| {
                let other = if secret.type_ == OPAQUE { "kubernetes.io/basic-auth" } else { OPAQUE };
                other.clone_into(&mut secret.type_);
            }),
            6 => self.model.others_change(slot, |secret| secret.owner_uid = Some(1)),
            7 => self.model.others_change(slot, |secret| (secret.labelled, secret.owner_uid) = (false, None)),
            _ => drop(self.model.others_delete(Actor::User, slot)),
        }
    }

    /// Another Secret stands where ours was.
    fn replace(&mut self, slot: usize, change: impl FnOnce(&mut Stored)) {
        let (uid, version) = (self.model.fresh(), self.model.fresh());
        let Some(old) = self.model.others_delete(Actor::User, slot) else { return };
        let mut told = Stored { uid, ..(*old.told).clone() };
        change(&mut told);
        self.model.slots[slot].secret = Some(SecretState { version, told: Arc::new(told), ..old });
        self.model.others_did(Actor::User, slot, Verb::Update, Outcome::Written { before: None, after: version });
    }

    /// Something happens to a replica.
    fn process(&mut self) {
        let leader = self.chance.one_of(&[0_usize, 1]);
        let now = self.model.now;
        match self.chance.below(6) {
            0 => self.kill(leader),
            5 => self.stop(self.holder.unwrap_or(leader)),
            1 => {
                if let Some(holder) = self.holder {
                    self.kill(holder);
                }
            }
            2 => self.replicas[self.holder.unwrap_or(leader)].paused_until = now + 25,
            3 => {
                self.replicas[leader].held_until = now + WATCH_LAG;
            }
            _ => {
                let skew = i64::try_from(self.chance.below(60)).unwrap() - 30;
                let seconds = skew - self.replicas[leader].skew;
                self.replicas[leader].skew = skew;
                if let Some(operator) = self.replicas[leader].operator.as_mut() {
                    operator.skew = skew;
                }
                self.world(WorldChange::ClockStep { leader: u32::try_from(leader).unwrap(), seconds });
            }
        }
    }

    /// Every secret is there, and its newest version can be read for as long as anybody looks.
    pub(super) fn restore(&mut self) {
        for place in 0..PLACES.len() {
            let is_whole = self.model.server.current(place).is_some_and(|(version, _)| is_lasting(version));
            if !is_whole {
                let change = self.put(place);
                self.world(change);
            }
        }
    }

    /// What the server holds, told from nothing.
    pub(super) fn tell_contents(&mut self) {
        for (place, (.., versions)) in PLACES.iter().enumerate() {
            let Some(held) = self.model.server.held[place].clone() else { continue };
            let path = whole(place);
            for (version, fields) in held.versions.values() {
                let version = versions.then(|| version.clone());
                let fields = fields.clone();
                self.world(WorldChange::Remote(Remote::Put { path: path.clone(), version, fields }));
            }
        }
    }
}

fn is_lasting(version: &Version) -> bool {
    version.deleted.is_none() && !version.destroyed
}
