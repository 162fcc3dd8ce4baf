//! A trust domain as the other kinds see it: parsed, and able to sign.
//!
//! Built from the spec and the status of a `TrustDomain`, because what is pinned in the status is
//! what leaves are verified against; read by the identity kind and by the issuers.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{KeySpec, NamespaceSelector},
    value::names::Cidr,
};

/// A trust domain that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The SPIFFE trust domain, for example `prod.example`.
    pub name: String,
    /// Lifetime of a leaf that does not ask for one.
    pub default_ttl: Duration,
    /// Key of a leaf that does not ask for one.
    pub default_key: KeySpec,
    /// Whether Services also give their short, not unique names.
    pub short_names: bool,
    /// Names beyond the caller's own.
    pub allow: Vec<AllowRule>,
    /// The authority that signs.
    pub active: ActiveAuthority,
    /// Every trust anchor, PEM; written to `ca.crt` as it stands.
    pub roots: String,
    /// Changes whenever any of the above, or the issuer, changes.
    pub revision: String,
}

/// The authority that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAuthority {
    /// Its id: the hash of its public key.
    pub id: String,
    /// Its subject key identifier, which its leaves name as their authority key identifier.
    pub subject_key_id: Vec<u8>,
    /// The end of its certificate; no leaf may outlive it.
    pub not_after: Timestamp,
}

/// Names that some namespaces may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Who may.
    pub namespaces: NamespaceSelector,
    /// Patterns: an exact name, or `*.suffix`.
    pub dns_names: Vec<String>,
    /// Address ranges.
    pub ip_ranges: Vec<Cidr>,
    /// The longest lifetime they may ask for.
    pub max_ttl: Option<Duration>,
}
