//! Watches every version of the objects of interest, from the start of the run; it is not the operator.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams},
};
use tokio::task::JoinSet;

use super::{
    call::OPERATOR_NAMESPACE,
    history::{Change, Subject, Version},
};
use crate::wait::until;

/// Everything seen so far.
pub struct Recorder {
    epoch: Instant,
    seen: Mutex<Seen>,
    watches: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Seen {
    versions: Vec<Version>,
    /// How many of them there were when a plan began, by its namespace: nothing before belongs to it.
    begun: HashMap<String, usize>,
    /// Why the history is not complete.
    gap: Option<String>,
}

impl Seen {
    fn since(&self, subject: &Subject) -> &[Version] {
        let begun = self.begun.get(&subject.scope.namespace).copied().unwrap_or_default();
        self.versions.get(begun..).unwrap_or_default()
    }
}

impl Recorder {
    /// Lists, then watches without a gap.
    ///
    /// # Errors
    /// When a kind cannot be listed.
    pub async fn start(client: &Client, epoch: Instant) -> Result<Arc<Self>> {
        let recorder = Arc::new(Self { epoch, seen: Mutex::default(), watches: Mutex::default() });
        for (group, version, kind, plural) in [
            ("", "v1", "Secret", "secrets"),
            ("countersign.dev", "v1alpha1", "ServiceIdentity", "serviceidentities"),
            ("countersign.dev", "v1alpha1", "SecretBinding", "secretbindings"),
            ("countersign.dev", "v1alpha1", "TrustDomain", "trustdomains"),
            ("countersign.dev", "v1alpha1", "VaultConnection", "vaultconnections"),
            ("countersign.dev", "v1alpha1", "Segment", "segments"),
            ("countersign.dev", "v1alpha1", "AccessGrant", "accessgrants"),
            ("countersign.dev", "v1alpha1", "AccessRequest", "accessrequests"),
            ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
        ] {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            // Right after its definition came in, the API server still fills the cache of a kind.
            let what = format!("{plural} can be listed");
            let list = until(&what, Duration::from_secs(30), async || {
                Ok(api.list(&ListParams::default()).await.map_err(|error| error.to_string()))
            });
            let list = list.await?;
            let from = list.metadata.resource_version.unwrap_or_default();
            for object in list.items {
                recorder.record(kind, Change::Added, &object);
            }
            let watching = Arc::clone(&recorder);
            let watch = async move { watching.watch(kind, &api, from).await };
            recorder.watches.lock().unwrap_or_else(PoisonError::into_inner).spawn(watch);
        }
        Ok(recorder)
    }

    async fn watch(&self, kind: &str, api: &Api<DynamicObject>, mut from: String) {
        loop {
            if let Err(error) = self.follow(kind, api, &mut from).await {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).gap = Some(format!("{kind}: {error:#}"));
                return;
            }
        }
    }

    /// One watch request to its end.
    async fn follow(&self, kind: &str, api: &Api<DynamicObject>, from: &mut String) -> Result<()> {
        let events = api.watch(&WatchParams::default().timeout(280), from).await.context("cannot watch")?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await.context("the watch broke")? {
            let (change, object) = match event {
                WatchEvent::Added(object) => (Change::Added, object),
                WatchEvent::Modified(object) => (Change::Modified, object),
                WatchEvent::Deleted(object) => (Change::Deleted, object),
                WatchEvent::Bookmark(mark) => {
                    *from = mark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => anyhow::bail!("the watch ended with {}", status.code),
            };
            if let Some(version) = &object.metadata.resource_version {
                from.clone_from(version);
            }
            self.record(kind, change, &object);
        }
        Ok(())
    }

    fn record(&self, kind: &str, change: Change, object: &DynamicObject) {
        let object = serde_json::to_value(object).unwrap_or_default();
        let version = Version { at: self.epoch.elapsed(), change, kind: kind.to_owned(), object };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).versions.push(version);
    }

    /// Notes that a plan begins, of whose objects there is none yet.
    pub fn begin(&self, subject: &Subject) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.versions.len();
        seen.begun.insert(subject.scope.namespace.clone(), count);
    }

    /// The versions that belong to a plan, in the order in which the server stored them: watches of several kinds
    /// are not ordered among each other, and a deletion may be heard of before the one that it follows from.
    ///
    /// # Errors
    /// When a watch broke, so that the history has a gap.
    pub fn of(&self, subject: &Subject) -> Result<Vec<Version>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gap) = &seen.gap {
            anyhow::bail!("the history has a gap: {gap}");
        }
        let mut versions: Vec<Version> =
            seen.since(subject).iter().filter(|version| belongs(version, subject)).cloned().collect();
        versions.sort_by_key(|version| version.text("/metadata/resourceVersion").parse::<u64>().unwrap_or_default());
        Ok(versions)
    }

    /// When the last version of a plan's objects was seen.
    pub fn last(&self, subject: &Subject) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.since(subject).iter().rev().find(|version| belongs(version, subject)).map_or(Duration::ZERO, |v| v.at)
    }
}

fn belongs(version: &Version, subject: &Subject) -> bool {
    let scope = &subject.scope;
    match (version.kind.as_str(), version.text("/metadata/namespace")) {
        ("TrustDomain", _) => version.name() == scope.domain,
        ("VaultConnection", _) => Some(version.name()) == scope.connection.as_deref(),
        ("Segment", _) => scope.is_segment(version.name()),
        (_, OPERATOR_NAMESPACE) => version.name().contains(&scope.domain),
        (_, namespace) => namespace == scope.namespace || scope.is_peer(namespace),
    }
}
