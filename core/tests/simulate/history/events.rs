//! The events themselves.

use std::sync::Arc;

use countersign_core::api::{ConditionType, Reason, Verdict};

use super::{Authority, DomainSpec, IdentitySpec, Leaf, ObjectId, Stored, Text, Uid};

/// A request for a Kubernetes object, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeRequest {
    /// What was asked.
    pub verb: Verb,
    /// Of which object.
    pub object: ObjectId,
    /// The preconditions that were sent.
    pub sent: Preconditions,
    /// The field manager that was sent.
    pub field_manager: Text,
    /// Whether the apply was forced.
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
    /// GET, or the empty merge patch that stands for it.
    Read,
    /// POST.
    Create,
    /// Server-side apply of fields.
    Apply,
    /// Server-side apply of nothing: our fields are given up.
    Withdraw,
    /// PUT or any other patch.
    Update,
    /// DELETE.
    Delete,
}

/// What a write insists on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `metadata.resourceVersion` of the body, or that of the delete preconditions.
    pub version: Option<u64>,
    /// `preconditions.uid` of a delete, `metadata.uid` of a body.
    pub uid: Option<Uid>,
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
    /// Any other refusal, by status code.
    Refused(u16),
    /// No answer, or an answer of the kind 5xx, and nothing done.
    Unavailable,
}

/// A write of the status of one of our kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusWrite {
    /// The object.
    pub object: ObjectId,
    /// Its UID.
    pub uid: Uid,
    /// Whether it was stored.
    pub outcome: Outcome,
    /// It was stored, but the caller never heard of it.
    pub answer_lost: bool,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `status.conditions` without times.
    pub conditions: Vec<Condition>,
    /// `status.notAfter`, seconds.
    pub not_after: Option<i64>,
    /// `status.serial`.
    pub serial: Option<super::Serial>,
    /// `status.authority`, which is told as soon as the trust domain can be seen again.
    pub authority: Option<Text>,
    /// `status.renewAt`, seconds.
    pub renew_at: Option<i64>,
    /// `status.revision`.
    pub revision: i64,
    /// The sum of `status.issues[].count` over the longest window.
    pub issues: i64,
    /// `status.lastFailure`.
    pub last_failure: Option<LastFailure>,
    /// `status.lastHandledRequest`.
    pub last_handled_request: Option<Text>,
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
    pub message: Text,
}

/// `status.lastFailure` without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The named cause.
    pub reason: Reason,
    /// The error class, one of the seven.
    pub class: FailureClass,
    /// How often in a row.
    pub attempts: i32,
    /// What it was about: the hash of spec, domain and rules at the time.
    pub inputs: Text,
    /// Its message, as written.
    pub message: Text,
}

/// The seven error classes of reliability.md §2, spelled here again on purpose: the checker shares no code with the taxonomy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// Only a change of the spec, role or rule helps.
    Invalid,
    /// Something referred to is absent.
    Waiting,
    /// Known and refused.
    Denied,
    /// Too fast.
    Throttled,
    /// The other side cannot answer.
    Unavailable,
    /// Somebody else wrote first.
    Conflict,
    /// A state that must not exist.
    Bug,
}

/// A request to Vault that is not a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct VaultRequest {
    /// The `VaultConnection` it belongs to.
    pub connection: ObjectId,
    /// The address it went to.
    pub sent_to: Text,
    /// What was asked.
    pub call: VaultCall,
    /// What came back.
    pub answer: VaultAnswer,
}

/// What was asked of Vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultCall {
    /// `sys/health`.
    Health,
    /// A login.
    Login,
    /// `auth/token/renew-self`.
    Renew,
    /// `auth/token/lookup-self`.
    Lookup,
    /// Issuers, roles, capabilities.
    ReadIssuer,
}

/// What Vault answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAnswer {
    /// 200.
    Fine,
    /// 200 with a token of so many seconds (login and renewal).
    Token(i64),
    /// Any other status.
    Status(u16),
    /// It acted, but the answer did not arrive.
    Lost,
    /// It was not reached.
    Unreached,
    /// 307 to this address.
    Redirect(Text),
}

/// A signature asked for, and what came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The ServiceIdentity it is for.
    pub identity: Uid,
    /// Where it was asked for.
    pub path: SignPath,
    /// What was asked.
    pub asked: Arc<SignRequest>,
    /// What came back.
    pub answer: SignAnswer,
}

/// Where a signature is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum SignPath {
    /// At a PKI mount.
    Vault {
        /// The `VaultConnection`.
        connection: ObjectId,
        /// The address it went to.
        sent_to: Text,
        /// The mount.
        mount: Text,
        /// The role.
        role: Text,
        /// The last part of the endpoint.
        endpoint: SignEndpoint,
    },
    /// With a key the operator holds for this `TrustDomain`.
    Embedded(ObjectId),
}

/// The endpoints of a PKI mount that make certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignEndpoint {
    /// `issuer/<id>/sign/<role>`: our key, the role's rules.
    Sign,
    /// `issue/<role>`: Vault makes the private key and sends it over the wire.
    Issue,
    /// `sign-verbatim`: no rules.
    SignVerbatim,
}

/// What was asked to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// The key of the CSR.
    pub public_key: super::KeyPair,
    /// The SPIFFE URI.
    pub spiffe_id: Text,
    /// DNS names.
    pub dns_names: Vec<Text>,
    /// IP addresses.
    pub ip_addresses: Vec<Text>,
    /// Seconds.
    pub ttl: i64,
}

/// What came back for a signature.
#[derive(Debug, Clone, PartialEq)]
pub enum SignAnswer {
    /// What was asked, within the issuer's limits.
    Honest(Arc<Leaf>),
    /// A certificate that is not what was asked.
    Doctored(Arc<Leaf>, Doctoring),
    /// It was signed, but the answer did not arrive.
    Lost,
    /// An error status.
    Status(u16),
    /// It was not reached.
    Unreached,
    /// 307 to this address.
    Redirect(Text),
}

/// How an answer was doctored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doctoring {
    /// Another public key.
    Key,
    /// Other names.
    Names,
    /// Another authority.
    Authority,
    /// `CA: true`.
    Ca,
    /// Times out of the profile.
    Validity,
    /// The serial of the stored leaf.
    Serial,
    /// Anything else that does not verify.
    Chain,
}

/// A user's change of a ServiceIdentity.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityChange {
    /// The object.
    pub object: ObjectId,
    /// Its UID.
    pub uid: Uid,
    /// What changed.
    pub change: IdentityEdit,
}

/// What a user changed in a ServiceIdentity.
#[derive(Debug, Clone, PartialEq)]
pub enum IdentityEdit {
    /// Created or edited: the spec from this generation on.
    Spec {
        /// `metadata.generation`.
        generation: i64,
        /// The whole spec.
        spec: Arc<IdentitySpec>,
    },
    /// Annotation `countersign.dev/requested-at` set to this.
    Requested(Text),
    /// Deleted.
    Deleted,
}

/// A change of a TrustDomain.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainChange {
    /// The object.
    pub object: ObjectId,
    /// Its UID.
    pub uid: Uid,
    /// What changed.
    pub change: DomainEdit,
}

/// What changed in a TrustDomain.
#[derive(Debug, Clone, PartialEq)]
pub enum DomainEdit {
    /// Created or edited.
    Spec(Arc<DomainSpec>),
    /// Deleted.
    Deleted,
    /// Annotation `countersign.dev/rotate` set: a person asks for a new authority.
    RotationRequested,
    /// `status.authorities` got this entry, or this entry changed.
    Authority(Authority),
}

/// A user's change of a VaultConnection.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionChange {
    /// The object.
    pub object: ObjectId,
    /// Its address from now on; none if it was deleted.
    pub address: Option<Text>,
}

/// A change of the surroundings.
#[derive(Debug, Clone, PartialEq)]
pub enum WorldChange {
    /// A ServiceAccount or Service exists or not.
    Present {
        /// Which one.
        object: ObjectId,
        /// Whether it exists.
        present: bool,
    },
    /// The server behind a connection changed its mind.
    Vault {
        /// The `VaultConnection`.
        connection: ObjectId,
        /// How it answers from now on.
        state: VaultState,
    },
    /// Every token of this connection is dead.
    TokensRevoked(ObjectId),
    /// The issuer's role of a `TrustDomain` now has this longest lifetime, seconds.
    RoleLimit {
        /// The `TrustDomain`.
        domain: ObjectId,
        /// Seconds.
        max_ttl: i64,
    },
    /// The API server answers or not.
    ApiServer {
        /// Whether it answers.
        up: bool,
    },
    /// The clock of a replica jumped by so many seconds.
    ClockStep {
        /// Which replica.
        leader: u32,
        /// Seconds.
        seconds: i64,
    },
    /// An older ServiceIdentity names this target, or does so no longer.
    Claimed {
        /// The target.
        object: ObjectId,
        /// Whether it does.
        claimed: bool,
    },
    /// The admission policy that fences the operator is in force or not.
    Fence {
        /// Whether it is.
        in_force: bool,
    },
}

/// How the server behind a connection answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultState {
    /// As asked.
    Up,
    /// 503 and `sealed`.
    Sealed,
    /// Not at all.
    Cut,
    /// Only with this status: 403, 404, 429 or 5xx.
    Answers(u16),
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
    /// It ended by a panic.
    Panicked,
}

/// A line that others can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextLine {
    /// Where it was written.
    pub sink: Sink,
    /// The line.
    pub text: Text,
}

/// Where a process writes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard output or error.
    Log,
    /// A Kubernetes Event.
    Event,
    /// `/metrics`.
    Metric,
}

/// A span of the run, marked by whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Requests are lost, delayed or refused from now on.
    FaultsBegin,
    /// No more of that.
    FaultsEnd,
    /// Nothing is due from now on.
    SteadyBegins,
    /// Something may be due again.
    SteadyEnds,
    /// The run ends here; carries the last point in time.
    End,
}
