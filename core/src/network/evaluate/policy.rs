//! One policy, parsed: nothing in it is a default any more, and nothing is malformed.

use std::net::IpAddr;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    block::Block,
    scene::{PolicyName, Protocol, RuleName},
    selector::{Labels, Selector},
    unclear::{Problem, Unclear},
};

/// A parsed policy.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    pub(super) name: PolicyName,
    subject: Selector<'a>,
    ingress: Option<Vec<Rule<'a>>>,
    egress: Option<Vec<Rule<'a>>>,
}

/// A parsed rule.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    peers: Peers<'a>,
    ports: Ports<'a>,
}

/// Inside a rule, no list and an empty one both mean everything.
#[derive(Debug)]
enum Peers<'a> {
    Anyone,
    Only(Vec<Peer<'a>>),
}

#[derive(Debug)]
enum Peer<'a> {
    /// Without a selector of namespaces, in the namespace of the policy.
    Pods {
        namespaces: Option<Selector<'a>>,
        pods: Selector<'a>,
    },
    Block(Block),
}

#[derive(Debug)]
enum Ports<'a> {
    Every,
    Only(Vec<Port<'a>>),
}

#[derive(Debug)]
struct Port<'a> {
    protocol: Protocol,
    which: Which<'a>,
}

#[derive(Debug)]
enum Which<'a> {
    Every,
    Span(u16, u16),
    Named(&'a str),
}

/// The peer, if it is a pod that selectors can find.
pub(super) struct Identity<'s> {
    pub(super) namespace: &'s str,
    pub(super) namespace_labels: &'s Labels<'s>,
    pub(super) labels: &'s Labels<'s>,
}

/// What is sent, and what the acceptor calls its ports.
pub(super) struct Traffic<'s> {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) named: &'s [(String, Protocol, u16)],
}

/// Whether a rule lets it through. Of several rules the greatest counts, of the parts of a rule the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    No,
    /// It depends on an address that is not known.
    Unlocated,
    /// It depends on which of several ports of one name is meant.
    Unresolved,
    Yes,
}

impl<'a> Policy<'a> {
    pub(super) fn parse(name: PolicyName, policy: &'a NetworkPolicy) -> Result<Self, Unclear> {
        // The server reads what is absent as empty: every pod, and no rule.
        let parsed = match &policy.spec {
            Some(spec) => Self::parse_spec(name.clone(), spec),
            None => Ok(Self { name: name.clone(), subject: Selector::default(), ingress: Some(vec![]), egress: None }),
        };
        parsed.map_err(|(place, problem)| Unclear::Malformed { policy: name, place, problem })
    }

    fn parse_spec(name: PolicyName, spec: &'a NetworkPolicySpec) -> Result<Self, (String, Problem)> {
        let subject = spec.pod_selector.as_ref().map_or(Ok(Selector::default()), Selector::parse);
        let subject = subject.map_err(at("podSelector"))?;
        let ingress = spec.ingress.as_deref().unwrap_or_default().iter().enumerate();
        let ingress = ingress
            .map(|(index, rule)| {
                Rule::parse(&format!("ingress[{index}]"), "from", rule.from.as_ref(), rule.ports.as_ref())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let egress = spec.egress.as_deref().unwrap_or_default().iter().enumerate();
        let egress = egress
            .map(|(index, rule)| Rule::parse(&format!("egress[{index}]"), "to", rule.to.as_ref(), rule.ports.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;

        let types = spec.policy_types.as_deref().unwrap_or_default();
        let (isolates_ingress, isolates_egress) = if types.is_empty() {
            (true, !egress.is_empty())
        } else {
            parse_types(types).map_err(at("policyTypes"))?
        };
        Ok(Self {
            name,
            subject,
            ingress: isolates_ingress.then_some(ingress),
            egress: isolates_egress.then_some(egress),
        })
    }

    /// The pods that it is about.
    pub(super) fn subject(&self) -> &Selector<'a> {
        &self.subject
    }

    /// What may come in; `None` if it does not isolate in that direction.
    pub(super) fn ingress(&self) -> Option<&[Rule<'a>]> {
        self.ingress.as_deref()
    }

    /// What may go out; `None` if it does not isolate in that direction.
    pub(super) fn egress(&self) -> Option<&[Rule<'a>]> {
        self.egress.as_deref()
    }

    pub(super) fn rule(&self, rule: usize) -> RuleName {
        RuleName { policy: self.name.clone(), rule }
    }
}

impl<'a> Rule<'a> {
    fn parse(
        place: &str,
        field: &str,
        peers: Option<&'a Vec<NetworkPolicyPeer>>,
        ports: Option<&'a Vec<NetworkPolicyPort>>,
    ) -> Result<Self, (String, Problem)> {
        let peers = peers.into_iter().flatten().enumerate();
        let peers = peers
            .map(|(index, peer)| Peer::parse(peer).map_err(at(format!("{place}.{field}[{index}]"))))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = ports.into_iter().flatten().enumerate();
        let ports = ports
            .map(|(index, port)| Port::parse(port).map_err(at(format!("{place}.ports[{index}]"))))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            peers: if peers.is_empty() { Peers::Anyone } else { Peers::Only(peers) },
            ports: if ports.is_empty() { Ports::Every } else { Ports::Only(ports) },
        })
    }

    /// Whether it lets the traffic through, given how the peer is seen. `home` is the namespace of the policy.
    pub(super) fn matches(
        &self,
        home: &str,
        peer: Option<&Identity<'_>>,
        address: Option<IpAddr>,
        traffic: &Traffic<'_>,
    ) -> Match {
        let peers = match &self.peers {
            Peers::Anyone => Match::Yes,
            Peers::Only(peers) => peers.iter().map(|each| each.matches(home, peer, address)).max().unwrap_or(Match::No),
        };
        if peers == Match::No {
            return Match::No;
        }
        let ports = match &self.ports {
            Ports::Every => Match::Yes,
            Ports::Only(ports) => ports.iter().map(|port| port.matches(traffic)).max().unwrap_or(Match::No),
        };
        peers.min(ports)
    }
}

impl<'a> Peer<'a> {
    fn parse(peer: &'a NetworkPolicyPeer) -> Result<Self, Problem> {
        let namespaces = peer.namespace_selector.as_ref();
        let pods = peer.pod_selector.as_ref();
        match (&peer.ip_block, namespaces, pods) {
            (Some(block), None, None) => Block::parse(block).map(Self::Block),
            (Some(_), _, _) => Err(Problem::BlockWithSelector),
            (None, None, None) => Err(Problem::EmptyPeer),
            (None, namespaces, pods) => Ok(Self::Pods {
                namespaces: namespaces.map(Selector::parse).transpose()?,
                pods: pods.map(Selector::parse).transpose()?.unwrap_or_default(),
            }),
        }
    }

    fn matches(&self, home: &str, peer: Option<&Identity<'_>>, address: Option<IpAddr>) -> Match {
        match self {
            Self::Pods { namespaces, pods } => {
                let found = peer.is_some_and(|peer| {
                    let in_reach = match namespaces {
                        Some(namespaces) => namespaces.matches(peer.namespace_labels),
                        None => peer.namespace == home,
                    };
                    in_reach && pods.matches(peer.labels)
                });
                if found { Match::Yes } else { Match::No }
            }
            Self::Block(block) => match address {
                Some(address) if block.contains(address) => Match::Yes,
                Some(_) => Match::No,
                None => Match::Unlocated,
            },
        }
    }
}

impl<'a> Port<'a> {
    fn parse(port: &'a NetworkPolicyPort) -> Result<Self, Problem> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => return Err(Problem::Protocol(other.to_owned())),
        };
        let which = match (&port.port, port.end_port) {
            (None, None) => Which::Every,
            (Some(IntOrString::Int(number)), end) => {
                let first = number_of(*number).ok_or(Problem::PortNumber(*number))?;
                let last = match end {
                    None => first,
                    Some(end) => number_of(end).filter(|last| *last >= first).ok_or(Problem::EndPort(end))?,
                };
                Which::Span(first, last)
            }
            (Some(IntOrString::String(name)), None) if is_port_name(name) => Which::Named(name),
            (Some(IntOrString::String(name)), None) => return Err(Problem::PortName(name.clone())),
            (None | Some(IntOrString::String(_)), Some(_)) => return Err(Problem::EndPortAlone),
        };
        Ok(Self { protocol, which })
    }

    fn matches(&self, traffic: &Traffic<'_>) -> Match {
        if self.protocol != traffic.protocol {
            return Match::No;
        }
        let (meant, all) = match self.which {
            Which::Every => (true, true),
            Which::Span(first, last) => {
                let inside = (first..=last).contains(&traffic.port);
                (inside, inside)
            }
            Which::Named(name) => {
                let known =
                    traffic.named.iter().filter(|(known, protocol, _)| known == name && *protocol == self.protocol);
                let hits = known.map(|(_, _, number)| *number == traffic.port);
                (hits.clone().any(|hit| hit), hits.clone().all(|hit| hit))
            }
        };
        match (meant, all) {
            (false, _) => Match::No,
            (true, false) => Match::Unresolved,
            (true, true) => Match::Yes,
        }
    }
}

fn parse_types(types: &[String]) -> Result<(bool, bool), Problem> {
    if types.len() > 2 {
        return Err(Problem::TooManyPolicyTypes);
    }
    if let Some(other) = types.iter().find(|entry| !matches!(entry.as_str(), "Ingress" | "Egress")) {
        return Err(Problem::PolicyType(other.clone()));
    }
    let has = |wanted: &str| types.iter().any(|entry| entry == wanted);
    Ok((has("Ingress"), has("Egress")))
}

fn number_of(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// As IANA has it: up to 15 of a-z, 0-9 and single inner hyphens, at least one of them a letter.
fn is_port_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    bytes.len() <= 15
        && bytes.iter().all(inner)
        && bytes.iter().any(u8::is_ascii_lowercase)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

fn at(place: impl Into<String>) -> impl FnOnce(Problem) -> (String, Problem) {
    |problem| (place.into(), problem)
}
