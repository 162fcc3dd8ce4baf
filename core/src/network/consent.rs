//! Which halves of an edge are open: what the server granted, what the client requested, and which of the two the
//! segments of both ends ask for.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    declared::{Consent, Declared, Grant, GrantTo, PortRef, Source, Target},
    model::{Flow, Identity, Namespace},
    ports::{PortSet, UnknownName},
    segments::Segmented,
    snapshot::ContainerPort,
};

/// A client and a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Who calls.
    pub client: Identity,
    /// Who is called.
    pub server: Identity,
}

/// What an edge lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The server's consent.
    Grant,
    /// The client's need.
    Request,
}

/// One half of an edge: what the policy of one end says of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// Nothing closes this direction at this end.
    NotClosed,
    /// These ports are open; never empty.
    Open(PortSet),
    /// It is closed, for want of this.
    Missing(Missing),
    /// It is closed: what was requested and what was granted have no port in common.
    Disjoint,
}

/// What was declared, by who it is about.
pub struct Consents<'a> {
    segmented: &'a Segmented<'a>,
    grants: BTreeMap<&'a Namespace, Vec<&'a Grant>>,
    requests: BTreeMap<Pair, Vec<&'a PortRef>>,
}

/// Which sources of grants count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Those that name the client.
    Only,
    /// Also those that name its namespace, or every one.
    OrNot,
}

impl<'a> Consents<'a> {
    /// Sorts what was declared.
    pub fn new(declared: &'a Declared, segmented: &'a Segmented<'a>) -> Self {
        let mut grants: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for grant in declared.grants.values() {
            grants.entry(&grant.key.namespace).or_default().push(grant);
        }
        let mut requests: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for request in declared.requests.values() {
            for target in &request.to {
                let Target::Identity { server, ports } = target else { continue };
                let client = Identity { namespace: request.key.namespace.clone(), account: request.from.clone() };
                requests.entry(Pair { client, server: server.clone() }).or_default().extend(ports);
            }
        }
        Self { segmented, grants, requests }
    }

    /// Every pair that an object names, or that a wildcard makes of an identity whose segment asks for no request.
    /// `identities` are those with workloads.
    pub fn pairs(&self, identities: &BTreeSet<Identity>) -> BTreeSet<Pair> {
        let mut pairs: BTreeSet<Pair> = self.requests.keys().cloned().collect();
        for (namespace, grants) in &self.grants {
            for grant in grants {
                let servers: Vec<Identity> = match &grant.to {
                    GrantTo::Account(account) => {
                        vec![Identity { namespace: (*namespace).clone(), account: account.clone() }]
                    }
                    GrantTo::All => {
                        identities.iter().filter(|identity| identity.namespace == **namespace).cloned().collect()
                    }
                };
                let clients = grant.from.iter().flat_map(|source| self.clients(source, identities));
                let clients: BTreeSet<Identity> = clients.collect();
                for server in &servers {
                    let pair = |client: &Identity| Pair { client: client.clone(), server: server.clone() };
                    pairs.extend(clients.iter().map(pair));
                }
            }
        }
        pairs
    }

    fn clients(&self, source: &Source, identities: &BTreeSet<Identity>) -> Vec<Identity> {
        let asks_no_request = |identity: &&Identity| {
            let closing = self.segmented.closing(&identity.namespace, Flow::Egress);
            closing.is_some_and(|segment| segment.consent == Consent::ServerOnly)
        };
        match source {
            Source::Identity(client) => vec![client.clone()],
            Source::Namespace(namespace) => {
                let there = identities.iter().filter(|identity| identity.namespace == *namespace);
                there.filter(asks_no_request).cloned().collect()
            }
            Source::AllNamespaces => identities.iter().filter(asks_no_request).cloned().collect(),
            Source::External(_) => Vec::new(),
        }
    }

    /// What the server granted the client, by the ports of one of its workloads; `None` if there is no grant.
    pub fn granted(&self, pair: &Pair, named: Named, ports: &BTreeSet<ContainerPort>) -> Option<PortSet> {
        let Pair { client, server } = pair;
        let lets_in = |grant: &&&Grant| {
            grant.from.iter().any(|source| match source {
                Source::Identity(identity) => identity == client,
                Source::Namespace(namespace) => named == Named::OrNot && *namespace == client.namespace,
                Source::AllNamespaces => named == Named::OrNot,
                Source::External(_) => false,
            })
        };
        let grants: Vec<_> =
            self.grants.get(&server.namespace)?.iter().filter(|grant| grant.is_about(server)).filter(lets_in).collect();
        let refs = grants.iter().flat_map(|grant| &grant.ports);
        (!grants.is_empty()).then(|| PortSet::resolve(refs, ports).0)
    }

    /// What the server granted whole namespaces, the client's among them: its word alone, so no request is asked for.
    pub fn by_wildcard(&self, Pair { client, server }: &Pair, ports: &BTreeSet<ContainerPort>) -> PortSet {
        let lets_in = |grant: &&&Grant| {
            grant.from.iter().any(|source| match source {
                Source::Namespace(namespace) => *namespace == client.namespace,
                Source::AllNamespaces => true,
                Source::Identity(_) | Source::External(_) => false,
            })
        };
        let grants = self
            .grants
            .get(&server.namespace)
            .into_iter()
            .flatten()
            .filter(|grant| grant.is_about(server))
            .filter(lets_in);
        PortSet::resolve(grants.flat_map(|grant| &grant.ports), ports).0
    }

    /// What the client requested of the server, by the ports of one of its workloads; `None` if there is no request.
    pub fn requested(&self, pair: &Pair, ports: &BTreeSet<ContainerPort>) -> Option<PortSet> {
        self.requests.get(pair).map(|refs| PortSet::resolve(refs.iter().copied(), ports).0)
    }

    /// The names of ports that objects about this pair use and that no container of the workload has.
    pub fn unknown_ports(&self, pair: &Pair, ports: &BTreeSet<ContainerPort>) -> BTreeSet<UnknownName> {
        let requested = self.requests.get(pair).into_iter().flatten().copied();
        let granted = self.grants.get(&pair.server.namespace).into_iter().flatten();
        let granted = granted.filter(|grant| grant.from.contains(&Source::Identity(pair.client.clone())));
        let granted = granted.filter(|grant| match &grant.to {
            GrantTo::Account(account) => *account == pair.server.account,
            GrantTo::All => false,
        });
        PortSet::resolve(requested.chain(granted.flat_map(|grant| &grant.ports)), ports).1
    }

    /// The server's half: what its ingress says of the client.
    pub fn ingress(&self, pair: &Pair, named: Named, ports: &BTreeSet<ContainerPort>) -> Half {
        let Pair { client, server } = pair;
        let Some(segment) = self.segmented.closing(&server.namespace, Flow::Ingress) else { return Half::NotClosed };
        let Some(granted) = self.granted(pair, named, ports) else { return Half::Missing(Missing::Grant) };
        let is_enough = segment.consent == Consent::ServerOnly
            || self.segmented.of(&client.namespace).is_none()
            || client == server;
        if is_enough {
            return half(granted);
        }
        match self.requested(pair, ports) {
            Some(requested) => half(requested.intersect(&granted)),
            None => Half::Missing(Missing::Request),
        }
    }

    /// The client's half: what its egress says of the server.
    pub fn egress(&self, pair: &Pair, ports: &BTreeSet<ContainerPort>) -> Half {
        let Pair { client, server } = pair;
        let Some(segment) = self.segmented.closing(&client.namespace, Flow::Egress) else { return Half::NotClosed };
        let needs_no_request = segment.consent == Consent::ServerOnly || client == server;
        let needs_no_grant = self.segmented.of(&server.namespace).is_none();
        let (requested, granted) = (self.requested(pair, ports), self.granted(pair, Named::OrNot, ports));
        // What one declaration opens is not closed by another, so each way to be open adds its ports.
        let mut open = Vec::new();
        open.extend(granted.as_ref().filter(|_| needs_no_request).cloned());
        open.extend(requested.as_ref().filter(|_| needs_no_grant).cloned());
        match (&requested, &granted) {
            (Some(requested), Some(granted)) => open.push(requested.intersect(granted)),
            (None, _) if open.is_empty() => return Half::Missing(Missing::Request),
            (Some(_), None) if open.is_empty() => return Half::Missing(Missing::Grant),
            (None, _) | (_, None) => {}
        }
        half(open.iter().fold(PortSet::default(), |all, one| all.union(one)))
    }
}

fn half(ports: PortSet) -> Half {
    if ports.is_empty() { Half::Disjoint } else { Half::Open(ports) }
}
