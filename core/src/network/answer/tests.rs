//! Ten questions and their answers.

use super::*;
use crate::network::{
    compile::compile,
    projection::{Applied, project},
    tests::town::{Town, identity, named, tcp},
};

fn ask(town: Town, from: &str, to: &str, port: &str) -> Answer {
    let projection = project(&town.snapshot, &Applied::new());
    let compiled = compile(&town.declared, &town.snapshot, &projection);
    let decision =
        Decision { declared: town.declared, snapshot: town.snapshot, projection, compiled, ..Decision::default() };
    let port = port.parse().map_or_else(|_| AskedPort::Name(port.to_owned()), AskedPort::Number);
    answer(&decision, &identity(from), &identity(to), Protocol::Tcp, &port)
}

fn town() -> Town {
    Town::default().with("a", &["x"]).with("b", &["x"])
}

fn closed() -> Town {
    town().segment("a", |_| {}).segment("b", |_| {})
}

fn granted(town: Town) -> Town {
    town.grant("b/x", &[Source::Identity(identity("a/x"))], &[tcp(80)])
}

#[test]
fn what_is_not_closed_is_allowed() {
    let answer = ask(town(), "a/x", "b/x", "80");
    assert_eq!((answer.verdict, answer.egress.segment, answer.apply), (Verdict::Allowed, None, None));
}

#[test]
fn what_both_declared_is_allowed_and_the_objects_are_named() {
    let declared = granted(closed()).request("a/x", "b/x", &[tcp(80)]);
    let answer = ask(declared.clone(), "a/x", "b/x", "http");
    assert_eq!((answer.verdict, answer.port.as_str()), (Verdict::Allowed, "TCP http"));
    assert_eq!(answer.ingress.because, "AccessGrant b/n0, AccessRequest a/n0");
    let other = ask(declared, "a/x", "b/x", "81");
    assert_eq!((other.verdict, other.egress.because.as_str()), (Verdict::Denied, "only TCP 80 is declared"));
}

#[test]
fn what_is_missing_can_be_applied() {
    let nothing = ask(closed(), "a/x", "b/x", "80");
    assert_eq!(nothing.verdict, Verdict::Denied);
    let yaml = nothing.apply.unwrap();
    assert!(yaml.contains("kind: AccessGrant\n") && yaml.contains("namespace: b\n"), "{yaml}");
    let half = ask(granted(closed()), "a/x", "b/x", "http");
    assert_eq!(half.ingress.because, "no AccessRequest in a asks for it");
    let yaml = half.apply.unwrap();
    let request = "  from:\n    serviceAccountName: x\n  to:\n  - namespace: b\n    serviceAccountName: x\n    ports:\n    - port: http\n";
    assert!(yaml.contains("kind: AccessRequest\n") && yaml.ends_with(request), "{yaml}");
}

#[test]
fn wildcards_disjoint_ports_and_observing_segments_are_told_apart() {
    let all = closed().grant("b/x", &[Source::AllNamespaces], &[tcp(80)]).request("a/x", "b/x", &[tcp(80)]);
    let wild = ask(all, "a/x", "b/x", "80");
    assert_eq!((wild.verdict, wild.ingress.because.as_str()), (Verdict::Allowed, "AccessGrant b/n0"));

    let disjoint = ask(granted(closed()).request("a/x", "b/x", &[tcp(81)]), "a/x", "b/x", "80");
    assert!(disjoint.egress.because.contains("no port in common"), "{:?}", disjoint.egress);

    let observed = town().segment("b", |segment| segment.mode = Mode::Observe);
    let answer = ask(observed, "a/x", "b/x", "80");
    assert!(answer.ingress.observed && !answer.ingress.open);
}

#[test]
fn a_port_that_nobody_has_is_not_known() {
    let declared = granted(closed()).request("a/x", "b/x", &[named("grpc")]);
    assert_eq!(ask(declared, "a/x", "b/x", "grpc").verdict, Verdict::Unknown);
    let nobody = ask(closed(), "a/nobody", "b/x", "80");
    assert!(nobody.workloads.contains(&"a/nobody: no workload runs as it".to_owned()), "{:?}", nobody.workloads);
}
