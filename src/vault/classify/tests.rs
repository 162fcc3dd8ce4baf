//! One table or test for each arm of the classification.

use http::StatusCode;
use zeroize::Zeroizing;

use super::{
    super::{health, request::ApiPath},
    *,
};

const CALLS: [Call; 6] = [Call::Login, Call::Token, Call::Sign, Call::Issuer, Call::Role, Call::Capabilities];
const SHAPES: [Shape; 5] = [Shape::Empty, Shape::Object, Shape::Errors, Shape::Broken, Shape::Foreign];

fn verdict(call: Call, status: u16, shape: Shape) -> Option<(Class, Reason)> {
    judge(call, status, shape).err().map(|(class, reason, _)| (class, reason))
}

/// Every call, these statuses, these shapes: one expected verdict.
fn all(statuses: &[u16], shapes: &[Shape], expected: Option<(Class, Reason)>) {
    for call in CALLS {
        for status in statuses {
            for shape in shapes {
                assert_eq!(verdict(call, *status, *shape), expected, "{call:?} {status} {shape:?}");
            }
        }
    }
}

#[test]
fn a_body_is_known_by_its_structure() {
    for (body, expected) in [
        ("", Shape::Empty),
        (" \n", Shape::Empty),
        (r#"{"data":{}}"#, Shape::Object),
        (r#" {"errors":["text"]}"#, Shape::Errors),
        (r#"{"errors":[]}"#, Shape::Silent),
        (r#"{"errors":"text"}"#, Shape::Object),
        (r#"{"errors":null}"#, Shape::Object),
        (r#"{"data":{"certifi"#, Shape::Broken),
        (r#"{"data":1} trailing"#, Shape::Broken),
        ("<html></html>", Shape::Foreign),
        ("[]", Shape::Foreign),
        ("OK", Shape::Foreign),
        ("null", Shape::Foreign),
    ] {
        assert_eq!(shape(body.as_bytes()), expected, "{body:?}");
    }
    let deep = format!("{}{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    assert_eq!(shape(deep.as_bytes()), Shape::Broken, "a tower of objects is refused, not climbed");
}

#[test]
fn success_is_success_only_in_json() {
    all(&[200, 204], &[Shape::Empty, Shape::Object, Shape::Errors], None);
    all(&[200], &[Shape::Broken], Some((Class::Unavailable, Reason::UpstreamInvalid)));
    all(&[200], &[Shape::Foreign], Some((Class::Unavailable, Reason::NotVault)));
}

#[test]
fn redirects_lag_and_rate_are_the_same_for_every_call_and_body() {
    all(&[307, 308], &SHAPES, Some((Class::Unavailable, Reason::StandbyRedirect)));
    all(&[412, 472, 473, 408], &SHAPES, Some((Class::Unavailable, Reason::VaultUnavailable)));
    all(&[429], &SHAPES, Some((Class::Throttled, Reason::Throttled)));
    all(&[300, 301, 302, 304, 100], &SHAPES, Some((Class::Unavailable, Reason::NotVault)));
}

#[test]
fn server_errors_are_unavailable_and_sealed_only_in_vaults_own_words() {
    all(&[500, 502, 504, 599], &SHAPES, Some((Class::Unavailable, Reason::VaultUnavailable)));
    all(&[501, 503], &[Shape::Errors], Some((Class::Unavailable, Reason::VaultSealed)));
    all(&[501], &[Shape::Object], Some((Class::Unavailable, Reason::VaultSealed)));
    let foreign = [Shape::Empty, Shape::Broken, Shape::Foreign];
    all(&[501, 503], &foreign, Some((Class::Unavailable, Reason::VaultUnavailable)));
}

#[test]
fn an_error_of_the_servers_own_speaks_of_the_path_that_was_read_and_of_nobody_else() {
    let failing = Some((Class::Unavailable, Reason::BackendFailing));
    let away = Some((Class::Unavailable, Reason::VaultUnavailable));
    for call in [Call::Mount, Call::Metadata, Call::Values] {
        for (status, shape, expected) in [
            (500, Shape::Errors, failing),
            (502, Shape::Errors, failing),
            (504, Shape::Errors, away),
            (500, Shape::Foreign, away),
            (502, Shape::Empty, away),
            (503, Shape::Errors, Some((Class::Unavailable, Reason::VaultSealed))),
        ] {
            assert_eq!(verdict(call, status, shape), expected, "{call:?} {status} {shape:?}");
        }
    }
}

#[test]
fn a_refusal_in_another_form_is_somebody_elses() {
    let foreign = [Shape::Empty, Shape::Object, Shape::Broken, Shape::Foreign];
    all(&[400, 401, 403, 404, 405, 418], &foreign, Some((Class::Unavailable, Reason::NotVault)));
}

#[test]
fn a_refusal_means_what_the_call_was_for() {
    use Call::{Capabilities, Issuer, Login, Role, Sign, Token};
    let login = (Class::Denied, Reason::LoginFailed);
    let denied = (Class::Denied, Reason::AccessDenied);
    let issuer = (Class::Invalid, Reason::IssuerNotUsable);
    let role = (Class::Invalid, Reason::RoleNotFound);
    let refused = (Class::Invalid, Reason::RoleRefused);
    let foreign = (Class::Unavailable, Reason::NotVault);
    let bug = (Class::Bug, Reason::InternalError);
    let table = [
        (400, [login, login, refused, bug, bug, bug]),
        (401, [login, denied, denied, denied, denied, denied]),
        (403, [login, denied, denied, denied, denied, denied]),
        (404, [login, foreign, issuer, issuer, role, foreign]),
        (405, [login, foreign, issuer, issuer, role, foreign]),
        (413, [bug; 6]),
        (422, [bug; 6]),
    ];
    for (status, expected) in table {
        let calls = [Login, Token, Sign, Issuer, Role, Capabilities];
        for (call, expected) in calls.into_iter().zip(expected) {
            assert_eq!(verdict(call, status, Shape::Errors), Some(expected), "{call:?} {status}");
        }
    }
}

#[test]
fn health_is_an_answer_whatever_its_code() {
    let verdict = |status, shape| judge_health(status, shape).err().map(|(class, reason, _)| (class, reason));
    for status in [200, 429, 472, 473, 501, 503] {
        assert_eq!(verdict(status, Shape::Object), None, "{status}");
    }
    let away = Some((Class::Unavailable, Reason::VaultUnavailable));
    for (status, shape, expected) in [
        (200, Shape::Foreign, Some((Class::Unavailable, Reason::NotVault))),
        (200, Shape::Broken, Some((Class::Unavailable, Reason::UpstreamInvalid))),
        (200, Shape::Empty, Some((Class::Unavailable, Reason::NotVault))),
        (204, Shape::Object, Some((Class::Unavailable, Reason::NotVault))),
        (307, Shape::Empty, Some((Class::Unavailable, Reason::StandbyRedirect))),
        (404, Shape::Errors, Some((Class::Unavailable, Reason::NotVault))),
        (429, Shape::Foreign, Some((Class::Throttled, Reason::Throttled))),
        (408, Shape::Empty, away),
        (500, Shape::Object, away),
        (502, Shape::Foreign, away),
        (503, Shape::Errors, away),
        (503, Shape::Foreign, away),
    ] {
        assert_eq!(verdict(status, shape), expected, "{status} {shape:?}");
    }
}

fn answered(status: u16, retry_after: Option<Duration>, body: &str) -> Result<Answer, CallFailed> {
    let status = StatusCode::from_u16(status).unwrap();
    let body = Zeroizing::new(body.as_bytes().to_vec());
    answer(&Request::post(Call::Sign, ApiPath::fixed("pki/sign")), Answer { status, retry_after, body })
}

fn failed(status: u16, retry_after: Option<Duration>, body: &str) -> CallFailed {
    answered(status, retry_after, body).err().unwrap()
}

#[test]
fn a_failure_names_the_request_and_never_the_servers_words() {
    let failed = failed(403, None, r#"{"errors":["canary: permission denied"]}"#);
    assert_eq!(failed.status, Some(StatusCode::FORBIDDEN));
    assert!(failed.is_forbidden());
    assert!(failed.failure.message.starts_with("POST /v1/pki/sign: "), "{}", failed.failure.message);
    assert!(!format!("{failed:?}").contains("canary"));
}

#[test]
fn a_firewalls_403_is_no_refusal_of_our_token() {
    assert!(!failed(403, None, "<html>blocked</html>").is_forbidden());
}

#[test]
fn the_servers_wish_is_kept_and_a_lagging_node_is_left_alone_for_5_seconds() {
    let wish = Some(Duration::from_secs(7));
    assert_eq!(failed(429, wish, "").failure.retry_after, wish);
    assert_eq!(failed(503, wish, "").failure.retry_after, wish);
    assert_eq!(failed(429, None, "").failure.retry_after, None);
    assert_eq!(failed(412, None, "").failure.retry_after, Some(LAGGING));
    assert!(answered(200, None, r#"{"data":{}}"#).is_ok());
}

#[test]
fn what_never_arrived_is_unavailable() {
    let request = health::request();
    for (failed, reason) in
        [(deadline(&request), Reason::VaultUnavailable), (oversized(&request), Reason::UpstreamInvalid)]
    {
        assert_eq!((failed.status, failed.failure.class, failed.failure.reason), (None, Class::Unavailable, reason));
    }
    assert_eq!((misunderstood(&request).class, misunderstood(&request).reason), (BROKEN.0, BROKEN.1));
    assert_eq!((not_vault(&request).class, not_vault(&request).reason), (NOT_VAULT.0, NOT_VAULT.1));
    assert_eq!((internal("x").class, internal("x").reason), (Class::Bug, Reason::InternalError));
    for failure in [unusable_credential(), unknown_token(&request)] {
        assert_eq!((failure.class, failure.reason), (Class::Denied, Reason::LoginFailed));
    }
}

#[test]
fn every_kind_of_tls_error_has_its_class() {
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
    let table = [
        (Error::InvalidCertificate(CertificateError::NotValidForName), "name"),
        (Error::InvalidCertificate(CertificateError::Expired), "time"),
        (Error::InvalidCertificate(CertificateError::NotValidYet), "time"),
        (Error::InvalidCertificate(CertificateError::UnknownIssuer), "trust"),
        (Error::InvalidCertificate(CertificateError::BadSignature), "trust"),
        (Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13), "version"),
        (Error::AlertReceived(AlertDescription::ProtocolVersion), "version"),
        (Error::AlertReceived(AlertDescription::HandshakeFailure), "handshake"),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "handshake"),
    ];
    for (error, class) in table {
        assert!(tls_words(&error).starts_with(&format!("TLS failed: {class};")), "{error}");
    }
}
