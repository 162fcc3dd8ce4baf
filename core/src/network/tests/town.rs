//! A small cluster under construction: namespaces, workloads whose labels are theirs alone, declarations.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::network::{
    compile::compile,
    compiled::Compiled,
    declared::{
        Addresses, ApiServer, Consent, Declared, Exceptions, External, Grant, GrantTo, Mode, Namespaces, ObjectKey,
        OnWouldBreak, Pace, PortRef, Probes, Request, Segment, Source, Target,
    },
    model::{Flow, Identity, Namespace, PortSpan, Protocol, WorkloadKey, WorkloadKind},
    projection::{Applied, project},
    render::{NetworkPolicies, render},
    snapshot::{ContainerPort, NamespaceFacts, Pod, PodFacts, Snapshot, Workload},
};

pub fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

/// `namespace/account`
pub fn identity(text: &str) -> Identity {
    let (there, account) = text.split_once('/').unwrap();
    Identity { namespace: namespace(there), account: account.to_owned() }
}

pub fn tcp(port: u16) -> PortRef {
    PortRef::Span(PortSpan::one(Protocol::Tcp, NonZeroU16::new(port).unwrap()))
}

pub fn named(name: &str) -> PortRef {
    PortRef::Named { name: name.to_owned(), protocol: Protocol::Tcp }
}

#[derive(Debug, Clone, Default)]
pub struct Town {
    pub snapshot: Snapshot,
    pub declared: Declared,
}

impl Town {
    /// A namespace with one workload and one pod for each account; every container has the port `http` = 80.
    pub fn with(mut self, name: &str, accounts: &[&str]) -> Self {
        let there = namespace(name);
        self.snapshot.namespaces.insert(there.clone(), NamespaceFacts::default());
        for account in accounts {
            let labels = BTreeMap::from([("app".to_owned(), (*account).to_owned())]);
            let http = ContainerPort {
                name: "http".to_owned(),
                number: NonZeroU16::new(80).unwrap(),
                protocol: Protocol::Tcp,
            };
            let facts = PodFacts {
                labels: labels.clone(),
                account: (*account).to_owned(),
                ports: BTreeSet::from([http]),
                ..PodFacts::default()
            };
            let owner = workload(name, account);
            let workload = Workload { uid: format!("uid-{account}"), selector: labels, template: facts.clone() };
            self.snapshot.workloads.insert(owner.clone(), workload);
            let pod = Pod { uid: format!("pod-{account}"), facts, owner };
            self.snapshot.pods.insert((there.clone(), format!("{account}-1")), pod);
        }
        self
    }

    /// A segment of one namespace that closes both directions, asks for both halves and excepts nothing.
    pub fn segment(mut self, name: &str, change: impl FnOnce(&mut Segment)) -> Self {
        let mut segment = Segment {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            created: Timestamp::UNIX_EPOCH,
            namespaces: Namespaces::Names(BTreeSet::from([namespace(name)])),
            protected: false,
            mode: Mode::Enforce,
            directions: BTreeSet::from([Flow::Ingress, Flow::Egress]),
            consent: Consent::Both,
            exceptions: Exceptions { dns: false, api_server: ApiServer::OnRequest, probes: Probes::Auto },
            pace: Pace { settle: Duration::from_secs(10), at_once: 1, on_would_break: OnWouldBreak::Hold },
            suspended: false,
        };
        change(&mut segment);
        self.declared.segments.insert(segment.name.clone(), segment);
        self
    }

    /// A grant of `namespace/account`, or of `namespace/*`.
    pub fn grant(mut self, to: &str, from: &[Source], ports: &[PortRef]) -> Self {
        let to = identity(to);
        let key = Self::key(&to.namespace, self.declared.grants.len());
        let whom = if to.account == "*" { GrantTo::All } else { GrantTo::Account(to.account) };
        let uid = key.name.clone();
        let grant = Grant { key: key.clone(), uid, to: whom, from: from.to_vec(), ports: ports.to_vec() };
        self.declared.grants.insert(key, grant);
        self
    }

    pub fn request(self, from: &str, to: &str, ports: &[PortRef]) -> Self {
        let target = Target::Identity { server: identity(to), ports: ports.to_vec() };
        self.request_of(from, target)
    }

    pub fn request_of(mut self, from: &str, target: Target) -> Self {
        let from = identity(from);
        let key = Self::key(&from.namespace, self.declared.requests.len());
        let uid = key.name.clone();
        let request = Request { key: key.clone(), uid, from: from.account, to: vec![target] };
        self.declared.requests.insert(key, request);
        self
    }

    pub fn external(mut self, there: &str, name: &str, addresses: &[Addresses], ports: &[PortRef]) -> Self {
        let key = ObjectKey { namespace: namespace(there), name: name.to_owned() };
        let external = External { key: key.clone(), addresses: addresses.to_vec(), ports: ports.to_vec() };
        self.declared.externals.insert(key, external);
        self
    }

    fn key(there: &Namespace, number: usize) -> ObjectKey {
        ObjectKey { namespace: there.clone(), name: format!("n{number}") }
    }

    pub fn compile(&self) -> Compiled {
        compile(&self.declared, &self.snapshot, &project(&self.snapshot, &Applied::new()))
    }

    pub fn rendered(&self) -> Vec<NetworkPolicy> {
        self.compile().policies.values().map(|policy| render::<NetworkPolicies>(policy, "uid", None)).collect()
    }
}

pub fn workload(there: &str, name: &str) -> WorkloadKey {
    WorkloadKey { namespace: namespace(there), kind: WorkloadKind::Deployment, name: name.to_owned() }
}
