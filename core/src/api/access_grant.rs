//! `AccessGrant`: the server's consent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EdgeCounts, EdgeStatus, Port, SelectedWorkload, rule};

/// Who may call an identity of this namespace, and on which ports.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "AccessGrant",
    plural = "accessgrants",
    namespaced,
    shortname = "agrant",
    category = "countersign",
    status = "AccessStatus",
    derive = "PartialEq",
    doc = "The server's consent: who may call an identity of this namespace, and on which ports. Alone it opens nothing where the segment asks for both sides.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "TO", type_ = "string", json_path = ".spec.to.serviceAccountName"),
    printcolumn(name = "LIVE", type_ = "integer", json_path = ".status.counts.live"),
    printcolumn(name = "PENDING", type_ = "integer", json_path = ".status.counts.pending"),
    printcolumn(
        name = "MESSAGE",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct AccessGrantSpec {
    /// Who may be called. Example: {serviceAccountName: payment}.
    pub to: GrantTarget,
    /// Who may call, 1–256. Example: `[{namespace: shop, serviceAccountName: order}]`.
    #[schemars(schema_with = "rule::grant_sources")]
    pub from: Vec<GrantSource>,
    /// On which ports, 1–64. Example: `[{port: 8443}]`.
    #[schemars(schema_with = "rule::ports")]
    pub ports: Vec<Port>,
}

/// Who may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::exactly_one(&["serviceAccountName", "all"]),
    validation = rule::only_true("all")
)]
#[serde(rename_all = "camelCase")]
pub struct GrantTarget {
    /// A ServiceAccount of this namespace. Example: payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub service_account_name: Option<String>,
    /// Every identity of this namespace; only true. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// Who may call, in exactly one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::exactly_one(&["serviceAccountName", "all", "allNamespaces", "external"]),
    validation = rule::source_namespace(),
    validation = rule::only_true("all"),
    validation = rule::only_true("allNamespaces")
)]
#[serde(rename_all = "camelCase")]
pub struct GrantSource {
    /// Namespace of the callers; with serviceAccountName or all. Example: shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rule::namespace_name("allNamespaces: true"))]
    pub namespace: Option<String>,
    /// One ServiceAccount of that namespace. Example: order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub service_account_name: Option<String>,
    /// Every pod of that namespace; only true. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Every pod of every namespace; only true. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_namespaces: Option<bool>,
    /// An ExternalService of this namespace: its addresses may call. Example: office.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub external: Option<String>,
}

/// What is true of the edges of a grant or a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The edges it takes part in, the first 200. Example: `[{peer: shop/order, ports: [TCP 8443], state: Live}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub edges: Vec<EdgeStatus>,
    /// How many there are in each state. Example: {live: 1, observed: 0, pending: 0, refused: 0}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<EdgeCounts>,
    /// The workloads of the identity it speaks for, the first 64, and the labels that select exactly their pods. Example: `[{serviceAccountName: payment, kind: Deployment, name: payment, selector: app=payment, matchedPods: 2}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub workloads: Vec<SelectedWorkload>,
    /// Ready, Accepted; Unresolved, SelectorAmbiguous, LabelSpoofed, Reconciling, Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}
