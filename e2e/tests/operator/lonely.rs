//! The example shop without a server: what counts renewals must be able to count a failure.

use anyhow::Result;
use countersign_e2e::{
    api::text,
    cluster::{Cluster, unique},
    manifests, operator,
    shop::Log,
    wait::until,
};

use crate::SLOW;

#[tokio::test]
async fn a_failed_call_would_be_seen() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let namespace = cluster.namespace("lonely").await?;
    let domain = format!("lonely-{}", unique());
    cluster.api.apply(&manifests::embedded_domain(&domain)).await?;
    for mut object in ["identities", "order"]
        .map(|file| manifests::read(&format!("examples/shop/manifests/{file}.yaml")))
        .into_iter()
        .flat_map(Result::unwrap)
    {
        if text(&object, "/metadata/namespace") != "shop" {
            continue;
        }
        object["metadata"]["namespace"] = namespace.as_str().into();
        if text(&object, "/kind") == "ServiceIdentity" {
            object["spec"]["trustDomain"] = domain.as_str().into();
        }
        if let Some(server) = object.pointer_mut("/spec/template/spec/containers/0/args/2") {
            *server = "nobody.payments.svc:8443".into();
        }
        cluster.api.apply(&object).await?;
    }
    until("order counts failures", SLOW, async || {
        let log = Log::read(&cluster, &namespace).await;
        let failed = log.and_then(|log| log.total("failedTotal"));
        Ok(failed
            .map_err(|error| format!("{error:#}"))
            .and_then(|failed| if failed > 0 { Ok(()) } else { Err("0".into()) }))
    })
    .await
}
