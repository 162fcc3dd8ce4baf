//! Everything that the operator says to anybody, and the secrets that must not be in it.

use anyhow::Result;
use serde_json::Value;

use crate::{
    api::text,
    bao::Bao,
    cluster::Cluster,
    identity::Material,
    leaks::Canaries,
    metrics,
    operator::{self, MANAGED, NAMESPACE},
};

/// Where our kinds are listed.
pub const KINDS: [&str; 8] = [
    "accessgrants",
    "accessrequests",
    "externalservices",
    "secretbindings",
    "segments",
    "serviceidentities",
    "trustdomains",
    "vaultconnections",
];

/// The path of every object of a kind.
pub fn all(kind: &str) -> String {
    format!("/apis/countersign.dev/v1alpha1/{kind}")
}

/// What the operator said, by the place where it said it.
///
/// # Errors
/// When a place cannot be read.
pub async fn gather(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let mut said = vec![("logs".to_owned(), operator::logs(cluster).await?)];
    for pod in operator::pods(cluster).await? {
        said.push((format!("metrics of {pod}"), metrics::read(cluster, &pod, 8080, "/metrics").await?));
    }
    for kind in KINDS {
        said.push((kind.to_owned(), Value::from(cluster.api.list(&all(kind)).await?).to_string()));
    }
    for path in ["/apis/events.k8s.io/v1/events", "/apis/coordination.k8s.io/v1/leases"] {
        said.push((path.to_owned(), Value::from(cluster.api.list(path).await?).to_string()));
    }
    // Names, labels and annotations of its Secrets: a value there would be readable by whoever may list metadata.
    for secret in secrets(cluster).await? {
        let name = format!("metadata of {}/{}", text(&secret, "/metadata/namespace"), text(&secret, "/metadata/name"));
        said.push((name, secret.get("metadata").map(Value::to_string).unwrap_or_default()));
    }
    Ok(said)
}

/// The Secrets that the operator wrote, in every namespace.
///
/// # Errors
/// When they cannot be listed.
pub async fn secrets(cluster: &Cluster) -> Result<Vec<Value>> {
    cluster.api.list(&format!("/api/v1/secrets?labelSelector={}", MANAGED.replace('=', "%3D"))).await
}

/// The secrets of this run: private keys, everything kept in the operator's namespace, OpenBao's root token and accessors.
///
/// # Errors
/// When they cannot be read.
pub async fn canaries(cluster: &Cluster) -> Result<Canaries> {
    let mut canaries = Canaries::default();
    for secret in secrets(cluster).await? {
        let (namespace, name) = (text(&secret, "/metadata/namespace"), text(&secret, "/metadata/name"));
        let label = format!("Secret {namespace}/{name}");
        if let Ok(material) = Material::of(&secret) {
            canaries.add_key(&label, &String::from_utf8_lossy(&material.key));
            continue;
        }
        for (key, value) in secret.pointer("/data").and_then(Value::as_object).into_iter().flatten() {
            let value = data_encoding::BASE64.decode(value.as_str().unwrap_or_default().as_bytes()).unwrap_or_default();
            match std::str::from_utf8(&value) {
                Ok(pem) if pem.contains("PRIVATE KEY") => canaries.add_key(&label, pem),
                Ok(pem) if pem.contains("CERTIFICATE") => {}
                _ if namespace == NAMESPACE || is_bound(&secret) => canaries.add(&format!("{label} {key}"), &value),
                _ => {}
            }
        }
    }
    if cluster.env.openbao.is_some() {
        let bao = Bao::of(cluster)?;
        canaries.add("OpenBao's root token", bao.token().as_bytes());
        for accessor in bao.accessors().await? {
            canaries.add("the accessor of a token", accessor.as_bytes());
        }
    }
    Ok(canaries)
}

/// Whether the values of a Secret came from a server.
fn is_bound(secret: &Value) -> bool {
    text(secret, "/metadata/annotations/countersign.dev~1owner").starts_with("SecretBinding/")
}

/// What a search came to.
pub struct Search {
    /// How many secrets were looked for.
    pub secrets: usize,
    /// Where, with the number of bytes of each place.
    pub places: Vec<(String, usize)>,
    /// Secrets found, by name, and where; never values.
    pub leaks: Vec<String>,
}

/// Looks for every secret in everything that the operator said.
///
/// # Errors
/// When something cannot be read, or there is no secret to look for.
pub async fn search(cluster: &Cluster) -> Result<Search> {
    let canaries = canaries(cluster).await?;
    anyhow::ensure!(!canaries.is_empty(), "there is no secret to look for");
    let said = gather(cluster).await?;
    let leaks = said.iter().flat_map(|(place, text)| {
        canaries.find(text).into_iter().map(move |(secret, hits)| format!("{secret} in {place}, {hits} times"))
    });
    let leaks = leaks.collect();
    let places = said.into_iter().map(|(place, text)| (place, text.len())).collect();
    Ok(Search { secrets: canaries.len(), places, leaks })
}
