//! Closed namespaces as a workload: a client and a server in a namespace each, what both declare, the Segment around
//! them, and the goals.
//!
//! There is no node, so that no pod of a Deployment would ever run; the pods of strangers are written as they are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    history::{Change, Subject, Version, is_ready, is_working},
    maker::Maker,
    plan::Workload,
};

/// ServiceAccount, Deployment and label of the client.
pub const CLIENT: &str = "order";
/// ServiceAccount, Deployment and label of the server.
pub const SERVER: &str = "payment";
/// ServiceAccount and label of a pod in each namespace that nobody declared anything about.
pub const STRANGER: &str = "stranger";
/// The port that is declared first.
pub const PORT: u16 = 8443;
/// The port that an edit puts in its place.
pub const NEXT_PORT: u16 = 9443;
/// A NetworkPolicy of somebody else in each namespace.
pub const BYSTANDER: &str = "bystander";
/// What the Segment asks for, before time is scaled.
pub const SETTLE: Duration = Duration::from_secs(10);

const DECLARATION: &str = "edge";

fn account(name: &str) -> Value {
    json!({"spec": {
        "serviceAccountName": name,
        "automountServiceAccountToken": false,
        "containers": [{"name": "app", "image": "localhost/none:1", "ports": [
            {"name": "https", "containerPort": PORT}, {"name": "next", "containerPort": NEXT_PORT},
        ]}],
    }})
}

impl Maker {
    /// Both namespaces with their pods, and what client and server declare about each other.
    ///
    /// The server grants both ports from the start, so that one write of the client moves the edge from one to the other:
    /// it is declared at each instant.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn two_sides(&self, subject: &Subject) -> Result<()> {
        let (client, server) = sides(subject);
        for (namespace, workload) in [(client, CLIENT), (server, SERVER)] {
            self.create("Namespace", "", namespace, json!({})).await?;
            self.create("ServiceAccount", namespace, workload, json!({})).await?;
            self.create("ServiceAccount", namespace, STRANGER, json!({})).await?;
            self.deployed(namespace, workload).await?;
            let stranger = with(account(STRANGER), "metadata", json!({"labels": {"app": STRANGER}}));
            self.create("Pod", namespace, STRANGER, stranger).await?;
            // It selects nothing, so that it opens and isolates nothing.
            let spec = json!({"spec": {
                "podSelector": {"matchLabels": {"app": "nobody"}}, "policyTypes": ["Ingress"],
            }});
            self.create("NetworkPolicy", namespace, BYSTANDER, spec).await?;
        }
        let grant = json!({"spec": {
            "to": {"serviceAccountName": SERVER},
            "from": [{"namespace": client, "serviceAccountName": CLIENT}],
            "ports": [{"port": PORT}, {"port": NEXT_PORT}],
        }});
        self.create("AccessGrant", server, DECLARATION, grant).await?;
        let request = json!({"spec": {
            "from": {"serviceAccountName": CLIENT},
            "to": [{"namespace": server, "serviceAccountName": SERVER, "ports": [{"port": PORT}]}],
        }});
        self.create("AccessRequest", client, DECLARATION, request).await
    }

    /// A Deployment without a pod: its template says what its pods would be.
    async fn deployed(&self, namespace: &str, name: &str) -> Result<()> {
        let labels = json!({"app": name});
        let template = with(account(name), "metadata", json!({"labels": labels}));
        let spec = json!({"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}});
        self.create("Deployment", namespace, name, spec).await
    }

    /// The Segment.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn segment(&self, subject: &Subject) -> Result<()> {
        let (client, server) = sides(subject);
        let spec = json!({"spec": {
            "namespaces": {"names": [client, server]},
            "mode": "Enforce",
            // There is no DNS in this cluster to be let through.
            "exceptions": {"dns": "Never"},
            "rollout": {"settle": format!("{}s", SETTLE.as_secs()), "maxNamespacesAtOnce": 2},
        }});
        self.create("Segment", "", &subject.identity, spec).await
    }

    /// The client asks for the other port instead.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn other_port(&self, subject: &Subject) -> Result<()> {
        let (client, server) = sides(subject);
        let to = json!([{"namespace": server, "serviceAccountName": SERVER, "ports": [{"port": NEXT_PORT}]}]);
        let patch = Patch::Merge(json!({"spec": {"to": to}}));
        let api = self.api("AccessRequest", client);
        api.patch(DECLARATION, &PatchParams::default(), &patch).await.context("cannot edit the request")?;
        Ok(())
    }

    /// Clears up after a plan, without the operator: the Segment lets go first, so that nobody writes policies again.
    pub async fn clear_sides(&self, subject: &Subject) {
        // What is gone already is no error, and what cannot be deleted disturbs no other plan.
        let segments = self.api("Segment", "");
        let _ = segments.delete(&subject.identity, &DeleteParams::default()).await;
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let _ = segments.patch(&subject.identity, &PatchParams::default(), &free).await;
        let (client, server) = sides(subject);
        let now = DeleteParams::default().grace_period(0);
        for namespace in [client, server] {
            for kind in ["AccessRequest", "AccessGrant", "NetworkPolicy", "Deployment", "Pod"] {
                let _ = self.api(kind, namespace).delete_collection(&now, &ListParams::default()).await;
            }
        }
    }
}

/// Namespaces of client and server.
pub fn sides(subject: &Subject) -> (&str, &str) {
    let server = subject.scope.closed.as_ref().map_or("", |closed| closed.peer.as_str());
    (&subject.scope.namespace, server)
}

/// An object with one field more.
fn with(mut object: Value, name: &str, field: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), field);
    }
    object
}

/// Whether client and server were told something about what they declared.
pub fn is_declared(versions: &[Version]) -> bool {
    ["AccessGrant", "AccessRequest"].into_iter().all(|kind| {
        let last = versions.iter().rfind(|version| version.kind == kind);
        last.is_some_and(|version| !version.condition("Ready").is_empty())
    })
}

/// The policies that are not the bystander's, as text; `None` if there are none.
pub fn written(versions: &[Version]) -> Option<String> {
    let mut left = std::collections::BTreeMap::new();
    for version in versions.iter().filter(|v| v.kind == "NetworkPolicy" && v.name() != BYSTANDER) {
        let key = (version.text("/metadata/namespace"), version.name());
        match version.change {
            Change::Deleted => left.remove(&key),
            _ => left.insert(key, version.object.get("spec").map(Value::to_string).unwrap_or_default()),
        };
    }
    (!left.is_empty()).then(|| format!("{left:?}"))
}

/// Whether a workload has reached its goal, as its objects say it.
pub fn reached(workload: Workload, versions: &[Version]) -> bool {
    let segment = versions.iter().rfind(|version| version.kind == "Segment");
    if workload == Workload::Open {
        return segment.is_some_and(|version| version.change == Change::Deleted) && written(versions).is_none();
    }
    let rests = ["Segment", "AccessGrant", "AccessRequest"]
        .into_iter()
        .all(|kind| is_ready(versions, kind) && !is_working(versions, kind));
    let phases = segment.and_then(|v| v.object.pointer("/status/namespaces")).and_then(Value::as_array);
    let closed = |phase: &Value| phase.get("phase").and_then(Value::as_str) == Some("Closed");
    let is_closed = phases.is_some_and(|phases| phases.len() == 2 && phases.iter().all(closed));
    let policies = written(versions).unwrap_or_default();
    let has = |port: u16| policies.contains(&port.to_string());
    let ports = if workload == Workload::Edit { (NEXT_PORT, PORT) } else { (PORT, NEXT_PORT) };
    rests && is_closed && has(ports.0) && !has(ports.1)
}
