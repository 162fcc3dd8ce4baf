//! What passes without an edge: name resolution, the Kubernetes API, probes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
};

use super::{
    blocks::single,
    model::{Cause, Namespace, Opening, Openings, Peer, PortSpan, Ports, Protocol, Selector, WorkloadKey},
    snapshot::{DataPlane, NodeBlocks, Snapshot},
};

/// Where caches of name resolution on nodes listen.
const NODE_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));
/// The port of name resolution as clients ask it.
const DNS_PORT: NonZeroU16 = NonZeroU16::new(53).unwrap();

/// The data plane is not known to match the addresses of nodes by `ipBlock`, so the opening would not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOnThisDataPlane;

/// Name resolution: its pods on the ports they listen on, and its cluster addresses, for data planes that look before
/// they translate and for caches on nodes. Empty where it was not found; never port 53 to everywhere.
pub fn dns(snapshot: &Snapshot) -> Openings {
    let Some(dns) = &snapshot.dns else { return Openings::new() };
    let mut openings = Openings::new();
    if let Some(selector) = Selector::new(dns.selector.clone()) {
        let peer = Peer::Pods { namespace: dns.namespace.clone(), selector };
        for (protocol, port) in &dns.ports {
            open(&mut openings, peer.clone(), *protocol, *port, Cause::Dns);
        }
    }
    let cache = dns.node_local.then_some(NODE_LOCAL);
    for address in dns.addresses.iter().copied().chain(cache) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            open(&mut openings, single(address), protocol, DNS_PORT, Cause::Dns);
        }
    }
    openings
}

/// The Kubernetes API: its endpoints and its cluster addresses.
///
/// # Errors
/// Where the addresses of nodes are not known to match.
pub fn api_server(snapshot: &Snapshot) -> Result<Openings, NotOnThisDataPlane> {
    node_blocks(snapshot)?;
    let at = &snapshot.api_server;
    let mut openings = Openings::new();
    for (address, port) in at.endpoints.iter().chain(&at.service) {
        open(&mut openings, single(*address), Protocol::Tcp, *port, Cause::ApiServer);
    }
    Ok(openings)
}

/// Probes from the addresses of the nodes to the ports that a workload's probes ask.
///
/// # Errors
/// Where the addresses of nodes are not known to match.
pub fn probes(snapshot: &Snapshot, workload: &WorkloadKey) -> Result<Openings, NotOnThisDataPlane> {
    let ports = probe_ports(snapshot, workload);
    if ports.is_empty() {
        return Ok(Openings::new());
    }
    node_blocks(snapshot)?;
    let mut openings = Openings::new();
    for node in &snapshot.nodes {
        for port in &ports {
            open(&mut openings, single(*node), Protocol::Tcp, *port, Cause::Probes);
        }
    }
    Ok(openings)
}

fn probe_ports(snapshot: &Snapshot, workload: &WorkloadKey) -> BTreeSet<NonZeroU16> {
    let here: &Namespace = &workload.namespace;
    let pods = snapshot.pods.range((here.clone(), String::new())..).take_while(|((there, _), _)| there == here);
    let pods = pods.filter(|(_, pod)| pod.owner == *workload).map(|(_, pod)| &pod.facts);
    let template = snapshot.workloads.get(workload).map(|workload| &workload.template);
    template.into_iter().chain(pods).flat_map(|facts| facts.probe_ports.iter().copied()).collect()
}

fn node_blocks(snapshot: &Snapshot) -> Result<(), NotOnThisDataPlane> {
    match (snapshot.node_blocks, snapshot.data_plane) {
        (NodeBlocks::No, _) | (NodeBlocks::Auto, DataPlane::Cilium) => Err(NotOnThisDataPlane),
        (NodeBlocks::Yes | NodeBlocks::Auto, _) => Ok(()),
    }
}

fn open(openings: &mut Openings, peer: Peer, protocol: Protocol, port: NonZeroU16, cause: Cause) {
    let ports = Ports::Span(PortSpan::one(protocol, port));
    openings.entry(Opening { peer, ports }).or_default().insert(cause);
}
