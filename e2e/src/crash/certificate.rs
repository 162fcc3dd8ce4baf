//! Certificates as the oracle reads them, with parsers that the operator's own checks do not share.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use data_encoding::BASE64;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use serde_json::Value;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

/// What a Secret holds of one identity.
pub struct Material {
    /// Leaf, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the leaf says.
    pub leaf: Leaf,
    /// SubjectPublicKeyInfo of `tls.key`, DER.
    pub key: Vec<u8>,
}

/// What a leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
    /// Serial number.
    pub serial: String,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// First second of validity, since 1970.
    pub not_before: i64,
    /// Last second of validity, since 1970.
    pub not_after: i64,
    /// Every name, with its kind: `URI:…`, `DNS:…`, `IP:…`, `other:…`.
    pub names: BTreeSet<String>,
}

/// The bytes of one key of a Secret.
pub fn data(secret: &Value, key: &str) -> Option<Vec<u8>> {
    let text = secret.get("data")?.get(key)?.as_str()?;
    BASE64.decode(text.as_bytes()).ok()
}

/// Reads `tls.crt` and `tls.key` of a Secret.
///
/// # Errors
/// When one is missing or does not parse. The error holds no value.
pub fn read(secret: &Value) -> Result<Material> {
    let chain = data(secret, "tls.crt").context("no tls.crt")?;
    let chain = certificates(&chain)?;
    let leaf = leaf(chain.first().context("no certificate in tls.crt")?)?;
    let key = data(secret, "tls.key").and_then(|bytes| String::from_utf8(bytes).ok()).context("no tls.key")?;
    let key = KeyPair::from_pem(&key).map_err(|_| anyhow!("tls.key is no private key"))?;
    Ok(Material { chain, leaf, key: key.subject_public_key_info() })
}

/// Every certificate of a PEM text.
///
/// # Errors
/// When a block does not parse.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| anyhow!("not PEM"))
}

/// Reads one certificate.
///
/// # Errors
/// When it is none.
pub fn leaf(der: &[u8]) -> Result<Leaf> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| anyhow!("no certificate"))?;
    let constraints = certificate.basic_constraints().map_err(|_| anyhow!("BasicConstraints twice"))?;
    let alternatives = certificate.subject_alternative_name().map_err(|_| anyhow!("names twice"))?;
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).map(name).collect();
    Ok(Leaf {
        key: certificate.public_key().raw.to_vec(),
        serial: certificate.raw_serial_as_string(),
        is_authority: constraints.is_some_and(|constraints| constraints.value.ca),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names,
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(dns) => format!("DNS:{dns}"),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => format!("IP:{}", IpAddr::from(four)),
            (_, Ok(sixteen)) => format!("IP:{}", IpAddr::from(sixteen)),
            _ => "IP:?".to_owned(),
        },
        other => format!("other:{other}"),
    }
}

/// Checks that the chain leads to one of the roots (PEM), for servers and clients, on the first second in which all of it
/// is valid and on the leaf's last one. Leaves are dated back a little, perhaps to before a new authority began.
///
/// # Errors
/// When it does not.
pub fn verify(material: &Material, roots: &[String]) -> Result<()> {
    let mut ders = Vec::new();
    for root in roots {
        ders.extend(certificates(root.as_bytes())?);
    }
    ensure!(!ders.is_empty(), "there is no root");
    let anchors: Vec<_> = ders.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
    let (first, intermediates) = material.chain.split_first().context("no certificate")?;
    let leaf = webpki::EndEntityCert::try_from(first).map_err(|error| anyhow!("the leaf: {error}"))?;
    let begins = |der: &CertificateDer<'_>| self::leaf(der).map(|certificate| certificate.not_before);
    let first_second = material.chain.iter().chain(&ders).map(begins).collect::<Result<Vec<_>>>()?.into_iter().max();
    for second in [first_second.unwrap_or(material.leaf.not_before) + 1, material.leaf.not_after - 1] {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(second)?));
        for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
            leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, time, usage, None, None)
                .map_err(|error| anyhow!("the chain does not verify: {error}"))?;
        }
    }
    Ok(())
}
