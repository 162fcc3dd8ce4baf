//! Secrets of other namespaces: read by an empty patch, written by one server-side apply.
//!
//! The operator has no right to get, list or watch Secrets there. An empty merge patch returns an
//! own Secret unchanged, and is refused with 422 by the fence for any other.

use std::collections::BTreeMap;

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::target::SecretWrite,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use super::{About, Cluster, READ_MANAGER};
use crate::runtime::metrics::{Resource, Verb};

/// What a Secret looks like to us.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It does not exist.
    Absent,
    /// It exists and is not ours.
    Foreign,
    /// It is ours.
    Ours(Box<Secret>),
}

impl Cluster {
    /// Reads a Secret of any namespace, if it is ours.
    ///
    /// # Errors
    /// Anything but "absent", "foreign" and "here it is".
    pub async fn read_secret(&self, namespace: &str, name: &str) -> Result<Seen, Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "reading", resource: Resource::Secrets, namespace, name };
        let params = PatchParams { field_manager: Some(READ_MANAGER.to_owned()), ..PatchParams::default() };
        // A patch, even an empty one, is sent only while we lead: the API server cannot tell it from a write.
        self.may_act()?;
        match self.read(&about, api.patch(name, &params, &Patch::Merge(serde_json::json!({})))).await {
            Ok(secret) => Ok(Seen::Ours(Box::new(secret))),
            Err(failure) if failure.reason == Reason::SourceMissing => Ok(Seen::Absent),
            Err(failure) if failure.reason == Reason::AdmissionRefused => Ok(Seen::Foreign),
            Err(failure) => Err(failure),
        }
    }

    /// Writes a whole Secret in one server-side apply, without force.
    ///
    /// # Errors
    /// `WriteConflict` when the expected version is no longer there, `TargetNotOwned` when the
    /// fence or the answer shows that it is somebody else's.
    pub async fn write_secret(&self, write: &SecretWrite, owner_kind: &OwnerKind<'_>) -> Result<Secret, Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &write.namespace);
        let about =
            About { doing: "writing", resource: Resource::Secrets, namespace: &write.namespace, name: &write.name };
        let secret = secret(write, owner_kind);
        let params = PatchParams::apply(owner_kind.manager).validation_strict();
        let written = self.write(&about, Verb::Apply, api.patch(&write.name, &params, &Patch::Apply(&secret))).await;
        written.map_err(|failure| match failure.reason {
            Reason::AdmissionRefused => Failure::new(
                Class::Waiting,
                Reason::TargetNotOwned,
                format!("secret \"{}\" is not managed by this object; name another, or delete it", write.name),
            ),
            // The namespace is the only thing a write can miss.
            Reason::SourceMissing => Failure::new(
                Class::Waiting,
                Reason::NamespaceTerminating,
                format!("namespace {} is gone", write.namespace),
            ),
            _ => failure,
        })
    }
}

/// Kind of the object that owns a written Secret.
#[derive(Debug, Clone, Copy)]
pub struct OwnerKind<'a> {
    /// For example `countersign.dev`.
    pub group: &'a str,
    /// For example `v1alpha1`.
    pub version: &'a str,
    /// For example `ServiceIdentity`.
    pub kind: &'a str,
    /// Field manager of what its controller writes, for example `countersign.dev/identity`.
    pub manager: &'a str,
}

fn secret(write: &SecretWrite, owner_kind: &OwnerKind<'_>) -> Secret {
    let owner = write.owner.as_ref().map(|owner| OwnerReference {
        api_version: format!("{}/{}", owner_kind.group, owner_kind.version),
        kind: owner_kind.kind.to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    let data: BTreeMap<String, ByteString> =
        write.data.iter().map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec()))).collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(write.name.clone()),
            namespace: Some(write.namespace.clone()),
            resource_version: write.expected.clone(),
            labels: Some(write.labels.clone()),
            annotations: Some(write.annotations.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(write.type_.clone()),
        data: Some(data),
        ..Secret::default()
    }
}
