//! What objects of the cluster say, reduced to what the proofs ask about.
//!
//! Reads JSON only; must not know how it was got.

use serde_json::Value;

/// What a ServiceIdentity says about its certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Condition `Ready`
    pub ready: bool,
    /// Hex
    pub serial: String,
    /// The last request that was acted on
    pub handled: String,
}

/// One pod, as far as a restart would change it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    uid: String,
    restarts: i64,
}

impl Certificate {
    /// Reads it from the object.
    pub fn of(identity: &Value) -> Self {
        let text = |path: &str| identity.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            ready: condition(identity, "Ready"),
            serial: text("/status/serial"),
            handled: text("/status/lastHandledRequest"),
        }
    }
}

/// Whether a condition is `True` and speaks of the present spec. Conditions of our kinds say which generation they saw;
/// those of a Deployment leave that to the status as a whole.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let Some(condition) =
        conditions.into_iter().flatten().find(|condition| condition.get("type") == Some(&kind.into()))
    else {
        return false;
    };
    let generation = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_i64);
    let observed =
        generation(condition, "/observedGeneration").or_else(|| generation(object, "/status/observedGeneration"));
    condition.get("status") == Some(&"True".into()) && observed >= generation(object, "/metadata/generation")
}

/// The pods of a list, in a fixed order.
pub fn pods(list: &Value) -> Vec<Pod> {
    let items = list.get("items").and_then(Value::as_array);
    let mut pods: Vec<Pod> = items.into_iter().flatten().map(pod).collect();
    pods.sort();
    pods
}

/// The database login that payment says it uses: the last one in its log.
pub fn revision(log: &str) -> Option<String> {
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = |line: Value| line.pointer("/database/revision").and_then(Value::as_str).map(str::to_owned);
    lines.find_map(said)
}

/// The beginning of a serial number: enough to tell two apart.
pub fn short(serial: &str) -> &str {
    serial.get(..8).unwrap_or(serial)
}

fn pod(pod: &Value) -> Pod {
    let uid = pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let restarts = |container: &Value| container.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
    Pod { uid: uid.to_owned(), restarts: containers.into_iter().flatten().map(restarts).sum() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_of_an_older_spec_does_not_count() {
        let object = |status: &str, observed: i64| {
            json!({"metadata": {"generation": 2}, "status": {"serial": "0a", "lastHandledRequest": "r", "conditions": [
                {"type": "Issued", "status": "True"},
                {"type": "Ready", "status": status, "observedGeneration": observed}]}})
        };
        let expected = Certificate { ready: true, serial: "0a".to_owned(), handled: "r".to_owned() };
        assert_eq!(Certificate::of(&object("True", 2)), expected);
        assert!(!condition(&object("True", 1), "Ready"));
        assert!(!condition(&object("False", 2), "Ready"));
        assert_eq!(Certificate::of(&json!({})), Certificate::default());
    }

    #[test]
    fn a_deployments_generation_is_in_its_status() {
        let object = |observed: i64| {
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": [
                {"type": "Available", "status": "True"}]}})
        };
        assert!(condition(&object(2), "Available"));
        assert!(!condition(&object(1), "Available"));
    }

    #[test]
    fn a_restart_and_a_replacement_change_a_pod() {
        let list = |uid: &str, restarts: i64| json!({"items": [{"metadata": {"uid": uid}, "status": {"containerStatuses": [{"restartCount": restarts}]}}]});
        assert_eq!(pods(&list("a", 0)), pods(&list("a", 0)));
        assert_ne!(pods(&list("a", 0)), pods(&list("a", 1)));
        assert_ne!(pods(&list("a", 0)), pods(&list("b", 0)));
    }

    #[test]
    fn the_last_revision_in_the_log_is_the_one_in_use() {
        let log = "{\"database\":{\"revision\":\"1\"}}\nnoise\n{\"database\":{\"revision\":\"2\"},\"event\":\"reloaded\"}\n{\"event\":\"x\"}\n";
        assert_eq!(revision(log).as_deref(), Some("2"));
        assert_eq!(revision("nothing"), None);
    }

    #[test]
    fn a_short_serial_is_itself() {
        assert_eq!((short("0123456789"), short("01")), ("01234567", "01"));
    }
}
