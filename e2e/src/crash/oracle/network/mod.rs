//! Closed namespaces, at every version of the policies in them: I-08, I-19 to I-22, I-32, I-34.

mod policy;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use self::policy::{Direction, Pod, admits, isolates, list, passes, rules, selects};
use super::Violation;
use crate::crash::{
    history::{Change, History, Version},
    plan::Workload,
    segment::{BYSTANDER, CLIENT, NEXT_PORT, PORT, SERVER, STRANGER, sides},
};

/// By how much later one version may be seen than another that was stored at the same time.
const LAG: Duration = Duration::from_millis(250);
/// A port that nobody declares.
const OTHER_PORT: u16 = 8080;

/// When policies were last written.
#[derive(Default)]
struct Newest {
    /// In each namespace.
    written: BTreeMap<String, Duration>,
    /// Anywhere, so that nothing was closed by it.
    widened: Option<Duration>,
}

/// Our policies at one time, by namespace and name.
type State = BTreeMap<(String, String), Value>;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let (mut state, mut found) = (State::new(), Vec::new());
    let mut newest = Newest::default();
    let (mut is_ending, mut holds) = (false, false);
    for version in &history.versions {
        if version.kind == "Segment" {
            is_ending |= version.change == Change::Deleted || !version.text("/metadata/deletionTimestamp").is_empty();
            holds =
                version.change != Change::Deleted && !list(version.object.pointer("/metadata/finalizers")).is_empty();
        }
        if version.kind == "NetworkPolicy" && version.name() == BYSTANDER {
            if version.change != Change::Added {
                found.push(Violation::new("I-08", "a NetworkPolicy of somebody else was touched"));
            }
        } else if version.kind == "NetworkPolicy" {
            found.extend(form(version));
            let before = state.clone();
            let namespace = version.text("/metadata/namespace").to_owned();
            let key = (namespace.clone(), version.name().to_owned());
            match version.change {
                Change::Deleted => state.remove(&key),
                _ => state.insert(key, version.object.clone()),
            };
            found.extend(order(history, version, &before, &state));
            found.extend(barrier(history, version, &before, &newest));
            found.extend(edge(history, &before, &state));
            found.extend(closed(history, &before, &state, is_ending));
            newest.written.insert(namespace.clone(), version.at);
            if !narrows(history, &before, &state, &namespace) {
                newest.widened = Some(version.at);
            }
        }
        if !holds && !state.is_empty() {
            found.push(Violation::new("I-19", "there are policies, and no finalizer on their Segment"));
        }
    }
    found.extend(end(history, &state));
    found.dedup();
    found
}

fn is_deny(policy: &Value) -> bool {
    let labels = policy.pointer("/spec/podSelector/matchLabels").and_then(Value::as_object);
    labels.is_none_or(serde_json::Map::is_empty)
        && list(policy.pointer("/spec/podSelector/matchExpressions")).is_empty()
}

/// I-21, I-34: nothing in a rule is left out or wider than a pod selector in a named namespace.
fn form(version: &Version) -> Vec<Violation> {
    let (policy, name) = (&version.object, version.name());
    let mut found = Vec::new();
    let mut wrong = |invariant, what: &str| found.push(Violation::new(invariant, format!("{name}: {what}")));
    if list(policy.pointer("/spec/policyTypes")).is_empty() {
        wrong("I-21", "no policyTypes");
    }
    if policy.pointer("/metadata/ownerReferences").is_some() {
        wrong("I-34", "an ownerReference");
    }
    if version.text("/metadata/labels/countersign.dev~1owner-uid").is_empty() {
        wrong("I-08", "no owner");
    }
    for direction in Direction::BOTH {
        for rule in rules(policy, direction) {
            let peers = list(rule.get(direction.fields().1));
            let named = |peer: &Value| {
                let namespace = peer.pointer("/namespaceSelector/matchLabels/kubernetes.io~1metadata.name");
                let pods = peer.pointer("/podSelector/matchLabels").and_then(Value::as_object);
                namespace.is_some() && pods.is_some_and(|labels| !labels.is_empty())
            };
            if peers.is_empty() || !peers.iter().all(named) {
                wrong("I-21", "a rule without peers, or with a peer that is not a named namespace and a pod selector");
            }
            if list(rule.get("ports")).is_empty() {
                wrong("I-21", "a rule without ports");
            }
            if is_deny(policy) {
                wrong("I-21", "a rule for every pod of a namespace");
            }
        }
    }
    found
}

/// I-32: in a namespace the deny comes after the allow objects and goes before them.
fn order(history: &History, version: &Version, before: &State, after: &State) -> Option<Violation> {
    let namespace = version.text("/metadata/namespace");
    let here = |state: &State, deny: bool| {
        state.iter().filter(|((place, _), policy)| place == namespace && is_deny(policy) == deny).count()
    };
    let what = if here(after, true) > 0 && here(after, false) == 0 {
        if here(before, true) == 0 {
            "the deny came before the allow objects"
        } else {
            "the allow objects went before the deny"
        }
    } else if here(after, true) > 0 && here(after, false) < here(before, false) && history.workload == Workload::Open {
        "an allow object went before the deny"
    } else {
        return None;
    };
    Some(Violation::new("I-32", format!("{}: {what}", history.name(version))))
}

/// Pairs of one namespace's own pod that a state lets pass in one direction, as the judge's pods see it.
fn open(history: &History, state: &State, namespace: &str) -> Vec<bool> {
    let (client, server) = sides(&history.subject);
    let order = Pod { namespace: client, app: CLIENT };
    let payment = Pod { namespace: server, app: SERVER };
    let mut pairs = Vec::new();
    for port in [PORT, NEXT_PORT, OTHER_PORT] {
        for (direction, pod, other) in [(Direction::Egress, order, payment), (Direction::Ingress, payment, order)] {
            pairs.push(pod.namespace == namespace && passes(state.values(), direction, pod, other, port));
        }
    }
    for direction in Direction::BOTH {
        let stranger = Pod { namespace, app: STRANGER };
        pairs.push(passes(state.values(), direction, stranger, Pod { namespace: "elsewhere", app: "" }, OTHER_PORT));
    }
    pairs
}

/// Whether something passed before in a namespace that does not pass after.
fn narrows(history: &History, before: &State, after: &State, namespace: &str) -> bool {
    let pairs = open(history, before, namespace).into_iter().zip(open(history, after, namespace));
    pairs.into_iter().any(|(was, is)| was && !is)
}

/// I-32: what closes waits for the data plane to have followed the writes before. A port that closes waits for both sides.
fn barrier(history: &History, version: &Version, before: &State, newest: &Newest) -> Option<Violation> {
    let namespace = version.text("/metadata/namespace");
    let mut after = before.clone();
    let key = (namespace.to_owned(), version.name().to_owned());
    if version.change == Change::Deleted {
        after.remove(&key);
    } else {
        after.insert(key.clone(), version.object.clone());
    }
    // The first policy of a workload closes it as well; it is what the deny waits for.
    let is_first_allow = !before.contains_key(&key) && !is_deny(&version.object);
    let is_last_step = version.change == Change::Deleted && !is_deny(&version.object);
    if is_first_allow || !(narrows(history, before, &after, namespace) || is_last_step) {
        return None;
    }
    let written =
        if is_deny(&version.object) || is_last_step { newest.written.get(namespace).copied() } else { newest.widened };
    let waited = version.at.saturating_sub(written?);
    (waited + LAG < history.subject.settle).then(|| {
        let (waited, settle) = (waited.as_millis(), history.subject.settle.as_millis());
        Violation::new("I-32", format!("{}: {waited} ms after the write before, {settle} due", history.name(version)))
    })
}

/// I-32: the declared edge passes: at its one port, and while that is changed at the old or the new.
fn edge(history: &History, before: &State, after: &State) -> Vec<Violation> {
    let (client, server) = sides(&history.subject);
    let order = Pod { namespace: client, app: CLIENT };
    let payment = Pod { namespace: server, app: SERVER };
    let passes_at = |state: &State, port| {
        passes(state.values(), Direction::Egress, order, payment, port)
            && passes(state.values(), Direction::Ingress, payment, order, port)
    };
    let mut found = Vec::new();
    let (old, new) = (passes_at(after, PORT), passes_at(after, NEXT_PORT));
    if !(old || new && history.workload == Workload::Edit) {
        found.push(Violation::new("I-32", "the declared edge is cut"));
    }
    if history.workload == Workload::Edit && !passes_at(before, PORT) && passes_at(before, NEXT_PORT) && !new {
        found.push(Violation::new("I-32", "the new port was closed again"));
    }
    // I-22: nobody else is let through by what we write.
    let places = [client, server, "elsewhere"];
    for policy in after.values() {
        for (direction, pod, peer) in [(Direction::Egress, order, payment), (Direction::Ingress, payment, order)] {
            for other in
                places.iter().flat_map(|namespace| [STRANGER, CLIENT, SERVER, ""].map(|app| Pod { namespace, app }))
            {
                let is_peer = (other.namespace, other.app) == (peer.namespace, peer.app);
                let undeclared = |port: &u16| !is_peer || *port == OTHER_PORT;
                let ports = [PORT, NEXT_PORT, OTHER_PORT].into_iter().filter(undeclared);
                if selects(policy, pod) && ports.into_iter().any(|port| admits(policy, direction, other, port)) {
                    found.push(Violation::new(
                        "I-22",
                        format!("{direction:?} of {} to an undeclared pod or port", pod.app),
                    ));
                }
            }
            let stranger = Pod { namespace: pod.namespace, app: STRANGER };
            if selects(policy, stranger) && !rules(policy, direction).is_empty() {
                found.push(Violation::new("I-22", "an undeclared pod is let through"));
            }
        }
    }
    found
}

/// I-20: until the Segment is being deleted, a pod that was isolated stays so.
fn closed(history: &History, before: &State, after: &State, is_ending: bool) -> Vec<Violation> {
    let (client, server) = sides(&history.subject);
    let mut found = Vec::new();
    for (namespace, app) in [(client, CLIENT), (client, STRANGER), (server, SERVER), (server, STRANGER)] {
        for direction in Direction::BOTH {
            let isolated = |state: &State| {
                state.values().any(|policy| selects(policy, Pod { namespace, app }) && isolates(policy, direction))
            };
            if !is_ending && isolated(before) && !isolated(after) {
                found.push(Violation::new("I-20", format!("{app} was opened: {direction:?}")));
            }
        }
    }
    found
}

/// I-17, I-20: at the end both namespaces are closed in both directions, or nothing is left.
fn end(history: &History, state: &State) -> Vec<Violation> {
    let (client, server) = sides(&history.subject);
    if history.marks.settled.is_none() {
        return Vec::new(); // the end was not reached, which is told elsewhere
    }
    if history.workload == Workload::Open {
        let left = (!state.is_empty()).then(|| Violation::new("I-17", "policies are left of a Segment that is gone"));
        return left.into_iter().collect();
    }
    let mut found = Vec::new();
    for namespace in [client, server] {
        for direction in Direction::BOTH {
            let stranger = Pod { namespace, app: STRANGER };
            if passes(state.values(), direction, stranger, Pod { namespace: "elsewhere", app: "" }, OTHER_PORT) {
                found.push(Violation::new("I-20", format!("a namespace is not closed: {direction:?}")));
            }
        }
    }
    found
}
