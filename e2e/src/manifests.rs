//! Objects as YAML and JSON: read from files, or made for one test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The top of the clone.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The objects of a YAML stream, after each `$NAME` of `values` was replaced.
///
/// # Errors
/// When the text is not YAML.
pub fn parse(text: &str, values: &[(&str, &str)]) -> Result<Vec<Value>> {
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value));
    serde_saphyr::from_multiple(&text).context("not YAML")
}

/// The objects of a file of the clone.
///
/// # Errors
/// When there is no such file or it is not YAML.
pub fn read(path: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(repository().join(path)).with_context(|| format!("cannot read {path}"))?;
    parse(&text, &[]).with_context(|| path.to_owned())
}

/// A ServiceAccount.
pub fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}})
}

/// A Service that nothing stands behind.
pub fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "https", "port": 443}]},
    })
}

/// A trust domain with an authority of its own, called `<name>.example`.
pub fn embedded_domain(name: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustDomain", "metadata": {"name": name},
        "spec": {"name": format!("{name}.example"), "issuer": {"embedded": {}}},
    })
}

/// An identity of the ServiceAccount of the same name, kept in the Secret `<name>-tls`.
pub fn identity(namespace: &str, name: &str, domain: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ServiceIdentity",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"trustDomain": domain, "serviceAccountName": name, "secret": {"name": format!("{name}-tls")}},
    })
}

/// A Deployment without a pod, of the ServiceAccount of the same name; its template says what its pods would be.
pub fn idle_deployment(namespace: &str, name: &str) -> Value {
    let labels = json!({"app": name});
    let pod = json!({"serviceAccountName": name, "containers": [{"name": "none", "image": "localhost/none:1"}]});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

/// One end of an edge: namespace and ServiceAccount.
pub type End<'a> = (&'a str, &'a str);

/// The server's half of an edge.
pub fn access_grant(name: &str, server: End<'_>, client: End<'_>, port: u16) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessGrant",
        "metadata": {"namespace": server.0, "name": name},
        "spec": {
            "to": {"serviceAccountName": server.1}, "ports": [{"port": port}],
            "from": [{"namespace": client.0, "serviceAccountName": client.1}],
        },
    })
}

/// The client's half of an edge.
pub fn access_request(name: &str, client: End<'_>, server: End<'_>, port: u16) -> Value {
    let to = json!([{"namespace": server.0, "serviceAccountName": server.1, "ports": [{"port": port}]}]);
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessRequest",
        "metadata": {"namespace": client.0, "name": name},
        "spec": {"from": {"serviceAccountName": client.1}, "to": to},
    })
}

/// Puts `value` into a part of an object's spec.
#[must_use]
pub fn with(mut object: Value, field: &str, value: Value) -> Value {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert(field.to_owned(), value);
    }
    object
}
