//! A second opinion: what NetworkPolicies let pass, read from the objects alone.
//!
//! It follows the text of the API and shares no type with the compiler, so a mistake of the one is not repeated by the
//! other. What it cannot judge is [`Unclear`], never allowed: a policy that no server would have stored, a pod that
//! nobody saw, an address that is not known yet.
//!
//! Where the API leaves room, it reads:
//!
//! - A pod on the host's network is its node: no policy and no selector finds it, only an `ipBlock` of its addresses.
//! - An `ipBlock` also matches a pod by its addresses. Some data planes never do that.
//! - `kubernetes.io/metadata.name` is what the server pins it to, whatever the labels of the scene say.
//! - An address of a pod is that pod.
//!
//! It knows no nodes, so it does not know that a node always reaches the pods on it.

mod block;
mod policy;
mod scene;
mod selector;
mod unclear;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use policy::{Match, Policy, Rule};
pub use scene::{End, PodId, PodView, PolicyName, Protocol, Question, RuleName, Scene, Side, Verdict};
use selector::Labels;
pub use unclear::{Problem, Unclear};

/// Answers one question about a scene; for many of them, see [`Evaluator`].
pub fn evaluate(scene: &Scene, question: &Question) -> Result<Verdict, Unclear> {
    Evaluator::new(scene).ask(question)
}

/// A scene, prepared for many questions: policies are parsed once, and each pod knows those that select it.
#[derive(Debug)]
pub struct Evaluator<'a> {
    pods: HashMap<&'a PodId, Pod<'a>>,
    owners: HashMap<IpAddr, Owner<'a>>,
    namespaces: HashMap<&'a str, Namespace<'a>>,
    /// A policy without a namespace could be in any of them.
    stray: Option<Unclear>,
}

#[derive(Debug)]
struct Namespace<'a> {
    labels: Labels<'a>,
    /// In order of their names.
    policies: Vec<Policy<'a>>,
    /// Why what is in here cannot be judged.
    problem: Option<Unclear>,
}

#[derive(Debug)]
struct Pod<'a> {
    id: &'a PodId,
    view: &'a PodView,
    labels: Labels<'a>,
    addresses: Vec<IpAddr>,
    /// Positions in the policies of its namespace.
    selected_by: Vec<usize>,
}

#[derive(Debug)]
enum Owner<'a> {
    One(&'a PodId),
    Several,
}

/// One end of a question: the pod it is, if it is one, and the addresses it may use; none means not known.
#[derive(Clone, Copy)]
struct Party<'s, 'a> {
    pod: Option<(&'s Pod<'a>, &'s Namespace<'a>)>,
    addresses: &'s [IpAddr],
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Egress,
    Ingress,
}

impl<'a> Evaluator<'a> {
    /// Prepares the scene; what is malformed in it comes up with the questions that it touches.
    pub fn new(scene: &'a Scene) -> Self {
        let mut namespaces: HashMap<&str, Namespace<'_>> = HashMap::with_capacity(scene.namespaces.len());
        for (name, labels) in &scene.namespaces {
            let labels = Labels::of_namespace(name, labels);
            namespaces.insert(name, Namespace { labels, policies: Vec::new(), problem: None });
        }
        let stray = place_policies(scene, &mut namespaces);
        let index: HashMap<&str, selector::Index<'_>> = namespaces
            .iter()
            .map(|(name, namespace)| (*name, selector::Index::new(namespace.policies.iter().map(Policy::subject))))
            .collect();

        let mut pods = HashMap::with_capacity(scene.pods.len());
        let mut owners = HashMap::new();
        for (id, view) in &scene.pods {
            let labels = Labels::of_pod(&view.labels);
            let selected_by = match index.get(id.namespace.as_str()) {
                Some(index) if !view.host_network => index.selecting(&labels),
                _ => Vec::new(),
            };
            let addresses: Vec<IpAddr> = view.addresses.iter().map(IpAddr::to_canonical).collect();
            if !view.host_network {
                for address in &addresses {
                    let owner = owners.entry(*address).or_insert(Owner::One(id));
                    if !matches!(owner, Owner::One(first) if *first == id) {
                        *owner = Owner::Several;
                    }
                }
            }
            pods.insert(id, Pod { id, view, labels, addresses, selected_by });
        }
        Self { pods, owners, namespaces, stray }
    }

    /// Whether the policies let it pass, per direction, and because of which of them.
    pub fn ask(&self, question: &Question) -> Result<Verdict, Unclear> {
        if question.port == 0 {
            return Err(Unclear::PortZero);
        }
        let (own_from, own_to);
        let from = match &question.from {
            End::Pod(id) => self.pod(id)?,
            End::Address(address) => {
                own_from = [address.to_canonical()];
                self.address(&own_from)?
            }
        };
        let to = match &question.to {
            End::Pod(id) => self.pod(id)?,
            End::Address(address) => {
                own_to = [address.to_canonical()];
                self.address(&own_to)?
            }
        };
        if let (Some((from, _)), Some((to, _))) = (from.pod, to.pod)
            && from.id == to.id
        {
            return Ok(Verdict { egress: Side::NotIsolated, ingress: Side::NotIsolated });
        }
        for party in [from, to] {
            party.must_be_readable()?;
        }
        if let Some(stray) = &self.stray
            && [from, to].into_iter().any(Party::can_be_isolated)
        {
            return Err(stray.clone());
        }
        Ok(Verdict {
            egress: judge(Direction::Egress, from, to, question)?,
            ingress: judge(Direction::Ingress, to, from, question)?,
        })
    }

    fn pod(&self, id: &PodId) -> Result<Party<'_, 'a>, Unclear> {
        let pod = self.pods.get(id).ok_or_else(|| Unclear::NoSuchPod(id.clone()))?;
        let namespace =
            self.namespaces.get(id.namespace.as_str()).ok_or_else(|| Unclear::NoSuchNamespace(id.clone()))?;
        Ok(Party { pod: Some((pod, namespace)), addresses: &pod.addresses })
    }

    fn address<'s>(&'s self, address: &'s [IpAddr; 1]) -> Result<Party<'s, 'a>, Unclear> {
        let [only] = address;
        match self.owners.get(only) {
            None => Ok(Party { pod: None, addresses: address }),
            Some(Owner::One(id)) => Ok(Party { addresses: address, ..self.pod(id)? }),
            Some(Owner::Several) => Err(Unclear::SharedAddress(*only)),
        }
    }
}

impl Party<'_, '_> {
    fn can_be_isolated(self) -> bool {
        self.pod.is_some_and(|(pod, _)| !pod.view.host_network)
    }

    fn must_be_readable(self) -> Result<(), Unclear> {
        match self.pod {
            Some((_, Namespace { problem: Some(problem), .. })) if self.can_be_isolated() => Err(problem.clone()),
            _ => Ok(()),
        }
    }
}

/// Sorts the parsed policies into their namespaces; returns what is known of those that say none.
fn place_policies<'a>(scene: &'a Scene, namespaces: &mut HashMap<&'a str, Namespace<'a>>) -> Option<Unclear> {
    let mut stray = None;
    let mut named: BTreeMap<PolicyName, Vec<Result<Policy<'a>, Unclear>>> = BTreeMap::new();
    for policy in &scene.policies {
        let name = PolicyName {
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            name: policy.metadata.name.clone().unwrap_or_default(),
        };
        if name.namespace.is_empty() {
            note(&mut stray, Unclear::PolicyWithoutNamespace(name.name));
        } else {
            named.entry(name.clone()).or_default().push(Policy::parse(name, policy));
        }
    }
    for (name, mut parsed) in named {
        // A policy of a namespace that nobody saw selects no pod that anybody saw.
        let Some(namespace) = namespaces.get_mut(name.namespace.as_str()) else { continue };
        if name.name.is_empty() {
            note(&mut namespace.problem, Unclear::PolicyWithoutName(name.namespace));
        } else if parsed.len() > 1 {
            note(&mut namespace.problem, Unclear::PolicyTwice(name));
        } else {
            match parsed.pop() {
                Some(Ok(policy)) => namespace.policies.push(policy),
                Some(Err(problem)) => note(&mut namespace.problem, problem),
                None => {}
            }
        }
    }
    stray
}

/// Of several problems the same one is told, whatever their order.
fn note(known: &mut Option<Unclear>, problem: Unclear) {
    if known.as_ref().is_none_or(|known| problem < *known) {
        *known = Some(problem);
    }
}

/// What the policies of `own` say about `peer`.
fn judge(direction: Direction, own: Party<'_, '_>, peer: Party<'_, '_>, question: &Question) -> Result<Side, Unclear> {
    let Some((pod, namespace)) = own.pod else { return Ok(Side::NotIsolated) };
    let selecting = pod.selected_by.iter().filter_map(|position| namespace.policies.get(*position));
    let isolating: Vec<(&Policy<'_>, &[Rule<'_>])> = selecting
        .filter_map(|policy| {
            let rules = match direction {
                Direction::Egress => policy.egress(),
                Direction::Ingress => policy.ingress(),
            };
            rules.map(|rules| (policy, rules))
        })
        .collect();
    if isolating.is_empty() {
        return Ok(Side::NotIsolated);
    }

    let target = if direction == Direction::Egress { peer } else { own };
    // On the host's network a name could be anybody's.
    let ports = target.pod.filter(|(pod, _)| !pod.view.host_network).map_or(&[][..], |(pod, _)| &pod.view.ports);
    let traffic = policy::Traffic { protocol: question.protocol, port: question.port, named: ports };
    let identity = peer.pod.filter(|(pod, _)| !pod.view.host_network).map(|(pod, namespace)| policy::Identity {
        namespace: &pod.id.namespace,
        namespace_labels: &namespace.labels,
        labels: &pod.labels,
    });

    let mut by = Vec::new();
    let mut outcomes = Vec::new();
    for address in candidates(own, peer)? {
        let mut outcome = Match::No;
        for (policy, rules) in &isolating {
            for (position, rule) in rules.iter().enumerate() {
                let found = rule.matches(&policy.name.namespace, identity.as_ref(), address, &traffic);
                if found == Match::Yes {
                    by.push(policy.rule(position));
                }
                outcome = outcome.max(found);
            }
        }
        outcomes.push(outcome);
    }
    if outcomes.iter().all(|outcome| *outcome == Match::Yes) {
        by.sort();
        by.dedup();
        Ok(Side::Allowed { by })
    } else if outcomes.iter().all(|outcome| *outcome == Match::No) {
        Ok(Side::Blocked { by: isolating.iter().map(|(policy, _)| policy.name.clone()).collect() })
    } else if outcomes.contains(&Match::Unresolved) {
        Err(Unclear::PortNameTwice(target.pod.map(|(pod, _)| pod.id.clone())))
    } else if peer.addresses.is_empty() {
        Err(Unclear::NoAddress(peer.pod.map(|(pod, _)| pod.id.clone())))
    } else {
        Err(Unclear::AddressesDiffer(peer.pod.map(|(pod, _)| pod.id.clone())))
    }
}

/// The addresses by which the peer may be seen: those that the own end has a family for. `None` is one not known.
fn candidates(own: Party<'_, '_>, peer: Party<'_, '_>) -> Result<Vec<Option<IpAddr>>, Unclear> {
    if peer.addresses.is_empty() {
        return Ok(vec![None]);
    }
    let reachable = |address: &&IpAddr| {
        own.addresses.is_empty() || own.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4())
    };
    let found: Vec<Option<IpAddr>> = peer.addresses.iter().filter(reachable).map(|address| Some(*address)).collect();
    if found.is_empty() { Err(Unclear::NoCommonFamily) } else { Ok(found) }
}
