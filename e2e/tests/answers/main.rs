//! What becomes of a binding for each answer that a server can give: the class and the reason that are told, when it is
//! asked again, and that the Secret stays as it was to the byte.
//!
//! The unchanged release binary reaches a real OpenBao through a proxy, which gives the answers that a well server
//! cannot be made to give. Each row has a connection, an account and a path of its own, so that all are played at once.
//! Needs `COUNTERSIGN_TEST_ENV` (a cluster with an OpenBao) and `COUNTERSIGN_BINARY` (the release binary);
//! `COUNTERSIGN_ROW` plays one row alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod play;
mod rows;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::Api,
    bao::Bao,
    cluster::Cluster,
    crash::{
        call::Side,
        install,
        operator::{Operator, Settings},
        proxy::{Proxy, Upstream},
        tls::Identity,
        wire::Wire,
    },
    manifests,
};
use futures::future::join_all;
use play::{Stage, Verdict};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

/// Name of the lane, and so of the Lease and the label.
const LANE: &str = "answers";

fn text(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok()).filter(|value| !value.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_told_for_what_it_is_and_takes_nothing_away() -> Result<()> {
    let Some(cluster) = Cluster::with(&["openbao"]).await? else { return Ok(()) };
    let binary = PathBuf::from(text("COUNTERSIGN_BINARY").context("COUNTERSIGN_BINARY names no release binary")?);
    ensure!(binary.is_file(), "COUNTERSIGN_BINARY is not a file");
    let only = text("COUNTERSIGN_ROW");
    let epoch = Instant::now();

    install::install(&cluster.env, &manifests::repository().join("charts/countersign"), &[LANE.to_owned()])?;
    let (server, authority) = install::server(&cluster.env)?;
    let openbao = cluster.openbao()?.clone();
    let tls = Identity::new()?;
    let (steps, _wanted) = mpsc::unbounded_channel();
    let wire = Arc::new(Wire::new(epoch, Some(LANE), steps));
    let api = Proxy::start(Arc::clone(&wire), Upstream::new(Side::Api, &server, &authority)?, &tls).await?;
    let upstream = Upstream::new(Side::Vault, &openbao.address, &std::fs::read(&openbao.ca_file)?)?;
    let vault = Proxy::start(Arc::clone(&wire), upstream, &tls).await?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("answers");
    std::fs::create_dir_all(&folder)?;
    let operator = Operator::start(
        Settings {
            binary,
            folder,
            lane: LANE.to_owned(),
            server: format!("https://{}", api.address),
            authority: tls.authority.clone(),
            token: install::token(&cluster.env.client().await?).await?,
            // When a thing is tried again is part of the promise.
            time_scale: 1,
        },
        Arc::clone(&wire),
    );

    let elsewhere = Elsewhere::listen().await?;
    let stage = Stage {
        namespace: cluster.namespace("answers").await?,
        bao: Bao::at(&openbao)?,
        vault: format!("https://{}", vault.address),
        authority: tls.authority,
        api: cluster.api.clone(),
        wire: Arc::clone(&wire),
    };
    let rows = rows::all(&elsewhere.url);
    let rows: Vec<_> = rows.into_iter().filter(|row| only.as_ref().is_none_or(|only| *only == row.name)).collect();
    let verdicts = join_all(rows.iter().map(|row| play::play(&stage, row))).await;
    let mut wrong = Vec::new();
    for (row, verdict) in rows.iter().zip(verdicts) {
        let name = &row.name;
        match verdict {
            Ok(Verdict { reason, calls, times }) => {
                println!("ok {name}: {reason}, asked {calls} times (whole, asked and whole again at {times:?} s)");
            }
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    cluster.api.delete(&format!("/api/v1/namespaces/{}", stage.namespace)).await?;
    clear(&cluster.api).await?;
    operator.stop().await?;
    let lives = wire.state().processes.len();
    println!("{} answers in {:.0} s", rows.len(), epoch.elapsed().as_secs_f64());
    ensure!(!rows.is_empty(), "there is no such row");
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    ensure!(lives == 1, "the operator was started {lives} times");
    ensure!(elsewhere.visits() == 0, "a redirect was followed");
    Ok(())
}

/// The connections are of the cluster, not of a namespace.
async fn clear(api: &Api) -> Result<()> {
    let all = "/apis/countersign.dev/v1alpha1/vaultconnections";
    for connection in api.list(all).await? {
        let labels = connection.pointer("/metadata/labels/lane").and_then(Value::as_str);
        if labels == Some(LANE) {
            api.delete(&format!("{all}/{}", connection["metadata"]["name"].as_str().unwrap_or_default())).await?;
        }
    }
    Ok(())
}

/// A place that nobody is to be sent to.
struct Elsewhere {
    url: String,
    visits: Arc<std::sync::atomic::AtomicUsize>,
}

impl Elsewhere {
    async fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let url = format!("https://{}/v1/secret/data/x", listener.local_addr()?);
        let visits = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&visits);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        Ok(Self { url, visits })
    }

    fn visits(&self) -> usize {
        self.visits.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// How long something may take that is no more than work, on a busy machine.
const SLOW: Duration = Duration::from_secs(90);

/// What every object of a row carries, so that this operator sees it and no other does.
fn labels() -> Value {
    json!({ "lane": LANE })
}
