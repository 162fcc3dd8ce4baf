//! The example shop under renewals and under a sealed OpenBao: no call may fail.
//!
//! It runs on the example's own manifests, connection and rights, so what the documents recommend is what is tested. A
//! target of its own: a call that is late because the machine is busy with other tests would look like one that failed
//! because of a certificate, and while OpenBao is sealed no other test can use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::text,
    bao::Bao,
    cluster::{Cluster, unique},
    conditions::{Expected, ready, reports},
    operator,
    shop::{self, uses},
    wait::{throughout, until},
};
use serde_json::Value;

const ORDER: &str = "/apis/countersign.dev/v1alpha1/namespaces/shop/serviceidentities/order";
const PAYMENT: &str = "/apis/countersign.dev/v1alpha1/namespaces/payments/serviceidentities/payment";
const DATABASE: &str = "/apis/countersign.dev/v1alpha1/namespaces/payments/secretbindings/database";
const CONNECTION: &str = "/apis/countersign.dev/v1alpha1/vaultconnections/main";
const REQUESTED: &str = "countersign.dev/requested-at";
/// How long the operator and the kubelet may take for what is no more than work.
const SLOW: Duration = Duration::from_secs(90);

#[tokio::test]
async fn no_call_fails_while_certificates_are_renewed_and_openbao_is_sealed() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    shop::open(&cluster).await?;
    let log = uses(&cluster, "shop", &serial(&cluster, ORDER).await?, &serial(&cluster, PAYMENT).await?, SLOW).await?;
    // Calls before the server was there do not count; nothing after this may fail.
    let failed = log.total("failedTotal")?;

    renew(&cluster, ORDER).await?;
    renew(&cluster, PAYMENT).await?;
    let (client, server) = (serial(&cluster, ORDER).await?, serial(&cluster, PAYMENT).await?);
    uses(&cluster, "shop", &client, &server, refresh(&cluster)).await?;

    let bao = Bao::of(&cluster)?;
    bao.seal().await?;
    let outage = outage(&cluster, &client, &server).await;
    bao.unseal().await?; // also after a failure: other targets follow
    outage?;
    reports(&cluster.api, CONNECTION, &ready(), SLOW).await?;
    let renewed = handled(&cluster, ORDER, SLOW).await?;
    handled(&cluster, DATABASE, SLOW).await?;
    ensure!(text(&renewed, "/status/serial") != client, "the request made during the outage was dropped");
    let log = uses(&cluster, "shop", text(&renewed, "/status/serial"), &server, refresh(&cluster)).await?;
    ensure!(log.total("failedTotal")? == failed, "calls failed: {:?}", log.events("failed"));
    println!("{} calls, {} certificate changes, no failure", log.total("okTotal")?, log.events("serial").len());
    Ok(())
}

/// While OpenBao is sealed: said so, nothing stored changes, identities stay ready, calls go on.
async fn outage(cluster: &Cluster, client: &str, server: &str) -> Result<()> {
    let sealed = Expected::status("Sealed", "True").because("VaultSealed");
    reports(&cluster.api, CONNECTION, &sealed, SLOW).await?;
    let before = stored(cluster).await?;
    cluster.api.annotate(ORDER, REQUESTED, &unique()).await?;
    cluster.api.annotate(DATABASE, REQUESTED, &unique()).await?;
    let unsynced = Expected::status("Synced", "False").because("VaultSealed");
    reports(&cluster.api, DATABASE, &unsynced, SLOW).await?;
    throughout("Secrets stay and identities are ready while OpenBao is sealed", Duration::from_secs(10), async || {
        if stored(cluster).await? != before {
            return Ok(Err("a Secret changed".to_owned()));
        }
        for path in [ORDER, PAYMENT, DATABASE] {
            if let Err(why) = ready().look(&cluster.api.get(path).await?) {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    })
    .await?;
    uses(cluster, "shop", client, server, Duration::from_secs(5)).await.map(drop)
}

async fn stored(cluster: &Cluster) -> Result<Vec<Value>> {
    let mut stored = Vec::new();
    for (namespace, name) in [("shop", "order-tls"), ("payments", "payment-tls"), ("payments", "payment-database")] {
        stored.push(cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}")).await?);
    }
    Ok(stored)
}

async fn serial(cluster: &Cluster, path: &str) -> Result<String> {
    let object = reports(&cluster.api, path, &ready(), SLOW).await?;
    Ok(text(&object, "/status/serial").to_owned())
}

/// Asks for a new certificate and waits until it is stored.
async fn renew(cluster: &Cluster, path: &str) -> Result<()> {
    let old = serial(cluster, path).await?;
    cluster.api.annotate(path, REQUESTED, &unique()).await?;
    let object = handled(cluster, path, SLOW).await?;
    ensure!(text(&object, "/status/serial") != old, "{path} was handled without a new certificate");
    Ok(())
}

/// Waits until the last request was answered.
async fn handled(cluster: &Cluster, path: &str, patience: Duration) -> Result<Value> {
    until(&format!("{path} answers the request"), patience, async || {
        let object = cluster.api.get(path).await?;
        let asked = object["metadata"]["annotations"][REQUESTED].as_str().context("nothing was asked")?;
        let answered = text(&object, "/status/lastHandledRequest") == asked;
        Ok(if answered { Ok(object) } else { Err(object["status"].to_string()) })
    })
    .await
}

/// How long until a pod uses a changed Secret.
fn refresh(cluster: &Cluster) -> Duration {
    Duration::from_secs(u64::from(cluster.env.secret_refresh_seconds)) + Duration::from_secs(30)
}
