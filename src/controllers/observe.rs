//! Facts from bytes that more than one controller reads: a stored Secret, and values of the
//! operator's own namespace.

use std::collections::BTreeMap;

use countersign_core::{
    api::{KeyRef, OWNER_UID_LABEL, Reason},
    fault::Failure,
    identity::{
        decide::{ANSWERED_REQUEST, RENDERING},
        world::Stored,
    },
    value::{
        secret_data::SecretBytes,
        x509::{Roots, parse_pem_chain},
    },
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    cluster::Cluster,
    issuers::{keys, verify},
};

/// Reads a Secret of ours into facts; bytes that cannot be read are simply not there.
///
/// Its chain is held against `roots`, or where those are not known against its own `ca.crt`.
pub fn stored(secret: Secret, roots: Option<&Roots>, now: Timestamp) -> Stored {
    let resource_version = secret.resource_version().unwrap_or_default();
    let owner_uid = secret.labels().get(OWNER_UID_LABEL).cloned();
    let annotation = |key: &str| secret.annotations().get(key).cloned();
    let (rendering, answered_request) = (annotation(RENDERING), annotation(ANSWERED_REQUEST));
    let data: BTreeMap<String, SecretBytes> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, SecretBytes::new(value.0))).collect();
    let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(bytes.expose()).ok());
    let chain = text("tls.crt").and_then(|text| parse_pem_chain(text).ok()).unwrap_or_default();
    let own_roots = || text("ca.crt").and_then(|text| Roots::parse(text).ok());
    let trusted = match roots {
        Some(roots) => verify::verify(&chain, roots, &[now]).is_ok(),
        None => own_roots().is_some_and(|roots| verify::verify(&chain, &roots, &[now]).is_ok()),
    };
    let key = data.get("tls.key").and_then(|bytes| keys::spki_of_private_key(bytes.expose()));
    Stored {
        resource_version,
        owner_uid,
        type_: secret.type_.unwrap_or_default(),
        immutable: secret.immutable == Some(true),
        leaf: chain.into_iter().next().map(|certificate| certificate.leaf),
        key,
        trusted,
        rendering,
        answered_request,
        data,
    }
}

/// Where a value is in the operator's namespace.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// In a ConfigMap.
    ConfigMap(&'a KeyRef),
    /// In a Secret.
    Secret(&'a KeyRef),
}

/// A value of the operator's namespace; `None` = the object or its key does not exist.
///
/// # Errors
/// Anything but present and absent.
pub async fn value(cluster: &Cluster, place: Place<'_>) -> Result<Option<SecretBytes>, Failure> {
    let read = match place {
        Place::ConfigMap(reference) => cluster.own_config_map_value(reference).await.map(SecretBytes::from),
        Place::Secret(reference) => cluster.own_secret_value(reference).await,
    };
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(failure) if failure.reason == Reason::SourceMissing => Ok(None),
        Err(failure) => Err(failure),
    }
}
