//! Places outside the cluster: which are accepted, and that those which are requested are opened and left alone.

use anyhow::{Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    cluster::Cluster,
    conditions::{Expected, ready, reports},
    manifests, metrics, operator,
    wait::until,
};
use serde_json::{Value, json};

use super::{SLOW, quiet};

/// Addresses that nobody has (RFC 5737).
const OFFICE: &str = "203.0.113.0/24";
const WAY_OUT: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/countersign-deploy-order-out";

fn place(namespace: &str, name: &str, cidr: &str, port: u16) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "ExternalService",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"cidrs": [cidr], "ports": [{"port": port}]},
    })
}

/// A place outside the cluster is accepted only if it is outside.
pub async fn outside(cluster: &Cluster) -> Result<()> {
    let service = cluster.api.get("/api/v1/namespaces/default/services/kubernetes").await?;
    let inside = format!("{}/32", text(&service, "/spec/clusterIP"));
    let (office, backdoor) = (place("default", "office", OFFICE, 443), place("default", "backdoor", &inside, 443));
    cluster.api.apply(&office).await?;
    cluster.api.apply(&backdoor).await?;
    reports(&cluster.api, &path_of(&office)?, &ready().because("Valid"), SLOW).await?;
    let refused = Expected::status("OverlapsCluster", "True").because("OverlapsCluster");
    reports(&cluster.api, &path_of(&backdoor)?, &refused, SLOW).await?;
    cluster.api.delete(&path_of(&office)?).await?;
    cluster.api.delete(&path_of(&backdoor)?).await
}

fn wanted() -> [Value; 4] {
    let end = ("payments", "payment");
    [
        place("shop", "office", OFFICE, 8443),
        place("shop", "annex", OFFICE, 9443),
        json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "AccessRequest",
            "metadata": {"namespace": "shop", "name": "office"},
            "spec": {"from": {"serviceAccountName": "order"}, "to": [{"external": "office"}, {"external": "annex"}]},
        }),
        manifests::access_grant("by-number", end, ("shop", "order"), 8443),
    ]
}

/// Two names of the same addresses, one on the port that the server inside listens on too, which is granted by its number
/// as well: so nobody can tell the one from the other by the port.
pub async fn requested(cluster: &Cluster) -> Result<()> {
    for object in wanted() {
        cluster.api.apply(&object).await?;
    }
    Ok(())
}

/// Both are opened, and once all is said nothing is written again.
pub async fn opened(cluster: &Cluster) -> Result<()> {
    let path = "/apis/countersign.dev/v1alpha1/namespaces/shop/accessrequests/office";
    reports(&cluster.api, path, &ready().because("Live"), SLOW).await?;
    let rules = cluster.api.get(WAY_OUT).await?["spec"]["egress"].to_string();
    ensure!([OFFICE, "8443", "9443"].iter().all(|part| rules.contains(part)), "not opened: {rules}");
    until("nothing is written any more", SLOW, async || {
        let before = writes(cluster).await?;
        quiet(cluster).await?;
        let after = writes(cluster).await?;
        Ok(if before == after { Ok(()) } else { Err(format!("{before} writes, then {after}")) })
    })
    .await?;
    for object in wanted() {
        cluster.api.delete(&path_of(&object)?).await?;
    }
    until("the places are closed again", SLOW, async || {
        let rules = cluster.api.get(WAY_OUT).await?["spec"]["egress"].to_string();
        Ok(if rules.contains(OFFICE) { Err(rules) } else { Ok(()) })
    })
    .await
}

/// How often the operator wrote a policy.
async fn writes(cluster: &Cluster) -> Result<u64> {
    let mut sum = 0;
    for pod in operator::pods(cluster).await? {
        let text = metrics::read(cluster, &pod, 8080, "/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with("countersign_kubernetes_writes_total{"));
        let policies = lines.filter(|line| line.contains("resource=\"networkpolicies\""));
        sum += policies.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
    }
    ensure!(sum > 0, "the metrics tell of no write of a policy, though namespaces are closed");
    Ok(sum)
}
