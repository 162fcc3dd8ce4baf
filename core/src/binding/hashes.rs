//! What a Secret was made of, in three hashes: the spec, the sources, the content.
//!
//! The spec is public and its digest plain; what depends on values is keyed by the installation, so that an annotation
//! tells nobody who lacks the key anything.

use std::collections::BTreeMap;

use crate::{
    binding::{
        gates::Admitted,
        intent::{Entry, Intent},
    },
    value::{
        digest,
        keyed::InstallKey,
        kv::{RemoteValue, Values},
        secret_data::SecretBytes,
    },
};

/// Annotation with the digest of the spec that a Secret was made of.
pub const RENDERING: &str = "countersign.dev/rendering";

/// Keyed hash of what a Secret holds.
pub fn content_hash(key: &InstallKey, type_: &str, data: &BTreeMap<String, SecretBytes>) -> String {
    let pairs = data.iter().flat_map(|(name, value)| [name.as_bytes(), value.expose()]);
    key.hash([b"content".as_slice(), type_.as_bytes()].into_iter().chain(pairs))
}

/// Keyed hash of the values of a source.
pub fn fields_hash(key: &InstallKey, values: &Values) -> String {
    let mut parts: Vec<SecretBytes> = Vec::new();
    for (name, value) in &values.fields {
        parts.push(SecretBytes::new(name.as_bytes().to_vec()));
        flatten(value, &mut parts);
    }
    key.hash([b"fields".as_slice()].into_iter().chain(parts.iter().map(SecretBytes::expose)))
}

/// A value as parts that no other value has.
fn flatten(value: &RemoteValue, parts: &mut Vec<SecretBytes>) {
    let mut mark = |text: String| parts.push(SecretBytes::from(text));
    match value {
        RemoteValue::Text(text) => {
            mark("text".to_owned());
            parts.push(text.clone());
        }
        RemoteValue::Integer(number) => mark(format!("number {number}")),
        // Which one it is cannot be told, and it cannot be written either.
        RemoteValue::Inexact => mark("inexact".to_owned()),
        RemoteValue::Bool(truth) => mark(format!("bool {truth}")),
        RemoteValue::Null => mark("null".to_owned()),
        RemoteValue::List(items) => {
            mark(format!("list {}", items.len()));
            for item in items {
                flatten(item, parts);
            }
        }
        RemoteValue::Object(fields) => {
            mark(format!("object {}", fields.len()));
            for (name, value) in fields {
                parts.push(SecretBytes::new(name.as_bytes().to_vec()));
                flatten(value, parts);
            }
        }
    }
}

/// Digest of everything in the spec that the Secret is made of; all of it is public.
pub fn rendering(intent: &Intent, admitted: &Admitted<'_>) -> String {
    let mut parts: Vec<String> = vec!["v1".to_owned(), intent.uid.clone(), admitted.connection.to_owned()];
    parts.push(format!("{:?}", intent.target.deletion));
    for (key, value) in intent.target.labels.iter().chain(&intent.target.annotations) {
        parts.extend([key.clone(), value.clone()]);
    }
    for source in &intent.sources {
        parts.push(source.name.clone());
        parts.extend(source.kind.identity());
    }
    for entry in &intent.entries {
        parts.push(match entry {
            Entry::Each { source, prefix, case, only, non_string } => {
                let only = only.as_ref().map(regex_lite::Regex::as_str);
                format!("each {source} {prefix:?} {case:?} {only:?} {non_string:?}")
            }
            Entry::One { key, source, field, decode, non_string } => {
                format!("one {key:?} {source} {field:?} {decode:?} {non_string:?}")
            }
        });
    }
    digest::short(&parts.iter().map(String::as_bytes).collect::<Vec<_>>())
}
