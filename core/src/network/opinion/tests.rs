//! Both readings agree on whatever is declared, and differ as soon as one object is wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::network::{
    declared::{Addresses, Target},
    model::{Opening, Openings, Peer, Policy, Ports, Role},
    projection::{Applied, project},
    tests::{
        cases,
        oracle::any_town_with_externals,
        town::{Town, identity, tcp},
    },
};

fn found(town: &Town, spoil: impl FnOnce(&mut Compiled)) -> Option<Disagreement> {
    let projection = project(&town.snapshot, &Applied::new());
    let mut compiled = town.compile();
    spoil(&mut compiled);
    disagreement(&town.declared, &town.snapshot, &projection, &compiled)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2_000), failure_persistence: None, ..ProptestConfig::default() })]

    /// I-33: what the rendered objects let pass is what was declared.
    #[test]
    fn both_readings_agree(town in any_town_with_externals()) {
        prop_assert_eq!(found(&town, |_| {}), None);
    }
}

fn town() -> Town {
    let source = crate::network::declared::Source::Identity(identity("a/x"));
    Town::default()
        .with("a", &["x", "y"])
        .with("b", &["x", "y"])
        .segment("a", |_| {})
        .segment("b", |_| {})
        .grant("b/x", &[source], &[tcp(80)])
        .request("a/x", "b/x", &[tcp(80)])
}

fn policy<'a>(compiled: &'a mut Compiled, there: &str, flow: Option<Flow>) -> &'a mut Policy {
    let is_it = |role: &Role| match role {
        Role::Deny => flow.is_none(),
        Role::Workload { flow: of, .. } => Some(*of) == flow,
    };
    compiled.policies.iter_mut().find(|((here, role), _)| here.as_str() == there && is_it(role)).unwrap().1
}

/// Addresses outside on a port that a server listens on too: nobody knows the addresses of pods, and none is one of those.
#[test]
fn a_port_outside_is_no_doubt_about_pods_that_have_it_too() {
    let office = [Addresses::Block("203.0.113.0/24".parse().unwrap())];
    let town = town().external("a", "office", &office, &[tcp(80)]);
    let town = town.request_of("a/y", Target::External("office".to_owned()));
    assert_eq!(found(&town, |_| {}), None);
    let everywhere = |compiled: &mut Compiled| {
        let block = Peer::Block { block: "128.0.0.0/1".parse().unwrap(), except: BTreeSet::new() };
        let openings = policy(compiled, "a", Some(Flow::Egress)).isolates.values_mut();
        openings
            .for_each(|all| drop(all.insert(Opening { peer: block.clone(), ports: Ports::Every }, BTreeSet::new())));
    };
    assert!(found(&town, everywhere).is_some(), "a block that may hold pods is not agreed upon");
}

type Spoil<'a> = Box<dyn Fn(&mut Compiled) + 'a>;

#[test]
fn a_wrong_object_is_noticed() {
    assert_eq!(found(&town(), |_| {}), None);
    let everyone = |openings: &mut Openings| {
        openings.insert(Opening { peer: Peer::Cluster, ports: Ports::Every }, BTreeSet::default());
    };
    let cases: [(&str, Spoil<'_>); 5] = [
        (
            "the server lets everyone in",
            Box::new(move |compiled| {
                policy(compiled, "b", Some(Flow::Ingress)).isolates.values_mut().for_each(everyone);
            }),
        ),
        (
            "the server lets nobody in",
            Box::new(|compiled| {
                policy(compiled, "b", Some(Flow::Ingress)).isolates =
                    BTreeMap::from([(Flow::Ingress, Openings::new())]);
            }),
        ),
        (
            "the client may go nowhere",
            Box::new(|compiled| {
                policy(compiled, "a", Some(Flow::Egress)).isolates = BTreeMap::from([(Flow::Egress, Openings::new())]);
            }),
        ),
        (
            "the deny does not close the way out",
            Box::new(|compiled| {
                policy(compiled, "a", None).isolates.remove(&Flow::Egress);
            }),
        ),
        (
            "there is no deny",
            Box::new(|compiled| {
                compiled.policies.retain(|(_, role), _| *role != Role::Deny);
            }),
        ),
    ];
    for (what, spoil) in cases {
        assert!(found(&town(), |compiled| spoil(compiled)).is_some(), "{what}");
    }
}
