//! `metav1.Condition` in our own words: closed types, closed reasons.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Reason, documented::documented};

documented! {
/// Type of a condition. Positive ones are always present; negative ones only while True.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The stored material is good (not: the last attempt worked).
    Ready,
    /// The spec was understood and is allowed.
    Accepted,
    /// The certificate stored is the one last asked for.
    Issued,
    /// The last refresh succeeded.
    Synced,
    /// What was declared was compiled, and a second reading agrees.
    Compiled,
    /// Every policy stands as it was compiled.
    Applied,
    /// Packets are dropped; only with evidence.
    Enforced,
    /// The server answers over verified TLS.
    Reachable,
    /// The login works.
    Authenticated,
    /// The domain's issuer can sign.
    IssuerReachable,
    /// kstatus: work is in progress or being retried.
    Reconciling,
    /// kstatus: a person must act at this generation.
    Stalled,
    /// `spec.suspend` is set.
    Suspended,
    /// The renewal point has passed.
    RenewalOverdue,
    /// Less than a sixth of the lifetime is left.
    ExpiringSoon,
    /// The sources could not be read for twice the time between two refreshes.
    Stale,
    /// Something a source names is not at the server.
    SourceMissing,
    /// Another field manager owns what we must write.
    FieldConflict,
    /// The server is sealed.
    Sealed,
    /// The server answers 429.
    Throttled,
    /// The login token is close to its end and could not be renewed.
    TokenExpiring,
    /// The server's clock and ours differ by more than a minute.
    ClockSkew,
    /// An authority of the domain is close to its end.
    AuthorityExpiring,
    /// Closing the namespaces would break a connection.
    WouldBreak,
    /// An older object of the kind has what this one wants.
    Conflict,
    /// Something that the spec names does not exist.
    Unresolved,
    /// No labels select exactly the pods of the identity.
    SelectorAmbiguous,
    /// A pod carries the labels of an identity that it does not run as.
    LabelSpoofed,
    /// A policy of somebody else opens what a segment closes.
    ForeignPolicyWidens,
    /// Addresses that are to be outside lie within the cluster.
    OverlapsCluster,
}
}

impl ConditionType {
    /// Whether it stays in the list while not True.
    pub fn is_positive(self) -> bool {
        use ConditionType::{
            Accepted, Applied, Authenticated, Compiled, Enforced, Issued, IssuerReachable, Reachable, Ready, Synced,
        };
        matches!(
            self,
            Ready
                | Accepted
                | Issued
                | Synced
                | Compiled
                | Applied
                | Enforced
                | Reachable
                | Authenticated
                | IssuerReachable
        )
    }
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

impl Verdict {
    /// Its name, as it is written into a status.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition before it gets its transition time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which condition.
    pub kind: ConditionType,
    /// Whether it holds.
    pub verdict: Verdict,
    /// The named cause.
    pub reason: Reason,
    /// For people: what, where, what to do, next try; at most 1,024 characters.
    pub message: String,
}

impl Finding {
    /// A condition with a message.
    pub fn new(kind: ConditionType, verdict: Verdict, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, verdict, reason, message: message.into() }
    }

    /// A condition this pass learned nothing about: as it was, or `Unknown/Pending`.
    pub fn kept(kind: ConditionType, previous: &[Condition]) -> Self {
        let Some(known) = previous.iter().find(|condition| condition.type_ == kind.name()) else {
            return Self::new(kind, Verdict::Unknown, Reason::Pending, "not known yet");
        };
        let verdict = match known.status.as_str() {
            "True" => Verdict::True,
            "False" => Verdict::False,
            _ => Verdict::Unknown,
        };
        let reason = Reason::named(&known.reason).unwrap_or(Reason::Pending);
        Self::new(kind, verdict, reason, known.message.clone())
    }
}

/// Turns findings into conditions; a transition time moves only when the status moved.
pub fn conditions(findings: &[Finding], previous: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    findings
        .iter()
        .filter(|finding| finding.kind.is_positive() || finding.verdict == Verdict::True)
        .map(|finding| {
            let (type_, status) = (finding.kind.name(), finding.verdict.name());
            let since = previous
                .iter()
                .find(|c| c.type_ == type_ && c.status == status)
                .map_or(Time(now), |c| c.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.name().to_owned(),
                message: finding.message.clone(),
                last_transition_time: since,
                observed_generation: Some(generation),
            }
        })
        .collect()
}
