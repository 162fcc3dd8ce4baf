//! The operator's own authority: a key in a Secret of its namespace, used in this process.
//!
//! Reads and writes no Secret: the controller hands the material in, and stores what
//! [`make_authority`] made. Called through [`super::Issuer`].

use std::{fmt, sync::Arc, time::Duration};

use countersign_core::{
    api::{KeySpec, Reason},
    fault::{Class, Failure},
    value::{
        secret_data::SecretBytes,
        x509::{Certificate, KeyKind},
    },
};
use futures::future::BoxFuture;
use jiff::Timestamp;
use rcgen::{Issuer as Signer, PublicKeyData, SubjectPublicKeyInfo};
use sha2::{Digest, Sha256};
use x509_parser::{certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer};

use super::{
    Issuer, SignRequest, SignedChain,
    keys::{self, Key},
    profile::{self, Validity},
};
use crate::runtime::entropy::Entropy;

/// An authority that can sign in this process.
pub struct Embedded {
    authority: Certificate,
    signer: Signer<'static, Key>,
    entropy: Arc<Entropy>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("authority", &self.authority.leaf.fingerprint).finish_non_exhaustive()
    }
}

impl Embedded {
    /// An authority from its certificate (PEM) and private key (PKCS#8 PEM).
    ///
    /// Material that does not fit together is refused as `AuthorityLost`: nothing may be signed with it.
    pub fn new(certificate: &str, key: &SecretBytes, entropy: Arc<Entropy>) -> Result<Self, Failure> {
        let (authority, key) = read_material(certificate, key)?;
        let der = authority.der.as_slice().into();
        let signer =
            Signer::from_ca_cert_der(&der, key).map_err(|_| lost("its certificate has a name we cannot copy"))?;
        Ok(Self { authority, signer, entropy })
    }

    fn sign_now(&self, request: &SignRequest) -> Result<SignedChain, Failure> {
        let (public_key, kind) = public_key(&request.csr)?;
        let bounds = Validity { not_before: self.authority.leaf.not_before, not_after: self.authority.leaf.not_after };
        let params = profile::leaf(&profile::Leaf {
            serial: profile::serial(self.entropy.bytes()?),
            names: &request.names,
            key: kind,
            validity: profile::leaf_validity(request.now, request.ttl, bounds)?,
        })?;
        let signed = params.signed_by(&public_key, &self.signer).map_err(|_| bug("the leaf could not be signed"))?;
        let leaf = Certificate::parse_der(signed.der().to_vec()).map_err(|_| bug("the leaf does not read back"))?;
        // The library rebuilds the authority's name from its parts; verifiers compare bytes.
        if leaf.leaf.issuer_name_der != self.authority.leaf.subject_name_der {
            return Err(lost("its certificate has a name we cannot copy"));
        }
        Ok(SignedChain { chain: leaf.pem() })
    }
}

impl Issuer for Embedded {
    fn sign<'a>(&'a self, request: &'a SignRequest) -> BoxFuture<'a, Result<SignedChain, Failure>> {
        Box::pin(async move { self.sign_now(request) })
    }
}

/// The facts of an authority's Secret, if certificate and key belong together and can sign.
///
/// Otherwise the failure is `AuthorityLost` and says what is wrong, never the content.
pub fn read_authority(certificate: &str, key: &SecretBytes) -> Result<Certificate, Failure> {
    read_material(certificate, key).map(|(authority, _)| authority)
}

fn read_material(certificate: &str, key: &SecretBytes) -> Result<(Certificate, Key), Failure> {
    let authority = Certificate::parse_pem(certificate).map_err(|_| lost("tls.crt is not one certificate"))?;
    let key = Key::read(key.expose()).ok_or_else(|| lost("tls.key is not a private key"))?;
    if key.spki() != authority.leaf.spki {
        return Err(lost("tls.key does not belong to tls.crt"));
    }
    let may_sign = authority.leaf.key_usage.is_none_or(|usage| usage.key_cert_sign);
    if !authority.leaf.is_ca || !may_sign || authority.leaf.subject_key_id.is_none() {
        return Err(lost("tls.crt is not the certificate of an authority that may sign"));
    }
    Ok((authority, key))
}

/// A new authority, not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeAuthority {
    /// Its certificate.
    pub certificate: Certificate,
    /// Its private key, PKCS#8 PEM.
    pub key: SecretBytes,
}

/// Makes a self-signed authority with a new key.
pub fn make_authority(
    trust_domain: &str,
    spec: KeySpec,
    lifetime: Duration,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<MadeAuthority, Failure> {
    let key = keys::make_quick(spec)?;
    let key_id = key_id(&key);
    let params = profile::authority(&profile::Authority {
        serial: profile::serial(entropy.bytes()?),
        trust_domain,
        key_id: &key_id,
        validity: profile::authority_validity(now, lifetime)?,
    })?;
    let signed = params.self_signed(&key).map_err(|_| bug("the authority could not be signed"))?;
    let certificate =
        Certificate::parse_der(signed.der().to_vec()).map_err(|_| bug("the authority does not read back"))?;
    Ok(MadeAuthority { certificate, key: key.pem() })
}

/// RFC 7093, method 1: the first 160 bits of SHA-256 over the public key.
fn key_id(key: &Key) -> Vec<u8> {
    let digest = Sha256::digest(key.subject_public_key_info());
    digest.iter().copied().take(20).collect()
}

/// The public key of a signing request; everything else in it is ignored.
fn public_key(csr: &str) -> Result<(SubjectPublicKeyInfo, KeyKind), Failure> {
    let unreadable = || bug("the signing request does not read back");
    let (_, pem) = parse_x509_pem(csr.as_bytes()).map_err(|_| unreadable())?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|_| unreadable())?;
    let der = request.certification_request_info.subject_pki.raw;
    let kind = KeyKind::of_spki(der).map_err(|_| unreadable())?;
    SubjectPublicKeyInfo::from_der(der).map(|spki| (spki, kind)).map_err(|_| unreadable())
}

fn lost(what: &str) -> Failure {
    Failure::new(
        Class::Invalid,
        Reason::AuthorityLost,
        format!("the authority's Secret cannot be used: {what}; restore it"),
    )
}

fn bug(what: &str) -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, what)
}
