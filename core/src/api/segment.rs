//! `Segment`: namespaces that are closed by default.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EdgeCounts, rule};

/// Namespaces in which a connection that nobody declared is closed.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "Segment",
    plural = "segments",
    shortname = "seg",
    category = "countersign",
    status = "SegmentStatus",
    derive = "PartialEq",
    doc = "Namespaces in which a connection that nobody declared is closed: each gets a default-deny NetworkPolicy, and one for each workload with what its grants and requests allow. Observe first: it writes nothing and says what would break.",
    printcolumn(name = "READY", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "REASON", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "MODE", type_ = "string", json_path = ".status.mode"),
    printcolumn(name = "LIVE", type_ = "integer", json_path = ".status.edges.live"),
    printcolumn(name = "PENDING", type_ = "integer", json_path = ".status.edges.pending"),
    printcolumn(
        name = "ENFORCED",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Enforced")].status"#,
        priority = 1
    ),
    printcolumn(name = "DATA-PLANE", type_ = "string", json_path = ".status.dataPlane.name", priority = 1),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    crates(kube_core = "::kube_core")
)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::protects_system())]
#[serde(rename_all = "camelCase")]
pub struct SegmentSpec {
    /// Which namespaces; of two segments with one namespace the younger leaves it out. Example: {names: [shop, payments]}.
    pub namespaces: SegmentNamespaces,
    /// true lets it close kube-system and the operator's own namespace. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Off (nothing of ours exists), Observe (compiled and reported, nothing written) or Enforce. Default: Observe. Example: Enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SegmentMode")]
    pub mode: Option<SegmentMode>,
    /// Which directions are closed. Default: both. Example: `[Ingress]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::directions")]
    pub directions: Option<Vec<Direction>>,
    /// Both (the server grants and the client requests) or ServerOnly (a grant alone opens). Default: Both. Example: ServerOnly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SegmentConsent")]
    pub consent: Option<SegmentConsent>,
    /// What passes without being declared. Default: name resolution, and the Kubernetes API on request. Example: {apiServer: All}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<SegmentExceptions>,
    /// How namespaces are closed. Default: one at a time, 10s apart, and only if nothing would break. Example: {settle: 5s}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<SegmentRollout>,
    /// true stops all action on this object; the policies stay as they are. Default: false. Example: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Namespaces, chosen in exactly one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    crates(kube_core = "::kube_core"),
    validation = rule::segment_namespaces(),
    validation = rule::namespaces_named()
)]
#[serde(rename_all = "camelCase")]
pub struct SegmentNamespaces {
    /// By name, 1–256. Example: `[shop, payments]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::namespace_texts")]
    pub names: Option<Vec<String>>,
    /// By labels that must all be present with these values, 1–16. Example: {team: pay}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::match_labels")]
    pub match_labels: Option<std::collections::BTreeMap<String, String>>,
}

/// What a segment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SegmentMode {
    /// Nothing of ours exists.
    Off,
    /// Compiled and reported; nothing is written.
    Observe,
    /// Written.
    Enforce,
}

/// A direction of traffic, seen from the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Into them.
    Ingress,
    /// Out of them.
    Egress,
}

/// Who must agree to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SegmentConsent {
    /// The server and the client.
    Both,
    /// The server.
    ServerOnly,
}

/// What passes without being declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SegmentExceptions {
    /// Name resolution of the cluster: Auto (found and let through) or Never. Default: Auto. Example: Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AutoOrNever")]
    pub dns: Option<AutoOrNever>,
    /// The Kubernetes API: OnRequest (for who requests it), All or Never. Default: OnRequest. Example: All.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiServerAccess")]
    pub api_server: Option<ApiServerAccess>,
    /// Probes of the kubelet: Auto (as the data plane lets them) or Nodes (from the addresses of the nodes). Default: Auto. Example: Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProbeSource")]
    pub probes: Option<ProbeSource>,
}

/// Whether something is found and let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AutoOrNever {
    /// It is.
    Auto,
    /// It is not.
    Never,
}

/// Who may reach the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApiServerAccess {
    /// Who requests it.
    OnRequest,
    /// Every pod of the namespaces.
    All,
    /// Nobody.
    Never,
}

/// From where probes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProbeSource {
    /// From the own node, which always passes.
    Auto,
    /// From the addresses of the nodes, for data planes that break it.
    Nodes,
}

/// How namespaces are closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct SegmentRollout {
    /// How long after a write the data plane is taken to have followed, 0s to 10m. Default: 10s. Example: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = rule::duration(), validation = rule::duration_between("settle", "0s", "10m"))]
    pub settle: Option<String>,
    /// How many namespaces may be between open and closed at a time, 1–100. Default: 1. Example: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_namespaces_at_once: Option<i32>,
    /// When a connection with evidence would break: Hold (nothing is closed) or Proceed. Default: Hold. Example: Proceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WouldBreakAction")]
    pub on_would_break: Option<WouldBreakAction>,
}

/// What is done when a connection would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WouldBreakAction {
    /// Nothing is closed.
    Hold,
    /// It is closed all the same.
    Proceed,
}

/// What is true of the namespaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentStatus {
    /// Generation of the spec this status speaks of; -1 before the first pass. Example: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The mode in effect: Off, Observe or Enforce. Example: Observe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub mode: Option<String>,
    /// The namespaces it has, and how far each is closed. Example: `[{name: shop, phase: Closed}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub namespaces: Vec<SegmentNamespace>,
    /// Identities that run in its namespaces. Example: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities: Option<i64>,
    /// The edges that begin or end in its namespaces. Example: {live: 1, observed: 0, pending: 0, refused: 0}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgeCounts>,
    /// What passes without being declared, one line each. Example: `["shop: egress to kube-system k8s-app=kube-dns UDP 53 (DNS)"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)))]
    pub exceptions: Vec<String>,
    /// Connections with evidence that closing would break, the first 100. Example: `[{from: shop/order, to: payments/payment, missing: [Grant], evidence: HalfDeclared}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub would_break: Vec<WouldBreakItem>,
    /// How many there are in all. Example: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_break_total: Option<i64>,
    /// NetworkPolicies of others in its namespaces, <namespace>/<name>; they can open more than is declared. Example: `[shop/legacy]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub foreign_policies: Vec<String>,
    /// What enforces the policies, as far as is known. Example: {name: Cilium, evidence: Guessed}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlaneStatus>,
    /// Ready, Compiled, Applied, Enforced; WouldBreak, Conflict, Unresolved, LabelSpoofed, ForeignPolicyWidens, Reconciling, Stalled, Suspended while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "rule::conditions")]
    pub conditions: Vec<Condition>,
}

/// How far a namespace is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SegmentNamespace {
    /// Its name. Example: shop.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Open, Opening (policies are being withdrawn), Closing (policies are written, the deny follows) or Closed. Example: Closed.
    pub phase: NamespacePhase,
}

/// How far a namespace is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NamespacePhase {
    /// Nothing of ours is there.
    Open,
    /// Policies are written and the deny follows.
    Closing,
    /// The deny stands, with all that is declared.
    Closed,
    /// Policies are being withdrawn, the deny first.
    Opening,
}

/// A connection that closing would break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WouldBreakItem {
    /// The client: <namespace>/<serviceAccountName>. Example: shop/order.
    #[schemars(length(max = 512))]
    pub from: String,
    /// The server: <namespace>/<serviceAccountName>. Example: payments/payment.
    #[schemars(length(max = 512))]
    pub to: String,
    /// What is missing: Request or Grant. Example: `[Grant]`.
    #[schemars(length(max = 2))]
    pub missing: Vec<MissingHalf>,
    /// How it is known: HalfDeclared (one of the two halves was declared). Example: HalfDeclared.
    #[schemars(length(max = 63))]
    pub evidence: String,
}

/// What an edge lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MissingHalf {
    /// The client's need.
    Request,
    /// The server's consent.
    Grant,
}

/// What enforces the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// Its name; Unknown where nothing is known. Example: Cilium.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Guessed (its agents were seen) or None. Example: Guessed.
    #[schemars(length(max = 63))]
    pub evidence: String,
}
