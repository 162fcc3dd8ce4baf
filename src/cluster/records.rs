//! Records of the operator's own namespace: the embedded authorities' keys, and the key of the installation.

use std::collections::BTreeMap;

use countersign_core::{
    api::{MANAGED_BY, MANAGED_BY_LABEL, Reason},
    fault::{Class, Failure},
    value::{keyed::InstallKey, secret_data::SecretBytes},
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, ResourceExt, api::PostParams};

use super::{About, Cluster};
use crate::runtime::metrics::{Resource, Verb};

/// Field manager of the records.
const RECORD_MANAGER: &str = "countersign.dev/trust-domain";
/// Field manager of the key of the installation.
const INSTALL_MANAGER: &str = "countersign.dev/install";

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

/// Name of the Secret with the key of the installation.
const INSTALL_KEY: &str = "countersign-install-key";
/// Its only key.
const INSTALL_KEY_DATA: &str = "key";

impl Cluster {
    /// The key of the installation; `None` = there is none yet.
    ///
    /// # Errors
    /// Anything but present and absent: an unreadable key must never look like an absent one. `Denied` where the Secret
    /// holds no key.
    pub async fn install_key(&self) -> Result<Option<InstallKey>, Failure> {
        let (namespace, name) = (self.operator_namespace(), INSTALL_KEY);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "reading", resource: Resource::Secrets, namespace, name };
        let mut secret = match self.read(&about, api.get(name)).await {
            Ok(secret) => secret,
            Err(failure) if failure.reason == Reason::SourceMissing => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let bytes = secret.data.as_mut().and_then(|data| data.remove(INSTALL_KEY_DATA));
        let key = bytes.and_then(|bytes| InstallKey::new(SecretBytes::new(bytes.0)));
        let unusable = || {
            let words = format!("secret {name} of the operator's namespace holds no key; restore it, or delete it");
            Failure::new(Class::Denied, Reason::SourceMissing, words)
        };
        key.ok_or_else(unusable).map(Some)
    }

    /// Stores a key of the installation by POST, so that of two racing leaders only one succeeds.
    ///
    /// # Errors
    /// `WriteConflict` when there is one already.
    pub async fn create_install_key(&self, key: &SecretBytes) -> Result<(), Failure> {
        let (namespace, name) = (self.operator_namespace(), INSTALL_KEY);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "creating", resource: Resource::Secrets, namespace, name };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            immutable: Some(true),
            data: Some(BTreeMap::from([(INSTALL_KEY_DATA.to_owned(), ByteString(key.expose().to_vec()))])),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some(INSTALL_MANAGER.to_owned()), ..PostParams::default() };
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
