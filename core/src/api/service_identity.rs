//! `ServiceIdentity`: a ServiceAccount's certificate, kept in a Secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeySpec, Reason};
use crate::fault::Class;

/// A ServiceAccount's certificate, issued by a trust domain and kept in a Secret.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ServiceIdentity",
    plural = "serviceidentities",
    namespaced,
    shortname = "sid",
    category = "countersign",
    status = "ServiceIdentityStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceIdentitySpec {
    /// Name of the `TrustDomain` object.
    pub trust_domain: String,
    /// The ServiceAccount of this namespace whose identity it is; immutable.
    pub service_account_name: String,
    /// Services of this namespace whose names the certificate carries; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Further DNS names; each needs an allow rule unless it lies directly below a listed Service; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// IP addresses; each needs an allow rule; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Lifetime asked for, 1h–2160h; default: the trust domain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Which private key to make; default: the trust domain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySpec>,
    /// Renew this long before the end; default: at two thirds of the lifetime received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    /// The Secret that is written.
    pub secret: IdentitySecret,
    /// `true` stops all action on this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// The Secret that is written: type `kubernetes.io/tls`, keys `tls.crt`, `tls.key`, `ca.crt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentitySecret {
    /// Name of the Secret; immutable.
    pub name: String,
    /// Labels to put on it; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on it; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What happens to the Secret when this object is deleted; default Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What happens to a target when its owner is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It goes with its owner (an ownerReference, so this works without the operator).
    Delete,
    /// It stays.
    Retain,
}

/// What is true of the stored certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceIdentityStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The SPIFFE ID of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// Serial number of the stored certificate, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// `sha256:` and the hex SHA-256 of the stored certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Id of the authority that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Start of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// End of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// When it will be renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// How many certificates were stored for this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Recent signatures by window; the storm guard's memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<IssueWindow>,
    /// The last failure that is still being retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// The last value of `countersign.dev/requested-at` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Ready, Issued, Accepted; Reconciling, Stalled, RenewalOverdue, ExpiringSoon, FieldConflict, Suspended while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Length of a window of the storm guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Window {
    /// Ten minutes.
    TenMinutes,
    /// One day.
    Day,
}

/// Signatures in one window of the storm guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssueWindow {
    /// Which window.
    pub window: Window,
    /// Its start.
    pub since: Time,
    /// Signatures since then.
    pub count: i32,
}

/// A failure that is still being retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// The named cause.
    pub reason: Reason,
    /// Decides the next try.
    pub class: Class,
    /// When it last happened.
    pub at: Time,
    /// How often in a row.
    pub attempts: i32,
    /// What we said about it.
    #[serde(default)]
    pub message: String,
}
