//! One case: who is there beside the scene, which policies, and what they let pass.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Table;

/// One case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is about; no other case has it.
    pub name: String,
    /// Pods that are other than in the scene.
    #[serde(default)]
    pub pods: BTreeMap<String, Value>,
    /// Ends beside the pods. On a cluster, one that is the address of a pod is that pod, and no other is asked about.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// One key each, `namespace/name`, and the spec.
    pub policies: Vec<BTreeMap<String, Value>>,
    /// What the text of the API says.
    pub table: Table,
    /// What is particular about it on a cluster with Cilium; absent where both are the same.
    pub cilium: Option<Cilium>,
}

impl Case {
    /// Each policy: its namespace, its name and its spec.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.policies.iter().flatten().map(|(id, spec)| {
            let (namespace, name) = id.split_once('/').unwrap_or(("", id));
            (namespace, name, spec)
        })
    }
}

/// Why a case is not simply the same on a cluster with Cilium.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Cilium {
    /// It enforces something else than the text of the API says.
    Differs {
        /// What it makes of it, and why nothing of ours depends on that.
        why: String,
        /// What it lets pass.
        table: Table,
    },
    /// The API server does not store these policies; the reason.
    Refused(String),
    /// A cluster cannot be brought there; the reason.
    Unplayable(String),
}
