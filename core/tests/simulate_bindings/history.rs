//! What an outside observer of one run of bindings saw, in time order: plain data, no behaviour of the operator.
//!
//! The simulator writes a [`History`], the checker judges it. Neither the operator's decisions nor its types occur
//! here; only the closed words of the API do.
//!
//! A run has [`SLOTS`] bindings in the namespace [`NAMESPACE`], each with one target Secret, one `VaultConnection`, one
//! ServiceAccount and two replicas of the operator. Bindings and targets are named by their slot. Whoever writes a
//! history records more than writes, because judgement rests on it:
//! - every read of a target, also the failed ones, and every request to Vault with its answer;
//! - every start and end of a process, and the leader lease with its renewals;
//! - every change of what Vault holds ([`WorldChange::Remote`]), also those nobody has read yet;
//! - when faults are injected ([`Mark::FaultsBegin`]) and when the world is cut off ([`WorldChange::Vault`],
//!   [`WorldChange::ApiServer`]): lateness is excused by nothing else;
//! - the end of the run ([`Mark::End`]).

use std::{collections::BTreeMap, sync::Arc};

use countersign_core::api::{ConditionType, DeletionPolicy, Reason, RefreshMode, SourcePhase, Verdict};

/// Bindings of a run.
pub const SLOTS: usize = 2;
/// Their namespace.
pub const NAMESPACE: &str = "pay";
/// The address of the connection; a request to any other is a token given away.
pub const ADDRESS: &str = "https://vault.infra.svc:8200";
/// The ServiceAccount that every binding names.
pub const ACCOUNT: &str = "app";
/// A text that foreign servers put into their error answers and that must never be repeated.
pub const FOREIGN_TEXT: &str = "canary-7d1f";
/// How every value that Vault holds begins; none may be seen in any text but the data of a target.
pub const VALUE_PREFIX: &str = "hush-";
/// The lifetime of every token, seconds.
pub const TOKEN_LIFE: i64 = 3_600;
/// How long the leader lease holds after it was last renewed, seconds.
pub const LEASE_SECONDS: i64 = 15;
/// D: within how many seconds status must tell the truth.
pub const TRUTH_WITHIN: i64 = 30;
/// How long an effect that was decided before a change may still arrive: the deadline of one pass, seconds.
pub const GRACE: i64 = 60;
/// The longest that a watch of a replica lags behind in a run, seconds. [`WorldChange`]s arrive at once; edits of
/// bindings arrive within this.
pub const WATCH_LAG: i64 = 30;
/// How far the clock of a replica may be off in a run, seconds.
pub const SKEW: i64 = 60;
/// How often each target is looked at by itself, at least, seconds: drift is repaired within this.
pub const DRIFT: i64 = 300;

/// One run as it was seen from outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// What happened, in time order; the ordinal of an entry is its place here.
    pub entries: Vec<Entry>,
    /// Targets that others deleted in this run, and that may therefore be created more often than in an undisturbed
    /// one, by slot.
    pub deleted_by_others: [bool; SLOTS],
}

impl History {
    /// Appends what happened; its ordinal is its place.
    pub fn push(&mut self, at: i64, actor: Actor, event: Event) {
        self.entries.push(Entry { at, ordinal: self.entries.len(), actor, event });
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Seconds of the world's clock (the servers' clock, not that of a process).
    pub at: i64,
    /// Place in the history.
    pub ordinal: usize,
    /// Who did it.
    pub actor: Actor,
    /// What it was.
    pub event: Event,
}

/// Who acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The operator, one process of it.
    Operator(Process),
    /// A person or a foreign controller.
    User,
    /// The cluster itself: garbage collection.
    Cluster,
    /// The surroundings, or the simulator's own marks.
    World,
}

/// One life of one replica: a restart is the same leader in the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Which replica.
    pub leader: u32,
    /// Which life of it.
    pub epoch: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request for a target Secret.
    Secret(SecretRequest),
    /// A write of the status of a binding.
    Status(Box<StatusWrite>),
    /// A request to Vault.
    Vault(VaultRequest),
    /// A person changed a binding.
    Binding {
        /// Which.
        slot: usize,
        /// Its UID; a binding that is made again has another.
        uid: u64,
        /// What changed.
        change: BindingEdit,
    },
    /// The surroundings changed.
    World(WorldChange),
    /// The leader lease changed hands or was renewed by the acting process.
    Lease(LeaseChange),
    /// The acting process started or ended.
    Process(ProcessChange),
    /// The acting process wrote a line that others can read: a log line, an Event or a metric.
    Text(String),
    /// The simulator marks a span of the run.
    Mark(Mark),
}

// ---------------------------------------------------------------------------------------------- Kubernetes

/// A request for a target, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretRequest {
    /// Of which binding it is the target. Two bindings may name one Secret; see [`WorldChange::Claimed`].
    pub slot: usize,
    /// What was asked.
    pub verb: Verb,
    /// `metadata.resourceVersion` that the request insists on.
    pub version: Option<u64>,
    /// `preconditions.uid` of a delete.
    pub uid: Option<u64>,
    /// Whether an apply was forced.
    pub force: bool,
    /// What the server did.
    pub outcome: Outcome,
    /// The server acted, but the caller never heard of it.
    pub answer_lost: bool,
    /// The object after a write, or as it was read.
    pub stored: Option<Arc<Stored>>,
}

/// What was asked of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The empty merge patch that stands for a GET.
    Read,
    /// Server-side apply of the whole Secret; creates it where there is none.
    Apply,
    /// Any other write (only others use it).
    Update,
    /// DELETE.
    Delete,
}

/// What the API server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A read that found the object at this resourceVersion.
    Found(u64),
    /// 404.
    Absent,
    /// A write that was stored.
    Written {
        /// The resourceVersion before it; none if the object was absent.
        before: Option<u64>,
        /// The resourceVersion after it.
        after: u64,
    },
    /// A delete that was done.
    Deleted,
    /// 409.
    Conflict,
    /// Any other refusal, by status code; 422 is the fence, which refuses to touch what is not ours.
    Refused(u16),
    /// No answer, or one of the kind 5xx, and nothing done.
    Unavailable,
}

/// A Secret as the server holds it at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// UID of the Secret.
    pub uid: u64,
    /// Label `app.kubernetes.io/managed-by: countersign`.
    pub labelled: bool,
    /// Label `countersign.dev/owner-uid`.
    pub owner_uid: Option<u64>,
    /// UID of the controller ownerReference.
    pub owner_reference: Option<u64>,
    /// Its type.
    pub type_: String,
    /// Whether it refuses changes of its data.
    pub immutable: bool,
    /// The data.
    pub data: BTreeMap<String, String>,
}

/// A write of the status of a binding.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusWrite {
    /// The binding.
    pub slot: usize,
    /// Its UID.
    pub uid: u64,
    /// Whether it was stored.
    pub outcome: Outcome,
    /// It was stored, but the caller never heard of it.
    pub answer_lost: bool,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `status.conditions` without times.
    pub conditions: Vec<Condition>,
    /// `status.sources`.
    pub sources: Vec<SourceTold>,
    /// `status.lastHandledRequest`.
    pub last_handled_request: Option<String>,
    /// The whole status as it was sent, as JSON text; leaks are looked for in it.
    pub text: String,
}

/// One condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: ConditionType,
    /// Its status.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// Its message, as written.
    pub message: String,
}

/// One entry of `status.sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTold {
    /// Its name.
    pub name: String,
    /// The version that is in the Secret.
    pub version: Option<i64>,
    /// Its phase.
    pub phase: SourcePhase,
}

// ---------------------------------------------------------------------------------------------- bindings

/// What a person changed in a binding.
#[derive(Debug, Clone, PartialEq)]
pub enum BindingEdit {
    /// Created or edited: the spec from this generation on.
    Spec {
        /// `metadata.generation`.
        generation: i64,
        /// The whole spec.
        spec: Arc<Spec>,
    },
    /// Annotation `countersign.dev/requested-at` set to this.
    Requested(String),
    /// Deleted. The cluster collects what carries its owner reference.
    Deleted,
}

/// The spec of a binding, as far as a run uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `spec.refresh.every`, seconds.
    pub every: i64,
    /// `spec.refresh.mode`.
    pub mode: RefreshMode,
    /// `spec.sources`: every one a secret of a KV engine.
    pub sources: Vec<Source>,
    /// `spec.secret.data`.
    pub entries: Vec<Entries>,
    /// `spec.secret.type`.
    pub type_: String,
    /// `spec.secret.deletionPolicy`.
    pub deletion: DeletionPolicy,
    /// `spec.suspend`.
    pub suspend: bool,
}

/// A source of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// The mount.
    pub mount: String,
    /// The path below it.
    pub path: String,
    /// The version to stay at.
    pub version: Option<i64>,
}

/// Keys of the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// `each`: every key of a source, with this in front.
    Each {
        /// Name of the source.
        source: String,
        /// Put in front of each key.
        prefix: String,
    },
    /// `key` and `from`: one key of a source under this name.
    One {
        /// The key of the Secret.
        key: String,
        /// Name of the source.
        source: String,
        /// The key of the source.
        field: String,
    },
}

// ---------------------------------------------------------------------------------------------- Vault

/// A request to Vault.
#[derive(Debug, Clone, PartialEq)]
pub struct VaultRequest {
    /// Where it was sent.
    pub sent_to: String,
    /// The token it carried, by its number; none for a login and for `sys/health`.
    pub token: Option<u64>,
    /// For which binding, where it is one binding's.
    pub slot: Option<usize>,
    /// What was asked.
    pub call: VaultCall,
    /// What came back.
    pub answer: VaultAnswer,
}

/// What was asked of Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultCall {
    /// `sys/health`.
    Health,
    /// A login as the ServiceAccount [`ACCOUNT`].
    Login,
    /// `auth/token/lookup-self`.
    LookupSelf,
    /// `sys/internal/ui/mounts/<mount>`.
    Mount(String),
    /// `<mount>/metadata/<path>` of a KV engine with versions.
    Metadata {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
    },
    /// `<mount>/data/<path>?version=<n>` of a KV engine with versions.
    Values {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
        /// The version asked for; none = the newest.
        version: Option<i64>,
    },
    /// `<mount>/<path>` of a KV engine without versions.
    Unversioned {
        /// The mount.
        mount: String,
        /// The path below it.
        path: String,
    },
}

/// What Vault answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAnswer {
    /// 200 without anything that matters (health, look-up of a living token).
    Fine,
    /// 200 with a token of this number, which lives [`TOKEN_LIFE`] unless revoked.
    Token(u64),
    /// 200: what a mount is; `versions` = a KV engine with versions.
    Mount {
        /// Whether it is a KV engine at all.
        kv: bool,
        /// Whether it keeps versions.
        versions: bool,
    },
    /// 200: the metadata.
    Metadata {
        /// The newest version.
        current: i64,
        /// Every version.
        versions: Vec<Version>,
    },
    /// 200: the values.
    Values {
        /// Their version; none for an engine without versions.
        version: Option<Version>,
        /// By key.
        fields: Arc<BTreeMap<String, String>>,
    },
    /// An error status. A 404 is "nothing there, or nothing you may know of".
    Status(u16),
    /// 200 with something that is no answer to the question.
    Nonsense,
    /// It acted, but the answer did not arrive.
    Lost,
    /// It was not reached.
    Unreached,
    /// 307 to this address.
    Redirect(String),
}

/// One version of a secret at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number; numbers begin at 1 again after all of a secret was removed.
    pub number: i64,
    /// When it was made, seconds.
    pub created: i64,
    /// From when on it is deleted; may lie in the future.
    pub deleted: Option<i64>,
    /// Whether it is gone for good.
    pub destroyed: bool,
}

// ---------------------------------------------------------------------------------------------- surroundings

/// A change of the surroundings.
#[derive(Debug, Clone, PartialEq)]
pub enum WorldChange {
    /// What the server holds changed. What a lagging standby shows may be older; see [`WorldChange::Lagging`].
    Remote(Remote),
    /// What the grants of the connection allow the namespace from now on: patterns over `<mount>/<path>`, of literal
    /// segments, `*` inside a segment and `**` as the last; empty = no grant at all. All are read as the account
    /// [`ACCOUNT`].
    Granted(Vec<String>),
    /// The ServiceAccount [`ACCOUNT`] exists or not.
    Account(bool),
    /// How the server behind the connection answers from now on.
    Vault(VaultState),
    /// The server shows an older state of its secrets (a standby that lags, a server restored), or does so no longer.
    Lagging(bool),
    /// The server refuses to show metadata (403), and shows values, or does so no longer.
    MetadataClosed(bool),
    /// Every token is dead; new logins work.
    TokensRevoked,
    /// The API server answers or not.
    ApiServer(bool),
    /// The clock of a replica jumped by so many seconds.
    ClockStep {
        /// Which replica.
        leader: u32,
        /// Seconds.
        seconds: i64,
    },
    /// An older binding names the target of this slot, or does so no longer.
    Claimed {
        /// Whose target.
        slot: usize,
        /// Whether it does.
        claimed: bool,
    },
    /// The admission policy that fences the operator is in force or not.
    Fence(bool),
    /// The namespace is being deleted, or (since this is a simulation) no longer.
    Terminating(bool),
}

/// A change of what the server holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Remote {
    /// A secret got a new version (of an engine without versions: new values).
    Put {
        /// Mount and path.
        path: String,
        /// The version; none for an engine without versions.
        version: Option<Version>,
        /// The values.
        fields: Arc<BTreeMap<String, String>>,
    },
    /// A version was deleted, destroyed, or brought back: it is now this.
    Version {
        /// Mount and path.
        path: String,
        /// The version as it is now.
        version: Version,
    },
    /// All of a secret was removed, with its versions.
    Gone {
        /// Mount and path.
        path: String,
    },
}

/// How the server behind the connection answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultState {
    /// As asked.
    Up,
    /// 503.
    Sealed,
    /// Not at all.
    Cut,
    /// Every read of a mount, of metadata and of values only with this status: 403, 404, 429 or 500.
    Answers(u16),
    /// Every login is refused with 403, and every token is dead.
    RefusesLogins,
    /// Every read with 200 and nonsense.
    Babbles,
    /// Every request with 307 to another host.
    Redirects,
}

/// A change of the leader lease by the acting process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// It holds the lease from now on.
    Taken,
    /// It still holds it.
    Renewed,
    /// It gave it up.
    Released,
}

/// A change in the life of the acting process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// It runs.
    Started,
    /// It was killed from outside.
    Killed,
    /// It ended by itself, as told.
    Stopped,
    /// It ended by a panic, or a pass of it did not end.
    Panicked,
}

/// A span of the run, marked by whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Requests are lost, delayed or refused from now on.
    FaultsBegin,
    /// No more of that, and the surroundings are whole: what is wanted must come about within the longest back-off
    /// (an hour) and stay.
    FaultsEnd,
    /// Nothing changes from now on but time; only reads that are due may be made.
    SteadyBegins,
    /// Something may change again.
    SteadyEnds,
    /// The run ends here; carries the last point in time.
    End,
}
