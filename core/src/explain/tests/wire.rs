//! A healthy namespace as the API server shows it, to be broken by the tests one thing at a time.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::explain::{Look, domain, guard::Guard, identity::Seen};

/// A self-signed authority with a key identifier, from 2026-11-24 for a hundred years.
const ROOT: &str = include_str!("../../value/x509/fixtures/root.pem");

pub fn now() -> Timestamp {
    "2027-01-01T12:00:00Z".parse().unwrap()
}

/// Reads an object as the command line does.
pub fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub fn found<K: DeserializeOwned>(value: Value) -> Look<K> {
    Look::Found(read(value))
}

/// Conditions from `(type, status, reason, message)`.
pub fn conditions(all: &[(&str, &str, &str, &str)]) -> Value {
    let one = |(kind, status, reason, message): &(&str, &str, &str, &str)| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": 3, "lastTransitionTime": "2027-01-01T00:00:00Z"})
    };
    all.iter().map(one).collect()
}

pub fn connection(conditions: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "VaultConnection",
        "metadata": {"name": "main", "uid": "c-1", "generation": 3},
        "spec": {
            "address": "https://bao.infra.svc:8200", "tls": {"systemRoots": true},
            "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}}
        },
        "status": {"observedGeneration": 3, "product": "OpenBao", "version": "2.7.2", "conditions": conditions}
    })
}

pub fn connection_up() -> Value {
    conditions(&[
        ("Ready", "True", "Authenticated", "the connection can be used"),
        ("Reachable", "True", "Reachable", "the server answers"),
        ("Authenticated", "True", "Authenticated", "the login works"),
    ])
}

pub fn domain(conditions: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustDomain",
        "metadata": {"name": "prod", "uid": "d-1", "generation": 3},
        "spec": {
            "name": "prod.example",
            "issuer": {"vault": {"connection": "main", "mount": "pki_int", "role": "workload"}},
            "allow": [{"namespaces": {"matchLabels": {"team": "pay"}}, "dnsNames": ["*.pay.internal"]}]
        },
        "status": {
            "observedGeneration": 3,
            "authorities": [{"id": "sha256:9c", "state": "Active", "issuerRef": "one", "certificate": ROOT,
                "root": ROOT, "notAfter": "2126-10-31T00:00:00Z"}],
            "conditions": conditions
        }
    })
}

pub fn domain_up() -> Value {
    conditions(&[
        ("Ready", "True", "Valid", "the authority can sign"),
        ("IssuerReachable", "True", "IssuerReachable", "the issuer can sign"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
    ])
}

pub fn identity(conditions: &Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ServiceIdentity",
        "metadata": {"name": "api", "namespace": "pay", "uid": "i-1", "generation": 3,
            "creationTimestamp": "2026-12-01T00:00:00Z"},
        "spec": {
            "trustDomain": "prod", "serviceAccountName": "api", "services": ["api"],
            "dnsNames": ["api.pay.internal"], "secret": {"name": "api-tls"}
        },
        "status": {
            "observedGeneration": 3, "serial": "4f1c", "notBefore": "2027-01-01T06:00:00Z",
            "notAfter": "2027-01-02T06:00:00Z", "renewAt": "2027-01-01T22:00:00Z", "conditions": conditions
        }
    })
}

pub fn identity_up() -> Value {
    conditions(&[
        ("Ready", "True", "Valid", "the certificate is valid until 2027-01-02T06:00:00Z"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
        ("Issued", "True", "Issued", "the certificate asked for is stored"),
    ])
}

/// An identity for which nothing is stored yet, and why.
pub fn identity_waits(progress: &str, reason: &str, message: &str) -> Value {
    let all = conditions(&[
        ("Ready", "False", "SecretMissing", "secret \"api-tls\" does not exist yet"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
        ("Issued", "False", reason, message),
        (progress, "True", reason, message),
    ]);
    let mut identity = identity(&all);
    let status = json!({"observedGeneration": 3, "conditions": identity["status"]["conditions"]});
    identity["status"] = status;
    identity
}

pub fn service() -> Value {
    json!({"metadata": {"name": "api", "namespace": "pay"}, "spec": {"type": "ClusterIP"}})
}

pub fn secret_meta(owner: &str) -> Value {
    json!({"name": "api-tls", "namespace": "pay", "uid": "s-1", "resourceVersion": "7", "labels":
        {"app.kubernetes.io/managed-by": "countersign", "countersign.dev/owner-uid": owner}})
}

pub fn guard(name: &str) -> Guard {
    Guard {
        policy: found(json!({"metadata": {"name": name}, "spec": {"failurePolicy": "Fail"}})),
        binding: found(json!({"metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}})),
    }
}

/// Everything is there and works.
pub fn healthy() -> Seen {
    let me: crate::api::ServiceIdentity = read(identity(&identity_up()));
    Seen {
        siblings: Look::Found(vec![me.clone()]),
        identity: me,
        namespace: found(json!({"metadata": {"name": "pay", "labels": {"team": "pay"}}})),
        fence: guard("countersign-operator-fence"),
        trust: domain::Seen {
            name: "prod".to_owned(),
            domain: found(domain(&domain_up())),
            connection: found(connection(&connection_up())),
        },
        account: found(json!({"name": "api", "namespace": "pay"})),
        services: [("api".to_owned(), found(service()))].into(),
        target: found(secret_meta("i-1")),
        cluster_domain: "cluster.local".to_owned(),
    }
}
