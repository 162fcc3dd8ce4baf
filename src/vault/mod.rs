//! The fence around HTTP to Vault and OpenBao: nothing outside it names an HTTP client, a status
//! code or a server's JSON, and nothing leaves it but plain values and our own [`Failure`].
//!
//! A [`VaultClient`] is one connection: pinned TLS, one deadline, one pace, one breaker. A [`Session`]
//! is one login on it, shared by everybody who acts under that identity. It must not know Kubernetes:
//! whoever builds a session hands in the roots, the credential and the time. Called by
//! `controllers::connection` (health, login), `controllers::binding` (secrets) and `issuers::vault_pki` (issuers,
//! signatures).
//!
//! [`Failure`]: countersign_core::fault::Failure

mod classify;
mod client;
mod endpoints;
mod health;
mod kv;
mod request;
mod session;
mod sign;
mod tenants;
mod tls;
mod turns;

pub use client::{ConnectionSettings, Limits, Observation, VaultClient};
pub use endpoints::{IssuerInfo, IssuerSettings, ListedIssuer, RoleInfo, SignAnswer, SignRequest, sign_path};
pub use health::{Health, Product};
pub use request::Call;
pub use session::{Credential, Session, SessionCounters};
pub use tenants::{Tenant, Tenants};
pub use tls::Roots;
pub use turns::asked_by;
