//! DER to facts. The only place that knows the parser's types.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension, X509Extension},
    prelude::FromDer,
    time::ASN1Time,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Version},
};

use super::{
    ExtendedKeyUsages, Fingerprint, KeyKind, KeyUsages, Leaf, MAX_CERTIFICATE, Names, Serial, SignatureKind, SpkiHash,
    X509Fault,
};

/// Reads one certificate.
pub(super) fn certificate(der: &[u8]) -> Result<Leaf, X509Fault> {
    if der.len() > MAX_CERTIFICATE {
        return Err(X509Fault::CertificateTooLong);
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| X509Fault::Malformed)?;
    if !rest.is_empty() {
        return Err(X509Fault::TrailingData);
    }
    if parsed.version() != X509Version::V3 {
        return Err(X509Fault::NotVersion3);
    }
    // RFC 5280, 4.1.1.2: both places must name one algorithm, or a reader of the wrong one is fooled.
    if parsed.signature_algorithm != parsed.tbs_certificate.signature {
        return Err(X509Fault::Malformed);
    }
    let mut leaf = Leaf {
        serial: serial(parsed.raw_serial())?,
        fingerprint: Fingerprint::of(der),
        spki: SpkiHash::of(parsed.public_key().raw),
        key: key_kind(parsed.public_key())?,
        signature: signature_kind(&parsed.signature_algorithm),
        names: Names::default(),
        not_before: timestamp(parsed.validity().not_before),
        not_after: timestamp(parsed.validity().not_after),
        is_ca: false,
        path_length: None,
        basic_constraints_critical: None,
        key_usage: None,
        extended_key_usage: None,
        subject_is_empty: parsed.subject().iter().next().is_none(),
        san_critical: false,
        subject_key_id: None,
        authority_key_id: None,
        authority_has_issuer_serial: false,
        issuer_name_der: parsed.issuer().as_raw().to_vec(),
        subject_name_der: parsed.subject().as_raw().to_vec(),
        unknown_critical: false,
    };
    parsed.extensions_map().map_err(|_| X509Fault::DuplicateExtension)?;
    for extension in parsed.extensions() {
        read_extension(&mut leaf, extension)?;
    }
    Ok(leaf)
}

/// Reads the kind of a SubjectPublicKeyInfo's key.
pub(super) fn public_key(der: &[u8]) -> Result<KeyKind, X509Fault> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => key_kind(&spki),
        Ok(_) => Err(X509Fault::TrailingData),
        Err(_) => Err(X509Fault::Malformed),
    }
}

fn read_extension(leaf: &mut Leaf, extension: &X509Extension<'_>) -> Result<(), X509Fault> {
    let critical = extension.critical;
    match extension.parsed_extension() {
        ParsedExtension::BasicConstraints(constraints) => {
            leaf.is_ca = constraints.ca;
            leaf.path_length = constraints.path_len_constraint;
            leaf.basic_constraints_critical = Some(critical);
        }
        ParsedExtension::KeyUsage(usage) => leaf.key_usage = Some(key_usages(*usage, critical)),
        ParsedExtension::ExtendedKeyUsage(usage) => leaf.extended_key_usage = Some(extended_key_usages(usage)),
        ParsedExtension::SubjectAlternativeName(san) => {
            leaf.san_critical = critical;
            leaf.names = names(&san.general_names);
        }
        ParsedExtension::SubjectKeyIdentifier(id) => leaf.subject_key_id = Some(id.0.to_vec()),
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            leaf.authority_key_id = id.key_identifier.as_ref().map(|key| key.0.to_vec());
            leaf.authority_has_issuer_serial = id.authority_cert_issuer.is_some() || id.authority_cert_serial.is_some();
        }
        // Not a fact we report, but understood by the chain verifier.
        ParsedExtension::NameConstraints(_) => {}
        ParsedExtension::ParseError { .. } => return Err(X509Fault::Malformed),
        _ => leaf.unknown_critical |= critical,
    }
    Ok(())
}

fn serial(octets: &[u8]) -> Result<Serial, X509Fault> {
    match octets.first() {
        None => Err(X509Fault::Malformed),
        Some(first) if first & 0x80 != 0 => Err(X509Fault::NegativeSerial),
        Some(_) => Ok(Serial::from_octets(octets)),
    }
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyKind, X509Fault> {
    let parameter = |wanted: &str| {
        spki.algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok())
            .is_some_and(|oid| oid.to_id_string() == wanted)
    };
    Ok(match spki.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" if parameter("1.2.840.10045.3.1.7") => KeyKind::Ecdsa256,
        "1.2.840.10045.2.1" if parameter("1.3.132.0.34") => KeyKind::Ecdsa384,
        "1.3.101.112" => KeyKind::Ed25519,
        "1.2.840.113549.1.1.1" => KeyKind::Rsa(rsa_bits(spki)?),
        _ => KeyKind::Other,
    })
}

fn rsa_bits(spki: &SubjectPublicKeyInfo<'_>) -> Result<u32, X509Fault> {
    use x509_parser::public_key::PublicKey;
    let Ok(PublicKey::RSA(key)) = spki.parsed() else { return Err(X509Fault::Malformed) };
    let zeros = key.modulus.iter().take_while(|octet| **octet == 0).count();
    let octets = key.modulus.get(zeros..).unwrap_or_default();
    let Some(first) = octets.first() else { return Err(X509Fault::Malformed) };
    let bits = u32::try_from(octets.len() * 8).map_err(|_| X509Fault::KeyTooLarge)? - first.leading_zeros();
    if bits > 4_096 { Err(X509Fault::KeyTooLarge) } else { Ok(bits) }
}

fn signature_kind(algorithm: &AlgorithmIdentifier<'_>) -> SignatureKind {
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => SignatureKind::EcdsaSha256,
        "1.2.840.10045.4.3.3" => SignatureKind::EcdsaSha384,
        "1.2.840.113549.1.1.11" => SignatureKind::RsaSha256,
        "1.2.840.113549.1.1.12" => SignatureKind::RsaSha384,
        "1.2.840.113549.1.1.13" => SignatureKind::RsaSha512,
        "1.3.101.112" => SignatureKind::Ed25519,
        // RSA with MD2, MD4, MD5, SHA-1; ECDSA and DSA with SHA-1.
        "1.2.840.113549.1.1.2"
        | "1.2.840.113549.1.1.3"
        | "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.10040.4.3" => SignatureKind::Weak,
        _ => SignatureKind::Other,
    }
}

/// RFC 5280 writes "no well-defined end" as 9999-12-31T23:59:59Z, which lies just behind what a
/// timestamp can hold; the ASN.1 year has four digits, so nothing else is out of range.
fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
}

fn key_usages(usage: KeyUsage, critical: bool) -> KeyUsages {
    KeyUsages {
        critical,
        digital_signature: usage.digital_signature(),
        key_encipherment: usage.key_encipherment(),
        key_agreement: usage.key_agreement(),
        key_cert_sign: usage.key_cert_sign(),
        crl_sign: usage.crl_sign(),
        others: usage.non_repudiation() || usage.data_encipherment() || usage.encipher_only() || usage.decipher_only(),
    }
}

fn extended_key_usages(usage: &ExtendedKeyUsage<'_>) -> ExtendedKeyUsages {
    ExtendedKeyUsages {
        server_auth: usage.server_auth,
        client_auth: usage.client_auth,
        any: usage.any,
        others: usage.code_signing
            || usage.email_protection
            || usage.time_stamping
            || usage.ocsp_signing
            || !usage.other.is_empty(),
    }
}

fn names(general: &[GeneralName<'_>]) -> Names {
    let mut names = Names::default();
    for name in general {
        match name {
            GeneralName::URI(uri) => {
                names.uris.insert((*uri).to_owned());
            }
            GeneralName::DNSName(dns) => {
                names.dns.insert(dns.to_ascii_lowercase());
            }
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(ip) => {
                    names.ips.insert(ip);
                }
                None => names.other += 1,
            },
            _ => names.other += 1,
        }
    }
    names
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or(v6).ok()
}
