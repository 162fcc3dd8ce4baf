//! What was observed of a binding and its surroundings, the effects it asks for, and how replies are folded in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{ConditionType, SecretBindingStatus, SourcePhase, VaultConnection, Verdict},
    binding::{
        intent::Intent,
        reads::{Answer, Known, What},
    },
    fault::{Class, Failure},
    grants::{self, Grant, Permit},
    value::{keyed::InstallKey, secret_data::SecretBytes, target::SecretWrite},
};

/// Everything a decision depends on, besides the intent and the time.
#[derive(Debug, Clone)]
pub struct World {
    /// Labels of the namespace; grants select by them.
    pub labels: BTreeMap<String, String>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Namespaces of the cluster whose names begin with ours and go on; a path may belong to one of them.
    pub longer_namespaces: Vec<String>,
    /// The connection.
    pub connection: ConnectionView,
    /// Whether the ServiceAccount of the intent exists.
    pub account_exists: bool,
    /// The older object that names the same Secret, as `Kind/name`.
    pub claimed_by: Option<String>,
    /// Whether the admission policy that fences us was seen to refuse, so that Secrets may be touched.
    pub fenced: bool,
    /// The key of the installation, or why it is not there.
    pub key: Result<InstallKey, Failure>,
    /// The Secret, read live.
    pub target: TargetView,
    /// What the process remembers of earlier passes.
    pub memory: Memory,
    /// What this pass has obtained so far.
    pub progress: Progress,
}

/// The connection of the intent.
#[derive(Debug, Clone)]
pub enum ConnectionView {
    /// No such object.
    Missing,
    /// It exists.
    Known(Box<Connection>),
}

/// A connection, as a binding sees it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its UID; part of what spreads refreshes.
    pub uid: String,
    /// Its grants; empty where they do not parse.
    pub grants: Vec<Grant>,
    /// Whether accounts of other namespaces can log in by it: its method takes their tokens.
    pub takes_accounts: bool,
    /// The Secret it logs in with, if it needs one and that is kept in the namespace of the binding.
    pub login: Option<String>,
    /// Why nobody can be asked by it now, if so.
    pub outage: Option<Failure>,
    /// Changes when it is worth asking again what was refused before: another spec, or Ready once more.
    pub revision: String,
}

/// The Secret the intent names.
#[derive(Debug, Clone)]
pub enum TargetView {
    /// It was not read, and why.
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
    /// Digest of the spec it was made of.
    pub rendering: Option<String>,
    /// Hash of the sources' versions it was made of.
    pub input: Option<String>,
    /// Hash of the content that was written.
    pub content: Option<String>,
    /// The sources it was made of, as [`origin`](super::origin) writes them.
    pub origin: Option<String>,
    /// Its bytes.
    pub data: BTreeMap<String, SecretBytes>,
}

/// What the process remembers between passes; lost at a restart without harm: what was not due then is not due after.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Since when this process looks at the object, or its last refresh that succeeded.
    pub checked: Timestamp,
    /// The last request that was acted on, as the status has it.
    pub handled: Option<String>,
    /// The failure that is being retried.
    pub last: Option<Attempt>,
    /// An older version than the stored one that the server shows, and since when.
    pub went_back: Option<(Timestamp, String)>,
    /// Whether the status tells that all is well; if not, somebody died before it was told, or the last look failed, or
    /// none was possible.
    pub told: bool,
}

/// A refresh that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// How.
    pub failure: Failure,
    /// When.
    pub at: Timestamp,
    /// How often in a row.
    pub attempts: u32,
    /// What it was about; when that changes, the back-off is forgotten.
    pub inputs: String,
}

/// What a pass has obtained. Lives in memory only, and for one pass.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// What the server told, by the place of the source.
    pub known: BTreeMap<usize, Known>,
    /// Reads that failed, by the place of the source.
    pub failures: BTreeMap<usize, Failure>,
    /// The write that failed.
    pub unwritten: Option<Failure>,
    /// The Secret was written in this pass.
    pub wrote: bool,
}

/// One remote call, or several at once that depend on nothing of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read from the server.
    Read {
        /// What.
        reads: Vec<Read>,
        /// Whether an answer that was asked for before will not do: a person waits for what is there now.
        fresh: bool,
    },
    /// Write the whole Secret in one server-side apply.
    Write(SecretWrite),
}

/// Something to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// For which source, by its place.
    pub source: usize,
    /// Who reads.
    pub reader: Permit,
    /// What.
    pub what: What,
}

/// What an effect came back with.
#[derive(Debug)]
pub enum Reply {
    /// What was read, in any order.
    Read(Vec<(usize, Result<Answer, Failure>)>),
    /// The Secret as the API server now holds it.
    Written(Box<Stored>),
    /// The write did not work.
    Unwritten(Failure),
}

/// Why a pass ended, and when the next one is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Why.
    pub outcome: Outcome,
    /// When to look again by ourselves; `None` = only when something changes.
    pub wake: Option<Timestamp>,
    /// What the process remembers from now on.
    pub memory: Memory,
}

/// Why a pass ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The Secret holds what is wanted, and nothing is due.
    Steady {
        /// The sources as they were read in this pass; empty where none was.
        read: Vec<SourceFinding>,
    },
    /// A gate is closed, or a failure is being backed off from.
    Held(Failure),
    /// A refresh failed.
    Failed {
        /// How.
        failure: Failure,
        /// The sources as far as they were read.
        read: Vec<SourceFinding>,
    },
}

/// What a pass found a source to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFinding {
    /// Its name.
    pub name: String,
    /// Its version, where the engine has versions and it was seen.
    pub version: Option<i64>,
    /// What it was found to be.
    pub phase: SourcePhase,
}

impl Connection {
    /// What a stored connection is to a binding; `outage` says why nobody can be asked by it now, if so.
    ///
    /// `is_operators` says that the binding is in the operator's namespace, which has the Secrets of logins.
    pub fn new(object: &VaultConnection, outage: Option<Failure>, is_operators: bool) -> Self {
        let ready = object.status.iter().flat_map(|status| &status.conditions);
        let since = ready
            .filter(|one| one.type_ == ConditionType::Ready.name() && one.status == Verdict::True.name())
            .map(|one| one.last_transition_time.0.to_string())
            .next();
        let generation = object.metadata.generation.unwrap_or_default();
        let auth = &object.spec.auth;
        let kept = auth.app_role.as_ref().map(|role| &role.secret_id.secret);
        let login = kept.or(auth.token.as_ref().map(|token| &token.secret));
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            // Grants that do not parse admit nobody; the connection itself says so.
            grants: grants::parse(&object.spec.grants).unwrap_or_default(),
            takes_accounts: auth.kubernetes.is_some() || auth.jwt.is_some(),
            login: login.filter(|_| is_operators).map(|secret| secret.name.clone()),
            outage,
            revision: format!("{generation} {}", since.unwrap_or_default()),
        }
    }
}

impl Memory {
    /// What a process knows that has not looked yet: what the status tells, and that what was due before `started` was
    /// due to the process before.
    pub fn from_status(intent: &Intent, status: &SecretBindingStatus, started: Timestamp) -> Self {
        let is_synced =
            |one: &Condition| one.type_ == ConditionType::Synced.name() && one.status == Verdict::True.name();
        let is_well = |name: &str| {
            let mut told = status.sources.iter();
            told.any(|source| source.name == name && source.phase == SourcePhase::Current)
        };
        Self {
            checked: started,
            handled: status.last_handled_request.clone(),
            last: None,
            went_back: None,
            told: intent.sources.iter().all(|source| is_well(&source.name)) && status.conditions.iter().any(is_synced),
        }
    }

    /// The same, after a status was sent of which nobody knows whether it arrived: what it says may be told now.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        Self { told: false, ..self }
    }
}

impl World {
    /// Whether the Secret could not be looked at, or nobody knows what became of its last write: it is not spoken of.
    pub fn is_blind(&self) -> bool {
        matches!(&self.target, TargetView::Unread(why) if why.class != Class::Waiting)
    }

    /// The Secret, if it is there and belongs to `uid`.
    pub fn ours(&self, uid: &str) -> Option<&Stored> {
        match &self.target {
            TargetView::Present(stored) if stored.owner_uid.as_deref() == Some(uid) => Some(stored),
            TargetView::Present(_) | TargetView::Absent | TargetView::Foreign | TargetView::Unread(_) => None,
        }
    }
}

/// Folds a reply into the world.
pub fn absorb(mut world: World, reply: Reply) -> World {
    let progress = &mut world.progress;
    match reply {
        Reply::Read(answers) => {
            for (source, answer) in answers {
                match answer {
                    Ok(answer) => progress.known.entry(source).or_default().learn(answer),
                    Err(failure) => drop(progress.failures.insert(source, failure)),
                }
            }
        }
        Reply::Written(stored) => {
            world.target = TargetView::Present(stored);
            progress.wrote = true;
        }
        // It may have been written all the same: the next pass looks before anything is said.
        Reply::Unwritten(failure) if failure.class == Class::Unavailable => {
            progress.unwritten = Some(failure.clone());
            world.target = TargetView::Unread(failure);
        }
        Reply::Unwritten(failure) => progress.unwritten = Some(failure),
    }
    world
}
