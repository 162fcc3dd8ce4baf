//! A server with KV engines, one Secret, and the loop of the shell, small enough to read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        CONTENT_HASH, ConnectionGrant, GrantedIdentity, INPUT_HASH, NamespaceSelector, OWNER_UID_LABEL, Reason,
        SecretBinding, SecretBindingSpec, SecretBindingStatus,
    },
    binding::{
        decide::decide,
        hashes::RENDERING,
        intent::{self, Intent},
        origin::ORIGIN,
        reads::{Answer, What},
        report,
        source::{Kind, Source},
        world::{
            Connection, ConnectionView, Effect, Memory, Outcome, Progress, Read, Reply, Settled, Stored, TargetView,
            World, absorb,
        },
    },
    fault::{Class, Failure},
    grants,
    next::{MAX_EFFECTS, Next},
    value::{
        keyed::{InstallKey, KEY_LENGTH},
        kv::{Engine, Metadata, MountKind, RemoteValue, Values, Version},
        secret_data::SecretBytes,
    },
};

/// The second at which a stage begins.
pub const START: i64 = 1_800_000_000;
/// UID of the binding.
pub const UID: &str = "7b1e";

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One secret at the server.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    pub versions: BTreeMap<i64, (Version, Value)>,
    pub current: i64,
}

/// Everything outside the machine.
pub struct Stage {
    pub spec: Value,
    pub requested: Option<String>,
    pub generation: i64,
    pub engine: MountKind,
    pub remote: BTreeMap<String, Remote>,
    pub secret: Option<Stored>,
    pub memory: Memory,
    pub status: SecretBindingStatus,
    pub now: i64,
    /// Answers that are given instead of the true ones, by a word of the read's name.
    pub faults: BTreeMap<&'static str, Failure>,
    pub metadata_denied: bool,
    pub write_fault: Option<(Failure, bool)>,
    /// What was read, in order.
    pub reads: Vec<String>,
    pub writes: usize,
    pub status_writes: usize,
    pub outage: Option<Failure>,
    pub grants: Vec<ConnectionGrant>,
    /// The Secret of `shop` that the connection logs in with, if so.
    pub login: Option<String>,
    pub key: u8,
    /// Whether the last read had to be a new one.
    pub fresh: bool,
    /// A kind of source that the API does not have, in place of what the spec says.
    pub kind: Option<Arc<dyn Kind>>,
}

impl Stage {
    /// A binding of `secret/shop/app`, KV version 2, one version there.
    pub fn new() -> Self {
        let mut stage = Self {
            spec: json!({
                "connection": "main",
                "serviceAccountName": "app",
                "sources": [{"name": "app", "kv": {"mount": "secret", "path": "shop/app"}}],
                "secret": {"name": "app-env", "data": [{"each": "app"}]},
            }),
            requested: None,
            generation: 1,
            engine: MountKind::Kv { engine: Engine::V2, path: "secret".parse().unwrap() },
            remote: BTreeMap::new(),
            secret: None,
            memory: fresh_memory(START),
            status: SecretBindingStatus::default(),
            now: START,
            faults: BTreeMap::new(),
            metadata_denied: false,
            write_fault: None,
            reads: Vec::new(),
            writes: 0,
            status_writes: 0,
            outage: None,
            grants: vec![ConnectionGrant {
                namespaces: NamespaceSelector { names: Some(vec!["shop".to_owned()]), match_labels: None, all: None },
                as_: GrantedIdentity::ServiceAccount,
                role: Some("tenant".to_owned()),
                paths: vec!["secret/{namespace}/**".to_owned()],
                secret_types: Vec::new(),
                all: None,
            }],
            login: None,
            key: 1,
            fresh: false,
            kind: None,
        };
        stage.put("shop/app", json!({"user": "u1", "password": "p1"}));
        stage
    }

    /// Writes a new version of a secret at the server.
    pub fn put(&mut self, path: &str, value: Value) {
        let now = self.now;
        let remote = self.remote.entry(path.to_owned()).or_default();
        remote.current += 1;
        let version = Version { number: remote.current, created: at(now), deleted: None, destroyed: false };
        remote.versions.insert(remote.current, (version, value));
    }

    pub fn intent(&self) -> Intent {
        let spec: SecretBindingSpec = serde_json::from_value(self.spec.clone()).unwrap();
        let mut object = SecretBinding::new("app", spec);
        object.metadata.namespace = Some("shop".to_owned());
        object.metadata.uid = Some(UID.to_owned());
        object.metadata.generation = Some(self.generation);
        object.metadata.annotations =
            self.requested.clone().map(|value| BTreeMap::from([(crate::api::REQUESTED_AT.to_owned(), value)]));
        let mut intent = intent::parse(&object).unwrap();
        if let Some(kind) = &self.kind {
            intent.sources = vec![Source { name: "app".to_owned(), kind: kind.clone() }];
        }
        intent
    }

    pub fn world(&self) -> World {
        World {
            labels: BTreeMap::new(),
            terminating: false,
            longer_namespaces: Vec::new(),
            connection: ConnectionView::Known(Box::new(Connection {
                uid: "c0".to_owned(),
                grants: grants::parse(&self.grants).unwrap(),
                takes_accounts: true,
                login: self.login.clone(),
                outage: self.outage.clone(),
                revision: "1".to_owned(),
            })),
            account_exists: true,
            claimed_by: None,
            fenced: true,
            key: Ok(self.install_key()),
            target: self.secret.clone().map_or(TargetView::Absent, |stored| TargetView::Present(Box::new(stored))),
            memory: self.memory.clone(),
            progress: Progress::default(),
        }
    }

    pub fn install_key(&self) -> InstallKey {
        InstallKey::new(SecretBytes::new(vec![self.key; KEY_LENGTH])).unwrap()
    }

    /// One pass, as the shell makes it.
    pub fn pass(&mut self) -> Outcome {
        self.pass_until(MAX_EFFECTS).expect("it settles")
    }

    /// One pass that dies after so many effects; `None` = it died.
    pub fn pass_until(&mut self, effects: usize) -> Option<Outcome> {
        let intent = self.intent();
        let mut world = self.world();
        for done in 0..=MAX_EFFECTS {
            match decide(&intent, &world, at(self.now)) {
                Next::Settle(settled) => return Some(self.publish(&intent, &world, settled)),
                Next::Do(_) if done == effects => return None,
                Next::Do(effect) => world = absorb(world, self.perform(effect)),
            }
        }
        panic!("it does not settle");
    }

    fn publish(&mut self, intent: &Intent, world: &World, settled: Settled) -> Outcome {
        let status = report::report(intent, world, &settled, &self.status, at(self.now));
        if status != self.status {
            self.status_writes += 1;
            self.status = status;
        }
        self.memory = settled.memory;
        if let Some(wake) = settled.wake {
            assert!(wake > at(self.now) || matches!(settled.outcome, Outcome::Failed { .. }), "{wake}");
        }
        settled.outcome
    }

    /// Another process takes over: what was only remembered is gone.
    pub fn restart(&mut self) {
        self.memory = Memory::from_status(&self.intent(), &self.status, at(self.now));
    }

    fn perform(&mut self, effect: Effect) -> Reply {
        match effect {
            Effect::Read { reads, fresh } => {
                self.fresh = fresh;
                let places: BTreeSet<usize> = reads.iter().map(|read| read.source).collect();
                assert_eq!(places.len(), reads.len(), "one read a source at a time");
                Reply::Read(reads.iter().map(|read| (read.source, self.read(read))).collect())
            }
            Effect::Write(write) => {
                let fault = self.write_fault.take();
                if let Some((failure, false)) = &fault {
                    return Reply::Unwritten(failure.clone());
                }
                assert_eq!(write.expected, self.secret.as_ref().map(|stored| stored.resource_version.clone()));
                self.writes += 1;
                let annotation = |key: &str| write.annotations.get(key).cloned();
                let stored = Stored {
                    resource_version: self.writes.to_string(),
                    owner_uid: write.labels.get(OWNER_UID_LABEL).cloned(),
                    type_: write.type_.clone(),
                    immutable: false,
                    rendering: annotation(RENDERING),
                    input: annotation(INPUT_HASH),
                    content: annotation(CONTENT_HASH),
                    origin: annotation(ORIGIN),
                    data: write.data,
                };
                self.secret = Some(stored.clone());
                fault.map_or_else(|| Reply::Written(Box::new(stored)), |(failure, _)| Reply::Unwritten(failure))
            }
        }
    }

    fn read(&mut self, read: &Read) -> Result<Answer, Failure> {
        let (name, path, version) = match &read.what {
            What::Mount(_) => ("mount", String::new(), None),
            What::Metadata { path, .. } => ("metadata", path.to_string(), None),
            What::Values { path, version, .. } => ("values", path.to_string(), *version),
            What::Unversioned { path, .. } => ("unversioned", path.to_string(), None),
        };
        self.reads.push(format!("{name} {path}").trim().to_owned());
        if let Some(failure) = self.faults.get(name) {
            return Err(failure.clone());
        }
        if name == "mount" {
            return Ok(Answer::Mount(self.engine.clone()));
        }
        if name == "metadata" && self.metadata_denied {
            return Ok(Answer::MetadataDenied);
        }
        let missing = || Failure::new(Class::Waiting, Reason::RemoteMissing, "nothing is there");
        let remote = self.remote.get(&path).ok_or_else(missing)?;
        if name == "metadata" {
            let versions = remote.versions.iter().map(|(number, (version, _))| (*number, version.clone())).collect();
            return Ok(Answer::Metadata(Metadata { current: remote.current, versions }));
        }
        let (facts, value) = remote.versions.get(&version.unwrap_or(remote.current)).ok_or_else(missing)?;
        let fields = serde_json::from_value(value.clone()).map(|value| match value {
            RemoteValue::Object(fields) => fields,
            _ => BTreeMap::new(),
        });
        let version = (name == "values").then(|| facts.clone());
        Ok(Answer::Values(Values { version, fields: fields.unwrap() }))
    }

    /// What the Secret holds, as text.
    pub fn data(&self) -> BTreeMap<String, String> {
        let data = self.secret.iter().flat_map(|stored| &stored.data);
        data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(value.expose()).into_owned())).collect()
    }

    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> Option<(&str, &str)> {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == kind)?;
        Some((found.status.as_str(), found.reason.as_str()))
    }
}

fn fresh_memory(now: i64) -> Memory {
    Memory { checked: at(now), handled: None, last: None, went_back: None, told: false }
}

/// The reason of an outcome that is no success.
pub fn reason(outcome: &Outcome) -> Option<Reason> {
    match outcome {
        Outcome::Steady { .. } => None,
        Outcome::Held(failure) | Outcome::Failed { failure, .. } => Some(failure.reason),
    }
}
