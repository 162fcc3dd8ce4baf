//! What was sent: I-08, I-10, I-14 to I-16, I-29.

use std::time::Duration;

use serde_json::Value;

use super::Violation;
use crate::crash::{
    call::Sort,
    history::{Call, Change, History, Version},
    plan::Job,
};

/// Time a call may spend between the check of the Lease and the proxy.
const TRANSIT: Duration = Duration::from_secs(1);

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for call in history.calls().filter(|call| call.request.sort == Sort::Write) {
        found.extend(guarded(history, call));
        found.extend(led(history, call));
    }
    found.extend(foreign(history));
    found.extend(quiet(history));
    found.extend(logins(history));
    let surprises = history.processes.iter().filter_map(|process| process.surprise.as_ref());
    found.extend(surprises.map(|how| Violation::new("I-29", format!("the process ended by itself: {how}"))));
    found
}

/// I-10: deletes name the UID, updates of a Secret or a policy the version.
fn guarded(history: &History, call: &Call) -> Option<Violation> {
    if call.request.verb == "DELETE" {
        let uid = call.body.pointer("/preconditions/uid").and_then(Value::as_str).unwrap_or_default();
        let what = || format!("DELETE of {} {} without preconditions.uid", call.request.resource, call.request.object);
        return uid.is_empty().then(|| Violation::new("I-10", what()));
    }
    let kind = match call.request.resource.as_str() {
        "secrets" => "Secret",
        "networkpolicies" => "NetworkPolicy",
        _ => return None,
    };
    if call.request.verb == "POST" {
        return None;
    }
    let version = call.body.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    let existed = || {
        let mine =
            |v: &&Version| v.is(kind, &call.request.object) && v.text("/metadata/namespace") == call.request.namespace;
        let written = call.resource_version.as_deref();
        // With an answer the version before it tells; without one, what was there when the call came.
        let before =
            |v: &&Version| if written.is_some() { written != Some(v.text("/metadata/resourceVersion")) } else { true };
        let last = history.versions.iter().filter(mine).take_while(before).filter(|v| v.at <= call.at).last();
        last.is_some_and(|v| v.change != Change::Deleted)
    };
    // What the server refused changed nothing, but an update that would have been blind is one all the same.
    (version.is_empty() && existed()).then(|| {
        Violation::new(
            "I-10",
            format!("{} of {kind} {} without a resourceVersion", call.request.verb, call.request.object),
        )
    })
}

/// I-08: nothing of others is touched.
fn foreign(history: &History) -> Vec<Violation> {
    let ours = |version: &Version| {
        version.text("/metadata/labels/app.kubernetes.io~1managed-by") == "countersign"
            && !version.text("/metadata/labels/countersign.dev~1owner-uid").is_empty()
    };
    let owner = |version: &Version| version.text("/metadata/labels/countersign.dev~1owner-uid").to_owned();
    let mut found = Vec::new();
    let bystander: Vec<&Version> =
        history.versions.iter().filter(|v| v.is("Secret", &history.subject.bystander)).collect();
    if bystander.iter().any(|version| version.change != Change::Added) {
        found.push(Violation::new("I-08", "a Secret of somebody else was touched"));
    }
    let secrets: Vec<&Version> = history.secret().collect();
    for pair in secrets.windows(2) {
        let [before, after] = pair else { continue };
        if after.change != Change::Modified || before.change == Change::Deleted {
            continue;
        }
        if !ours(before) {
            found.push(Violation::new("I-08", "a Secret without our label was patched"));
        } else if owner(before) != owner(after) {
            found.push(Violation::new("I-08", "a Secret of another owner was patched"));
        }
    }
    found
}

/// I-16: only the holder of the Lease writes.
fn led(history: &History, call: &Call) -> Option<Violation> {
    let mut renewals =
        history.calls.iter().filter(|c| c.request.sort == Sort::Lease && c.request.verb != "GET" && c.done());
    let last = renewals.rfind(|renewal| renewal.at <= call.at);
    let holds =
        last.is_some_and(|l| l.process == call.process && call.at.saturating_sub(l.at) <= history.grace + TRANSIT);
    (!holds).then(|| {
        let who = last.map_or("nobody".to_owned(), |l| {
            format!("process {}, {} ms before", l.process, call.at.saturating_sub(l.at).as_millis())
        });
        let (process, verb, resource) = (call.process, &call.request.verb, &call.request.resource);
        Violation::new("I-16", format!("{verb} {resource} by process {process}; the Lease was last renewed by {who}"))
    })
}

/// I-15: once settled, nothing is written and OpenBao is not asked.
fn quiet(history: &History) -> Option<Violation> {
    let settled = history.marks.settled?;
    let due =
        |call: &&Call| !matches!(call.request.sort, Sort::Read | Sort::Lease | Sort::Health) && call.owner.is_some();
    let call = history.calls().find(|call| call.at > settled && due(call))?;
    let after = call.at.saturating_sub(settled).as_millis();
    Some(Violation::new(
        "I-15",
        format!("{} {} {after} ms after all was quiet", call.request.verb, call.request.resource),
    ))
}

/// I-14: one login a process, and one of the account that reads; one more where an answer of the login, or the token it
/// gave, was lost to a fault.
fn logins(history: &History) -> Option<Violation> {
    let logins = history.calls().filter(|call| call.request.logs_in()).count();
    let since = history.marks.begun;
    let processes = history.processes.iter().filter(|process| process.ended.is_none_or(|end| end >= since)).count();
    let repeats = history
        .calls()
        .filter(|call| call.request.logs_in() && call.answered != call.status || call.request.logs_in() && !call.done())
        .count();
    let accounts = if history.subject.job == Job::Binding { 2 } else { 1 };
    (logins > processes * accounts + repeats)
        .then(|| Violation::new("I-14", format!("{logins} logins by {processes} processes, {repeats} of which failed")))
}
