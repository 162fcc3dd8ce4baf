//! Throw-away certificate authorities and leaves for local servers (P-256).
//!
//! Must not know who uses them: the control plane's list is in `cluster/credentials.rs`, OpenBao's in `openbao.rs`.
//! These keys guard a test cluster on one machine; the operator's own keys never come from here.

use std::path::Path;

use crate::files;
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// What a leaf is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS server
    Server,
    /// TLS client
    Client,
}

/// A certificate authority and its key.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, both PEM.
pub struct Pair {
    /// The certificate
    pub certificate: String,
    /// PKCS#8 private key
    pub key: String,
}

impl Authority {
    /// A new self-signed authority of that common name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = window(CertificateParams::default());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("cannot make a key")?;
        Ok(Self(CertifiedIssuer::self_signed(params, key).context("cannot sign an authority")?))
    }

    /// A leaf signed by this authority; `names` are DNS names or addresses.
    pub fn issue(&self, common_name: &str, organization: Option<&str>, usage: Usage, names: &[String]) -> Result<Pair> {
        let mut params = window(CertificateParams::new(names).context("not a DNS name or address")?);
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &self.0).context("cannot sign a certificate")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The authority's certificate and key.
    pub fn pair(&self) -> Pair {
        Pair { certificate: self.0.pem(), key: self.0.key().serialize_pem() }
    }
}

impl Pair {
    /// Writes `<name>.crt` and `<name>.key` into `dir`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<()> {
        let certificate = dir.join(format!("{name}.crt"));
        files::write(&certificate, &self.certificate)?;
        files::write_private(dir.join(format!("{name}.key")), &self.key)
    }
}

/// Ten years from an hour ago: a stopped cluster starts again with the credentials it has, on a clock that is a little off.
fn window(mut params: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(3650);
    params
}
