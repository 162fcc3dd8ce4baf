//! Facts without DER, for simulators and tables: nothing here could be verified, everything can be compared.

use jiff::{Timestamp, ToSpan};

use super::{
    Certificate, ExtendedKeyUsages, Fingerprint, KeyKind, KeyUsages, Leaf, Names, Serial, SignatureKind, SpkiHash,
};

impl Leaf {
    /// A P-256 leaf as the profile wants it, from 2026-01-01 for 24 hours; `label` decides serial and key.
    pub fn test(label: &str) -> Self {
        let start = Timestamp::UNIX_EPOCH + 490_896.hours();
        let spki = SpkiHash::of(label.as_bytes());
        let octets: Vec<u8> = std::iter::once(0x5a).chain(spki.as_str().bytes().rev().take(15)).collect();
        Self {
            serial: Serial::from_octets(&octets),
            fingerprint: Fingerprint::of(format!("certificate {label}").as_bytes()),
            spki,
            key: KeyKind::Ecdsa256,
            signature: SignatureKind::EcdsaSha256,
            names: Names::default(),
            not_before: start,
            not_after: start + 24.hours(),
            is_ca: false,
            path_length: None,
            basic_constraints_critical: Some(true),
            key_usage: Some(KeyUsages { critical: true, digital_signature: true, ..KeyUsages::default() }),
            extended_key_usage: Some(ExtendedKeyUsages {
                server_auth: true,
                client_auth: true,
                ..ExtendedKeyUsages::default()
            }),
            subject_is_empty: true,
            san_critical: true,
            subject_key_id: Some(label.as_bytes().to_vec()),
            authority_key_id: Some(b"authority".to_vec()),
            authority_has_issuer_serial: false,
            issuer_name_der: b"authority".to_vec(),
            subject_name_der: Vec::new(),
            unknown_critical: false,
        }
    }

    /// A self-issued authority of ten years; its key identifier and name are `label`.
    pub fn test_authority(label: &str) -> Self {
        let start = Timestamp::UNIX_EPOCH + 490_896.hours();
        Self {
            is_ca: true,
            path_length: Some(1),
            key_usage: Some(KeyUsages { critical: true, key_cert_sign: true, crl_sign: true, ..KeyUsages::default() }),
            extended_key_usage: None,
            subject_is_empty: false,
            san_critical: false,
            authority_key_id: None,
            issuer_name_der: label.as_bytes().to_vec(),
            subject_name_der: label.as_bytes().to_vec(),
            not_after: start + 87_600.hours(),
            ..Self::test(label)
        }
    }

    /// The same with these names.
    #[must_use]
    pub fn named(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// The same with this validity.
    #[must_use]
    pub fn valid(mut self, not_before: Timestamp, not_after: Timestamp) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }

    /// The same with this serial number.
    #[must_use]
    pub fn numbered(mut self, octets: &[u8]) -> Self {
        self.serial = Serial::from_octets(octets);
        self
    }

    /// The same over the key that `label` names.
    #[must_use]
    pub fn keyed(mut self, label: &str) -> Self {
        self.spki = SpkiHash::of(label.as_bytes());
        self
    }

    /// The same, issued by `authority`.
    #[must_use]
    pub fn issued_by(mut self, authority: &Self) -> Self {
        self.authority_key_id.clone_from(&authority.subject_key_id);
        self.issuer_name_der.clone_from(&authority.subject_name_der);
        self
    }
}

impl Certificate {
    /// A certificate of which only the facts mean anything.
    pub fn test(leaf: Leaf) -> Self {
        Self { der: leaf.fingerprint.as_str().as_bytes().to_vec(), leaf }
    }
}
