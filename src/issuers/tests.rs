//! What our own authority signs, judged by the profile, by webpki and by OpenSSL.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use countersign_core::{
    api::{KeyAlgorithm, KeySpec, Reason},
    value::{
        secret_data::SecretBytes,
        x509::{Certificate, ExtendedKeyUsages, KeyKind, KeyUsages, Names, Roots, SignatureKind, parse_pem_chain},
    },
};
use jiff::{Timestamp, ToSpan};

use super::{
    SignRequest, Source, build,
    embedded::{Embedded, MadeAuthority, make_authority, read_authority},
    keys::{self, MadeKey, spki_of_private_key},
    profile::{self, Validity},
    verify::{ChainFault, verify},
};
use crate::runtime::entropy::Entropy;

const P256: KeySpec = KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) };
const P384: KeySpec = KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(384) };
const ED25519: KeySpec = KeySpec { algorithm: KeyAlgorithm::Ed25519, size: None };

const fn rsa(size: i32) -> KeySpec {
    KeySpec { algorithm: KeyAlgorithm::RSA, size: Some(size) }
}

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn entropy() -> Arc<Entropy> {
    Arc::new(Entropy::seeded(7, "serials"))
}

fn names() -> Names {
    let set = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    Names {
        uris: set(&["spiffe://prod.example/ns/pay/sa/api"]),
        dns: set(&["api.pay.svc", "api.pay.svc.cluster.local"]),
        ips: ["10.1.2.3", "2001:db8::1"].iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect(),
        other: 0,
    }
}

fn authority(spec: KeySpec) -> MadeAuthority {
    make_authority("prod.example", spec, 365 * DAY, now(), &Entropy::seeded(1, "authority")).unwrap()
}

fn request(key: &MadeKey) -> SignRequest {
    SignRequest { csr: key.csr.clone(), names: names(), ttl: DAY, now: now() }
}

async fn signed(authority: &MadeAuthority, request: &SignRequest) -> Certificate {
    let source = Source::Embedded { certificate: authority.certificate.pem(), key: authority.key.clone() };
    let answer = build(source, entropy()).unwrap().sign(request).await.unwrap();
    let mut chain = parse_pem_chain(&answer.chain).unwrap();
    assert_eq!(chain.len(), 1, "the root is not part of the chain");
    chain.pop().unwrap()
}

fn roots(authority: &MadeAuthority) -> Roots {
    let mut roots = Roots::default();
    roots.insert(authority.certificate.clone()).unwrap();
    roots
}

/// Every key an identity may ask for, with what its leaf must show. RSA 4096 differs from 3072 only in the time it takes.
const KEYS: [(KeySpec, KeyKind); 5] = [
    (P256, KeyKind::Ecdsa256),
    (P384, KeyKind::Ecdsa384),
    (ED25519, KeyKind::Ed25519),
    (rsa(2_048), KeyKind::Rsa(2_048)),
    (rsa(3_072), KeyKind::Rsa(3_072)),
];

#[tokio::test]
async fn every_row_of_the_leaf_profile_holds_for_every_key() {
    for (authority_key, signature) in [(P256, SignatureKind::EcdsaSha256), (P384, SignatureKind::EcdsaSha384)] {
        let authority = authority(authority_key);
        let ca = &authority.certificate.leaf;
        for (spec, kind) in KEYS {
            let key = keys::make(spec, &names()).await.unwrap();
            let leaf = signed(&authority, &request(&key)).await.leaf;
            // Serial: 16 octets, positive.
            assert_eq!(leaf.serial.octets(), 16, "serial, {spec:?}");
            // Signature: SHA-256 for P-256, SHA-384 for P-384.
            assert_eq!(leaf.signature, signature, "signature, {spec:?}");
            // Issuer, SKI, AKI: copied from the authority; keyid only.
            assert_eq!(leaf.issuer_name_der, ca.subject_name_der, "issuer, {spec:?}");
            assert!(leaf.subject_key_id.is_some(), "subject key identifier, {spec:?}");
            assert_eq!(leaf.authority_key_id, ca.subject_key_id, "authority key identifier, {spec:?}");
            assert!(!leaf.authority_has_issuer_serial, "keyid only, {spec:?}");
            // Validity: from five minutes ago, for the time asked.
            assert_eq!(
                (leaf.not_before, leaf.not_after),
                (now() - 5.minutes(), now() + 24.hours()),
                "validity, {spec:?}"
            );
            // Public key: the one of the request, of the kind asked.
            assert_eq!((leaf.key, &leaf.spki), (kind, &key.spki), "public key, {spec:?}");
            // BasicConstraints: critical, CA=false.
            let constraints = (leaf.is_ca, leaf.path_length, leaf.basic_constraints_critical);
            assert_eq!(constraints, (false, None, Some(true)), "basic constraints, {spec:?}");
            // KeyUsage: critical digitalSignature; RSA adds keyEncipherment.
            let usage = KeyUsages {
                critical: true,
                digital_signature: true,
                key_encipherment: matches!(kind, KeyKind::Rsa(_)),
                ..KeyUsages::default()
            };
            assert_eq!(leaf.key_usage, Some(usage), "key usage, {spec:?}");
            // ExtendedKeyUsage: both, and nothing else.
            let extended = ExtendedKeyUsages { server_auth: true, client_auth: true, any: false, others: false };
            assert_eq!(leaf.extended_key_usage, Some(extended), "extended key usage, {spec:?}");
            // Subject empty, SAN critical and as asked.
            assert!(leaf.subject_is_empty && leaf.san_critical, "subject and names, {spec:?}");
            assert_eq!(leaf.names, names(), "names, {spec:?}");
            // Others: none from us.
            assert!(!leaf.unknown_critical, "other extensions, {spec:?}");
        }
    }
}

#[test]
fn every_row_of_the_authority_profile_holds() {
    for (spec, kind, signature) in
        [(P256, KeyKind::Ecdsa256, SignatureKind::EcdsaSha256), (P384, KeyKind::Ecdsa384, SignatureKind::EcdsaSha384)]
    {
        let made = authority(spec);
        let leaf = &made.certificate.leaf;
        assert_eq!((leaf.key, leaf.signature, leaf.serial.octets()), (kind, signature, 16));
        assert_eq!((leaf.is_ca, leaf.path_length, leaf.basic_constraints_critical), (true, Some(1), Some(true)));
        let usage = KeyUsages { critical: true, key_cert_sign: true, crl_sign: true, ..KeyUsages::default() };
        assert_eq!((leaf.key_usage, leaf.extended_key_usage), (Some(usage), None));
        assert_eq!((leaf.not_before, leaf.not_after), (now() - 1.hour(), now() + (365 * 24).hours()));
        assert_eq!(leaf.names, Names::default());
        assert_eq!(leaf.authority_key_id, None);
        assert!(leaf.is_self_issued() && !leaf.unknown_critical);
        // Unique for each key: the name ends in the key identifier.
        let id = data_encoding::HEXLOWER.encode(&leaf.subject_key_id.as_ref().unwrap()[..4]);
        let name = format!("prod.example {id}");
        assert!(leaf.subject_name_der.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
    assert_ne!(
        authority(P256).certificate.leaf.spki,
        authority(P256).certificate.leaf.spki,
        "a new authority has a new key"
    );
}

#[test]
fn a_long_trust_domain_fits_a_common_name() {
    let long = "a".repeat(255);
    let made = make_authority(&long, P256, 365 * DAY, now(), &entropy()).unwrap();
    assert!(made.certificate.leaf.subject_name_der.len() < 64 + 16);
    assert_eq!(verify(std::slice::from_ref(&made.certificate), &roots(&made), &[now()]), Err(ChainFault::WrongRole));
}

#[tokio::test]
async fn no_default_of_the_library_shows() {
    let authority = authority(P256);
    let key = keys::make(P256, &names()).await.unwrap();
    let (one, other) = (signed(&authority, &request(&key)).await, signed(&authority, &request(&key)).await);
    for certificate in [&one, &authority.certificate] {
        assert!(!certificate.der.windows(5).any(|part| part == b"rcgen"), "the joke name");
        let years = certificate.leaf.not_before.as_second()..certificate.leaf.not_after.as_second();
        assert!(years.start > 0 && years.end - years.start < 400 * 86_400, "1975 to 4096");
        // The library's serial number is a hash of the public key: the same for every leaf of a key, 20 octets long.
        assert_eq!(certificate.leaf.serial.octets(), 16);
    }
    let source = Source::Embedded { certificate: authority.certificate.pem(), key: authority.key.clone() };
    let issuer = build(source, entropy()).unwrap();
    let mut serials = BTreeSet::new();
    for _ in 0..50 {
        let answer = issuer.sign(&request(&key)).await.unwrap();
        serials.insert(Certificate::parse_pem(&answer.chain).unwrap().leaf.serial);
    }
    assert_eq!(serials.len(), 50, "a serial number repeats");
    assert_eq!(one.leaf.spki, other.leaf.spki);
}

#[test]
fn serials_are_positive_with_sixteen_octets() {
    for random in [[0x00; 16], [0xff; 16], [0x80; 16], [0x40; 16]] {
        let first = profile::serial(random)[0];
        assert!((0x40..0x80).contains(&first), "{first:#x}");
        assert_eq!(profile::serial(random)[1..], random[1..]);
    }
}

#[test]
fn a_leaf_stays_within_its_authority() {
    let bounds = |from: i64, to: i64| Validity { not_before: now() + from.minutes(), not_after: now() + to.minutes() };
    let validity = |bounds| profile::leaf_validity(now(), DAY, bounds);
    assert_eq!(validity(bounds(-9_999, 99_999)), Ok(bounds(-5, 24 * 60)));
    assert_eq!(validity(bounds(-2, 99_999)), Ok(bounds(-2, 24 * 60)), "not before its authority");
    assert_eq!(validity(bounds(-60, 180)), Ok(bounds(-5, 120)), "an hour before its authority ends");
    for end in [60, 30, -1] {
        assert_eq!(validity(bounds(-60, end)).unwrap_err().reason, Reason::AuthorityExpiring, "{end}");
    }
}

#[tokio::test]
async fn keys_are_pkcs8_and_know_their_public_half() {
    for spec in KEYS.map(|(spec, _)| spec).into_iter().chain([rsa(4_096)]) {
        let key = keys::make(spec, &names()).await.unwrap();
        let pem = std::str::from_utf8(key.private_key.expose()).unwrap().to_owned();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{spec:?}");
        assert_eq!(spki_of_private_key(pem.as_bytes()), Some(key.spki.clone()), "{spec:?}");
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], Some(pem.as_bytes()));
        assert_eq!(countersign_core::value::x509::SpkiHash::of(&public), key.spki, "{spec:?}");
    }
    let again = [keys::make(P256, &names()).await.unwrap(), keys::make(P256, &names()).await.unwrap()];
    assert_ne!(again[0].spki, again[1].spki, "a key is new each time");
    let long = vec![b'-'; 20_000];
    let empty = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for nonsense in [&b""[..], b"\xff", empty, &long] {
        assert_eq!(spki_of_private_key(nonsense), None);
    }
    for bad in [rsa(1_024), KeySpec { size: Some(521), ..P256 }, KeySpec { size: Some(256), ..ED25519 }] {
        assert_eq!(keys::make(bad, &names()).await.unwrap_err().reason, Reason::InvalidSpec, "{bad:?}");
    }
}

#[tokio::test]
async fn a_request_carries_the_names_and_an_empty_subject() {
    let key = keys::make(P256, &names()).await.unwrap();
    let text = openssl(&["req", "-noout", "-verify", "-subject", "-text"], Some(key.csr.as_bytes()));
    let text = String::from_utf8(text).unwrap();
    for part in ["subject=\n", "URI:spiffe://prod.example/ns/pay/sa/api", "DNS:api.pay.svc,", "IP Address:10.1.2.3"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn material_that_does_not_fit_is_refused() {
    let (one, other) = (authority(P256), authority(P256));
    let reason = |certificate: &str, key: &SecretBytes| {
        Embedded::new(certificate, key, entropy()).map(|_| ()).map_err(|failure| failure.reason)
    };
    assert_eq!(reason(&one.certificate.pem(), &one.key), Ok(()));
    assert_eq!(read_authority(&one.certificate.pem(), &one.key), Ok(one.certificate.clone()));
    let lost = Err(Reason::AuthorityLost);
    assert_eq!(reason(&one.certificate.pem(), &other.key), lost, "another key");
    assert_eq!(reason("", &one.key), lost, "no certificate");
    assert_eq!(reason(&one.certificate.pem(), &SecretBytes::default()), lost, "no key");
    let debug = format!("{:?}", Embedded::new(&one.certificate.pem(), &one.key, entropy()).unwrap());
    assert!(!debug.contains("PRIVATE") && debug.contains(one.certificate.leaf.fingerprint.as_str()), "{debug}");
}

#[tokio::test]
async fn a_leaf_is_no_authority() {
    let authority = authority(P256);
    let key = keys::make(P256, &names()).await.unwrap();
    let leaf = signed(&authority, &request(&key)).await;
    let failure = Embedded::new(&leaf.pem(), &key.private_key, entropy()).map(|_| ()).unwrap_err();
    assert_eq!(failure.reason, Reason::AuthorityLost);
}

#[tokio::test]
async fn webpki_accepts_what_we_sign_and_says_why_not() {
    let (authority, stranger) = (authority(P256), authority(P384));
    let key = keys::make(P256, &names()).await.unwrap();
    let leaf = signed(&authority, &request(&key)).await;
    let end = leaf.leaf.not_after;
    let judged = |chain: &[Certificate], roots: &Roots, times: &[Timestamp]| verify(chain, roots, times);
    let chain = [leaf.clone()];
    assert_eq!(judged(&chain, &roots(&authority), &[now(), end - 1.second()]), Ok(()));
    assert_eq!(judged(&chain, &roots(&authority).union(&roots(&stranger)), &[now()]), Ok(()));
    assert_eq!(judged(&chain, &roots(&stranger), &[now()]), Err(ChainFault::UnknownAuthority));
    assert_eq!(judged(&chain, &roots(&authority), &[now(), end + 1.second()]), Err(ChainFault::Expired));
    assert_eq!(judged(&chain, &roots(&authority), &[now() - 6.minutes()]), Err(ChainFault::NotYetValid));
    assert_eq!(judged(&[], &roots(&authority), &[now()]), Err(ChainFault::Empty));
    assert_eq!(judged(&chain, &Roots::default(), &[now()]), Err(ChainFault::Empty));
    assert_eq!(judged(&chain, &roots(&authority), &[]), Err(ChainFault::Empty));
    // One bit of the signature flipped.
    let mut der = leaf.der.clone();
    *der.last_mut().unwrap() ^= 1;
    let doctored = Certificate { der, leaf: leaf.leaf };
    assert_eq!(judged(&[doctored], &roots(&authority), &[now()]), Err(ChainFault::BadSignature));
}

/// Where a test leaves its files for OpenSSL; gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs OpenSSL and returns what it printed; a refusal fails the test with OpenSSL's own words.
fn openssl(arguments: &[&str], input: Option<&[u8]>) -> Vec<u8> {
    use std::{io::Write, process::Stdio};
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs the program `openssl` (3.0 or newer) in PATH");
    child.stdin.take().unwrap().write_all(input.unwrap_or_default()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

fn openssl_verifies(leaf: &Path, root: &Path, purpose: &str) {
    let at = now().as_second().to_string();
    let paths = [root.to_str().unwrap(), leaf.to_str().unwrap()];
    openssl(
        &[
            "verify",
            "-x509_strict",
            "-no-CApath",
            "-no-CAstore",
            "-purpose",
            purpose,
            "-attime",
            &at,
            "-CAfile",
            paths[0],
            paths[1],
        ],
        None,
    );
}

#[tokio::test]
async fn openssl_accepts_what_we_sign() {
    let folder = Folder::new("openssl");
    for authority_key in [P256, P384] {
        let authority = authority(authority_key);
        let root = folder.write("root.pem", &authority.certificate.pem());
        for (spec, _) in KEYS {
            let key = keys::make(spec, &names()).await.unwrap();
            let leaf = folder.write("leaf.pem", &signed(&authority, &request(&key)).await.pem());
            for purpose in ["sslserver", "sslclient"] {
                openssl_verifies(&leaf, &root, purpose);
            }
        }
    }
}
