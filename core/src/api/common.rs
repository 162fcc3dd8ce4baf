//! Shapes that several kinds share: key policy, key references, namespace selectors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySpec {
    /// ECDSA, Ed25519 or RSA.
    pub algorithm: KeyAlgorithm,
    /// Bits: ECDSA 256 or 384, RSA 2048, 3072 or 4096; absent for Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
}

/// One key of a Secret or ConfigMap in the operator's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// Name of the object.
    pub name: String,
    /// Key inside its data.
    pub key: String,
}

/// PEM certificates from exactly one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateSource {
    /// A ConfigMap of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// A Secret of the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// PEM text, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// Namespaces, chosen in exactly one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceSelector {
    /// By name, 1–256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// By labels that must all be present, 1–16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Every namespace; only `true`.
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
