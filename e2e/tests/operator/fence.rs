//! Replays `tests/fence/cases.yaml` with the tokens of the accounts it names.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{Answer, Api, Change, path_of},
    cluster::Cluster,
    manifests::repository,
    operator,
    wait::until,
};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Replay {
    accounts: BTreeMap<String, Account>,
    setup: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    r#as: String,
    verb: String,
    path: String,
    body: Option<Value>,
    expect: Value,
    #[serde(default)]
    message: String,
}

impl Case {
    async fn send(&self, api: &Api) -> Result<Answer> {
        let json = "application/json";
        let body = self.body.as_ref();
        let patch = async |change| api.patch(change, &self.path, body.context("a patch without a body")?).await;
        match self.verb.as_str() {
            "get" | "list" | "watch" => api.send(Method::GET, &self.path, json, None).await,
            "create" => api.send(Method::POST, &self.path, json, body).await,
            "update" => api.send(Method::PUT, &self.path, json, body).await,
            "delete" | "deletecollection" => api.send(Method::DELETE, &self.path, json, None).await,
            "merge-patch" => patch(Change::Merge).await,
            "json-patch" => patch(Change::Json).await,
            "apply" => patch(Change::Apply).await,
            other => anyhow::bail!("unknown verb {other}"),
        }
    }

    /// What is wrong with the answer, if anything.
    fn judge(&self, answer: &Answer) -> Option<String> {
        let fits = match self.expect.as_u64() {
            Some(status) => u64::from(answer.status) == status,
            None => self.expect == "allowed" && answer.is_success(),
        };
        let told = answer.message().contains(&self.message);
        let wrong = format!("{}: expected {}, got {} {}", self.name, self.expect, answer.status, answer.message());
        (!(fits && told)).then_some(wrong)
    }
}

#[tokio::test]
async fn the_operators_account_can_do_its_work_and_nothing_else() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let text = std::fs::read_to_string(repository().join("tests/fence/cases.yaml"))?;
    let replay: Replay = serde_saphyr::from_str(&text)?;
    clean_up(&cluster, &replay).await?;
    for object in &replay.setup {
        cluster.api.apply(object).await?;
    }
    operator::fenced(&cluster).await?;
    let mut people = BTreeMap::from([("admin".to_owned(), cluster.api.clone())]);
    for (name, account) in &replay.accounts {
        let token = cluster.api.token(&account.namespace, &account.name).await?;
        people.insert(name.clone(), cluster.with_token(token).await?);
    }

    let mut wrong = Vec::new();
    for case in &replay.cases {
        let person = people.get(&case.r#as).with_context(|| format!("{} is nobody", case.r#as))?;
        wrong.extend(case.judge(&case.send(person).await?));
    }
    clean_up(&cluster, &replay).await?;
    ensure!(replay.cases.len() >= 80, "only {} cases were read", replay.cases.len());
    ensure!(wrong.is_empty(), "of {} cases {} went wrong:\n{}", replay.cases.len(), wrong.len(), wrong.join("\n"));
    println!("{} acts, each allowed or refused as it should be", replay.cases.len());
    Ok(())
}

/// Deletes what the setup makes, and waits until the namespace is gone with all that is in it.
async fn clean_up(cluster: &Cluster, replay: &Replay) -> Result<()> {
    for object in replay.setup.iter().rev() {
        cluster.api.delete(&path_of(object)?).await?;
    }
    until("the namespace fence-test is gone", Duration::from_secs(60), async || {
        let gone = cluster.api.find("/api/v1/namespaces/fence-test").await?.is_none();
        Ok(if gone { Ok(()) } else { Err("terminating".to_owned()) })
    })
    .await
}
