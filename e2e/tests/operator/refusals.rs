//! Bad input that only the operator can judge, from `cases/refusals.yaml`: each with its named cause, none a silence.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports, shown},
    manifests::embedded_domain,
    operator::{self, NAMESPACE},
};
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::{all_went_well, read};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub row: u32,
    pub name: String,
    pub objects: Vec<Value>,
    expect: Vec<Expected>,
    #[serde(default)]
    remedy: Vec<Value>,
}

#[tokio::test]
async fn bad_input_is_reported_with_its_cause() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let run = unique();
    let (domain, main) = (format!("refusing-{run}"), format!("refusing-{run}"));
    let bao = Bao::of(&cluster)?;
    bao.login_role(&main).await?;
    bao.login_role_for(&format!("other-{run}"), "other").await?;
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let connection = bao::connection(&cluster, &main, &main)?;
    cluster.api.apply(&connection).await?;
    cluster.api.apply(&cas(&cluster)?).await?;
    for object in [connection, embedded_domain(&domain)] {
        reports(&cluster.api, &path_of(&object)?, &ready(), TRUTH).await?;
    }
    cluster.a_later_second(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace("refusing").await?;
    let address = bao::address_by_name(&cluster)?;
    let values = [
        ("NS", namespace.as_str()),
        ("ID", &run),
        ("TD", &domain),
        ("MAIN", &main),
        ("ROLE", &main),
        ("BAO", &address),
    ];
    let cases: Vec<Case> = read(include_str!("../../cases/refusals.yaml"), &values, 30)?;

    let outcomes = join_all(cases.iter().map(|case| play(&cluster, case))).await;
    all_went_well(cases.iter().zip(outcomes).map(|(case, outcome)| (case.row, case.name.as_str(), outcome)))?;
    foreign_secret_is_as_before(&cluster, &namespace).await?;
    println!("{} inputs, each reported with its cause", cases.len());
    Ok(())
}

pub async fn play(cluster: &Cluster, case: &Case) -> Result<()> {
    for object in &case.objects {
        cluster.api.apply(object).await?;
    }
    let path = path_of(case.objects.last().context("no object")?)?;
    for expected in &case.expect {
        let object = reports(&cluster.api, &path, expected, TRUTH).await?;
        told_well(&object)?;
    }
    if !case.remedy.is_empty() {
        for object in &case.remedy {
            cluster.api.apply(object).await?;
        }
        reports(&cluster.api, &path, &ready(), TRUTH).await.context("after the remedy")?;
    }
    Ok(())
}

/// Every condition has a reason and, unless all is well, a sentence that a person can act on.
fn told_well(object: &Value) -> Result<()> {
    for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
        let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
        ensure!(!reason.is_empty() && message.len() <= 1024, "{}", shown(object));
        ensure!(!message.contains("BEGIN ") && !message.contains("Err("), "foreign text: {}", shown(object));
    }
    Ok(())
}

async fn foreign_secret_is_as_before(cluster: &Cluster, namespace: &str) -> Result<()> {
    let secret = cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/thief-tls")).await?;
    let keys: Vec<&String> = secret["data"].as_object().context("the Secret lost its data")?.keys().collect();
    ensure!(keys == ["mine"] && secret["metadata"]["labels"].is_null(), "the foreign Secret was changed: {keys:?}");
    Ok(())
}

/// A ConfigMap of authorities: the right one, another one, and those that are no authority at all.
fn cas(cluster: &Cluster) -> Result<Value> {
    let right = bao::authority(cluster)?;
    let data = json!({
        "ca.crt": right,
        "other": certificate(true, 2100)?,
        "text": "not a certificate",
        "key": KeyPair::generate()?.serialize_pem(),
        "expired": certificate(true, 2001)?,
        "leaf": certificate(false, 2100)?,
        "many": right.repeat(200),
    });
    let metadata = json!({"namespace": NAMESPACE, "name": "e2e-cas"});
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
}

fn certificate(authority: bool, until: i32) -> Result<String> {
    let mut params = CertificateParams::new(vec!["bao.example".to_owned()])?;
    params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    Ok(params.self_signed(&KeyPair::generate()?)?.pem())
}
