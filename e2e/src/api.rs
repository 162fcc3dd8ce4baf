//! The API server as a test sees it: JSON objects at paths, with the answer's status at hand.
//!
//! Objects are JSON on purpose: the operator's own types would accept what the wire does not.

use anyhow::{Context as _, Result, bail};
use http::{Method, Request};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// A client of the API server with somebody's rights.
#[derive(Clone)]
pub struct Api {
    client: Client,
}

/// What the server said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Any 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The message of a `Status` object, or empty.
    pub fn message(&self) -> &str {
        text(&self.body, "/message")
    }
}

/// How a request changes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `application/merge-patch+json`
    Merge,
    /// `application/json-patch+json`
    Json,
    /// `application/apply-patch+yaml`
    Apply,
}

impl Change {
    fn media_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

impl Api {
    /// Speaks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends one request as it is.
    ///
    /// # Errors
    /// When there is no answer; a refusal is an answer.
    pub async fn send(&self, method: Method, path: &str, media_type: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request = Request::builder().method(&method).uri(path).header("content-type", media_type);
        let request = request.body(Body::from(bytes)).with_context(|| format!("{method} {path} is no request"))?;
        let response = self.client.send(request).await.with_context(|| format!("{method} {path} got no answer"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect_bytes().await.with_context(|| format!("{method} {path} broke off"))?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    /// Sends a patch.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn patch(&self, change: Change, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, change.media_type(), Some(body)).await
    }

    /// Server-side apply of an object; returns it as stored.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, object: &Value) -> Result<Value> {
        let path = format!("{}?fieldManager=e2e&force=true", path_of(object)?);
        expect_success(&path, self.patch(Change::Apply, &path, object).await?)
    }

    /// Merges `body` into the object at `path`; returns it as stored.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn merge(&self, path: &str, body: &Value) -> Result<Value> {
        expect_success(path, self.patch(Change::Merge, path, body).await?)
    }

    /// Sets one annotation of the object at `path`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn annotate(&self, path: &str, name: &str, value: &str) -> Result<Value> {
        self.merge(path, &json!({"metadata": {"annotations": {name: value}}})).await
    }

    /// The object at `path`, if there is one.
    ///
    /// # Errors
    /// When it cannot be read for another reason than its absence.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.send(Method::GET, path, "application/json", None).await?;
        if answer.status == 404 { Ok(None) } else { expect_success(path, answer).map(Some) }
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.find(path).await?.with_context(|| format!("{path} does not exist"))
    }

    /// The items of the list at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(array(&self.get(path).await?, "/items").to_vec())
    }

    /// Deletes the object at `path`; its absence is fine.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.send(Method::DELETE, path, "application/json", None).await?;
        if answer.status == 404 { Ok(()) } else { expect_success(path, answer).map(drop) }
    }

    /// A token of a ServiceAccount, bound to no pod.
    ///
    /// # Errors
    /// When the server issues none.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.send(Method::POST, &path, "application/json", Some(&request)).await?;
        let token = text(&expect_success(&path, answer)?, "/status/token").to_owned();
        anyhow::ensure!(!token.is_empty(), "{path} answered without a token");
        Ok(token)
    }
}

fn expect_success(path: &str, answer: Answer) -> Result<Value> {
    if !answer.is_success() {
        bail!("{path}: {} {}", answer.status, answer.message());
    }
    Ok(answer.body)
}

/// Where the API server keeps an object.
///
/// # Errors
/// When it has no `apiVersion`, `kind` or name.
pub fn path_of(object: &Value) -> Result<String> {
    let version = text(object, "/apiVersion");
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    if version.is_empty() || kind.is_empty() || name.is_empty() {
        bail!("an object without apiVersion, kind or metadata.name: {object}");
    }
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let namespace = match text(object, "/metadata/namespace") {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    Ok(format!("{root}{namespace}/{}/{name}", plural(kind)))
}

/// The resource of a kind, by the rule that every kind used here follows.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

/// The text at a JSON pointer, or empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer, or empty.
pub fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_one_path() {
        let object = |version: &str, kind: &str, namespace: Option<&str>| {
            let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
            if let Some(namespace) = namespace {
                object["metadata"]["namespace"] = namespace.into();
            }
            path_of(&object).unwrap()
        };
        assert_eq!(object("v1", "Secret", Some("a")), "/api/v1/namespaces/a/secrets/x");
        assert_eq!(object("v1", "Namespace", None), "/api/v1/namespaces/x");
        assert_eq!(
            object("countersign.dev/v1alpha1", "ServiceIdentity", Some("a")),
            "/apis/countersign.dev/v1alpha1/namespaces/a/serviceidentities/x"
        );
        assert!(path_of(&json!({"kind": "Secret"})).is_err());
    }
}
