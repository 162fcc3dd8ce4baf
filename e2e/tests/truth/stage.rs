//! The scene of the tables on a cluster: three namespaces under names of their own, nine pods, a stand in each.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use countersign_e2e::{
    api::{path_of, text},
    cluster::{Cluster, OURS, unique},
    wait::until,
};
use countersign_truth::Scene;
use futures::future::{join_all, try_join_all};
use serde_json::{Map, Value, json};

use crate::stand::Stand;

/// The label by which a selector finds a namespace of that name.
const NAME: &str = "kubernetes.io/metadata.name";
/// Pods start, and namespaces end, within a minute on a busy machine.
const SLOW: Duration = Duration::from_secs(120);

/// One scene that is up.
pub struct Stage {
    scene: Scene,
    /// What each namespace of the scene is called here.
    names: BTreeMap<String, String>,
    /// By the name that a pod has in the tables.
    stands: BTreeMap<String, Stand>,
}

impl Stage {
    /// Makes the namespaces and pods, and enters every pod.
    pub async fn build(cluster: &Cluster, scene: Scene) -> Result<Self> {
        let own = |name: &String| (name.clone(), format!("truth-{name}-{}", unique()));
        let names: BTreeMap<String, String> = scene.namespaces.keys().map(own).collect();
        let mut stage = Self { scene, names, stands: BTreeMap::new() };
        let built = stage.furnish(cluster).await;
        if built.is_err() {
            // What went wrong first is the reason to tell.
            let _ = stage.strike(cluster).await;
        }
        built.map(|()| stage)
    }

    async fn furnish(&mut self, cluster: &Cluster) -> Result<()> {
        for (name, own) in &self.names {
            let labels = self.scene.namespaces.get(name).context("a namespace without labels")?;
            let mut labels = json!(labels);
            labels[OURS] = json!("countersign-e2e");
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own, "labels": labels}});
            cluster.api.apply(&namespace).await?;
            cluster.default_account(own).await?;
        }
        let pods = self.scene.pods.iter().map(|(id, view)| self.pod(cluster, id, view));
        let stands = try_join_all(pods).await?;
        self.stands.extend(stands);
        Ok(())
    }

    async fn pod(&self, cluster: &Cluster, id: &str, view: &Value) -> Result<(String, Stand)> {
        let (namespace, name) = id.split_once('/').context("a pod without a namespace")?;
        let ports = view["ports"].as_array().cloned().unwrap_or_default();
        let ports: Vec<Value> =
            ports.iter().map(|port| json!({"name": port[0], "protocol": port[1], "containerPort": port[2]})).collect();
        // The program does nothing: what the pod says and hears is said and heard by our thread.
        let container = json!({
            "name": "pause", "image": "localhost/pause:1", "imagePullPolicy": "Never", "ports": ports,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": self.names.get(namespace), "name": name, "labels": view["labels"]},
            "spec": {
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container],
            },
        });
        cluster.api.apply(&pod).await?;
        let path = path_of(&pod)?;
        let pod = until("a pod of the scene runs", SLOW, async || {
            let pod = cluster.api.get(&path).await?;
            Ok(if text(&pod, "/status/phase") == "Running" { Ok(pod) } else { Err(pod["status"].to_string()) })
        })
        .await?;
        let address = text(&pod, "/status/podIP").parse().context("a running pod has no address")?;
        Ok((id.to_owned(), Stand::enter(text(&pod, "/metadata/uid"), address).await?))
    }

    /// Deletes the namespaces, and waits until they are gone: who comes after finds the cluster as it was.
    pub async fn strike(&self, cluster: &Cluster) -> Result<()> {
        let gone = self.names.values().map(async |name| {
            let path = format!("/api/v1/namespaces/{name}");
            cluster.api.delete(&path).await?;
            until("a namespace of the scene is gone", SLOW, async || {
                Ok(cluster.api.find(&path).await?.map_or(Ok(()), |left| Err(left["status"].to_string())))
            })
            .await
        });
        join_all(gone).await.into_iter().collect()
    }

    /// What the tables call pods.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.stands.keys().map(String::as_str)
    }

    /// The addresses that the pods have here.
    pub fn addresses(&self) -> Vec<String> {
        self.stands.values().map(|stand| stand.address.to_string()).collect()
    }

    /// The stand of an end of a table: a pod by its name, or by the address that it has in the scene.
    pub fn stand(&self, end: &str) -> Option<&Stand> {
        let has = |view: &Value| view["addresses"].as_array().is_some_and(|own| own.iter().any(|one| one == end));
        let by_address = || self.scene.pods.iter().find(|(_, view)| has(view)).and_then(|(id, _)| self.stands.get(id));
        self.stands.get(end).or_else(by_address)
    }

    /// A policy of a case, as this cluster must be given it.
    pub fn policy(&self, namespace: &str, name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": self.own(namespace), "name": name}, "spec": self.renamed(spec),
        })
    }

    /// The name of a namespace here; one that the scene does not have has the same name everywhere.
    fn own<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// The same spec, with the names of namespaces that it selects by replaced.
    fn renamed(&self, spec: &Value) -> Value {
        let name = |value: &Value| value.as_str().map_or_else(|| value.clone(), |name| json!(self.own(name)));
        match spec {
            Value::Array(items) => items.iter().map(|item| self.renamed(item)).collect(),
            Value::Object(fields) => {
                let is_about_names = fields.get("key").is_some_and(|key| key == NAME);
                let field = |(key, value): (&String, &Value)| {
                    let value = match value {
                        Value::Array(names) if is_about_names && key == "values" => names.iter().map(name).collect(),
                        Value::String(_) if key == NAME => name(value),
                        _ => self.renamed(value),
                    };
                    (key.clone(), value)
                };
                Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
            }
            _ => spec.clone(),
        }
    }
}
