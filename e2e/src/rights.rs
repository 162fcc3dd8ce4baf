//! What the chart grants, held against what was done.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    api::{array, text},
    audit::Act,
};

/// One verb on one resource, as a role grants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// RBAC verb.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// Resource, with its subresource after a slash.
    pub resource: String,
    /// The only object it is about; any if absent.
    pub name: Option<String>,
    /// The only namespace it holds in; every namespace and none if absent.
    pub namespace: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, name, namespace } = self;
        write!(formatter, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(formatter, ".{group}")?;
        }
        name.iter().try_for_each(|name| write!(formatter, " {name}"))?;
        formatter.write_str(if namespace.is_some() { " (own namespace)" } else { " (everywhere)" })
    }
}

impl Right {
    /// Whether it allows an act.
    pub fn allows(&self, act: &Act) -> bool {
        self.verb == act.verb
            && self.group == act.group
            && self.resource == act.resource
            && self.name.as_ref().is_none_or(|name| *name == act.name)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == act.namespace)
    }

    /// Whether an act needed it. A right that holds everywhere is needed only outside of `own`, the operator's namespace,
    /// if `own` has the same right by a role of its own.
    pub fn is_needed_for(&self, act: &Act, all: &BTreeSet<Self>) -> bool {
        self.allows(act) && !all.iter().any(|other| other.namespace > self.namespace && other.allows(act))
    }
}

/// The rights that the roles of a rendered chart give a ServiceAccount.
///
/// # Errors
/// When a binding names a role that is not there.
pub fn granted(objects: &[Value], account: &str) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for binding in objects.iter().filter(|object| text(object, "/kind").ends_with("RoleBinding")) {
        if !array(binding, "/subjects").iter().any(|subject| text(subject, "/name") == account) {
            continue;
        }
        let (kind, name) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
        let role =
            objects.iter().find(|object| text(object, "/kind") == kind && text(object, "/metadata/name") == name);
        let namespace = Some(text(binding, "/metadata/namespace")).filter(|name| !name.is_empty());
        for rule in array(role.with_context(|| format!("{kind} {name} is missing"))?, "/rules") {
            rights.extend(expand(rule, namespace));
        }
    }
    Ok(rights)
}

fn expand(rule: &Value, namespace: Option<&str>) -> Vec<Right> {
    let texts = |field: &str| -> Vec<String> {
        array(rule, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let names: Vec<Option<String>> = match texts("/resourceNames") {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let mut rights = Vec::new();
    for group in texts("/apiGroups") {
        for resource in texts("/resources") {
            for verb in texts("/verbs") {
                rights.extend(names.iter().map(|name| Right {
                    verb: verb.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    name: name.clone(),
                    namespace: namespace.map(str::to_owned),
                }));
            }
        }
    }
    rights
}

/// Acts with the rights that the server checked besides the one in the log: an apply that made the object (201) also
/// needed `create`, though the log says `patch`.
pub fn with_implied(acts: &BTreeSet<Act>) -> BTreeSet<Act> {
    let made = acts.iter().filter(|act| act.verb == "patch" && act.status == 201);
    let implied = made.map(|act| Act { verb: "create".to_owned(), ..act.clone() });
    acts.iter().cloned().chain(implied).collect()
}

/// Rights that no act needed.
pub fn unused(granted: &BTreeSet<Right>, acts: &BTreeSet<Act>) -> BTreeSet<Right> {
    let acts = with_implied(acts);
    let needed = |right: &&Right| !acts.iter().any(|act| !act.forbidden && right.is_needed_for(act, granted));
    granted.iter().filter(needed).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chart() -> Vec<Value> {
        let role = |kind: &str, rules: Value| json!({"kind": kind, "metadata": {"name": "r"}, "rules": rules});
        let binding = |kind: &str, namespace: &str| {
            json!({"kind": format!("{kind}Binding"), "metadata": {"name": "r", "namespace": namespace},
                "roleRef": {"kind": kind, "name": "r"}, "subjects": [{"name": "me"}]})
        };
        vec![
            role("ClusterRole", json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch"]}])),
            binding("ClusterRole", ""),
            role(
                "Role",
                json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch"], "resourceNames": ["x"]}]),
            ),
            binding("Role", "own"),
        ]
    }

    fn act(verb: &str, namespace: &str, name: &str, status: u16) -> Act {
        let text = str::to_owned;
        let (verb, namespace, name) = (text(verb), text(namespace), text(name));
        Act { verb, group: String::new(), resource: "secrets".into(), namespace, name, status, forbidden: false }
    }

    fn left(acts: &[Act]) -> Vec<String> {
        let granted = granted(&chart(), "me").unwrap();
        assert_eq!(granted.len(), 3);
        unused(&granted, &acts.iter().cloned().collect()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_right_is_used_only_by_what_needs_it() {
        assert_eq!(left(&[]).len(), 3);
        assert_eq!(
            left(&[act("patch", "own", "x", 200)]),
            ["create secrets (everywhere)", "patch secrets (everywhere)"]
        );
        assert_eq!(left(&[act("patch", "other", "y", 201)]), ["patch secrets x (own namespace)"]);
        let forbidden = Act { forbidden: true, ..act("patch", "other", "y", 403) };
        assert_eq!(left(&[forbidden]).len(), 3);
    }
}
