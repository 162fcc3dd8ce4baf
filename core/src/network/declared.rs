//! What people declared, parsed: always valid, wildcards spelled out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::model::{Flow, Identity, Namespace, PortSpan, Protocol};
use crate::value::names::Cidr;

/// What a segment does with its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is compiled; nothing of ours exists.
    Off,
    /// Compiled, checked and reported; nothing is written.
    Observe,
    /// Written.
    Enforce,
}

/// Which halves open an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// The server granted it and the client requested it.
    Both,
    /// The server granted it.
    ServerOnly,
}

/// Who may reach the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiServer {
    /// Who requests it.
    OnRequest,
    /// Every pod of the namespaces.
    All,
    /// Nobody.
    Never,
}

/// How the kubelet's probes reach the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probes {
    /// As the data plane lets them, which is always on the same node.
    Auto,
    /// From the addresses of the nodes, for data planes that break it.
    Nodes,
}

/// What passes without being declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceptions {
    /// Whether name resolution passes.
    pub dns: bool,
    /// Who may reach the Kubernetes API.
    pub api_server: ApiServer,
    /// How probes reach the pods.
    pub probes: Probes,
}

/// What is done when a connection with evidence would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWouldBreak {
    /// Nothing is closed until it is declared.
    Hold,
    /// It is closed all the same.
    Proceed,
}

/// How a segment is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How long after the newest write the data plane is taken to have followed; 0 s to 10 min.
    pub settle: Duration,
    /// How many namespaces may be between open and closed at a time; 1 to 100.
    pub at_once: usize,
    /// What is done when something would break.
    pub on_would_break: OnWouldBreak,
}

/// Which namespaces a segment has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// Those of these names.
    Names(BTreeSet<Namespace>),
    /// Those with these labels, all of them; never empty.
    Labels(BTreeMap<String, String>),
}

/// A `Segment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Its UID; on every object that it owns.
    pub uid: String,
    /// When it was created; of two segments with one namespace the younger leaves it out.
    pub created: Timestamp,
    /// Which namespaces it wants.
    pub namespaces: Namespaces,
    /// Whether it may close `kube-system` and the operator's own namespace.
    pub protected: bool,
    /// What it does with them.
    pub mode: Mode,
    /// Which directions it closes; never empty.
    pub directions: BTreeSet<Flow>,
    /// Which halves open an edge.
    pub consent: Consent,
    /// What passes without being declared.
    pub exceptions: Exceptions,
    /// How it is closed.
    pub pace: Pace,
    /// Whether nothing is written, what is there stays.
    pub suspended: bool,
}

/// A port as people write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// The word `All`: every port of every protocol.
    All,
    /// Numbers.
    Span(PortSpan),
    /// A container port's name, resolved for each workload of the server.
    Named {
        /// Its name.
        name: String,
        /// Its protocol.
        protocol: Protocol,
    },
}

/// Which object of a namespace something was declared in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}

/// Whom a grant is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantTo {
    /// One ServiceAccount of its namespace.
    Account(String),
    /// Every identity of its namespace.
    All,
}

/// Whom a grant lets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// One identity.
    Identity(Identity),
    /// Every identity of a namespace.
    Namespace(Namespace),
    /// Every pod of every namespace.
    AllNamespaces,
    /// The addresses of an `ExternalService` of the grant's namespace.
    External(String),
}

/// An `AccessGrant`: the server's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where it was declared; its namespace is the server's.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// Whom it is about.
    pub to: GrantTo,
    /// Whom it lets in; at least one.
    pub from: Vec<Source>,
    /// On which ports; at least one.
    pub ports: Vec<PortRef>,
}

impl Grant {
    /// Whether it is about this identity.
    pub fn is_about(&self, server: &Identity) -> bool {
        self.key.namespace == server.namespace
            && match &self.to {
                GrantTo::Account(account) => *account == server.account,
                GrantTo::All => true,
            }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An identity, on these ports; at least one.
    Identity {
        /// The server.
        server: Identity,
        /// On which ports.
        ports: Vec<PortRef>,
    },
    /// The addresses of an `ExternalService` of the request's namespace.
    External(String),
    /// The Kubernetes API.
    ApiServer,
}

/// An `AccessRequest`: the client's need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where it was declared; its namespace is the client's.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// The ServiceAccount that calls.
    pub from: String,
    /// What it calls; at least one.
    pub to: Vec<Target>,
}

/// Addresses as people write them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addresses {
    /// The word `Any`: everywhere outside the cluster, both families.
    Any,
    /// A canonical block, never `/0`.
    Block(Cidr),
}

/// An `ExternalService`: places outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where it was declared.
    pub key: ObjectKey,
    /// Its addresses; at least one.
    pub addresses: Vec<Addresses>,
    /// Its ports; at least one; no names, for there is no pod to resolve them.
    pub ports: Vec<PortRef>,
}

/// Everything that was declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// Segments, by name.
    pub segments: BTreeMap<String, Segment>,
    /// Grants.
    pub grants: BTreeMap<ObjectKey, Grant>,
    /// Requests.
    pub requests: BTreeMap<ObjectKey, Request>,
    /// External services.
    pub externals: BTreeMap<ObjectKey, External>,
}
