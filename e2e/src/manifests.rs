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

/// Puts `value` into a part of an object's spec.
#[must_use]
pub fn with(mut object: Value, field: &str, value: Value) -> Value {
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert(field.to_owned(), value);
    }
    object
}
