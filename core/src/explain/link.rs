//! The links of a chain, and what is said of each.

use serde::Serialize;

use crate::{
    api::Reason,
    explain::{Unseen, advice},
    fault::Failure,
};

/// One thing that must hold, in the order in which it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Step {
    /// The spec parses, is not suspended and nothing is being deleted.
    Spec,
    /// The admission policy that limits the operator is there.
    Fence,
    /// The VaultConnection exists and can be used as it is written.
    Connection,
    /// The server answers over verified TLS.
    Reachable,
    /// The server is not sealed.
    Unsealed,
    /// The operator's login works.
    LoggedIn,
    /// The server does not slow the operator down.
    Rate,
    /// The TrustDomain exists.
    Domain,
    /// Its spec parses, is not suspended and collides with no other.
    DomainAccepted,
    /// Its issuer answers as it should.
    IssuerReachable,
    /// It has an authority that can sign.
    Authority,
    /// The ServiceAccount exists.
    ServiceAccount,
    /// The Services exist.
    Services,
    /// The names and the lifetime may be asked for.
    Names,
    /// The Secret is absent or this object's own.
    TargetOwned,
    /// No older identity names the same Secret.
    TargetClaimed,
    /// The certificate asked for was issued and stored.
    Issued,
    /// The stored certificate is valid.
    Stored,
    /// It is renewed in time.
    Renewal,
    /// A grant of the connection admits namespace, paths and type.
    Granted,
    /// Every source is at the server and may be read.
    Sources,
    /// Every value can be written into the Secret.
    Values,
    /// The last refresh succeeded.
    Synced,
    /// The Secret is there, and as it was written.
    Whole,
}

impl Step {
    /// In words, as it should be.
    pub fn title(self) -> &'static str {
        match self {
            Self::Spec => "spec accepted",
            Self::Fence => "fence in force",
            Self::Connection => "connection usable",
            Self::Reachable => "server reachable",
            Self::Unsealed => "server unsealed",
            Self::LoggedIn => "logged in",
            Self::Rate => "not throttled",
            Self::Domain => "trust domain found",
            Self::DomainAccepted => "trust domain accepted",
            Self::IssuerReachable => "issuer reachable",
            Self::Authority => "authority valid",
            Self::ServiceAccount => "account exists",
            Self::Services => "services exist",
            Self::Names => "names allowed",
            Self::TargetOwned => "secret owned",
            Self::TargetClaimed => "secret not claimed",
            Self::Issued => "certificate issued",
            Self::Stored => "certificate valid",
            Self::Renewal => "renewal in time",
            Self::Granted => "paths granted",
            Self::Sources => "sources readable",
            Self::Values => "values usable",
            Self::Synced => "refreshed in time",
            Self::Whole => "secret whole",
        }
    }
}

/// Whether a link holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum State {
    /// It holds.
    Ok,
    /// It does not.
    Failed,
    /// It could not be seen, or depends on one that could not.
    Unknown,
}

/// One link and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Which.
    pub step: Step,
    /// The object it is about, as `Kind/name`.
    pub object: String,
    /// Whether it holds.
    pub state: State,
    /// The named cause of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What is so.
    pub message: String,
    /// What to do about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<&'static str>,
    /// The right that the caller would need to see more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_right: Option<String>,
}

impl Link {
    /// It holds.
    pub fn ok(step: Step, object: &str, message: impl Into<String>) -> Self {
        Self::new(step, object, State::Ok, message)
    }

    /// It does not.
    pub fn failed(step: Step, object: &str, reason: Reason, message: impl Into<String>) -> Self {
        let next = Some(advice::next_step(reason)).filter(|next| !next.is_empty());
        Self { reason: Some(reason), next, ..Self::new(step, object, State::Failed, message) }
    }

    /// It cannot be told.
    pub fn unknown(step: Step, object: &str, message: impl Into<String>) -> Self {
        Self::new(step, object, State::Unknown, message)
    }

    /// It cannot be told because its object could not be seen.
    pub fn hidden(step: Step, object: &str, why: &Unseen) -> Self {
        let missing_right = why.right().map(ToString::to_string);
        Self { missing_right, ..Self::unknown(step, object, why.to_string()) }
    }

    /// What a gate says: nothing, or why it is closed.
    pub fn of(step: Step, object: &str, closed: Option<Failure>, message: &str) -> Self {
        match closed {
            None => Self::ok(step, object, message),
            Some(failure) => Self::failed(step, object, failure.reason, failure.message),
        }
    }

    fn new(step: Step, object: &str, state: State, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { step, object: object.to_owned(), state, reason: None, message, next: None, missing_right: None }
    }
}

/// Everything an object depends on, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The links.
    pub links: Vec<Link>,
}

/// What a chain comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum End {
    /// No link failed, and the last ones, which need all others, hold.
    Whole,
    /// A link failed.
    Broken,
    /// No link is known to have failed, and it cannot be told whether all hold.
    Unclear,
}

impl Chain {
    /// The first link that failed: the thing to repair.
    pub fn broken(&self) -> Option<&Link> {
        self.links.iter().find(|link| link.state == State::Failed)
    }

    /// What it comes to. A link that nobody may see does not matter while what needs it works.
    pub fn end(&self) -> End {
        if self.broken().is_some() {
            return End::Broken;
        }
        match self.links.last() {
            Some(last) if last.state == State::Ok => End::Whole,
            Some(_) | None => End::Unclear,
        }
    }
}
