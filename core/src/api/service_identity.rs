//! `ServiceIdentity`: a ServiceAccount's certificate, kept in a Secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{KeySpec, Reason, rule};
use crate::fault::Class;

/// A ServiceAccount's certificate, issued by a trust domain and kept in a Secret.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
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
    doc = "A ServiceAccount's certificate: issued by a trust domain, renewed in time, kept in a Secret of type kubernetes.io/tls with the keys tls.crt, tls.key and ca.crt.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "SECRET", type_ = "string", json_path = ".spec.secret.name"),
    printcolumn(name = "EXPIRES", type_ = "string", json_path = ".status.notAfter"),
    printcolumn(name = "RENEWS", type_ = "string", json_path = ".status.renewAt"),
    printcolumn(name = "SPIFFE-ID", type_ = "string", json_path = ".status.spiffeId", priority = 1),
    printcolumn(name = "SERIAL", type_ = "string", json_path = ".status.serial", priority = 1),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::duration_less("renewBefore", "ttl"))]
#[serde(rename_all = "camelCase")]
pub struct ServiceIdentitySpec {
    /// Name of the TrustDomain object (not the SPIFFE name). Example: prod.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub trust_domain: String,
    /// The ServiceAccount of this namespace whose identity it is; immutable, since it is the identity.
    /// Example: api, which in namespace pay becomes `spiffe://prod.example/ns/pay/sa/api`.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain(), validation = rule::immutable("serviceAccountName"))]
    pub service_account_name: String,
    /// Services of this namespace whose DNS names the certificate carries, at most 64. Default: none.
    /// Example: `[api]`, which becomes api.pay.svc and api.pay.svc.cluster.local.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::services")]
    pub services: Vec<String>,
    /// Further DNS names, at most 64; each needs an allow rule of the trust domain unless it lies directly below a listed Service.
    /// A wildcard may be the first label above at least two more. Default: none. Example: `[api.pay.internal]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::dns_names")]
    pub dns_names: Vec<String>,
    /// Unicast IP addresses, at most 64; each needs an allow rule of the trust domain. Default: none. Example: `[10.0.0.7]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::ip_addresses")]
    pub ip_addresses: Vec<String>,
    /// Lifetime asked for, a duration from 1h to 2160h; the issuer may shorten it, the status says what was received.
    /// Default: the trust domain's. Example: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("ttl", "1h", "2160h"))]
    pub ttl: Option<String>,
    /// Which private key to make; a new one for every certificate. Default: the trust domain's. Example: {algorithm: ECDSA, size: 256}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::leaf_key())]
    pub key: Option<KeySpec>,
    /// Renew this long before the end, a duration from 1h to 2160h and less than ttl.
    /// Default: at two thirds of the lifetime received, spread over the objects. Example: 8h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("renewBefore", "1h", "2160h"))]
    pub renew_before: Option<String>,
    /// The Secret that is written. Example: {name: api-tls}.
    pub secret: IdentitySecret,
    /// true stops all action on this object; the Secret stays as it is. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// The Secret that is written: type `kubernetes.io/tls`, keys `tls.crt`, `tls.key`, `ca.crt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct IdentitySecret {
    /// Name of the Secret, in this namespace; immutable. A Secret that is not ours is never overwritten. Example: api-tls.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain(), validation = rule::immutable("secret.name"))]
    pub name: String,
    /// Labels to put on it, at most 32. Default: none but our own. Example: {team: pay}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rule::target_labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to put on it, at most 32 of 4,096 characters. Default: none but our own. Example: {owner: pay}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "rule::target_annotations")]
    pub annotations: BTreeMap<String, String>,
    /// What happens to the Secret when this object is deleted: Delete (it goes, even while the operator is down) or Retain (it stays).
    /// Default: Delete. Example: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")] // else the type's description would stand instead of this one
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
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The SPIFFE ID of the certificate. Example: `spiffe://prod.example/ns/pay/sa/api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub spiffe_id: Option<String>,
    /// Serial number of the stored certificate, hex. Example: 4f1c0b.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub serial: Option<String>,
    /// `sha256:` and the hex SHA-256 of the stored certificate. Example: sha256:9c….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub fingerprint: Option<String>,
    /// Id of the authority that signed it, as in the trust domain's status. Example: sha256:41….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub authority: Option<String>,
    /// Start of its validity. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// End of its validity. Example: 2027-01-02T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// When it will be renewed. Example: 2027-01-01T16:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// How many certificates were stored for this object. Example: 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Signatures bought recently, by window: the memory of the guard against storms.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[schemars(length(max = 64))]
    pub issues: Vec<IssueWindow>,
    /// The last failure that is still being retried; absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub last_failure: Option<LastFailure>,
    /// The last value of the annotation countersign.dev/requested-at that was acted on. Example: 2027-01-01T00:00:00Z.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_request: Option<String>,
    /// Ready, Issued, Accepted; Reconciling, Stalled, RenewalOverdue, ExpiringSoon, FieldConflict, Suspended while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
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
    /// Which window: TenMinutes or Day. Example: Day.
    pub window: Window,
    /// Its start. Example: 2027-01-01T00:00:00Z.
    pub since: Time,
    /// Signatures since then. Example: 2.
    pub count: i32,
}

/// A failure that is still being retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// The named cause. Example: VaultSealed.
    #[schemars(schema_with = "rule::reason")]
    pub reason: Reason,
    /// Its class, which decides the next try. Example: Unavailable.
    pub class: Class,
    /// When it last happened. Example: 2027-01-01T00:00:00Z.
    pub at: Time,
    /// How often in a row. Example: 4.
    pub attempts: i32,
    /// What we said about it, at most 1,024 characters. Example: the server is sealed.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Hash of what it was about; when that changes, the back-off is forgotten. Example: 41….
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub inputs: String,
}

/// Reads what this binary can read: a status written by a newer one may name a cause or window that
/// is unknown here, and such a detail must not keep a certificate from being renewed.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_of_a_newer_version_is_still_read() {
        let status: ServiceIdentityStatus = serde_json::from_value(json!({
            "serial": "4f",
            "issues": [{"window": "Fortnight", "since": "2027-01-01T00:00:00Z", "count": 1}],
            "lastFailure": {"reason": "NotYetInvented", "class": "Invalid", "at": "2027-01-01T00:00:00Z", "attempts": 1},
            "unheardOf": true,
        }))
        .unwrap();
        let expected = ServiceIdentityStatus { serial: Some("4f".to_owned()), ..ServiceIdentityStatus::default() };
        assert_eq!(status, expected);
    }
}
