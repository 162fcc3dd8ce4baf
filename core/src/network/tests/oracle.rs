//! What passes by the words of the consent rules, pod by pod and port by port, against what the rendered objects let
//! pass by the words of the API.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use proptest::prelude::*;

use super::{
    cases,
    town::{Town, identity, named, namespace, tcp},
};
use crate::network::{
    declared::{Addresses, Consent, GrantTo, Mode, PortRef, Source, Target},
    model::{Flow, Identity, Namespace},
    snapshot::{Labels, Pod},
};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const ACCOUNTS: [&str; 2] = ["x", "y"];
const PORTS: [u16; 2] = [80, 81];

/// The pod-level reading of the consent rules.
struct Rules<'a>(&'a Town);

impl Rules<'_> {
    fn closes(&self, there: &Namespace, flow: Flow) -> Option<Consent> {
        let segment = self.0.declared.segments.get(there.as_str()).filter(|segment| segment.mode != Mode::Off)?;
        segment.directions.contains(&flow).then_some(segment.consent)
    }

    fn is_segmented(&self, there: &Namespace) -> bool {
        self.0.declared.segments.get(there.as_str()).is_some_and(|segment| segment.mode != Mode::Off)
    }

    fn names(ports: &[PortRef], port: u16) -> bool {
        ports.iter().any(|one| match one {
            PortRef::All => true,
            PortRef::Span(span) => (span.first().get()..=span.last().get()).contains(&port),
            PortRef::Named { name, .. } => name == "http" && port == 80,
        })
    }

    fn granted(&self, client: &Identity, server: &Identity, port: u16, wildcard: bool) -> bool {
        self.0.declared.grants.values().any(|grant| {
            let about = match &grant.to {
                GrantTo::Account(account) => *account == server.account,
                GrantTo::All => true,
            };
            let from = grant.from.iter().any(|source| match source {
                Source::Identity(named) => !wildcard && named == client,
                Source::Namespace(there) => wildcard && *there == client.namespace,
                Source::AllNamespaces => wildcard,
                Source::External(_) => false,
            });
            grant.key.namespace == server.namespace && about && from && Self::names(&grant.ports, port)
        })
    }

    fn requested(&self, client: &Identity, server: &Identity, port: u16) -> bool {
        self.0.declared.requests.values().any(|request| {
            let is_client = request.key.namespace == client.namespace && request.from == client.account;
            is_client
                && request.to.iter().any(|target| match target {
                    Target::Identity { server: other, ports } => other == server && Self::names(ports, port),
                    Target::External(_) | Target::ApiServer => false,
                })
        })
    }

    fn passes(&self, client: &Identity, server: &Identity, port: u16) -> bool {
        let (by_name, by_wildcard) =
            (self.granted(client, server, port, false), self.granted(client, server, port, true));
        let requested = self.requested(client, server, port);
        let ingress = match self.closes(&server.namespace, Flow::Ingress) {
            None => true,
            Some(consent) => {
                let alone = consent == Consent::ServerOnly || !self.is_segmented(&client.namespace) || client == server;
                by_wildcard || by_name && (requested || alone)
            }
        };
        let egress = match self.closes(&client.namespace, Flow::Egress) {
            None => true,
            Some(consent) => {
                let no_request = consent == Consent::ServerOnly || client == server;
                let no_grant = !self.is_segmented(&server.namespace);
                let granted = by_name || by_wildcard;
                granted && (requested || no_request) || no_grant && requested
            }
        };
        ingress && egress
    }
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    assert!(selector.match_expressions.is_none());
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

fn names_peer(peers: Option<&Vec<NetworkPolicyPeer>>, there: &Namespace, pod: &Pod) -> bool {
    let name = Labels::from([("kubernetes.io/metadata.name".to_owned(), there.to_string())]);
    let peers = peers.filter(|peers| !peers.is_empty()).expect("no list of peers is empty or left out");
    peers.iter().any(|peer| {
        assert!(peer.ip_block.is_none() && peer.namespace_selector.is_some(), "a pod peer names its namespace");
        peer.namespace_selector.as_ref().is_none_or(|selector| selects(selector, &name))
            && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.facts.labels))
    })
}

fn names_port(ports: Option<&Vec<NetworkPolicyPort>>, port: u16) -> bool {
    let Some(ports) = ports else { return true };
    assert!(!ports.is_empty(), "an empty list would mean every port");
    ports.iter().any(|one| {
        let Some(IntOrString::Int(first)) = one.port else { panic!("a port is a number") };
        assert!(one.protocol.is_some());
        one.protocol.as_deref() == Some("TCP") && (first..=one.end_port.unwrap_or(first)).contains(&i32::from(port))
    })
}

/// Whether a pod's side lets it pass: not isolated, or some rule names the peer and the port.
fn side(policies: &[NetworkPolicy], flow: Flow, own: (&Namespace, &Pod), peer: (&Namespace, &Pod), port: u16) -> bool {
    let mut isolated = false;
    for policy in policies {
        let spec = policy.spec.as_ref().unwrap();
        let word = if flow == Flow::Ingress { "Ingress" } else { "Egress" };
        let here = policy.metadata.namespace.as_deref() == Some(own.0.as_str());
        let types = spec.policy_types.as_ref().expect("policyTypes is always written");
        if !here
            || !types.iter().any(|one| one == word)
            || !selects(spec.pod_selector.as_ref().unwrap(), &own.1.facts.labels)
        {
            continue;
        }
        isolated = true;
        let passes =
            match flow {
                Flow::Ingress => spec.ingress.iter().flatten().any(|rule| {
                    names_peer(rule.from.as_ref(), peer.0, peer.1) && names_port(rule.ports.as_ref(), port)
                }),
                Flow::Egress => {
                    spec.egress.iter().flatten().any(|rule| {
                        names_peer(rule.to.as_ref(), peer.0, peer.1) && names_port(rule.ports.as_ref(), port)
                    })
                }
            };
        if passes {
            return true;
        }
    }
    !isolated
}

fn passing(town: &Town) -> Vec<(String, String, u16)> {
    let policies = town.rendered();
    let pods: Vec<_> = town.snapshot.pods.iter().map(|((there, _), pod)| (there, pod)).collect();
    let mut passing = Vec::new();
    for client in &pods {
        for server in pods.iter().filter(|server| *server != client) {
            for port in PORTS {
                if side(&policies, Flow::Egress, *client, *server, port)
                    && side(&policies, Flow::Ingress, *server, *client, port)
                {
                    let name = |(there, pod): &(&Namespace, &Pod)| format!("{there}/{}", pod.facts.account);
                    passing.push((name(client), name(server), port));
                }
            }
        }
    }
    passing
}

fn declared(town: &Town) -> Vec<(String, String, u16)> {
    let rules = Rules(town);
    let all = || NAMESPACES.iter().flat_map(|there| ACCOUNTS.iter().map(move |account| format!("{there}/{account}")));
    let mut passing = Vec::new();
    for client in all() {
        for server in all().filter(|server| *server != client) {
            for port in PORTS {
                if rules.passes(&identity(&client), &identity(&server), port) {
                    passing.push((client.clone(), server.clone(), port));
                }
            }
        }
    }
    passing
}

fn any_ports() -> impl Strategy<Value = Vec<PortRef>> {
    let port =
        prop_oneof![Just(tcp(80)), Just(tcp(81)), Just(named("http")), Just(named("unknown")), Just(PortRef::All),];
    prop::collection::vec(port, 1..3)
}

fn any_identity() -> impl Strategy<Value = String> {
    (0..3usize, 0..2usize).prop_map(|(there, account)| format!("{}/{}", NAMESPACES[there], ACCOUNTS[account]))
}

pub fn any_town() -> impl Strategy<Value = Town> {
    let segment = (
        0..3usize,
        prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Off)],
        prop::sample::select(vec![vec![Flow::Ingress], vec![Flow::Egress], vec![Flow::Ingress, Flow::Egress]]),
        prop_oneof![3 => Just(Consent::Both), 1 => Just(Consent::ServerOnly)],
    );
    let source = prop_oneof![
        6 => any_identity().prop_map(|one| Source::Identity(identity(&one))),
        1 => (0..3usize).prop_map(|there| Source::Namespace(namespace(NAMESPACES[there]))),
        1 => Just(Source::AllNamespaces),
    ];
    let to = prop_oneof![4 => any_identity(), 1 => (0..3usize).prop_map(|there| format!("{}/*", NAMESPACES[there]))];
    let grant = (to, prop::collection::vec(source, 1..3), any_ports());
    let request = (any_identity(), any_identity(), any_ports());
    (prop::collection::vec(segment, 0..4), prop::collection::vec(grant, 0..6), prop::collection::vec(request, 0..6))
        .prop_map(|(segments, grants, requests)| {
            let town = NAMESPACES.iter().fold(Town::default(), |town, there| town.with(there, &ACCOUNTS));
            let town = segments.into_iter().fold(town, |town, (there, mode, directions, consent)| {
                town.segment(NAMESPACES[there], |segment| {
                    segment.mode = mode;
                    segment.directions = directions.into_iter().collect();
                    segment.consent = consent;
                })
            });
            let town = grants.into_iter().fold(town, |town, (to, from, ports)| town.grant(&to, &from, &ports));
            requests.into_iter().fold(town, |town, (from, to, ports)| town.request(&from, &to, &ports))
        })
}

/// A town in which two names stand for the same addresses, each with ports of its own.
pub fn any_town_with_externals() -> impl Strategy<Value = Town> {
    let ports = prop_oneof![Just(tcp(80)), Just(tcp(443)), Just(PortRef::All)];
    let external = (0..3usize, 0..2usize, prop::collection::vec(ports, 1..3));
    (any_town(), prop::collection::vec(external, 0..4)).prop_map(|(town, externals)| {
        externals.into_iter().fold(town, |town, (there, account, ports)| {
            let (there, name) = (NAMESPACES[there], format!("n{}", town.declared.externals.len()));
            let client = format!("{there}/{}", ACCOUNTS[account]);
            let office = [Addresses::Block("203.0.113.0/24".parse().unwrap())];
            town.external(there, &name, &office, &ports).request_of(&client, Target::External(name.clone())).grant(
                &client,
                &[Source::External(name)],
                &ports,
            )
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(3_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_is_what_was_declared(town in any_town()) {
        prop_assert_eq!(passing(&town), declared(&town));
    }

    /// Taking a declaration back never opens anything.
    #[test]
    fn fewer_declarations_open_nothing(town in any_town(), which in any::<prop::sample::Index>()) {
        let mut fewer = town.clone();
        let count = town.declared.grants.len() + town.declared.requests.len();
        if count == 0 {
            return Ok(());
        }
        let which = which.index(count);
        if let Some(key) = town.declared.grants.keys().nth(which) {
            fewer.declared.grants.remove(key);
        } else {
            let key = town.declared.requests.keys().nth(which - town.declared.grants.len()).unwrap();
            fewer.declared.requests.remove(key);
        }
        let before = passing(&town);
        for one in passing(&fewer) {
            prop_assert!(before.contains(&one), "{one:?} was opened by taking something back");
        }
    }

    #[test]
    fn equal_input_gives_equal_bytes(town in any_town()) {
        let bytes = |town: &Town| serde_json::to_string(&town.rendered()).unwrap();
        prop_assert_eq!(bytes(&town), bytes(&town.clone()));
    }
}
