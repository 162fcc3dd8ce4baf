//! One look at the whole cluster: from what was read to what is written next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube_core::ResourceExt;

use super::{
    applied::Standing,
    compile::compile,
    compiled::Compiled,
    declared::{Declared, Mode, ObjectKey},
    intent::{self, Rejection},
    model::Namespace,
    opinion::{
        Disagreement, disagreement,
        surplus::{Surplus, surplus},
    },
    plan::{Inputs, Plan, plan},
    preflight::held,
    projection::{Projection, project},
    report::World,
    snapshot::Snapshot,
};
use crate::{
    api::{AccessGrant, AccessRequest, ExternalService, Segment},
    fault::Failure,
};

/// The objects that people wrote.
#[derive(Debug, Clone, Default)]
pub struct Objects<'a> {
    /// Segments.
    pub segments: Vec<&'a Segment>,
    /// Grants.
    pub grants: Vec<&'a AccessGrant>,
    /// Requests.
    pub requests: Vec<&'a AccessRequest>,
    /// External services.
    pub externals: Vec<&'a ExternalService>,
}

/// Why some of them declare nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejections {
    /// Segments, by name.
    pub segments: BTreeMap<String, Rejection>,
    /// Grants.
    pub grants: BTreeMap<ObjectKey, Rejection>,
    /// Requests.
    pub requests: BTreeMap<ObjectKey, Rejection>,
    /// External services.
    pub externals: BTreeMap<ObjectKey, Rejection>,
}

/// When something of ours was last written or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// By namespace.
    pub at: BTreeMap<Namespace, Timestamp>,
    /// When this process began to write; before that, nobody knows.
    pub since: Timestamp,
}

/// What was made of it.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// What people declared.
    pub declared: Declared,
    /// Why some of it is not.
    pub rejections: Rejections,
    /// What was observed.
    pub snapshot: Snapshot,
    /// What there is.
    pub standing: Standing,
    /// The identities' workloads.
    pub projection: Projection,
    /// What there is to be.
    pub compiled: Compiled,
    /// What the second opinion found.
    pub disagreement: Option<Disagreement>,
    /// What policies of others let pass beside ours, the first in each namespace.
    pub surplus: BTreeMap<Namespace, Surplus>,
    /// What is written next.
    pub plan: Plan,
}

impl Decision {
    /// What the statuses are made from.
    pub fn world<'a>(&'a self, failures: &'a BTreeMap<Namespace, Failure>) -> World<'a> {
        World {
            declared: &self.declared,
            snapshot: &self.snapshot,
            projection: &self.projection,
            compiled: &self.compiled,
            standing: &self.standing,
            plan: &self.plan,
            disagreement: self.disagreement.as_ref(),
            surplus: &self.surplus,
            failures,
        }
    }

    /// Whether nothing in the cluster belongs to the segment with this UID.
    pub fn has_left(&self, segment_uid: &str) -> bool {
        self.standing.ours.values().all(|applied| applied.segment != segment_uid)
    }
}

/// Decides; `time_scale` divides the time that the data plane is given, for tests and demos.
pub fn decide(
    objects: &Objects<'_>,
    snapshot: Snapshot,
    standing: Standing,
    touched: &Touched,
    time_scale: u32,
    now: Timestamp,
) -> Decision {
    let (mut declared, rejections) = parse(objects);
    for segment in declared.segments.values_mut() {
        segment.pace.settle /= time_scale.max(1);
    }
    let projection = project(&snapshot, &standing.selectors());
    let compiled = compile(&declared, &snapshot, &projection);
    let disagreement = disagreement(&declared, &snapshot, &projection, &compiled);
    let surplus = surplus(&declared, &snapshot, &projection, &compiled, &standing.others);
    let held = held(&declared, &snapshot, &compiled);
    let mut plan = plan(&Inputs {
        declared: &declared,
        snapshot: &snapshot,
        projection: &projection,
        compiled: &compiled,
        standing: &standing,
        held: &held,
        touched: &touched.at,
        since: touched.since,
        now,
    });
    // In doubt what is applied stays: a segment that is not understood may be what closes the other end.
    if disagreement.is_some() || !rejections.segments.is_empty() {
        plan.writes.clear();
        plan.wake = None;
    }
    Decision { declared, rejections, snapshot, standing, projection, compiled, disagreement, surplus, plan }
}

fn parse(objects: &Objects<'_>) -> (Declared, Rejections) {
    let (mut declared, mut rejections) = (Declared::default(), Rejections::default());
    for object in &objects.segments {
        match intent::segment(object) {
            Ok(mut segment) => {
                if object.metadata.deletion_timestamp.is_some() {
                    // Whoever deletes a segment wants its namespaces open, also one that was suspended.
                    (segment.mode, segment.suspended) = (Mode::Off, false);
                }
                declared.segments.insert(segment.name.clone(), segment);
            }
            Err(rejection) => {
                rejections.segments.insert(object.name_any(), rejection);
            }
        }
    }
    for object in objects.grants.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        sort(*object, intent::grant(object), |one| &one.key, &mut declared.grants, &mut rejections.grants);
    }
    for object in objects.requests.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        sort(*object, intent::request(object), |one| &one.key, &mut declared.requests, &mut rejections.requests);
    }
    for object in objects.externals.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        sort(*object, intent::external(object), |one| &one.key, &mut declared.externals, &mut rejections.externals);
    }
    (declared, rejections)
}

fn sort<T>(
    object: &impl ResourceExt,
    parsed: Result<T, Rejection>,
    key: impl Fn(&T) -> &ObjectKey,
    good: &mut BTreeMap<ObjectKey, T>,
    bad: &mut BTreeMap<ObjectKey, Rejection>,
) {
    match parsed {
        Ok(one) => {
            good.insert(key(&one).clone(), one);
        }
        Err(rejection) => {
            if let Some(namespace) = object.namespace().as_deref().and_then(Namespace::parse) {
                bad.insert(ObjectKey { namespace, name: object.name_any() }, rejection);
            }
        }
    }
}
