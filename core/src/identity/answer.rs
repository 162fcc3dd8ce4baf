//! Is the issuer's answer what we asked for? Checked before anything is stored; a doctored answer
//! is refused whole.

use jiff::Timestamp;

use crate::{
    identity::{
        gates::Admitted,
        world::{Answer, KeyMaterial},
    },
    value::x509::{KeyKind, Leaf, Serial, SignatureKind},
};

/// The shortest life worth storing, seconds.
pub const MIN_LIFE: i64 = 15 * 60;

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnswerFault {
    /// The certificate is for another key.
    WrongKey,
    /// Names are missing, added or of other kinds than asked.
    WrongNames,
    /// It is a CA certificate.
    IsAuthority,
    /// BasicConstraints, key usage, extended key usage or criticality differ from the profile.
    WrongProfile,
    /// It is signed with SHA-1, MD5 or an unknown algorithm.
    WeakSignature,
    /// It has a critical extension nobody here understands.
    UnknownExtension,
    /// The serial number is not positive with 8 to 20 octets.
    BadSerial,
    /// The serial number is that of the stored certificate.
    SerialReused,
    /// It is not valid yet, or was made valid more than a day ago.
    BadStart,
    /// Less than fifteen minutes of life are left.
    LifetimeTooShort,
    /// The authority key identifier is not that of the authority we asked.
    WrongAuthority,
    /// The chain does not lead to the domain's roots for server and client use.
    Untrusted,
}

type Check = fn(&Asked<'_>, &Answer, Timestamp) -> bool;

/// What an answer is held against.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the gates admitted.
    pub admitted: &'a Admitted<'a>,
    /// The key the request was made with.
    pub key: &'a KeyMaterial,
    /// The certificate stored now, if any.
    pub stored: Option<&'a Leaf>,
}

/// Every check, in the order in which they are told.
const CHECKS: &[(AnswerFault, Check)] = &[
    (AnswerFault::WrongKey, |asked, answer, _| answer.leaf.spki == asked.key.spki),
    (AnswerFault::WrongNames, |asked, answer, _| answer.leaf.names == asked.admitted.names),
    (AnswerFault::IsAuthority, |_, answer, _| !answer.leaf.is_ca),
    (AnswerFault::WrongProfile, |_, answer, _| fits_profile(&answer.leaf)),
    (AnswerFault::WeakSignature, |_, answer, _| {
        !matches!(answer.leaf.signature, SignatureKind::Weak | SignatureKind::Other)
    }),
    (AnswerFault::UnknownExtension, |_, answer, _| !answer.leaf.unknown_critical),
    (AnswerFault::BadSerial, |_, answer, _| is_well_formed(&answer.leaf.serial)),
    (AnswerFault::SerialReused, |asked, answer, _| {
        asked.stored.is_none_or(|stored| stored.serial != answer.leaf.serial)
    }),
    (AnswerFault::BadStart, |_, answer, now| {
        let age = now.as_second() - answer.leaf.not_before.as_second();
        (0..86_400).contains(&age)
    }),
    (AnswerFault::LifetimeTooShort, |_, answer, now| answer.leaf.not_after.as_second() - now.as_second() >= MIN_LIFE),
    (AnswerFault::WrongAuthority, |asked, answer, _| {
        answer.leaf.authority_key_id.as_deref() == Some(asked.admitted.domain.active.subject_key_id.as_slice())
    }),
    (AnswerFault::Untrusted, |_, answer, _| answer.trusted),
];

/// Holds an answer against what was asked.
///
/// # Errors
/// The first check that fails.
pub fn check(asked: &Asked<'_>, answer: &Answer, now: Timestamp) -> Result<(), AnswerFault> {
    CHECKS.iter().find(|(_, holds)| !holds(asked, answer, now)).map_or(Ok(()), |(fault, _)| Err(*fault))
}

/// The rows of the profile that a verifier would trip over.
fn fits_profile(leaf: &Leaf) -> bool {
    let usage = leaf.key_usage.is_some_and(|usage| {
        let encipherment_fits = !usage.key_encipherment || matches!(leaf.key, KeyKind::Rsa(_));
        usage.digital_signature && encipherment_fits && !usage.key_cert_sign && !usage.crl_sign
    });
    let extended = leaf.extended_key_usage.is_some_and(|usage| usage.server_auth && usage.client_auth);
    // An empty subject moves the identity into the alternative names, which must then be critical (RFC 5280, 4.2.1.6).
    let subject = !leaf.subject_is_empty || leaf.san_critical;
    usage && extended && subject && !leaf.authority_has_issuer_serial
}

/// Positive, 8 to 20 octets: shorter ones repeat, longer ones break RFC 5280 (4.1.2.2).
fn is_well_formed(serial: &Serial) -> bool {
    serial.is_positive() && (8..=20).contains(&serial.octets())
}
