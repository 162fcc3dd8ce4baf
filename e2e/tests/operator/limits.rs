//! Limits that are no mistakes: shortened lifetimes, too many requests, a recorded time that cannot be.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports, shown},
    identity::{Leaf, Material},
    manifests::{account, embedded_domain, identity, service, with},
    operator,
    wait::{throughout, until},
};
use serde_json::{Value, json};

const REQUESTED: &str = "countersign.dev/requested-at";

fn issued(reason: &str) -> Expected {
    Expected::status("Issued", "True").because(reason)
}

/// Rows 7 and 9: the issuer signs for less than was asked, and the rest of the spec meets a shorter life.
#[tokio::test]
async fn a_shortened_life_is_stored_and_told() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let name = format!("short-{}", unique());
    let bao = Bao::of(&cluster)?;
    bao.login_role(&name).await?;
    bao.pki_role(&name, &format!("{name}.example"), &json!({"ttl": "2h", "max_ttl": "2h"})).await?;
    cluster.api.apply(&bao::connection(&cluster, &name, &name)?).await?;
    cluster.api.apply(&bao::domain(&name, &name, &name)).await?;
    let namespace = cluster.namespace("short").await?;

    let shortened = with(identity(&namespace, "shortened", &name), "ttl", json!("20h"));
    let early = with(identity(&namespace, "early", &name), "ttl", json!("20h"));
    let early = with(early, "renewBefore", json!("90m"));
    for object in [&shortened, &early] {
        cluster.api.apply(&account(&namespace, text(object, "/metadata/name"))).await?;
        cluster.api.apply(object).await?;
        reports(&cluster.api, &path_of(object)?, &ready(), TRUTH).await?;
    }
    let object = reports(&cluster.api, &path_of(&shortened)?, &issued("TTLShortened"), TRUTH).await?;
    ensure!(conditions_say(&object, "20h") && conditions_say(&object, "2h"), "{}", object["status"]["conditions"]);
    reports(&cluster.api, &path_of(&early)?, &issued("RenewBeforeTooLong"), TRUTH).await.map(drop)
}

fn conditions_say(object: &Value, text: &str) -> bool {
    object["status"]["conditions"].to_string().contains(text)
}

/// A cluster, and an identity of an embedded domain that is ready.
async fn ready_identity(prefix: &str) -> Result<Option<(Cluster, String, String)>> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(None) };
    operator::installed(&cluster).await?;
    let domain = format!("{prefix}-{}", unique());
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace(prefix).await?;
    cluster.api.apply(&account(&namespace, "eager")).await?;
    let object = identity(&namespace, "eager", &domain);
    cluster.api.apply(&object).await?;
    let path = path_of(&object)?;
    reports(&cluster.api, &path, &ready(), TRUTH).await?;
    Ok(Some((cluster, namespace, path)))
}

/// Asks for a new certificate and waits for the answer; returns how many were stored.
async fn answered(cluster: &Cluster, path: &str) -> Result<i64> {
    let request = unique();
    cluster.api.annotate(path, REQUESTED, &request).await?;
    until("the request is answered", TRUTH, async || {
        let object = cluster.api.get(path).await?;
        let handled = text(&object, "/status/lastHandledRequest") == request;
        Ok(if handled { Ok(revision(&object)) } else { Err(shown(&object)) })
    })
    .await
}

fn revision(object: &Value) -> i64 {
    object.pointer("/status/revision").and_then(Value::as_i64).unwrap_or_default()
}

/// Whoever asks for a new certificate, say because a key was seen, gets an answer, also within the second of an issue:
/// lifetimes are whole seconds, so the new one ends no later than the first.
#[tokio::test]
async fn a_request_is_answered_at_once_after_an_issue() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let domain = format!("at-once-{}", unique());
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace("at-once").await?;
    // Most of several requests come within the second, whatever else the machine does.
    for name in ["one", "two", "three", "four", "five"] {
        let object = identity(&namespace, name, &domain);
        cluster.api.apply(&account(&namespace, name)).await?;
        cluster.api.apply(&object).await?;
        let path = path_of(&object)?;
        reports(&cluster.api, &path, &ready(), TRUTH).await?;
        ensure!(answered(&cluster, &path).await? == 2, "not one certificate for each reason");
    }
    Ok(())
}

#[tokio::test]
async fn requests_force_one_try_a_minute() -> Result<()> {
    let Some((cluster, _, path)) = ready_identity("a-minute").await? else { return Ok(()) };
    cluster.a_later_second(&cluster.api.get(&path).await?).await?;
    let stored = answered(&cluster, &path).await?;
    cluster.api.annotate(&path, REQUESTED, &unique()).await?;
    throughout("a second request within the minute buys nothing", Duration::from_secs(10), async || {
        let object = cluster.api.get(&path).await?;
        Ok(if revision(&object) == stored { Ok(()) } else { Err(object["status"].to_string()) })
    })
    .await
}

/// Row 36: whoever keeps asking gets what the guard allows, is told so, and costs the issuer no more.
#[tokio::test]
async fn asking_all_the_time_is_throttled() -> Result<()> {
    let Some((cluster, namespace, path)) = ready_identity("throttled").await? else { return Ok(()) };
    // By annotation, as fast as it goes, and then by the spec, which is a reason to issue each time.
    for _ in 0..60 {
        cluster.api.annotate(&path, REQUESTED, &unique()).await?;
    }
    let throttled = Expected { status: Some("False".into()), ..Expected::reason("IssuanceThrottled") };
    for count in 0..4 {
        let name = format!("eager-{count}");
        cluster.api.apply(&service(&namespace, &name)).await?;
        cluster.api.merge(&path, &json!({"spec": {"services": [name]}})).await?;
        until("the change is issued or throttled", TRUTH, async || {
            let object = cluster.api.get(&path).await?;
            Ok(issued("Issued").look(&object).or_else(|_| throttled.look(&object)))
        })
        .await?;
    }
    let object = reports(&cluster.api, &path, &throttled, TRUTH).await?;
    ensure!(revision(&object) <= 3, "{} certificates were bought within ten minutes", revision(&object));
    let secret = cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/eager-tls")).await?;
    let leaf = Leaf::read(Material::of(&secret)?.certificates()?.first().context("no leaf")?)?;
    ensure!(leaf.serial == text(&object, "/status/serial"), "the last certificate is gone: {}", object["status"]);
    Ok(())
}

/// Row 104: what is recorded for the year 2999 must not keep an identity from its next certificate.
#[tokio::test]
async fn a_recorded_time_of_the_far_future_holds_nothing_up() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let domain = format!("future-{}", unique());
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace("future").await?;
    cluster.api.apply(&account(&namespace, "late")).await?;
    let object = with(identity(&namespace, "late", &domain), "suspend", json!(true));
    cluster.api.apply(&object).await?;
    let path = path_of(&object)?;
    reports(&cluster.api, &path, &Expected::status("Suspended", "True"), TRUTH).await?;

    let future = "2999-01-01T00:00:00Z";
    let windows = ["TenMinutes", "Day"].map(|window| json!({"window": window, "since": future, "count": 50}));
    let failure = json!({"reason": "VaultUnavailable", "class": "Unavailable", "at": future, "attempts": 9});
    let status = json!({"status": {"lastFailure": failure, "issues": windows, "renewAt": future, "notAfter": future}});
    cluster.api.merge(&format!("{path}/status"), &status).await?;
    cluster.api.merge(&path, &json!({"spec": {"suspend": false}})).await?;
    let object = reports(&cluster.api, &path, &ready(), Duration::from_secs(45)).await?;
    ensure!(!text(&object, "/status/notAfter").starts_with("2999"), "the status still tells of the year 2999");
    Ok(())
}
