//! `VaultConnection`: the Vault or OpenBao server and how we log in.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateSource, KeyRef, NamespaceSelector, rule};

/// The Vault or OpenBao server, and how the operator logs in to it.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "VaultConnection",
    plural = "vaultconnections",
    shortname = "vconn",
    category = "countersign",
    status = "VaultConnectionStatus",
    derive = "PartialEq",
    doc = "A Vault or OpenBao server and how the operator logs in to it. Cluster-scoped; written by the platform.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "PRODUCT", type_ = "string", json_path = ".status.product"),
    printcolumn(name = "VERSION", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "ADDRESS", type_ = "string", json_path = ".spec.address", priority = 1),
    printcolumn(name = "TOKEN-EXPIRES", type_ = "string", json_path = ".status.tokenExpiresAt", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct VaultConnectionSpec {
    /// URL of the server: https, no credentials, query or fragment; a change logs in again. Example: `https://bao.infra.svc:8200`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = rule::https_url())]
    pub address: String,
    /// Namespace of Vault Enterprise or OpenBao, 1–8 segments, at most 256 characters. Default: the root namespace. Example: team-a.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::vault_namespace())]
    pub vault_namespace: Option<String>,
    /// How the server's certificate is verified; it always is. Example: {ca: {configMap: {name: bao-ca, key: ca.crt}}}.
    pub tls: ConnectionTls,
    /// The operator's own login; exactly one member. Example: {kubernetes: {mount: kubernetes, role: countersign, audience: vault}}.
    pub auth: ConnectionAuth,
    /// Bounds on what the operator asks of the server. Default: 50 requests per second, 32 at once, 10s each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ConnectionLimits>,
    /// Who may ask the server for what, at most 128; of each source the first that fits namespace, path and type of the Secret decides.
    /// Default: nobody. Example: `[{namespaces: {names: [shop]}, as: ServiceAccount, role: tenant, paths: ["secret/{namespace}/**"]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub grants: Vec<ConnectionGrant>,
    /// true stops all use of this connection. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Who may ask the server for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::role_given())]
#[serde(rename_all = "camelCase")]
pub struct ConnectionGrant {
    /// Which namespaces it admits. Example: {names: [shop]}.
    pub namespaces: NamespaceSelector,
    /// Who logs in: ServiceAccount (the binding's own account, so that the server's policy is a second wall) or
    /// Operator (our own login; this grant is then the only wall). Example: ServiceAccount.
    #[serde(rename = "as")]
    pub as_: GrantedIdentity,
    /// Role that the ServiceAccount logs in under, at the mount of `auth`; {namespace} and {serviceAccount} stand for theirs.
    /// Required with `as: ServiceAccount`. The role must bind namespace and account. Example: tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = rule::role_pattern())]
    pub role: Option<String>,
    /// Mount and path, 1–64 patterns: `*` stands for characters inside a segment, `**` at the end for one or more segments,
    /// {namespace} and {serviceAccount} for the binding's own. Example: `["secret/{namespace}/**"]`.
    #[schemars(schema_with = "rule::path_patterns")]
    pub paths: Vec<String>,
    /// Types a Secret may have, 1–16. Default: `[Opaque]`. Example: `[Opaque, kubernetes.io/tls]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::secret_types")]
    pub secret_types: Vec<String>,
    /// true lets `as: Operator` cover a whole mount, as in secret/**. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// Who logs in for a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GrantedIdentity {
    /// The ServiceAccount of the binding.
    ServiceAccount,
    /// The operator.
    Operator,
}

/// How the server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::trust_given())]
#[serde(rename_all = "camelCase")]
pub struct ConnectionTls {
    /// The CA certificates, from exactly one place; required unless systemRoots is true. Example: {configMap: {name: bao-ca, key: ca.crt}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// Name to verify, where it is not the host of the address. Default: that host. Example: bao.infra.svc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    #[x_kube(validation = rule::host_name())]
    pub server_name: Option<String>,
    /// true trusts the public web's roots as well; they are built into the operator. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_roots: Option<bool>,
}

/// The operator's own login; exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::exactly_one(&["kubernetes", "jwt", "appRole", "token"])
)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionAuth {
    /// Kubernetes auth method: a token of the operator's ServiceAccount, which the server has reviewed by the API server.
    /// Example: {mount: kubernetes, role: countersign, audience: vault}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<JwtAuth>,
    /// JWT auth method: the same token, which the server verifies by its signature. Example: {mount: jwt, role: countersign, audience: vault}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// AppRole auth method, for an operator outside the server's reach.
    /// Example: {mount: approle, roleId: 7d…, secretId: {secret: {name: bao-login, key: secret-id}}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleAuth>,
    /// A token kept in a Secret of the operator's namespace, for trials. Example: {secret: {name: bao-token, key: token}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
}

/// A login with a projected ServiceAccount token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// Mount of the auth method, without auth/ in front; at most 16 segments. Example: kubernetes.
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = rule::path_segments(),
        validation = rule::path_bounds(),
        validation = rule::path_not_reserved()
    )]
    pub mount: String,
    /// Role of the auth method, at most 128 characters. Example: countersign.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::path_segment())]
    pub role: String,
    /// Audience of the token; must be among the chart's tokenAudiences, so that a token for this server serves nowhere else. Example: vault.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
}

/// A login with a role id and a secret id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AppRoleAuth {
    /// Mount of the auth method, without auth/ in front; at most 16 segments. Example: approle.
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = rule::path_segments(),
        validation = rule::path_bounds(),
        validation = rule::path_not_reserved()
    )]
    pub mount: String,
    /// The role id, which is not a secret. Example: 7d1f63ab-0b44-4b0c-a2a6-9a2b1f5f7d11.
    #[schemars(length(min = 1, max = 512))]
    pub role_id: String,
    /// Where the secret id is kept. Example: {secret: {name: bao-login, key: secret-id}}.
    pub secret_id: SecretSource,
}

/// A token kept in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The Secret of the operator's namespace. Example: {name: bao-token, key: token}.
    pub secret: KeyRef,
}

/// A value kept in a Secret of the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSource {
    /// The Secret of the operator's namespace. Example: {name: bao-login, key: secret-id}.
    pub secret: KeyRef,
}

/// Bounds on what the operator asks of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimits {
    /// Requests per second, 1–10000. Default: 50. Example: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub requests_per_second: Option<i32>,
    /// Requests under way at once, 1–1000. Default: 32. Example: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: Option<i32>,
    /// Deadline of one request, a duration from 1s to 60s. Default: 10s. Example: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("timeout", "1s", "60s"))]
    pub timeout: Option<String>,
}

/// What is true of the server and our login.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultConnectionStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Vault or OpenBao, as far as its health answer tells. Example: OpenBao.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub product: Option<String>,
    /// The server's version. Example: 2.7.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Whether the server is sealed. Example: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Server clock minus ours, whole seconds as a duration; written when it moves by a minute. Example: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub clock_skew: Option<String>,
    /// When the current login ends if it is not renewed. Example: 2027-01-01T01:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_at: Option<Time>,
    /// The last value of the annotation countersign.dev/requested-at that was acted on. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_request: Option<String>,
    /// Ready, Reachable, Authenticated; Sealed, Throttled, TokenExpiring, ClockSkew while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}
