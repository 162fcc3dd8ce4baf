//! What was observed of a domain's issuer, what may be asked of it, and what came back.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::{Authority, AuthorityState, KeySpec, TrustDomainStatus},
    fault::Failure,
    value::{
        vault_path::{Segment, VaultPath},
        x509::{Certificate, Roots, X509Fault},
    },
};

/// Everything a decision may look at besides the intent and the time.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The older object with the same SPIFFE name; see [`rules::older_namesake`](crate::trust::rules::older_namesake).
    pub namesake: Option<String>,
    /// What the status remembers.
    pub memory: Memory,
    /// The Secrets with the domain's own authorities, by number; empty for a mount.
    pub secrets: SecretsView,
    /// The connection to the mount; `Usable` for an authority of our own.
    pub connection: ConnectionView,
    /// The trust anchors the intent names.
    pub roots: RootsView,
    /// What signing has shown of the issuer since it was last looked at.
    pub complaint: Option<Complaint>,
    /// The last look at the issuer that failed, as this process remembers it.
    pub attempt: Option<Attempt>,
    /// What this pass has found so far.
    pub found: Found,
}

/// What the status remembers between passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The authorities.
    pub authorities: Vec<Authority>,
    /// The generation of the spec the status speaks of.
    pub generation: Option<i64>,
    /// Whether the status says that the issuer was found good and that nothing is left to do.
    pub good: bool,
    /// The value of `countersign.dev/requested-at` that was acted on.
    pub handled_request: Option<String>,
}

impl Memory {
    /// What a status remembers.
    pub fn of(status: &TrustDomainStatus) -> Self {
        let holds = |name: &str| status.conditions.iter().any(|c| c.type_ == name && c.status == "True");
        Self {
            authorities: status.authorities.clone(),
            generation: status.observed_generation,
            good: holds("Ready") && holds("IssuerReachable") && !holds("Reconciling") && !holds("Stalled"),
            handled_request: status.last_handled_request.clone(),
        }
    }

    /// The authority that signs.
    pub fn active(&self) -> Option<&Authority> {
        self.authorities.iter().find(|authority| authority.state == AuthorityState::Active)
    }
}

/// The Secrets with the domain's own authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretsView {
    /// Read by name from number 1 upward, until one was absent.
    Read(BTreeMap<u32, SecretView>),
    /// They could not be read.
    Unread(Failure),
}

/// A Secret with an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretView {
    /// Its certificate; the key belongs to it.
    Authority(Box<Certificate>),
    /// It is there, and what is in it is no authority: what is wrong, as `AuthorityLost`.
    Unusable(Failure),
}

/// The connection to the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionView {
    /// It can be used.
    Usable,
    /// There is no such object.
    Missing,
    /// It says that it cannot be used.
    NotReady,
}

/// The trust anchors the intent names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootsView {
    /// None.
    NotAsked,
    /// These.
    Found(Roots),
    /// The ConfigMap or Secret, or its key, does not exist.
    Missing,
    /// It could not be read.
    Unread(Failure),
    /// What is there is not a bundle of authorities.
    Bad(X509Fault),
}

impl RootsView {
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

/// What signing has shown of the issuer: a failure that speaks of it and not of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// When.
    pub at: Timestamp,
    /// The generation of the domain's spec it was signed under.
    pub generation: i64,
    /// How: `RoleNotFound`, `IssuerNotUsable`, or that the issuer did not answer twice.
    pub failure: Failure,
}

/// A look at the issuer that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// How often in a row.
    pub attempts: u32,
    /// The generation of the spec it was made with.
    pub generation: i64,
    /// How.
    pub failure: Failure,
}

/// What a pass has found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The role.
    pub role: Option<RoleView>,
    /// The issuers of the mount.
    pub issuers: Option<MountIssuers>,
    /// The issuer that signs, or would.
    pub issuer: Option<IssuerView>,
    /// The number of a Secret that somebody else created first, and that must be read.
    pub taken: Option<u32>,
    /// The call that failed, which ends the pass.
    pub failure: Option<Failure>,
}

/// A role of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleView {
    /// It exists.
    Present,
    /// It does not.
    Missing,
    /// We may not ask; signing will show.
    Hidden,
}

/// The issuers of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountIssuers {
    /// The one that signs if nobody says which.
    pub default: Option<String>,
    /// All of them, by id.
    pub ids: Vec<String>,
}

/// One issuer of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerView {
    /// There is none by that id.
    Gone,
    /// It is there.
    Present(Box<PkiIssuer>),
}

/// An issuer of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiIssuer {
    /// Its id in the mount.
    pub id: String,
    /// Its certificate.
    pub certificate: Certificate,
    /// The certificates above it, as the mount knows them, nearest first.
    pub chain: Vec<Certificate>,
    /// Whether it may sign certificates; `None` = we may not ask.
    pub may_sign: Option<bool>,
}

/// One remote call, fully specified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make an authority and create its Secret; it must not exist.
    ///
    /// The status, read live, must still name the authorities that this decision knew: of an old copy of it, and a
    /// Secret that was lost since, a second root would be made.
    MakeAuthority {
        /// Number of the authority.
        number: u32,
        /// Name of the Secret, in the operator's namespace.
        secret: String,
        /// The SPIFFE trust domain.
        trust_domain: String,
        /// Key of the authority.
        key: KeySpec,
        /// Lifetime of the authority, seconds.
        lifetime: u64,
    },
    /// Read the Secret that somebody else created first.
    ReadAuthority {
        /// Number of the authority.
        number: u32,
        /// Name of the Secret, in the operator's namespace.
        secret: String,
    },
    /// Ask whether the role exists.
    ReadRole {
        /// The mount.
        mount: VaultPath,
        /// The role.
        role: Segment,
    },
    /// Ask for the mount's issuers.
    ReadIssuers {
        /// The mount.
        mount: VaultPath,
    },
    /// Ask for one issuer.
    ReadIssuer {
        /// The mount.
        mount: VaultPath,
        /// Its id.
        issuer: String,
    },
}

/// What an effect came back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The Secret was created with this authority.
    Made {
        /// Its number.
        number: u32,
        /// Its certificate.
        certificate: Box<Certificate>,
    },
    /// The Secret existed already.
    Taken {
        /// Its number.
        number: u32,
    },
    /// What the Secret holds; `None` = it is gone again.
    Kept {
        /// Its number.
        number: u32,
        /// What it holds.
        view: Option<SecretView>,
    },
    /// The role.
    Role(RoleView),
    /// The issuers of the mount.
    Issuers(MountIssuers),
    /// One issuer.
    Issuer(IssuerView),
    /// It did not work.
    Failed(Failure),
}

/// Folds a reply into the world.
pub fn absorb(mut world: World, reply: Reply) -> World {
    let mut keep = |number: u32, view: Option<SecretView>| match (&mut world.secrets, view) {
        (SecretsView::Read(secrets), Some(view)) => {
            secrets.insert(number, view);
        }
        (SecretsView::Read(_) | SecretsView::Unread(_), _) => {}
    };
    match reply {
        Reply::Made { number, certificate } => keep(number, Some(SecretView::Authority(certificate))),
        Reply::Kept { number, view } => {
            keep(number, view);
            world.found.taken = None;
        }
        Reply::Taken { number } => world.found.taken = Some(number),
        Reply::Role(role) => world.found.role = Some(role),
        Reply::Issuers(issuers) => world.found.issuers = Some(issuers),
        Reply::Issuer(issuer) => world.found.issuer = Some(issuer),
        Reply::Failed(failure) => world.found.failure = Some(failure),
    }
    world
}

/// Why a pass ended, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Why.
    pub outcome: Outcome,
    /// To be remembered by this process and handed in again; `None` = nothing failed.
    pub attempt: Option<Attempt>,
    /// When to look again by ourselves; `None` = only when something changes.
    pub wake: Option<Timestamp>,
}

/// Why a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The object is being deleted.
    Deleting,
    /// This authority signs.
    Ready {
        /// To be recorded as the active one.
        authority: Box<Authority>,
        /// Whether the issuer was looked at in this pass.
        looked: bool,
    },
    /// Something keeps us from looking at the issuer, or from trusting what was found.
    Held(Failure),
}
