//! `ExternalService`: a named place outside the cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Port, rule};

/// A named place outside the cluster.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "ExternalService",
    plural = "externalservices",
    namespaced,
    shortname = "extsvc",
    category = "countersign",
    status = "ExternalServiceStatus",
    derive = "PartialEq",
    doc = "A named place outside the cluster: addresses and ports that requests of this namespace may call, and grants may let in. Whoever may create one decides what leaves the cluster.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "CIDRS", type_ = "string", json_path = ".spec.cidrs", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ExternalServiceSpec {
    /// Address ranges, 1–64, or the word Any: everywhere outside the cluster, but for cloud metadata. Example: `["203.0.113.0/24"]`.
    #[schemars(schema_with = "rule::external_cidrs")]
    pub cidrs: Vec<String>,
    /// Its ports, 1–64, by number. Example: `[{port: 443}]`.
    #[schemars(schema_with = "rule::numbered_ports")]
    pub ports: Vec<Port>,
}

/// What is true of the place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalServiceStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted; OverlapsCluster, Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}
