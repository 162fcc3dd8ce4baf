//! Why a question has no answer, each with a sentence for its reader.

use std::{error::Error, fmt, net::IpAddr};

use super::scene::{PodId, PolicyName};

/// Why nothing can be said. Never a reason to assume that something is allowed, or blocked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unclear {
    /// The question names a pod that is not in the scene.
    NoSuchPod(PodId),
    /// The pod is in the scene, its namespace is not.
    NoSuchNamespace(PodId),
    /// Nothing listens on port 0.
    PortZero,
    /// Several pods have the address that was asked about.
    SharedAddress(IpAddr),
    /// One end has only IPv4, the other only IPv6.
    NoCommonFamily,
    /// A policy of that name could be in any namespace.
    PolicyWithoutNamespace(String),
    /// A policy of that namespace has no name.
    PolicyWithoutName(String),
    /// Two policies of one name; only one can be stored.
    PolicyTwice(PolicyName),
    /// A policy that no server would have stored.
    Malformed {
        /// Which.
        policy: PolicyName,
        /// Where in its `spec`.
        place: String,
        /// What is wrong there.
        problem: Problem,
    },
    /// Only an `ipBlock` could let it pass, and the pod has no address yet.
    NoAddress(Option<PodId>),
    /// Some addresses of the pod pass, others do not.
    AddressesDiffer(Option<PodId>),
    /// The pod has the named port more than once, with different numbers.
    PortNameTwice(Option<PodId>),
}

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// Neither `Ingress` nor `Egress`.
    PolicyType(String),
    /// More `policyTypes` than there are.
    TooManyPolicyTypes,
    /// A peer without any field.
    EmptyPeer,
    /// An `ipBlock` beside a selector.
    BlockWithSelector,
    /// No network in CIDR notation.
    Cidr(String),
    /// Not a part of the block that it is an exception of.
    Except(String),
    /// None of TCP, UDP and SCTP.
    Protocol(String),
    /// Not from 1 to 65535.
    PortNumber(i32),
    /// No name that a container port can have.
    PortName(String),
    /// An `endPort` without a number in `port`.
    EndPortAlone,
    /// An `endPort` below its `port`, or above 65535.
    EndPort(i32),
    /// None of In, NotIn, Exists and DoesNotExist.
    Operator(String),
    /// In or NotIn without values.
    NoValues(String),
    /// Exists or DoesNotExist with values.
    NeedlessValues(String),
    /// No key that a label can have.
    LabelKey(String),
    /// No value that a label can have.
    LabelValue(String),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPod(pod) => write!(f, "there is no pod {pod}"),
            Self::NoSuchNamespace(pod) => write!(f, "the namespace of pod {pod} is not known"),
            Self::PortZero => f.write_str("0 is not a port"),
            Self::SharedAddress(address) => write!(f, "more than one pod has the address {address}"),
            Self::NoCommonFamily => f.write_str("one end has only IPv4 addresses, the other only IPv6 addresses"),
            Self::PolicyWithoutNamespace(name) => write!(f, "the policy `{name}` does not say its namespace"),
            Self::PolicyWithoutName(namespace) => write!(f, "a policy in the namespace {namespace} has no name"),
            Self::PolicyTwice(policy) => write!(f, "there are two policies {policy}"),
            Self::Malformed { policy, place, problem } => {
                write!(f, "the policy {policy} cannot be read: in {place}, {problem}")
            }
            Self::NoAddress(pod) => {
                write!(f, "only an ipBlock could allow this, and {} has no address yet", Subject(pod.as_ref()))
            }
            Self::AddressesDiffer(pod) => {
                write!(f, "some addresses of {} are allowed, others are not", Subject(pod.as_ref()))
            }
            Self::PortNameTwice(pod) => {
                write!(f, "a port name of {} stands for more than one number", Subject(pod.as_ref()))
            }
        }
    }
}

impl Error for Unclear {}

struct Subject<'a>(Option<&'a PodId>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pod) => write!(f, "pod {pod}"),
            None => f.write_str("the other end"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PolicyType(text) => write!(f, "`{text}` is neither Ingress nor Egress"),
            Self::TooManyPolicyTypes => f.write_str("there are more policy types than two"),
            Self::EmptyPeer => f.write_str("the peer says neither pods nor namespaces nor a block of addresses"),
            Self::BlockWithSelector => f.write_str("a block of addresses cannot stand beside a selector"),
            Self::Cidr(text) => write!(f, "`{text}` is no network such as 192.0.2.0/24"),
            Self::Except(text) => write!(f, "`{text}` is no part of the block that it is an exception of"),
            Self::Protocol(text) => write!(f, "`{text}` is none of TCP, UDP and SCTP"),
            Self::PortNumber(number) => write!(f, "{number} is no port; ports go from 1 to 65535"),
            Self::PortName(text) => write!(f, "`{text}` is no name that a port can have"),
            Self::EndPortAlone => f.write_str("endPort needs a number in port"),
            Self::EndPort(number) => write!(f, "endPort {number} is below port, or no port"),
            Self::Operator(text) => write!(f, "`{text}` is none of In, NotIn, Exists and DoesNotExist"),
            Self::NoValues(key) => write!(f, "the requirement on `{key}` needs values"),
            Self::NeedlessValues(key) => write!(f, "the requirement on `{key}` cannot have values"),
            Self::LabelKey(text) => write!(f, "`{text}` is no key that a label can have"),
            Self::LabelValue(text) => write!(f, "`{text}` is no value that a label can have"),
        }
    }
}
