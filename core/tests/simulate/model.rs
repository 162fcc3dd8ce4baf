//! The surroundings of a run: an API server that holds identities and Secrets with versions, a Vault
//! that signs, and the environment a person can change. Everything that happens is written into the
//! history; nothing here decides for the operator.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use countersign_core::{
    api::{DeletionPolicy, KeyAlgorithm, KeySpec, ServiceIdentity, ServiceIdentityStatus},
    identity::{
        intent::{self, Intent},
        world::SignRequest,
    },
    value::x509::{Fingerprint, KeyKind, Leaf, Names, Serial, SpkiHash},
};
use jiff::Timestamp;

use crate::history::{self, Actor, Content, Doctoring, Event, History, ObjectId, Root, Stored, Text, Uid};

/// A Secret as the model server holds it.
#[derive(Debug, Clone)]
pub struct SecretState {
    /// UID of the Secret.
    pub uid: Uid,
    /// Its version.
    pub version: u64,
    /// Carries our label.
    pub labelled: bool,
    /// UID in our owner label.
    pub owner: Option<String>,
    /// Has a controller owner reference to that owner.
    pub owned_by_reference: bool,
    /// Its type.
    pub type_: String,
    /// Refuses changes.
    pub immutable: bool,
    /// Text of `tls.crt`: the label of a leaf that some issuer made.
    pub chain: String,
    /// Text of `tls.key`: the label of a key.
    pub key: String,
    /// Text of `ca.crt`.
    pub roots: String,
    /// Annotation of what it was rendered from.
    pub rendering: Option<String>,
    /// Annotation of the request it answered.
    pub answered: Option<String>,
    /// The same as the history tells it.
    pub told: Arc<Stored>,
}

impl SecretState {
    /// The same, told anew; to be called after every change.
    pub fn tell(mut self, model: &Model) -> Self {
        self.told = Arc::new(model.told(&self));
        self
    }
}

/// A ServiceIdentity at one version: what a watch hands out. Cheap to copy, because most passes change nothing.
#[derive(Clone)]
pub struct Version {
    /// The object as a person wrote it; its status is kept beside it.
    pub object: Rc<ServiceIdentity>,
    /// Its spec, parsed.
    pub intent: Rc<Intent>,
    /// Its status.
    pub status: Rc<ServiceIdentityStatus>,
    /// Its `resourceVersion`.
    pub at: u64,
}

impl Version {
    /// What a person wrote, with the status it had before.
    pub fn written(object: ServiceIdentity, status: Rc<ServiceIdentityStatus>, at: u64) -> Self {
        let intent = Rc::new(intent::parse(&object).unwrap());
        Self { object: Rc::new(object), intent, status, at }
    }

    /// Its UID.
    pub fn uid(&self) -> Uid {
        uid_number(&self.intent.uid)
    }
}

/// One identity and its target.
pub struct IdentitySlot {
    /// Id in the history.
    pub object: ObjectId,
    /// Id of the target.
    pub target: ObjectId,
    /// The object, while it exists.
    pub identity: Option<Version>,
    /// The target, while it exists.
    pub secret: Option<SecretState>,
    /// An older identity names the same target.
    pub claimed: bool,
}

/// How the model Vault answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultMode {
    /// As asked.
    Up,
    /// Not at all.
    Cut,
    /// With this status only.
    Answers(u16),
    /// Tokens live, but none may sign.
    Forbids,
}

/// How far a domain has got from one authority to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rotation {
    /// The first signs, and it alone is trusted.
    First,
    /// The first signs, both are trusted.
    Both,
    /// The second signs, both are trusted.
    Second,
}

/// The environment.
pub struct Model {
    /// What happened.
    pub history: History,
    /// Seconds of the servers' clock.
    pub now: i64,
    /// The identities.
    pub slots: Vec<IdentitySlot>,
    /// Next version, UID, serial, key: one counter serves all.
    pub next: u64,
    /// ServiceAccount exists.
    pub account: bool,
    /// Service `api` exists.
    pub service: bool,
    /// The trust domain exists, and can sign.
    pub domain: (bool, bool),
    /// The namespace is terminating.
    pub terminating: bool,
    /// The fence is in force.
    pub fence: bool,
    /// The API server answers.
    pub api_up: bool,
    /// How Vault answers.
    pub vault: VaultMode,
    /// The role's longest lifetime, seconds.
    pub max_ttl: i64,
    /// Tokens issued before this are dead.
    pub tokens_valid_since: i64,
    /// The next signature is doctored like this.
    pub doctor: Option<history::Doctoring>,
    /// How far the domain has got from its first authority to its second.
    pub rotation: Rotation,
    /// Every leaf ever signed, by the text of its chain.
    pub leaves: HashMap<String, (Leaf, Arc<history::Leaf>)>,
    /// What each label of a key names.
    pub keys: HashMap<String, (KeySpec, SpkiHash)>,
    /// What every leaf of each authority has in common.
    pub templates: [Leaf; 2],
    /// Ids in the history.
    pub ids: Ids,
}

/// Ids of the fixed objects.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// The TrustDomain.
    pub domain: ObjectId,
    /// The VaultConnection.
    pub connection: ObjectId,
    /// The ServiceAccount.
    pub account: ObjectId,
    /// The Service.
    pub service: ObjectId,
}

/// The authority of the domain.
pub const AUTHORITY: history::AuthorityId = history::AuthorityId(1);
/// The authority that may follow it.
pub const SUCCESSOR: history::AuthorityId = history::AuthorityId(2);
/// The key identifiers of the two.
pub const AUTHORITY_KEY: &[u8] = b"authority";
/// See [`AUTHORITY_KEY`].
pub const SUCCESSOR_KEY: &[u8] = b"successor";
/// The address of the connection.
pub const ADDRESS: &str = "https://vault.infra.svc:8200";
/// The namespace of the identities.
pub const NAMESPACE: &str = "pay";
/// The end of the authority.
pub const AUTHORITY_END: i64 = 400 * 86_400;
/// Text that a foreign server puts into its answers and that must never be repeated.
pub const FOREIGN_TEXT: &str = "canary-7d1f";

/// A point in time.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

impl Model {
    /// The next number that nothing has yet.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Appends an event.
    pub fn push(&mut self, actor: Actor, event: Event) {
        self.history.push(self.now, actor, event);
    }

    /// The label of a new key.
    pub fn new_key(&mut self, spec: KeySpec) -> String {
        let label = format!("key-{}", self.fresh());
        self.keys.insert(label.clone(), (spec, SpkiHash::of(label.as_bytes())));
        label
    }

    /// The public half of the key a label names, whoever made it.
    pub fn public_half(&self, label: &str) -> SpkiHash {
        self.keys.get(label).map_or_else(|| SpkiHash::of(label.as_bytes()), |(_, spki)| spki.clone())
    }

    /// Signs a key for names, as the domain's authority, and remembers the leaf under its chain text.
    pub fn sign(&mut self, key: &str, spec: KeySpec, names: &Names, ttl: i64) -> String {
        let serial = self.fresh();
        let mut octets = vec![0x5a; 8];
        octets.extend(serial.to_be_bytes());
        let mut leaf = self.templates[usize::from(self.rotation == Rotation::Second)].clone();
        leaf.fingerprint = Fingerprint::of(&octets);
        leaf.serial = Serial::from_octets(&octets);
        leaf.spki = self.public_half(key);
        leaf.names = names.clone();
        leaf.key = core_key_kind(spec);
        leaf = leaf.valid(time(self.now - 300), time(self.now + ttl.min(self.max_ttl)));
        self.remember(format!("chain-{serial}"), leaf, serial, true)
    }

    /// How Vault answers a call that nothing else is wrong with.
    pub fn answer(&self) -> history::VaultAnswer {
        match self.vault {
            // A 404 speaks of the issuer alone; the server is well.
            VaultMode::Up | VaultMode::Forbids | VaultMode::Answers(404) => history::VaultAnswer::Fine,
            VaultMode::Cut => history::VaultAnswer::Unreached,
            VaultMode::Answers(code) => history::VaultAnswer::Status(code),
        }
    }

    /// Signs a request, honestly or not.
    pub fn answer_for(&mut self, request: &SignRequest, how: Option<Doctoring>) -> (Leaf, Arc<history::Leaf>, String) {
        let (spec, _) = self.keys[&request.csr];
        let chain = self.sign(&request.csr, spec, &request.names, request.ttl);
        let (mut leaf, _) = self.leaves[&chain].clone();
        let serial = self.next;
        let mut verifies = true;
        match how {
            None => {}
            Some(Doctoring::Key) => leaf.spki = SpkiHash::of(b"somebody else's"),
            Some(Doctoring::Names) => {
                leaf.names.dns.insert("bank.example".to_owned());
            }
            Some(Doctoring::Ca) => leaf.is_ca = true,
            Some(Doctoring::Validity) => leaf.not_after = time(self.now + 60),
            Some(Doctoring::Authority) => leaf.authority_key_id = Some(b"another".to_vec()),
            Some(Doctoring::Serial | Doctoring::Chain) => verifies = false,
        }
        if how == Some(Doctoring::Authority) {
            verifies = false;
        }
        let chain = self.remember(chain, leaf, serial, verifies);
        let (leaf, facts) = self.leaves[&chain].clone();
        (leaf, facts, chain)
    }

    /// Makes a leaf known under a chain text.
    pub fn remember(&mut self, chain: String, leaf: Leaf, serial: u64, verifies: bool) -> String {
        let facts = history::Leaf {
            public_key: key_pair(&leaf.spki),
            key_kind: history_key_kind(leaf.key),
            spiffe_id: Text::from(leaf.names.uris.first().cloned().unwrap_or_default()),
            dns_names: leaf.names.dns.iter().cloned().map(Text::from).collect(),
            ip_addresses: leaf.names.ips.iter().map(|ip| Text::from(ip.to_string())).collect(),
            not_before: leaf.not_before.as_second(),
            not_after: leaf.not_after.as_second(),
            serial: history::Serial(serial),
            authority: match leaf.authority_key_id.as_deref() {
                _ if !verifies => history::AuthorityId(99),
                Some(key_id) if key_id == SUCCESSOR_KEY => SUCCESSOR,
                _ => AUTHORITY,
            },
            is_ca: leaf.is_ca,
            verifies,
        };
        self.leaves.insert(chain.clone(), (leaf, Arc::new(facts)));
        chain
    }

    /// A Secret as the history tells it.
    pub fn told(&self, secret: &SecretState) -> Stored {
        Stored {
            uid: Some(secret.uid),
            labelled: secret.labelled,
            owner_uid: secret.owner.as_deref().map(uid_number),
            owner_reference: secret.owned_by_reference.then(|| secret.owner.as_deref().map(uid_number)).flatten(),
            content: Content {
                tls_key: (!secret.key.is_empty()).then(|| key_pair(&self.public_half(&secret.key))),
                tls_crt: self.leaves.get(&secret.chain).map(|(_, facts)| facts.clone()),
                ca_crt: secret
                    .roots
                    .bytes()
                    .filter(u8::is_ascii_digit)
                    .map(|digit| Root(u64::from(digit - b'0')))
                    .collect(),
                other: Vec::new(),
            },
        }
    }

    /// What the history calls the spec of an identity.
    pub fn spec(&self, slot: usize) -> history::IdentitySpec {
        let slot = &self.slots[slot];
        let spec = &slot.identity.as_ref().unwrap().object.spec;
        history::IdentitySpec {
            trust_domain: self.ids.domain,
            service_account: self.ids.account,
            services: spec.services.iter().map(|_| self.ids.service).collect(),
            dns_names: spec.dns_names.iter().cloned().map(Text::from).collect(),
            ip_addresses: Vec::new(),
            ttl: spec.ttl.as_deref().map(seconds),
            key: spec.key.map(|key| history_key_kind(core_key_kind(key))),
            renew_before: spec.renew_before.as_deref().map(seconds),
            secret: slot.target,
            deletion_policy: spec.secret.deletion_policy.unwrap_or(DeletionPolicy::Delete),
            suspend: spec.suspend == Some(true),
        }
    }
}

/// Seconds of a Go duration that the schedule wrote itself.
pub fn seconds(text: &str) -> i64 {
    i64::try_from(countersign_core::value::lifetime::parse(text).unwrap().as_secs()).unwrap()
}

/// UIDs are decimal numbers in this model.
pub fn uid_number(uid: &str) -> Uid {
    Uid(uid.parse().unwrap_or_default())
}

/// A key as the history calls it: the first bytes of its hash.
pub fn key_pair(spki: &SpkiHash) -> history::KeyPair {
    let digits = spki.as_str().trim_start_matches("sha256:").get(..15).unwrap_or_default();
    history::KeyPair(u64::from_str_radix(digits, 16).unwrap_or_default())
}

/// A serial number as the history calls it.
pub fn serial_number(hex: &str) -> history::Serial {
    history::Serial(hex.get(16..).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default())
}

/// The key kind of a key that is asked for.
pub fn core_key_kind(spec: KeySpec) -> KeyKind {
    match (spec.algorithm, spec.size) {
        (KeyAlgorithm::ECDSA, Some(384)) => KeyKind::Ecdsa384,
        (KeyAlgorithm::ECDSA, _) => KeyKind::Ecdsa256,
        (KeyAlgorithm::Ed25519, _) => KeyKind::Ed25519,
        (KeyAlgorithm::RSA, size) => KeyKind::Rsa(u32::try_from(size.unwrap_or(3_072)).unwrap()),
    }
}

fn history_key_kind(kind: KeyKind) -> history::KeyKind {
    match kind {
        KeyKind::Ecdsa384 => history::KeyKind::P384,
        KeyKind::Ed25519 => history::KeyKind::Ed25519,
        KeyKind::Rsa(bits) => history::KeyKind::Rsa(u16::try_from(bits).unwrap()),
        KeyKind::Ecdsa256 | KeyKind::Other => history::KeyKind::P256,
    }
}
