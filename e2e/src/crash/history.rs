//! What happened, as seen from outside the operator: object versions, calls through the proxies, processes.
//!
//! Plain data for the oracle. Values of Secrets are in it, so nothing here can be printed.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    call::{Name, Owner, Request, Scope},
    plan::{Job, Plan, Workload},
};

/// What a watch said about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// First version, or one that was there before.
    Added,
    /// Next version.
    Modified,
    /// Gone; the object is its last version.
    Deleted,
}

/// One version of one object.
#[derive(Clone)]
pub struct Version {
    /// When it was seen, since the start of the run.
    pub at: Duration,
    /// What happened.
    pub change: Change,
    /// Kind.
    pub kind: String,
    /// The whole object.
    pub object: Value,
}

impl Version {
    /// A text of the object.
    pub fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// UID.
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// Whether it is of that kind and name.
    pub fn is(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name() == name
    }

    /// Status of a condition, empty if absent.
    pub fn condition(&self, kind: &str) -> &str {
        let conditions = self.object.pointer("/status/conditions").and_then(Value::as_array);
        let found = conditions.into_iter().flatten().find(|c| c.get("type").and_then(Value::as_str) == Some(kind));
        found.and_then(|c| c.get("status")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// One call through a proxy.
#[derive(Clone)]
pub struct Call {
    /// When it arrived.
    pub at: Duration,
    /// Process that sent it; for OpenBao the one that ran at that time.
    pub process: u32,
    /// What was asked.
    pub request: Request,
    /// Whose it is; `None` if of no object of the plan.
    pub owner: Option<Owner>,
    /// Its name, if it is numbered.
    pub name: Option<Name>,
    /// JSON body without values of Secrets and without tokens.
    pub body: Value,
    /// Whether it reached the server.
    pub forwarded: bool,
    /// The server's status.
    pub status: Option<u16>,
    /// Status the operator saw.
    pub answered: Option<u16>,
    /// `metadata.resourceVersion` of the server's answer.
    pub resource_version: Option<String>,
}

impl Call {
    /// Whether the server did it.
    pub fn done(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// One life of the operator's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number in its lane.
    pub number: u32,
    /// When it was started.
    pub started: Duration,
    /// When it ended, if it has.
    pub ended: Option<Duration>,
    /// How it ended, if the test did not kill it.
    pub surprise: Option<String>,
}

/// What a plan is about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// Objects.
    pub scope: Scope,
    /// What it is about.
    pub job: Job,
    /// Name of the ServiceIdentity or the SecretBinding.
    pub identity: String,
    /// Name of its Secret.
    pub secret: String,
    /// Name of a Secret that is not the operator's.
    pub bystander: String,
    /// Name of the SPIFFE trust domain.
    pub trust_domain: String,
    /// ServiceAccount.
    pub service_account: String,
    /// Services.
    pub services: Vec<String>,
    /// Whether the Secret stays when the identity is deleted.
    pub retains: bool,
    /// How long a segment has the operator wait after a write, as the time of the tests goes.
    pub settle: Duration,
}

/// Times of a plan, since the start of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// The workload's own step was taken; calls are numbered from here.
    pub begun: Duration,
    /// Faults were over.
    pub calm: Duration,
    /// The goal was reached and nothing happened for a second; `None` if that never came.
    pub settled: Option<Duration>,
    /// The last look.
    pub ended: Duration,
    /// OpenBao was away from then to then.
    pub outage: Option<(Duration, Duration)>,
}

/// Everything about one plan.
pub struct History {
    /// Workload.
    pub workload: Workload,
    /// Fault; `None` for an undisturbed run.
    pub plan: Option<Plan>,
    /// Call that the fault hit.
    pub target: Option<Name>,
    /// Objects.
    pub subject: Subject,
    /// Times.
    pub marks: Marks,
    /// Versions of the plan's objects in the order seen.
    pub versions: Vec<Version>,
    /// Calls in the order of arrival, from a while before the plan began.
    pub calls: Vec<Call>,
    /// Processes that lived during the plan.
    pub processes: Vec<Process>,
    /// How long a leader may write after its last renewal.
    pub grace: Duration,
}

impl History {
    /// Versions of its Secret.
    pub fn secret(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter().filter(|v| v.is("Secret", &self.subject.secret) && self.inside(v))
    }

    /// Versions of the identity or the binding.
    pub fn identity(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter().filter(|v| v.is(self.subject.job.kind(), &self.subject.identity))
    }

    /// Versions of the trust domain.
    pub fn domain(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.iter().filter(|v| v.is("TrustDomain", &self.subject.scope.domain))
    }

    /// Whether a version is in the plan's namespace.
    pub fn inside(&self, version: &Version) -> bool {
        version.text("/metadata/namespace") == self.subject.scope.namespace
    }

    /// Name of an object, with its namespace where a plan has two.
    pub fn name(&self, version: &Version) -> String {
        let namespace = version.text("/metadata/namespace");
        match &self.subject.scope.closed {
            Some(_) if !namespace.is_empty() => format!("{namespace}/{}", version.name()),
            _ => version.name().to_owned(),
        }
    }

    /// Last versions of the objects that exist at the end, by kind and name.
    pub fn remaining(&self) -> BTreeMap<(String, String), &Version> {
        let mut objects = BTreeMap::new();
        for version in &self.versions {
            let key = (version.kind.clone(), self.name(version));
            match version.change {
                Change::Deleted => objects.remove(&key),
                _ => objects.insert(key, version),
            };
        }
        objects
    }

    /// Calls of the plan's main part.
    pub fn calls(&self) -> impl DoubleEndedIterator<Item = &Call> {
        self.calls.iter().filter(|call| call.at >= self.marks.begun)
    }
}

/// Whether the last version of an object has `Ready=True` for its generation.
pub fn is_ready(versions: &[Version], kind: &str) -> bool {
    let last = versions.iter().rfind(|version| version.kind == kind);
    last.is_some_and(|version| {
        version.change != Change::Deleted
            && version.condition("Ready") == "True"
            && version.object.pointer("/status/observedGeneration") == version.object.pointer("/metadata/generation")
    })
}

/// Whether the last version of the only object of a kind says that something is still being done, or tried again.
pub fn is_working(versions: &[Version], kind: &str) -> bool {
    let last = versions.iter().rfind(|version| version.kind == kind);
    last.is_some_and(|version| version.condition("Reconciling") == "True")
}
