//! PEM to certificates and back: strict about blocks, limited before parsing.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::{Fingerprint, Leaf, MAX_CERTIFICATE, MAX_CHAIN, MAX_CHAIN_TEXT, MAX_ROOTS, MAX_ROOTS_TEXT, X509Fault};

/// One certificate: its bytes and its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DER.
    pub der: Vec<u8>,
    /// What it says.
    pub leaf: Leaf,
}

impl Certificate {
    /// Reads one DER certificate.
    pub fn parse_der(der: Vec<u8>) -> Result<Self, X509Fault> {
        let leaf = Leaf::parse_der(&der)?;
        Ok(Self { der, leaf })
    }

    /// Reads a PEM text with exactly one certificate.
    pub fn parse_pem(text: &str) -> Result<Self, X509Fault> {
        let mut chain = parse_pem_chain(text)?;
        match (chain.pop(), chain.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(X509Fault::TooManyCertificates),
        }
    }

    /// PEM, lines of 64 characters, with a final newline.
    pub fn pem(&self) -> String {
        armour(&self.der)
    }
}

/// Reads the chain of a leaf: 1–10 certificates in the order given, at most 64 KiB, nothing between the blocks.
pub fn parse_pem_chain(text: &str) -> Result<Vec<Certificate>, X509Fault> {
    certificates(text, MAX_CHAIN_TEXT, MAX_CHAIN, Prose::Refused)
}

/// Trust anchors: authorities without duplicates, in the order of their fingerprints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(BTreeMap<Fingerprint, Certificate>);

impl Roots {
    /// Reads 1–100 authorities of at most 512 KiB; comments around the blocks are allowed, as bundles carry them.
    pub fn parse(text: &str) -> Result<Self, X509Fault> {
        certificates(text, MAX_ROOTS_TEXT, MAX_ROOTS, Prose::Allowed)?.into_iter().try_fold(
            Self::default(),
            |mut roots, certificate| {
                roots.insert(certificate)?;
                Ok(roots)
            },
        )
    }

    /// Adds one authority; one that is already there changes nothing.
    pub fn insert(&mut self, certificate: Certificate) -> Result<(), X509Fault> {
        if !certificate.leaf.is_ca {
            return Err(X509Fault::NotAuthority);
        }
        self.0.insert(certificate.leaf.fingerprint.clone(), certificate);
        Ok(())
    }

    /// Adds all of `other`.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(|(print, certificate)| (print.clone(), certificate.clone())));
        self
    }

    /// The authorities, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.0.values()
    }

    /// Whether this very certificate is among them.
    pub fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.0.contains_key(fingerprint)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as PEM; equal sets give equal text.
    pub fn pem(&self) -> String {
        self.iter().map(Certificate::pem).collect()
    }
}

/// Whether text may stand around the blocks (RFC 7468, 5.2 calls it explanatory).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prose {
    Allowed,
    Refused,
}

fn certificates(text: &str, longest: usize, most: usize, prose: Prose) -> Result<Vec<Certificate>, X509Fault> {
    if text.len() > longest {
        return Err(X509Fault::TextTooLong);
    }
    let blocks = blocks(text, most, prose)?;
    if blocks.is_empty() {
        return Err(if text.trim().is_empty() { X509Fault::Empty } else { X509Fault::NotPem });
    }
    blocks.into_iter().map(Certificate::parse_der).collect()
}

fn blocks(text: &str, most: usize, prose: Prose) -> Result<Vec<Vec<u8>>, X509Fault> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match (&mut open, armour_label(line)) {
            (None, Some(Armour::Begin("CERTIFICATE"))) if found.len() == most => {
                return Err(X509Fault::TooManyCertificates);
            }
            (None, Some(Armour::Begin("CERTIFICATE"))) => open = Some(String::new()),
            (None, Some(Armour::Begin(label))) if label.ends_with("PRIVATE KEY") => return Err(X509Fault::PrivateKey),
            (None, Some(Armour::Begin(_))) => return Err(X509Fault::ForeignBlock),
            (Some(body), Some(Armour::End("CERTIFICATE"))) => {
                found.push(decode(body)?);
                open = None;
            }
            (Some(body), None) => body.push_str(line),
            (None, None) if line.is_empty() || prose == Prose::Allowed => {}
            (_, Some(Armour::Begin(_) | Armour::End(_))) | (None, None) => return Err(X509Fault::NotPem),
        }
    }
    if open.is_some() { Err(X509Fault::NotPem) } else { Ok(found) }
}

enum Armour<'a> {
    Begin(&'a str),
    End(&'a str),
}

fn armour_label(line: &str) -> Option<Armour<'_>> {
    let inner = line.strip_prefix("-----")?.strip_suffix("-----")?;
    inner.strip_prefix("BEGIN ").map(Armour::Begin).or_else(|| inner.strip_prefix("END ").map(Armour::End))
}

fn decode(body: &str) -> Result<Vec<u8>, X509Fault> {
    if body.len() > MAX_CERTIFICATE.div_ceil(3) * 4 {
        return Err(X509Fault::CertificateTooLong);
    }
    BASE64.decode(body.as_bytes()).map_err(|_| X509Fault::NotBase64)
}

fn armour(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 octets are 64 characters, so no group is split between lines.
    for line in der.chunks(48) {
        BASE64.encode_append(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
