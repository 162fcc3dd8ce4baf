//! The pinned issuer of a PKI mount of Vault or OpenBao.
//!
//! Asks for one signature and puts the chain in order. It holds no token (the session does) and
//! knows no Kubernetes. Called through [`super::Issuer`].

use std::{fmt, sync::Arc};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::{
        vault_path::{Segment, VaultPath},
        x509::{Certificate, parse_pem_chain},
    },
};
use futures::future::BoxFuture;

use super::{Issuer, SignRequest, SignedChain};
use crate::vault::{self, Session, SignAnswer};

/// An issuer of a mount, pinned by its id.
pub struct VaultPki {
    session: Arc<Session>,
    mount: VaultPath,
    issuer: Segment,
    role: Segment,
}

impl fmt::Debug for VaultPki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultPki").field("mount", &self.mount).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl VaultPki {
    /// The issuer with the id `issuer` of `mount`, asked by way of `role`.
    ///
    /// An id that cannot be part of a path is refused as `IssuerNotUsable`.
    pub fn new(session: Arc<Session>, mount: VaultPath, issuer: &str, role: Segment) -> Result<Self, Failure> {
        let issuer = issuer.parse().map_err(|_| {
            let words =
                "the id of the pinned issuer is not one that a path can hold; restore the trust domain's status";
            Failure::new(Class::Invalid, Reason::IssuerNotUsable, words)
        })?;
        Ok(Self { session, mount, issuer, role })
    }
}

impl Issuer for VaultPki {
    fn sign<'a>(&'a self, request: &'a SignRequest) -> BoxFuture<'a, Result<SignedChain, Failure>> {
        Box::pin(async move {
            let names = &request.names;
            let asked = vault::SignRequest {
                mount: self.mount.clone(),
                issuer: self.issuer.clone(),
                role: self.role.clone(),
                csr_pem: request.csr.clone(),
                ttl: request.ttl,
                uri_sans: names.uris.iter().cloned().collect(),
                alt_names: names.dns.iter().cloned().collect(),
                ip_sans: names.ips.iter().map(ToString::to_string).collect(),
            };
            chain(&self.session.sign(&asked, request.now).await?).map(|chain| SignedChain { chain })
        })
    }
}

/// The leaf and what stands between it and its root, each once.
///
/// Servers put the root into the chain or leave it out, and name the issuer beside it.
fn chain(answer: &SignAnswer) -> Result<String, Failure> {
    let unreadable = |_| {
        let words = "the issuer's answer holds something that is no certificate";
        Failure::new(Class::Unavailable, Reason::UpstreamInvalid, words)
    };
    let leaf = Certificate::parse_pem(&answer.certificate_pem).map_err(unreadable)?;
    let mut chain = vec![leaf];
    for text in answer.ca_chain.iter().chain([&answer.issuing_ca]) {
        for certificate in parse_pem_chain(text).map_err(unreadable)? {
            if !certificate.leaf.is_self_issued() && !chain.contains(&certificate) {
                chain.push(certificate);
            }
        }
    }
    Ok(chain.iter().map(Certificate::pem).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_core::api::{KeyAlgorithm, KeySpec};
    use jiff::Timestamp;

    use super::*;
    use crate::{issuers::embedded::make_authority, runtime::entropy::Entropy};

    #[test]
    fn the_root_stays_out_and_nothing_stands_twice() {
        let entropy = Entropy::seeded(1, "chain");
        let spec = KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) };
        let make = |name: &str| {
            make_authority(name, spec, Duration::from_secs(86_400), Timestamp::UNIX_EPOCH, &entropy).unwrap()
        };
        let (leaf, root) = (make("leaf.example").certificate, make("root.example").certificate);
        // Self-issued certificates stand in for all three here; only the first place is taken as it is.
        let answer =
            SignAnswer { certificate_pem: leaf.pem(), ca_chain: vec![root.pem(), root.pem()], issuing_ca: root.pem() };
        assert_eq!(chain(&answer), Ok(leaf.pem()));
        let broken = SignAnswer { ca_chain: vec!["junk".to_owned()], ..answer };
        assert_eq!(chain(&broken).map_err(|failure| failure.reason), Err(Reason::UpstreamInvalid));
    }
}
