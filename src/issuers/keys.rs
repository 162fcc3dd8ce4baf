//! Private keys: made in memory, written as PKCS#8, read only to know their public half.
//!
//! The library makes keys from the system's own generator, which cannot be seeded.

use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_core::{
    api::{KeyAlgorithm, KeySpec, Reason},
    fault::{Class, Failure},
    value::{
        secret_data::SecretBytes,
        x509::{Names, SpkiHash},
    },
};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
    SigningKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::sync::Semaphore;
use zeroize::Zeroize;

use super::profile;

/// RSA keys made at once: each takes a core for up to seconds.
static RSA: Semaphore = Semaphore::const_new(2);

/// A private PEM text longer than this is none.
const LONGEST_PEM: usize = 16 * 1024;

/// A new key pair with its signing request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeKey {
    /// The private key, PKCS#8 PEM.
    pub private_key: SecretBytes,
    /// Its public half.
    pub spki: SpkiHash,
    /// The signing request (RFC 2986) with the names, PEM.
    pub csr: String,
}

/// Makes a key pair and a signing request for these names.
pub async fn make(spec: KeySpec, names: &Names) -> Result<MadeKey, Failure> {
    let key = match rsa_size(spec)? {
        Some(size) => make_rsa(size).await?,
        None => make_quick(spec)?,
    };
    let csr = request(names, &key.0)?;
    Ok(MadeKey { private_key: key.pem(), spki: key.spki(), csr })
}

/// Public half of a private key (PKCS#8, SEC 1 or PKCS#1, PEM); `None` if it does not read as one.
pub fn spki_of_private_key(pem: &[u8]) -> Option<SpkiHash> {
    Key::read(pem).map(|key| key.spki())
}

/// A key pair whose bytes are zeroed when it goes.
pub(super) struct Key(rcgen::KeyPair);

impl Key {
    /// Reads a private key.
    pub(super) fn read(pem: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok().filter(|text| text.len() <= LONGEST_PEM)?;
        rcgen::KeyPair::from_pem(text).ok().map(Self)
    }

    /// Its public half.
    pub(super) fn spki(&self) -> SpkiHash {
        SpkiHash::of(&self.0.subject_public_key_info())
    }

    /// PKCS#8 PEM.
    pub(super) fn pem(&self) -> SecretBytes {
        SecretBytes::from(self.0.serialize_pem())
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

fn rsa_size(spec: KeySpec) -> Result<Option<RsaKeySize>, Failure> {
    match (spec.algorithm, spec.size) {
        (KeyAlgorithm::RSA, Some(2_048)) => Ok(Some(RsaKeySize::_2048)),
        (KeyAlgorithm::RSA, None | Some(3_072)) => Ok(Some(RsaKeySize::_3072)),
        (KeyAlgorithm::RSA, Some(4_096)) => Ok(Some(RsaKeySize::_4096)),
        (KeyAlgorithm::RSA, Some(_)) => Err(unsupported()),
        (KeyAlgorithm::ECDSA | KeyAlgorithm::Ed25519, _) => Ok(None),
    }
}

async fn make_rsa(size: RsaKeySize) -> Result<Key, Failure> {
    let _slot = RSA.acquire().await.map_err(|_| no_key())?;
    tokio::task::spawn_blocking(move || rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map(Key))
        .await
        .map_err(|_| no_key())?
        .map_err(|_| no_key())
}

/// Makes a key that costs less than a millisecond.
pub(super) fn make_quick(spec: KeySpec) -> Result<Key, Failure> {
    let made = match (spec.algorithm, spec.size) {
        (KeyAlgorithm::ECDSA, None | Some(256)) => rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        (KeyAlgorithm::ECDSA, Some(384)) => rcgen::KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        (KeyAlgorithm::Ed25519, None) => return make_ed25519(),
        (KeyAlgorithm::ECDSA | KeyAlgorithm::Ed25519 | KeyAlgorithm::RSA, _) => return Err(unsupported()),
    };
    made.map(Key).map_err(|_| no_key())
}

/// The library would write PKCS#8 version 2, which holds the public key as well and which Java
/// before 15 and some OpenSSL readers refuse.
fn make_ed25519() -> Result<Key, Failure> {
    let pair = Ed25519KeyPair::generate().map_err(|_| no_key())?;
    let document = pair.to_pkcs8v1().map_err(|_| no_key())?;
    let der = PrivatePkcs8KeyDer::from(document.as_ref());
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).map(Key).map_err(|_| no_key())
}

fn request(names: &Names, key: &rcgen::KeyPair) -> Result<String, Failure> {
    let bug = |_| Failure::new(Class::Bug, Reason::InternalError, "the signing request could not be written");
    profile::request(names)?.serialize_request(key).and_then(|request| request.pem()).map_err(bug)
}

fn unsupported() -> Failure {
    let message = "keys are ECDSA 256/384, Ed25519 or RSA 2048/3072/4096; correct the key policy";
    Failure::new(Class::Invalid, Reason::InvalidSpec, message)
}

fn no_key() -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, "no key could be made")
}
