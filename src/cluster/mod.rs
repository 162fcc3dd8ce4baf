//! The Kubernetes API as the operator uses it: the only callers of `kube::Api` for anything that
//! is read once or written.
//!
//! Every call has a deadline, every write first asks whether we still lead, every namespaced write
//! goes through an `Api` bound to that namespace, and every error is classified here into our own
//! words. Called by the controllers and issuers.

mod classify;
mod crds;
mod fence;
pub mod inspect;
mod policies;
mod records;
mod secrets;
mod sources;
mod status;
mod tokens;

use std::{future::Future, sync::Arc, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use kube::Client;

pub use classify::About;
pub use crds::Crds;
pub use fence::{EVERY as FENCE_PERIOD, Fence};
pub use policies::FINALIZER;
pub use records::AuthoritySecret;
pub use secrets::{OwnerKind, Seen};

use crate::runtime::{
    leader::Leadership,
    metrics::{Metrics, Outcome, Verb},
};

/// Deadline of one read or write.
const DEADLINE: Duration = Duration::from_secs(10);
/// Marks an empty patch, which is how a Secret is read, in the audit log.
pub const READ_MANAGER: &str = "countersign.dev/read";

/// Handle on the cluster; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    operator_namespace: Arc<str>,
    leadership: Leadership,
    metrics: Metrics,
}

impl Cluster {
    /// A handle that writes only while `leadership` holds.
    pub fn new(client: Client, operator_namespace: &str, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client, operator_namespace: Arc::from(operator_namespace), leadership, metrics }
    }

    /// The namespace the operator runs in.
    pub fn operator_namespace(&self) -> &str {
        &self.operator_namespace
    }

    /// Whether writes and Vault calls may be sent now.
    ///
    /// # Errors
    /// A failure that drops the effect: leadership is in doubt, so somebody else may be at work.
    pub fn may_act(&self) -> Result<(), Failure> {
        if self.leadership.may_write() {
            return Ok(());
        }
        Err(Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, "leadership is in doubt; nothing was sent"))
    }

    /// One read with a deadline.
    async fn read<T>(&self, about: &About<'_>, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(classify::classify(&error, about)),
            Err(_) => Err(classify::timed_out(about)),
        }
    }

    /// One write: asked for leave, given a deadline, counted.
    async fn write<T>(
        &self,
        about: &About<'_>,
        verb: Verb,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        self.may_act()?;
        let result = self.read(about, call).await;
        self.metrics.count_write(about.resource, verb, Outcome::of(&result));
        result
    }
}
