//! Twenty deaths of the operator, each in the middle of a write, while it closes, widens, narrows and opens.
//!
//! The release binary runs beside the cluster instead of in it, with the chart's own account, so that it can be killed
//! at the very moment in which it writes, and its successor need not wait for a kubelet.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::path_of,
    cluster::Cluster,
    conditions::{ready, reports},
    crash::{
        call::{Side, Sort},
        install,
        operator::{Operator, Settings, lease},
        proxy::{Proxy, Upstream},
        tls::Identity,
        wire::Wire,
    },
    manifests,
    operator::{self, NAMESPACE},
    wait::until,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{GRANT, SEGMENT, SLOW};

/// How often it dies.
const DEATHS: usize = 20;
/// By what the operator's waiting times are divided, so that twenty lives do not take long.
const HASTE: u32 = 4;
/// How long it waits for the data plane in truth: long enough for that to follow.
const SETTLE: Duration = Duration::from_secs(2);
/// One death in so many is followed by rest, so that each thing begun is also seen to end.
const REST: usize = 10;
/// How long a change may take to become a write.
const PATIENCE: Duration = Duration::from_secs(20);
const LANE: &str = "kills";

/// Kills it twenty times, with calls going on.
pub async fn twenty(cluster: &Cluster) -> Result<()> {
    let binary = std::env::var_os("COUNTERSIGN_BINARY").map(PathBuf::from);
    let binary = binary.context("COUNTERSIGN_BINARY names no release binary")?;
    scale(cluster, 0).await?;
    let played = play(cluster, binary).await;
    scale(cluster, 2).await?; // also after a failure: other targets follow
    played?;
    reports(&cluster.api, SEGMENT, &ready().because("Applied"), SLOW).await.map(drop)
}

async fn play(cluster: &Cluster, binary: PathBuf) -> Result<()> {
    let (server, authority) = install::server(&cluster.env)?;
    install::lanes(&cluster.env, &[LANE.to_owned()])?;
    let tls = Identity::new()?;
    let (steps, _wanted) = mpsc::unbounded_channel();
    let wire = Arc::new(Wire::new(Instant::now(), None, steps));
    let api = Proxy::start(Arc::clone(&wire), Upstream::new(Side::Api, &server, &authority)?, &tls).await?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(LANE);
    std::fs::create_dir_all(&folder)?;
    let operator = Operator::start(
        Settings {
            binary,
            folder,
            lane: LANE.to_owned(),
            server: format!("https://{}", api.address),
            authority: tls.authority,
            token: install::token(&cluster.env.client().await?).await?,
            time_scale: HASTE,
        },
        Arc::clone(&wire),
    );
    let result = die(cluster, &wire).await;
    let stopped = operator.stop().await;
    result.and(stopped)
}

async fn die(cluster: &Cluster, wire: &Wire) -> Result<()> {
    let narrow = manifests::read("examples/shop/manifests/access.yaml")?;
    let [grant, request] = narrow.as_slice() else { anyhow::bail!("the example is not a grant and a request") };
    ensure!(path_of(grant)? == GRANT, "the example grants something else");
    let widened = [wider(grant, "/spec/ports")?, wider(request, "/spec/to/0/ports")?];
    let settle = format!("{}s", SETTLE.as_secs() * u64::from(HASTE));
    cluster.api.merge(SEGMENT, &json!({"spec": {"rollout": {"settle": settle}}})).await?;
    for death in 0..DEATHS {
        let from = wire.now();
        match death % 4 {
            0 => declare(cluster, &widened).await?,
            1 => drop(cluster.api.merge(SEGMENT, &json!({"spec": {"mode": "Observe"}})).await?),
            2 => drop(cluster.api.merge(SEGMENT, &json!({"spec": {"mode": "Enforce"}})).await?),
            _ => declare(cluster, &narrow).await?,
        }
        until("the operator writes a policy", PATIENCE, async || {
            let state = wire.state();
            let writes = state.calls.iter().any(|call| {
                call.at > from && call.request.sort == Sort::Write && call.request.resource == "networkpolicies"
            });
            Ok(if writes { Ok(()) } else { Err(format!("{} calls", state.calls.len())) })
        })
        .await
        .with_context(|| format!("before death {death}"))?;
        let lives = wire.state().processes.len();
        wire.kill();
        until("a successor runs", PATIENCE, async || {
            let started = wire.state().processes.len();
            Ok(if started > lives { Ok(()) } else { Err("not yet".to_owned()) })
        })
        .await?;
        // The dead give nothing back; waiting out each Lease would only make the test longer.
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{}", lease(LANE));
        cluster.api.merge(&path, &json!({"spec": {"holderIdentity": ""}})).await?;
        if death % REST == REST - 1 {
            let segment = cluster.api.get(SEGMENT).await?;
            let reason = if segment["spec"]["mode"] == "Enforce" { "Applied" } else { "Observing" };
            reports(&cluster.api, SEGMENT, &ready().because(reason), SLOW).await?;
        }
    }
    cluster.api.merge(SEGMENT, &json!({"spec": {"mode": "Enforce"}})).await?;
    declare(cluster, &narrow).await?;
    reports(&cluster.api, SEGMENT, &ready().because("Applied"), SLOW).await?;
    reports(&cluster.api, GRANT, &ready().because("Live"), SLOW).await?;
    let killed = wire.state().processes.iter().filter(|life| life.ended.is_some() && life.surprise.is_none()).count();
    ensure!(killed == DEATHS, "killed {killed} times");
    Ok(())
}

async fn declare(cluster: &Cluster, halves: &[Value]) -> Result<()> {
    for half in halves {
        cluster.api.apply(half).await?;
    }
    Ok(())
}

/// A declaration with two ports more.
fn wider(half: &Value, ports: &str) -> Result<Value> {
    let mut wider = half.clone();
    let list = wider.pointer_mut(ports).and_then(Value::as_array_mut).context("no ports")?;
    list.extend([9_000, 9_001].map(|port| json!({"port": port})));
    Ok(wider)
}

/// Lets so many pods of the operator run.
async fn scale(cluster: &Cluster, replicas: usize) -> Result<()> {
    let wanted = format!("--replicas={replicas}");
    cluster.kubectl(&["-n", NAMESPACE, "scale", "deployment/countersign", &wanted]).await?;
    if replicas > 0 {
        let args = ["-n", NAMESPACE, "rollout", "status", "deployment/countersign", "--timeout=90s"];
        return cluster.kubectl(&args).await.map(drop);
    }
    until("no pod of the operator runs", SLOW, async || {
        let pods = operator::pods(cluster).await?;
        Ok(if pods.is_empty() { Ok(()) } else { Err(pods.join(" ")) })
    })
    .await
}
