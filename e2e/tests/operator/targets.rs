//! Secrets of ours that somebody has tampered with: never deleted and made anew, never written where they cannot be.

use anyhow::{Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports},
    manifests::{account, embedded_domain, identity, with},
    operator,
    wait::until,
};
use serde_json::{Value, json};

/// A cluster, a namespace and an identity `web` in it, not yet applied.
async fn start(prefix: &str) -> Result<Option<(Cluster, String, Value)>> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(None) };
    operator::installed(&cluster).await?;
    let domain = format!("{prefix}-{}", unique());
    cluster.api.apply(&embedded_domain(&domain)).await?;
    let namespace = cluster.namespace(prefix).await?;
    cluster.api.apply(&account(&namespace, "web")).await?;
    let identity = identity(&namespace, "web", &domain);
    Ok(Some((cluster, namespace, identity)))
}

fn refused(reason: &str) -> Expected {
    Expected::status("Accepted", "False").because(reason)
}

/// Row 29.
#[tokio::test]
async fn an_immutable_target_is_left_alone() -> Result<()> {
    let Some((cluster, namespace, identity)) = start("immutable").await? else { return Ok(()) };
    let (path, secret) = (path_of(&identity)?, format!("/api/v1/namespaces/{namespace}/secrets/web-tls"));
    cluster.api.apply(&identity).await?;
    reports(&cluster.api, &path, &ready(), TRUTH).await?;
    let before = cluster.api.merge(&secret, &json!({"immutable": true})).await?;
    cluster.api.annotate(&path, "countersign.dev/requested-at", &unique()).await?;
    let object = reports(&cluster.api, &path, &refused("TargetImmutable"), TRUTH).await?;
    ensure!(ready().look(&object).is_ok(), "the stored certificate is still good: {}", object["status"]);
    let after = cluster.api.get(&secret).await?;
    ensure!(
        after["metadata"]["uid"] == before["metadata"]["uid"] && after["data"] == before["data"],
        "it was rewritten"
    );
    Ok(())
}

/// Row 30.
#[tokio::test]
async fn a_target_of_another_type_is_left_alone() -> Result<()> {
    let Some((cluster, namespace, identity)) = start("type").await? else { return Ok(()) };
    let path = path_of(&identity)?;
    let suspended = cluster.api.apply(&with(identity, "suspend", json!(true))).await?;
    let uid = text(&suspended, "/metadata/uid");
    let labels = json!({"app.kubernetes.io/managed-by": "countersign", "countersign.dev/owner-uid": uid});
    let owner = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ServiceIdentity", "name": "web", "uid": uid, "controller": true,
    });
    let metadata = json!({"namespace": namespace, "name": "web-tls", "labels": labels, "ownerReferences": [owner]});
    let data = json!({"tls.crt": "eA=="});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data});
    let before = cluster.api.apply(&secret).await?;
    cluster.api.merge(&path, &json!({"spec": {"suspend": false}})).await?;
    reports(&cluster.api, &path, &refused("TargetTypeMismatch"), TRUTH).await?;
    let after = cluster.api.get(&path_of(&secret)?).await?;
    ensure!(
        after["metadata"]["uid"] == before["metadata"]["uid"] && after["data"] == before["data"],
        "it was rewritten"
    );
    Ok(())
}

/// Row 22.
#[tokio::test]
async fn the_older_of_two_claims_to_a_secret_keeps_it() -> Result<()> {
    let Some((cluster, namespace, identity)) = start("claimed").await? else { return Ok(()) };
    cluster.api.apply(&identity).await?;
    reports(&cluster.api, &path_of(&identity)?, &ready(), TRUTH).await?;
    cluster.a_later_second(&identity).await?;
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/web-tls");
    let before = cluster.api.get(&secret).await?;
    let mut younger = identity.clone();
    younger["metadata"]["name"] = "younger".into();
    cluster.api.apply(&younger).await?;
    let expected = Expected { message: "web".into(), ..refused("TargetClaimed") };
    reports(&cluster.api, &path_of(&younger)?, &expected, TRUTH).await?;
    ensure!(cluster.api.get(&secret).await? == before, "the younger one wrote the Secret");
    reports(&cluster.api, &path_of(&identity)?, &ready(), TRUTH).await.map(drop)
}

/// What somebody deletes or damages comes back, with a key that was never anywhere else.
#[tokio::test]
async fn a_lost_or_damaged_secret_is_made_good() -> Result<()> {
    let Some((cluster, namespace, identity)) = start("damaged").await? else { return Ok(()) };
    let (path, secret) = (path_of(&identity)?, format!("/api/v1/namespaces/{namespace}/secrets/web-tls"));
    cluster.api.apply(&identity).await?;
    reports(&cluster.api, &path, &ready(), TRUTH).await?;
    let first = cluster.api.get(&secret).await?;
    cluster.api.delete(&secret).await?;
    // Deletions and foreign writes of a Secret are not watched for under the default rights; a request is looked at now.
    cluster.api.annotate(&path, "countersign.dev/requested-at", &unique()).await?;
    let second = replaced(&cluster, &secret, &first).await?;
    ensure!(second["data"]["tls.key"] != first["data"]["tls.key"], "the old key came back");
    reports(&cluster.api, &path, &ready(), TRUTH).await.map(drop)
}

async fn replaced(cluster: &Cluster, path: &str, old: &Value) -> Result<Value> {
    until(&format!("{path} is there again"), TRUTH, async || {
        Ok(match cluster.api.find(path).await? {
            Some(secret) if secret["metadata"]["uid"] != old["metadata"]["uid"] => Ok(secret),
            Some(_) => Err("the old one".to_owned()),
            None => Err("absent".to_owned()),
        })
    })
    .await
}
