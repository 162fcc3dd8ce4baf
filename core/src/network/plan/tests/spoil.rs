//! Wrong orders and wrong objects, each made of the right one: what the judge must find.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::play::World;
use crate::network::{
    declared::{Source, Target},
    model::{Identity, Role},
    plan::{Phase, Plan, Write},
    render::{self, Kind, NetworkPolicies, Object, name},
    tests::town::{Town, namespace},
};

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The right one.
    None,
    /// A namespace is closed before anything lets through.
    DenyFirst,
    /// The next step is taken before the data plane has followed the last one.
    NoBarrier,
    /// An object is replaced by deleting it and making it anew.
    DeleteBeforeCreate,
    /// An object is not widened first.
    NarrowAtOnce,
    /// What lets through is withdrawn before the deny.
    DenyLastToGo,
    /// What was widened stays so.
    NeverNarrow,
    /// A set of peers that came to nothing is written as an empty list, which means everybody.
    EmptyPeers,
    /// `policyTypes` is left out, so that an object about the way out closes the way in as well.
    TypesLeftOut,
    /// A peer is known by its labels alone, whatever its namespace.
    AnyNamespace,
    /// The object of the way out forgets name resolution.
    NoNameResolution,
    /// A request opens a server that has granted nothing.
    RequestIsEnough,
}

fn is_deny(write: &Write) -> bool {
    write.name() == "countersign-deny"
}

fn removal(there: &str, name: &str) -> Write {
    Write::Delete { kind: Kind::NetworkPolicy, namespace: namespace(there), name: name.to_owned(), uid: String::new() }
}

/// Makes a wrong plan of the right one.
pub(super) fn spoil(fault: Fault, world: &World, plan: &mut Plan) {
    match fault {
        Fault::None
        | Fault::NoBarrier
        | Fault::EmptyPeers
        | Fault::TypesLeftOut
        | Fault::AnyNamespace
        | Fault::NoNameResolution
        | Fault::RequestIsEnough => {}
        Fault::DenyFirst => deny_first(world, plan),
        Fault::DeleteBeforeCreate => {
            let replaces = |write: &Write| matches!(write, Write::Apply { expected: Some(_), .. });
            let writes = std::mem::take(&mut plan.writes).into_iter();
            plan.writes = writes
                .flat_map(|write| {
                    let gone = replaces(&write).then(|| removal(write.namespace(), write.name()));
                    gone.into_iter().chain([write])
                })
                .collect();
        }
        Fault::NarrowAtOnce => narrow_at_once(world, plan),
        Fault::DenyLastToGo => {
            let goes = |there: &str| {
                let mut writes = plan.writes.iter().filter(|write| write.namespace() == there);
                writes.any(|write| is_deny(write) && matches!(write, Write::Delete { .. }))
            };
            let others = world.stored.keys().filter(|(there, name)| name != "countersign-deny" && goes(there));
            let others: Vec<Write> = others.map(|(there, name)| removal(there, name)).collect();
            plan.writes.splice(0..0, others);
        }
        Fault::NeverNarrow => {
            let size = |object: &NetworkPolicy| serde_json::to_string(&object.spec).unwrap().len();
            plan.writes.retain(|write| match write {
                Write::Apply { object: Object::NetworkPolicy(object), .. } => {
                    let key = (write.namespace().to_owned(), write.name().to_owned());
                    world.stored.get(&key).is_none_or(|old| size(old) <= size(object))
                }
                Write::Delete { .. } => true,
            });
        }
    }
}

/// What an object would say if it were made wrong: nobody who reads our record of it could tell.
pub(super) fn spoiled(fault: Fault, object: &NetworkPolicy) -> NetworkPolicy {
    let mut object = object.clone();
    let Some(spec) = &mut object.spec else { return object };
    match fault {
        Fault::EmptyPeers => spec.ingress.iter_mut().flatten().for_each(|rule| rule.from = Some(Vec::new())),
        Fault::TypesLeftOut => spec.policy_types = None,
        Fault::AnyNamespace => {
            let sources = spec.ingress.iter_mut().flatten().filter_map(|rule| rule.from.as_mut());
            sources.flatten().for_each(forget_namespace);
        }
        Fault::NoNameResolution => {
            let forget = |rules: &mut Vec<NetworkPolicyEgressRule>| {
                rules.retain(|rule| !rule.ports.iter().flatten().any(|port| is_name_resolution(port.port.as_ref())));
            };
            spec.egress.iter_mut().for_each(forget);
        }
        _ => {}
    }
    object
}

fn forget_namespace(peer: &mut NetworkPolicyPeer) {
    peer.namespace_selector = Some(LabelSelector::default());
}

fn is_name_resolution(port: Option<&IntOrString>) -> bool {
    matches!(port, Some(IntOrString::Int(53 | 5_353)))
}

/// The town in which every server has granted what is requested of it.
pub(super) fn all_granted(town: &Town) -> Town {
    let mut believed = town.clone();
    for request in town.declared.requests.values() {
        let client = Identity { namespace: request.key.namespace.clone(), account: request.from.clone() };
        for target in &request.to {
            if let Target::Identity { server, ports } = target {
                believed = believed.grant(&server.to_string(), &[Source::Identity(client.clone())], ports);
            }
        }
    }
    believed
}

fn deny_first(world: &World, plan: &mut Plan) {
    let compiled = world.town.compile();
    let closing = plan.phases.iter().filter(|(_, phase)| **phase == Phase::Closing);
    let denies = closing.filter_map(|(there, _)| compiled.policies.get(&(there.clone(), Role::Deny)));
    let missing =
        denies.filter(|deny| !world.stored.contains_key(&(deny.namespace.to_string(), "countersign-deny".to_owned())));
    let denies: Vec<Write> = missing
        .map(|deny| {
            let object = render::object(deny, &format!("uid-{}", deny.namespace), None);
            Write::Apply { object, expected: None, repairs: false }
        })
        .collect();
    plan.writes.splice(0..0, denies);
}

fn narrow_at_once(world: &World, plan: &mut Plan) {
    let compiled = world.town.compile();
    for write in &mut plan.writes {
        let Write::Apply { object: Object::NetworkPolicy(object), expected: Some(_), .. } = write else { continue };
        let meta = &object.metadata;
        let last = compiled.policies.values().find(|policy| {
            Some(policy.namespace.as_str()) == meta.namespace.as_deref() && Some(name(&policy.role)) == meta.name
        });
        if let Some(last) = last {
            object.spec = render::render::<NetworkPolicies>(last, "", None).spec;
        }
    }
}
