//! Does a chain lead to these roots? The judgement of an independent verifier, for both uses.
//!
//! Called for every answer of an issuer and for what is stored; knows nothing of who signed.

use std::time::Duration;

use countersign_core::value::x509::{Certificate, Roots};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

/// Why a chain is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainFault {
    /// There is no certificate, or no root.
    Empty,
    /// The leaf or a root does not read.
    Malformed,
    /// A certificate of the chain is not valid yet at one of the times.
    NotYetValid,
    /// A certificate of the chain has ended at one of the times.
    Expired,
    /// No path leads to a root.
    UnknownAuthority,
    /// It may not be used as server and as client.
    WrongPurpose,
    /// A signature is wrong, or of a kind we do not accept.
    BadSignature,
    /// The path is longer than a CA of it allows, or a name lies outside a CA's constraints.
    Constrained,
    /// An authority stands where a leaf belongs, or the other way round.
    WrongRole,
    /// Anything else a verifier objects to.
    Refused,
}

/// Verifies leaf and intermediates against the roots, for server and client use, at each time.
///
/// The first fault found is returned; no time is no verification and therefore `Empty`.
pub fn verify(chain: &[Certificate], roots: &Roots, times: &[Timestamp]) -> Result<(), ChainFault> {
    let ders: Vec<CertificateDer<'_>> = chain.iter().map(|each| each.der.as_slice().into()).collect();
    let (leaf, intermediates) = ders.split_first().ok_or(ChainFault::Empty)?;
    let root_ders: Vec<CertificateDer<'_>> = roots.iter().map(|each| each.der.as_slice().into()).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        root_ders.iter().map(anchor_from_trusted_cert).collect::<Result<_, _>>().map_err(|_| ChainFault::Malformed)?;
    if anchors.is_empty() || times.is_empty() {
        return Err(ChainFault::Empty);
    }
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| fault(&error))?;
    for time in times {
        for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, intermediates, moment(*time), usage, None, None)
                .map_err(|error| fault(&error))?;
        }
    }
    Ok(())
}

fn moment(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)))
}

fn fault(error: &Error) -> ChainFault {
    match error {
        Error::CertNotValidYet { .. } => ChainFault::NotYetValid,
        Error::CertExpired { .. } | Error::InvalidCertValidity => ChainFault::Expired,
        Error::UnknownIssuer => ChainFault::UnknownAuthority,
        Error::RequiredEkuNotFoundContext(_) => ChainFault::WrongPurpose,
        Error::InvalidSignatureForPublicKey | Error::SignatureAlgorithmMismatch => ChainFault::BadSignature,
        Error::NameConstraintViolation | Error::PathLenConstraintViolated => ChainFault::Constrained,
        Error::CaUsedAsEndEntity | Error::EndEntityUsedAsCa => ChainFault::WrongRole,
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => ChainFault::Malformed,
        // The enum is not ours and grows; whatever else it says, the chain is not accepted.
        _ => ChainFault::Refused,
    }
}
