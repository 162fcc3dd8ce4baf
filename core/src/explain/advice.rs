//! The next step after a failure, one sentence a reason.

use crate::api::Reason;

/// What to do first; empty where nothing is wrong.
#[expect(clippy::too_many_lines, reason = "one arm a reason, so that none is forgotten")]
pub fn next_step(reason: Reason) -> &'static str {
    match reason {
        Reason::Accepted
        | Reason::Authenticated
        | Reason::Issued
        | Reason::IssuerReachable
        | Reason::Reachable
        | Reason::RenewBeforeTooLong
        | Reason::Synced
        | Reason::TTLShortened
        | Reason::Valid
        | Reason::Compiled
        | Reason::Applied
        | Reason::DenyKept
        | Reason::Live => "",
        Reason::Pending => "wait a moment; if it stays so, `countersign check` says whether an operator runs",
        Reason::Suspended => "remove spec.suspend",
        Reason::Issuing | Reason::Deleting | Reason::WriteConflict => "wait a moment",
        Reason::RenewalOverdue | Reason::ExpiringSoon | Reason::Expired => {
            "it is renewed by itself once no earlier link fails; if none does, read the operator's log"
        }
        Reason::SecretMissing | Reason::OutOfDate | Reason::KeyMismatch | Reason::Drifted => {
            "it is written by itself once no earlier link fails; if none does, read the operator's log"
        }
        Reason::NotTrusted => "compare the roots in the trust domain's status with ca.crt in the Secret",
        Reason::InvalidSpec => "correct the field that the message names",
        Reason::NameNotAllowed => {
            "remove the name, or have the platform add an allow rule to the TrustDomain for this namespace"
        }
        Reason::ReservedName => "remove the name; no rule can allow it",
        Reason::TTLNotAllowed => "shorten spec.ttl, or have the platform raise maxTTL in an allow rule",
        Reason::TrustDomainNotFound => "create the TrustDomain, or correct spec.trustDomain",
        Reason::TrustDomainNotReady | Reason::IssuerUnavailable => "`countersign explain trustdomain/NAME` says why",
        Reason::TrustDomainConflict => "delete one of the two TrustDomains",
        Reason::ServiceAccountMissing => "create the ServiceAccount, or correct spec.serviceAccountName",
        Reason::ServiceMissing => "create the Service, or remove it from spec.services",
        Reason::NamespaceTerminating => "nothing more can be written in this namespace",
        Reason::TargetNotOwned | Reason::TargetTypeMismatch => {
            "delete the Secret if nobody needs it, or make an identity that names another"
        }
        Reason::TargetClaimed => "delete one of the two identities, or have it name another Secret",
        Reason::TargetForbidden => "have the binding name another Secret; this one holds the login of its connection",
        Reason::TargetImmutable => "delete the Secret; it is then written anew",
        Reason::FieldConflict => "have the other manager let go of the fields that the message names",
        Reason::IssuanceThrottled => {
            "find out what asked so often (annotation, changing spec, deleted Secret); then wait for the time named"
        }
        Reason::RenewalNotLater => "look at the limits of the PKI role and at the end of the authority",
        Reason::AnswerRejected => "correct the PKI role: it signed something else than was asked for",
        Reason::ConnectionNotFound => "create the VaultConnection, or correct spec.issuer.vault.connection",
        Reason::ConnectionNotReady => "`countersign explain vaultconnection/NAME` says why",
        Reason::AddressForbidden => "correct spec.address",
        Reason::CABundleInvalid => "give PEM certificates of authorities in spec.tls.ca",
        Reason::SourceMissing => "create the ConfigMap or Secret in the operator's namespace",
        Reason::TLSFailed => "compare the server's certificate with spec.tls.ca and spec.tls.serverName",
        Reason::NotVault => "correct spec.address; something else answers there",
        Reason::VaultSealed => "unseal the server; the operator goes on by itself",
        Reason::VaultUnavailable => "bring the server back; the operator goes on by itself",
        Reason::BackendFailing => "look at the server's log for this path; the operator tries again by itself",
        Reason::StandbyRedirect => "enable request forwarding, or point spec.address at the active node",
        Reason::UpstreamInvalid => "look for a proxy between the operator and the server",
        Reason::Throttled => "raise the server's quota, or lower spec.limits",
        Reason::LoginFailed => "compare mount, role and audience in spec.auth with the server's auth method",
        Reason::LoginLimitsUses => "set token_num_uses of the login's role to 0",
        Reason::AudienceNotAllowed => "add the audience to the chart's tokenAudiences, or correct spec.auth",
        Reason::AccessDenied => "give the operator's policy in Vault the right on the path that the message names",
        Reason::RoleNotFound => "create the PKI role, or correct spec.issuer.vault.role",
        Reason::RoleRefused => "have the PKI role allow what is asked for, or ask for less",
        Reason::IssuerNotUsable => "restore the pinned issuer in the PKI mount, or make a new TrustDomain",
        Reason::RootUnknown => "give the root in spec.issuer.vault.roots",
        Reason::AuthorityExpiring => "prepare a TrustDomain with a new authority",
        Reason::AuthorityLost => "restore the authority's Secret from a backup",
        Reason::PermissionMissing => "`helm upgrade` restores the operator's roles",
        Reason::FenceMissing => "`helm upgrade` restores the admission policy and its binding",
        Reason::QuotaExceeded => "raise the namespace's quota for Secrets",
        Reason::AdmissionRefused => "find the admission policy or webhook that refuses Secrets here",
        Reason::SecretTooLarge => "use fewer labels and annotations in spec.secret",
        Reason::ApiServerUnavailable => "look at the API server; the operator goes on by itself",
        Reason::CRDOutdated => "`helm upgrade`, or apply the output of `countersign crds`",
        Reason::ClockSkew => "set the clocks of the server and of the nodes",
        Reason::TokenExpiring => "give the login a token that can be renewed",
        Reason::Stale => "find out why the refreshes fail; the Secret keeps what was read before",
        Reason::ConnectionNotAllowed => {
            "correct spec.connection, or have the platform add a grant for this namespace to the VaultConnection"
        }
        Reason::PathNotAllowed => "correct the path, or have the platform add it to a grant of the VaultConnection",
        Reason::PathAmbiguous => {
            "have the platform separate {namespace} in the grant's pattern with a character that no namespace has"
        }
        Reason::TypeNotAllowed => {
            "correct spec.secret.type, or have the platform add it to secretTypes in a grant of the VaultConnection"
        }
        Reason::MountMissing => "correct the mount, or give the account a right below it",
        Reason::NotKv => "name a mount of a KV engine",
        Reason::RemoteMissing => "write the secret at the server, or correct the path",
        Reason::RemoteDeleted => "undelete the version or write a new one at the server",
        Reason::RemoteVersionMissing => "correct version, or remove it",
        Reason::RemoteKeyMissing => "write the key at the server, or correct from",
        Reason::SourceWentBack => "wait a minute; a server that was restored is believed then",
        Reason::NonStringValue => "store a text at the server, or set nonString: JSON",
        Reason::LossyNumber => "store the number as a text at the server",
        Reason::InvalidKeyName => "choose keys with match, or name them with key and from",
        Reason::KeyCollision => "give one of the two a prefix or another key",
        Reason::DecodeFailed => "correct decode, or the value at the server",
        Reason::InvalidDockerConfig => "store the configuration that `docker login` writes at the server",
        Reason::EvaluatorDisagrees => "report it with the message; nothing is written until both readings agree",
        Reason::RollingOut => "wait; each step is given the time that rollout.settle says",
        Reason::Held => "declare what status.wouldBreak lists, or set rollout.onWouldBreak to Proceed",
        Reason::Observing => "set spec.mode to Enforce when nothing would break",
        Reason::Off => "set spec.mode to Observe",
        Reason::NotSegmented => "have the platform add the namespace to a Segment",
        Reason::GrantMissing => "the server's team must make an AccessGrant for this client",
        Reason::RequestMissing => "the client's team must make an AccessRequest for this server",
        Reason::PortsDisjoint => "let the request and the grant name a port in common",
        Reason::PortNameUnknown => "name the port in the pod's containers, or use its number",
        Reason::SelectorAmbiguous => "give the pods the label that the message names",
        Reason::TooManyPeers => {
            "grant a namespace as a whole (from: [{namespace: …, all: true}]), or name fewer clients"
        }
        Reason::SelectsNothing => "start a workload with that ServiceAccount, or correct its name",
        Reason::IdentityInTransition => "wait until the rollout ends; if two accounts are meant, split the workload",
        Reason::HostNetwork => "take the pods off the host's network; no policy selects them there",
        Reason::ForeignPolicyWidens => {
            "narrow or delete that NetworkPolicy; whoever may write one can open a closed namespace"
        }
        Reason::LabelSpoofed => "delete the pod, or give it labels of its own",
        Reason::ExternalServiceMissing => "create the ExternalService in this namespace, or correct its name",
        Reason::OverlapsCluster => "name pods by their identity, in a grant and a request",
        Reason::ApiServerClosed => "remove apiServer from the request, or have the platform set exceptions.apiServer",
        Reason::NotOnThisDataPlane => "install with dataPlane.nodeBlocks: Yes if the data plane matches node addresses",
        Reason::SegmentConflict => "take the namespace out of one of the two Segments",
        Reason::NamespaceProtected => "set spec.protected: true, or leave the namespace out",
        Reason::NamespaceMissing => "create the namespace, or correct its name",
        Reason::NameCollision => "rename or delete the NetworkPolicy that has our name",
        Reason::Guessed => "try a connection that is closed",
        Reason::NotEnforced => "install a data plane that enforces NetworkPolicies",
        Reason::InternalError => "look at the operator's log, and report what it says",
    }
}
