//! Groups of pods, candidates for their selectors, and which of them is taken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, AppliedWorkload, Moving, NoSelector, Projected, Spoof};
use crate::network::{
    model::{Identity, Namespace, Selector, WorkloadKey, WorkloadKind},
    snapshot::{Labels, Pod, PodFacts, Snapshot, Workload},
};

/// The most labels that are tried beyond the base; 3 of 16 make at most 697 candidates.
const MOST_LABELS: usize = 16;
/// The longest value of a label.
const LONGEST_VALUE: usize = 63;

/// Labels that controllers make: they change with each revision or differ between the pods of one workload.
const GENERATED: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "job-name",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// The usual names of things come first: they last, and data planes count them.
const RANK: [&str; 5] =
    ["app.kubernetes.io/instance", "app.kubernetes.io/name", "app.kubernetes.io/component", "app", "k8s-app"];

/// The live pods of one owner, with its template.
pub(super) struct Group<'a> {
    key: WorkloadKey,
    workload: Option<&'a Workload>,
    pods: Vec<(&'a str, &'a Pod)>,
    applied: Option<&'a AppliedWorkload>,
}

impl<'a> Group<'a> {
    /// The groups of a namespace, by owner.
    pub(super) fn all(snapshot: &'a Snapshot, applied: &'a Applied, namespace: &Namespace) -> Vec<Self> {
        let first = WorkloadKey { namespace: namespace.clone(), kind: WorkloadKind::Deployment, name: String::new() };
        let mut groups: BTreeMap<WorkloadKey, Group<'a>> = BTreeMap::new();
        let here = snapshot.workloads.range(first..).take_while(|(key, _)| key.namespace == *namespace);
        for (key, workload) in here {
            // One that was made anew under an old name has nothing applied.
            let applied = applied.get(key).filter(|applied| applied.uid == workload.uid);
            groups.insert(key.clone(), Group { key: key.clone(), workload: Some(workload), pods: Vec::new(), applied });
        }
        let pods = snapshot.pods.range((namespace.clone(), String::new())..);
        for ((_, name), pod) in pods.take_while(|((there, _), _)| there == namespace) {
            let group = groups.entry(pod.owner.clone()).or_insert_with(|| Group {
                key: pod.owner.clone(),
                workload: None,
                pods: Vec::new(),
                applied: applied.get(&pod.owner),
            });
            group.pods.push((name, pod));
        }
        groups.into_values().collect()
    }

    /// What its template and its pods say, the template first.
    fn facts(&self) -> impl Iterator<Item = &'a PodFacts> {
        let pods = self.pods.iter().map(|(_, pod)| &pod.facts);
        self.workload.map(|workload| &workload.template).into_iter().chain(pods)
    }

    /// Those of its pods and its template that a policy can match.
    fn matchable(&self) -> impl Iterator<Item = &'a PodFacts> {
        self.facts().filter(|facts| !facts.host_network)
    }

    fn accounts(&self) -> BTreeSet<&'a str> {
        self.facts().map(|facts| facts.account.as_str()).collect()
    }

    fn identity(&self, account: &str) -> Identity {
        Identity { namespace: self.key.namespace.clone(), account: account.to_owned() }
    }

    /// How it moves: what is applied is for one account, its template names another, and pods of the first still run.
    fn moving(&self) -> Option<Moving> {
        let (old, to) = (&self.applied?.identity, &self.workload?.template.account);
        let runs_as = |account: &str| self.pods.iter().filter(|(_, pod)| pod.facts.account == account).count();
        if old.account == *to || runs_as(&old.account) == 0 {
            return None;
        }
        Some(Moving { to: self.identity(to), moved: runs_as(to), pods: self.pods.len() })
    }
}

/// Every group with its selector.
pub(super) fn workloads(groups: &[Group<'_>]) -> BTreeMap<WorkloadKey, Projected> {
    groups.iter().map(|group| (group.key.clone(), projected(group, groups))).collect()
}

fn projected(group: &Group<'_>, groups: &[Group<'_>]) -> Projected {
    let moving = group.moving();
    let identity = match (&moving, group.applied) {
        (Some(_), Some(applied)) => applied.identity.clone(),
        // Its template says whom it is; without one, its pods do.
        _ => group.identity(group.facts().next().map_or("", |facts| &facts.account)),
    };
    let selector = selector(group, groups, &identity, moving.as_ref());
    let here = groups.iter().flat_map(|group| &group.pods).filter(|(_, pod)| !pod.facts.host_network);
    let matched_pods = match &selector {
        Ok(selector) => here.filter(|(_, pod)| selector.matches(&pod.facts.labels)).count(),
        Err(_) => 0,
    };
    let ports = group.facts().flat_map(|facts| facts.ports.iter().cloned()).collect();
    Projected { identity, selector, ports, matched_pods, moving }
}

fn selector(
    group: &Group<'_>,
    groups: &[Group<'_>],
    identity: &Identity,
    moving: Option<&Moving>,
) -> Result<Selector, NoSelector> {
    // The template tells what the next pod will be; a pod of the other kind is on its way out.
    if group.facts().next().is_some_and(|facts| facts.host_network) {
        return Err(NoSelector::HostNetwork);
    }
    let to = moving.map(|moving| moving.to.account.as_str());
    let accounts = group.accounts();
    if accounts.iter().any(|account| *account != identity.account && Some(*account) != to) {
        return Err(NoSelector::Mixed { accounts: accounts.into_iter().map(str::to_owned).collect() });
    }
    let is_complete = |selector: &Selector| group.matchable().all(|facts| selector.matches(&facts.labels));
    let strangers = |selector: &Selector| strangers(group, groups, identity, selector);
    let kept = group.applied.filter(|applied| applied.identity == *identity).map(|applied| &applied.selector);
    if let Some(kept) = kept.filter(|kept| is_complete(kept) && strangers(kept).is_empty()) {
        return Ok(kept.clone());
    }
    let candidates = Candidates::of(group);
    let Some(widest) = candidates.widest() else { return Err(NoSelector::NoLabels) };
    if let Some(exact) = candidates.iter().find(|candidate| strangers(candidate).is_empty()) {
        return Ok(exact);
    }
    let mut with = strangers(&widest);
    if with.is_empty() {
        // It would take more labels than are tried.
        with = candidates.iter().next().map(|first| strangers(&first)).unwrap_or_default();
    }
    Err(NoSelector::Ambiguous { with, advice: advice(group) })
}

/// The workloads that a selector matches though they run as somebody else.
fn strangers(
    group: &Group<'_>,
    groups: &[Group<'_>],
    identity: &Identity,
    selector: &Selector,
) -> BTreeSet<WorkloadKey> {
    let others = groups.iter().filter(|other| other.key != group.key);
    let collides = |other: &&Group<'_>| {
        other.matchable().any(|facts| facts.account != identity.account && selector.matches(&facts.labels))
    };
    others.filter(collides).map(|other| other.key.clone()).collect()
}

/// The selectors that are tried, the shortest first; all of them complete.
struct Candidates {
    base: Labels,
    more: Vec<(String, String)>,
}

impl Candidates {
    fn of(group: &Group<'_>) -> Self {
        let mut all = group.matchable().map(|facts| &facts.labels);
        let mut stable: Labels = all.next().cloned().unwrap_or_default();
        for labels in all {
            stable.retain(|key, value| labels.get(key) == Some(value));
        }
        stable.retain(|key, _| !is_generated(key));
        // The selector of a workload cannot be changed, which makes it the best base; what of it does not last, or is
        // not on every pod, is no base.
        let mut base = group.workload.map(|workload| workload.selector.clone()).unwrap_or_default();
        base.retain(|key, _| !is_generated(key));
        if base.iter().any(|(key, value)| stable.get(key) != Some(value)) {
            base.clear();
        }
        let mut more: Vec<(String, String)> = stable.into_iter().filter(|(key, _)| !base.contains_key(key)).collect();
        more.sort_by_key(|(key, _)| RANK.iter().position(|ranked| ranked == key).unwrap_or(RANK.len()));
        more.truncate(MOST_LABELS);
        Self { base, more }
    }

    /// The one that matches least.
    fn widest(&self) -> Option<Selector> {
        Selector::new(self.base.clone().into_iter().chain(self.more.clone()).collect())
    }

    fn iter(&self) -> impl Iterator<Item = Selector> {
        let count = self.more.len();
        let none = std::iter::once(Vec::new());
        let one = (0..count).map(|a| vec![a]);
        let two = (0..count).flat_map(move |a| (a + 1..count).map(move |b| vec![a, b]));
        let three =
            (0..count).flat_map(move |a| (a + 1..count).flat_map(move |b| (b + 1..count).map(move |c| vec![a, b, c])));
        none.chain(one).chain(two).chain(three).filter_map(|places| {
            let added = places.into_iter().filter_map(|place| self.more.get(place).cloned());
            Selector::new(self.base.clone().into_iter().chain(added).collect())
        })
    }
}

fn is_generated(key: &str) -> bool {
    GENERATED.contains(&key) || key.starts_with("batch.kubernetes.io/")
}

/// A label that its pods do not have yet; the name of a workload is nobody else's of its kind.
fn advice(group: &Group<'_>) -> (String, String) {
    let mut value: String = group.key.name.chars().take(LONGEST_VALUE).collect();
    // A value ends with a letter or a digit.
    value.truncate(value.trim_end_matches(['-', '.', '_']).len());
    let has = |key: &str| group.matchable().all(|facts| facts.labels.get(key) == Some(&value));
    let key = RANK.iter().find(|key| !has(key)).unwrap_or(&"countersign.dev/workload");
    ((*key).to_owned(), value)
}

/// Pods that a selector which is applied matches, and that run as somebody else.
pub(super) fn spoofs(groups: &[Group<'_>], applied: &Applied, namespace: &Namespace) -> BTreeSet<Spoof> {
    let first = WorkloadKey { namespace: namespace.clone(), kind: WorkloadKind::Deployment, name: String::new() };
    let templates: BTreeMap<&WorkloadKey, &Workload> =
        groups.iter().filter_map(|group| Some((&group.key, group.workload?))).collect();
    let mut spoofs = BTreeSet::new();
    for (key, applied) in applied.range(first..).take_while(|(key, _)| key.namespace == *namespace) {
        // A workload that moves, or has moved, has pods of its new account under its old labels: those alone are no spoof.
        let moves_to = templates.get(key).filter(|now| now.uid == applied.uid).map(|now| &now.template.account);
        for (name, pod) in groups.iter().flat_map(|group| &group.pods) {
            let facts = &pod.facts;
            let is_ours = facts.account == applied.identity.account;
            let has_moved = pod.owner == *key && moves_to == Some(&facts.account);
            if facts.host_network || is_ours || has_moved || !applied.selector.matches(&facts.labels) {
                continue;
            }
            let runs_as = Identity { namespace: namespace.clone(), account: facts.account.clone() };
            spoofs.insert(Spoof { pod: (*name).to_owned(), runs_as, matches: key.clone() });
        }
    }
    spoofs
}
