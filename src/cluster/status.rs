//! Status of our own kinds: one server-side apply of the whole status, and only when it differs.

use countersign_core::fault::Failure;
use kube::{
    Api, Resource as Object, ResourceExt,
    api::{Patch, PatchParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{About, Cluster};
use crate::runtime::metrics::{Resource, Verb};

/// Field manager of every status; status is ours alone, so it is applied with force.
const STATUS_MANAGER: &str = "countersign.dev/status";

impl Cluster {
    /// Applies the status of a namespaced object of ours; returns the new resource version.
    ///
    /// # Errors
    /// As any write.
    pub async fn write_status<K, S>(&self, object: &K, resource: Resource, status: &S) -> Result<String, Failure>
    where
        K: Object<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize,
    {
        let namespace = object.namespace().unwrap_or_default();
        self.apply_status(&Api::namespaced(self.client.clone(), &namespace), object, resource, status).await
    }

    /// Applies the status of a cluster-scoped object of ours; returns the new resource version.
    ///
    /// # Errors
    /// As any write.
    pub async fn write_cluster_status<K, S>(
        &self,
        object: &K,
        resource: Resource,
        status: &S,
    ) -> Result<String, Failure>
    where
        K: Object<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize,
    {
        self.apply_status(&Api::all(self.client.clone()), object, resource, status).await
    }

    async fn apply_status<K, S>(
        &self,
        api: &Api<K>,
        object: &K,
        resource: Resource,
        status: &S,
    ) -> Result<String, Failure>
    where
        K: Object<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
        S: Serialize,
    {
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let about = About { doing: "writing the status of", resource, namespace: &namespace, name: &name };
        let body = serde_json::json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // The UID is a precondition: a new object of the same name must not inherit this status.
            "metadata": { "name": name, "uid": object.uid() },
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let written = self.write(&about, Verb::Apply, api.patch_status(&name, &params, &Patch::Apply(&body))).await?;
        Ok(written.resource_version().unwrap_or_default())
    }
}
