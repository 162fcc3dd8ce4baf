//! The certificate profile: what stands in every field, for leaves and for authorities.
//!
//! The library's defaults are for tests (years 1975 to 4096, a joke for a name, a serial number that
//! repeats with the key). So [`parameters`] sets every field it has, and the tests of this folder
//! name every row of the profile in what comes out.

use std::{net::IpAddr, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::x509::{KeyKind, Names},
};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// A leaf starts this long before it was made, for verifiers whose clocks are slow.
pub const LEAF_BACKDATE: Duration = Duration::from_secs(5 * 60);
/// An authority starts this long before it was made.
pub const AUTHORITY_BACKDATE: Duration = Duration::from_secs(3_600);
/// A leaf ends at least this long before its authority.
pub const AUTHORITY_MARGIN: Duration = Duration::from_secs(3_600);

/// What differs between leaves.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// See [`serial`].
    pub serial: [u8; 16],
    /// The names it carries.
    pub names: &'a Names,
    /// Kind of its public key.
    pub key: KeyKind,
    /// See [`leaf_validity`].
    pub validity: Validity,
}

/// Start and end, whole seconds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub not_before: Timestamp,
    /// End.
    pub not_after: Timestamp,
}

/// The parameters of a leaf.
pub fn leaf(leaf: &Leaf<'_>) -> Result<CertificateParams, Failure> {
    let mut key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if matches!(leaf.key, KeyKind::Rsa(_)) {
        // Only RSA can encrypt a key; on an elliptic curve the bit is an error.
        key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    Ok(parameters(Fields {
        not_before: moment(leaf.validity.not_before)?,
        not_after: moment(leaf.validity.not_after)?,
        serial: leaf.serial,
        names: alternative_names(leaf.names)?,
        // Empty, which also makes the names critical.
        subject: DistinguishedName::new(),
        // `NoCa` would leave out BasicConstraints and the subject key identifier.
        is_ca: IsCa::ExplicitNoCa,
        key_usages,
        // SPIFFE wants both or none.
        extended_key_usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        // The key identifier alone; its value comes from the signing CA's certificate.
        names_its_authority: true,
        key_id: KeyIdMethod::Sha256,
    }))
}

/// What differs between authorities.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// See [`serial`].
    pub serial: [u8; 16],
    /// The SPIFFE trust domain.
    pub trust_domain: &'a str,
    /// Its subject key identifier.
    pub key_id: &'a [u8],
    /// Start and end.
    pub validity: Validity,
}

/// The parameters of a self-signed authority.
pub fn authority(authority: &Authority<'_>) -> Result<CertificateParams, Failure> {
    Ok(parameters(Fields {
        not_before: moment(authority.validity.not_before)?,
        not_after: moment(authority.validity.not_after)?,
        serial: authority.serial,
        names: Vec::new(),
        subject: authority_name(authority.trust_domain, authority.key_id),
        // 0 would break a bridge between two authorities: OpenSSL refuses such a chain.
        is_ca: IsCa::Ca(BasicConstraints::Constrained(1)),
        key_usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        extended_key_usages: Vec::new(),
        // It would only repeat the subject key identifier.
        names_its_authority: false,
        key_id: KeyIdMethod::PreSpecified(authority.key_id.to_vec()),
    }))
}

/// What is in a certificate of ours.
struct Fields {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: [u8; 16],
    names: Vec<SanType>,
    subject: DistinguishedName,
    is_ca: IsCa,
    key_usages: Vec<KeyUsagePurpose>,
    extended_key_usages: Vec<ExtendedKeyUsagePurpose>,
    names_its_authority: bool,
    key_id: KeyIdMethod,
}

/// Sets every field of the library's parameters.
fn parameters(fields: Fields) -> CertificateParams {
    let mut all = CertificateParams::default();
    all.not_before = fields.not_before;
    all.not_after = fields.not_after;
    all.serial_number = Some(SerialNumber::from_slice(&fields.serial));
    all.subject_alt_names = fields.names;
    all.distinguished_name = fields.subject;
    all.is_ca = fields.is_ca;
    all.key_usages = fields.key_usages;
    all.extended_key_usages = fields.extended_key_usages;
    // A URI constraint makes rustls-webpki refuse every chain; others are never set by default.
    all.name_constraints = None;
    all.crl_distribution_points = Vec::new();
    all.custom_extensions = Vec::new();
    all.use_authority_key_identifier_extension = fields.names_its_authority;
    all.key_identifier_method = fields.key_id;
    all
}

/// The parameters of a signing request: the names, and nothing else.
pub(super) fn request(names: &Names) -> Result<CertificateParams, Failure> {
    let mut wanted = CertificateParams::default();
    wanted.subject_alt_names = alternative_names(names)?;
    wanted.distinguished_name = DistinguishedName::new();
    Ok(wanted)
}

/// `CN=<trust domain> <first 8 hex digits of the key identifier>`: unique for each key.
fn authority_name(trust_domain: &str, key_id: &[u8]) -> DistinguishedName {
    // A common name has at most 64 characters (RFC 5280, ub-common-name); a trust domain may have 255.
    const LONGEST: usize = 64 - 9;
    let domain: String = trust_domain.chars().take(LONGEST).collect();
    let id: String = data_encoding::HEXLOWER.encode(key_id).chars().take(8).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{domain} {id}"));
    name
}

/// The serial number of these random bytes: 16 octets, positive, the first one never 0.
pub fn serial(mut random: [u8; 16]) -> [u8; 16] {
    let [first, ..] = &mut random;
    *first = (*first & 0x3f) | 0x40;
    random
}

/// Start and end of a leaf made at `now` for `ttl` by an authority of these bounds.
///
/// It never starts before its authority and ends an hour before it. Where that leaves nothing, the
/// failure says `AuthorityExpiring`.
pub fn leaf_validity(now: Timestamp, ttl: Duration, authority: Validity) -> Result<Validity, Failure> {
    let second = |time: Timestamp| time.as_second();
    let start = second(now).saturating_sub(seconds(LEAF_BACKDATE)).max(second(authority.not_before));
    let end = second(now)
        .saturating_add(seconds(ttl))
        .min(second(authority.not_after).saturating_sub(seconds(AUTHORITY_MARGIN)));
    if end <= second(now) {
        let message = format!("the authority ends at {}, too soon to sign; replace it", authority.not_after);
        return Err(Failure::new(Class::Invalid, Reason::AuthorityExpiring, message));
    }
    Ok(Validity { not_before: timestamp(start)?, not_after: timestamp(end)? })
}

/// Start and end of an authority made at `now` for `lifetime`.
pub fn authority_validity(now: Timestamp, lifetime: Duration) -> Result<Validity, Failure> {
    let now = now.as_second();
    Ok(Validity {
        not_before: timestamp(now.saturating_sub(seconds(AUTHORITY_BACKDATE)))?,
        not_after: timestamp(now.saturating_add(seconds(lifetime)))?,
    })
}

/// The names in the order of the profile: URI, then DNS, then IP.
fn alternative_names(names: &Names) -> Result<Vec<SanType>, Failure> {
    let text = |text: &String| {
        text.as_str().try_into().map_err(|_| {
            Failure::new(Class::Invalid, Reason::NameNotAllowed, "a name has characters beyond ASCII; use punycode")
        })
    };
    let uris = names.uris.iter().map(|uri| Ok(SanType::URI(text(uri)?)));
    let dns = names.dns.iter().map(|name| Ok(SanType::DnsName(text(name)?)));
    let ips = names.ips.iter().map(|ip: &IpAddr| Ok(SanType::IpAddress(*ip)));
    uris.chain(dns).chain(ips).collect()
}

/// The only conversion of times for the certificate library.
fn moment(time: Timestamp) -> Result<OffsetDateTime, Failure> {
    OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| unrepresentable())
}

fn timestamp(second: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_second(second).map_err(|_| unrepresentable())
}

fn unrepresentable() -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, "a certificate's time lies beyond what can be written")
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
