//! Which specs are taken.

use super::*;

#[test]
fn a_spec_is_parsed() {
    let intent = intent();
    assert_eq!(intent.server.ca, Some(CaSource::ConfigMap(key("bao-ca"))));
    assert_eq!(intent.limits, Limits { requests_per_second: 50, in_flight: 32, timeout: Duration::from_secs(10) });
    assert_eq!((intent.generation, intent.login.credential()), (3, None));

    let mut object = object();
    object.spec.auth = ConnectionAuth { token: Some(TokenAuth { secret: key("token") }), ..no_auth() };
    let login = parse(&object, &Surroundings::test()).unwrap().login;
    assert_eq!(login, Login::Token { secret: key("token") });
    assert_eq!(login.credential(), Some(&key("token")));
}

#[test]
fn bad_specs_are_rejected_with_their_field() {
    type Change = fn(&mut VaultConnectionSpec);
    let cases: &[(Change, &str, Reason)] = &[
        (|spec| spec.address = "http://bao".to_owned(), "spec.address", Reason::InvalidSpec),
        (|spec| spec.address = "https://169.254.169.254".to_owned(), "spec.address", Reason::AddressForbidden),
        (|spec| spec.address = "https://localhost:8200".to_owned(), "spec.address", Reason::AddressForbidden),
        (|spec| spec.vault_namespace = Some("../root".to_owned()), "spec.vaultNamespace", Reason::InvalidSpec),
        (|spec| spec.vault_namespace = Some("a//b".to_owned()), "spec.vaultNamespace", Reason::InvalidSpec),
        (|spec| spec.tls.ca = None, "spec.tls.ca", Reason::InvalidSpec),
        (
            |spec| spec.tls.ca = Some(CertificateSource { config_map: None, secret: None, inline: None }),
            "spec.tls.ca",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let inline = Some("-----BEGIN PRIVATE KEY-----".to_owned());
                spec.tls.ca = Some(CertificateSource { config_map: None, secret: None, inline });
            },
            "spec.tls.ca.inline",
            Reason::CABundleInvalid,
        ),
        (|spec| spec.tls.server_name = Some("a b".to_owned()), "spec.tls.serverName", Reason::InvalidSpec),
        (|spec| spec.auth = no_auth(), "spec.auth", Reason::InvalidSpec),
        (|spec| spec.auth.jwt = Some(jwt("vault")), "spec.auth", Reason::InvalidSpec),
        (
            |spec| spec.auth.kubernetes = Some(jwt("https://elsewhere")),
            "spec.auth.kubernetes.audience",
            Reason::AudienceNotAllowed,
        ),
        (
            |spec| spec.auth.kubernetes = Some(JwtAuth { mount: "sys/x".to_owned(), ..jwt("vault") }),
            "spec.auth.kubernetes.mount",
            Reason::InvalidSpec,
        ),
        (
            |spec| spec.auth.kubernetes = Some(JwtAuth { role: "a/b".to_owned(), ..jwt("vault") }),
            "spec.auth.kubernetes.role",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let secret_id = SecretSource { secret: key("id") };
                let app_role = AppRoleAuth { mount: "..".to_owned(), role_id: "x".to_owned(), secret_id };
                spec.auth = ConnectionAuth { app_role: Some(app_role), ..no_auth() };
            },
            "spec.auth.appRole.mount",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                let timeout = Some("61s".to_owned());
                spec.limits = Some(ConnectionLimits { requests_per_second: None, in_flight: None, timeout });
            },
            "spec.limits.timeout",
            Reason::InvalidSpec,
        ),
        (
            |spec| {
                spec.limits = Some(ConnectionLimits { requests_per_second: Some(0), in_flight: None, timeout: None });
            },
            "spec.limits.requestsPerSecond",
            Reason::InvalidSpec,
        ),
    ];
    for (change, field, reason) in cases {
        let mut object = object();
        change(&mut object.spec);
        let rejection = parse(&object, &Surroundings::test()).unwrap_err();
        assert_eq!((rejection.field, rejection.reason()), (*field, *reason));
    }
}
