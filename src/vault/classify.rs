//! Where foreign errors become our own: every outcome of a request, by status and structure, never
//! by text. Servers word their errors differently, and the words may quote what we sent.

use std::{error::Error, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use http::StatusCode;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    request::{Answer, Call, CallFailed, Request},
    tls::Forbidden,
};

/// What the body of an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    /// A JSON object.
    Object,
    /// A JSON object with a list `errors`: how Vault and OpenBao refuse.
    Errors,
    /// The same with an empty list: how they say that there is nothing at a path.
    Silent,
    /// Starts like a JSON object, but is none.
    Broken,
    /// Anything else: HTML, text, a JSON list.
    Foreign,
}

/// A refusal before it is put into words about a request.
type Verdict = (Class, Reason, &'static str);

/// How long to stay away from a node that is behind.
const LAGGING: Duration = Duration::from_secs(5);

/// Lets a usable answer pass and turns every other one into a failure.
pub(super) fn answer(request: &Request, answer: Answer) -> Result<Answer, CallFailed> {
    let status = answer.status;
    let shape = shape(&answer.body);
    let verdict = match request.call {
        Call::Health => judge_health(status.as_u16(), shape),
        Call::Login
        | Call::Token
        | Call::Sign
        | Call::Issuer
        | Call::Role
        | Call::Capabilities
        | Call::Mount
        | Call::Metadata
        | Call::Values => judge(request.call, status.as_u16(), shape),
    };
    let Err((class, reason, words)) = verdict else { return Ok(answer) };
    let failure = Failure::new(class, reason, format!("{request}: {words} (HTTP {})", status.as_u16()));
    let wish = if status == StatusCode::PRECONDITION_FAILED { Some(LAGGING) } else { answer.retry_after };
    let failure = match wish {
        Some(wish) => failure.retry_after(wish),
        None => failure,
    };
    Err(CallFailed { status: Some(status), failure })
}

fn shape(body: &[u8]) -> Shape {
    #[derive(Deserialize)]
    struct ErrorBody {
        errors: Vec<IgnoredAny>,
    }
    let body = body.trim_ascii();
    if body.is_empty() {
        Shape::Empty
    } else if !body.starts_with(b"{") {
        Shape::Foreign
    } else if let Ok(ErrorBody { errors }) = serde_json::from_slice(body) {
        if errors.is_empty() { Shape::Silent } else { Shape::Errors }
    } else if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        Shape::Object
    } else {
        Shape::Broken
    }
}

const NOT_VAULT: Verdict = (
    Class::Unavailable,
    Reason::NotVault,
    "the answer is not that of a Vault or OpenBao server; check the address and what stands between",
);
const BROKEN: Verdict = (Class::Unavailable, Reason::UpstreamInvalid, "the answer could not be understood");
const AWAY: Verdict = (Class::Unavailable, Reason::VaultUnavailable, "the server answers with an error of its own");
const FAILING: Verdict = (
    Class::Unavailable,
    Reason::BackendFailing,
    "the server answers with an error of its own at this path; look at what stands behind it, and at the server's log",
);
const STANDBY: Verdict = (
    Class::Unavailable,
    Reason::StandbyRedirect,
    "a standby redirects us; enable request forwarding or point `address` at the active node",
);
const SEALED: Verdict = (Class::Unavailable, Reason::VaultSealed, "the server is sealed or not initialised");
const NOTHING: Verdict =
    (Class::Waiting, Reason::RemoteMissing, "there is nothing at this path, or the account may not know of it");
const DELETED: Verdict =
    (Class::Waiting, Reason::RemoteDeleted, "the version was deleted or destroyed; the Secret is kept");
const NO_MOUNT: Verdict =
    (Class::Waiting, Reason::MountMissing, "there is no such mount, or the account may not know of it");
const MALFORMED: Verdict = (Class::Bug, Reason::InternalError, "the server calls our request malformed");

fn judge(call: Call, status: u16, shape: Shape) -> Result<(), Verdict> {
    match (call, status, shape) {
        (Call::Metadata | Call::Values, 404, Shape::Silent) => return Err(NOTHING),
        // The values of a version that was deleted come without values, beside their metadata.
        (Call::Values, 404, Shape::Object) => return Err(DELETED),
        // Of a server that is well otherwise it speaks of this path alone; the breaker tells.
        (Call::Mount | Call::Metadata | Call::Values, 500 | 502, Shape::Errors) => return Err(FAILING),
        _ => {}
    }
    let shape = if shape == Shape::Silent { Shape::Errors } else { shape };
    match (status, shape) {
        (200..=299, Shape::Empty | Shape::Object | Shape::Errors) => Ok(()),
        (200..=299, Shape::Broken) => Err(BROKEN),
        (307 | 308, _) => Err(STANDBY),
        (412 | 472 | 473, _) => Err((
            Class::Unavailable,
            Reason::VaultUnavailable,
            "this node cannot serve us now; it is a replica or behind the active one",
        )),
        (429, _) => Err((Class::Throttled, Reason::Throttled, "the server limits our rate")),
        (501, Shape::Errors | Shape::Object) | (503, Shape::Errors) => Err(SEALED),
        (408 | 500..=599, _) => Err(AWAY),
        // A refusal counts only in the form in which Vault refuses: a firewall's 403 must not cost a login.
        (400 | 401 | 403 | 404 | 405, Shape::Errors) => Err(refusal(call, status)),
        (400..=499, Shape::Errors) => Err(MALFORMED),
        // Success in HTML, a refusal in another form, 1xx, other 3xx: somebody else answers.
        _ => Err(NOT_VAULT),
    }
}

fn refusal(call: Call, status: u16) -> Verdict {
    const LOGIN: Verdict = (
        Class::Denied,
        Reason::LoginFailed,
        "the login is refused; check mount, role, audience and the account they are bound to",
    );
    const ISSUER: Verdict =
        (Class::Invalid, Reason::IssuerNotUsable, "no PKI engine or issuer answers there; check mount and issuer");
    match (call, status) {
        (Call::Login, _) => LOGIN,
        (_, 401 | 403) => {
            (Class::Denied, Reason::AccessDenied, "the server knows us and refuses; check the policy of our role")
        }
        (Call::Token, 400) => (Class::Denied, Reason::LoginFailed, "the server does not extend this token"),
        (Call::Sign, 400) => (
            Class::Invalid,
            Reason::RoleRefused,
            "the issuer's role refuses the request; check its allowed names, key type and lifetime",
        ),
        (Call::Sign | Call::Issuer, 404 | 405) => ISSUER,
        (Call::Role, 404 | 405) => (Class::Invalid, Reason::RoleNotFound, "the issuer's role does not exist"),
        // No engine answers there: the mount was moved or removed since it was looked up.
        (Call::Mount, 400 | 404) | (Call::Metadata | Call::Values, 404) => NO_MOUNT,
        (Call::Metadata | Call::Values, 405) => {
            (Class::Invalid, Reason::NotKv, "what is mounted there is not the KV engine it was")
        }
        (Call::Token | Call::Capabilities | Call::Health, 404 | 405) => NOT_VAULT,
        (
            Call::Token
            | Call::Sign
            | Call::Issuer
            | Call::Role
            | Call::Capabilities
            | Call::Health
            | Call::Mount
            | Call::Metadata
            | Call::Values,
            _,
        ) => MALFORMED,
    }
}

/// Health answers with many codes and always with the same object; what it says is read afterwards.
fn judge_health(status: u16, shape: Shape) -> Result<(), Verdict> {
    match (status, shape) {
        (200 | 429 | 472 | 473 | 501 | 503, Shape::Object) => Ok(()),
        (200 | 429 | 472 | 473, Shape::Broken) => Err(BROKEN),
        (307 | 308, _) => Err(STANDBY),
        // A proxy's own 429 or 5xx: it stands there and cannot reach the server.
        (429, _) => Err((Class::Throttled, Reason::Throttled, "our rate is limited on the way to the server")),
        (408 | 500..=599, _) => Err(AWAY),
        _ => Err(NOT_VAULT),
    }
}

/// A request that got no complete answer.
pub(super) fn transport(request: &Request, error: &reqwest::Error) -> CallFailed {
    let (reason, words) = if error.is_builder() {
        return CallFailed { status: None, failure: internal(&format!("{request}: the request cannot be built")) };
    } else if let Some(tls) = below::<rustls::Error>(error) {
        (Reason::TLSFailed, tls_words(tls))
    } else if below::<Forbidden>(error).is_some() {
        let words =
            "the name resolves to a loopback, link-local, metadata or API server address, which is never contacted";
        (Reason::AddressForbidden, words)
    } else if error.is_timeout() {
        (Reason::VaultUnavailable, "no connection within 3 s")
    } else if error.is_connect() {
        (Reason::VaultUnavailable, "no connection; the name does not resolve or nobody listens")
    } else {
        (Reason::VaultUnavailable, "the connection broke before the answer was complete")
    };
    unanswered(request, reason, words)
}

/// No complete answer within the connection's deadline.
pub(super) fn deadline(request: &Request) -> CallFailed {
    unanswered(request, Reason::VaultUnavailable, "no complete answer within the deadline")
}

/// An answer above the size we read.
pub(super) fn oversized(request: &Request) -> CallFailed {
    unanswered(request, Reason::UpstreamInvalid, "the answer is above 2 MiB and was cut")
}

fn unanswered(request: &Request, reason: Reason, words: &str) -> CallFailed {
    CallFailed { status: None, failure: Failure::new(Class::Unavailable, reason, format!("{request}: {words}")) }
}

/// An answer that is JSON, but not the JSON we asked for.
pub(super) fn misunderstood(request: &Request) -> Failure {
    let (class, reason, words) = BROKEN;
    Failure::new(class, reason, format!("{request}: {words}"))
}

/// An answer that no Vault and no OpenBao gives.
pub(super) fn not_vault(request: &Request) -> Failure {
    let (class, reason, words) = NOT_VAULT;
    Failure::new(class, reason, format!("{request}: {words}"))
}

/// A credential of ours that cannot be sent at all.
pub(super) fn unusable_credential() -> Failure {
    let words = "the login credential has bytes that no credential has, perhaps a trailing newline";
    Failure::new(Class::Denied, Reason::LoginFailed, words)
}

/// A token that was given to us and that the server does not know.
pub(super) fn unknown_token(request: &Request) -> Failure {
    let words = "the server does not know the token of `auth.token`, or it may not look itself up";
    Failure::new(Class::Denied, Reason::LoginFailed, format!("{request}: {words}"))
}

/// A state of ours that must not exist.
pub(super) fn internal(words: &str) -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, words)
}

/// An error of type `E` somewhere below a transport error.
fn below<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // `io::Error::source` skips the error it wraps and answers with that one's source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn tls_words(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "TLS failed: name; the server's certificate is for another name, see `tls.serverName`",
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "TLS failed: time; the server's certificate is not valid now",
        Error::InvalidCertificate(_) => "TLS failed: trust; the server's certificate does not lead to a CA of `tls.ca`",
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "TLS failed: version; the server offers no TLS 1.2 or 1.3 that we accept"
        }
        // The enum of a foreign crate grows; what it adds is still a failed handshake.
        _ => "TLS failed: handshake; what listens there does not speak TLS as a server should",
    }
}

#[cfg(test)]
mod tests;
