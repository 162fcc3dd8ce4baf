//! A cluster for tests: objects by the path of their collection, and collections that are forbidden.

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use crate::cluster::inspect::View;

/// The group and version of our kinds.
pub(super) const OURS: &str = "/apis/countersign.dev/v1alpha1";
/// A self-signed authority with a key identifier, from 2026-11-24 for a hundred years.
const ROOT: &str = include_str!("../../core/src/value/x509/fixtures/root.pem");

/// Objects and where they are; the last one of a name counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects {
    all: Vec<(String, Value)>,
    forbidden: Vec<String>,
}

impl Objects {
    pub(super) fn with(mut self, collection: &str, object: Value) -> Self {
        self.all.retain(|(at, other)| at != collection || other["metadata"]["name"] != object["metadata"]["name"]);
        self.all.push((collection.to_owned(), object));
        self
    }

    /// The same, with one object changed.
    pub(super) fn edit(mut self, name: &str, kind: &str, edit: impl FnOnce(&mut Value)) -> Self {
        let (_, object) =
            self.all.iter_mut().find(|(at, object)| at.ends_with(kind) && object["metadata"]["name"] == name).unwrap();
        edit(object);
        self
    }

    pub(super) fn without(mut self, name: &str, kind: &str) -> Self {
        self.all.retain(|(at, object)| !at.ends_with(kind) || object["metadata"]["name"] != name);
        self
    }

    pub(super) fn forbid(mut self, kind: &str) -> Self {
        self.forbidden.push(kind.to_owned());
        self
    }

    /// A view of them; `here` is the namespace of the context.
    pub(super) fn view(self) -> View {
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, body) = self.answer(request.uri().path());
            let body = Body::from(body.to_string().into_bytes());
            async move { Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap()) }
        });
        View::new(Client::new(service, "pay"))
    }

    fn answer(&self, path: &str) -> (u16, Value) {
        let refuse = |code: u16| (code, json!({"kind": "Status", "status": "Failure", "code": code}));
        if self.forbidden.iter().any(|kind| path.split('/').any(|part| part == kind)) {
            return refuse(403);
        }
        let (collection, name) = path.rsplit_once('/').unwrap();
        let one = self.all.iter().find(|(at, object)| at == collection && object["metadata"]["name"] == name);
        if let Some((_, object)) = one {
            return (200, object.clone());
        }
        // A collection of the whole cluster holds those of its namespaces.
        let (group, plural) = (collection, name);
        let within = |at: &str| at == path || at.starts_with(&format!("{group}/namespaces/")) && at.ends_with(plural);
        let items: Vec<_> = self.all.iter().filter(|(at, _)| within(at)).map(|(_, object)| object.clone()).collect();
        let is_list = ["vaultconnections", "trustdomains", "serviceidentities", "secretbindings"].contains(&plural);
        if items.is_empty() && !is_list { refuse(404) } else { (200, json!({"metadata": {}, "items": items})) }
    }
}

/// Conditions from `(type, status, reason, message)`.
pub(super) fn conditions(all: &[(&str, &str, &str, &str)]) -> Value {
    let one = |(kind, status, reason, message): &(&str, &str, &str, &str)| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": 3, "lastTransitionTime": "2027-01-01T00:00:00Z"})
    };
    all.iter().map(one).collect()
}

/// One identity `api` in namespace `pay`, everything it needs, and all of it well.
pub(super) fn healthy() -> Objects {
    let meta = |name: &str| json!({"name": name, "uid": name, "generation": 3});
    let local = |name: &str| json!({"name": name, "namespace": "pay", "uid": name, "generation": 3});
    let policies = "/apis/admissionregistration.k8s.io/v1";
    let fence = "countersign-operator-fence";
    Objects::default()
        .with(
            &format!("{OURS}/vaultconnections"),
            json!({
                "metadata": meta("main"),
                "spec": {"address": "https://bao.infra.svc:8200", "tls": {"systemRoots": true},
                    "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}},
                    "grants": [{"namespaces": {"names": ["pay"]}, "as": "ServiceAccount", "role": "tenant",
                        "paths": ["secret/{namespace}/**"]}]},
                "status": {"observedGeneration": 3, "conditions": conditions(&[
                    ("Ready", "True", "Authenticated", "the connection can be used"),
                    ("Reachable", "True", "Reachable", "the server answers"),
                    ("Authenticated", "True", "Authenticated", "the login works"),
                ])}
            }),
        )
        .with(
            &format!("{OURS}/trustdomains"),
            json!({
                "metadata": meta("prod"),
                "spec": {"name": "prod.example",
                    "issuer": {"vault": {"connection": "main", "mount": "pki_int", "role": "workload"}}},
                "status": {"observedGeneration": 3,
                    "authorities": [{"id": "sha256:9c", "state": "Active", "issuerRef": "one", "certificate": ROOT,
                        "root": ROOT, "notAfter": "2126-10-31T00:00:00Z"}],
                    "conditions": conditions(&[
                        ("Ready", "True", "Valid", "the authority can sign"),
                        ("IssuerReachable", "True", "IssuerReachable", "the issuer can sign"),
                        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
                    ])}
            }),
        )
        .with(
            &format!("{OURS}/namespaces/pay/serviceidentities"),
            json!({
                "metadata": local("api"),
                "spec": {"trustDomain": "prod", "serviceAccountName": "api", "services": ["api"],
                    "secret": {"name": "api-tls"}},
                "status": {"observedGeneration": 3, "serial": "4f1c", "notBefore": "2027-01-01T06:00:00Z",
                    "notAfter": "2027-01-02T06:00:00Z", "renewAt": "2027-01-01T22:00:00Z",
                    "conditions": conditions(&[
                        ("Ready", "True", "Valid", "the certificate is valid until 2027-01-02T06:00:00Z"),
                        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
                        ("Issued", "True", "Issued", "the certificate asked for is stored"),
                    ])}
            }),
        )
        .with(
            &format!("{OURS}/namespaces/pay/secretbindings"),
            json!({
                "metadata": local("env"),
                "spec": {"connection": "main", "serviceAccountName": "api",
                    "sources": [{"name": "app", "kv": {"mount": "secret", "path": "pay/api"}}],
                    "secret": {"name": "api-env", "data": [{"each": "app"}]}},
                "status": {"observedGeneration": 3, "conditions": conditions(&[
                    ("Ready", "True", "Valid", "secret \"api-env\" is whole"),
                    ("Synced", "True", "Synced", "the Secret holds what was last read"),
                    ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
                ])}
            }),
        )
        .with("/api/v1/namespaces", json!({"metadata": {"name": "pay"}}))
        .with("/api/v1/namespaces/pay/serviceaccounts", json!({"metadata": local("api")}))
        .with("/api/v1/namespaces/pay/services", json!({"metadata": local("api"), "spec": {"type": "ClusterIP"}}))
        .with(
            "/api/v1/namespaces/pay/secrets",
            json!({"metadata": {"name": "api-tls", "namespace": "pay", "labels":
            {"app.kubernetes.io/managed-by": "countersign", "countersign.dev/owner-uid": "api"}}}),
        )
        .with(
            "/api/v1/namespaces/pay/secrets",
            json!({"metadata": {"name": "api-env", "namespace": "pay", "labels":
            {"app.kubernetes.io/managed-by": "countersign", "countersign.dev/owner-uid": "env"}}}),
        )
        .with(
            &format!("{policies}/validatingadmissionpolicies"),
            json!({"metadata": meta(fence), "spec": {"failurePolicy": "Fail"}}),
        )
        .with(
            &format!("{policies}/validatingadmissionpolicybindings"),
            json!({"metadata": meta(fence), "spec": {"policyName": fence, "validationActions": ["Deny"]}}),
        )
}
