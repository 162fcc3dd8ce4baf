//! Being told to stop: SIGTERM and SIGINT, and how long stopping may take.
//!
//! Stopping is orderly but never waits for the cluster: each stage has its share of [`TOTAL`], so the
//! process ends in time even when the API server hangs.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// From the signal to the end of the process.
pub const TOTAL: Duration = Duration::from_secs(10);
/// How long controllers may take to end at a call border.
pub const DRAIN: Duration = Duration::from_secs(8);
/// How long the release of the Lease may take after that.
pub const RELEASE: Duration = Duration::from_millis(1_500);

/// Whether we were told to stop. Clones see the same request.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Tells every [`Shutdown`] made with it to stop; so does dropping it.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

impl Trigger {
    /// Asks to stop; asking twice is asking once.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Listens for SIGTERM and SIGINT from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// The signal handlers could not be installed.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (trigger, shutdown) = Self::manual();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
                _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
            }
            trigger.request();
        });
        Ok(shutdown)
    }

    /// A request that is made by hand.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Ends when we are told to stop.
    pub async fn requested(&self) {
        // A dropped trigger cannot tell us any more; stopping is the safe reading.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Whether we were told to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_fit_into_the_whole() {
        assert!(DRAIN + RELEASE < TOTAL);
    }

    #[tokio::test]
    async fn every_clone_hears_a_request_also_a_late_one() {
        let (trigger, shutdown) = Shutdown::manual();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        trigger.request();
        early.await.unwrap();
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test]
    async fn a_lost_trigger_stops() {
        let (trigger, shutdown) = Shutdown::manual();
        drop(trigger);
        shutdown.requested().await;
    }
}
