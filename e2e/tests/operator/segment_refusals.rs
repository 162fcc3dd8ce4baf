//! Bad input about the network: what is declared and cannot be opened is told, from `cases/access_refusals.yaml`; and
//! what is closed stays closed, whatever becomes of the grants. No pod runs: policies are judged, not packets.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{array, path_of, text},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports, shown},
    manifests::{access_grant, access_request, account, idle_deployment},
    operator::{self, NAMESPACE},
    wait::until,
};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    SLOW,
    cases::{all_went_well, read},
    refusals::{Case, play},
};

/// The port of the one edge that is declared.
const PORT: u16 = 8443;

#[tokio::test]
async fn what_cannot_be_opened_is_told() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let (namespace, id) = (cluster.namespace("access-refusals").await?, unique());
    let [pod, service, node] = addresses(&cluster).await?;
    let values = [("NS", namespace.as_str()), ("ID", &id), ("POD", &pod), ("SERVICE", &service), ("NODE", &node)];
    let cases = cases(&values)?;
    let outcomes = join_all(cases.iter().map(|case| play(&cluster, case))).await;
    let union = union(&cluster, &format!("twice-granted-{id}")).await;
    for segment in cases.iter().flat_map(|case| &case.objects).filter(|object| text(object, "/kind") == "Segment") {
        cluster.api.delete(&path_of(segment)?).await?;
    }
    all_went_well(cases.iter().zip(outcomes).map(|(case, outcome)| (case.row, case.name.as_str(), outcome)))?;
    union
}

fn cases(values: &[(&str, &str)]) -> Result<Vec<Case>> {
    read(include_str!("../../cases/access_refusals.yaml"), values, 10)
}

/// Without a cluster: the file reads as what is played.
#[test]
fn every_case_is_read() -> Result<()> {
    cases(&[]).map(drop)
}

/// A block of one address each: of a pod, of a Service, of a node.
async fn addresses(cluster: &Cluster) -> Result<[String; 3]> {
    let service = cluster.api.get("/api/v1/namespaces/default/services/kubernetes").await?;
    let pods = cluster.api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await?;
    let nodes = cluster.api.list("/api/v1/nodes").await?;
    let internal = |address: &&Value| text(address, "/type") == "InternalIP";
    let node = nodes.iter().flat_map(|node| array(node, "/status/addresses")).find(internal);
    let pod = pods.iter().map(|pod| text(pod, "/status/podIP")).find(|address| !address.is_empty());
    let found = [pod.context("no pod has an address")?, text(&service, "/spec/clusterIP"), {
        text(node.context("no node has an address")?, "/address")
    }];
    Ok(found.map(|address| format!("{address}/{}", if address.contains(':') { 128 } else { 32 })))
}

/// Row 85: two grants for one pair open what either of them grants.
async fn union(cluster: &Cluster, namespace: &str) -> Result<()> {
    let grants = format!("/apis/countersign.dev/v1alpha1/namespaces/{namespace}/accessgrants");
    for grant in cluster.api.list(&grants).await? {
        let edges = array(&grant, "/status/edges");
        ensure!(edges.len() == 1, "{edges:?}");
        ensure!(edges[0]["ports"] == json!(["TCP 8443", "TCP 9443"]), "not the union: {edges:?}");
    }
    Ok(())
}

fn segment(name: &str, mode: &str, namespaces: &[&str]) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "Segment", "metadata": {"name": name},
        "spec": {"namespaces": {"names": namespaces}, "mode": mode, "rollout": {"settle": "0s"}},
    })
}

/// Row 85: of two segments the younger leaves a namespace to the older, and has it when that is gone.
#[tokio::test]
async fn the_younger_segment_leaves_a_namespace_to_the_older() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let (shared, own, id) = (cluster.namespace("shared").await?, cluster.namespace("own").await?, unique());
    let older = segment(&format!("older-{id}"), "Observe", &[&shared]);
    let younger = segment(&format!("younger-{id}"), "Observe", &[&shared, &own]);
    let outcome = conflict(&cluster, &older, &younger, [&shared, &own]).await;
    cluster.api.delete(&path_of(&older)?).await?;
    cluster.api.delete(&path_of(&younger)?).await?;
    outcome
}

async fn conflict(cluster: &Cluster, older: &Value, younger: &Value, [shared, own]: [&str; 2]) -> Result<()> {
    let api = &cluster.api;
    let names = |object: &Value| -> Vec<String> {
        array(object, "/status/namespaces").iter().map(|one| text(one, "/name").to_owned()).collect()
    };
    api.apply(older).await?;
    cluster.a_later_second(older).await?;
    api.apply(younger).await?;
    let mut conflict = Expected::status("Conflict", "True").because("SegmentConflict");
    conflict.message = shared.to_owned();
    let told = reports(api, &path_of(younger)?, &conflict, TRUTH).await?;
    ensure!(names(&told) == [own], "the younger has {:?}", names(&told));
    let kept = reports(api, &path_of(older)?, &ready().because("Observing"), TRUTH).await?;
    ensure!(names(&kept) == [shared] && !shown(&kept).contains("Conflict="), "the older: {}", shown(&kept));
    api.delete(&path_of(older)?).await?;
    until("the younger has both", TRUTH, async || {
        let object = api.get(&path_of(younger)?).await?;
        let is_alone = names(&object).len() == 2 && !shown(&object).contains("Conflict=");
        Ok(if is_alone { Ok(()) } else { Err(shown(&object)) })
    })
    .await
}

/// Rows 80, 88, 89 and 90: a namespace is not closed while that would cut; once closed, it stays so.
#[tokio::test]
async fn what_is_closed_stays_closed() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let namespace = cluster.namespace("closed").await?;
    let object = segment(&namespace, "Enforce", &[&namespace]);
    let town = Town { segment: path_of(&object)?, cluster, namespace };
    let outcome = town.play(&object).await;
    town.cluster.api.delete(&town.segment).await?;
    outcome
}

struct Town {
    cluster: Cluster,
    namespace: String,
    segment: String,
}

impl Town {
    async fn play(&self, segment: &Value) -> Result<()> {
        let api = &self.cluster.api;
        for name in ["server", "client"] {
            api.apply(&account(&self.namespace, name)).await?;
            api.apply(&idle_deployment(&self.namespace, name)).await?;
        }
        let (grant, request) = (self.grant("granted", "server"), self.request());
        api.apply(&grant).await?;
        api.apply(segment).await?;
        self.held().await.context("row 88")?;

        api.apply(&request).await?;
        reports(api, &self.segment, &ready().because("Applied"), SLOW).await.context("row 88, after the remedy")?;
        reports(api, &path_of(&grant)?, &ready().because("Live"), SLOW).await?;
        let deny = self.policy("countersign-deny").await?.context("no deny stands")?;
        self.unknown(&deny).await.context("row 80")?;
        let grant = self.renamed(&grant, &deny).await.context("row 90")?;
        self.ungranted(&grant, &deny).await.context("row 89")
    }

    /// Row 88: a connection with one half only would be cut, so nothing at all is written.
    async fn held(&self) -> Result<()> {
        let api = &self.cluster.api;
        for expected in [Expected::status("WouldBreak", "True"), Expected::status("Applied", "False")] {
            let segment = reports(api, &self.segment, &expected.because("Held"), SLOW).await?;
            let told = array(&segment, "/status/wouldBreak");
            ensure!(told.len() == 1 && told[0]["missing"] == json!(["Request"]), "told to break: {told:?}");
        }
        let policies = format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", self.namespace);
        let written = api.list(&policies).await?;
        ensure!(written.is_empty(), "{} policies were written", written.len());
        Ok(())
    }

    /// Row 80: a grant of an account that does not exist opens nothing.
    async fn unknown(&self, deny: &Value) -> Result<()> {
        let grant = self.grant("unknown", "absent");
        self.cluster.api.apply(&grant).await?;
        let unresolved = Expected::status("Unresolved", "True").because("ServiceAccountMissing");
        reports(&self.cluster.api, &path_of(&grant)?, &unresolved, SLOW).await?;
        ensure!(self.policy("countersign-deny").await?.as_ref() == Some(deny), "the deny was changed");
        self.cluster.api.delete(&path_of(&grant)?).await
    }

    /// Row 90: a grant under another name; neither the deny nor what the grant opens is away for a moment.
    async fn renamed(&self, old: &Value, deny: &Value) -> Result<Value> {
        let api = &self.cluster.api;
        let open = self.policy("countersign-deploy-server-in").await?.context("nothing is open")?;
        let new = self.grant("renamed", "server");
        let path = path_of(&new)?;
        api.delete(&path_of(old)?).await?;
        api.apply(&new).await?;
        until("the grant of the new name is open", SLOW, async || {
            ensure!(self.policy("countersign-deny").await?.as_ref() == Some(deny), "the deny was changed");
            let now = self.policy("countersign-deploy-server-in").await?.context("the edge was cut")?;
            ensure!(now["metadata"]["uid"] == open["metadata"]["uid"], "the edge was cut");
            ensure!(now["spec"] == open["spec"], "the edge was changed");
            let grant = api.get(&path).await?;
            Ok(ready().because("Live").look(&grant))
        })
        .await?;
        Ok(new)
    }

    /// Row 89: without any grant the namespace is as closed as before.
    async fn ungranted(&self, grant: &Value, deny: &Value) -> Result<()> {
        self.cluster.api.delete(&path_of(grant)?).await?;
        until("what the last grant opened is closed", SLOW, async || {
            ensure!(self.policy("countersign-deny").await?.as_ref() == Some(deny), "the deny was changed");
            let open = self.policy("countersign-deploy-server-in").await?;
            Ok(open.map_or(Ok(()), |policy| Err(policy["spec"].to_string())))
        })
        .await?;
        let pending = Expected::status("Ready", "False").because("GrantMissing");
        reports(&self.cluster.api, &path_of(&self.request())?, &pending, SLOW).await?;
        let segment = self.cluster.api.get(&self.segment).await?;
        let namespaces = array(&segment, "/status/namespaces");
        ensure!(namespaces.len() == 1 && text(&namespaces[0], "/phase") == "Closed", "{namespaces:?}");
        let uid = text(&segment, "/metadata/uid");
        until("it is told that the deny is kept", SLOW, async || {
            let events = self.cluster.api.list("/api/v1/namespaces/default/events").await?;
            let of_segment = events.iter().filter(|event| text(event, "/involvedObject/uid") == uid);
            let told: Vec<_> = of_segment.map(|event| text(event, "/reason").to_owned()).collect();
            let is_told = told.iter().any(|reason| reason == "DenyKept");
            Ok(if is_told { Ok(()) } else { Err(format!("{told:?}")) })
        })
        .await?;
        ensure!(self.policy("countersign-deny").await?.as_ref() == Some(deny), "the deny was changed");
        Ok(())
    }

    async fn policy(&self, name: &str) -> Result<Option<Value>> {
        let there = format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies", self.namespace);
        self.cluster.api.find(&format!("{there}/{name}")).await
    }

    fn grant(&self, name: &str, to: &str) -> Value {
        access_grant(name, (&self.namespace, to), (&self.namespace, "client"), PORT)
    }

    fn request(&self) -> Value {
        access_request("server", (&self.namespace, "client"), (&self.namespace, "server"), PORT)
    }
}
