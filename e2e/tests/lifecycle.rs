//! The chart's life on a cluster: installed, tested, upgraded, rolled back, uninstalled, installed again.
//!
//! One test, since there is one release; it leaves the operator installed for the targets that follow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    cluster::{Cluster, unique},
    conditions::{TRUTH, ready, reports},
    helm::{self, deploy, helm, test_chart},
    identity::Material,
    manifests::{account, embedded_domain, identity},
    operator::{self, NAMESPACE, RELEASE},
    outputs,
    wait::{throughout, until},
};
use serde_json::Value;

const CRDS: [&str; 3] =
    ["serviceidentities.countersign.dev", "trustdomains.countersign.dev", "vaultconnections.countersign.dev"];

#[tokio::test]
async fn the_chart_lives_and_leaves_without_harm() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    install(&cluster).await?;
    a_second_release_is_refused(&cluster).await?;

    let domain = format!("life-{}", unique());
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace("life").await?;
    issue(&cluster, &namespace, "first", &domain).await?;
    waiting_agrees_with_conditions(&cluster, &domain).await?;

    let before = secrets(&cluster).await?;
    ensure!(before.len() >= 3, "expected an authority and two identities, not {:?}", before.keys());
    step("helm upgrade", deploy(&cluster, &["upgrade"], &["log.level=debug"])).await?;
    untouched(&cluster, &before, "an upgrade").await?;
    step("helm rollback", helm::run(&cluster, &["rollback", RELEASE, "1", "-n", NAMESPACE, "--wait"])).await?;
    untouched(&cluster, &before, "a rollback").await?;

    definitions_are_guarded(&cluster).await?;
    // The logs end with the pods, so what was printed until now is searched now.
    let leaks = outputs::search(&cluster).await?.leaks;
    ensure!(leaks.is_empty(), "{leaks:#?}");
    ensure!(operator::restarts(&cluster).await? == 0, "a container of the operator was restarted");

    step("helm uninstall", helm::run(&cluster, &["uninstall", RELEASE, "-n", NAMESPACE, "--wait"])).await?;
    until("the pods are gone with the release", Duration::from_secs(30), async || {
        let left = operator::pods(&cluster).await?;
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
    })
    .await?;
    untouched(&cluster, &before, "the removal").await?;
    for crd in CRDS {
        cluster.api.get(&format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")).await?;
    }

    step("the second helm install", deploy(&cluster, &["install"], &[])).await?;
    operator::fenced(&cluster).await?;
    let second = issue(&cluster, &namespace, "second", &domain).await?;
    let first = cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/first-tls")).await?;
    let roots = |secret: &Value| Ok::<_, anyhow::Error>(Material::of(secret)?.roots);
    ensure!(roots(&first)? == roots(&second)?, "the new installation signs with another authority");
    untouched(&cluster, &before, "the second installation").await?;
    Ok(())
}

async fn install(cluster: &Cluster) -> Result<()> {
    operator::namespace(cluster).await?;
    // What an earlier run on this cluster left; there is none on a fresh one.
    helm(cluster, &["uninstall", RELEASE, "-n", NAMESPACE, "--wait", "--ignore-not-found"]).await?;
    step("helm install", deploy(cluster, &["install"], &[])).await?;
    operator::fenced(cluster).await?;
    step("helm test", helm::run(cluster, &["test", RELEASE, "-n", NAMESPACE, "--timeout", "90s"])).await?;
    Ok(())
}

/// Cluster-scoped names are fixed, so that two operators cannot fight over one cluster.
async fn a_second_release_is_refused(cluster: &Cluster) -> Result<()> {
    let chart = helm::chart();
    let namespace = cluster.namespace("second-release").await?;
    let ended = helm(cluster, &["install", "rival", &chart.to_string_lossy(), "-n", &namespace]).await?;
    ensure!(!ended.success, "a second release was installed");
    ensure!(ended.stderr.contains("cannot be imported") || ended.stderr.contains("conflict"), "{}", ended.stderr);
    Ok(())
}

async fn issue(cluster: &Cluster, namespace: &str, name: &str, domain: &str) -> Result<Value> {
    cluster.api.apply(&account(namespace, name)).await?;
    let identity = identity(namespace, name, domain);
    cluster.api.apply(&identity).await?;
    reports(&cluster.api, &path_of(&identity)?, &ready(), TRUTH).await?;
    cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}-tls")).await
}

/// `helm --wait` and `kubectl wait` must come to the verdict that the conditions give.
async fn waiting_agrees_with_conditions(cluster: &Cluster, domain: &str) -> Result<()> {
    let chart = test_chart("waits");
    let chart = chart.to_string_lossy();
    let namespace = cluster.namespace("waits").await?;
    let set = format!("trustDomain={domain}");
    let wait = ["--wait", "--timeout", "60s"];
    helm::run(cluster, &[&["install", "waits", &chart, "-n", &namespace, "--set", &set], &wait[..]].concat()).await?;
    let path = format!("/apis/countersign.dev/v1alpha1/namespaces/{namespace}/serviceidentities/web");
    let object = cluster.api.get(&path).await?;
    ensure!(ready().look(&object).is_ok(), "helm went on before the identity was ready: {object}");
    let wait = ["-n", &namespace, "wait", "--for=condition=Ready", "serviceidentity/web", "--timeout=10s"];
    cluster.kubectl(&wait).await?;

    let hopeless = cluster.namespace("waits-hopeless").await?;
    let arguments = ["install", "waits", &chart, "-n", &hopeless, "--set", "trustDomain=absent", "--wait", "--timeout"];
    let ended = helm(cluster, &[&arguments[..], &["8s"]].concat()).await?;
    ensure!(!ended.success, "helm called an identity without a trust domain ready");
    let wait = ["-n", &hopeless, "wait", "--for=condition=Ready", "serviceidentity/web", "--timeout=1s"];
    ensure!(cluster.kubectl(&wait).await.is_err(), "kubectl called an identity without a trust domain ready");
    Ok(())
}

async fn definitions_are_guarded(cluster: &Cluster) -> Result<()> {
    for crd in CRDS {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}");
        let answer =
            cluster.api.send(http::Method::DELETE, &format!("{path}?dryRun=All"), "application/json", None).await?;
        ensure!(answer.status == 403, "{crd} could be deleted: {} {}", answer.status, answer.message());
        ensure!(answer.message().contains("countersign.dev/allow-deletion"), "{}", answer.message());
    }
    Ok(())
}

/// Version and data of every Secret that the operator wrote.
async fn secrets(cluster: &Cluster) -> Result<BTreeMap<String, (String, Value)>> {
    let secrets = outputs::secrets(cluster).await?.into_iter().map(|secret| {
        let name = format!("{}/{}", text(&secret, "/metadata/namespace"), text(&secret, "/metadata/name"));
        (name, (text(&secret, "/metadata/resourceVersion").to_owned(), secret["data"].clone()))
    });
    Ok(secrets.collect())
}

/// No Secret of `before` was written, and none is within the next seconds.
async fn untouched(cluster: &Cluster, before: &BTreeMap<String, (String, Value)>, by: &str) -> Result<()> {
    throughout(&format!("no Secret is rewritten by {by}"), Duration::from_secs(3), async || {
        let now = secrets(cluster).await?;
        let touched: Vec<_> =
            before.iter().filter(|(name, state)| now.get(*name) != Some(state)).map(|(n, _)| n).collect();
        Ok(if touched.is_empty() { Ok(()) } else { Err(format!("{touched:?}")) })
    })
    .await
}

/// Says how long a step took: the run shows where time goes.
async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let done = work.await?;
    println!("{name}: {:.1} s", start.elapsed().as_secs_f32());
    Ok(done)
}
