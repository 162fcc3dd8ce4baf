//! What was observed of a server and of our login, what may be asked of it, and what came back.

use jiff::Timestamp;

use crate::{
    api::Reason,
    fault::Failure,
    value::x509::{Roots, X509Fault},
};

/// Everything a decision may look at besides the intent and the time.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The CA certificates the intent names.
    pub ca: CaView,
    /// The Secret the login needs.
    pub credential: CredentialView,
    /// The last health probe that this process made with this spec.
    pub health: Option<Probed>,
    /// Our login.
    pub session: SessionView,
    /// The last login or renewal, if it failed, as this process remembers it.
    pub login_failure: Option<LoginAttempt>,
    /// What keeps callers away since a call of theirs found that the server cannot serve us.
    pub outage: Option<Failure>,
    /// Since when calls are refused because of the rate, without one that got through.
    pub throttled_since: Option<Timestamp>,
    /// The value of `countersign.dev/requested-at` that the status says was acted on.
    pub handled_request: Option<String>,
    /// Whether this pass has probed; a request is served by a probe made after it was seen.
    pub probed: bool,
}

/// The CA certificates the intent names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaView {
    /// None: the public roots do.
    NotNeeded,
    /// They are these.
    Found(Roots),
    /// The ConfigMap or Secret, or its key, does not exist.
    Missing,
    /// It could not be read.
    Unread(Failure),
    /// What is there is not a bundle of authorities.
    Bad(X509Fault),
}

impl CaView {
    /// The view of what was read: the value of the key, if it is there.
    pub fn of_bytes(read: Result<Option<&[u8]>, Failure>) -> Self {
        match read {
            Err(failure) => Self::Unread(failure),
            Ok(None) => Self::Missing,
            Ok(Some(bytes)) => std::str::from_utf8(bytes)
                .map_err(|_| X509Fault::NotPem)
                .and_then(Roots::parse)
                .map_or_else(Self::Bad, Self::Found),
        }
    }
}

/// The Secret the login needs. Its value is no fact a decision may look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialView {
    /// None.
    NotNeeded,
    /// It is there.
    Found,
    /// The Secret, or its key, does not exist or is empty.
    Missing,
    /// It could not be read.
    Unread(Failure),
}

/// A health probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// When it was answered or given up.
    pub at: Timestamp,
    /// How many in a row, this one included, found nobody who could serve us; 0 if this one did.
    pub failures: u32,
    /// The answer.
    pub result: Result<Health, Failure>,
}

/// What the server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Which product it is.
    pub product: Product,
    /// Its version as it writes it.
    pub version: String,
    /// Whether it can serve us.
    pub state: ServerState,
    /// Its clock minus ours, seconds.
    pub skew: i64,
}

/// Which product answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// HashiCorp Vault.
    Vault,
    /// OpenBao.
    OpenBao,
}

/// Whether a server can serve us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It can; a standby that forwards counts.
    Serving,
    /// It is sealed.
    Sealed,
    /// It was never initialised.
    Uninitialised,
    /// It is a secondary for disaster recovery, which serves nobody.
    RecoverySecondary,
}

/// Our login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionView {
    /// There is none.
    Absent,
    /// There is one.
    Live {
        /// When it ends if it is not renewed; `None` = never.
        ends: Option<Timestamp>,
        /// When it should be renewed or replaced; `None` = never.
        due: Option<Timestamp>,
    },
}

impl SessionView {
    /// Whether calls can be made with it at `now`.
    pub fn is_live(self, now: Timestamp) -> bool {
        match self {
            Self::Absent => false,
            Self::Live { ends, .. } => ends.is_none_or(|ends| now < ends),
        }
    }
}

/// A login or renewal that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAttempt {
    /// When.
    pub at: Timestamp,
    /// How often in a row.
    pub attempts: u32,
    /// The generation of the spec it was made with.
    pub generation: i64,
    /// How.
    pub failure: Failure,
}

/// One remote call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask for the server's health, without a login.
    Probe,
    /// Have a usable session: log in, or renew the login that is due.
    Login {
        /// The generation of the spec it is made with.
        generation: i64,
    },
}

/// What an effect came back with. Times are those of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The health probe.
    Probed {
        /// When.
        at: Timestamp,
        /// The answer.
        result: Result<Health, Failure>,
    },
    /// The session as it is now.
    Session(SessionView),
    /// The login or renewal failed.
    LoginFailed {
        /// When.
        at: Timestamp,
        /// The generation of the spec it was made with.
        generation: i64,
        /// How.
        failure: Failure,
    },
}

/// Folds a reply into the world.
pub fn absorb(mut world: World, reply: Reply) -> World {
    match reply {
        Reply::Probed { at, result } => {
            let result = told_by_a_call(&world, result);
            let serves = matches!(&result, Ok(health) if health.state == ServerState::Serving);
            let before = world.health.as_ref().map_or(0, |probed| probed.failures);
            let failures = if serves { 0 } else { before.saturating_add(1) };
            world.health = Some(Probed { at, failures, result });
            world.probed = true;
        }
        Reply::Session(session) => {
            world.session = session;
            world.login_failure = None;
        }
        Reply::LoginFailed { at, generation, failure } => {
            let before = world.login_failure.filter(|last| last.generation == generation);
            let attempts = before.map_or(0, |last| last.attempts).saturating_add(1);
            world.login_failure = Some(LoginAttempt { at, attempts, generation, failure });
        }
    }
    world
}

/// A probe that was not made because a call had just been refused by a sealed server tells the same as
/// the server's own answer: it is there, and it is sealed. What else is known of it stays known.
fn told_by_a_call(world: &World, result: Result<Health, Failure>) -> Result<Health, Failure> {
    let known = world.health.as_ref().and_then(|probed| probed.result.as_ref().ok());
    match (result, known) {
        (Err(failure), Some(health)) if failure.reason == Reason::VaultSealed => {
            Ok(Health { state: ServerState::Sealed, ..health.clone() })
        }
        (result, _) => result,
    }
}

/// Why a pass ended, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Why.
    pub outcome: Outcome,
    /// When to look again by ourselves; `None` = only when something changes.
    pub wake: Option<Timestamp>,
}

/// Why a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The object is being deleted.
    Deleting,
    /// The connection can be used.
    Usable,
    /// We may not, or cannot, ask the server at all.
    Held(Failure),
    /// The server does not answer, or cannot serve us.
    Down(Failure),
    /// There is no login.
    LoginFailed(Failure),
}
