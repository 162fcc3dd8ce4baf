//! What was observed of an identity's surroundings, what may be done about it, and what came back.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::{IssueWindow, KeySpec, LastFailure},
    fault::{Class, Failure},
    identity::{gates::Hold, queue::Urgency, triggers::Trigger},
    value::{
        domain::Domain,
        secret_data::SecretBytes,
        target::SecretWrite,
        x509::{Leaf, Names, Serial, SpkiHash},
    },
};

/// Everything a decision may look at besides the intent and the time.
#[derive(Debug, Clone)]
pub struct World {
    /// Whether the ServiceAccount exists.
    pub account_exists: bool,
    /// The namespace of the identity.
    pub namespace: NamespaceView,
    /// What each Service of the intent is.
    pub services: BTreeMap<String, ServiceView>,
    /// The cluster's DNS domain, for example `cluster.local`.
    pub cluster_domain: String,
    /// The trust domain.
    pub domain: DomainView,
    /// Whether the domain's issuer is known not to answer as it should: nothing stored changes then.
    pub issuer_in_doubt: bool,
    /// The older identity that names the same Secret, as `namespace/name`.
    pub claimed_by: Option<String>,
    /// Whether the admission policy that fences us was seen to refuse, so that Secrets may be touched.
    pub fenced: bool,
    /// The Secret, read live.
    pub target: TargetView,
    /// When the Secret was read.
    pub target_read_at: Timestamp,
    /// What the status remembers.
    pub memory: Memory,
    /// What this pass has obtained so far (or an earlier one could not store).
    pub progress: Progress,
}

/// The identity's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceView {
    /// Its labels; allow rules select by them.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// What a Service named by the intent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceView {
    /// It exists and routes to pods.
    Usable,
    /// It does not exist.
    Missing,
    /// It is an alias for a name outside, which must not become ours.
    ExternalName,
}

impl ServiceView {
    /// The view of a Service by its `spec.type`; the outer `None` = there is no such Service.
    pub fn of_type(found: Option<Option<&str>>) -> Self {
        match found {
            None => Self::Missing,
            Some(Some("ExternalName")) => Self::ExternalName,
            Some(_) => Self::Usable,
        }
    }
}

/// The trust domain of the intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainView {
    /// No such object.
    Missing,
    /// It exists and cannot sign; what it is called, if it is known.
    NotReady,
    /// It can sign.
    Ready(Box<Domain>),
}

/// The Secret the intent names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetView {
    /// It was not read (yet), and why.
    Unread(Failure),
    /// It does not exist.
    Absent,
    /// It exists and is not ours: the fence refused even to show it.
    Foreign,
    /// It exists and we may read it.
    Present(Box<Stored>),
}

/// A Secret of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its version, the precondition of the next write.
    pub resource_version: String,
    /// UID in our owner label, if any.
    pub owner_uid: Option<String>,
    /// Its type.
    pub type_: String,
    /// Whether it refuses changes.
    pub immutable: bool,
    /// The leaf in `tls.crt`, if one can be read.
    pub leaf: Option<Leaf>,
    /// Public half of `tls.key`, if it can be read.
    pub key: Option<SpkiHash>,
    /// Whether the chain in `tls.crt` leads to the domain's roots now, for server and client.
    pub trusted: bool,
    /// Hash over what it was rendered from besides key and leaf: roots, labels, annotations, owner.
    pub rendering: Option<String>,
    /// The request (`countersign.dev/requested-at`, hashed) that its certificate answered, and when; see
    /// [`requests`](crate::identity::requests).
    pub answered_request: Option<String>,
    /// Its bytes, carried over when only metadata or roots change.
    pub data: BTreeMap<String, SecretBytes>,
}

/// What the status remembers between passes.
///
/// A status that could not be written is remembered all the same: until a write is confirmed the process goes on from
/// the status that it meant to write, here and as the previous one of the report, but for the conditions: their times
/// are those that the server has. Otherwise an API server that refuses statuses would make it forget signatures and
/// back-offs, and ask the issuer again every few seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Signatures by window.
    pub issues: Vec<IssueWindow>,
    /// The failure that is being retried.
    pub last_failure: Option<LastFailure>,
    /// Uncounted failures in a row, as this process remembers them.
    pub transient: u32,
}

/// What was obtained and is not stored yet. Lives in memory only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The key pair made for the next certificate.
    pub key: Option<KeyMaterial>,
    /// The issuer's answer for that key.
    pub answer: Option<Answer>,
    /// Signatures bought in this pass, or in earlier ones that could not see what became of them.
    pub signed: i32,
    /// The serial number of the last answer, which the guard against storms has counted or will count in this pass.
    pub bought: Option<Serial>,
    /// The answer was to be written before, and nobody knew what became of it.
    pub tried: bool,
    /// The effect that failed, which ends the pass.
    pub failure: Option<Failure>,
}

impl Progress {
    /// What is left of it when the spec has changed: nothing may be stored any more, but what was bought stays bought.
    #[must_use]
    pub fn for_another_spec(self) -> Self {
        Self { bought: self.bought, signed: self.signed, ..Self::default() }
    }
}

impl World {
    /// Whether the Secret could not be looked at, or nobody knows what became of its last write.
    ///
    /// It must not be spoken of then, and the next look comes soon. Nor may a status be written that was meant to be
    /// written before: it may have ceased to be true.
    pub fn is_blind(&self) -> bool {
        matches!(&self.target, TargetView::Unread(why) if why.class != Class::Waiting)
    }
}

/// A key pair and its signing request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMaterial {
    /// The private key, PKCS#8 PEM.
    pub private_key: SecretBytes,
    /// Its public half.
    pub spki: SpkiHash,
    /// Which key it is.
    pub spec: KeySpec,
    /// The names the request was made for.
    pub names: Names,
    /// The signing request, PEM (RFC 2986).
    pub csr: String,
}

/// What the issuer answered, parsed; not yet trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Leaf and intermediates, PEM.
    pub chain: String,
    /// The facts of the leaf.
    pub leaf: Leaf,
    /// Whether webpki builds the chain to the domain's roots, for server and client use, now and at the end.
    pub trusted: bool,
}

/// One remote call or write, fully specified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a key pair and a signing request in memory.
    MakeKey {
        /// Which key.
        spec: KeySpec,
        /// The names that go into the request.
        names: Names,
    },
    /// Have the request signed by the pinned authority.
    Sign(SignRequest),
    /// Write the whole Secret in one server-side apply.
    WriteSecret {
        /// The Secret.
        write: SecretWrite,
        /// Why it is written.
        trigger: Trigger,
    },
}

/// A signature to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// Name of the `TrustDomain` object.
    pub trust_domain: String,
    /// Id of the authority that must sign.
    pub authority: String,
    /// The signing request, PEM.
    pub csr: String,
    /// The names, sent beside the request.
    pub names: Names,
    /// Lifetime asked for, seconds.
    pub ttl: i64,
    /// Its place in the queue for signatures.
    pub urgency: Urgency,
}

/// What an effect came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A key pair.
    Key(KeyMaterial),
    /// A signed chain.
    Issued(Answer),
    /// The Secret as the API server now holds it.
    Written(Box<Stored>),
    /// It did not work.
    Failed(Failure),
}

/// Why a pass ended, and when the next one is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Why.
    pub outcome: Outcome,
    /// The trigger that had fired and is not served yet.
    pub due: Option<Trigger>,
    /// When to look again by ourselves; `None` = only when something changes.
    pub wake: Option<Timestamp>,
    /// Key and answer that are not stored yet, to be tried again for ten minutes from when they came.
    pub carry: Option<Box<Progress>>,
}

/// Why a pass ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// What is stored is what is wanted, and nothing is due.
    Steady,
    /// A gate is closed.
    Held(Hold),
    /// An effect failed.
    Failed {
        /// How.
        failure: Failure,
        /// How it counts against this object; an outage does not.
        counted: Option<Counted>,
    },
}

/// An attempt that counts against the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Which attempt in a row it was.
    pub attempts: i32,
    /// What it was about; see [`Inputs`](crate::identity::attempts::Inputs).
    pub inputs: String,
}

/// Folds a reply into the world.
pub fn absorb(mut world: World, reply: Reply) -> World {
    match reply {
        Reply::Key(key) => {
            world.progress.key = Some(key);
            world.progress.answer = None;
        }
        Reply::Issued(answer) => {
            world.progress.bought = Some(answer.leaf.serial.clone());
            world.progress.answer = Some(answer);
            world.progress.tried = false;
            world.progress.signed = world.progress.signed.saturating_add(1);
        }
        Reply::Written(stored) => {
            world.target = TargetView::Present(stored);
            world.progress.key = None;
            world.progress.answer = None;
        }
        // Once there is an answer only its write can fail, and it may have been done all the same: look again before
        // anything is said. If it fails once more there is something to say.
        Reply::Failed(failure)
            if failure.class == Class::Unavailable && world.progress.answer.is_some() && !world.progress.tried =>
        {
            world.progress.tried = true;
            world.target = TargetView::Unread(failure);
        }
        Reply::Failed(failure) => world.progress.failure = Some(failure),
    }
    world
}
