//! Values from Secrets and ConfigMaps of the operator's own namespace.

use countersign_core::{
    api::{KeyRef, Reason},
    fault::{Class, Failure},
    value::secret_data::SecretBytes,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;

use super::{About, Cluster};
use crate::runtime::metrics::Resource;

impl Cluster {
    /// One value of a Secret of the operator's namespace.
    ///
    /// # Errors
    /// `SourceMissing` when the object or key is absent.
    pub async fn own_secret_value(&self, reference: &KeyRef) -> Result<SecretBytes, Failure> {
        let namespace = self.operator_namespace();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "reading", resource: Resource::Secrets, namespace, name: &reference.name };
        let mut secret = self.read(&about, api.get(&reference.name)).await?;
        let value = secret.data.as_mut().and_then(|data| data.remove(&reference.key));
        value.map(|bytes| SecretBytes::new(bytes.0)).ok_or_else(|| missing_key("secret", reference))
    }

    /// One value of a ConfigMap of the operator's namespace.
    ///
    /// # Errors
    /// `SourceMissing` when the object or key is absent.
    pub async fn own_config_map_value(&self, reference: &KeyRef) -> Result<String, Failure> {
        let namespace = self.operator_namespace();
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "reading", resource: Resource::ConfigMaps, namespace, name: &reference.name };
        let mut map = self.read(&about, api.get(&reference.name)).await?;
        map.data
            .as_mut()
            .and_then(|data| data.remove(&reference.key))
            .ok_or_else(|| missing_key("configmap", reference))
    }
}

fn missing_key(kind: &str, reference: &KeyRef) -> Failure {
    Failure::new(
        Class::Waiting,
        Reason::SourceMissing,
        format!("{kind} {} has no key {}", reference.name, reference.key),
    )
}
