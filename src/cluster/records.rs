//! Records of the operator's own namespace: the embedded authorities' keys.

use std::collections::BTreeMap;

use countersign_core::{
    api::{MANAGED_BY, MANAGED_BY_LABEL, Reason},
    fault::Failure,
    value::secret_data::SecretBytes,
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt, api::PostParams};

use super::{About, Cluster};
use crate::runtime::metrics::{Resource, Verb};

/// Field manager of the records.
const RECORD_MANAGER: &str = "countersign.dev/trust-domain";

/// An embedded authority as it is kept: immutable, one Secret each.
#[derive(Debug, Clone)]
pub struct AuthoritySecret {
    /// Name of the Secret.
    pub name: String,
    /// The authority's certificate, PEM; empty when the key is missing.
    pub certificate: String,
    /// Its private key, PKCS#8 PEM; empty when the key is missing.
    pub key: SecretBytes,
}

impl Cluster {
    /// Reads one authority; `None` = the Secret does not exist.
    ///
    /// # Errors
    /// Anything but present and absent: an unreadable key must never look like an absent one.
    pub async fn authority(&self, name: &str) -> Result<Option<AuthoritySecret>, Failure> {
        let namespace = self.operator_namespace();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "reading", resource: Resource::Secrets, namespace, name };
        match self.read(&about, api.get(name)).await {
            Ok(secret) => Ok(Some(decode(secret))),
            Err(failure) if failure.reason == Reason::SourceMissing => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Creates one authority by POST, so that of two racing leaders only one succeeds.
    ///
    /// # Errors
    /// `WriteConflict` when it exists already.
    pub async fn create_authority(&self, authority: &AuthoritySecret) -> Result<(), Failure> {
        let namespace = self.operator_namespace();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "creating", resource: Resource::Secrets, namespace, name: &authority.name };
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(authority.certificate.clone().into_bytes())),
            ("tls.key".to_owned(), ByteString(authority.key.expose().to_vec())),
        ]);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(authority.name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            immutable: Some(true),
            data: Some(data),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some(RECORD_MANAGER.to_owned()), ..PostParams::default() };
        self.write(&about, Verb::Create, api.create(&params, &secret)).await.map(|_| ())
    }
}

fn decode(mut secret: Secret) -> AuthoritySecret {
    let mut take =
        |key: &str| secret.data.as_mut().and_then(|data| data.remove(key)).map(|bytes| bytes.0).unwrap_or_default();
    let certificate = String::from_utf8(take("tls.crt")).unwrap_or_default();
    let key = SecretBytes::new(take("tls.key"));
    AuthoritySecret { name: secret.name_any(), certificate, key }
}
