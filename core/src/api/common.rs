//! Shapes that several kinds share: key policy, key references, namespace selectors.

use std::collections::BTreeMap;

use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// Algorithm of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum KeyAlgorithm {
    /// NIST P-256 or P-384 (RFC 5480). The default, accepted everywhere.
    ECDSA,
    /// RFC 8410. Refused by old Java and by FIPS builds.
    Ed25519,
    /// RFC 8017. Large keys cost seconds to make.
    RSA,
}

/// Which private key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KeySpec {
    /// ECDSA (accepted everywhere), RSA (slow), or Ed25519 (refused by Java before 15 and by FIPS builds). Example: ECDSA.
    #[schemars(schema_with = "rule::algorithm")]
    pub algorithm: KeyAlgorithm,
    /// Size in bits: ECDSA 256 or 384; RSA 2048, 3072 or 4096 (seconds to make); absent for Ed25519. Example: 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
}

/// One key of a Secret or ConfigMap in the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object; always one of the operator's namespace. Example: bao-ca.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub name: String,
    /// Key inside its data. Example: ca.crt.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::data_key())]
    pub key: String,
}

/// PEM certificates from exactly one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::exactly_one(&["configMap", "secret", "inline"]))]
#[serde(rename_all = "camelCase")]
pub struct CertificateSource {
    /// A ConfigMap of the operator's namespace. Example: {name: bao-ca, key: ca.crt}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// A Secret of the operator's namespace; only its certificates are read. Example: {name: bao-ca, key: ca.crt}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// PEM text of one or more certificates, at most 64 KiB. Example: "-----BEGIN CERTIFICATE-----…".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub inline: Option<String>,
}

/// Namespaces, chosen in exactly one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::namespace_selector())]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// By name, 1–256. Example: `[shop, payments]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::namespace_names")]
    pub names: Option<Vec<String>>,
    /// By labels that must all be present with these values, 1–16. Example: {team: pay}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::match_labels")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Every namespace; only true. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

impl NamespaceSelector {
    /// Whether the namespace `name` with `labels` is chosen.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.all == Some(true)
            || self.names.as_ref().is_some_and(|names| names.iter().any(|n| n == name))
            || self
                .match_labels
                .as_ref()
                .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(k, v)| labels.get(k) == Some(v)))
    }
}
