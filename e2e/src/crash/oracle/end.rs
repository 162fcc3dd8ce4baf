//! The end, compared with that of undisturbed runs: I-14 (calls), I-17, I-18.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    Violation,
    mask::{masked, plain},
};
use crate::crash::{
    call::{Name, Sort},
    certificate,
    history::{Change, History, Version},
    plan::{Act, Job, Place, Position, Workload},
};

/// What one run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Objects that are left, masked, by kind and name.
    pub end: Value,
    /// Creations and deletions, by kind and name.
    pub counts: BTreeMap<String, (usize, usize)>,
    /// Certificates, or sets of values, stored.
    pub stored: usize,
    /// Signatures that OpenBao gave.
    pub signed: usize,
    /// Calls to OpenBao besides `sys/health`.
    pub vault: usize,
    /// Numbered calls.
    pub names: BTreeSet<Name>,
    /// Writes to the API server, by resource and object.
    pub writes: BTreeMap<String, usize>,
}

/// By how many writes of one object a fault may exceed an undisturbed run: the one that failed, and one of a successor.
const REPEATS: usize = 2;
/// The same of a status, which tells of the failure as well.
const STATUS_REPEATS: usize = 3;

impl Summary {
    /// Sums a history up.
    pub fn of(history: &History) -> Self {
        let subject = &history.subject;
        let remaining = history.remaining();
        let name = |kind: &str, name: &str| plain(&format!("{kind} {name}"), subject);
        let end: Map<String, Value> =
            remaining.iter().map(|((kind, object), v)| (name(kind, object), masked(v, subject))).collect();
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for version in &history.versions {
            let count = counts.entry(name(&version.kind, &history.name(version))).or_default();
            match version.change {
                Change::Added => count.0 += 1,
                Change::Deleted => count.1 += 1,
                Change::Modified => {}
            }
        }
        let content = |version: &Version| match subject.job {
            Job::Identity => certificate::read(&version.object).ok().map(|material| material.leaf.serial),
            Job::Binding => version.object.get("data").map(Value::to_string),
            Job::Segment => None,
        };
        let stored = history.secret().filter_map(content).collect::<BTreeSet<_>>().len();
        let vault: Vec<_> = history.calls().filter(|call| call.request.sort == Sort::Vault).collect();
        let signed = vault.iter().filter(|call| call.request.signs() && call.done() && call.owner.is_some()).count();
        let names = history.calls().filter_map(|call| call.name.clone()).collect();
        let mut writes: BTreeMap<String, usize> = BTreeMap::new();
        for call in history.calls().filter(|call| call.request.sort == Sort::Write && call.owner.is_some()) {
            let request = &call.request;
            let object = format!("{} {}/{}", request.resource, request.namespace, request.object);
            *writes.entry(plain(&object, subject)).or_default() += 1;
        }
        Self { end: end.into(), counts, stored, signed, vault: vault.len(), names, writes }
    }
}

/// Calls of one more look at everything, which a fault may cause: login and its check, four reads of the authority, a
/// signature.
const ROUND: usize = 7;

/// What is left of a request to a trust domain.
const REQUESTED: [&str; 2] =
    ["/TrustDomain <domain>/metadata/annotations", "/TrustDomain <domain>/status/lastHandledRequest"];

/// What undisturbed runs of a workload have in common.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The first run.
    pub summary: Summary,
    /// Pointers into the end state where runs differ.
    pub varying: BTreeSet<String>,
    /// Calls of every run, in canonical order.
    pub calls: Vec<Name>,
    /// Calls of some runs only.
    pub stray: Vec<Name>,
    /// Most calls to OpenBao in a run.
    pub most_vault: usize,
    /// Most writes of each object in a run.
    pub most_writes: BTreeMap<String, usize>,
}

impl Reference {
    /// Learns from runs; `None` from no run.
    pub fn learn(runs: &[Summary]) -> Option<Self> {
        let (first, others) = runs.split_first()?;
        let mut varying = BTreeSet::new();
        for other in others {
            varying.extend(differences(&first.end, &other.end));
        }
        let all: BTreeSet<Name> = runs.iter().flat_map(|run| run.names.clone()).collect();
        let (calls, stray) = all.into_iter().partition(|name| runs.iter().all(|run| run.names.contains(name)));
        let most_vault = runs.iter().map(|run| run.vault).max()?;
        let mut most_writes: BTreeMap<String, usize> = BTreeMap::new();
        for (object, count) in runs.iter().flat_map(|run| &run.writes) {
            let most = most_writes.entry(object.clone()).or_default();
            *most = (*most).max(*count);
        }
        Some(Self { summary: first.clone(), varying, calls, stray, most_vault, most_writes })
    }
}

pub(super) fn check(history: &History, reference: &Reference) -> Vec<Violation> {
    let mut found = Vec::new();
    if history.target.is_some() && history.marks.calm == history.marks.begun {
        let target = history.target.as_ref().map(ToString::to_string).unwrap_or_default();
        found.push(Violation::new("I-17", format!("the call was never made: {target}")));
        return found;
    }
    if history.marks.settled.is_none() {
        let open: Vec<String> = history.identity().last().map(open_conditions).unwrap_or_default();
        found.push(Violation::new("I-17", format!("the end is not reached; the object says {}", open.join(", "))));
        return found;
    }
    let summary = Summary::of(history);
    let differs = differences(&reference.summary.end, &summary.end);
    // Where the authority seemed to be gone, a person asked for another look at it.
    let asked = history.plan.is_some_and(|plan| plan.place == Place::Step && plan.act == Act::Answer(404));
    let expected = |pointer: &String| {
        reference.varying.iter().any(|known| pointer.starts_with(known.as_str()))
            || asked && REQUESTED.iter().any(|known| pointer.starts_with(known))
    };
    for pointer in differs.into_iter().filter(|pointer| !expected(pointer)) {
        let show = |value: &Value| value.pointer(&pointer).map_or("nothing".to_owned(), ToString::to_string);
        let (is, was) = (show(&summary.end), show(&reference.summary.end));
        found.push(Violation::new("I-17", format!("the end differs at {pointer}: {is} instead of {was}")));
    }
    if history.workload == Workload::Vanish {
        return found; // how far it came before it was deleted is the plan's choice
    }
    if summary.counts != reference.summary.counts {
        let (is, was) = (&summary.counts, &reference.summary.counts);
        found.push(Violation::new("I-18", format!("created and deleted {is:?} instead of {was:?}")));
    }
    if summary.stored != reference.summary.stored {
        let (is, was) = (summary.stored, reference.summary.stored);
        found.push(Violation::new("I-18", format!("{is} certificates or sets of values stored instead of {was}")));
    }
    if history.subject.job == Job::Segment {
        for (object, count) in &summary.writes {
            let spare = if object.contains("/status ") { STATUS_REPEATS } else { REPEATS };
            let most = reference.most_writes.get(object).copied().unwrap_or_default() + spare;
            if *count > most {
                found.push(Violation::new("I-18", format!("{count} writes of {object}, {most} permitted")));
            }
        }
    }
    let spare = usize::from(may_sign_again(history));
    if summary.signed > reference.summary.signed + spare {
        let (is, was) = (summary.signed, reference.summary.signed);
        found.push(Violation::new("I-18", format!("{is} signatures instead of {was}, {spare} spare permitted")));
    }
    let lives = history.processes.iter().filter(|p| p.ended.is_none_or(|end| end >= history.marks.begun)).count();
    let rounds = if history.marks.outage.is_some() { 3 } else { 1 };
    let most = reference.most_vault * lives + ROUND * rounds;
    if summary.vault > most {
        found.push(Violation::new("I-14", format!("{} calls to OpenBao, {most} permitted", summary.vault)));
    }
    found
}

/// Permitted extra *spare signature*: the answer was lost, or the key died before it was stored.
fn may_sign_again(history: &History) -> bool {
    let Some((plan, target)) = history.plan.as_ref().zip(history.target.as_ref()) else { return false };
    let sign = target.resource.contains("/sign/");
    let store = target.resource == "secrets";
    match (plan.act, plan.position) {
        (Act::Kill, Position::Before) => store,
        (Act::Kill, Position::After) | (_, Position::Lost) => sign,
        _ => false,
    }
}

fn open_conditions(version: &crate::crash::history::Version) -> Vec<String> {
    let conditions = version.object.pointer("/status/conditions").and_then(Value::as_array);
    let text = |c: &Value, name: &str| c.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    conditions
        .into_iter()
        .flatten()
        .map(|c| format!("{}={}/{}", text(c, "type"), text(c, "status"), text(c, "reason")))
        .collect()
}

/// Pointers at which two values differ.
fn differences(a: &Value, b: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(a, b, "", &mut found);
    found
}

fn collect(a: &Value, b: &Value, at: &str, found: &mut BTreeSet<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys()) {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                collect(a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), &at, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                collect(a, b, &format!("{at}/{index}"), found);
            }
        }
        _ if a == b => {}
        _ => _ = found.insert(at.to_owned()),
    }
}
