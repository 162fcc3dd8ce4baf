//! What may pass, in types that cannot say "everyone" by accident.
//!
//! In a NetworkPolicy an absent or empty list inside a rule means *everything*, so a set that resolves to nothing must
//! never become one. Here an [`Opening`] always names one [`Peer`] and one [`Ports`]; no opening is no rule, and a
//! [`Selector`] without a term cannot be built. The wildcards are variants of their own, each made in one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU16,
};

use crate::value::names::Cidr;

/// A namespace; a DNS-1123 label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

impl Namespace {
    /// The namespace of that name; `None` if it is no DNS-1123 label.
    pub fn parse(text: &str) -> Option<Self> {
        crate::value::names::is_label(text).then(|| Self(text.to_owned()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who talks: a ServiceAccount of a namespace. It needs no `ServiceIdentity`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Its namespace, the hard border.
    pub namespace: Namespace,
    /// The name of the ServiceAccount.
    pub account: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.account)
    }
}

/// The protocols that a NetworkPolicy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// The default of the API; we always write it.
    Tcp,
    /// User datagrams.
    Udp,
    /// Stream control transmission; not every data plane knows it.
    Sctp,
}

impl Protocol {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// Consecutive ports of one protocol, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSpan {
    /// The protocol.
    pub protocol: Protocol,
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortSpan {
    /// One port.
    pub fn one(protocol: Protocol, port: NonZeroU16) -> Self {
        Self { protocol, first: port, last: port }
    }

    /// The ports from `first` to `last`; `None` if `last` is smaller.
    pub fn new(protocol: Protocol, first: NonZeroU16, last: NonZeroU16) -> Option<Self> {
        (first <= last).then_some(Self { protocol, first, last })
    }

    /// The first port.
    pub fn first(self) -> NonZeroU16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> NonZeroU16 {
        self.last
    }
}

/// Which ports an opening has; "no port" has no value, it is no opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// Every port of every protocol: only where a person spelled `port: All`.
    Every,
    /// These.
    Span(PortSpan),
}

/// One label with its value.
pub type Term = (String, String);

/// Labels that a pod must have, all of them; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(BTreeMap<String, String>);

impl Selector {
    /// The selector with these terms; `None` without any, for that would select every pod.
    pub fn new(terms: BTreeMap<String, String>) -> Option<Self> {
        (!terms.is_empty()).then_some(Self(terms))
    }

    /// Its terms, by key; never empty.
    pub fn terms(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether a pod with `labels` is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl fmt::Display for Selector {
    /// As `kubectl get pods -l` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&terms.join(","))
    }
}

/// The other end of an opening: where ingress comes from, where egress goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Pods of one namespace; it is always named, also where it is the own one.
    Pods {
        /// Their namespace, by `kubernetes.io/metadata.name`.
        namespace: Namespace,
        /// Their labels.
        selector: Selector,
    },
    /// Every pod of one namespace: only where a person spelled `all: true`.
    Namespace(Namespace),
    /// Every pod of every namespace: only where a person spelled `allNamespaces: true`.
    Cluster,
    /// Addresses outside the pod network (or a node's, where the data plane is known to match them).
    Block {
        /// The addresses.
        block: Cidr,
        /// What is cut out of them.
        except: BTreeSet<Cidr>,
    },
}

/// Why something passes. Kept with each opening, so that a later plan knows whether what is applied is still declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The edge with this identity.
    Edge(Identity),
    /// The grant to every identity of this namespace.
    Namespace(Namespace),
    /// The grant to every namespace.
    Cluster,
    /// The `ExternalService` of this namespace and name.
    External {
        /// Its namespace, which is that of whoever refers to it.
        namespace: Namespace,
        /// Its name.
        name: String,
    },
    /// Name resolution.
    Dns,
    /// The Kubernetes API.
    ApiServer,
    /// Probes of the kubelet, from the nodes.
    Probes,
}

/// One thing that passes: a peer with ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opening {
    /// The other end.
    pub peer: Peer,
    /// The destination's ports: our own for ingress, the peer's for egress.
    pub ports: Ports,
}

/// Everything that passes one subject in one direction, with why. Empty means closed.
pub type Openings = BTreeMap<Opening, BTreeSet<Cause>>;

/// The two directions of a NetworkPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flow {
    /// Into the pods.
    Ingress,
    /// Out of the pods.
    Egress,
}

/// Which pods an object is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The pods of one workload.
    Pods(Selector),
    /// Every pod of the namespace: only the deny.
    WholeNamespace,
}

/// What kind of owner a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `apps/v1` ReplicaSet without a Deployment.
    ReplicaSet,
    /// `batch/v1` Job without a CronJob.
    Job,
    /// `batch/v1` CronJob.
    CronJob,
    /// Pods whose owner is of another kind; the name is the owner's.
    Opaque,
    /// Pods without an owner; the name is the ServiceAccount's.
    Pods,
}

/// A workload: what owns pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// Which of our objects it is; decides its name and its place in the order of writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The one that closes a namespace.
    Deny,
    /// The complete set of one workload and direction.
    Workload {
        /// Whose.
        workload: WorkloadKey,
        /// Which direction.
        flow: Flow,
    },
}

/// One NetworkPolicy of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Policy {
    /// Where it lives.
    pub namespace: Namespace,
    /// Which one it is.
    pub role: Role,
    /// Which pods it is about.
    pub subject: Subject,
    /// What passes in each direction that it isolates; a direction that is absent is not touched. Never empty.
    pub isolates: BTreeMap<Flow, Openings>,
}
