//! What is stored, at every version: I-01 to I-07.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use crate::crash::{
    certificate::{self, Material},
    history::{Change, History, Version},
    plan::Job,
};

/// Keys that a certificate's Secret always has.
const KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// Keys that a binding's Secret always has.
const VALUES: [&str; 2] = ["user", "password"];

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = match history.subject.job {
        Job::Identity => certificates(history),
        Job::Binding => values(history),
        Job::Segment => return Vec::new(), // nothing is stored in a Secret; `network` has the policies
    };
    found.extend(there(history));
    found.extend(static_in_outage(history));
    found.dedup();
    found
}

/// I-05, I-06: every value is there, and all of them are of one version of the source.
fn values(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for version in history.secret().filter(|version| version.change != Change::Deleted) {
        found.extend(whole(version, &VALUES));
        let value = |key: &str| certificate::data(&version.object, key).and_then(|bytes| String::from_utf8(bytes).ok());
        let number = |key: &str| value(key).and_then(|text| Some(text.strip_prefix(key)?.to_owned()));
        if number("user") != number("password") || number("user").is_none() {
            found.push(Violation::new("I-06", "the values of a version are not of one version of the source"));
        }
    }
    found
}

fn certificates(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let versions: Vec<(&Version, Option<Material>)> = history
        .secret()
        .filter(|version| version.change != Change::Deleted)
        .map(|version| (version, certificate::read(&version.object).ok()))
        .collect();
    for (version, material) in &versions {
        found.extend(whole(version, &KEYS));
        if let Some(material) = material {
            found.extend(pair(material));
            found.extend(right(history, material));
        }
    }
    found.extend(later(&versions, history));
    found
}

/// I-05: no key vanishes or empties.
fn whole(version: &Version, keys: &[&str]) -> Option<Violation> {
    let lacks = |key: &&&str| certificate::data(&version.object, key).is_none_or(|bytes| bytes.is_empty());
    let missing = keys.iter().filter(lacks).copied().collect::<Vec<_>>().join(", ");
    (!missing.is_empty()).then(|| Violation::new("I-05", format!("a version of the Secret lacks {missing}")))
}

/// I-01: the key belongs to the certificate.
fn pair(material: &Material) -> Option<Violation> {
    (material.key != material.leaf.key).then(|| Violation::new("I-01", "tls.key does not belong to tls.crt"))
}

/// I-02: it chains to the pinned authority, signs nobody and has exactly the computed names.
fn right(history: &History, material: &Material) -> Vec<Violation> {
    let mut found = Vec::new();
    if material.leaf.is_authority {
        found.push(Violation::new("I-02", "the leaf is a CA"));
    }
    let wanted = names(history);
    if material.leaf.names != wanted {
        let got = &material.leaf.names;
        found.push(Violation::new("I-02", format!("the leaf has the names {got:?} instead of {wanted:?}")));
    }
    let roots: BTreeSet<String> = history.domain().flat_map(|version| authorities(version, "root")).collect();
    if let Err(error) = certificate::verify(material, &roots.into_iter().collect::<Vec<_>>()) {
        found.push(Violation::new("I-02", format!("the leaf does not chain to a pinned authority: {error}")));
    }
    found
}

/// The names that namespace, ServiceAccount and Services give.
fn names(history: &History) -> BTreeSet<String> {
    let subject = &history.subject;
    let namespace = &subject.scope.namespace;
    let spiffe = format!("URI:spiffe://{}/ns/{namespace}/sa/{}", subject.trust_domain, subject.service_account);
    let services = subject.services.iter().flat_map(|service| {
        [format!("DNS:{service}.{namespace}.svc"), format!("DNS:{service}.{namespace}.svc.cluster.local")]
    });
    services.chain([spiffe]).collect()
}

fn authorities(version: &Version, field: &str) -> Vec<String> {
    let authorities = version.object.pointer("/status/authorities").and_then(Value::as_array);
    let field = |authority: &Value| authority.get(field).and_then(Value::as_str).map(str::to_owned);
    authorities.into_iter().flatten().filter_map(field).collect()
}

/// I-03: the end never moves back for one owner, unless the spec or the authority changed.
fn later(versions: &[(&Version, Option<Material>)], history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let first: Option<Vec<String>> = history.domain().map(|v| authorities(v, "id")).find(|ids| !ids.is_empty());
    let lost = |version: &Version| {
        let ids = authorities(version, "id");
        first.as_ref().is_some_and(|first| first.iter().any(|id| !ids.contains(id)))
    };
    let after_first = history.domain().skip_while(|version| authorities(version, "id").is_empty());
    if after_first.filter(|version| version.change != Change::Deleted).any(lost) {
        found.push(Violation::new("I-03", "the trust domain changed its authority without being asked"));
    }
    let owner = |version: &Version| version.text("/metadata/labels/countersign.dev~1owner-uid").to_owned();
    let ends: Vec<_> = versions.iter().filter_map(|(v, m)| Some((owner(v), m.as_ref()?.leaf.not_after))).collect();
    let back = |pair: &[(String, i64)]| matches!(pair, [a, b] if a.0 == b.0 && b.1 < a.1);
    if ends.windows(2).any(back) {
        found.push(Violation::new("I-03", "notAfter went back"));
    }
    found
}

/// I-04: from the first Ready the Secret is there until its owner is deleted, and for ever if it is to be retained.
fn there(history: &History) -> Vec<Violation> {
    let mut exists = false;
    let mut ready = false;
    let mut deleting = false;
    let mut found = Vec::new();
    for version in &history.versions {
        if version.is("Secret", &history.subject.secret) && history.inside(version) {
            exists = version.change != Change::Deleted;
            if !exists && ready && (!deleting || history.subject.retains) {
                found.push(Violation::new("I-04", "the Secret was deleted while its owner wants it"));
            }
        }
        if version.is(history.subject.job.kind(), &history.subject.identity) {
            ready |= version.condition("Ready") == "True";
            deleting |= version.change == Change::Deleted || !version.text("/metadata/deletionTimestamp").is_empty();
            let seen = || history.versions.iter().any(|v| v.is("Secret", &history.subject.secret) && history.inside(v));
            // Watches of two kinds are not ordered; a Secret that is seen at all is taken to have been there.
            if version.condition("Ready") == "True" && !exists && !seen() {
                found.push(Violation::new("I-04", "Ready=True without a Secret"));
            }
        }
    }
    found
}

/// I-07: while OpenBao is away nothing stored changes.
fn static_in_outage(history: &History) -> Option<Violation> {
    let (from, to) = history.marks.outage?;
    let touched = |version: &&Version| version.kind == "Secret" && version.at > from && version.at < to;
    let version = history.versions.iter().find(touched)?;
    Some(Violation::new("I-07", format!("{:?} of Secret {} during an outage", version.change, version.name())))
}
