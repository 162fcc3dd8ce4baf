//! What the API server's audit log says that an account did.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{api::text, cluster::Cluster};

/// One kind of request, without its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Act {
    /// RBAC verb.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// Resource, with its subresource after a slash; a path for requests that are about no object.
    pub resource: String,
    /// Namespace, empty for none.
    pub namespace: String,
    /// Name, empty for none.
    pub name: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Whether the server asked for its rights refused it for want of them.
    pub forbidden: bool,
}

/// What the account's pods did. Tokens that tests ask for in its name belong to no pod, so their requests do not count.
///
/// # Errors
/// When the log cannot be read.
pub fn acts_of_pods(cluster: &Cluster, user: &str) -> Result<BTreeSet<Act>> {
    let path = cluster.env.audit_log.as_ref().context("the test does not declare that it needs `audit`")?;
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut acts = BTreeSet::new();
    for line in BufReader::new(file).lines() {
        let line = line.context("the audit log broke off")?;
        // Most lines are of others; parsing them all would take seconds. The last line may be half-written.
        if let Some(event) = line.contains(user).then(|| serde_json::from_str::<Value>(&line).ok()).flatten() {
            acts.extend(act(&event, user));
        }
    }
    Ok(acts)
}

fn act(event: &Value, user: &str) -> Option<Act> {
    let of_pod = event.pointer("/user/extra/authentication.kubernetes.io~1pod-name").is_some();
    if text(event, "/user/username") != user || !of_pod {
        return None;
    }
    let field = |name: &str| text(event, &format!("/objectRef/{name}")).to_owned();
    let resource = match (field("resource"), field("subresource")) {
        (resource, _) if resource.is_empty() => {
            text(event, "/requestURI").split('?').next().unwrap_or_default().to_owned()
        }
        (resource, subresource) if subresource.is_empty() => resource,
        (resource, subresource) => format!("{resource}/{subresource}"),
    };
    let status = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
    Some(Act {
        verb: text(event, "/verb").to_owned(),
        group: field("apiGroup"),
        resource,
        namespace: field("namespace"),
        name: field("name"),
        status: u16::try_from(status).unwrap_or_default(),
        forbidden: text(event, "/annotations/authorization.k8s.io~1decision") == "forbid",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(extra: &Value) -> Value {
        json!({
            "verb": "create", "requestURI": "/api/v1/namespaces/a/serviceaccounts/b/token",
            "user": {"username": "u", "extra": extra},
            "objectRef": {"resource": "serviceaccounts", "subresource": "token", "namespace": "a", "name": "b"},
            "responseStatus": {"code": 403}, "annotations": {"authorization.k8s.io/decision": "forbid"},
        })
    }

    #[test]
    fn only_requests_of_pods_count() {
        let pod = json!({"authentication.kubernetes.io/pod-name": ["p"]});
        let found = act(&event(&pod), "u").unwrap();
        assert_eq!((found.resource.as_str(), found.status, found.forbidden), ("serviceaccounts/token", 403, true));
        assert_eq!(act(&event(&json!({})), "u"), None);
        assert_eq!(act(&event(&pod), "other"), None);
    }
}
