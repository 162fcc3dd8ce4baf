//! Objects by the hundred: made, awaited and removed by the administrator's client.
//!
//! Must not know what they are made for. How many requests are under way at once is the caller's choice.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{
        DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
    },
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout, timeout_at};

use super::stage::{CONNECTION, MANAGER, resource};

/// Clients that store objects.
pub const CLIENTS: usize = 16;
/// The ServiceAccount of every object.
const ACCOUNT: &str = "load";
/// How long removing may take; the garbage collector has a rate of its own.
const REMOVED: Duration = Duration::from_secs(120);

/// What a crowd consists of.
#[derive(Clone)]
enum Members {
    /// Identities of a trust domain.
    Identities { domain: String },
    /// Bindings; so many of them, one after another, have the same path.
    Bindings { a_path: u32, every: &'static str },
}

/// A namespace full of objects of one kind.
#[derive(Clone)]
pub struct Crowd {
    client: Client,
    namespace: String,
    members: Members,
}

impl Crowd {
    /// Makes the namespace and its ServiceAccount for identities of that trust domain.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn new(client: &Client, namespace: &str, domain: &str) -> Result<Self> {
        Self::of(client, namespace, Members::Identities { domain: domain.to_owned() }).await
    }

    /// The same for bindings of the benchmark's connection, `a_path` of them to each path, which lies below the name of
    /// the namespace and must be there; they look at it `every` so often.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn of_bindings(client: &Client, namespace: &str, a_path: u32, every: &'static str) -> Result<Self> {
        Self::of(client, namespace, Members::Bindings { a_path, every }).await
    }

    async fn of(client: &Client, namespace: &str, members: Members) -> Result<Self> {
        let apply = PatchParams::apply(MANAGER);
        let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let object = Namespace { metadata: named(namespace), ..Namespace::default() };
        Api::<Namespace>::all(client.clone()).patch(namespace, &apply, &Patch::Apply(&object)).await?;
        let account = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        accounts.patch(ACCOUNT, &apply, &Patch::Apply(&account)).await?;
        Ok(Self { client: client.clone(), namespace: namespace.to_owned(), members })
    }

    /// Its objects.
    pub fn objects(&self) -> Api<DynamicObject> {
        let kind = match self.members {
            Members::Identities { .. } => resource("ServiceIdentity", "serviceidentities"),
            Members::Bindings { .. } => resource("SecretBinding", "secretbindings"),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// The Secrets of the namespace.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Stores objects `0..count`.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn store(&self, count: u32) -> Result<()> {
        stream::iter(0..count).map(Ok).try_for_each_concurrent(CLIENTS, |at| self.store_one(at)).await
    }

    /// Stores one object.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn store_one(&self, at: u32) -> Result<()> {
        let name = name(at);
        let (kind, spec) = match &self.members {
            Members::Identities { domain } => {
                let secret = json!({"name": secret_name(at)});
                ("ServiceIdentity", json!({"trustDomain": domain, "serviceAccountName": ACCOUNT, "secret": secret}))
            }
            Members::Bindings { a_path, every } => ("SecretBinding", self.binding(at, &path_name(at / a_path), every)),
        };
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        }))?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.objects().create(&params, &object).await.with_context(|| format!("cannot store {kind} {name}"))?;
        Ok(())
    }

    fn binding(&self, at: u32, path: &str, every: &str) -> Value {
        let kv = json!({"mount": "secret", "path": format!("{}/{path}", self.namespace)});
        json!({
            "connection": CONNECTION, "serviceAccountName": ACCOUNT, "refresh": {"every": every},
            "sources": [{"name": "app", "kv": kv}],
            "secret": {"name": secret_name(at), "data": [{"each": "app"}]},
        })
    }

    /// Asks for a new certificate, or for the newest values, of every object `0..count`.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn request(&self, count: u32, request: &str) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {"countersign.dev/requested-at": request}}});
        let (patch, params) = (&Patch::Merge(&patch), &PatchParams::default());
        let objects = &self.objects();
        stream::iter(0..count)
            .map(Ok)
            .try_for_each_concurrent(CLIENTS, |at| async move {
                objects.patch_metadata(&name(at), params, patch).await?;
                Ok(())
            })
            .await
    }

    /// Waits until `count` objects are ready; see [`until_all`].
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn ready(&self, count: u32, deadline: Duration) -> Result<Instant> {
        until_all(&self.objects(), count, is_ready, deadline).await
    }

    /// Removes everything that [`Crowd::store`] made, and what the operator made of it.
    ///
    /// # Errors
    /// When something is still there after two minutes.
    pub async fn remove(&self) -> Result<()> {
        let (all, now) = (ListParams::default(), DeleteParams::default());
        let secrets: Api<Secret> = self.secrets();
        // Secrets first: the garbage collector then has nothing left to look for, now or during the next case.
        secrets.delete_collection(&now, &all).await?;
        self.objects().delete_collection(&now, &all).await?;
        let one = ListParams::default().limit(1);
        let gone = async {
            loop {
                let left = secrets.list_metadata(&one).await?.items.len();
                if left + self.objects().list_metadata(&one).await?.items.len() == 0 {
                    return Ok::<_, kube::Error>(());
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(REMOVED, gone).await.context("objects of a finished case are not gone after two minutes")??;
        Ok(())
    }
}

/// Waits until `holds` of `count` objects; the moment when the last one was seen.
///
/// Watches, so that the wait costs the API server little and adds no interval of its own.
///
/// # Errors
/// When the deadline passes, or the API server ends the watch.
pub async fn until_all(
    api: &Api<DynamicObject>,
    count: u32,
    holds: fn(&Value) -> bool,
    deadline: Duration,
) -> Result<Instant> {
    let mut good = BTreeSet::new();
    let started = tokio::time::Instant::now();
    let wait = async {
        let list = api.list(&ListParams::default()).await?;
        good.extend(list.items.iter().filter(|object| holds(&object.data)).map(ResourceExt::name_any));
        let version = list.metadata.resource_version.context("a list without a version")?;
        if good.len() >= usize::try_from(count)? {
            return Ok(Instant::now());
        }
        let params = WatchParams { bookmarks: false, ..WatchParams::default() };
        let mut events = Box::pin(api.watch(&params, &version).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if holds(&object.data) => {
                    good.insert(object.name_any());
                }
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                    good.remove(&object.name_any());
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(anyhow!("the watch ended with status {}", status.code)),
            }
            if good.len() >= usize::try_from(count)? {
                return Ok(Instant::now());
            }
        }
        Err(anyhow!("the API server ended the watch"))
    };
    let end = timeout_at(started + deadline, wait).await;
    end.map_err(|_| anyhow!("{} of {count} objects after {} s", good.len(), deadline.as_secs()))?
}

/// Whether an object says `Ready=True` of its newest spec.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| {
        all.iter().any(|condition| {
            condition.get("type") == Some(&"Ready".into()) && condition.get("status") == Some(&"True".into())
        })
    })
}

/// Makes Secrets `0..count` of `bytes` each that are none of the operator's business.
///
/// # Errors
/// When one is refused.
pub async fn store_foreign_secrets(crowd: &Crowd, count: u32, bytes: usize) -> Result<()> {
    ensure!(bytes <= 1_000_000, "no Secret holds {bytes} bytes");
    let (secrets, payload) = (&crowd.secrets(), &"x".repeat(bytes));
    stream::iter(0..count)
        .map(Ok)
        .try_for_each_concurrent(CLIENTS, |at| async move {
            let secret = Secret {
                metadata: ObjectMeta { name: Some(format!("foreign-{at:05}")), ..ObjectMeta::default() },
                string_data: Some([("payload".to_owned(), payload.clone())].into()),
                ..Secret::default()
            };
            secrets.create(&PostParams::default(), &secret).await?;
            Ok(())
        })
        .await
}

/// Name of object number `at`.
pub fn name(at: u32) -> String {
    format!("id-{at:05}")
}

/// Name of path number `at`, below the name of the namespace.
pub fn path_name(at: u32) -> String {
    format!("app-{at:05}")
}

/// Name of its Secret.
pub fn secret_name(at: u32) -> String {
    format!("id-{at:05}-tls")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_the_condition_and_nothing_else() {
        let with = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status}]}});
        assert!(is_ready(&with("Ready", "True")));
        assert!(!is_ready(&with("Ready", "Unknown")));
        assert!(!is_ready(&with("Issued", "True")));
        assert!(!is_ready(&json!({"status": {"observedGeneration": -1}})));
    }
}
