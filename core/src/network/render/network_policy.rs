//! Policies as NetworkPolicies of the Kubernetes API.
//!
//! The one place that writes rules. Within a rule an absent or empty list means everything, so a list that is written
//! has at least one entry, and it is left out only for the wildcard that a person spelled.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::backend::{Backend, Rule, grouped};
use crate::network::model::{Flow, Namespace, Openings, Peer, Policy, PortSpan, Ports, Protocol, Selector, Subject};

/// The label of a namespace that only the API server sets.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// NetworkPolicies.
#[derive(Debug, Clone, Copy)]
pub enum NetworkPolicies {}

impl Backend for NetworkPolicies {
    type Object = NetworkPolicy;
    type Spec = NetworkPolicySpec;

    fn object(metadata: ObjectMeta, spec: NetworkPolicySpec) -> NetworkPolicy {
        NetworkPolicy { metadata, spec: Some(spec) }
    }

    fn spec(object: &NetworkPolicy) -> Option<&NetworkPolicySpec> {
        object.spec.as_ref()
    }

    fn write(policy: &Policy) -> NetworkPolicySpec {
        let ingress = policy.isolates.get(&Flow::Ingress).map(write_rules).unwrap_or_default();
        let egress = policy.isolates.get(&Flow::Egress).map(write_rules).unwrap_or_default();
        let ingress: Vec<_> =
            ingress.into_iter().map(|(from, ports)| NetworkPolicyIngressRule { from: Some(from), ports }).collect();
        let egress: Vec<_> =
            egress.into_iter().map(|(to, ports)| NetworkPolicyEgressRule { to: Some(to), ports }).collect();
        let types = policy.isolates.keys().map(|flow| match flow {
            Flow::Ingress => "Ingress".to_owned(),
            Flow::Egress => "Egress".to_owned(),
        });
        NetworkPolicySpec {
            pod_selector: Some(match &policy.subject {
                Subject::Pods(selector) => write_selector(selector),
                Subject::WholeNamespace => LabelSelector::default(),
            }),
            // The server drops an empty list, so writing one would never settle.
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: (!egress.is_empty()).then_some(egress),
            // Always written: what is left out is guessed from the rules, and a deny of egress has none.
            policy_types: Some(types.collect()),
        }
    }

    /// With its empty lists left out; the server and we write them differently.
    fn plain(spec: &NetworkPolicySpec) -> NetworkPolicySpec {
        let mut plain = spec.clone();
        plain.ingress = plain.ingress.filter(|rules| !rules.is_empty());
        plain.egress = plain.egress.filter(|rules| !rules.is_empty());
        plain
    }

    fn spell_out(object: &mut NetworkPolicy) {
        let spec = object.spec.get_or_insert_default();
        spec.ingress.get_or_insert_default();
        spec.egress.get_or_insert_default();
    }

    fn isolates(spec: &NetworkPolicySpec) -> BTreeSet<Flow> {
        spec.policy_types.iter().flatten().filter_map(|word| read_flow(word)).collect()
    }

    fn selector(spec: &NetworkPolicySpec) -> Option<Selector> {
        read_selector(spec.pod_selector.as_ref()?)
    }

    fn rules(spec: &NetworkPolicySpec, flow: Flow) -> Option<Vec<Rule>> {
        match flow {
            Flow::Ingress => {
                spec.ingress.iter().flatten().map(|one| read_rule(one.from.as_ref(), one.ports.as_ref())).collect()
            }
            Flow::Egress => {
                spec.egress.iter().flatten().map(|one| read_rule(one.to.as_ref(), one.ports.as_ref())).collect()
            }
        }
    }
}

/// One rule for each set of ports; every list of peers has at least one.
fn write_rules(openings: &Openings) -> Vec<(Vec<NetworkPolicyPeer>, Option<Vec<NetworkPolicyPort>>)> {
    grouped(openings)
        .iter()
        .map(|(set, peers)| (peers.iter().map(|(peer, _)| write_peer(peer)).collect(), write_ports(set)))
        .collect()
}

fn write_ports(set: &BTreeSet<Ports>) -> Option<Vec<NetworkPolicyPort>> {
    if set.contains(&Ports::Every) {
        return None;
    }
    let spans = set.iter().filter_map(|ports| match ports {
        Ports::Every => None,
        Ports::Span(span) => Some(span),
    });
    let port = |number: std::num::NonZeroU16| i32::from(number.get());
    Some(
        spans
            .map(|span| NetworkPolicyPort {
                protocol: Some(span.protocol.as_str().to_owned()),
                port: Some(IntOrString::Int(port(span.first()))),
                end_port: (span.first() != span.last()).then(|| port(span.last())),
            })
            .collect(),
    )
}

fn write_peer(peer: &Peer) -> NetworkPolicyPeer {
    let nothing = NetworkPolicyPeer::default();
    match peer {
        Peer::Pods { namespace, selector } => NetworkPolicyPeer {
            namespace_selector: Some(by_name(namespace)),
            pod_selector: Some(write_selector(selector)),
            ..nothing
        },
        Peer::Namespace(namespace) => NetworkPolicyPeer { namespace_selector: Some(by_name(namespace)), ..nothing },
        Peer::Cluster => NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..nothing },
        Peer::Block { block, except } => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            let except = (!except.is_empty()).then_some(except);
            NetworkPolicyPeer { ip_block: Some(IPBlock { cidr: block.to_string(), except }), ..nothing }
        }
    }
}

fn by_name(namespace: &Namespace) -> LabelSelector {
    let labels = BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.to_string())]);
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

fn write_selector(selector: &Selector) -> LabelSelector {
    LabelSelector { match_labels: Some(selector.terms().clone()), match_expressions: None }
}

fn read_rule(peers: Option<&Vec<NetworkPolicyPeer>>, ports: Option<&Vec<NetworkPolicyPort>>) -> Option<Rule> {
    let ports = match ports {
        None => vec![Ports::Every],
        Some(ports) => ports.iter().map(read_ports).collect::<Option<_>>()?,
    };
    Some(Rule { peers: peers?.iter().map(read_peer).collect::<Option<_>>()?, ports })
}

fn read_flow(word: &str) -> Option<Flow> {
    match word {
        "Ingress" => Some(Flow::Ingress),
        "Egress" => Some(Flow::Egress),
        _ => None,
    }
}

fn read_selector(selector: &LabelSelector) -> Option<Selector> {
    if selector.match_expressions.as_ref().is_some_and(|all| !all.is_empty()) {
        return None;
    }
    Selector::new(selector.match_labels.clone().unwrap_or_default())
}

fn read_peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except: Option<BTreeSet<_>> = block.except.iter().flatten().map(|text| text.parse().ok()).collect();
        return Some(Peer::Block { block: block.cidr.parse().ok()?, except: except? });
    }
    let by_name = peer.namespace_selector.as_ref()?;
    let Some(labels) = read_selector(by_name) else { return Some(Peer::Cluster) };
    let namespace = Namespace::parse(labels.terms().get(NAMESPACE_NAME)?)?;
    match &peer.pod_selector {
        None => Some(Peer::Namespace(namespace)),
        Some(pods) => Some(Peer::Pods { namespace, selector: read_selector(pods)? }),
    }
}

fn read_ports(port: &NetworkPolicyPort) -> Option<Ports> {
    let protocol = match port.protocol.as_deref()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let number = |port: i32| u16::try_from(port).ok().and_then(std::num::NonZeroU16::new);
    let IntOrString::Int(first) = port.port.as_ref()? else { return None };
    let last = port.end_port.unwrap_or(*first);
    PortSpan::new(protocol, number(*first)?, number(last)?).map(Ports::Span)
}
