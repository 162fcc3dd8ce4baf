//! The statuses of segments, grants, requests and external services: each written only when it differs.

use std::{collections::BTreeMap, fmt::Debug};

use countersign_core::{
    api::{AccessStatus, ConditionType, ExternalService, ExternalServiceStatus, Reason, Segment, SegmentStatus},
    fault::Failure,
    network::{
        decide::Decision,
        declared::ObjectKey,
        intent::Rejection,
        model::Namespace,
        report::{self, World, access},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource as Object, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
};
use serde::{Serialize, de::DeserializeOwned};

use super::watched::{Declarations, fitting};
use crate::{
    controllers::Context,
    runtime::{
        events::{Action, Notice, Severity},
        health::Heartbeat,
        metrics::{Controller, Kind, ObjectSample, Resource},
    },
};

/// Whether a cache does not show yet a status that was written.
pub fn is_ahead(cx: &Context, declarations: &Declarations) -> bool {
    fn any<K: Object<DynamicType = ()>>(cx: &Context, objects: &[std::sync::Arc<DeserializeGuard<K>>]) -> bool {
        let stale = |object: &K| {
            let meta = object.meta();
            let (uid, version) = (meta.uid.as_deref(), meta.resource_version.as_deref());
            cx.freshness.is_stale(uid.unwrap_or_default(), version.unwrap_or_default())
        };
        fitting(objects).any(stale)
    }
    any(cx, &declarations.segments)
        || any(cx, &declarations.grants)
        || any(cx, &declarations.requests)
        || any(cx, &declarations.externals)
}

/// Tells every object where it stands.
///
/// # Errors
/// The first write that failed; the others were tried.
pub async fn publish(
    cx: &Context,
    declarations: &Declarations,
    decision: &Decision,
    failures: &BTreeMap<Namespace, Failure>,
    heartbeat: &Heartbeat,
) -> Result<(), Failure> {
    let (world, now) = (decision.world(failures), cx.handles.clock.now());
    let mut first = Ok(());
    for object in fitting(&declarations.segments) {
        heartbeat.tick();
        first = first.and(segment(cx, object, decision, &world, now).await);
    }
    for object in fitting(&declarations.grants) {
        heartbeat.tick();
        let previous = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let status = match of(object, &decision.declared.grants, &decision.rejections.grants) {
            Told::Declared(one) => access::grant(one, generation, &world, &previous, now),
            Told::Rejected(why) => rejected(why, generation, &previous, now),
            Told::Nothing => continue,
        };
        first = first.and(write(cx, object, Shown::Grant, &previous, &status, &status.conditions).await);
    }
    for object in fitting(&declarations.requests) {
        heartbeat.tick();
        let previous = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let status = match of(object, &decision.declared.requests, &decision.rejections.requests) {
            Told::Declared(one) => access::request(one, generation, &world, &previous, now),
            Told::Rejected(why) => rejected(why, generation, &previous, now),
            Told::Nothing => continue,
        };
        first = first.and(write(cx, object, Shown::Request, &previous, &status, &status.conditions).await);
    }
    for object in fitting(&declarations.externals) {
        heartbeat.tick();
        first = first.and(external(cx, object, decision, &world, now).await);
    }
    first
}

/// What was made of an object.
enum Told<'a, T> {
    Declared(&'a T),
    Rejected(&'a Rejection),
    /// It is being deleted.
    Nothing,
}

fn of<'a, T>(
    object: &impl ResourceExt,
    declared: &'a BTreeMap<ObjectKey, T>,
    rejected: &'a BTreeMap<ObjectKey, Rejection>,
) -> Told<'a, T> {
    let Some(namespace) = object.namespace().as_deref().and_then(Namespace::parse) else { return Told::Nothing };
    let key = ObjectKey { namespace, name: object.name_any() };
    match (declared.get(&key), rejected.get(&key)) {
        (Some(one), _) => Told::Declared(one),
        (None, Some(why)) => Told::Rejected(why),
        (None, None) => Told::Nothing,
    }
}

fn rejected(why: &Rejection, generation: i64, previous: &AccessStatus, now: Timestamp) -> AccessStatus {
    let conditions = report::rejected(&[ConditionType::Ready], why, generation, &previous.conditions, now);
    AccessStatus { observed_generation: Some(generation), conditions, ..previous.clone() }
}

async fn segment(
    cx: &Context,
    object: &Segment,
    decision: &Decision,
    world: &World<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let name = object.name_any();
    let status = match (decision.declared.segments.get(&name), decision.rejections.segments.get(&name)) {
        (Some(one), _) => report::segment(one, generation, world, &previous, now),
        (None, Some(why)) => {
            let positive =
                [ConditionType::Ready, ConditionType::Compiled, ConditionType::Applied, ConditionType::Enforced];
            let conditions = report::rejected(&positive, why, generation, &previous.conditions, now);
            SegmentStatus { observed_generation: Some(generation), conditions, ..previous.clone() }
        }
        (None, None) => return Ok(()),
    };
    if status != previous {
        let version = cx.cluster.write_cluster_status(object, Resource::Segments, &status).await?;
        cx.freshness.wrote(&object.uid().unwrap_or_default(), &version);
        tell(cx, object, &previous.conditions, &status.conditions);
        if report::keeps_deny(&previous, &status) {
            notice(cx, object, Severity::Normal, Reason::DenyKept);
        }
    }
    show(cx, object, Kind::Segment, &status.conditions);
    Ok(())
}

/// One event whenever the policies of a segment come into another state.
fn tell(cx: &Context, object: &Segment, before: &[Condition], after: &[Condition]) {
    let state = |conditions: &[Condition]| {
        let applied = conditions.iter().find(|condition| condition.type_ == ConditionType::Applied.name())?;
        Some((applied.reason.clone(), Reason::named(&applied.reason)?))
    };
    let Some((words, reason)) = state(after) else { return };
    if state(before).is_some_and(|(before, _)| before == words) {
        return;
    }
    let is_calm = matches!(reason, Reason::Applied | Reason::RollingOut | Reason::Observing | Reason::Off);
    let severity = if is_calm { Severity::Normal } else { Severity::Warning };
    notice(cx, object, severity, reason);
}

fn notice(cx: &Context, object: &Segment, severity: Severity, reason: Reason) {
    let (controller, action, about) = (Controller::Network, Action::Enforce, object.object_ref(&()));
    cx.handles.events.publish(Notice { controller, severity, action, reason, about, target: None });
}

async fn external(
    cx: &Context,
    object: &ExternalService,
    decision: &Decision,
    world: &World<'_>,
    now: Timestamp,
) -> Result<(), Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let status = match of(object, &decision.declared.externals, &decision.rejections.externals) {
        Told::Declared(one) => access::external(one, generation, world, &previous.conditions, now),
        Told::Rejected(why) => ExternalServiceStatus {
            observed_generation: Some(generation),
            conditions: report::rejected(&[ConditionType::Ready], why, generation, &previous.conditions, now),
        },
        Told::Nothing => return Ok(()),
    };
    write(cx, object, Shown::External, &previous, &status, &status.conditions).await
}

/// The kinds of a namespace.
#[derive(Clone, Copy)]
enum Shown {
    Grant,
    Request,
    External,
}

impl Shown {
    fn labels(self) -> (Kind, Resource) {
        match self {
            Self::Grant => (Kind::AccessGrant, Resource::AccessGrants),
            Self::Request => (Kind::AccessRequest, Resource::AccessRequests),
            Self::External => (Kind::ExternalService, Resource::ExternalServices),
        }
    }
}

async fn write<K, S>(
    cx: &Context,
    object: &K,
    shown: Shown,
    previous: &S,
    status: &S,
    conditions: &[Condition],
) -> Result<(), Failure>
where
    K: Object<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    S: Serialize + PartialEq,
{
    let (kind, resource) = shown.labels();
    if status != previous {
        let version = cx.cluster.write_status(object, resource, status).await?;
        cx.freshness.wrote(&object.uid().unwrap_or_default(), &version);
    }
    show(cx, object, kind, conditions);
    Ok(())
}

fn show<K: Object<DynamicType = ()>>(cx: &Context, object: &K, kind: Kind, conditions: &[Condition]) {
    let namespace = object.namespace();
    let sample =
        ObjectSample { kind, namespace: namespace.as_deref(), name: &object.name_any(), conditions, certificate: None };
    cx.handles.metrics.show_object(&sample);
}
