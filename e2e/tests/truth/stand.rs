//! A thread that stands in the network of one pod: it answers there, and asks from there.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result};
use countersign_e2e::netns;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    echo,
    probe::{self, Probe},
};

/// One pod, as a place to ask from.
pub struct Stand {
    /// Where others find it.
    pub address: IpAddr,
    orders: mpsc::UnboundedSender<Order>,
}

struct Order {
    probes: Vec<Probe>,
    limit: Duration,
    passed: oneshot::Sender<Vec<bool>>,
}

impl Stand {
    /// Enters the pod with that UID and address, and answers there from now on until this is dropped.
    pub async fn enter(uid: &str, address: IpAddr) -> Result<Self> {
        let network = netns::of_pod(uid)?;
        let (orders, received) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        // A thread of its own: it never comes back from there, so that no other work may land on it.
        thread::Builder::new().name(format!("pod {address}")).spawn(move || {
            let runtime = netns::enter(&network)
                .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
            match runtime {
                Ok(runtime) => runtime.block_on(serve(received, ready)),
                // Whoever waits has gone only if the test was given up.
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        is_ready.await.context("a thread in a pod ended")??;
        Ok(Self { address, orders })
    }

    /// Sends all these probes at once; says of each whether it was answered within `limit`.
    pub async fn ask(&self, probes: Vec<Probe>, limit: Duration) -> Result<Vec<bool>> {
        let (passed, answer) = oneshot::channel();
        self.orders.send(Order { probes, limit, passed }).ok().context("a thread in a pod ended")?;
        answer.await.context("a thread in a pod ended")
    }
}

async fn serve(mut orders: mpsc::UnboundedReceiver<Order>, ready: oneshot::Sender<Result<()>>) {
    if ready.send(echo::listen().await).is_err() {
        return;
    }
    while let Some(order) = orders.recv().await {
        let asked = order.probes.into_iter().map(|probe| probe::passes(probe, order.limit));
        // Nobody waits for the answer of a round that was given up.
        let _ = order.passed.send(join_all(asked).await);
    }
}
