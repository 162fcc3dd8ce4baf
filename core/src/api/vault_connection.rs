//! `VaultConnection`: the Vault or OpenBao server and how we log in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateSource, KeyRef};

/// The Vault or OpenBao server, and how the operator logs in to it.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "VaultConnection",
    plural = "vaultconnections",
    shortname = "vconn",
    category = "countersign",
    status = "VaultConnectionStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultConnectionSpec {
    /// `https` URL of the server, without credentials, query or fragment.
    pub address: String,
    /// Vault Enterprise or OpenBao namespace; 1–8 segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_namespace: Option<String>,
    /// How the server's certificate is verified.
    pub tls: ConnectionTls,
    /// The operator's own login; exactly one member.
    pub auth: ConnectionAuth,
    /// Bounds on what the operator asks of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ConnectionLimits>,
    /// `true` stops all use of this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// How the server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionTls {
    /// The CA certificates; required unless `systemRoots` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// Name to verify instead of the address's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Trust the public web's roots as well (built into the binary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_roots: Option<bool>,
}

/// The operator's own login; exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionAuth {
    /// Kubernetes auth method: a token of the operator's ServiceAccount, reviewed by the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<JwtAuth>,
    /// JWT auth method: the same token, verified by its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// AppRole auth method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleAuth>,
    /// A token kept in a Secret of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
}

/// A login with a projected ServiceAccount token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuth {
    /// Mount of the auth method, for example `kubernetes`.
    pub mount: String,
    /// Role of the auth method.
    pub role: String,
    /// Audience of the token; must be among the chart's `tokenAudiences`.
    pub audience: String,
}

/// A login with a role id and a secret id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppRoleAuth {
    /// Mount of the auth method, for example `approle`.
    pub mount: String,
    /// The role id, which is not a secret.
    pub role_id: String,
    /// Where the secret id is kept.
    pub secret_id: SecretSource,
}

/// A token kept in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenAuth {
    /// The Secret of the operator's namespace.
    pub secret: KeyRef,
}

/// A value kept in a Secret of the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSource {
    /// The Secret of the operator's namespace.
    pub secret: KeyRef,
}

/// Bounds on what the operator asks of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionLimits {
    /// Requests per second, 1–10000; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,
    /// Requests under way at once, 1–1000; default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<i32>,
    /// Deadline of one request, 1s–60s; default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// What is true of the server and our login.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultConnectionStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Vault` or `OpenBao`, as far as its health answer tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the server is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Server clock minus ours, whole seconds as a Go duration; written when it moves by a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<String>,
    /// When the current login ends if it is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_at: Option<Time>,
    /// The last value of `countersign.dev/requested-at` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Ready, Reachable, Authenticated; Sealed, Throttled, TokenExpiring, ClockSkew while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
