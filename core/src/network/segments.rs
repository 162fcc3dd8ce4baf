//! Which segment a namespace is in: at most one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    declared::{Declared, Mode, Namespaces, Segment},
    model::{Flow, Namespace},
    snapshot::Snapshot,
};

/// The namespace of the cluster's own workloads.
const SYSTEM: &str = "kube-system";

/// The segment of each namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segmented<'a> {
    of: BTreeMap<Namespace, &'a Segment>,
    /// By the name of a segment: the namespaces that it wants and leaves to an older one.
    pub conflicts: BTreeMap<String, BTreeSet<Namespace>>,
    /// By the name of a segment: the namespaces that it wants and may not close, as it does not say `protected: true`.
    pub protected: BTreeMap<String, BTreeSet<Namespace>>,
}

impl<'a> Segmented<'a> {
    /// Gives each namespace to the oldest segment that wants it; of two of one second the UID decides. One that is
    /// `Off` wants nothing, and a namespace that is being deleted is left alone.
    pub fn new(declared: &'a Declared, snapshot: &Snapshot) -> Self {
        let mut segments: Vec<&Segment> =
            declared.segments.values().filter(|segment| segment.mode != Mode::Off).collect();
        segments.sort_by(|one, two| (one.created, &one.uid).cmp(&(two.created, &two.uid)));
        let mut segmented = Self::default();
        let live = || snapshot.namespaces.iter().filter(|(_, facts)| !facts.terminating);
        for segment in segments {
            for (namespace, facts) in live() {
                let wants = match &segment.namespaces {
                    Namespaces::Names(names) => names.contains(namespace),
                    Namespaces::Labels(labels) => {
                        labels.iter().all(|(key, value)| facts.labels.get(key) == Some(value))
                    }
                };
                if !wants {
                    continue;
                }
                let own = snapshot.operator_namespace.as_ref() == Some(namespace);
                let to = if (own || namespace.as_str() == SYSTEM) && !segment.protected {
                    &mut segmented.protected
                } else if segmented.of.contains_key(namespace) {
                    &mut segmented.conflicts
                } else {
                    segmented.of.insert(namespace.clone(), segment);
                    continue;
                };
                to.entry(segment.name.clone()).or_default().insert(namespace.clone());
            }
        }
        segmented
    }

    /// The segment of a namespace.
    pub fn of(&self, namespace: &Namespace) -> Option<&'a Segment> {
        self.of.get(namespace).copied()
    }

    /// The segment of a namespace, if it closes that direction.
    pub fn closing(&self, namespace: &Namespace, flow: Flow) -> Option<&'a Segment> {
        self.of(namespace).filter(|segment| segment.directions.contains(&flow))
    }

    /// Every namespace of a segment.
    pub fn iter(&self) -> impl Iterator<Item = (&Namespace, &'a Segment)> {
        self.of.iter().map(|(namespace, segment)| (namespace, *segment))
    }
}
