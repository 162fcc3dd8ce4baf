//! Objects without what differs from run to run: times, serials, UIDs, keys, the plan's own names.

use serde_json::{Map, Value};

use crate::crash::history::{Subject, Version};

/// Fields whose value is new in every run.
const FRESH: [&str; 8] =
    ["serial", "fingerprint", "authority", "id", "certificate", "root", "issuerRef", "countersign.dev/content-hash"];

/// A version of an object, comparable between runs.
pub(super) fn masked(version: &Version, subject: &Subject) -> Value {
    let mut object = version.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let managers = managers(metadata.remove("managedFields").as_ref());
        for name in ["uid", "resourceVersion", "creationTimestamp", "selfLink"] {
            metadata.remove(name);
        }
        metadata.insert("managers".to_owned(), managers);
    }
    if version.kind == "Secret"
        && let Some(data) = object.get_mut("data").and_then(Value::as_object_mut)
    {
        data.values_mut().for_each(|value| *value = "<bytes>".into());
    }
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.sort_by_key(|c| c.get("type").and_then(Value::as_str).unwrap_or_default().to_owned());
    }
    // Which lane plays a plan is chance.
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove("lane");
    }
    hide(&mut object, subject);
    object
}

/// Who owns fields, except the tests.
fn managers(fields: Option<&Value>) -> Value {
    let entries = fields.and_then(Value::as_array).into_iter().flatten();
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut managers: Vec<String> = entries
        .map(|entry| format!("{} {} {}", text(entry, "manager"), text(entry, "operation"), text(entry, "subresource")))
        .filter(|manager| manager.starts_with("countersign.dev/"))
        .collect();
    managers.sort();
    managers.into()
}

fn hide(value: &mut Value, subject: &Subject) {
    match value {
        Value::String(text) => *text = plain(text, subject),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, subject)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if FRESH.contains(&name.as_str()) && field.is_string() {
                    *field = "<fresh>".into();
                } else {
                    hide(field, subject);
                }
            }
            let renamed: Map<String, Value> =
                std::mem::take(fields).into_iter().map(|(name, field)| (plain(&name, subject), field)).collect();
            *fields = renamed;
        }
        _ => {}
    }
}

/// A text without the plan's names, times, UIDs and long numbers.
pub(super) fn plain(text: &str, subject: &Subject) -> String {
    let mut text = text.replace(&subject.scope.namespace, "<namespace>").replace(&subject.scope.domain, "<domain>");
    if let Some(connection) = &subject.scope.connection {
        text = text.replace(connection, "<connection>");
    }
    if let Some(closed) = &subject.scope.closed {
        text = text.replace(&closed.peer, "<peer>").replace(&closed.segment, "<segment>");
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '+');
    let mut plain = String::new();
    for piece in text.split_inclusive(|c| !word(c)) {
        let body = piece.trim_end_matches(|c| !word(c));
        let rest = piece.get(body.len()..).unwrap_or_default();
        plain.push_str(if is_time(body) {
            "<time>"
        } else if is_fresh(body) {
            "<fresh>"
        } else {
            body
        });
        plain.push_str(rest);
    }
    plain
}

fn is_time(word: &str) -> bool {
    let shape: String = word.chars().take(19).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00" || word.starts_with("127.0.0.1:")
}

fn is_fresh(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_hexdigit).count();
    let marks = word.chars().filter(|c| matches!(c, '-' | ':')).count();
    digits >= 16 && digits + marks == word.len() && word.chars().any(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::call::Scope;

    #[test]
    fn what_differs_between_runs_is_hidden_and_nothing_else() {
        let scope =
            Scope { namespace: "n-1".into(), domain: "d-1".into(), connection: Some("c-1".into()), closed: None };
        let subject = Subject { scope, ..Subject::default() };
        let text = "web of n-1, until 2026-11-25T22:41:55Z, by 4ba1ed07-6a2f-4ec1-a6e7-4d0b4c5d9fbd of d-1 (90m, 24h)";
        assert_eq!(plain(text, &subject), "web of <namespace>, until <time>, by <fresh> of <domain> (90m, 24h)");
    }
}
