//! One run of the operator: follow, lead, stop.
//!
//! Owns the order of things and nothing else: servers first, so that probes answer from the start;
//! controllers only while leading; on a signal controllers end before the Lease is released. `cli`
//! calls [`operate`] and turns its end into an exit code.

use std::{future::Future, sync::Arc};

use kube::Client;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    clock::Clock,
    entropy::Entropy,
    events::Events,
    failures::Failures,
    health::{Health, serve_metrics, serve_probes},
    leader::{self, Candidacy, Election, Leadership},
    metrics::Metrics,
    process::host_name,
    settings::Settings,
    shutdown::{DRAIN, RELEASE, Shutdown, Trigger},
};

/// What every controller gets: handles only, never the state of an object.
#[derive(Clone)]
pub struct Handles {
    /// What we were told to do.
    pub settings: Arc<Settings>,
    /// The API server.
    pub client: Client,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where loops and readiness checks are reported.
    pub health: Health,
    /// The fence to ask before every write and every call to Vault.
    pub leadership: Leadership,
    /// Events about objects.
    pub events: Events,
    /// Failures in a row.
    pub failures: Arc<Failures>,
    /// Whether to stop; after [`DRAIN`] whatever still runs is dropped.
    pub shutdown: Shutdown,
}

/// What a run is made of.
pub struct Parts {
    /// What we were told to do.
    pub settings: Settings,
    /// The API server.
    pub client: Client,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Where `/livez` and `/readyz` are served.
    pub probes: TcpListener,
    /// Where `/metrics` is served.
    pub exposition: TcpListener,
    /// When to stop.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// We were told to stop.
    Stopped,
    /// Something without which there is no operator ended by itself.
    Fatal(&'static str),
    /// The Lease was lost, or nobody looks after it any more.
    LeadershipLost,
}

/// Follows until it leads, runs `controllers` while it leads, and stops in order when told to.
///
/// `controllers` must end soon after its `shutdown` is requested and never before. When the Lease is
/// lost it is dropped where it is: the fence is closed already and the process must end.
pub async fn operate<F, R>(parts: Parts, controllers: F) -> Ended
where
    F: FnOnce(Handles) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let Parts { settings, client, clock, entropy, probes, exposition, shutdown, metrics } = parts;
    let Ok(nonce) = entropy.bytes::<5>() else { return Ended::Fatal("the system gives no randomness") };
    let host = host_name();
    metrics.set_started(clock.now());
    let health = Health::new(clock.clone());

    let candidacy = Candidacy {
        namespace: settings.operator_namespace.clone(),
        lease: settings.lease.clone(),
        // A restarted container is another candidate: what its predecessor had in flight is not its.
        me: format!("{host}_{}", data_encoding::HEXLOWER.encode(&nonce)),
        timing: settings.timing,
    };
    let (election, leadership) = Election::new(client.clone(), candidacy, &clock, &metrics, &health);
    let (events, publisher) = Events::new(&client, &host, leadership.clone(), metrics.clone());
    let mut run = Run::start(election, probes, exposition, &metrics, &health);
    // Events are best effort: its end costs events and nothing else.
    tokio::spawn(publisher.run());

    tokio::select! {
        () = leadership.gained() => {}
        () = shutdown.requested() => return run.stop(None).await,
        ended = run.broken() => return ended,
    }
    let controllers = tokio::spawn(controllers(Handles {
        settings: Arc::new(settings),
        client,
        entropy: Arc::new(entropy),
        metrics,
        health,
        leadership,
        events,
        failures: Arc::new(Failures::new(clock.clone())),
        clock,
        shutdown: shutdown.clone(),
    }));
    run.lead(controllers, &shutdown).await
}

/// The tasks that run whether we lead or not.
struct Run {
    election: JoinHandle<leader::Ended>,
    resign: Trigger,
    /// Each says what ended.
    background: JoinSet<&'static str>,
}

impl Run {
    fn start(
        election: Election,
        probes: TcpListener,
        exposition: TcpListener,
        metrics: &Metrics,
        health: &Health,
    ) -> Self {
        let (resign, resigning) = Shutdown::manual();
        let election = tokio::spawn(election.run(async move { resigning.requested().await }));
        let (metrics, health) = (metrics.clone(), health.clone());
        let mut background = JoinSet::new();
        let for_probes = health.clone();
        background.spawn(async move {
            let _ = serve_probes(probes, for_probes).await;
            "the probe server ended"
        });
        background.spawn(async move {
            let _ = serve_metrics(exposition, metrics, health).await;
            "the metrics server ended"
        });
        Self { election, resign, background }
    }

    /// Ends when a task ends that must not.
    async fn broken(&mut self) -> Ended {
        tokio::select! {
            biased;
            // Also when it panicked: without it the Lease is lost soon.
            _ = &mut self.election => Ended::LeadershipLost,
            ended = self.background.join_next() => {
                Ended::Fatal(ended.and_then(Result::ok).unwrap_or("a background task panicked"))
            }
        }
    }

    async fn lead(mut self, mut controllers: JoinHandle<()>, shutdown: &Shutdown) -> Ended {
        let fatal = tokio::select! {
            biased;
            ended = self.broken() => {
                controllers.abort();
                ended
            }
            () = shutdown.requested() => return self.stop(Some(controllers)).await,
            _ = &mut controllers => Ended::Fatal("the controllers ended"),
        };
        if let Ended::Fatal(_) = fatal {
            // The process ends, so another may lead at once.
            self.stop(None).await;
        }
        fatal
    }

    /// Lets the controllers end, then releases the Lease; each within its time.
    async fn stop(mut self, controllers: Option<JoinHandle<()>>) -> Ended {
        if let Some(mut controllers) = controllers {
            tokio::select! {
                biased;
                _ = &mut self.election => return Ended::Stopped,
                drained = timeout(DRAIN, &mut controllers) => if drained.is_err() {
                    tracing::warn!("work was still under way and is dropped");
                },
            }
            controllers.abort();
        }
        self.resign.request();
        if timeout(RELEASE, &mut self.election).await.is_err() {
            tracing::warn!("the API server did not answer in time; the lease ends by itself");
        }
        Ended::Stopped
    }
}

#[cfg(test)]
mod tests;
