//! The objects that policies of ours are written as, and what keeps a Segment until they are withdrawn.

use countersign_core::{
    api::{Reason, Segment},
    fault::Failure,
    network::{plan::Write, render::Kind},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Resource as _, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};

use super::{About, Cluster};
use crate::runtime::metrics::{Resource, Verb};

/// Field manager of our policies, and of the finalizer on a Segment.
const MANAGER: &str = "countersign.dev/network";
/// Keeps a Segment until its policies are withdrawn in order.
pub const FINALIZER: &str = "countersign.dev/cleanup";

fn resource(kind: Kind) -> Resource {
    match kind {
        Kind::NetworkPolicy => Resource::NetworkPolicies,
    }
}

impl Cluster {
    /// Performs one write of a plan; returns the new version, or `None` where the object is gone.
    ///
    /// What somebody changed is taken back with force, and only then: a deny that was opened by hand must not stay so.
    ///
    /// # Errors
    /// As any write. An object that is gone already is deleted.
    pub async fn write_policy(&self, write: &Write) -> Result<Option<String>, Failure> {
        let (namespace, name) = (write.namespace(), write.name());
        let kind = write.kind();
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource());
        let about = |doing| About { doing, resource: resource(kind), namespace, name };
        match write {
            Write::Apply { object, expected, repairs } => {
                let about = about("writing");
                let mut object = object.clone();
                object.meta_mut().resource_version.clone_from(expected);
                let mut params = PatchParams::apply(MANAGER).validation_strict();
                if *repairs {
                    object.spell_out();
                    params = params.force();
                }
                let patch = Patch::Apply(&object);
                let written = self.write(&about, Verb::Apply, api.patch(name, &params, &patch)).await?;
                Ok(Some(written.resource_version().unwrap_or_default()))
            }
            Write::Delete { uid, .. } => {
                let about = about("deleting");
                let only_this = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let params = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
                match self.write(&about, Verb::Delete, api.delete(name, &params)).await {
                    Err(failure) if failure.reason != Reason::SourceMissing => Err(failure),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Keeps a Segment, or lets it go, when it is deleted.
    ///
    /// # Errors
    /// As any write.
    pub async fn keep_segment(&self, segment: &Segment, keep: bool) -> Result<(), Failure> {
        let name = segment.name_any();
        let about = About { doing: "keeping", resource: Resource::Segments, namespace: "", name: &name };
        let finalizers: &[&str] = if keep { &[FINALIZER] } else { &[] };
        let body = serde_json::json!({
            "apiVersion": Segment::api_version(&()),
            "kind": Segment::kind(&()),
            "metadata": { "name": name, "uid": segment.uid(), "finalizers": finalizers },
        });
        let api: Api<Segment> = Api::all(self.client.clone());
        let params = PatchParams::apply(MANAGER);
        match self.write(&about, Verb::Apply, api.patch(&name, &params, &Patch::Apply(&body))).await {
            Err(failure) if !keep && failure.reason == Reason::SourceMissing => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whether the definition of Segment itself is being deleted: then what stands is left standing, since removing
    /// software must not open networks.
    ///
    /// # Errors
    /// As any read but "it does not exist", which means yes.
    pub async fn segments_go(&self) -> Result<bool, Failure> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = format!("{}.{}", Segment::plural(&()), Segment::group(&()));
        let about = About { doing: "reading", resource: Resource::CustomResources, namespace: "", name: &name };
        match self.read(&about, api.get(&name)).await {
            Ok(crd) => Ok(crd.metadata.deletion_timestamp.is_some()),
            Err(failure) if failure.reason == Reason::SourceMissing => Ok(true),
            Err(failure) => Err(failure),
        }
    }
}
