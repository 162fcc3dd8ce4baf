//! Reading and awaiting the conditions that an object reports.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{Api, array, text},
    wait::{Look, until},
};

/// How long the operator may take to report on a change: the promise of the design.
pub const TRUTH: Duration = Duration::from_secs(30);

/// A condition that a test expects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Its type; any if absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its status; any if absent.
    pub status: Option<String>,
    /// Its reason; any if absent.
    pub reason: Option<String>,
    /// What its message must contain.
    #[serde(default)]
    pub message: String,
}

impl Expected {
    /// A condition of that type with that status.
    pub fn status(kind: &str, status: &str) -> Self {
        Self { kind: Some(kind.into()), status: Some(status.into()), reason: None, message: String::new() }
    }

    /// Any condition for that reason.
    pub fn reason(reason: &str) -> Self {
        Self { kind: None, status: None, reason: Some(reason.into()), message: String::new() }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Whether `object` reports it for its present generation.
    pub fn look(&self, object: &Value) -> Look<()> {
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        if object.pointer("/status/observedGeneration").and_then(Value::as_i64) != Some(generation) {
            return Err(format!("status of another generation than {generation}: {}", shown(object)));
        }
        let fits = |condition: &Value| {
            let same = |wanted: &Option<String>, field: &str| {
                wanted.as_deref().is_none_or(|wanted| text(condition, field) == wanted)
            };
            same(&self.kind, "/type")
                && same(&self.status, "/status")
                && same(&self.reason, "/reason")
                && text(condition, "/message").contains(&self.message)
        };
        if array(object, "/status/conditions").iter().any(fits) { Ok(()) } else { Err(shown(object)) }
    }
}

/// `Ready=True`.
pub fn ready() -> Expected {
    Expected::status("Ready", "True")
}

/// The conditions of an object in one line.
pub fn shown(object: &Value) -> String {
    let conditions = array(object, "/status/conditions").iter().map(|condition| {
        let part = |name: &str| text(condition, name).to_owned();
        format!("{}={}/{} ({})", part("/type"), part("/status"), part("/reason"), part("/message"))
    });
    format!(
        "{} {}: [{}]",
        text(object, "/kind"),
        text(object, "/metadata/name"),
        conditions.collect::<Vec<_>>().join("; ")
    )
}

/// Waits until the object at `path` reports what is expected; returns it.
///
/// # Errors
/// When it does not within `patience`.
pub async fn reports(api: &Api, path: &str, expected: &Expected, patience: Duration) -> Result<Value> {
    until(&format!("{path} reports {expected:?}"), patience, async || {
        let object = api.get(path).await?;
        Ok(expected.look(&object).map(|()| object))
    })
    .await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"kind": "K", "metadata": {"name": "n", "generation": 2}, "status": {"observedGeneration": 2, "conditions": [
            {"type": "Ready", "status": "False", "reason": "NameNotAllowed", "message": "\"x\" is not allowed"}]}})
    }

    #[test]
    fn every_part_must_fit() {
        let expected = Expected::status("Ready", "False").because("NameNotAllowed");
        assert_eq!(expected.look(&object()), Ok(()));
        assert!(ready().look(&object()).is_err());
        assert!(expected.clone().because("Other").look(&object()).is_err());
        assert!(Expected { message: "y".into(), ..expected }.look(&object()).is_err());
    }

    #[test]
    fn a_status_of_an_older_generation_says_nothing() {
        let mut object = object();
        object["metadata"]["generation"] = 3.into();
        assert!(Expected::status("Ready", "False").look(&object).unwrap_err().contains("generation"));
    }
}
