//! What a certificate says, as plain facts: read once from DER or PEM, compared by value afterwards.
//!
//! Nothing here judges a certificate and nothing verifies a signature: rules about facts belong to
//! the kinds, chains to the operator's `issuers::verify`. Limits on size and number are checked
//! before anything is parsed, because a huge PEM costs more than it is worth.

mod pem;
mod read;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use jiff::Timestamp;

pub use self::pem::{Certificate, Roots, parse_pem_chain};

/// The facts of one certificate, leaf or authority.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact of the certificate")]
pub struct Leaf {
    /// Serial number.
    pub serial: Serial,
    /// SHA-256 of the certificate's DER.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key.
    pub spki: SpkiHash,
    /// Kind of its public key.
    pub key: KeyKind,
    /// How it was signed.
    pub signature: SignatureKind,
    /// Its subject alternative names.
    pub names: Names,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity; "no well-defined end" (year 9999) becomes the last time we can express.
    pub not_after: Timestamp,
    /// Basic constraints say that it is an authority.
    pub is_ca: bool,
    /// How many intermediate authorities may follow it; `None` = no limit.
    pub path_length: Option<u32>,
    /// Whether basic constraints are critical; `None` = the extension is absent.
    pub basic_constraints_critical: Option<bool>,
    /// What the key may do; `None` = the extension is absent.
    pub key_usage: Option<KeyUsages>,
    /// What the certificate is for; `None` = the extension is absent.
    pub extended_key_usage: Option<ExtendedKeyUsages>,
    /// The subject has no attribute.
    pub subject_is_empty: bool,
    /// The subject alternative names are critical; `false` also when there are none.
    pub san_critical: bool,
    /// Subject key identifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// Key identifier part of the authority key identifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// The authority key identifier names issuer or serial, which breaks cross-signed chains.
    pub authority_has_issuer_serial: bool,
    /// DER of the issuer's name.
    pub issuer_name_der: Vec<u8>,
    /// DER of the subject's name.
    pub subject_name_der: Vec<u8>,
    /// A critical extension is present that we do not know.
    pub unknown_critical: bool,
}

impl Leaf {
    /// Reads one DER certificate of at most 16 KiB; bytes behind it are a fault.
    pub fn parse_der(der: &[u8]) -> Result<Self, X509Fault> {
        read::certificate(der)
    }

    /// Whether issuer and subject are one name, as in a self-signed certificate. The signature is not verified here.
    pub fn is_self_issued(&self) -> bool {
        self.issuer_name_der == self.subject_name_der
    }

    /// The whole time it is valid.
    pub fn lifetime(&self) -> jiff::SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    /// Whether `now` lies within its validity; both ends belong to it (RFC 5280, 4.1.2.5).
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// A serial number: lower-case hex of its octets, without a sign octet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

impl Serial {
    /// From the content octets of a non-negative DER INTEGER.
    pub fn from_octets(octets: &[u8]) -> Self {
        let digits = match octets {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        Self(data_encoding::HEXLOWER.encode(digits))
    }

    /// The hex text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Number of octets, without a sign octet.
    pub fn octets(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether it is above zero.
    pub fn is_positive(&self) -> bool {
        self.0.bytes().any(|digit| digit != b'0')
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `sha256:` and the hex SHA-256 of a certificate's DER.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

/// `sha256:` and the hex SHA-256 of a SubjectPublicKeyInfo's DER: names a key pair, whatever is signed over it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpkiHash(String);

macro_rules! hash_text {
    ($type:ident, $of:literal) => {
        impl $type {
            #[doc = concat!("Hashes ", $of, ".")]
            pub fn of(der: &[u8]) -> Self {
                use sha2::{Digest, Sha256};
                Self(format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(der))))
            }

            /// The text, `sha256:` and 64 lower-case hex digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
hash_text!(Fingerprint, "a certificate's DER");
hash_text!(SpkiHash, "a SubjectPublicKeyInfo's DER");

/// Kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// NIST P-256.
    Ecdsa256,
    /// NIST P-384.
    Ecdsa384,
    /// RFC 8410.
    Ed25519,
    /// RSA with this many bits.
    Rsa(u32),
    /// Any other.
    Other,
}

impl KeyKind {
    /// The kind of a SubjectPublicKeyInfo's key, from its DER.
    pub fn of_spki(der: &[u8]) -> Result<Self, X509Fault> {
        read::public_key(der)
    }
}

/// How a certificate was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureKind {
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaSha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RsaSha512,
    /// Ed25519.
    Ed25519,
    /// With SHA-1, MD5 or older.
    Weak,
    /// Any other.
    Other,
}

/// Subject alternative names as sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// URIs, as written.
    pub uris: BTreeSet<String>,
    /// DNS names, lower case.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
    /// Number of names of any other kind, malformed ones included.
    pub other: usize,
}

/// The key usage extension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "they are the independent bits of RFC 5280, 4.2.1.3")]
pub struct KeyUsages {
    /// The extension is critical.
    pub critical: bool,
    /// May sign handshakes.
    pub digital_signature: bool,
    /// May decrypt keys (RSA key exchange).
    pub key_encipherment: bool,
    /// May agree on keys.
    pub key_agreement: bool,
    /// May sign certificates.
    pub key_cert_sign: bool,
    /// May sign revocation lists.
    pub crl_sign: bool,
    /// Any other bit is set.
    pub others: bool,
}

/// The extended key usage extension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent purposes of RFC 5280, 4.2.1.12")]
pub struct ExtendedKeyUsages {
    /// TLS server.
    pub server_auth: bool,
    /// TLS client.
    pub client_auth: bool,
    /// Any use.
    pub any: bool,
    /// Any other use is named.
    pub others: bool,
}

/// Why bytes are not the certificates we accept; says nothing of their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum X509Fault {
    /// The PEM text is longer than we read.
    TextTooLong,
    /// More certificates than we read.
    TooManyCertificates,
    /// One certificate is over 16 KiB.
    CertificateTooLong,
    /// There is no certificate.
    Empty,
    /// The text is not PEM: a broken or nested armour line, or text where none may be.
    NotPem,
    /// A private key.
    PrivateKey,
    /// A PEM block that is not `CERTIFICATE`.
    ForeignBlock,
    /// The inside of a PEM block is not base64.
    NotBase64,
    /// Bytes behind the certificate.
    TrailingData,
    /// Not a certificate, or one that breaks RFC 5280.
    Malformed,
    /// Not an X.509 version 3 certificate.
    NotVersion3,
    /// An extension occurs twice.
    DuplicateExtension,
    /// The serial number is negative.
    NegativeSerial,
    /// An RSA key over 4,096 bits: too slow to verify with.
    KeyTooLarge,
    /// A certificate among trust anchors is not an authority.
    NotAuthority,
}

impl fmt::Display for X509Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextTooLong => "the PEM text is too long",
            Self::TooManyCertificates => "there are too many certificates",
            Self::CertificateTooLong => "a certificate is over 16 KiB",
            Self::Empty => "there is no certificate",
            Self::NotPem => "the text is not PEM",
            Self::PrivateKey => "it holds a private key",
            Self::ForeignBlock => "it holds a PEM block that is not a certificate",
            Self::NotBase64 => "a PEM block is not base64",
            Self::TrailingData => "there are bytes behind a certificate",
            Self::Malformed => "a certificate is malformed",
            Self::NotVersion3 => "a certificate is not X.509 version 3",
            Self::DuplicateExtension => "a certificate has an extension twice",
            Self::NegativeSerial => "a certificate has a negative serial number",
            Self::KeyTooLarge => "an RSA key has over 4,096 bits",
            Self::NotAuthority => "a certificate is not an authority",
        })
    }
}

impl std::error::Error for X509Fault {}

/// One certificate is at most this long, in bytes of DER.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// The chain of a leaf has at most this many certificates.
pub const MAX_CHAIN: usize = 10;
/// The chain of a leaf is at most this long, in bytes of PEM.
pub const MAX_CHAIN_TEXT: usize = 64 * 1024;
/// A set of trust anchors has at most this many certificates.
pub const MAX_ROOTS: usize = 100;
/// A set of trust anchors is at most this long, in bytes of PEM.
pub const MAX_ROOTS_TEXT: usize = 512 * 1024;
