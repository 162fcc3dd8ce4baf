//! Closed namespaces: one Segment around a ring in which each calls the next.

use std::time::Duration;

use anyhow::Result;
use kube::Client;
use serde_json::{Value, json};

use crate::{
    api::{Api, array, path_of, text},
    conditions::{ready, shown},
    manifests::{access_grant, access_request, account, idle_deployment},
    wait::until,
};

/// Namespaces, each with one workload, one grant and one request.
pub const NAMESPACES: usize = 20;
/// How long closing, or removing, may take.
const DEADLINE: Duration = Duration::from_secs(120);

const NAME: &str = "bench-town";
const APP: &str = "app";
const PORT: u16 = 8443;

/// The ring.
pub struct Town {
    api: Api,
}

impl Town {
    /// Stores everything; no pod runs, the templates say what the pods would be.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn store(client: &Client) -> Result<Self> {
        let town = Self { api: Api::new(client.clone()) };
        let names: Vec<String> = (0..NAMESPACES).map(place).collect();
        for name in &names {
            town.api.apply(&namespace(name)).await?;
        }
        for (at, name) in names.iter().enumerate() {
            let next = place((at + 1) % NAMESPACES);
            for object in [
                account(name, APP),
                idle_deployment(name, APP),
                access_request(APP, (name, APP), (&next, APP), PORT),
                access_grant(APP, (&next, APP), (name, APP), PORT),
            ] {
                town.api.apply(&object).await?;
            }
        }
        town.api.apply(&segment(&names)).await?;
        Ok(town)
    }

    /// Waits until every namespace is closed.
    ///
    /// # Errors
    /// When one is not in time.
    pub async fn closed(&self) -> Result<()> {
        let path = path_of(&segment(&[]))?;
        until("every namespace of the town is closed", DEADLINE, async || {
            let segment = self.api.get(&path).await?;
            let closed = array(&segment, "/status/namespaces").iter().filter(|one| text(one, "/phase") == "Closed");
            let closed = closed.count();
            Ok(ready().look(&segment).and_then(|()| {
                if closed == NAMESPACES { Ok(()) } else { Err(format!("{closed} are closed; {}", shown(&segment))) }
            }))
        })
        .await
    }

    /// Removes everything, with the operator's help.
    ///
    /// # Errors
    /// When something is still there after two minutes.
    pub async fn remove(&self) -> Result<()> {
        let paths = (0..NAMESPACES).map(|at| path_of(&namespace(&place(at))));
        for path in [path_of(&segment(&[]))].into_iter().chain(paths) {
            let path = path?;
            self.api.delete(&path).await?;
            until("a part of the town is gone", DEADLINE, async || {
                Ok(if self.api.find(&path).await?.is_none() { Ok(()) } else { Err(path.clone()) })
            })
            .await?;
        }
        Ok(())
    }
}

fn place(at: usize) -> String {
    format!("{NAME}-{at}")
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn segment(namespaces: &[String]) -> Value {
    let spec = json!({
        "namespaces": {"names": namespaces}, "mode": "Enforce",
        // There is no DNS in this cluster to be let through.
        "exceptions": {"dns": "Never"},
        "rollout": {"settle": "0s", "maxNamespacesAtOnce": NAMESPACES},
    });
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Segment", "metadata": {"name": NAME}, "spec": spec})
}
