//! Facts of committed certificates (made by `fixtures/make.sh`) and the limits of the reader.

use super::*;

const ROOT: &str = include_str!("fixtures/root.pem");
const LEAF: &str = include_str!("fixtures/leaf.pem");
const ODD: &str = include_str!("fixtures/odd.pem");

fn only(pem: &str) -> Certificate {
    Certificate::parse_pem(pem).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_good_leaf_is_read() {
    let (root, leaf) = (only(ROOT).leaf, only(LEAF).leaf);
    assert_eq!(leaf.serial.as_str(), "5a00000000000000000000000000c0de");
    assert_eq!(leaf.serial.octets(), 16);
    assert_eq!((leaf.key, leaf.signature), (KeyKind::Ecdsa256, SignatureKind::EcdsaSha256));
    assert_eq!(
        leaf.names,
        Names {
            uris: set(&["spiffe://prod.example/ns/pay/sa/api"]),
            dns: set(&["api.pay.svc", "api.pay.svc.cluster.local"]),
            ips: ["10.1.2.3", "2001:db8::1"].iter().map(|ip| ip.parse().unwrap()).collect(),
            other: 0,
        }
    );
    assert_eq!((leaf.is_ca, leaf.basic_constraints_critical), (false, Some(true)));
    let usage = KeyUsages { critical: true, digital_signature: true, ..KeyUsages::default() };
    assert_eq!(leaf.key_usage, Some(usage));
    let extended = ExtendedKeyUsages { server_auth: true, client_auth: true, any: false, others: false };
    assert_eq!(leaf.extended_key_usage, Some(extended));
    assert!(leaf.subject_is_empty && leaf.san_critical && !leaf.unknown_critical);
    assert!(leaf.authority_key_id.is_some() && leaf.authority_key_id == root.subject_key_id);
    assert!(!leaf.authority_has_issuer_serial);
    assert_eq!(leaf.issuer_name_der, root.subject_name_der);
    assert_eq!(leaf.lifetime().as_hours(), 36_500 * 24);
    assert!(leaf.is_valid_at(leaf.not_before) && leaf.is_valid_at(leaf.not_after));
}

#[test]
fn an_authority_is_read() {
    let root = only(ROOT).leaf;
    // The sign octet of 0x00f1 is no digit of the number.
    assert_eq!((root.serial.as_str(), root.serial.octets()), ("f1", 1));
    assert_eq!((root.is_ca, root.path_length, root.key), (true, Some(1), KeyKind::Ecdsa384));
    assert!(root.is_self_issued() && !only(LEAF).leaf.is_self_issued());
    let usage = KeyUsages { critical: true, key_cert_sign: true, crl_sign: true, ..KeyUsages::default() };
    assert_eq!((root.key_usage, root.extended_key_usage), (Some(usage), None));
}

#[test]
fn an_odd_leaf_is_read_as_it_is() {
    let odd = only(ODD).leaf;
    assert_eq!((odd.key, odd.signature), (KeyKind::Rsa(2_048), SignatureKind::Weak));
    assert_eq!(odd.names, Names { dns: set(&["odd.example"]), other: 2, ..Names::default() });
    assert_eq!(odd.basic_constraints_critical, None);
    let usage = odd.key_usage.unwrap();
    assert!(!usage.critical && usage.key_encipherment && usage.key_agreement && usage.others);
    let extended = odd.extended_key_usage.unwrap();
    assert!(extended.any && extended.others && !extended.server_auth && !extended.client_auth);
    assert!(!odd.subject_is_empty && !odd.san_critical && odd.unknown_critical && odd.authority_has_issuer_serial);
}

#[test]
fn no_well_defined_end_is_the_last_time() {
    let forever = only(include_str!("fixtures/forever.pem")).leaf;
    assert_eq!(forever.not_after, Timestamp::MAX);
    assert_eq!((forever.key, forever.signature), (KeyKind::Ed25519, SignatureKind::Ed25519));
}

#[test]
fn one_key_has_one_hash_whoever_signed() {
    let other = only(include_str!("fixtures/twice.pem"));
    assert_eq!(other.leaf.spki, only(LEAF).leaf.spki);
    assert_ne!(other.leaf.fingerprint, only(LEAF).leaf.fingerprint);
}

#[test]
fn pem_is_written_as_it_is_read() {
    assert_eq!(only(LEAF).pem(), LEAF);
    let chain = format!("{LEAF}{ROOT}");
    let read = parse_pem_chain(&chain.replace('\n', "\r\n")).unwrap();
    assert_eq!(read, [only(LEAF), only(ROOT)]);
}

#[test]
fn broken_chains_are_refused() {
    let body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let long = body.replace("AAAA", &"AAAA".repeat(6_000));
    let cases = [
        (String::new(), X509Fault::Empty),
        ("hello".to_owned(), X509Fault::NotPem),
        (format!("{LEAF}trailing"), X509Fault::NotPem),
        (LEAF.replace("-----END CERTIFICATE-----", ""), X509Fault::NotPem),
        (format!("-----BEGIN CERTIFICATE-----\n{LEAF}"), X509Fault::NotPem),
        (body.to_owned(), X509Fault::Malformed),
        (body.replace("AAAA", "A*AA"), X509Fault::NotBase64),
        (long, X509Fault::CertificateTooLong),
        (format!("{LEAF}{key}"), X509Fault::PrivateKey),
        (format!("{LEAF}{request}"), X509Fault::ForeignBlock),
        (LEAF.repeat(MAX_CHAIN + 1), X509Fault::TooManyCertificates),
        (" ".repeat(MAX_CHAIN_TEXT + 1), X509Fault::TextTooLong),
        (include_str!("fixtures/negative.pem").to_owned(), X509Fault::NegativeSerial),
        (include_str!("fixtures/v1.pem").to_owned(), X509Fault::NotVersion3),
        (include_str!("fixtures/large.pem").to_owned(), X509Fault::KeyTooLarge),
    ];
    for (text, fault) in cases {
        assert_eq!(parse_pem_chain(&text), Err(fault), "{fault:?}");
    }
    assert_eq!(parse_pem_chain(&LEAF.repeat(MAX_CHAIN)).map(|chain| chain.len()), Ok(MAX_CHAIN));
}

#[test]
fn broken_der_is_refused() {
    let mut der = only(LEAF).der;
    der.push(0);
    assert_eq!(Leaf::parse_der(&der), Err(X509Fault::TrailingData));
    der.truncate(der.len() - 2);
    assert_eq!(Leaf::parse_der(&der), Err(X509Fault::Malformed));
    assert_eq!(Leaf::parse_der(&vec![0x30; MAX_CERTIFICATE + 1]), Err(X509Fault::CertificateTooLong));

    // The second of two private extensions gets the identifier of the first.
    let mut twice = only(include_str!("fixtures/twice.pem")).der;
    let second = twice.windows(6).position(|octets| octets == [0x06, 0x04, 0x2a, 0x03, 0x04, 0x06]).unwrap();
    twice[second + 5] = 0x05;
    assert_eq!(Leaf::parse_der(&twice), Err(X509Fault::DuplicateExtension));

    // Inner and outer signature algorithm differ: ecdsa-with-SHA384 becomes SHA256 inside only.
    let mut fooled = only(LEAF).der;
    let inner =
        fooled.windows(8).position(|octets| octets == [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]).unwrap();
    fooled[inner + 7] = 0x03;
    assert_eq!(Leaf::parse_der(&fooled), Err(X509Fault::Malformed));
}

#[test]
fn any_cut_of_a_certificate_is_a_fault() {
    let der = only(LEAF).der;
    for length in 0..der.len() {
        assert!(Leaf::parse_der(&der[..length]).is_err(), "{length}");
    }
}

#[test]
fn roots_are_a_sorted_set_of_authorities() {
    let forever = include_str!("fixtures/forever.pem");
    let one = Roots::parse(&format!("# the corporate root\n{ROOT}\n{forever}{ROOT}")).unwrap();
    let other = Roots::parse(&format!("{forever}{ROOT}")).unwrap();
    assert_eq!((one.len(), one.pem()), (2, other.pem()));
    assert_eq!(Roots::parse(ROOT).unwrap().union(&Roots::parse(forever).unwrap()), one);
    assert!(one.contains(&only(ROOT).leaf.fingerprint) && !one.contains(&only(LEAF).leaf.fingerprint));
    assert_eq!(Roots::parse(&one.pem()), Ok(one));

    for (text, fault) in [
        (LEAF.to_owned(), X509Fault::NotAuthority),
        ("# nothing".to_owned(), X509Fault::NotPem),
        ("\n".to_owned(), X509Fault::Empty),
        (ROOT.repeat(MAX_ROOTS + 1), X509Fault::TooManyCertificates),
        ("#".repeat(MAX_ROOTS_TEXT + 1), X509Fault::TextTooLong),
        (format!("{ROOT}-----BEGIN PRIVATE KEY-----\n"), X509Fault::PrivateKey),
    ] {
        assert_eq!(Roots::parse(&text), Err(fault), "{fault:?}");
    }
}

#[test]
fn serials_compare_without_their_sign_octet() {
    assert_eq!(Serial::from_octets(&[0, 0x80]), Serial::from_octets(&[0x80]));
    assert!(!Serial::from_octets(&[0]).is_positive() && Serial::from_octets(&[0, 1]).is_positive());
    assert_eq!(Serial::from_octets(&[0]).octets(), 1);
}
