//! Which specs are taken, and with which defaults.

use super::*;

#[test]
fn bad_specs_are_rejected_with_their_field() {
    type Change = fn(&mut TrustDomainSpec);
    let cases: &[(Change, &str)] = &[
        (|spec| spec.name = "Prod".to_owned(), "spec.name"),
        (|spec| spec.name = "prod:443".to_owned(), "spec.name"),
        (|spec| spec.name = "a/b".to_owned(), "spec.name"),
        (|spec| spec.name = String::new(), "spec.name"),
        (|spec| spec.issuer.embedded = None, "spec.issuer"),
        (|spec| spec.issuer.vault = vault_spec().issuer.vault, "spec.issuer"),
        (
            |spec| spec.defaults = Some(DomainDefaults { ttl: Some("59m".to_owned()), ..DomainDefaults::default() }),
            "spec.defaults.ttl",
        ),
        (
            |spec| {
                let key = Some(KeySpec { algorithm: KeyAlgorithm::RSA, size: Some(1_024) });
                spec.defaults = Some(DomainDefaults { key, ..DomainDefaults::default() });
            },
            "spec.defaults.key",
        ),
        (|spec| spec.allow = vec![rule("*.pay.internal", "10.0.0.0/0")], "spec.allow[].ipRanges"),
        (|spec| spec.allow = vec![rule("a.*.b", "10.0.0.0/8")], "spec.allow[].dnsNames"),
        (
            |spec| spec.issuer.embedded = Some(EmbeddedIssuer { key: None, lifetime: Some("23h".to_owned()) }),
            "spec.issuer.embedded.lifetime",
        ),
        (
            // Three lives of a leaf and two soaks: 74 h.
            |spec| spec.issuer.embedded = Some(EmbeddedIssuer { key: None, lifetime: Some("73h".to_owned()) }),
            "spec.issuer.embedded.lifetime",
        ),
        (
            |spec| {
                let key = Some(KeySpec { algorithm: KeyAlgorithm::RSA, size: Some(3_072) });
                spec.issuer.embedded = Some(EmbeddedIssuer { key, lifetime: None });
            },
            "spec.issuer.embedded.key",
        ),
    ];
    for (change, field) in cases {
        let mut spec = embedded_spec();
        change(&mut spec);
        assert_eq!(parse(&object(spec)).unwrap_err().field, *field);
    }
    let mut spec = vault_spec();
    spec.issuer.vault.as_mut().unwrap().mount = "sys/pki".to_owned();
    assert_eq!(parse(&object(spec)).unwrap_err().field, "spec.issuer.vault.mount");
    let mut spec = vault_spec();
    let inline = Some("no PEM".to_owned());
    spec.issuer.vault.as_mut().unwrap().roots = Some(CertificateSource { config_map: None, secret: None, inline });
    assert_eq!(parse(&object(spec)).unwrap_err().field, "spec.issuer.vault.roots.inline");
}

fn rule(name: &str, range: &str) -> AllowRule {
    AllowRule {
        namespaces: NamespaceSelector { names: None, match_labels: None, all: Some(true) },
        dns_names: vec![name.to_owned()],
        ip_ranges: vec![range.to_owned()],
        max_ttl: Some("168h".to_owned()),
    }
}

#[test]
fn a_spec_is_parsed_with_its_defaults() {
    let intent = embedded();
    let lifetime = Duration::from_secs(8_760 * 3_600);
    let key = KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) };
    assert_eq!(intent.issuer, Issuer::Embedded { key, lifetime });
    assert_eq!(intent.rules.default_ttl, Duration::from_secs(86_400));
    assert_eq!((intent.rules.limits.signs_per_second, intent.rules.limits.in_flight), (50, 8));
    let mut spec = embedded_spec();
    spec.allow = vec![rule("*.Pay.Internal", "10.0.0.0/8")];
    let rules = parse(&object(spec)).unwrap().rules;
    assert_eq!(rules.longest_ttl(), Duration::from_secs(168 * 3_600));
    assert_eq!(rules.allow[0].dns_names, ["*.pay.internal"]);
    assert!(rules.allow[0].ip_ranges[0].contains("10.255.0.1".parse().unwrap()));
}
