//! `TrustDomain`: a SPIFFE trust domain, its issuer and its rules for names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateSource, KeySpec, NamespaceSelector, rule};

/// A SPIFFE trust domain: who signs, and which names may be signed.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustDomain",
    plural = "trustdomains",
    shortname = "td",
    category = "countersign",
    status = "TrustDomainStatus",
    derive = "PartialEq",
    doc = "A SPIFFE trust domain: who signs its certificates, and which names may be signed for whom. Cluster-scoped; written by the platform.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "DOMAIN", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "ISSUER", type_ = "string", json_path = ".spec.issuer.vault.mount"),
    printcolumn(
        name = "EXPIRES",
        type_ = "string",
        json_path = r#".status.authorities[?(@.state=="Active")].notAfter"#
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct TrustDomainSpec {
    /// Name of the SPIFFE trust domain, lower case, at most 255 characters; immutable, since it is in every identity.
    /// Example: prod.example.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::trust_domain_name(), validation = rule::immutable("name"))]
    pub name: String,
    /// Who signs; exactly one member. Example: {vault: {connection: main, mount: pki_int, role: workload}}.
    pub issuer: IssuerSpec,
    /// What an identity gets when it does not say. Default: 24h, ECDSA 256, no short names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<DomainDefaults>,
    /// Bounds on signing. Default: 50 signatures per second, 8 at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<DomainLimits>,
    /// Names beyond the caller's own ServiceAccount and Services, at most 64 rules. Default: none may be asked for.
    /// Example: `[{namespaces: {matchLabels: {team: pay}}, dnsNames: ["*.pay.internal"]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<AllowRule>,
    /// true stops all signing in this domain; stored certificates stay. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Who signs; exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::exactly_one(&["vault", "embedded"]))]
#[serde(rename_all = "camelCase")]
pub struct IssuerSpec {
    /// A PKI mount of Vault or OpenBao. Example: {connection: main, mount: pki_int, role: workload}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultIssuer>,
    /// An authority of our own; its key is kept in the operator's namespace. Example: {lifetime: 8760h}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedIssuer>,
}

/// A PKI mount of Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct VaultIssuer {
    /// Name of the VaultConnection. Example: main.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub connection: String,
    /// PKI mount, at most 16 segments. Example: pki_int.
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = rule::path_segments(),
        validation = rule::path_bounds(),
        validation = rule::path_not_reserved()
    )]
    pub mount: String,
    /// PKI role, at most 128 characters. Example: workload.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::path_segment())]
    pub role: String,
    /// The trust anchors, from exactly one place. Default: the self-signed end of the issuer's chain at the first read, then pinned in the status.
    /// Example: {configMap: {name: corp-roots, key: ca.crt}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<CertificateSource>,
}

/// An authority of our own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedIssuer {
    /// Key of the authority: ECDSA 256 or 384. Default: ECDSA 256. Example: {algorithm: ECDSA, size: 384}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::authority_key())]
    pub key: Option<KeySpec>,
    /// Lifetime of the authority, a duration from 24h to 87600h. Default: 8760h. Example: 17520h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("lifetime", "24h", "87600h"))]
    pub lifetime: Option<String>,
}

/// What an identity gets when it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct DomainDefaults {
    /// Lifetime of a leaf, a duration from 1h to 2160h. Default: 24h. Example: 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("ttl", "1h", "2160h"))]
    pub ttl: Option<String>,
    /// Key of a leaf. Default: ECDSA 256. Example: {algorithm: RSA, size: 3072}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::leaf_key())]
    pub key: Option<KeySpec>,
    /// true adds the names `api.<namespace>` and `api` for a Service `api`; they are not unique across namespaces. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_names: Option<bool>,
}

/// Bounds on signing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainLimits {
    /// Signatures per second, 1–10000. Default: 50. Example: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub signs_per_second: Option<i32>,
    /// Signatures under way at once, 1–256. Default: 8. Example: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub in_flight: Option<i32>,
}

/// Names that some namespaces may ask for beyond their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// Who may; exactly one member. Example: {matchLabels: {team: pay}}.
    pub namespaces: NamespaceSelector,
    /// DNS names, at most 64: an exact name, or `*.suffix` for everything below the suffix. Default: none. Example: `["*.pay.internal"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::dns_patterns")]
    pub dns_names: Vec<String>,
    /// Address ranges as CIDRs in canonical form, at most 64, never /0. Default: none. Example: `[10.0.0.0/8]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::ip_ranges")]
    pub ip_ranges: Vec<String>,
    /// The longest lifetime they may ask for, a duration from 1h to 2160h. Default: the domain's default ttl. Example: 168h.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "maxTTL")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("maxTTL", "1h", "2160h"))]
    pub max_ttl: Option<String>,
}

/// What is true of the domain and its authorities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustDomainStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The authorities of this domain, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub authorities: Vec<Authority>,
    /// The last value of the annotation countersign.dev/requested-at that was acted on. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_request: Option<String>,
    /// Ready, IssuerReachable, Accepted; AuthorityExpiring while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}

/// One authority: a CA key pair that signs leaves.
///
/// Read strictly, unlike the rest of the status: dropping what is unreadable would pin its root anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// `sha256:` and the hex SHA-256 of its public key (SubjectPublicKeyInfo). Example: sha256:9c….
    #[schemars(length(max = 128))]
    pub id: String,
    /// Active (it signs) or Draining (it no longer signs; its leaves are still trusted). Example: Active.
    pub state: AuthorityState,
    /// The issuer's id in the PKI mount; absent for an embedded authority. Example: 0f6c1b52-….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub issuer_ref: Option<String>,
    /// The authority's certificate, PEM. Example: "-----BEGIN CERTIFICATE-----…".
    #[schemars(length(max = 65536))]
    pub certificate: String,
    /// The trust anchor above it (itself if self-signed), PEM; pinned at the first read. Example: "-----BEGIN CERTIFICATE-----…".
    #[schemars(length(max = 65536))]
    pub root: String,
    /// End of the authority's certificate. Example: 2028-01-01T00:00:00Z.
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
