//! The panic fence: one object's bug must not take the others' controller down.
//!
//! kube's controller unwraps the task of each reconcile, so a panic in one would end them all. A
//! panic's text may quote anything, also a secret: it goes nowhere. The log gets the place.

use std::{future::Future, panic::AssertUnwindSafe};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use futures::FutureExt;

use super::metrics::{Controller, Metrics};

/// Runs one object's pass of `controller`; a panic becomes a counted failure of class `Bug`.
///
/// What the pass shared with others must survive an unwind: our locks do, because every critical
/// section leaves its data whole at each statement.
pub async fn fenced<T>(
    controller: Controller,
    metrics: &Metrics,
    pass: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    AssertUnwindSafe(pass).catch_unwind().await.unwrap_or_else(|_| {
        metrics.count_panic(controller);
        Err(Failure::new(
            Class::Bug,
            Reason::InternalError,
            "the operator met a state that must not exist; its log names the place",
        ))
    })
}

/// Makes every panic of this process log its place and nothing else.
pub fn log_places_only() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("unknown", 0), |place| (place.file(), place.line()));
        tracing::error!(file, line, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explode() -> Result<(), Failure> {
        panic!("hunter2")
    }

    #[tokio::test]
    async fn a_panic_becomes_a_bug_without_its_text() {
        let metrics = Metrics::new();
        let failure = fenced(Controller::Identity, &metrics, async {
            tokio::task::yield_now().await;
            explode()
        })
        .await
        .unwrap_err();
        assert_eq!((failure.class, failure.reason), (Class::Bug, Reason::InternalError));
        assert!(!failure.message.contains("hunter2"));
        assert!(
            metrics.open_metrics().contains("controller_runtime_reconcile_panics_total{controller=\"identity\"} 1\n")
        );
    }

    #[tokio::test]
    async fn an_ordinary_result_passes() {
        let metrics = Metrics::new();
        assert_eq!(fenced(Controller::Identity, &metrics, async { Ok(7) }).await, Ok(7));
        assert!(
            metrics.open_metrics().contains("controller_runtime_reconcile_panics_total{controller=\"identity\"} 0\n")
        );
    }
}
