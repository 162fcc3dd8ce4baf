//! Wrong orders, each made of the right one: what the judge must find.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::play::World;
use crate::network::{
    model::Role,
    plan::{Phase, Plan, Write},
    render::{name, render},
    tests::town::namespace,
};

/// A wrong order.
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
}

fn is_deny(write: &Write) -> bool {
    write.name() == "countersign-deny"
}

fn removal(there: &str, name: &str) -> Write {
    Write::Delete { namespace: namespace(there), name: name.to_owned(), uid: String::new() }
}

/// Makes a wrong plan of the right one.
pub(super) fn spoil(fault: Fault, world: &World, plan: &mut Plan) {
    match fault {
        Fault::None | Fault::NoBarrier => {}
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
                Write::Apply { object, .. } => {
                    let key = (write.namespace().to_owned(), write.name().to_owned());
                    world.stored.get(&key).is_none_or(|old| size(old) <= size(object))
                }
                Write::Delete { .. } => true,
            });
        }
    }
}

fn deny_first(world: &World, plan: &mut Plan) {
    let compiled = world.town.compile();
    let closing = plan.phases.iter().filter(|(_, phase)| **phase == Phase::Closing);
    let denies = closing.filter_map(|(there, _)| compiled.policies.get(&(there.clone(), Role::Deny)));
    let missing =
        denies.filter(|deny| !world.stored.contains_key(&(deny.namespace.to_string(), "countersign-deny".to_owned())));
    let denies: Vec<Write> = missing
        .map(|deny| {
            let object = Box::new(render(deny, &format!("uid-{}", deny.namespace), None));
            Write::Apply { object, expected: None, repairs: false }
        })
        .collect();
    plan.writes.splice(0..0, denies);
}

fn narrow_at_once(world: &World, plan: &mut Plan) {
    let compiled = world.town.compile();
    for write in &mut plan.writes {
        let Write::Apply { object, expected: Some(_), .. } = write else { continue };
        let meta = &object.metadata;
        let last = compiled.policies.values().find(|policy| {
            Some(policy.namespace.as_str()) == meta.namespace.as_deref() && Some(name(&policy.role)) == meta.name
        });
        if let Some(last) = last {
            object.spec = render(last, "", None).spec;
        }
    }
}
