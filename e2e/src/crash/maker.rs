//! How objects of a plan are made, by kind and name, each with the label of its lane.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::Value;

use crate::bao::Bao;

/// What a plan's objects are made from.
#[derive(Clone)]
pub struct Maker {
    /// Administrator's client.
    pub client: Client,
    /// Label of the objects.
    pub lane: String,
    /// `https://127.0.0.1:port` of the proxy in front of OpenBao.
    pub vault: String,
    /// Its authority, PEM.
    pub authority: String,
    /// OpenBao itself, with root rights.
    pub bao: Arc<Bao>,
}

fn resource(kind: &str) -> (ApiResource, bool) {
    let (group, version, plural, namespaced) = match kind {
        "Namespace" => ("", "v1", "namespaces", false),
        "ServiceAccount" => ("", "v1", "serviceaccounts", true),
        "Service" => ("", "v1", "services", true),
        "Secret" => ("", "v1", "secrets", true),
        "ServiceIdentity" => ("countersign.dev", "v1alpha1", "serviceidentities", true),
        "Pod" => ("", "v1", "pods", true),
        "Deployment" => ("apps", "v1", "deployments", true),
        "NetworkPolicy" => ("networking.k8s.io", "v1", "networkpolicies", true),
        "AccessGrant" => ("countersign.dev", "v1alpha1", "accessgrants", true),
        "AccessRequest" => ("countersign.dev", "v1alpha1", "accessrequests", true),
        "Segment" => ("countersign.dev", "v1alpha1", "segments", false),
        "SecretBinding" => ("countersign.dev", "v1alpha1", "secretbindings", true),
        "TrustDomain" => ("countersign.dev", "v1alpha1", "trustdomains", false),
        _ => ("countersign.dev", "v1alpha1", "vaultconnections", false),
    };
    (ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural), namespaced)
}

impl Maker {
    /// The objects of a kind; of one that is namespaced, those of `namespace`.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        match resource(kind) {
            (resource, true) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            (resource, false) => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Makes an object; `rest` is what it has besides its name, with the labels it is to have.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(&self, kind: &str, namespace: &str, name: &str, mut rest: Value) -> Result<()> {
        let (resource, _) = resource(kind);
        let mut object = DynamicObject::new(name, &resource);
        if let Some(metadata) = rest.as_object_mut().and_then(|fields| fields.remove("metadata")) {
            object.metadata = serde_json::from_value(metadata).context("no metadata")?;
            object.metadata.name = Some(name.to_owned());
        }
        object.metadata.labels.get_or_insert_default().insert("lane".to_owned(), self.lane.clone());
        object.data = rest;
        let api = self.api(kind, namespace);
        api.create(&PostParams::default(), &object).await.with_context(|| format!("cannot create {kind} {name}"))?;
        Ok(())
    }
}
