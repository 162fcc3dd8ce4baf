//! `TrustDomain`: a SPIFFE trust domain, its issuer and its rules for names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateSource, KeySpec, NamespaceSelector};

/// A SPIFFE trust domain: who signs, and which names may be signed.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustDomain",
    plural = "trustdomains",
    shortname = "td",
    category = "countersign",
    status = "TrustDomainStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustDomainSpec {
    /// The SPIFFE trust domain, for example `prod.example`; immutable.
    pub name: String,
    /// Who signs; exactly one member.
    pub issuer: IssuerSpec,
    /// What an identity gets when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<DomainDefaults>,
    /// Bounds on signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<DomainLimits>,
    /// Names beyond the caller's own ServiceAccount and Services; absent = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<AllowRule>,
    /// `true` stops all signing in this domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Who signs; exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerSpec {
    /// A PKI mount of Vault or OpenBao.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultIssuer>,
    /// An authority of our own; its key is kept in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedIssuer>,
}

/// A PKI mount of Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultIssuer {
    /// Name of the `VaultConnection`.
    pub connection: String,
    /// PKI mount, for example `pki_int`.
    pub mount: String,
    /// PKI role, for example `workload`.
    pub role: String,
    /// The trust anchors; absent = the self-signed end of the issuer's chain at the first read, then pinned in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<CertificateSource>,
}

/// An authority of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbeddedIssuer {
    /// Key of the authority: ECDSA 256 (default) or 384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySpec>,
    /// Lifetime of the authority, 24h–87600h; default 8760h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<String>,
}

/// What an identity gets when it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainDefaults {
    /// Lifetime of a leaf, 1h–2160h; default 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Key of a leaf; default ECDSA 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySpec>,
    /// Also `api.<namespace>` and `api` for a Service `api`; these are not unique, so the default is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_names: Option<bool>,
}

/// Bounds on signing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainLimits {
    /// Signatures per second, 1–10000; default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs_per_second: Option<i32>,
    /// Signatures under way at once, 1–256; default 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<i32>,
}

/// Names that some namespaces may ask for beyond their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowRule {
    /// Who may.
    pub namespaces: NamespaceSelector,
    /// DNS names: an exact name, or `*.suffix` for everything below it; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// Address ranges as CIDRs; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<String>,
    /// The longest lifetime they may ask for; absent = the domain's default.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "maxTTL")]
    pub max_ttl: Option<String>,
}

/// What is true of the domain and its authorities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustDomainStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The authorities of this domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<Authority>,
    /// The last value of `countersign.dev/requested-at` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Ready, IssuerReachable, Accepted; AuthorityExpiring while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One authority: a CA key pair that signs leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// `sha256:` and the hex SHA-256 of its public key (SubjectPublicKeyInfo).
    pub id: String,
    /// Whether it signs.
    pub state: AuthorityState,
    /// The issuer's id in the PKI mount; absent for an embedded authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<String>,
    /// The authority's certificate, PEM.
    pub certificate: String,
    /// The trust anchor above it (itself if self-signed), PEM; pinned at the first read.
    pub root: String,
    /// End of the authority's certificate.
    pub not_after: Time,
}

/// Whether an authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorityState {
    /// It signs new leaves.
    Active,
    /// It no longer signs; its leaves are still trusted.
    Draining,
}
