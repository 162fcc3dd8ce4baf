//! What an identity's Secret holds, read without any of the operator's code.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use data_encoding::{BASE64, HEXLOWER};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::api::text;

/// Key pair, chain and roots of one Secret, PEM. No `Debug`: one of them is a private key.
pub struct Material {
    /// `tls.crt`: the leaf, then intermediates.
    pub chain: Vec<u8>,
    /// `tls.key`
    pub key: Vec<u8>,
    /// `ca.crt`
    pub roots: Vec<u8>,
}

impl Material {
    /// Takes the three values out of a Secret.
    ///
    /// # Errors
    /// When it is no TLS Secret, lacks one, or holds something else besides.
    pub fn of(secret: &Value) -> Result<Self> {
        ensure!(text(secret, "/type") == "kubernetes.io/tls", "the Secret is of type {}", text(secret, "/type"));
        let data = secret.pointer("/data").and_then(Value::as_object).context("the Secret has no data")?;
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        ensure!(keys == ["ca.crt", "tls.crt", "tls.key"], "the Secret has the keys {keys:?}");
        let value = |key: &str| {
            let encoded = data.get(key).and_then(Value::as_str).unwrap_or_default();
            BASE64.decode(encoded.as_bytes()).with_context(|| format!("{key} is not base64"))
        };
        Ok(Self { chain: value("tls.crt")?, key: value("tls.key")?, roots: value("ca.crt")? })
    }

    /// The certificates of `tls.crt`, DER.
    ///
    /// # Errors
    /// When it is not PEM or empty.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.chain).context("tls.crt")
    }

    /// The certificates of `ca.crt`, DER.
    ///
    /// # Errors
    /// When it is not PEM or empty.
    pub fn anchors(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.roots).context("ca.crt")
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("not PEM")?;
    ensure!(!found.is_empty(), "no certificate");
    Ok(found)
}

/// What a leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Lower-case hex without leading zeros.
    pub serial: String,
    /// `sha256:` and lower-case hex.
    pub fingerprint: String,
    /// Every alternative name, with its kind: `URI:…`, `DNS:…`, `IP:…`.
    pub names: BTreeSet<String>,
    /// Algorithm and size of its key, as a spec would ask for it.
    pub key: (String, Option<u32>),
    /// Whether it may sign certificates.
    pub is_authority: bool,
    /// Seconds of the epoch.
    pub not_before: i64,
    /// Seconds of the epoch.
    pub not_after: i64,
}

impl Leaf {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(der: &[u8]) -> Result<Self> {
        let (_, certificate) = parse_x509_certificate(der).context("not a certificate")?;
        let alternative = certificate.subject_alternative_name().context("two lists of alternative names")?;
        let names = alternative.iter().flat_map(|names| &names.value.general_names).map(name).collect();
        let validity = certificate.validity();
        let serial = HEXLOWER.encode(certificate.raw_serial());
        Ok(Self {
            serial: serial.trim_start_matches("00").to_owned(),
            fingerprint: format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(der))),
            names,
            key: key(certificate.public_key())?,
            is_authority: certificate.is_ca(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

fn key(key: &SubjectPublicKeyInfo<'_>) -> Result<(String, Option<u32>)> {
    let bits = |size: usize| u32::try_from(size).ok();
    Ok(match key.parsed().context("an unreadable public key")? {
        PublicKey::RSA(rsa) => ("RSA".to_owned(), bits(rsa.key_size())),
        PublicKey::EC(point) => ("ECDSA".to_owned(), bits(point.key_size())),
        // RFC 8410 gives Ed25519 this identifier and no parameters.
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => ("Ed25519".to_owned(), None),
        _ => (key.algorithm.algorithm.to_id_string(), None),
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", HEXLOWER.encode(bytes)),
        other => format!("other:{other:?}"),
    }
}
