//! From the values of the sources to the keys of the Secret: all of them, or the reason why not.
//!
//! A pure function of its inputs. A message names keys, never a value or a part of one.

use std::collections::BTreeMap;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde_json::Value;

use crate::{
    api::{Decoding, KeyCase, NonString, Reason},
    binding::{
        intent::{Entry, Intent},
        reads::Known,
    },
    fault::{Class, Failure},
    value::{
        kv::{RemoteValue, Values},
        secret_data::SecretBytes,
    },
};

/// The most bytes of all values together; Kubernetes stores no more in a Secret.
const MAX_BYTES: usize = 1_048_576;
/// The most characters of a key that are shown.
const SHOWN: usize = 64;

/// The keys of the Secret, in the order of their names.
pub type Data = BTreeMap<String, SecretBytes>;

/// A refresh that cannot be written, and the source it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Why.
    pub failure: Failure,
    /// The place of the source, where it is about one.
    pub source: Option<usize>,
}

/// Makes every key of the Secret.
///
/// # Errors
/// The first thing that keeps it from being whole; nothing is left out, renamed or cut instead.
pub fn map(intent: &Intent, known: &BTreeMap<usize, Known>) -> Result<Data, Unusable> {
    let mut data = Data::new();
    for entry in &intent.entries {
        let source = match entry {
            Entry::Each { source, .. } | Entry::One { source, .. } => *source,
        };
        let about = |failure| Unusable { failure, source: Some(source) };
        let name = intent.sources.get(source).map(|source| source.name.as_str()).unwrap_or_default();
        let Some(values) = known.get(&source).and_then(|known| known.values.as_ref()) else {
            let words = format!("source {name} was not read");
            return Err(about(Failure::new(Class::Bug, Reason::InternalError, words)));
        };
        let made = match entry {
            Entry::Each { prefix, case, only, non_string, .. } => {
                each(values, name, prefix, *case, only.as_ref(), *non_string)
            }
            Entry::One { key, field, decode, non_string, .. } => {
                one(values, name, field, *decode, *non_string).map(|value| vec![(key.clone(), value)])
            }
        };
        for (key, value) in made.map_err(about)? {
            let shown = shown(&key);
            if data.insert(key, value).is_some() {
                let words = format!("two entries of spec.secret.data give the key {shown}; use a prefix");
                return Err(about(Failure::new(Class::Invalid, Reason::KeyCollision, words)));
            }
        }
    }
    whole(intent, &data).map_err(|failure| Unusable { failure, source: None })?;
    Ok(data)
}

fn each(
    values: &Values,
    source: &str,
    prefix: &str,
    case: Option<KeyCase>,
    only: Option<&regex_lite::Regex>,
    non_string: NonString,
) -> Result<Vec<(String, SecretBytes)>, Failure> {
    let mut made = Vec::new();
    let mut unusable = Vec::new();
    for (field, value) in &values.fields {
        if only.is_some_and(|only| !only.is_match(field)) {
            continue;
        }
        let cased = match case {
            None => field.clone(),
            Some(KeyCase::Upper) => field.to_uppercase(),
            Some(KeyCase::Lower) => field.to_lowercase(),
        };
        let key = format!("{prefix}{cased}");
        if is_data_key(&key) {
            made.push((key, text(value, source, field, non_string)?));
        } else {
            unusable.push(shown(&key));
        }
    }
    if unusable.is_empty() {
        return Ok(made);
    }
    let count = unusable.len();
    unusable.truncate(4);
    let words = format!(
        "source {source} has {count} keys that a Secret cannot hold ({}); choose others with match, or name them with key and from",
        unusable.join(", ")
    );
    Err(Failure::new(Class::Waiting, Reason::InvalidKeyName, words))
}

fn one(
    values: &Values,
    source: &str,
    field: &str,
    decode: Decoding,
    non_string: NonString,
) -> Result<SecretBytes, Failure> {
    let missing = || {
        let words = format!("source {source} has no key {}", shown(field));
        Failure::new(Class::Waiting, Reason::RemoteKeyMissing, words)
    };
    let value = find(&values.fields, field).ok_or_else(missing)?;
    let bytes = text(value, source, field, non_string)?;
    decoded(bytes, decode).ok_or_else(|| {
        let words = format!("the value of {} in source {source} is not written as decode says", shown(field));
        Failure::new(Class::Waiting, Reason::DecodeFailed, words)
    })
}

/// A key as it stands, else a path into nested values.
fn find<'a>(fields: &'a BTreeMap<String, RemoteValue>, field: &str) -> Option<&'a RemoteValue> {
    if let Some(value) = fields.get(field) {
        return Some(value);
    }
    let (first, rest) = field.split_once('.')?;
    match fields.get(first)? {
        RemoteValue::Object(below) => find(below, rest),
        _ => None,
    }
}

fn text(value: &RemoteValue, source: &str, field: &str, non_string: NonString) -> Result<SecretBytes, Failure> {
    let field = shown(field);
    match (value, non_string) {
        (RemoteValue::Text(text), _) => Ok(text.clone()),
        (RemoteValue::Null, _) => {
            let words = format!("key {field} of source {source} is null");
            Err(Failure::new(Class::Waiting, Reason::RemoteKeyMissing, words))
        }
        (value, NonString::Refuse) => {
            let words =
                format!("key {field} of source {source} is {}; nonString: JSON would take it as JSON", value.kind());
            Err(Failure::new(Class::Waiting, Reason::NonStringValue, words))
        }
        (value, NonString::JSON) => {
            let json = json(value).ok_or_else(|| {
                let words = format!(
                    "key {field} of source {source} has a number that JSON does not keep exactly; store it as text"
                );
                Failure::new(Class::Waiting, Reason::LossyNumber, words)
            })?;
            Ok(SecretBytes::from(json.to_string()))
        }
    }
}

fn json(value: &RemoteValue) -> Option<Value> {
    Some(match value {
        // What is read from JSON is UTF-8.
        RemoteValue::Text(text) => Value::String(String::from_utf8_lossy(text.expose()).into_owned()),
        RemoteValue::Integer(number) => Value::from(*number),
        RemoteValue::Inexact => return None,
        RemoteValue::Bool(truth) => Value::Bool(*truth),
        RemoteValue::Null => Value::Null,
        RemoteValue::List(items) => Value::Array(items.iter().map(json).collect::<Option<_>>()?),
        RemoteValue::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| Some((key.clone(), json(value)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}

fn decoded(bytes: SecretBytes, decode: Decoding) -> Option<SecretBytes> {
    let plain = match decode {
        Decoding::None => return Some(bytes),
        Decoding::Base64 | Decoding::Hex => {
            bytes.expose().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>()
        }
    };
    let plain = SecretBytes::new(plain);
    let text = plain.expose();
    let made = match decode {
        Decoding::None => return Some(bytes),
        Decoding::Hex => HEXLOWER_PERMISSIVE.decode(text),
        Decoding::Base64 => {
            let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
            // Padding is optional, but what is there must fill the last group.
            if text.len() > end && !text.len().is_multiple_of(4) {
                return None;
            }
            let text = text.get(..end)?;
            let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
            if url_safe { BASE64URL_NOPAD.decode(text) } else { BASE64_NOPAD.decode(text) }
        }
    };
    made.ok().map(SecretBytes::new)
}

/// What must be true of the whole Secret.
fn whole(intent: &Intent, data: &Data) -> Result<(), Failure> {
    let size: usize = data.values().map(|value| value.expose().len()).sum();
    if size > MAX_BYTES {
        let words = format!("the values have {size} bytes of {MAX_BYTES}; bind fewer of them");
        return Err(Failure::new(Class::Waiting, Reason::SecretTooLarge, words));
    }
    match intent.target.type_.as_str() {
        "kubernetes.io/tls" if !["tls.crt", "tls.key"].iter().all(|key| data.contains_key(*key)) => {
            let words = "type kubernetes.io/tls needs keys tls.crt and tls.key";
            Err(Failure::new(Class::Waiting, Reason::RemoteKeyMissing, words))
        }
        "kubernetes.io/dockerconfigjson" => {
            let config = data.get(".dockerconfigjson").map(SecretBytes::expose);
            let is_one = config.is_some_and(|bytes| {
                serde_json::from_slice::<Value>(bytes)
                    .is_ok_and(|value| value.get("auths").is_some_and(Value::is_object))
            });
            let words =
                "type kubernetes.io/dockerconfigjson needs a key .dockerconfigjson with a JSON object that has auths";
            if is_one { Ok(()) } else { Err(Failure::new(Class::Waiting, Reason::InvalidDockerConfig, words)) }
        }
        _ => Ok(()),
    }
}

/// Whether a Secret can hold the key.
fn is_data_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&key.len()) && key.bytes().all(plain) && key != "." && !key.starts_with("..")
}

/// A key in quotes, cut and without anything that could break a line.
fn shown(key: &str) -> String {
    let mut text: String = key.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if key.chars().count() > SHOWN {
        text.push('…');
    }
    format!("\"{text}\"")
}
