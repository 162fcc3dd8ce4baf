//! `AccessRequest`: the client's need.

use kube_derive::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{AccessStatus, Port, rule};

/// What an identity of this namespace calls.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "AccessRequest",
    plural = "accessrequests",
    namespaced,
    shortname = "areq",
    category = "countersign",
    status = "AccessStatus",
    derive = "PartialEq",
    doc = "The client's need: what an identity of this namespace calls. It opens the way out of this namespace and never a server.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "FROM", type_ = "string", json_path = ".spec.from.serviceAccountName"),
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
pub struct AccessRequestSpec {
    /// Who calls. Example: {serviceAccountName: order}.
    pub from: RequestSource,
    /// What is called, 1–256. Example: `[{namespace: payments, serviceAccountName: payment, ports: [{port: 8443}]}]`.
    #[schemars(schema_with = "rule::request_targets")]
    pub to: Vec<RequestTarget>,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct RequestSource {
    /// A ServiceAccount of this namespace. Example: order.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub service_account_name: String,
}

/// What is called, in exactly one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::exactly_one(&["serviceAccountName", "external", "apiServer"]),
    validation = rule::target_members(),
    validation = rule::only_true("apiServer")
)]
#[serde(rename_all = "camelCase")]
pub struct RequestTarget {
    /// Namespace of the server; with serviceAccountName. Example: payments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rule::namespace_name("one item each"))]
    pub namespace: Option<String>,
    /// The ServiceAccount that is called. Example: payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub service_account_name: Option<String>,
    /// On which ports, 1–64; with serviceAccountName. Example: `[{port: 8443}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::ports")]
    pub ports: Option<Vec<Port>>,
    /// An ExternalService of this namespace: its addresses are called on its ports. Example: card-network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::subdomain())]
    pub external: Option<String>,
    /// The Kubernetes API; only true. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<bool>,
}
