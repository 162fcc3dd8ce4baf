//! Single cases, each shown as the rules of the objects it comes to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};

use super::town::{Town, identity, named, namespace, tcp, workload};
use crate::network::{
    compile::MOST_PEERS,
    compiled::{EdgeState, Trouble},
    consent::{Missing, Pair},
    declared::{Addresses, ApiServer, Consent, Mode, Probes, Source, Target},
    model::{Cause, Flow, Protocol, Role},
    opinion::disagreement,
    ports::PortSet,
    preflight::held,
    projection::{Applied, NoSelector, project},
    render,
    segments::Segmented,
    snapshot::{ApiServerAt, DataPlane, Dns, NodeBlocks},
};

/// order in shop calls payment in payments.
fn shop() -> Town {
    Town::default()
        .with("shop", &["order", "stranger"])
        .with("payments", &["payment"])
        .segment("shop", |_| {})
        .segment("payments", |_| {})
}

fn granted(town: Town) -> Town {
    town.grant("payments/payment", &[Source::Identity(identity("shop/order"))], &[tcp(8443), named("http")])
}

fn requested(town: Town) -> Town {
    town.request("shop/order", "payments/payment", &[tcp(8443)])
}

fn pair() -> Pair {
    Pair { client: identity("shop/order"), server: identity("payments/payment") }
}

fn peer(peer: &NetworkPolicyPeer) -> String {
    if let Some(block) = &peer.ip_block {
        return format!("{} - {:?}", block.cidr, block.except.clone().unwrap_or_default());
    }
    let there = peer.namespace_selector.as_ref().and_then(|one| one.match_labels.as_ref());
    let there = there.map_or("every namespace", |labels| labels["kubernetes.io/metadata.name"].as_str());
    let pods = peer.pod_selector.as_ref().and_then(|one| one.match_labels.clone());
    format!("{there} {}", pods.map_or("every pod".to_owned(), |labels| labels["app"].clone()))
}

fn ports(ports: Option<&Vec<NetworkPolicyPort>>) -> String {
    let Some(ports) = ports else { return "every port".to_owned() };
    let one = |port: &NetworkPolicyPort| {
        let number = serde_json::to_string(&port.port).unwrap();
        let end = port.end_port.map(|end| format!("-{end}")).unwrap_or_default();
        format!("{}{end}/{}", number, port.protocol.clone().unwrap_or_default())
    };
    ports.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A line for each rule, `name: peers on ports`; a policy without one is `name: nothing`.
fn lines(town: &Town) -> Vec<String> {
    let line = |policy: &NetworkPolicy| {
        let spec = policy.spec.as_ref().unwrap();
        let name = policy.metadata.name.as_deref().unwrap();
        let there = policy.metadata.namespace.as_deref().unwrap();
        let ingress = spec.ingress.iter().flatten().map(|rule| (rule.from.clone(), rule.ports.clone()));
        let egress = spec.egress.iter().flatten().map(|rule| (rule.to.clone(), rule.ports.clone()));
        let rules: Vec<_> = ingress
            .chain(egress)
            .map(|(peers, on)| {
                let peers: Vec<_> = peers.unwrap().iter().map(peer).collect();
                format!("{there}/{name}: {} on {}", peers.join(", "), ports(on.as_ref()))
            })
            .collect();
        if rules.is_empty() { vec![format!("{there}/{name}: nothing")] } else { rules }
    };
    town.rendered().iter().flat_map(line).collect()
}

/// [`lines`] without the denies.
fn opened(town: &Town) -> Vec<String> {
    lines(town).into_iter().filter(|line| !line.contains("countersign-deny")).collect()
}

#[test]
fn both_halves_open_the_ports_they_have_in_common() {
    assert_eq!(
        lines(&requested(granted(shop()))),
        [
            "payments/countersign-deny: nothing",
            "payments/countersign-deploy-payment-in: shop order on 8443/TCP",
            "shop/countersign-deny: nothing",
            "shop/countersign-deploy-order-out: payments payment on 8443/TCP",
        ]
    );
    let edge = &requested(granted(shop())).compile().edges[&pair()];
    assert_eq!((edge.state, edge.ports.openings().count()), (EdgeState::Live, 1));
}

#[test]
fn one_half_opens_nothing_and_is_pending() {
    for (town, missing) in [(granted(shop()), Missing::Request), (requested(shop()), Missing::Grant)] {
        assert_eq!(opened(&town), Vec::<String>::new());
        let edge = &town.compile().edges[&pair()];
        assert_eq!((edge.state, &edge.ports), (EdgeState::Pending(missing), &PortSet::default()));
    }
    let disjoint = granted(shop()).request("shop/order", "payments/payment", &[tcp(9)]);
    assert_eq!(opened(&disjoint), Vec::<String>::new());
    assert_eq!(disjoint.compile().edges[&pair()].state, EdgeState::PortsDisjoint);
}

/// Nobody but the owner of a namespace opens its servers (T5).
#[test]
fn a_stranger_opens_no_server() {
    let stranger = shop().grant("shop/order", &[Source::Identity(identity("shop/order"))], &[tcp(1)]);
    let stranger = stranger.request("shop/order", "payments/payment", &[tcp(8443)]);
    assert!(!opened(&stranger).iter().any(|line| line.starts_with("payments/")));
    let stranger = stranger.segment("shop", |segment| segment.consent = Consent::ServerOnly);
    assert!(!opened(&stranger).iter().any(|line| line.starts_with("payments/") || line.contains("payments")));
}

#[test]
fn what_is_outside_every_segment_needs_no_consent_of_its_own() {
    let mut town = granted(shop());
    town.declared.segments.remove("shop");
    let rule = "payments/countersign-deploy-payment-in: shop order on 80/TCP 8443/TCP";
    assert_eq!(opened(&town), [rule], "a client that nobody closes needs no request");
    let mut town = requested(shop());
    town.declared.segments.remove("payments");
    assert_eq!(opened(&town), ["shop/countersign-deploy-order-out: payments payment on 8443/TCP"]);
    // A segment that is off counts as none.
    let town = granted(shop()).segment("shop", |segment| segment.mode = Mode::Off);
    assert_eq!(opened(&town), [rule]);
}

#[test]
fn a_segment_may_ask_for_the_grant_alone() {
    let only = |town: Town, name: &str| town.segment(name, |segment| segment.consent = Consent::ServerOnly);
    let server = only(granted(shop()), "payments");
    assert_eq!(opened(&server), ["payments/countersign-deploy-payment-in: shop order on 80/TCP 8443/TCP"]);
    let both = only(server, "shop");
    assert_eq!(opened(&both)[1], "shop/countersign-deploy-order-out: payments payment on 80/TCP 8443/TCP");
    assert_eq!(both.compile().edges[&pair()].state, EdgeState::Live);
}

#[test]
fn an_identity_that_calls_itself_needs_the_grant_alone() {
    let town = shop().grant("shop/order", &[Source::Identity(identity("shop/order"))], &[tcp(7)]);
    assert_eq!(
        opened(&town),
        [
            "shop/countersign-deploy-order-in: shop order on 7/TCP",
            "shop/countersign-deploy-order-out: shop order on 7/TCP"
        ]
    );
}

#[test]
fn wildcards_are_written_as_they_were_spelled() {
    let all = shop().grant("payments/*", &[Source::AllNamespaces], &[tcp(80)]);
    assert_eq!(opened(&all), ["payments/countersign-deploy-payment-in: every namespace every pod on 80/TCP"]);
    let one = shop().grant("payments/payment", &[Source::Namespace(namespace("shop"))], &[PORT_ALL]);
    assert_eq!(opened(&one), ["payments/countersign-deploy-payment-in: shop every pod on every port"]);
    // The client's own segment still asks for its request.
    let requested = requested(one);
    assert_eq!(opened(&requested)[1], "shop/countersign-deploy-order-out: payments payment on 8443/TCP");
}

const PORT_ALL: crate::network::declared::PortRef = crate::network::declared::PortRef::All;

#[test]
fn a_name_that_nobody_has_opens_nothing_and_is_told() {
    let town = shop().grant("payments/payment", &[Source::Identity(identity("shop/order"))], &[named("grpc")]).request(
        "shop/order",
        "payments/payment",
        &[named("grpc")],
    );
    assert_eq!(opened(&town), Vec::<String>::new());
    let edge = &town.compile().edges[&pair()];
    assert_eq!(edge.state, EdgeState::PortsDisjoint);
    let unknown = BTreeSet::from([("grpc".to_owned(), Protocol::Tcp)]);
    assert_eq!(edge.unknown_ports, BTreeMap::from([(workload("payments", "payment"), unknown)]));
}

#[test]
fn an_observing_segment_is_compiled_and_its_edges_are_observed() {
    let town = requested(granted(shop())).segment("payments", |segment| segment.mode = Mode::Observe);
    let compiled = town.compile();
    assert_eq!(compiled.edges[&pair()].state, EdgeState::Observed);
    assert_eq!(compiled.policies.len(), 4);
}

#[test]
fn directions_that_are_not_closed_are_not_touched() {
    let town = requested(granted(shop())).segment("payments", |segment| segment.directions = [Flow::Ingress].into());
    let town = town.segment("shop", |segment| segment.directions = [Flow::Ingress].into());
    assert_eq!(opened(&town).len(), 1);
    let deny = town.rendered();
    let deny = deny.iter().find(|policy| policy.metadata.name.as_deref() == Some("countersign-deny")).unwrap();
    assert_eq!(deny.spec.as_ref().unwrap().policy_types, Some(vec!["Ingress".to_owned()]));
    assert_eq!(deny.spec.as_ref().unwrap().ingress, None, "an empty list would not be kept by the server");
}

#[test]
fn a_workload_without_a_selector_is_opened_by_nobody_and_named() {
    let mut town = requested(granted(shop()));
    let labels = BTreeMap::from([("app".to_owned(), "order".to_owned())]);
    for pod in town.snapshot.pods.values_mut().filter(|pod| pod.facts.account == "stranger") {
        pod.facts.labels.clone_from(&labels);
    }
    let of_stranger = town.snapshot.workloads.get_mut(&workload("shop", "stranger")).unwrap();
    of_stranger.template.labels.clone_from(&labels);
    of_stranger.selector = labels;
    assert_eq!(opened(&town), Vec::<String>::new());
    let compiled = town.compile();
    assert_eq!(compiled.edges[&pair()].state, EdgeState::NoSelector);
    let named: Vec<_> = compiled
        .troubles
        .iter()
        .filter_map(|trouble| match trouble {
            Trouble::NoSelector { workload, why: NoSelector::Ambiguous { .. } } => Some(workload.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(named, ["order", "stranger"]);
    let gone = requested(granted(shop())).request("shop/nobody", "payments/payment", &[tcp(1)]);
    let nobody = Pair { client: identity("shop/nobody"), ..pair() };
    assert_eq!(gone.compile().edges[&nobody].state, EdgeState::SelectsNothing);
}

/// A server that `count` identities of other namespaces call.
fn popular(count: usize) -> Town {
    let accounts: Vec<String> = (0..count).map(|number| format!("client-{number}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    let town = Town::default().with("clients", &accounts).with("payments", &["payment"]).segment("payments", |_| {});
    let from: Vec<Source> =
        accounts.iter().map(|account| Source::Identity(identity(&format!("clients/{account}")))).collect();
    town.grant("payments/payment", &from, &[tcp(80)])
}

#[test]
fn a_policy_that_is_too_large_is_not_written_and_its_edges_are_refused() {
    let server =
        (namespace("payments"), Role::Workload { workload: workload("payments", "payment"), flow: Flow::Ingress });
    let most = popular(MOST_PEERS).compile();
    assert_eq!(most.policies[&server].isolates[&Flow::Ingress].len(), MOST_PEERS);
    assert!(most.troubles.is_empty() && most.edges.values().all(|edge| edge.state == EdgeState::Live));
    let town = popular(MOST_PEERS + 1);
    let compiled = town.compile();
    assert!(!compiled.policies.contains_key(&server));
    let told =
        Trouble::TooManyPeers { workload: workload("payments", "payment"), flow: Flow::Ingress, peers: MOST_PEERS + 1 };
    assert_eq!(compiled.troubles, [told]);
    assert!(compiled.edges.values().all(|edge| edge.state == EdgeState::TooManyPeers));
    // What is declared for it is still known, so that what is applied stays.
    assert_eq!(compiled.causes[&server].declared.len(), MOST_PEERS + 1);
    // Closing would cut every one of them, so it is not begun.
    assert!(held(&town.declared, &town.snapshot, &compiled).contains("payments"));
    let projection = project(&town.snapshot, &Applied::new());
    assert_eq!(disagreement(&town.declared, &town.snapshot, &projection, &compiled), None);
}

fn with_dns(mut town: Town) -> Town {
    town.snapshot.dns = Some(Dns {
        namespace: namespace("kube-system"),
        selector: BTreeMap::from([("app".to_owned(), "coredns".to_owned())]),
        ports: BTreeSet::from([(Protocol::Udp, 5353.try_into().unwrap()), (Protocol::Tcp, 5353.try_into().unwrap())]),
        addresses: BTreeSet::from(["10.96.0.10".parse().unwrap()]),
        node_local: true,
    });
    town.segment("shop", |segment| segment.exceptions.dns = true)
}

#[test]
fn name_resolution_is_in_the_deny_and_in_every_policy_of_egress() {
    let dns = |name: &str| {
        [
            format!("shop/{name}: kube-system coredns on 5353/TCP 5353/UDP"),
            format!("shop/{name}: 10.96.0.10/32 - [], 169.254.20.10/32 - [] on 53/TCP 53/UDP"),
        ]
    };
    let lines = lines(&with_dns(requested(granted(shop()))));
    for name in ["countersign-deny", "countersign-deploy-order-out"] {
        for line in dns(name) {
            assert!(lines.contains(&line), "{line} is not in {lines:#?}");
        }
    }
    assert_eq!(lines.iter().filter(|line| line.contains("coredns")).count(), 2);
    let lost = shop().segment("shop", |segment| segment.exceptions.dns = true);
    assert_eq!(lost.compile().troubles, [Trouble::DnsNotFound { namespace: namespace("shop") }]);
}

/// Who declares what an exception opens anyway keeps it when the exception goes.
#[test]
fn an_opening_has_every_cause() {
    let town = with_dns(shop().with("kube-system", &["coredns"]));
    let town = town.request("shop/order", "kube-system/coredns", &[tcp(5353)]);
    let compiled = town.compile();
    let role = Role::Workload { workload: workload("shop", "order"), flow: Flow::Egress };
    let egress = &compiled.policies[&(namespace("shop"), role)].isolates[&Flow::Egress];
    let both = BTreeSet::from([Cause::Edge(identity("kube-system/coredns")), Cause::Dns]);
    assert!(egress.values().any(|causes| *causes == both), "{egress:?}");
}

fn with_api(mut town: Town, plane: DataPlane, blocks: NodeBlocks) -> Town {
    town.snapshot.api_server = ApiServerAt {
        endpoints: BTreeSet::from([("192.0.2.1".parse().unwrap(), 6443.try_into().unwrap())]),
        service: BTreeSet::from([("10.96.0.1".parse().unwrap(), 443.try_into().unwrap())]),
    };
    town.snapshot.nodes = BTreeSet::from(["192.0.2.7".parse().unwrap()]);
    (town.snapshot.data_plane, town.snapshot.node_blocks) = (plane, blocks);
    town
}

#[test]
fn the_kubernetes_api_is_open_to_who_asks_for_it_where_it_can_be_written() {
    let asks = |town: Town| town.request_of("shop/order", Target::ApiServer);
    let town = asks(with_api(shop(), DataPlane::Cilium, NodeBlocks::Yes));
    assert_eq!(
        opened(&town),
        [
            "shop/countersign-deploy-order-out: 10.96.0.1/32 - [] on 443/TCP",
            "shop/countersign-deploy-order-out: 192.0.2.1/32 - [] on 6443/TCP"
        ]
    );
    for (plane, blocks) in [(DataPlane::Cilium, NodeBlocks::Auto), (DataPlane::Calico, NodeBlocks::No)] {
        let town = asks(with_api(shop(), plane, blocks));
        assert_eq!(opened(&town), Vec::<String>::new());
        let (there, exception) = (namespace("shop"), Cause::ApiServer);
        assert_eq!(town.compile().troubles, [Trouble::NotOnThisDataPlane { namespace: there, exception }]);
    }
    let set = |town: Town, to| town.segment("shop", |segment| segment.exceptions.api_server = to);
    let never = set(asks(with_api(shop(), DataPlane::Calico, NodeBlocks::Auto)), ApiServer::Never);
    assert_eq!(opened(&never), Vec::<String>::new());
    assert!(matches!(never.compile().troubles.as_slice(), [Trouble::ApiServerClosed { .. }]));
    let all = set(with_api(shop(), DataPlane::Calico, NodeBlocks::Auto), ApiServer::All);
    assert_eq!(lines(&all).iter().filter(|line| line.starts_with("shop/countersign-deny: 1")).count(), 2);
}

#[test]
fn probes_from_nodes_are_written_where_a_segment_asks_for_them() {
    let mut town = with_api(shop(), DataPlane::Calico, NodeBlocks::Auto);
    let template = &mut town.snapshot.workloads.get_mut(&workload("shop", "order")).unwrap().template;
    template.probe_ports.insert(8080.try_into().unwrap());
    assert_eq!(opened(&town), Vec::<String>::new());
    let town = town.segment("shop", |segment| segment.exceptions.probes = Probes::Nodes);
    assert_eq!(opened(&town), ["shop/countersign-deploy-order-in: 192.0.2.7/32 - [] on 8080/TCP"]);
}

#[test]
fn outside_addresses_are_opened_by_name() {
    let block = Addresses::Block("203.0.113.0/24".parse().unwrap());
    let town = shop()
        .external("shop", "partner", &[block], &[tcp(443)])
        .request_of("shop/order", Target::External("partner".to_owned()))
        .grant("shop/order", &[Source::External("partner".to_owned())], &[tcp(8443)]);
    assert_eq!(
        opened(&town),
        [
            "shop/countersign-deploy-order-in: 203.0.113.0/24 - [] on 8443/TCP",
            "shop/countersign-deploy-order-out: 203.0.113.0/24 - [] on 443/TCP",
        ]
    );
    // That of another namespace is not theirs to name.
    let other = town.request_of("payments/payment", Target::External("partner".to_owned()));
    assert!(matches!(other.compile().troubles.as_slice(), [Trouble::UnknownExternal { .. }]));
}

#[test]
fn a_namespace_is_in_one_segment_and_the_younger_leaves_it_out() {
    let wants = |name: &str| crate::network::declared::Namespaces::Names(BTreeSet::from([namespace(name)]));
    let mut town = shop().with("kube-system", &[]).segment("zzz", |segment| {
        segment.namespaces = wants("shop");
        segment.created = Timestamp::from_second(9).unwrap();
    });
    town = town.segment("system", |segment| segment.namespaces = wants("kube-system"));
    let segmented = Segmented::new(&town.declared, &town.snapshot);
    assert_eq!(segmented.of(&namespace("shop")).unwrap().name, "shop");
    assert_eq!(segmented.conflicts, BTreeMap::from([("zzz".to_owned(), BTreeSet::from([namespace("shop")]))]));
    assert_eq!(segmented.of(&namespace("kube-system")), None);
    assert_eq!(segmented.protected.keys().collect::<Vec<_>>(), ["system"]);
    let open = town.clone().segment("system", |segment| {
        (segment.namespaces, segment.protected) = (wants("kube-system"), true);
    });
    assert!(Segmented::new(&open.declared, &open.snapshot).of(&namespace("kube-system")).is_some());
    town.snapshot.namespaces.get_mut(&namespace("shop")).unwrap().terminating = true;
    assert_eq!(Segmented::new(&town.declared, &town.snapshot).of(&namespace("shop")), None);
}

#[test]
fn names_are_cut_and_stay_apart() {
    let role = |name: &str| Role::Workload { workload: workload("shop", name), flow: Flow::Egress };
    assert_eq!(render::name(&role("order")), "countersign-deploy-order-out");
    let (one, two) = (format!("{}a", "x".repeat(250)), format!("{}b", "x".repeat(250)));
    assert_eq!(render::name(&role(&one)).len(), 193);
    assert_ne!(render::name(&role(&one)), render::name(&role(&two)));
    assert_ne!(render::subject(&role(&one)), render::subject(&role(&two)));
}
