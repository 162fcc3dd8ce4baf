//! The plan played against a data plane that follows late, judged by the evaluator.
//!
//! A schedule is a list of edits; after each, passes run until nothing is left to write. Between any two writes the
//! data plane may have followed each object or not, as long as the time to settle has not passed, and whatever it is,
//! nothing that stayed declared is cut and nothing that stayed closed is open.

mod play;
mod spoil;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule};
use proptest::prelude::*;

use self::{
    play::{Edit, Found, Tampering, play},
    spoil::Fault,
};
use crate::network::{
    applied::Standing,
    declared::{Addresses, Consent, PortRef, Source},
    plan::{Phase, Write},
    render::{Bearer, NetworkPolicies, Object, render},
    tests::{
        cases,
        town::{Town, identity, namespace, tcp},
    },
};

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let there = || 0..3usize;
    let who = || (0..3usize, 0..2usize);
    let tampering = prop_oneof![Just(Tampering::Open), Just(Tampering::Turn), Just(Tampering::Spread)];
    let edit = prop_oneof![
        3 => (there(), any::<bool>(), any::<bool>()).prop_map(|(at, ingress, egress)| Edit::Close { at, ingress, egress }),
        1 => there().prop_map(Edit::Open),
        1 => there().prop_map(Edit::Delete),
        4 => (who(), who(), 80..82u16).prop_map(|(client, server, port)| Edit::Declare { client, server, port }),
        1 => (who(), who(), 80..82u16).prop_map(|(client, server, port)| Edit::Ask { client, server, port }),
        1 => (who(), 80..82u16).prop_map(|(client, port)| Edit::Outside { client, port }),
        2 => (0..60usize).prop_map(Edit::TakeBack),
        1 => who().prop_map(Edit::Relabel),
        1 => who().prop_map(Edit::Twin),
        1 => Just(Edit::MoveDns),
        1 => (0..60usize, tampering).prop_map(|(which, how)| Edit::Tamper(which, how)),
    ];
    prop::collection::vec(edit, 1..8)
}

/// Somebody opens the policy of a workload that could not be written anew, as it is no longer selected exactly: what it
/// let through stays, and nothing else.
#[test]
fn what_cannot_be_compiled_is_put_back_as_it_was() {
    let edits = [
        Edit::Close { at: 1, ingress: true, egress: false },
        Edit::Declare { client: (0, 0), server: (1, 1), port: 80 },
        Edit::Twin((1, 1)),
    ];
    for tampering in [Tampering::Open, Tampering::Turn, Tampering::Spread] {
        for place in 0..3 {
            let tamper = Edit::Tamper(place, tampering);
            let edits: Vec<Edit> = edits.iter().cloned().chain([tamper]).collect();
            assert_eq!(play(&edits, 0, Fault::None), [], "{tampering:?} of object {place}");
        }
    }
}

/// A segment that is held back closes nothing, and so does not keep closed what another one opens.
#[test]
fn what_is_held_back_is_not_taken_for_closed() {
    let edits = [
        Edit::Close { at: 1, ingress: true, egress: false },
        Edit::Declare { client: (0, 0), server: (0, 0), port: 80 },
        Edit::TakeBack(0),
        Edit::Close { at: 0, ingress: false, egress: true },
        Edit::Open(1),
    ];
    assert_eq!(play(&edits, 0, Fault::None), []);
}

/// A direction that is closed later is held back like a namespace.
#[test]
fn a_direction_is_not_closed_while_an_edge_cannot_be_selected() {
    let edits = [
        Edit::Declare { client: (2, 0), server: (0, 0), port: 80 },
        Edit::Close { at: 2, ingress: true, egress: false },
        Edit::Twin((2, 0)),
        Edit::Close { at: 2, ingress: false, egress: true },
    ];
    assert_eq!(play(&edits, 0, Fault::None), []);
}

/// The object of a workload closes its pods as much as the deny does: of a direction that is held back it is not begun.
#[test]
fn no_object_of_a_direction_that_is_held_back_is_begun() {
    let edits = [
        Edit::Twin((2, 0)),
        Edit::Ask { client: (1, 0), server: (2, 0), port: 80 },
        Edit::Close { at: 1, ingress: true, egress: false },
        Edit::Close { at: 1, ingress: false, egress: true },
        Edit::Declare { client: (1, 0), server: (0, 0), port: 80 },
    ];
    assert_eq!(play(&edits, 0, Fault::None), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(100), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_declared_is_cut_and_nothing_closed_is_opened(edits in edits(), seed in any::<u64>()) {
        prop_assert_eq!(play(&edits, seed, Fault::None), Vec::new());
    }
}

/// The same, for long: two workers, each with a stream of its own.
#[cfg(feature = "load")]
#[test]
fn no_schedule_of_a_hundred_thousand_cuts_or_opens() {
    use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
    let schedules = cases(100_000);
    let started = std::time::Instant::now();
    let survey = move |worker: u8| {
        let config = ProptestConfig { cases: schedules / 2, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[worker; 32]));
        let played = runner.run(&(edits(), any::<u64>()), |(edits, seed)| {
            let found = play(&edits, seed, Fault::None);
            if found.is_empty() { Ok(()) } else { Err(TestCaseError::fail(format!("{found:?}"))) }
        });
        played.map_err(|failure| failure.to_string())
    };
    let workers = [1, 2].map(|worker| std::thread::spawn(move || survey(worker)));
    for worker in workers {
        assert_eq!(worker.join().unwrap(), Ok(()));
    }
    let rate = f64::from(schedules) / started.elapsed().as_secs_f64();
    println!("{schedules} schedules of the network, {rate:.0} a second, none cut or opened anything");
}

/// Edits that go through every step of the order.
fn tour() -> Vec<Edit> {
    vec![
        Edit::Close { at: 2, ingress: false, egress: true },
        Edit::Open(2),
        Edit::Declare { client: (0, 0), server: (1, 0), port: 80 },
        Edit::Close { at: 1, ingress: true, egress: true },
        Edit::Close { at: 0, ingress: true, egress: true },
        Edit::Relabel((0, 0)),
        Edit::MoveDns,
        Edit::MoveDns,
        Edit::Declare { client: (0, 1), server: (1, 0), port: 81 },
        Edit::Ask { client: (0, 1), server: (1, 1), port: 80 },
        Edit::Open(1),
        Edit::Delete(0),
    ]
}

#[test]
fn the_tour_is_clean() {
    for seed in 0..20 {
        assert_eq!(play(&tour(), seed, Fault::None), []);
    }
}

/// The judge sees what it is there for: each wrong order and each wrong object is found, by the finding named beside it.
#[test]
fn every_wrong_order_and_object_is_found() {
    for (fault, finding) in [
        (Fault::DenyFirst, Found::Cut),
        (Fault::NoBarrier, Found::Cut),
        (Fault::DeleteBeforeCreate, Found::Opened),
        (Fault::NarrowAtOnce, Found::Cut),
        (Fault::DenyLastToGo, Found::Cut),
        (Fault::NeverNarrow, Found::Opened),
        (Fault::EmptyPeers, Found::Opened),
        (Fault::TypesLeftOut, Found::Cut),
        (Fault::AnyNamespace, Found::Opened),
        (Fault::NoNameResolution, Found::Cut),
        (Fault::RequestIsEnough, Found::Opened),
    ] {
        let found: Vec<Found> = (0..20).flat_map(|seed| play(&tour(), seed, fault)).collect();
        assert!(found.contains(&finding), "{fault:?} was not found: {found:?}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let town = Town::default().with("a", &["x", "y"]).with("b", &["x"]).segment("a", |_| {}).segment("b", |_| {});
    let source = Source::Identity(identity("b/x"));
    let town = town.grant("a/x", &[source], &[tcp(80), tcp(81)]).request("b/x", "a/x", &[tcp(80)]);
    let bearer = Bearer { uid: "u".to_owned(), account: "x".to_owned() };
    let compiled = town.compile();
    assert!(compiled.policies.len() >= 4);
    for ((there, role), policy) in &compiled.policies {
        let object = render::<NetworkPolicies>(policy, "segment", Some(&bearer));
        let standing = Standing::read([&object]);
        let read = &standing.ours[&(there.clone(), role.clone())];
        assert_eq!(read.policy, *policy);
        assert!(read.is_intact && read.segment == "segment");
        // A rule that somebody adds is seen, and nothing of it is taken for ours.
        let mut changed = object.clone();
        changed.spec.as_mut().unwrap().egress = Some(vec![NetworkPolicyEgressRule::default()]);
        assert!(!Standing::read([&changed]).ours[&(there.clone(), role.clone())].is_intact);
    }
}

#[test]
fn namespaces_are_closed_one_at_a_time_and_a_held_segment_starts_none() {
    let mut town = Town::default().with("a", &["x"]).with("b", &["x"]);
    town = town.segment("both", |segment| {
        segment.namespaces = crate::network::declared::Namespaces::Names([namespace("a"), namespace("b")].into());
    });
    let first = play::one(&town, &Standing::default());
    assert_eq!(first.phases[&namespace("a")], Phase::Closing);
    assert_eq!(first.phases[&namespace("b")], Phase::Open);
    assert!(first.writes.iter().all(|write| write.namespace() == "a"), "{:?}", first.writes);
    // Half of an edge is declared, so closing would break it.
    let asked = town.request("a/x", "b/x", &[tcp(80)]);
    let held = play::one(&asked, &Standing::default());
    assert!(held.writes.is_empty());
    assert_eq!(held.phases[&namespace("a")], Phase::Open);
}

/// A port that replaces another is opened at both ends before the other is closed at either.
#[test]
fn what_an_edge_loses_waits_for_its_other_end() {
    let town = |port: u16| {
        let town = Town::default().with("a", &["x"]).with("b", &["x"]).segment("a", |_| {}).segment("b", |_| {});
        let source = Source::Identity(identity("b/x"));
        town.grant("a/x", &[source], &[tcp(80), tcp(81)]).request("b/x", "a/x", &[tcp(port)])
    };
    let bearer = Bearer { uid: "uid-x".to_owned(), account: "x".to_owned() };
    let policies = town(80).compile().policies.into_values().collect::<Vec<_>>();
    let closed: Vec<_> = policies
        .iter()
        .map(|policy| render::<NetworkPolicies>(policy, &format!("uid-{}", policy.namespace), Some(&bearer)))
        .collect();
    let read = |objects: &[NetworkPolicy]| Standing::read(objects);
    let new = town(81);
    let widening = play::one(&new, &read(&closed)).writes;
    assert_eq!(widening.iter().map(Write::namespace).collect::<Vec<_>>(), ["a", "b"]);
    let after = |writes: &[Write]| {
        let mut objects = closed.clone();
        for write in writes {
            let Write::Apply { object: Object::NetworkPolicy(object), .. } = write else {
                panic!("{write:?} widens nothing")
            };
            let stored = objects.iter_mut().find(|known| {
                let (known, object) = (&known.metadata, &object.metadata);
                (&known.namespace, &known.name) == (&object.namespace, &object.name)
            });
            *stored.unwrap() = (**object).clone();
        }
        objects
    };

    // However long the write at the other end is not made.
    let late = play::planned(&new, &read(&after(&widening[..1])), &BTreeMap::new(), play::at(1_000_000));
    assert_eq!(late.writes.iter().map(Write::namespace).collect::<Vec<_>>(), ["b"]);

    let both = after(&widening);
    let touched = BTreeMap::from([(namespace("a"), play::at(100)), (namespace("b"), play::at(103))]);
    let early = play::planned(&new, &read(&both), &touched, play::at(112));
    assert!(early.writes.is_empty(), "{:?}", early.writes);
    assert_eq!(early.wake, Some(play::at(113)));
    assert_eq!(play::planned(&new, &read(&both), &touched, play::at(113)).writes.len(), 2);
}

/// Two names for the same addresses, with a port each, and one grant of every port beside one of a single port.
#[test]
fn what_is_open_for_different_causes_comes_to_rest() {
    let office = [Addresses::Block("203.0.113.0/24".parse().unwrap())];
    let source = |names: &[&str]| names.iter().map(|name| Source::External((*name).to_owned())).collect::<Vec<_>>();
    let town = Town::default()
        .with("a", &["x"])
        .with("b", &["x"])
        .segment("a", |segment| segment.consent = Consent::ServerOnly)
        .external("a", "one", &office, &[tcp(443)])
        .external("a", "two", &office, &[tcp(8443)])
        .grant("a/x", &source(&["one"]), &[tcp(443)])
        .grant("a/x", &source(&["two"]), &[tcp(8443)])
        .grant("a/x", &[Source::Namespace(namespace("b"))], &[PortRef::All, tcp(80)]);
    let mut objects: BTreeMap<String, NetworkPolicy> = BTreeMap::new();
    for pass in 0..10 {
        let stored: Vec<_> = objects.values().cloned().collect();
        let plan = play::planned(&town, &Standing::read(&stored), &BTreeMap::new(), play::at(1_000 * (pass + 1)));
        if plan.writes.is_empty() && plan.wake.is_none() {
            assert_eq!(objects.len(), 2, "a way in and a deny");
            return;
        }
        for write in &plan.writes {
            let Write::Apply { object: Object::NetworkPolicy(object), .. } = write else { panic!("{write:?}") };
            objects.insert(write.name().to_owned(), (**object).clone());
        }
    }
    panic!("it is written again and again");
}

#[test]
fn an_object_of_somebody_else_stops_its_namespace() {
    let town = Town::default().with("a", &["x"]).segment("a", |_| {});
    let mut standing = Standing::default();
    standing.foreign.entry(namespace("a")).or_default().insert("countersign-deny".to_owned());
    let plan = play::one(&town, &standing);
    assert!(plan.writes.is_empty());
    assert!(plan.collisions[&namespace("a")].contains("countersign-deny"));
}

#[test]
fn what_belongs_to_no_segment_stays() {
    let closed = Town::default().with("a", &["x"]).segment("a", |_| {});
    let objects: Vec<_> =
        closed.compile().policies.values().map(|policy| render::<NetworkPolicies>(policy, "gone", None)).collect();
    let town = Town::default().with("a", &["x"]);
    let plan = play::one(&town, &Standing::read(&objects));
    assert!(plan.writes.is_empty() && plan.wake.is_none());
    // A segment that comes later takes them over.
    let plan = play::one(&closed, &Standing::read(&objects));
    assert!(matches!(plan.writes.as_slice(), [Write::Apply { .. }]), "{:?}", plan.writes);
}
