//! Whether the CRDs of ours are in the cluster, and new enough for this binary.

use countersign_core::api::{all_crds, serves};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};

use super::{About, Cluster};
use crate::runtime::metrics::Resource;

/// What was found of our CRDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crds {
    /// All are there, with every field that this binary knows.
    Current,
    /// One is not, or could not be read: which, and what to do.
    Trouble(String),
}

impl Cluster {
    /// Compares the stored CRDs with those this binary was built with.
    pub async fn crds(&self) -> Crds {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for ours in all_crds() {
            let name = ours.name_any();
            let about = About { doing: "reading", resource: Resource::CustomResources, namespace: "", name: &name };
            match self.read(&about, api.get(&name)).await {
                Ok(stored) if serves(&stored, &ours) => {}
                Ok(_) => {
                    return Crds::Trouble(format!(
                        "CRD {name} lacks fields of this version; apply the CRDs of `countersign crds`"
                    ));
                }
                Err(failure) => return Crds::Trouble(failure.message),
            }
        }
        Crds::Current
    }
}
