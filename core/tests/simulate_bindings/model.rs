//! The surroundings of a run: an API server that holds bindings and their targets with versions, a Vault, and what a
//! person can change. Everything that happens is written into the history; nothing here decides for the operator.

pub mod server;

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use countersign_core::{
    api::{CONTENT_HASH, INPUT_HASH, MANAGED_BY_LABEL, OWNER_UID_LABEL, SecretBindingStatus},
    binding::{hashes::RENDERING, intent::Intent, origin::ORIGIN, world},
    value::{
        keyed::{InstallKey, KEY_LENGTH},
        secret_data::SecretBytes,
        target::SecretWrite,
    },
};
use jiff::Timestamp;

use crate::history::{self, Actor, Event, History, Outcome, SLOTS, SecretRequest, Spec, Stored, VaultState, Verb};
use server::Server;

/// Type of every Secret that a grant admits.
pub const OPAQUE: &str = "Opaque";

/// A Secret as the model server holds it.
#[derive(Debug, Clone)]
pub struct SecretState {
    /// Its version.
    pub version: u64,
    /// What its annotations say: rendering, input, content, origin.
    pub digests: [Option<String>; 4],
    /// Everything else.
    pub told: Arc<Stored>,
}

/// A binding at one version: what a watch hands out. Cheap to copy, because most passes change nothing.
#[derive(Clone)]
pub struct Version {
    /// What a person wants.
    pub spec: Arc<Spec>,
    /// The same, parsed.
    pub intent: Rc<Intent>,
    /// Its status.
    pub status: Rc<SecretBindingStatus>,
    /// Its UID.
    pub uid: u64,
    /// Its `resourceVersion`.
    pub at: u64,
}

/// A binding and its target.
#[derive(Default)]
pub struct Slot {
    /// The object, while it exists.
    pub binding: Option<Version>,
    /// The target, while it exists.
    pub secret: Option<SecretState>,
    /// An older binding names the same target.
    pub claimed: bool,
}

/// The connection's own object: its controller tells by it when it is worth asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionObject {
    /// Counts edits of its grants.
    pub generation: i64,
    /// Since when it is Ready; `None` = it is not.
    pub ready_since: Option<i64>,
}

/// The environment.
pub struct Model {
    /// What happened.
    pub history: History,
    /// Seconds of the servers' clock.
    pub now: i64,
    /// The bindings.
    pub slots: [Slot; SLOTS],
    /// Next version, UID, token: one counter serves all.
    pub next: u64,
    /// UID of the ServiceAccount, while it exists.
    pub account: Option<u64>,
    /// The namespace is being deleted.
    pub terminating: bool,
    /// The fence is in force.
    pub fence: bool,
    /// The API server answers.
    pub api_up: bool,
    /// How Vault answers.
    pub vault: VaultState,
    /// What Vault holds.
    pub server: Server,
    /// Metadata is not shown.
    pub metadata_closed: bool,
    /// Tokens up to this number are dead.
    pub revoked: u64,
    /// What the connection grants, by its place in [`GRANTS`].
    pub granted: usize,
    /// The connection.
    pub connection: ConnectionObject,
}

/// What a connection may grant the namespace: all of it, some paths, nothing.
pub const GRANTS: [&[&str]; 4] = [&["kv/pay/**", "old/pay/**"], &["kv/pay/a", "old/pay/*"], &["kv/pay/*"], &[]];

/// A point in time.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The key of the installation.
pub fn install_key() -> InstallKey {
    InstallKey::new(SecretBytes::new(vec![7; KEY_LENGTH])).unwrap()
}

impl Model {
    /// Everything whole, nothing there.
    pub fn new(now: i64) -> Self {
        Self {
            history: History { entries: Vec::with_capacity(1_024), ..History::default() },
            now,
            slots: Default::default(),
            next: 100,
            account: Some(1),
            terminating: false,
            fence: true,
            api_up: true,
            vault: VaultState::Up,
            server: Server::default(),
            metadata_closed: false,
            revoked: 0,
            granted: 0,
            connection: ConnectionObject { generation: 1, ready_since: Some(now) },
        }
    }

    /// The next number that nothing has yet.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Appends an event.
    pub fn push(&mut self, actor: Actor, event: Event) {
        self.history.push(self.now, actor, event);
    }

    /// Somebody else than the operator wrote or deleted a target.
    pub fn others_did(&mut self, actor: Actor, slot: usize, verb: Verb, outcome: Outcome) {
        if outcome == Outcome::Deleted {
            self.history.deleted_by_others[slot] = true;
        }
        let stored = match outcome {
            Outcome::Written { .. } => self.slots[slot].secret.as_ref().map(|secret| secret.told.clone()),
            _ => None,
        };
        let request =
            SecretRequest { slot, verb, version: None, uid: None, force: false, outcome, answer_lost: false, stored };
        self.push(actor, Event::Secret(request));
    }

    /// Deletes a target that is there.
    pub fn others_delete(&mut self, actor: Actor, slot: usize) -> Option<SecretState> {
        let secret = self.slots[slot].secret.take()?;
        self.others_did(actor, slot, Verb::Delete, Outcome::Deleted);
        Some(secret)
    }

    /// Changes a target that is there; the digests stay as they are.
    pub fn others_change(&mut self, slot: usize, change: impl FnOnce(&mut Stored)) {
        let after = self.fresh();
        let Some(secret) = self.slots[slot].secret.as_mut() else { return };
        let before = Some(secret.version);
        secret.version = after;
        change(Arc::make_mut(&mut secret.told));
        self.others_did(Actor::User, slot, Verb::Update, Outcome::Written { before, after });
    }

    /// What an apply makes of a target.
    pub fn apply(&mut self, slot: usize, write: &SecretWrite) -> Outcome {
        let (uid, after) = (self.fresh(), self.fresh());
        let before = self.slots[slot].secret.take();
        let digests = [RENDERING, INPUT_HASH, CONTENT_HASH, ORIGIN].map(|key| write.annotations.get(key).cloned());
        let data =
            write.data.iter().map(|(key, value)| (key.clone(), String::from_utf8_lossy(value.expose()).into_owned()));
        let told = Stored {
            uid: before.as_ref().map_or(uid, |secret| secret.told.uid),
            labelled: write.labels.contains_key(MANAGED_BY_LABEL),
            owner_uid: write.labels.get(OWNER_UID_LABEL).and_then(|uid| uid.parse().ok()),
            owner_reference: write.owner.as_ref().and_then(|owner| owner.uid.parse().ok()),
            type_: before.as_ref().map_or_else(|| write.type_.clone(), |secret| secret.told.type_.clone()),
            immutable: false,
            data: data.collect(),
        };
        self.slots[slot].secret = Some(SecretState { version: after, digests, told: Arc::new(told) });
        Outcome::Written { before: before.map(|secret| secret.version), after }
    }

    /// Somebody acts between two calls of one pass.
    pub fn meanwhile(&mut self, slot: usize, kind: u64) {
        let place = usize::try_from(kind % 3).unwrap();
        let (now, number) = (self.now, self.fresh());
        let current = self.server.held[place].as_ref().map_or(1, |held| held.current);
        let change = match kind / 3 % 4 {
            0 => self.server.change(place, current, |version| version.deleted = Some(now)),
            1 if self.slots[slot].secret.as_ref().is_some_and(|secret| secret.told.immutable) => None,
            1 => {
                let foreign = |secret: &mut Stored| {
                    secret.data.insert("foreign".to_owned(), "somebody's".to_owned());
                };
                return self.others_change(slot, foreign);
            }
            _ => Some(self.server.put(place, server::new_fields(number, true), now, None)),
        };
        if let Some(change) = change {
            self.push(Actor::World, Event::World(change));
        }
    }

    /// Whether the server knows a token that was made then.
    pub fn is_alive(&self, token: u64, born: i64) -> bool {
        token > self.revoked && self.now < born + history::TOKEN_LIFE
    }
}

/// A Secret of the model as the shell reads it.
pub fn facts(secret: &SecretState) -> world::Stored {
    let [rendering, input, content, origin] = secret.digests.clone();
    let told = &secret.told;
    let data: BTreeMap<_, _> =
        told.data.iter().map(|(key, text)| (key.clone(), SecretBytes::from(text.clone()))).collect();
    world::Stored {
        resource_version: secret.version.to_string(),
        owner_uid: told.owner_uid.map(|uid| uid.to_string()),
        type_: told.type_.clone(),
        immutable: told.immutable,
        rendering,
        input,
        content,
        origin,
        data,
    }
}
