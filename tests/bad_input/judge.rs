//! Judges a case by the CRDs alone, in the order and with the words of the API server.
//!
//! It knows only what our schemas use. Whether it agrees with a real server is checked by
//! `tests/crds_on_server.rs`; this one answers in milliseconds and needs no server.

use jsonschema::{Draft, error::ValidationErrorKind};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

use super::Input;

/// Annotations of one object, keys and values together.
const ANNOTATION_BYTES: usize = 256 * 1024;

/// Knows the CRDs, compiled once.
pub struct Judge(Vec<Kind>);

struct Kind {
    name: String,
    schema: Value,
    openapi: jsonschema::Validator,
    rules: CompiledSchema,
    has_status: bool,
}

impl Judge {
    /// A judge of objects of these kinds.
    pub fn new(crds: &[CustomResourceDefinition]) -> Self {
        Self(crds.iter().map(Kind::new).collect())
    }

    /// The verdict on a case: the object as it would be stored, or the words of the refusal.
    pub fn judge(&self, input: &Input) -> Result<Value, String> {
        match input {
            Input::Create(object) => self.admit(object, None),
            Input::Update { old, new } => {
                self.admit(old, None).map_err(|words| format!("the old object is refused: {words}"))?;
                self.admit(new, Some(old))
            }
            Input::Raw(text) => self.admit(&parse(text)?, None),
        }
    }

    fn admit(&self, object: &Value, old: Option<&Value>) -> Result<Value, String> {
        let name = object["kind"].as_str().unwrap_or_default();
        let kind = self.0.iter().find(|kind| kind.name == name).ok_or_else(|| format!("no kind {name:?}"))?;
        kind.admit(object, old)
    }
}

impl Kind {
    fn new(crd: &CustomResourceDefinition) -> Self {
        let version = &crd.spec.versions[0];
        let schema = json!(version.schema.as_ref().unwrap().open_api_v3_schema);
        Self {
            name: crd.spec.names.kind.clone(),
            openapi: jsonschema::options().with_draft(Draft::Draft7).build(&schema).unwrap(),
            rules: compile_schema(&schema),
            has_status: version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()),
            schema,
        }
    }

    fn admit(&self, object: &Value, old: Option<&Value>) -> Result<Value, String> {
        let mut unknown = Vec::new();
        unknown_fields(&self.schema, object, "", &mut unknown);
        refuse_if_any(&unknown)?;

        let mut object = object.clone();
        if let (true, Some(members)) = (self.has_status, object.as_object_mut()) {
            members.remove("status"); // the main endpoint does not write it
        }
        drop_nulls(&mut object);

        let (mut findings, stops) = self.openapi(&object);
        findings.extend(annotations(&object));
        duplicates(&self.schema, &object, "", &mut findings);
        if !stops {
            let broken = Validator::new().validate_compiled(&self.rules, &object, old).err().into_iter().flatten();
            findings.extend(broken.map(|error| format!("{}: Invalid value: {}", error.field_path, error.message)));
        }
        refuse_if_any(&findings)?;
        Ok(object)
    }

    /// The findings of OpenAPI in the server's words, and whether one of them keeps it from evaluating rules.
    fn openapi(&self, object: &Value) -> (Vec<String>, bool) {
        let mut stops = false;
        let findings = self
            .openapi
            .iter_errors(object)
            .map(|error| {
                let path = field_path(error.instance_path().as_str());
                match error.kind() {
                    ValidationErrorKind::Required { property } => {
                        stops = true;
                        let name = property.as_str().unwrap_or_default();
                        format!("{path}.{name}: Required value")
                    }
                    ValidationErrorKind::Type { .. } => {
                        stops = true;
                        let wanted = self.schema.pointer(error.schema_path().as_str()).and_then(Value::as_str);
                        format!("{path}: Invalid value: in body must be of type {}", wanted.unwrap_or_default())
                    }
                    ValidationErrorKind::MaxItems { limit } | ValidationErrorKind::MaxProperties { limit } => {
                        stops = true;
                        format!("{path}: Too many: must have at most {limit} items")
                    }
                    ValidationErrorKind::MaxLength { limit } => {
                        stops = true;
                        format!("{path}: Too long: may not be more than {limit} bytes")
                    }
                    ValidationErrorKind::Enum { options } => {
                        stops = true;
                        let options: Vec<_> = options.as_array().into_iter().flatten().map(Value::to_string).collect();
                        format!("{path}: Unsupported value: supported values: {}", options.join(", "))
                    }
                    ValidationErrorKind::Minimum { limit } => {
                        format!("{path}: Invalid value: should be greater than or equal to {limit}")
                    }
                    ValidationErrorKind::Maximum { limit } => {
                        format!("{path}: Invalid value: should be less than or equal to {limit}")
                    }
                    other => format!("{path}: Invalid value: {}", other.keyword()),
                }
            })
            .collect();
        (findings, stops)
    }
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "key already set in map".to_owned(),
        serde_saphyr::Error::Budget { .. } | serde_saphyr::Error::AliasError { .. } => {
            "document contains excessive aliasing".to_owned()
        }
        other => other.to_string(),
    })
}

fn refuse_if_any(findings: &[String]) -> Result<(), String> {
    if findings.is_empty() { Ok(()) } else { Err(findings.join(", ")) }
}

/// Strict field validation: what the schema does not name is an error, not dropped.
fn unknown_fields(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of_every_kind = path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
                match schema["properties"].get(name).or(schema.get("additionalProperties")) {
                    Some(schema) => unknown_fields(schema, member, &here, found),
                    None if of_every_kind => {}
                    None => found.push(format!("unknown field \"{here}\"")),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unknown_fields(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Items of a set, and keys of a list that is a map, stand once.
fn duplicates(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if let Some(schema) = schema["properties"].get(name).or(schema.get("additionalProperties")) {
                    duplicates(schema, member, &here, found);
                }
            }
        }
        Value::Array(items) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let identity = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => Some(item.clone()),
                Some("map") => {
                    Some(keys.into_iter().flatten().map(|key| item[key.as_str().unwrap()].clone()).collect())
                }
                _ => None,
            };
            for (index, item) in items.iter().enumerate() {
                let here = format!("{path}[{index}]");
                let own = identity(item);
                if own.is_some() && items.iter().take(index).any(|before| identity(before) == own) {
                    found.push(format!("{here}: Duplicate value"));
                }
                duplicates(&schema["items"], item, &here, found);
            }
        }
        _ => {}
    }
}

/// A member that is null counts as absent, since no field of ours is nullable; an item of a list does not.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn annotations(object: &Value) -> Option<String> {
    let annotations = object["metadata"]["annotations"].as_object()?;
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    (bytes > ANNOTATION_BYTES)
        .then(|| format!("metadata.annotations: Too long: may not be more than {ANNOTATION_BYTES} bytes"))
}

/// `/spec/dnsNames/0` as `spec.dnsNames[0]`.
fn field_path(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, part| {
        if part.parse::<usize>().is_ok() {
            format!("{path}[{part}]")
        } else if path.is_empty() {
            part.to_owned()
        } else {
            format!("{path}.{part}")
        }
    })
}
