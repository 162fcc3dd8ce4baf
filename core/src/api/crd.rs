//! The CustomResourceDefinitions, generated from the wire types.
//!
//! `kube-derive` yields the schema; [`finish`] adds what all kinds share, so that no kind can
//! forget it. `cargo xtask crds` writes the result to `crds/`; a test keeps the two equal.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube_core::CustomResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    AccessGrant, AccessRequest, ExternalService, SCHEMA_HASH, SecretBinding, Segment, ServiceIdentity, TrustDomain,
    VaultConnection,
};

/// Every CRD of this version, in the order in which a person would read them.
///
/// Each carries the annotation [`SCHEMA_HASH`]: the binary compares it with its own at start and
/// reports `CRDOutdated` instead of dropping fields that the server does not know.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [
        VaultConnection::crd(),
        TrustDomain::crd(),
        ServiceIdentity::crd(),
        SecretBinding::crd(),
        Segment::crd(),
        AccessGrant::crd(),
        AccessRequest::crd(),
        ExternalService::crd(),
    ]
    .into_iter()
    .map(finish)
    .collect()
}

/// The files of `crds/`: name and content. Writing it down as YAML is the caller's business.
///
/// Helm is told to keep a CRD when a release goes: deleting it would take every object of the
/// kind along, and with them every Secret they own.
pub fn crd_files() -> Vec<(String, CustomResourceDefinition)> {
    let kept = |mut crd: CustomResourceDefinition| {
        let annotations = crd.metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
        (format!("{}.yaml", crd.spec.names.plural), crd)
    };
    all_crds().into_iter().map(kept).collect()
}

/// Whether a stored CRD can hold every field of `ours`: it serves our version, and its schema has
/// each of our properties. One with more, of a newer release, can; one with fewer would drop them.
pub fn serves(stored: &CustomResourceDefinition, ours: &CustomResourceDefinition) -> bool {
    let schema = |crd: &CustomResourceDefinition, name: &str| {
        let version = crd.spec.versions.iter().find(|version| version.name == name && version.served)?;
        version.schema.as_ref()?.open_api_v3_schema.clone()
    };
    ours.spec.versions.iter().all(|version| match (schema(stored, &version.name), schema(ours, &version.name)) {
        (Some(stored), Some(ours)) => holds(&stored, &ours),
        _ => false,
    })
}

fn holds(stored: &JSONSchemaProps, ours: &JSONSchemaProps) -> bool {
    let properties = ours.properties.iter().flatten().all(|(name, ours)| {
        stored.properties.as_ref().and_then(|all| all.get(name)).is_some_and(|stored| holds(stored, ours))
    });
    let items = match (&stored.items, &ours.items) {
        (Some(JSONSchemaPropsOrArray::Schema(stored)), Some(JSONSchemaPropsOrArray::Schema(ours))) => {
            holds(stored, ours)
        }
        (_, None) => true,
        (_, Some(_)) => false,
    };
    let values = match (&stored.additional_properties, &ours.additional_properties) {
        (Some(JSONSchemaPropsOrBool::Schema(stored)), Some(JSONSchemaPropsOrBool::Schema(ours))) => holds(stored, ours),
        (stored, ours) => stored.is_some() == ours.is_some(),
    };
    properties && items && values
}

/// Adds what every kind has and removes what Kubernetes would misread.
fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            tidy(root);
            bound_name(root);
            mark_unseen(root);
        }
    }
    let schemas: Vec<_> = crd.spec.versions.iter().map(|version| json!([version.name, version.schema])).collect();
    let hash = HEXLOWER.encode(&Sha256::digest(sorted(json!(schemas)).to_string()));
    crd.metadata.annotations.get_or_insert_default().insert(SCHEMA_HASH.to_owned(), hash);
    crd
}

/// The same value with the members of every object in order, whichever map serde_json was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

/// Optional fields are absent, never null; values that are missing are filled in by code, not by
/// the server, so that what is stored stays what was written; descriptions are running text.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    schema.title = None;
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// Leaves room for the suffixes of names that are derived from an object's name.
fn bound_name(root: &mut JSONSchemaProps) {
    root.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
        rule: "self.metadata.name.size() <= 200".to_owned(),
        message: Some("metadata.name must be at most 200 characters".to_owned()),
        ..ValidationRule::default()
    });
}

/// Without a status, kstatus calls an object Current; so a fresh one says that nobody has looked.
fn mark_unseen(root: &mut JSONSchemaProps) {
    if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
        status.default = Some(JSON(json!({"observedGeneration": -1})));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `change` with the schema of the first kind's spec.
    fn altered(change: impl FnOnce(&mut BTreeMap<String, JSONSchemaProps>)) -> CustomResourceDefinition {
        let mut crd = all_crds().swap_remove(0);
        let root = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
        let spec = root.properties.as_mut().unwrap().get_mut("spec").unwrap();
        change(spec.properties.as_mut().unwrap());
        crd
    }

    #[test]
    fn a_stored_crd_serves_us_if_it_has_every_field_of_ours() {
        let ours = &all_crds()[0];
        assert!(serves(ours, ours));
        let newer = altered(|spec| {
            spec.insert("later".to_owned(), JSONSchemaProps::default());
        });
        assert!(serves(&newer, ours) && !serves(ours, &newer));
        let nested = altered(|spec| {
            spec.get_mut("tls").unwrap().properties.as_mut().unwrap().remove("serverName");
        });
        assert!(!serves(&nested, ours));
        let mut unserved = ours.clone();
        unserved.spec.versions[0].served = false;
        assert!(!serves(&unserved, ours));
    }
}
