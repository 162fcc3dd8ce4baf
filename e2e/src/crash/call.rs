//! Names of calls: which of an operator's requests are writes, whose they are, and what they are called in every run.
//!
//! A name does not depend on wall order: it is (ordinal of the owning object, verb, resource, ordinal), so the same plan
//! hits the same call in every run. Pure; the proxy asks it about each request.

use std::fmt;

use serde_json::Value;

/// Namespace of the operator in the tests, as the chart's documents name it.
pub const OPERATOR_NAMESPACE: &str = "countersign-system";

/// How the names of the namespaces of plans begin.
pub const PLACE_PREFIX: &str = "crash-";

/// Which server a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The API server.
    Api,
    /// OpenBao.
    Vault,
}

/// What a call means for the numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Changes nothing: GET, an empty patch, a review.
    Read,
    /// Changes something; numbered.
    Write,
    /// The leader Lease.
    Lease,
    /// An event about an object; best effort by design.
    Event,
    /// A call to OpenBao; numbered.
    Vault,
    /// `sys/health`.
    Health,
}

/// Object on whose behalf a call is made, in the order of dependence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// No single object: the operator itself.
    Operator,
    /// The plan's VaultConnection.
    Connection,
    /// The plan's TrustDomain.
    Domain,
    /// The plan's ServiceIdentity or SecretBinding; for a segment, what is in the client's namespace.
    Identity,
    /// What is in the server's namespace.
    Peer,
    /// The plan's Segment.
    Segment,
}

/// What a call is called in every run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Server.
    pub side: Side,
    /// Owner.
    pub owner: Owner,
    /// Method, `APPLY` for a server-side apply.
    pub verb: String,
    /// Resource with its subresource, or the path at OpenBao without what differs between runs.
    pub resource: String,
    /// 1 for the first such call.
    pub ordinal: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {} #{}", self.owner, self.verb, self.resource, self.ordinal)
    }
}

/// Objects of one plan, by which calls are told from those of other plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Namespace of the identity.
    pub namespace: String,
    /// Name of the TrustDomain, and of nothing else.
    pub domain: String,
    /// Name of the VaultConnection, if the issuer is OpenBao.
    pub connection: Option<String>,
    /// Namespace of the server and name of the Segment, if the plan closes namespaces; the first namespace is then the
    /// client's.
    pub closed: Option<Closed>,
}

/// What a plan about a segment has besides its first namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Namespace of the server.
    pub peer: String,
    /// Name of the Segment.
    pub segment: String,
}

impl Scope {
    /// Whether it is the second namespace.
    pub fn is_peer(&self, namespace: &str) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.peer == namespace)
    }

    /// Whether it is the Segment.
    pub fn is_segment(&self, name: &str) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.segment == name)
    }
}

/// A request, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Server.
    pub side: Side,
    /// What it means.
    pub sort: Sort,
    /// Method, `APPLY` for a server-side apply.
    pub verb: String,
    /// Resource with its subresource, or the path at OpenBao.
    pub resource: String,
    /// Namespace, empty where there is none; at OpenBao that of the secret which is read.
    pub namespace: String,
    /// Object, empty for a collection.
    pub object: String,
}

impl Request {
    /// Takes a request to the API server apart; `path` has no query.
    pub fn api(method: &str, path: &str, content_type: &str, body: &Value) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        match segments.next() {
            Some("api") => _ = segments.next(),
            Some("apis") => _ = (segments.next(), segments.next()),
            _ => {}
        }
        let mut rest: Vec<&str> = segments.collect();
        let namespace = match rest.as_slice() {
            ["namespaces", namespace, _, ..] => (*namespace).to_owned(),
            _ => String::new(),
        };
        if !namespace.is_empty() {
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        let mut resource = rest.next().unwrap_or_default().to_owned();
        let object = rest.next().unwrap_or_default().to_owned();
        if let Some(subresource) = rest.next() {
            resource = format!("{resource}/{subresource}");
        }
        let applied = content_type.starts_with("application/apply-patch");
        let verb = if applied { "APPLY".to_owned() } else { method.to_owned() };
        let empty = body.as_object().is_some_and(serde_json::Map::is_empty);
        let sort = match (method, resource.as_str()) {
            ("GET" | "HEAD", _) => Sort::Read,
            ("PATCH", _) if empty && !applied => Sort::Read,
            ("POST", review) if review.ends_with("reviews") => Sort::Read,
            (_, "leases") => Sort::Lease,
            (_, "events") => Sort::Event,
            _ => Sort::Write,
        };
        Self { side: Side::Api, sort, verb, resource, namespace, object }
    }

    /// Takes a request to OpenBao apart.
    pub fn vault(method: &str, path: &str) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty() && *segment != "v1");
        // A secret lies below the name of its namespace.
        let is_place = |segment: &&str| segment.starts_with(PLACE_PREFIX);
        let namespace = segments.clone().find(is_place).unwrap_or_default().to_owned();
        let varies = |segment: &str| is_uuid(segment) || is_place(&segment);
        let resource = segments.map(|s| if varies(s) { "*" } else { s }).collect::<Vec<_>>().join("/");
        let sort = if resource == "sys/health" { Sort::Health } else { Sort::Vault };
        Self { side: Side::Vault, sort, verb: method.to_owned(), resource, namespace, object: String::new() }
    }

    /// Whether it is a signature.
    pub fn signs(&self) -> bool {
        self.side == Side::Vault && self.resource.contains("/sign/")
    }

    /// Whether it is a login.
    pub fn logs_in(&self) -> bool {
        self.side == Side::Vault && self.resource.starts_with("auth/") && self.resource.ends_with("/login")
    }

    /// On whose behalf it is made; `None` if it belongs to no object of the plan.
    pub fn owner(&self, scope: &Scope, body: &Value) -> Option<Owner> {
        if self.side == Side::Vault {
            scope.connection.as_ref()?;
            return if !self.namespace.is_empty() {
                (self.namespace == scope.namespace).then_some(Owner::Identity)
            } else if self.signs() {
                let names = body.get("uri_sans").and_then(Value::as_str).unwrap_or_default();
                names.contains(&format!("/ns/{}/", scope.namespace)).then_some(Owner::Identity)
            } else if self.resource.contains("issuer") || self.resource.contains("roles/") {
                Some(Owner::Domain)
            } else {
                Some(Owner::Connection)
            };
        }
        let (kind, _) = self.resource.split_once('/').unwrap_or((self.resource.as_str(), ""));
        match kind {
            _ if self.namespace == scope.namespace => Some(Owner::Identity),
            _ if scope.is_peer(&self.namespace) => Some(Owner::Peer),
            "segments" => scope.is_segment(&self.object).then_some(Owner::Segment),
            "trustdomains" => (self.object == scope.domain).then_some(Owner::Domain),
            "vaultconnections" => (Some(&self.object) == scope.connection.as_ref()).then_some(Owner::Connection),
            _ if self.namespace != OPERATOR_NAMESPACE => None,
            "serviceaccounts" => scope.connection.as_ref().map(|_| Owner::Connection),
            "secrets" => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or(&self.object);
                if name.contains(&scope.domain) {
                    Some(Owner::Domain)
                } else {
                    (!name.starts_with("countersign-ca-")).then_some(Owner::Operator)
                }
            }
            _ => Some(Owner::Operator),
        }
    }
}

fn is_uuid(segment: &str) -> bool {
    segment.len() == 36 && segment.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        Scope { namespace: "n1".into(), domain: "d1".into(), connection: Some("c1".into()), closed: None }
    }

    fn api(method: &str, path: &str, content_type: &str, body: &Value) -> (Sort, String, Option<Owner>) {
        let request = Request::api(method, path, content_type, body);
        let owner = request.owner(&scope(), body);
        (request.sort, format!("{} {}", request.verb, request.resource), owner)
    }

    #[test]
    fn requests_to_the_api_server_are_told_apart() {
        let apply = "application/apply-patch+yaml";
        let merge = "application/merge-patch+json";
        let secret = json!({"metadata": {"name": "countersign-ca-d1-1"}});
        let foreign = json!({"metadata": {"name": "countersign-ca-d2-1"}});
        let cases = [
            (
                ("PATCH", "/api/v1/namespaces/n1/secrets/s", apply, json!({"kind": "Secret"})),
                Sort::Write,
                "APPLY secrets",
                Some(Owner::Identity),
            ),
            (
                ("PATCH", "/api/v1/namespaces/n1/secrets/s", merge, json!({})),
                Sort::Read,
                "PATCH secrets",
                Some(Owner::Identity),
            ),
            (("GET", "/api/v1/namespaces/n1", "", Value::Null), Sort::Read, "GET namespaces", None),
            (
                ("PATCH", "/apis/countersign.dev/v1alpha1/trustdomains/d1/status", apply, json!({"a": 1})),
                Sort::Write,
                "APPLY trustdomains/status",
                Some(Owner::Domain),
            ),
            (
                ("PATCH", "/apis/countersign.dev/v1alpha1/trustdomains/d2/status", apply, json!({"a": 1})),
                Sort::Write,
                "APPLY trustdomains/status",
                None,
            ),
            (
                ("PATCH", "/apis/countersign.dev/v1alpha1/vaultconnections/c1/status", apply, json!({"a": 1})),
                Sort::Write,
                "APPLY vaultconnections/status",
                Some(Owner::Connection),
            ),
            (
                ("POST", "/api/v1/namespaces/countersign-system/secrets", "", secret),
                Sort::Write,
                "POST secrets",
                Some(Owner::Domain),
            ),
            (("POST", "/api/v1/namespaces/countersign-system/secrets", "", foreign), Sort::Write, "POST secrets", None),
            (
                (
                    "POST",
                    "/api/v1/namespaces/countersign-system/serviceaccounts/countersign/token",
                    "",
                    json!({"a": 1}),
                ),
                Sort::Write,
                "POST serviceaccounts/token",
                Some(Owner::Connection),
            ),
            (
                (
                    "PATCH",
                    "/apis/coordination.k8s.io/v1/namespaces/countersign-system/leases/l",
                    merge,
                    json!({"a": 1}),
                ),
                Sort::Lease,
                "PATCH leases",
                Some(Owner::Operator),
            ),
            (
                ("POST", "/apis/events.k8s.io/v1/namespaces/n1/events", "", json!({"a": 1})),
                Sort::Event,
                "POST events",
                Some(Owner::Identity),
            ),
            (
                ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", json!({"a": 1})),
                Sort::Read,
                "POST selfsubjectaccessreviews",
                None,
            ),
        ];
        for ((method, path, content_type, body), sort, text, owner) in cases {
            assert_eq!(api(method, path, content_type, &body), (sort, text.to_owned(), owner), "{method} {path}");
        }
    }

    #[test]
    fn requests_to_openbao_lose_what_differs_between_runs() {
        let sign = Request::vault("POST", "/v1/pki_int/issuer/4ba1ed07-6a2f-4ec1-a6e7-4d0b4c5d9fbd/sign/workload");
        assert_eq!(sign.resource, "pki_int/issuer/*/sign/workload");
        assert!(sign.signs() && !sign.logs_in());
        let body = json!({"uri_sans": "spiffe://prod.example/ns/n1/sa/web"});
        assert_eq!(sign.owner(&scope(), &body), Some(Owner::Identity));
        let other = json!({"uri_sans": "spiffe://prod.example/ns/n11/sa/web"});
        assert_eq!(sign.owner(&scope(), &other), None);
        assert_eq!(Request::vault("GET", "/v1/sys/health").sort, Sort::Health);
        let login = Request::vault("POST", "/v1/auth/kubernetes/login");
        assert!(login.logs_in());
        assert_eq!(login.owner(&scope(), &Value::Null), Some(Owner::Connection));
        assert_eq!(login.owner(&Scope { connection: None, ..scope() }, &Value::Null), None);
        let read = Request::vault("GET", "/v1/secret/data/crash-7-1-ns/web");
        assert_eq!(read.resource, "secret/data/*/web");
        let plan = Scope { namespace: "crash-7-1-ns".into(), ..scope() };
        assert_eq!(
            (read.owner(&plan, &Value::Null), read.owner(&scope(), &Value::Null)),
            (Some(Owner::Identity), None)
        );
    }
}
