//! A metric family whose series can be forgotten by owner.

use std::{
    collections::HashSet,
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, TypedMetric, family::Family},
    registry::{Metric, Registry},
};

/// A family that knows its label sets, so that all series of an object go with the object.
pub(super) struct Series<L, M> {
    family: Family<L, M>,
    known: Mutex<HashSet<L>>,
}

impl<L, M> Series<L, M>
where
    L: Clone + Hash + Eq + EncodeLabelSet + fmt::Debug + Send + Sync + 'static,
    M: Clone + EncodeMetric + TypedMetric + fmt::Debug + Send + Sync + 'static,
    Family<L, M>: Metric,
{
    /// A family of metrics made by `new`, registered as `name`.
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str, new: fn() -> M) -> Self {
        debug_assert!(!name.ends_with("_total") || !matches!(M::TYPE, MetricType::Counter), "the encoder adds _total");
        let family = Family::new_with_constructor(new);
        registry.register(name, help, family.clone());
        Self { family, known: Mutex::default() }
    }

    /// The metric of `labels`, made if it is new.
    pub(super) fn of(&self, labels: &L) -> M {
        let mut known = self.known();
        if !known.contains(labels) {
            known.insert(labels.clone());
        }
        // Under the lock, or a metric could be made again that is being forgotten.
        self.family.get_or_create_owned(labels)
    }

    /// Removes every series whose labels `gone` names.
    pub(super) fn forget(&self, gone: impl Fn(&L) -> bool) {
        self.known().retain(|labels| {
            let keep = !gone(labels);
            if !keep {
                self.family.remove(labels);
            }
            keep
        });
    }

    /// Removes one series.
    pub(super) fn remove(&self, labels: &L) {
        let mut known = self.known();
        known.remove(labels);
        self.family.remove(labels);
    }

    fn known(&self) -> MutexGuard<'_, HashSet<L>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
