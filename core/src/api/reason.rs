//! Every named cause, closed and documented; the only source of condition and event reasons.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documented::documented;

documented! {
/// The named cause of a condition, event or failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// Nothing is known yet; the first pass has not finished.
    Pending,
    /// The stored material is good.
    Valid,
    /// The spec was understood and is allowed.
    Accepted,
    /// The certificate asked for is stored.
    Issued,
    /// A certificate is stored, with a shorter life than asked for: the issuer's limit applies.
    TTLShortened,
    /// `renewBefore` is half the lifetime or more, so the default renewal point is used.
    RenewBeforeTooLong,
    /// The server answers.
    Reachable,
    /// The login works.
    Authenticated,
    /// The issuer can sign.
    IssuerReachable,
    /// `spec.suspend` is set; nothing is done until it is removed.
    Suspended,
    /// Work is in progress.
    Issuing,
    /// The object is being deleted.
    Deleting,
    /// The renewal point has passed without a new certificate.
    RenewalOverdue,
    /// Less than a sixth of the lifetime is left.
    ExpiringSoon,
    /// No certificate is stored.
    SecretMissing,
    /// The stored certificate has expired.
    Expired,
    /// The stored key does not belong to the stored certificate.
    KeyMismatch,
    /// The stored certificate is valid but not what the spec asks for yet.
    OutOfDate,
    /// The stored certificate does not verify against the trust domain's roots.
    NotTrusted,
    /// A field does not parse; the message names it.
    InvalidSpec,
    /// A name is asked for that no allow rule of the trust domain covers.
    NameNotAllowed,
    /// A name is asked for that nobody may have.
    ReservedName,
    /// The lifetime asked for is above what the trust domain allows.
    TTLNotAllowed,
    /// The trust domain does not exist.
    TrustDomainNotFound,
    /// The trust domain exists but has no authority that can sign.
    TrustDomainNotReady,
    /// Two trust domains have one name; the older keeps it.
    TrustDomainConflict,
    /// The ServiceAccount does not exist.
    ServiceAccountMissing,
    /// A Service does not exist or is of type ExternalName.
    ServiceMissing,
    /// The namespace is terminating.
    NamespaceTerminating,
    /// The Secret exists and is not managed by this object.
    TargetNotOwned,
    /// Another countersign object claims the Secret; the older one keeps it.
    TargetClaimed,
    /// The Secret is the one that the connection logs in with, which nothing read by that connection may write.
    TargetForbidden,
    /// The Secret is immutable.
    TargetImmutable,
    /// The Secret exists with another type, which cannot be changed.
    TargetTypeMismatch,
    /// Another field manager owns fields of the Secret.
    FieldConflict,
    /// Too many certificates were issued for this object; see the storm guard.
    IssuanceThrottled,
    /// A renewal came back that does not end later than the stored certificate.
    RenewalNotLater,
    /// The issuer's answer failed a check and was not stored; the message names the check.
    AnswerRejected,
    /// The connection does not exist.
    ConnectionNotFound,
    /// The connection exists but cannot be used now.
    ConnectionNotReady,
    /// The address is one the operator must not contact.
    AddressForbidden,
    /// The CA bundle does not exist or cannot be used; the message says how, never the content.
    CABundleInvalid,
    /// A referenced Secret or ConfigMap of the operator's namespace is missing.
    SourceMissing,
    /// TLS to the server failed: name, trust or version.
    TLSFailed,
    /// The answer is not that of a Vault or OpenBao server.
    NotVault,
    /// The server is sealed or not initialised.
    VaultSealed,
    /// The server does not answer or answers with an error of its own.
    VaultUnavailable,
    /// The server answers with an error of its own at this path; others are well.
    BackendFailing,
    /// A standby redirected us; enable request forwarding or point the address at the active node.
    StandbyRedirect,
    /// The answer could not be understood.
    UpstreamInvalid,
    /// The server or our own budget limits the rate.
    Throttled,
    /// The login was refused: mount, role, audience or account.
    LoginFailed,
    /// The login gives tokens that may be used a number of times only; a login is shared by many requests.
    LoginLimitsUses,
    /// The audience is not among the chart's `tokenAudiences`.
    AudienceNotAllowed,
    /// The server knows us and refuses the request.
    AccessDenied,
    /// The issuer's role does not exist.
    RoleNotFound,
    /// The issuer's role refuses the request.
    RoleRefused,
    /// The pinned issuer is gone or may no longer sign.
    IssuerNotUsable,
    /// The issuer does not answer.
    IssuerUnavailable,
    /// No self-signed end of the issuer's chain; give `issuer.vault.roots`.
    RootUnknown,
    /// The authority ends too soon for the lifetime asked for.
    AuthorityExpiring,
    /// The embedded CA's key Secret is gone or unreadable; restore it. A new root is never made silently.
    AuthorityLost,
    /// A right is missing in the API server.
    PermissionMissing,
    /// The admission policy that fences the operator is not in force; no Secret outside our namespace is touched.
    FenceMissing,
    /// A quota of the namespace is used up.
    QuotaExceeded,
    /// An admission policy or webhook refused the write.
    AdmissionRefused,
    /// The Secret would exceed what Kubernetes stores.
    SecretTooLarge,
    /// The API server does not answer.
    ApiServerUnavailable,
    /// The object changed under us; we look again.
    WriteConflict,
    /// A CRD of ours is missing or older than this binary.
    CRDOutdated,
    /// The server's clock and ours differ by more than a minute.
    ClockSkew,
    /// The login token is close to its end and could not be renewed.
    TokenExpiring,
    /// The Secret holds what its sources hold.
    Synced,
    /// The content of the Secret is not what was written; it is written again unless somebody else owns the field now.
    Drifted,
    /// No refresh has succeeded for twice the time between two of them.
    Stale,
    /// The connection does not exist, or no grant of it admits this namespace; one answer for both, so that nobody can probe.
    ConnectionNotAllowed,
    /// No grant of the connection covers this path.
    PathNotAllowed,
    /// The path also belongs to a namespace with a longer name; use a separator that no namespace has, such as `_`.
    PathAmbiguous,
    /// No grant that covers the path admits this type of Secret.
    TypeNotAllowed,
    /// The mount does not exist, or the account may not know it.
    MountMissing,
    /// The mount is not a KV engine.
    NotKv,
    /// There is nothing at the path.
    RemoteMissing,
    /// The server says that the version was deleted or destroyed; the Secret is kept.
    RemoteDeleted,
    /// The version that the source is pinned to does not exist.
    RemoteVersionMissing,
    /// A key that the spec names is not in the source.
    RemoteKeyMissing,
    /// The server shows an older version than the one stored; it is taken when it still does a minute later.
    SourceWentBack,
    /// A value is no text; `nonString: JSON` takes it as JSON.
    NonStringValue,
    /// A number that JSON cannot carry without losing digits.
    LossyNumber,
    /// A key that a Secret cannot hold.
    InvalidKeyName,
    /// Two entries give one key.
    KeyCollision,
    /// A value is not written as `decode` says.
    DecodeFailed,
    /// The value of a Secret of type kubernetes.io/dockerconfigjson is no such document.
    InvalidDockerConfig,
    /// What was declared was compiled, and a second reading of it agrees.
    Compiled,
    /// Two readings of what was compiled differ; nothing is written. This is a bug.
    EvaluatorDisagrees,
    /// Every policy stands as it was compiled.
    Applied,
    /// Policies are being written or withdrawn, one step after the other.
    RollingOut,
    /// Nothing is closed, because something would break; see status.wouldBreak.
    Held,
    /// Nothing is written in mode Observe.
    Observing,
    /// Nothing of ours exists in mode Off.
    Off,
    /// The last edge of closed namespaces is gone; they stay closed.
    DenyKept,
    /// Every edge is open at every end that is closed.
    Live,
    /// No segment closes the namespace, so everything passes there.
    NotSegmented,
    /// The server has not granted what the client requests.
    GrantMissing,
    /// The client has not requested what the server grants.
    RequestMissing,
    /// What is requested and what is granted have no port in common.
    PortsDisjoint,
    /// No container has a port of that name.
    PortNameUnknown,
    /// No labels select exactly the pods of the identity.
    SelectorAmbiguous,
    /// No workload and no pod runs as the identity.
    SelectsNothing,
    /// A policy would name more peers than one object holds.
    TooManyPeers,
    /// The pods of one workload run as several identities.
    IdentityInTransition,
    /// Its pods run in the network of their nodes, which no policy selects.
    HostNetwork,
    /// A pod carries the labels of an identity that it does not run as.
    LabelSpoofed,
    /// A policy of somebody else opens what a segment closes.
    ForeignPolicyWidens,
    /// The ExternalService does not exist in the namespace that names it.
    ExternalServiceMissing,
    /// Addresses that are to be outside lie within the cluster.
    OverlapsCluster,
    /// The segment lets nobody reach the Kubernetes API.
    ApiServerClosed,
    /// It cannot be expressed on this data plane.
    NotOnThisDataPlane,
    /// An older segment has the namespace.
    SegmentConflict,
    /// kube-system and the operator's own namespace are closed only with spec.protected.
    NamespaceProtected,
    /// The namespace does not exist.
    NamespaceMissing,
    /// An object of somebody else has the name that ours needs.
    NameCollision,
    /// The data plane is known by its agents; whether it drops packets was not tried.
    Guessed,
    /// The data plane is known to drop nothing.
    NotEnforced,
    /// A state that must not exist; see the operator's log.
    InternalError,
}
}
