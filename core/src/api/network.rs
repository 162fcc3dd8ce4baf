//! Shapes that the kinds about the network share: ports, edges in a status.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// A port, several consecutive ones, or every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"), validation = rule::end_port())]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// A number from 1 to 65535, the name of a container port of the server (at most 15 characters), or the word All for every port of every protocol. Example: 8443.
    #[schemars(schema_with = "rule::port_number_or_name")]
    pub port: IntOrString,
    /// Last port of a range that begins with `port`, which must be a number then. Default: that one port. Example: 8450.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// TCP, UDP or SCTP. Default: TCP. Example: UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PortProtocol")]
    pub protocol: Option<PortProtocol>,
}

/// The protocols that a NetworkPolicy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PortProtocol {
    /// The default.
    TCP,
    /// User datagrams.
    UDP,
    /// Stream control transmission; not every data plane knows it.
    SCTP,
}

/// Where an edge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EdgePhase {
    /// Open at every end that is closed.
    Live,
    /// It would be open; a segment only observes.
    Observed,
    /// It waits for the other half.
    Pending,
    /// It cannot be opened; the reason says why.
    Refused,
}

/// One edge that an object takes part in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStatus {
    /// The other end: <namespace>/<serviceAccountName>. Example: shop/order.
    #[schemars(length(max = 512))]
    pub peer: String,
    /// The ports on which it is open, or would be. Example: `[TCP 8443]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub ports: Vec<String>,
    /// Live, Observed, Pending or Refused. Example: Live.
    pub state: EdgePhase,
    /// The named cause, unless it is Live or Observed. Example: PortsDisjoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule::reason")]
    pub reason: Option<String>,
}

/// How many edges there are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCounts {
    /// Open. Example: 3.
    pub live: i64,
    /// Would be open; a segment only observes. Example: 0.
    pub observed: i64,
    /// Waiting for the other half. Example: 1.
    pub pending: i64,
    /// Cannot be opened. Example: 0.
    pub refused: i64,
}

/// The workloads that run as an identity, and the labels that select exactly their pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectedWorkload {
    /// The ServiceAccount they run as. Example: payment.
    #[schemars(length(max = 253))]
    pub service_account_name: String,
    /// Kind of the workload; Pods for pods without one. Example: Deployment.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name. Example: payment.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The labels that select it, as in `kubectl get pods -l`; absent where none select it exactly. Example: app=payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// How many live pods they match. Example: 2.
    pub matched_pods: i64,
}
