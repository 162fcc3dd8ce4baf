//! `SecretBinding`: values of Vault or OpenBao, kept in one Secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeletionPolicy, rule};

/// Values of a Vault or OpenBao server, brought into one Secret.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "SecretBinding",
    plural = "secretbindings",
    namespaced,
    shortname = "sbind",
    category = "countersign",
    status = "SecretBindingStatus",
    derive = "PartialEq",
    doc = "Values of a Vault or OpenBao server, brought into one Secret and kept up to date. A refresh is all or nothing: while one source cannot be read, the Secret stays whole as it was.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "SECRET", type_ = "string", json_path = ".spec.secret.name"),
    printcolumn(name = "SYNCED", type_ = "string", json_path = r#".status.conditions[?(@.type=="Synced")].status"#),
    printcolumn(name = "CONNECTION", type_ = "string", json_path = ".spec.connection", priority = 1),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Synced")].message"#,
        priority = 1
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SecretBindingSpec {
    /// Name of the VaultConnection; one of its grants must admit this namespace, the paths and the Secret's type. Example: main.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub connection: String,
    /// The ServiceAccount of this namespace that reads; required where the grant says `as: ServiceAccount`. Example: checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub service_account_name: Option<String>,
    /// When the sources are read again. Default: every 15m. Example: {every: 5m}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
    /// What is read, 1–16, each under a name of its own. Example: `[{name: app, kv: {mount: secret, path: shop/checkout}}]`.
    #[schemars(schema_with = "rule::sources")]
    pub sources: Vec<BindingSource>,
    /// The Secret that is written. Example: {name: checkout-env, data: [{each: app}]}.
    pub secret: BindingSecret,
    /// true stops all action on this object; the Secret stays as it is. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// When the sources are read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// How often, a duration from 30s to 24h; bindings of one path and account read it at the same moments. Default: 15m. Example: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("every", "30s", "24h"))]
    pub every: Option<String>,
    /// Auto (every so often), Once (until the Secret was written once) or OnChange (when this object changes or is asked to). Default: Auto. Example: OnChange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RefreshMode")]
    pub mode: Option<RefreshMode>,
}

/// What makes a binding read its sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RefreshMode {
    /// Time.
    Auto,
    /// Nothing, once the Secret was written.
    Once,
    /// A change of the object, or the annotation countersign.dev/requested-at.
    OnChange,
}

/// One source: a name and where its values are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::exactly_one(&["kv"]))]
#[serde(rename_all = "camelCase")]
pub struct BindingSource {
    /// What `data` calls it, a DNS-1123 label. Example: app.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rule::label())]
    pub name: String,
    /// A secret of a KV engine, version 1 or 2, whichever the mount is. Example: {mount: secret, path: shop/checkout}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvSource>,
}

/// A secret of a KV engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KvSource {
    /// Mount of the engine. Example: secret.
    #[schemars(length(max = 1024))]
    #[x_kube(
        validation = rule::path_segments(),
        validation = rule::path_bounds(),
        validation = rule::path_not_reserved()
    )]
    pub mount: String,
    /// Path below the mount, without data/ in front. Example: shop/checkout.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::path_segments(), validation = rule::path_bounds())]
    pub path: String,
    /// Version to stay at, 1–2147483647; KV version 2 only. Default: the current one. Example: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub version: Option<i64>,
}

/// The Secret that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::secret_type(),
    validation = rule::tls_keys(),
    validation = rule::type_immutable()
)]
#[serde(rename_all = "camelCase")]
pub struct BindingSecret {
    /// Name of the Secret, in this namespace; immutable. A Secret that is not ours is never overwritten. Example: checkout-env.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain(), validation = rule::immutable("secret.name"))]
    pub name: String,
    /// Type of the Secret; one that the grant admits, never a credential for the cluster; immutable. Default: Opaque. Example: kubernetes.io/tls.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub type_: Option<String>,
    /// What happens to the Secret when this object is deleted: Delete (it goes, even while the operator is down) or Retain (it stays).
    /// Default: Delete. Example: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")] // else the type's description would stand instead of this one
    pub deletion_policy: Option<DeletionPolicy>,
    /// Labels to put on it, at most 32. Default: none but our own. Example: {team: pay}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rule::target_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on it, at most 32 of 4,096 characters. Default: none but our own. Example: {owner: pay}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rule::target_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Its keys, 1–64 entries in their order; two entries never give one key. Example: `[{each: app}, {key: DB_USER, from: db.username}]`.
    #[schemars(schema_with = "rule::entries")]
    pub data: Vec<DataEntry>,
}

/// Keys of the Secret: either every key of a source, or one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::exactly_one(&["each", "from"]), validation = rule::entry_members())]
#[serde(rename_all = "camelCase")]
pub struct DataEntry {
    /// Every key of this source. Example: app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub each: Option<String>,
    /// With `each`: put in front of every key, after its case was changed. Default: nothing. Example: APP_.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub prefix: Option<String>,
    /// With `each`: Upper or Lower. Default: as the source has it. Example: Upper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeyCase")]
    pub case: Option<KeyCase>,
    /// With `each`: only keys that match this regular expression of the Rust crate `regex`, at most 128 characters. Default: every key. Example: "^[a-z]".
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub match_: Option<String>,
    /// The key of the Secret; with `from`. Example: DB_USER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::data_key())]
    pub key: Option<String>,
    /// A source, a dot, and a key of it: first as it stands, else as a path into nested values. Example: db.username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub from: Option<String>,
    /// With `from`: how the value is written at the source: None, Base64 or Hex. Default: None. Example: Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decoding")]
    pub decode: Option<Decoding>,
    /// What becomes of a value that is no text: Refuse, or JSON (its compact JSON text). Default: Refuse. Example: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NonString")]
    pub non_string: Option<NonString>,
}

/// How the keys of a source are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyCase {
    /// In upper case.
    Upper,
    /// In lower case.
    Lower,
}

/// How a value is written at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Decoding {
    /// As it is.
    None,
    /// In base64 (RFC 4648), standard or URL-safe, with or without padding and white space.
    Base64,
    /// In hexadecimal digits.
    Hex,
}

/// What becomes of a value that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NonString {
    /// The refresh fails.
    Refuse,
    /// Its compact JSON text is taken, unless a number would lose digits.
    JSON,
}

/// What is true of the Secret and its sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretBindingStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Secret as it was last written. Example: {name: checkout-env, contentHash: "1f…:9c…"}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<WrittenSecret>,
    /// The sources as they were last read. Example: `[{name: app, version: 7, phase: Current}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub sources: Vec<SourceStatus>,
    /// The last value of the annotation countersign.dev/requested-at that was acted on. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_request: Option<String>,
    /// Ready, Synced, Accepted; Reconciling, Stalled, Stale, SourceMissing, FieldConflict, Suspended while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}

/// The Secret as it was last written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenSecret {
    /// Its name. Example: checkout-env.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Keyed hash of its content. Example: 1f….
    #[schemars(length(max = 256))]
    pub content_hash: String,
    /// When its content last changed. Example: 2027-01-01T00:00:00Z.
    pub changed_at: Time,
}

/// A source as it was last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name. Example: app.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Version that is in the Secret; KV version 2 only. Example: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Pending, Current, Missing, Deleted, Denied or Failing. Example: Current.
    pub phase: SourcePhase,
    /// When it was last seen to be so; written with another change only, or when it is old. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
}

/// What a source was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SourcePhase {
    /// It was not read yet.
    Pending,
    /// The Secret has its values.
    Current,
    /// There is nothing at its path, or a key of it is missing.
    Missing,
    /// The server says that its version was deleted or destroyed.
    Deleted,
    /// The server refuses to show it.
    Denied,
    /// It could not be read, or its values cannot be used.
    Failing,
}
