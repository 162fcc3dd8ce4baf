//! Who signs: one of the three extension points.
//!
//! An issuer turns a signing request into a chain and decides nothing: what may be asked was decided
//! before, and what comes back is checked by [`verify`] and by the identity's answer check, whoever
//! signed. A new issuer is one file here and one arm in [`build`].

pub mod embedded;
pub mod keys;
pub mod profile;
pub mod queue;
pub mod vault_pki;
pub mod verify;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use countersign_core::{
    fault::Failure,
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath},
        x509::Names,
    },
};
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{runtime::entropy::Entropy, vault::Session};

/// Signs leaves with one authority.
pub trait Issuer: Send + Sync {
    /// Has one leaf signed. The call is bounded by the issuer's own deadline.
    fn sign<'a>(&'a self, request: &'a SignRequest) -> BoxFuture<'a, Result<SignedChain, Failure>>;
}

/// A leaf to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// The signing request (RFC 2986), PEM; only its public key counts where the issuer is our own.
    pub csr: String,
    /// The names of the leaf.
    pub names: Names,
    /// The lifetime to ask for.
    pub ttl: Duration,
    /// The time of the decision.
    pub now: Timestamp,
}

/// What an issuer answered, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChain {
    /// Leaf, then intermediates, no root; PEM.
    pub chain: String,
}

/// Where an authority's key is, and so who signs with it. Has no `Debug`: it holds a key or a login.
#[derive(Clone)]
pub enum Source {
    /// In a Secret of the operator's namespace.
    Embedded {
        /// The authority's certificate, PEM.
        certificate: String,
        /// Its private key, PKCS#8 PEM.
        key: SecretBytes,
    },
    /// In a PKI mount of Vault or OpenBao.
    Vault {
        /// Our login there.
        session: Arc<Session>,
        /// The mount.
        mount: VaultPath,
        /// Id of the pinned issuer.
        issuer: String,
        /// The role that bounds what it signs.
        role: Segment,
    },
}

/// The issuer of a source.
pub fn build(source: Source, entropy: Arc<Entropy>) -> Result<Arc<dyn Issuer>, Failure> {
    match source {
        Source::Embedded { certificate, key } => Ok(Arc::new(embedded::Embedded::new(&certificate, &key, entropy)?)),
        Source::Vault { session, mount, issuer, role } => {
            Ok(Arc::new(vault_pki::VaultPki::new(session, mount, &issuer, role)?))
        }
    }
}
