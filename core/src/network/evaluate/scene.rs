//! What is asked about and what is answered; plain values, so that anybody can fill them in.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use k8s_openapi::api::networking::v1::NetworkPolicy;

/// All that an answer depends on.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// Labels per namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The pods of these namespaces.
    pub pods: BTreeMap<PodId, PodView>,
    /// Every policy there is; their order does not matter.
    pub policies: Vec<NetworkPolicy>,
}

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What policies look at in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses; none if it has none yet.
    pub addresses: Vec<IpAddr>,
    /// Whether it uses the network of its node.
    pub host_network: bool,
    /// The named ports of its containers: name, protocol, number.
    pub ports: Vec<(String, Protocol, u16)>,
}

/// The protocols that a NetworkPolicy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// The default of the API.
    Tcp,
    /// User datagrams.
    Udp,
    /// Stream control transmission.
    Sctp,
}

/// Who talks, or is talked to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A pod of the scene.
    Pod(PodId),
    /// An address; if a pod of the scene has it, that pod.
    Address(IpAddr),
}

/// May a new connection be made?
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Who opens it.
    pub from: End,
    /// Who is to accept it, after any translation of a Service.
    pub to: End,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which port of the acceptor.
    pub port: u16,
}

/// The answer per direction; both must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the policies of the opener say.
    pub egress: Side,
    /// What the policies of the acceptor say.
    pub ingress: Side,
}

impl Verdict {
    /// Whether the connection can be made.
    pub fn passes(&self) -> bool {
        self.egress.passes() && self.ingress.passes()
    }
}

/// The answer of one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// No policy isolates this end, or both ends are the same pod.
    NotIsolated,
    /// Isolated, and let through.
    Allowed {
        /// Each rule that lets it through, in order.
        by: Vec<RuleName>,
    },
    /// Isolated, and no rule lets it through.
    Blocked {
        /// Each policy that isolates, in order.
        by: Vec<PolicyName>,
    },
}

impl Side {
    /// Whether this direction lets it pass.
    pub fn passes(&self) -> bool {
        match self {
            Self::NotIsolated | Self::Allowed { .. } => true,
            Self::Blocked { .. } => false,
        }
    }
}

/// Which policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which rule of a policy, in the direction it was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName {
    /// The policy.
    pub policy: PolicyName,
    /// Its position in `ingress` or `egress`, from 0.
    pub rule: usize,
}
