//! Bad input of bindings that only the operator can judge, from `cases/binding_refusals.yaml`: each is reported with its
//! named cause, takes nothing away, and is over when its cause is.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{array, path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports, shown},
    manifests::account,
    operator::{self, NAMESPACE},
};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    SLOW,
    cases::{all_went_well, read},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Case {
    row: u32,
    name: String,
    server: Vec<Call>,
    good: Vec<Value>,
    others: Vec<Value>,
    spoil: Vec<Call>,
    objects: Vec<Value>,
    expect: Vec<Expected>,
    heal: Vec<Call>,
    remedy: Vec<Value>,
    holds: BTreeMap<String, String>,
}

/// One call of the server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    method: Option<String>,
    path: String,
    #[serde(default)]
    body: Value,
    /// Instead of a body: one value of so many bytes.
    large: Option<usize>,
}

struct Stage {
    cluster: Cluster,
    bao: Bao,
    /// What the server was given to keep, and what nobody else may say.
    values: Vec<String>,
}

#[tokio::test]
async fn bad_input_of_a_binding_takes_nothing_away() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let namespace = cluster.namespace("binding-refusals").await?;
    let (id, main) = (unique(), format!("binding-refusals-{}", unique()));
    let bao = Bao::of(&cluster)?;
    bao.login_role(&main).await?;
    let mut own = bao::granting(&cluster, &main, &main, &[&namespace])?;
    own["spec"]["grants"][0]["secretTypes"] = json!(["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson"]);
    let theirs = bao::granting(&cluster, &format!("theirs-{id}"), &main, &["another-namespace"])?;
    let metadata = json!({"namespace": NAMESPACE, "name": "e2e-binding-ca"});
    let data = json!({"ca.crt": bao::authority(&cluster)?});
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    for object in [&ca, &own, &theirs, &account(&namespace, "app")] {
        cluster.api.apply(object).await?;
    }
    for object in [&own, &theirs] {
        reports(&cluster.api, &path_of(object)?, &ready(), TRUTH).await?;
    }

    let address = bao::address_by_name(&cluster)?;
    let cases = cases(&[("NS", &namespace), ("ID", &id), ("MAIN", &main), ("BAO", &address)])?;
    let calls = cases.iter().flat_map(|case| case.server.iter().chain(&case.spoil).chain(&case.heal));
    let mut values = Vec::new();
    calls.for_each(|call| leaves(call.body.get("data").unwrap_or(&Value::Null), &mut values));
    let stage = Stage { cluster, bao, values };

    let begun = Instant::now();
    let outcomes = join_all(cases.iter().map(|case| stage.play(case))).await;
    all_went_well(cases.iter().zip(outcomes).map(|(case, outcome)| (case.row, case.name.as_str(), outcome)))?;
    stage.one_answer_for_both(&namespace, &id).await?;
    let events = stage.cluster.api.list(&format!("/api/v1/namespaces/{namespace}/events")).await?;
    ensure!(!events.is_empty(), "there is no event that could have told a value");
    events.iter().try_for_each(|event| stage.tells_no_value(event))?;
    println!("{} inputs of bindings in {:.0} s", cases.len(), begun.elapsed().as_secs_f64());
    Ok(())
}

fn cases(values: &[(&str, &str)]) -> Result<Vec<Case>> {
    let cases: Vec<Case> = read(include_str!("../../cases/binding_refusals.yaml"), values, 25)?;
    for case in &cases {
        let judged = !case.expect.is_empty() || !case.holds.is_empty();
        ensure!(judged && !case.name.is_empty(), "row {}, {:?}: nothing is expected", case.row, case.name);
    }
    Ok(cases)
}

/// Without a cluster: the file reads as what is played.
#[test]
fn every_case_is_read() -> Result<()> {
    cases(&[]).map(drop)
}

/// The texts and numbers that are long enough not to be met by chance.
fn leaves(value: &Value, found: &mut Vec<String>) {
    let leaf = match value {
        Value::Object(members) => return members.values().for_each(|member| leaves(member, found)),
        Value::Array(items) => return items.iter().for_each(|item| leaves(item, found)),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if leaf.len() >= 8 {
        found.push(leaf);
    }
}

impl Stage {
    async fn play(&self, case: &Case) -> Result<()> {
        let api = &self.cluster.api;
        self.calls(&case.server).await?;
        self.apply(&case.good).await?;
        if let Some(good) = case.good.last() {
            reports(api, &path_of(good)?, &ready(), SLOW).await.context("before anything was bad")?;
        }
        self.apply(&case.others).await?;
        let subject = path_of(case.objects.last().or(case.good.last()).context("there is no subject")?)?;
        let secret =
            subject.replace("/apis/countersign.dev/v1alpha1/", "/api/v1/").replace("secretbindings", "secrets");
        let before = api.find(&secret).await?;
        ensure!(before.is_some() || case.good.is_empty(), "what is whole has no Secret");

        self.calls(&case.spoil).await?;
        self.apply(&case.objects).await?;
        if !case.good.is_empty() && !case.expect.is_empty() {
            api.annotate(&subject, "countersign.dev/requested-at", &unique()).await?;
        }
        for expected in &case.expect {
            let object = reports(api, &subject, expected, SLOW).await?;
            self.tells_no_value(&object["status"])?;
        }
        // Whoever reported the last condition has decided; the Secret is compared after it.
        ensure!(api.find(&secret).await? == before, "the Secret was written, changed or deleted");

        if !case.heal.is_empty() || !case.remedy.is_empty() {
            self.calls(&case.heal).await?;
            self.apply(&case.remedy).await?;
            // A change of the spec is tried at once; that the cause is gone would be seen minutes later.
            api.merge(&subject, &json!({"spec": {"refresh": {"every": "14m"}}})).await?;
            for expected in [Expected::status("Synced", "True").because("Synced"), ready()] {
                let object = reports(api, &subject, &expected, SLOW).await.context("after the remedy")?;
                let stuck = array(&object, "/status/conditions").iter().any(|one| text(one, "/type") == "Stalled");
                ensure!(!stuck, "after the remedy: {}", shown(&object));
            }
            ensure!(api.find(&secret).await?.is_some(), "after the remedy there is no Secret");
        }
        let data = api.find(&secret).await?.unwrap_or_default()["data"].clone();
        for (key, value) in &case.holds {
            ensure!(text(&data, &format!("/{key}")) == value, "{key} is not what the server holds");
        }
        Ok(())
    }

    async fn apply(&self, objects: &[Value]) -> Result<()> {
        for object in objects {
            self.cluster.api.apply(object).await?;
        }
        Ok(())
    }

    async fn calls(&self, calls: &[Call]) -> Result<()> {
        for call in calls {
            let large = call.large.map(|bytes| json!({"data": {"large": "x".repeat(bytes)}}));
            let method = call.method.as_deref().unwrap_or("POST");
            self.bao.call(method, &call.path, large.as_ref().unwrap_or(&call.body)).await?;
        }
        Ok(())
    }

    fn tells_no_value(&self, object: &Value) -> Result<()> {
        let words = object.to_string();
        // The value itself is not repeated here: what a test prints is read by more people than a status.
        ensure!(!self.values.iter().any(|value| words.contains(value)), "a value of the server is told");
        ensure!(!words.contains("xxxxxxxx"), "a value of the server is told");
        Ok(())
    }

    /// Row 105: whoever asks for a connection does not learn whether there is one.
    async fn one_answer_for_both(&self, namespace: &str, id: &str) -> Result<()> {
        let mut answers = Vec::new();
        for (binding, connection) in [("unknown", "absent"), ("ungranted", "theirs")] {
            let path = format!("/apis/countersign.dev/v1alpha1/namespaces/{namespace}/secretbindings/{binding}");
            let object = self.cluster.api.get(&path).await?;
            ensure!(shown(&object).contains(&format!("{connection}-{id}")), "{}", shown(&object));
            let masked = shown(&object).replace(&format!("{connection}-{id}"), "<connection>");
            answers.push(masked.replace(binding, "<binding>"));
        }
        ensure!(answers[0] == answers[1], "a connection can be told from none: {answers:#?}");
        Ok(())
    }
}
