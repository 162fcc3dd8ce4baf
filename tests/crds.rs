//! The CRDs in `crds/` are those that the wire types describe, are fit for a server, and judge bad
//! input as `tests/bad_input` says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod bad_input;

use std::{fs, path::Path};

use countersign_core::api::{SCHEMA_HASH, all_crds, crd_files};
use serde_json::{Value, json};

use bad_input::{Input, cases, judge::judge};

#[test]
fn the_committed_files_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = crd_files().unwrap();
    for (name, yaml) in &files {
        let committed = fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(committed == *yaml, "crds/{name} is not what the wire types describe: run `cargo xtask crds`");
    }
    let committed = fs::read_dir(&directory).unwrap().count();
    assert_eq!(committed, files.len(), "crds/ holds a file that belongs to no kind");
}

#[test]
fn the_files_say_what_the_crds_say() {
    for ((name, yaml), crd) in crd_files().unwrap().iter().zip(all_crds()) {
        let mut read: Value = serde_saphyr::from_str(yaml).unwrap();
        let keep = read["metadata"]["annotations"].as_object_mut().unwrap().remove("helm.sh/resource-policy");
        assert_eq!(keep, Some(json!("keep")), "{name}");
        assert_eq!(read, json!(crd), "{name}");
    }
}

#[test]
fn they_fit_into_a_request_and_a_release() {
    let sizes: Vec<_> = crd_files().unwrap().into_iter().map(|(name, yaml)| (name, yaml.len())).collect();
    for (name, size) in &sizes {
        assert!(*size < 100_000, "{name} has {size} bytes");
    }
    assert!(sizes.iter().map(|(_, size)| size).sum::<usize>() < 200_000);
}

#[test]
fn the_hash_follows_the_schema_and_nothing_else() {
    let hashes: Vec<_> =
        all_crds().iter().map(|crd| crd.metadata.annotations.as_ref().unwrap()[SCHEMA_HASH].clone()).collect();
    assert!(hashes.iter().all(|hash| hash.len() == 64));
    assert!(hashes.iter().enumerate().all(|(index, hash)| !hashes[..index].contains(hash)), "{hashes:?}");
}

/// Calls `visit` with every schema below the root and its path, `metadata` aside.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(keyword) {
            walk(inner, &format!("{path}{suffix}"), visit);
        }
    }
}

fn problems_of(problem: impl Fn(&str, &Value) -> Option<&'static str>) -> Vec<String> {
    let mut found = Vec::new();
    for crd in all_crds() {
        let schema = json!(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema);
        walk(&schema, &crd.spec.names.kind, &mut |path, schema| {
            found.extend(problem(path, schema).map(|problem| format!("{path}: {problem}")));
        });
    }
    found
}

#[test]
fn they_are_structural_and_strict() {
    let keywords = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "format",
        "default",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "maxProperties",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    let found = problems_of(|path, schema| {
        let members = schema.as_object().unwrap();
        if !schema["type"].is_string() {
            Some("has no type")
        } else if schema.get("properties").is_some() && schema.get("additionalProperties").is_some() {
            Some("is a struct and a map at once")
        } else if members.keys().any(|keyword| !keywords.contains(&keyword.as_str())) {
            Some("uses a keyword that is not reviewed here (nullable, anyOf, preserve-unknown-fields …)")
        } else if schema.get("default").is_some() && !(path.ends_with("status") && path.split('.').count() == 2) {
            Some("has a default; only status has one")
        } else {
            None
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_text_and_list_is_bounded() {
    let found = problems_of(|_, schema| match schema["type"].as_str() {
        Some("string") if schema.get("maxLength").is_none() => {
            let closed = schema.get("enum").is_some() || schema["format"] == "date-time";
            (!closed).then_some("is a text without maxLength")
        }
        Some("array") if schema.get("maxItems").is_none() => Some("is a list without maxItems"),
        Some("object") if schema.get("additionalProperties").is_some() && schema.get("maxProperties").is_none() => {
            Some("is a map without maxProperties")
        }
        _ => None,
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_field_is_described() {
    let found = problems_of(|path, schema| {
        let description = schema["description"].as_str().unwrap_or_default();
        let element = path.ends_with(']') || path.ends_with('}');
        let top = path.split('.').count() <= 2;
        if element {
            None
        } else if description.is_empty() {
            Some("has no description")
        } else if path.contains(".spec.")
            && !top
            && !description.contains("Example: ")
            && !description.contains("Default: ")
        {
            Some("has neither an example nor a default")
        } else {
            None
        }
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_rule_has_its_own_words() {
    let found = problems_of(|_, schema| {
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        rules
            .into_iter()
            .find(|rule| rule["message"].as_str().is_none_or(str::is_empty))
            .map(|_| "has a rule without a message")
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_schemas_judge_every_case_as_expected() {
    let (crds, cases) = (all_crds(), cases());
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| case.check(&judge(&crds, &case.input)).err().map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 150, "only {} cases were found", cases.len());
}

#[test]
fn a_status_that_is_not_written_yet_says_so() {
    for crd in all_crds() {
        let schema = json!(crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema);
        assert_eq!(schema["properties"]["status"]["default"], json!({"observedGeneration": -1}));
    }
}

#[test]
fn the_wire_types_read_every_object_that_is_accepted() {
    use countersign_core::api::{ServiceIdentity, TrustDomain, VaultConnection};
    let crds = all_crds();
    for case in cases() {
        let (Input::Create(object) | Input::Update { new: object, .. }) = &case.input else { continue };
        let Ok(stored) = judge(&crds, &case.input) else { continue };
        let read = match object["kind"].as_str().unwrap() {
            "VaultConnection" => serde_json::from_value::<VaultConnection>(stored.clone()).map(|read| json!(read)),
            "TrustDomain" => serde_json::from_value::<TrustDomain>(stored.clone()).map(|read| json!(read)),
            _ => serde_json::from_value::<ServiceIdentity>(stored.clone()).map(|read| json!(read)),
        };
        assert_eq!(
            read.unwrap_or_else(|error| panic!("{}: {error}", case.name))["spec"],
            stored["spec"],
            "{}",
            case.name
        );
    }
}
