//! A second backend, in one file: what it needs to have policies written as its objects, read back with their causes,
//! and seen when somebody changes them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube_derive::CustomResource;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{oracle::any_town_with_externals, town::namespace};
use crate::network::{
    applied::read,
    model::{Flow, Openings, Peer, Policy, PortSpan, Ports, Protocol, Role, Selector, Subject},
    render::{Allowed, Backend, Bearer, Kind, NetworkPolicies, Rule, grouped, render},
};

/// One text for each rule, `PEER … : PORT …`; a direction that is not named is open.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "example.org",
    version = "v1",
    kind = "Lines",
    plural = "lines",
    namespaced,
    derive = "PartialEq",
    crates(kube_core = "::kube_core")
)]
pub struct LinesSpec {
    pods: BTreeMap<String, String>,
    into: Option<Vec<String>>,
    out_of: Option<Vec<String>>,
}

enum AsLines {}

impl Backend for AsLines {
    type Object = Lines;
    type Spec = LinesSpec;

    fn object(metadata: ObjectMeta, spec: LinesSpec) -> Lines {
        Lines { metadata, spec }
    }

    fn spec(object: &Lines) -> Option<&LinesSpec> {
        Some(&object.spec)
    }

    fn write(policy: &Policy) -> LinesSpec {
        let lines = |openings: &Openings| grouped(openings).iter().map(|(ports, peers)| line(ports, peers)).collect();
        let pods = match &policy.subject {
            Subject::Pods(selector) => selector.terms().clone(),
            Subject::WholeNamespace => BTreeMap::new(),
        };
        let side = |flow: Flow| policy.isolates.get(&flow).map(lines);
        LinesSpec { pods, into: side(Flow::Ingress), out_of: side(Flow::Egress) }
    }

    fn plain(spec: &LinesSpec) -> LinesSpec {
        spec.clone()
    }

    fn spell_out(_: &mut Lines) {}

    fn isolates(spec: &LinesSpec) -> BTreeSet<Flow> {
        let sides = [(Flow::Ingress, &spec.into), (Flow::Egress, &spec.out_of)];
        sides.into_iter().filter(|(_, lines)| lines.is_some()).map(|(flow, _)| flow).collect()
    }

    fn selector(spec: &LinesSpec) -> Option<Selector> {
        Selector::new(spec.pods.clone())
    }

    fn rules(spec: &LinesSpec, flow: Flow) -> Option<Vec<Rule>> {
        let lines = match flow {
            Flow::Ingress => &spec.into,
            Flow::Egress => &spec.out_of,
        };
        lines.iter().flatten().map(|line| rule(line)).collect()
    }
}

fn line(ports: &BTreeSet<Ports>, peers: &[Allowed<'_>]) -> String {
    let peer = |(peer, _): &Allowed<'_>| match *peer {
        Peer::Pods { namespace, selector } => format!("{namespace}/{selector}"),
        Peer::Namespace(namespace) => format!("{namespace}/"),
        Peer::Cluster => "*".to_owned(),
        Peer::Block { block, except } => {
            let except: Vec<String> = except.iter().map(ToString::to_string).collect();
            format!("-{block}-{}", except.join("-"))
        }
    };
    let port = |ports: &Ports| match ports {
        Ports::Every => "*".to_owned(),
        Ports::Span(span) => format!("{}-{}-{}", span.protocol.as_str(), span.first(), span.last()),
    };
    let peers: Vec<String> = peers.iter().map(peer).collect();
    let ports: Vec<String> = ports.iter().map(port).collect();
    format!("{} : {}", peers.join(" "), ports.join(" "))
}

fn rule(line: &str) -> Option<Rule> {
    let (peers, ports) = line.split_once(" : ")?;
    let peer = |text: &str| {
        if text == "*" {
            return Some(Peer::Cluster);
        }
        if let Some(block) = text.strip_prefix('-') {
            let (block, except) = block.split_once('-')?;
            let except = except.split('-').filter(|one| !one.is_empty()).map(|one| one.parse().ok());
            return Some(Peer::Block { block: block.parse().ok()?, except: except.collect::<Option<_>>()? });
        }
        let (there, labels) = text.split_once('/')?;
        if labels.is_empty() {
            return Some(Peer::Namespace(namespace(there)));
        }
        let terms = labels.split(',').map(|term| term.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
        let selector = Selector::new(terms.collect::<Option<_>>()?)?;
        Some(Peer::Pods { namespace: namespace(there), selector })
    };
    let port = |text: &str| {
        let words: Vec<&str> = text.split('-').collect();
        let [protocol, first, last] = *words.as_slice() else { return (text == "*").then_some(Ports::Every) };
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|one| one.as_str() == protocol);
        PortSpan::new(protocol?, first.parse().ok()?, last.parse().ok()?).map(Ports::Span)
    };
    Some(Rule {
        peers: peers.split(' ').map(peer).collect::<Option<_>>()?,
        ports: ports.split(' ').map(port).collect::<Option<_>>()?,
    })
}

/// It is read back as it was written, and a change of its spec is seen.
fn is_kept<B: Backend>(policy: &Policy, change: impl Fn(&mut B::Object)) -> Result<(), TestCaseError> {
    let bearer = Bearer { uid: "u".to_owned(), account: "x".to_owned() };
    let mut object = render::<B>(policy, "segment", Some(&bearer));
    let found = read::<B>(&object, Kind::NetworkPolicy, &policy.namespace).unwrap();
    prop_assert_eq!(&found.policy, policy);
    prop_assert!(found.is_intact && found.segment == "segment");
    prop_assert_eq!(found.bearer, (policy.role != Role::Deny).then_some(bearer));
    change(&mut object);
    let found = read::<B>(&object, Kind::NetworkPolicy, &policy.namespace).unwrap();
    prop_assert!(!found.is_intact);
    prop_assert_eq!(&found.policy.isolates.values().collect::<Vec<_>>(), &policy.isolates.values().collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_backend_keeps_what_it_is_given(town in any_town_with_externals()) {
        for policy in town.compile().policies.values() {
            is_kept::<AsLines>(policy, |object| {
                let lines = object.spec.into.as_mut().or(object.spec.out_of.as_mut()).unwrap();
                lines.push("* : *".to_owned());
            })?;
            is_kept::<NetworkPolicies>(policy, |object| {
                let spec = object.spec.as_mut().unwrap();
                spec.pod_selector = Some(LabelSelector::default()).filter(|all| Some(all) != spec.pod_selector.as_ref());
            })?;
        }
    }
}
