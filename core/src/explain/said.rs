//! What the operator said of an object in its conditions, and which link that is about.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{ConditionType, Finding, Reason, Verdict},
    explain::Step,
};

/// The conditions of one object.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    conditions: &'a [Condition],
    /// Whether they speak of the spec as it is now.
    pub current: bool,
}

impl<'a> Said<'a> {
    /// What a status says of the generation `wanted`.
    pub fn new(conditions: &'a [Condition], observed: Option<i64>, wanted: Option<i64>) -> Self {
        Self { conditions, current: observed.is_some() && observed == wanted.or(Some(0)) }
    }

    /// A condition; one that is not in the list is `Unknown`, which for a negative one means not True.
    pub fn of(self, kind: ConditionType) -> Finding {
        Finding::kept(kind, self.conditions)
    }

    /// Whether a condition is True.
    pub fn holds(self, kind: ConditionType) -> bool {
        self.of(kind).verdict == Verdict::True
    }

    /// A condition, if it is the bad one of its two.
    pub fn bad(self, kind: ConditionType) -> Option<Finding> {
        let bad = if kind.is_positive() { Verdict::False } else { Verdict::True };
        Some(self.of(kind)).filter(|finding| finding.verdict == bad)
    }

    /// What stopped the operator in its last pass over the present spec.
    ///
    /// kstatus' pair is written anew by every pass, the positive ones may be kept from an earlier one.
    pub fn trouble(self) -> Option<Finding> {
        use ConditionType::{Accepted, Issued, Ready, Reconciling, Stalled, Suspended, Synced};
        let order = [Suspended, Stalled, Reconciling, Accepted, Issued, Synced, Ready];
        order.into_iter().filter(|_| self.current).find_map(|kind| self.bad(kind))
    }

    /// [`Said::trouble`], if it is about this link.
    pub fn trouble_at(self, step: Step) -> Option<Finding> {
        self.trouble().filter(|finding| place(finding.reason) == step)
    }
}

/// The link that a reason is about.
#[expect(clippy::too_many_lines, reason = "one arm a reason, so that none is forgotten")]
pub fn place(reason: Reason) -> Step {
    match reason {
        // Those of the network stand in objects that have no chain of links.
        Reason::Compiled
        | Reason::EvaluatorDisagrees
        | Reason::Applied
        | Reason::RollingOut
        | Reason::Held
        | Reason::Observing
        | Reason::Off
        | Reason::DenyKept
        | Reason::Live
        | Reason::NotSegmented
        | Reason::GrantMissing
        | Reason::RequestMissing
        | Reason::PortsDisjoint
        | Reason::PortNameUnknown
        | Reason::SelectorAmbiguous
        | Reason::SelectsNothing
        | Reason::TooManyPeers
        | Reason::IdentityInTransition
        | Reason::HostNetwork
        | Reason::LabelSpoofed
        | Reason::ForeignPolicyWidens
        | Reason::ExternalServiceMissing
        | Reason::OverlapsCluster
        | Reason::ApiServerClosed
        | Reason::NotOnThisDataPlane
        | Reason::SegmentConflict
        | Reason::NamespaceProtected
        | Reason::NamespaceMissing
        | Reason::NameCollision
        | Reason::Guessed
        | Reason::NotEnforced
        | Reason::InvalidSpec
        | Reason::Suspended
        | Reason::Deleting
        | Reason::NamespaceTerminating => Step::Spec,
        Reason::FenceMissing => Step::Fence,
        Reason::ConnectionNotFound
        | Reason::ConnectionNotReady
        | Reason::AddressForbidden
        | Reason::CABundleInvalid
        | Reason::SourceMissing
        | Reason::AudienceNotAllowed => Step::Connection,
        Reason::Reachable
        | Reason::TLSFailed
        | Reason::NotVault
        | Reason::VaultUnavailable
        | Reason::StandbyRedirect
        | Reason::UpstreamInvalid
        | Reason::ClockSkew => Step::Reachable,
        Reason::VaultSealed => Step::Unsealed,
        Reason::Authenticated | Reason::LoginFailed | Reason::LoginLimitsUses | Reason::TokenExpiring => Step::LoggedIn,
        Reason::Throttled => Step::Rate,
        Reason::TrustDomainNotFound => Step::Domain,
        Reason::TrustDomainConflict => Step::DomainAccepted,
        Reason::IssuerReachable | Reason::RoleNotFound | Reason::IssuerNotUsable | Reason::IssuerUnavailable => {
            Step::IssuerReachable
        }
        Reason::TrustDomainNotReady | Reason::RootUnknown | Reason::AuthorityExpiring | Reason::AuthorityLost => {
            Step::Authority
        }
        Reason::ServiceAccountMissing => Step::ServiceAccount,
        Reason::ServiceMissing => Step::Services,
        Reason::NameNotAllowed | Reason::ReservedName | Reason::TTLNotAllowed => Step::Names,
        Reason::TargetNotOwned
        | Reason::TargetForbidden
        | Reason::TargetImmutable
        | Reason::TargetTypeMismatch
        | Reason::FieldConflict => Step::TargetOwned,
        Reason::TargetClaimed => Step::TargetClaimed,
        Reason::Pending
        | Reason::Accepted
        | Reason::Issued
        | Reason::TTLShortened
        | Reason::RenewBeforeTooLong
        | Reason::Issuing
        | Reason::IssuanceThrottled
        | Reason::RenewalNotLater
        | Reason::AnswerRejected
        | Reason::AccessDenied
        | Reason::RoleRefused
        | Reason::PermissionMissing
        | Reason::QuotaExceeded
        | Reason::AdmissionRefused
        | Reason::SecretTooLarge
        | Reason::ApiServerUnavailable
        | Reason::WriteConflict
        | Reason::CRDOutdated
        | Reason::InternalError => Step::Issued,
        Reason::Valid
        | Reason::SecretMissing
        | Reason::Expired
        | Reason::KeyMismatch
        | Reason::OutOfDate
        | Reason::NotTrusted
        | Reason::ExpiringSoon => Step::Stored,
        Reason::RenewalOverdue => Step::Renewal,
        Reason::ConnectionNotAllowed | Reason::PathNotAllowed | Reason::PathAmbiguous | Reason::TypeNotAllowed => {
            Step::Granted
        }
        Reason::MountMissing
        | Reason::NotKv
        | Reason::BackendFailing
        | Reason::RemoteMissing
        | Reason::RemoteDeleted
        | Reason::RemoteVersionMissing
        | Reason::SourceWentBack => Step::Sources,
        Reason::RemoteKeyMissing
        | Reason::NonStringValue
        | Reason::LossyNumber
        | Reason::InvalidKeyName
        | Reason::KeyCollision
        | Reason::DecodeFailed
        | Reason::InvalidDockerConfig => Step::Values,
        Reason::Synced | Reason::Stale => Step::Synced,
        Reason::Drifted => Step::Whole,
    }
}
