//! The proof that the admission policy which fences us is in force.
//!
//! The chart ships a Secret without our label. Until an empty patch on it has been refused with
//! 422, no request for any Secret outside the operator's namespace is sent; and when the refusal is
//! no longer seen, that stops again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_core::rights::FENCE_CANARY;

use super::{Cluster, Seen};

/// How often the canary is tried.
pub const EVERY: Duration = Duration::from_secs(10);

/// Whether the fence was seen to refuse; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<AtomicBool>);

impl Fence {
    /// Whether the last try was refused.
    pub fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Tries the canary once; returns whether that is news, or `None` without an answer.
    ///
    /// A try that got no answer changes nothing: an API server that is away refuses nothing and
    /// allows nothing.
    pub async fn probe(&self, cluster: &Cluster) -> Option<bool> {
        let holds = match cluster.read_secret(cluster.operator_namespace(), FENCE_CANARY).await {
            Ok(Seen::Foreign) => true,
            Ok(Seen::Absent | Seen::Ours(_)) => false,
            Err(_) => return None,
        };
        Some(self.0.swap(holds, Ordering::AcqRel) != holds)
    }
}
