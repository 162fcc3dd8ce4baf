//! Tables over parse, decide and report of a connection.

mod calls;
mod specs;
mod status;

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        AppRoleAuth, CertificateSource, ConditionType, ConnectionAuth, ConnectionLimits, ConnectionTls, JwtAuth,
        KeyRef, REQUESTED_AT, Reason, SecretSource, TokenAuth, VaultConnection, VaultConnectionSpec,
        VaultConnectionStatus,
    },
    connection::{
        address::Surroundings,
        decide::{Connection, decide},
        intent::{CaSource, Intent, Limits, Login, Problem, Rejection, parse},
        report::{rejected, report},
        world::{
            CaView, CredentialView, Effect, Health, LoginAttempt, Outcome, Probed, Product, Reply, ServerState,
            SessionView, Settled, World,
        },
    },
    fault::{Class, Failure},
    next::{Machine, Next},
    value::x509::{Certificate, Leaf, Roots, X509Fault},
};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    now() + seconds.seconds()
}

fn key(name: &str) -> KeyRef {
    KeyRef { name: name.to_owned(), key: "value".to_owned() }
}

fn no_auth() -> ConnectionAuth {
    ConnectionAuth { kubernetes: None, jwt: None, app_role: None, token: None }
}

fn jwt(audience: &str) -> JwtAuth {
    JwtAuth { mount: "kubernetes".to_owned(), role: "countersign".to_owned(), audience: audience.to_owned() }
}

fn object() -> VaultConnection {
    let spec = VaultConnectionSpec {
        address: "https://bao.infra.svc:8200".to_owned(),
        vault_namespace: None,
        tls: ConnectionTls {
            ca: Some(CertificateSource { config_map: Some(key("bao-ca")), secret: None, inline: None }),
            server_name: None,
            system_roots: None,
        },
        auth: ConnectionAuth { kubernetes: Some(jwt("vault")), ..no_auth() },
        limits: None,
        grants: Vec::new(),
        suspend: None,
    };
    let mut object = VaultConnection::new("main", spec);
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.generation = Some(3);
    object
}

fn intent() -> Intent {
    parse(&object(), &Surroundings::test()).unwrap()
}

fn requested() -> Intent {
    Intent { requested: Some("now".to_owned()), ..intent() }
}

fn roots() -> Roots {
    let mut roots = Roots::default();
    roots.insert(Certificate::test(Leaf::test_authority("bao"))).unwrap();
    roots
}

fn health(state: ServerState) -> Health {
    Health { product: Product::OpenBao, version: "2.7.2".to_owned(), state, skew: 0 }
}

/// Probed ten seconds ago, logged in for fifty minutes more.
fn world() -> World {
    World {
        ca: CaView::Found(roots()),
        credential: CredentialView::NotNeeded,
        health: Some(Probed { at: at(-10), failures: 0, result: Ok(health(ServerState::Serving)) }),
        session: SessionView::Live { ends: Some(at(3_000)), due: Some(at(1_800)) },
        login_failure: None,
        outage: None,
        throttled_since: None,
        handled_request: None,
        probed: false,
    }
}

fn away() -> Failure {
    Failure::new(Class::Unavailable, Reason::VaultUnavailable, "the server does not answer")
}

fn refused() -> Failure {
    Failure::new(Class::Denied, Reason::LoginFailed, "the login was refused")
}

fn down(failures: u32, failure: Failure) -> World {
    World { health: Some(Probed { at: at(0), failures, result: Err(failure) }), ..world() }
}

fn attempt(seconds: i64, generation: i64) -> LoginAttempt {
    LoginAttempt { at: at(seconds), attempts: 1, generation, failure: refused() }
}
