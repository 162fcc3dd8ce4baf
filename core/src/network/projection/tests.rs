//! Selectors that are complete and exact, workloads that move, and pods that carry what is not theirs.

use proptest::prelude::*;

use super::*;
use crate::network::{
    model::{Protocol, WorkloadKind},
    snapshot::{Labels, NamespaceFacts, Pod, PodFacts, Workload},
    tests::cases,
};

fn labels(text: &str) -> Labels {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn namespace() -> Namespace {
    Namespace::parse("shop").unwrap()
}

fn key(name: &str) -> WorkloadKey {
    WorkloadKey { namespace: namespace(), kind: WorkloadKind::Deployment, name: name.to_owned() }
}

fn opaque(name: &str) -> WorkloadKey {
    WorkloadKey { kind: WorkloadKind::Opaque, ..key(name) }
}

fn identity(account: &str) -> Identity {
    Identity { namespace: namespace(), account: account.to_owned() }
}

fn facts(account: &str, text: &str) -> PodFacts {
    PodFacts { labels: labels(text), account: account.to_owned(), ..PodFacts::default() }
}

/// A namespace under construction.
#[derive(Debug, Default, Clone)]
struct Scene {
    snapshot: Snapshot,
    applied: Applied,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self::default();
        scene.snapshot.namespaces.insert(namespace(), NamespaceFacts::default());
        scene
    }

    fn workload(mut self, name: &str, account: &str, selector: &str, template: &str) -> Self {
        let workload =
            Workload { uid: format!("uid-{name}"), selector: labels(selector), template: facts(account, template) };
        self.snapshot.workloads.insert(key(name), workload);
        self
    }

    fn pod(self, name: &str, owner: WorkloadKey, account: &str, text: &str) -> Self {
        self.pod_of(name, owner, facts(account, text))
    }

    fn pod_of(mut self, name: &str, owner: WorkloadKey, facts: PodFacts) -> Self {
        let pod = Pod { uid: format!("uid-{name}"), facts, owner };
        self.snapshot.pods.insert((namespace(), name.to_owned()), pod);
        self
    }

    fn applied(mut self, name: &str, account: &str, selector: &str) -> Self {
        let selector = Selector::new(labels(selector)).unwrap();
        let applied = AppliedWorkload { uid: format!("uid-{name}"), identity: identity(account), selector };
        self.applied.insert(key(name), applied);
        self
    }

    fn project(&self) -> Projection {
        project(&self.snapshot, &self.applied)
    }

    fn of(&self, key: &WorkloadKey) -> Projected {
        self.project().workloads.remove(key).unwrap()
    }

    fn selector(&self, name: &str) -> Result<Labels, NoSelector> {
        self.of(&key(name)).selector.map(|selector| selector.terms().clone())
    }
}

#[test]
fn the_selector_of_the_workload_is_taken_if_it_is_exact() {
    let scene = Scene::new()
        .workload("order", "order", "app=order", "app=order tier=front")
        .workload("cart", "cart", "app=cart", "app=cart tier=front")
        .pod("order-1", key("order"), "order", "app=order tier=front pod-template-hash=1");
    assert_eq!(scene.selector("order").unwrap(), labels("app=order"));
    assert_eq!(scene.of(&key("order")).matched_pods, 1);
    // One without replicas counts too.
    assert_eq!(scene.selector("cart").unwrap(), labels("app=cart"));
}

#[test]
fn labels_are_added_by_rank_until_it_is_exact() {
    let scene = Scene::new()
        .workload("order", "order", "team=a", "team=a app=order app.kubernetes.io/name=order zone=1")
        .workload("cart", "cart", "team=a", "team=a app=cart app.kubernetes.io/name=cart zone=1");
    assert_eq!(scene.selector("order").unwrap(), labels("team=a app.kubernetes.io/name=order"));
}

#[test]
fn three_labels_are_added_and_not_four() {
    let scene = |others: &[&str]| {
        let base = Scene::new().workload("order", "order", "t=a", "t=a a=1 b=1 c=1 d=1");
        others.iter().fold(base, |scene, text| scene.workload(text, "cart", text, text))
    };
    let three = scene(&["t=a a=1 b=1 d=1", "t=a a=1 c=1 d=1", "t=a b=1 c=1 d=1"]);
    assert_eq!(three.selector("order").unwrap(), labels("t=a a=1 b=1 c=1"));
    let four = scene(&["t=a a=1 b=1 c=1", "t=a a=1 b=1 d=1", "t=a a=1 c=1 d=1", "t=a b=1 c=1 d=1"]);
    // No candidate is exact though all labels together would be: whoever stands in the way is named all the same.
    let Err(NoSelector::Ambiguous { with, .. }) = four.selector("order") else { panic!("it has a selector") };
    assert_eq!(with.len(), 4);
}

#[test]
fn generated_labels_are_never_chosen() {
    let generated = "controller-uid=1 job-name=a batch.kubernetes.io/job-name=a pod-template-hash=2 \
        statefulset.kubernetes.io/pod-name=a apps.kubernetes.io/pod-index=0 controller-revision-hash=3";
    let scene = Scene::new().workload("order", "order", "controller-uid=1", generated);
    assert_eq!(scene.selector("order"), Err(NoSelector::NoLabels));
    let scene = Scene::new().workload("order", "order", "controller-uid=1", &format!("{generated} app=order"));
    assert_eq!(scene.selector("order").unwrap(), labels("app=order"));
}

#[test]
fn what_a_live_pod_lacks_is_not_chosen() {
    // The template was edited, and its rollout is under way.
    let scene = Scene::new()
        .workload("order", "order", "app=a", "app=a release=2")
        .workload("cart", "cart", "app=a", "app=a release=9")
        .pod("order-1", key("order"), "order", "app=a release=1");
    let Err(NoSelector::Ambiguous { with, advice }) = scene.selector("order") else { panic!("it has a selector") };
    assert_eq!(with, BTreeSet::from([key("cart")]));
    assert_eq!(advice, ("app.kubernetes.io/instance".to_owned(), "order".to_owned()));
}

#[test]
fn advice_is_a_label_that_can_be_set_and_is_not_there() {
    let long = format!("{}-b", "a".repeat(62));
    let text = format!("app.kubernetes.io/instance={}", "a".repeat(62));
    let scene = Scene::new().workload(&long, "order", "", &text).workload("cart", "cart", "", &text);
    let Err(NoSelector::Ambiguous { advice, .. }) = scene.selector(&long) else { panic!("it has a selector") };
    assert_eq!(advice, ("app.kubernetes.io/name".to_owned(), "a".repeat(62)));
}

#[test]
fn the_applied_selector_stays_while_it_is_exact() {
    let scene = Scene::new().workload("order", "order", "app=order", "app=order tier=front").applied(
        "order",
        "order",
        "tier=front",
    );
    assert_eq!(scene.selector("order").unwrap(), labels("tier=front"));
    let taken = scene.clone().pod("x", opaque("x"), "thief", "tier=front");
    assert_eq!(taken.selector("order").unwrap(), labels("app=order"));
    let mut anew = scene;
    anew.applied.get_mut(&key("order")).unwrap().uid = "another".to_owned();
    assert_eq!(anew.selector("order").unwrap(), labels("app=order"), "one made anew under the name is another");
}

#[test]
fn pods_of_the_same_account_may_share_a_selector() {
    let scene = Scene::new().workload("blue", "order", "app=order", "app=order").workload(
        "green",
        "order",
        "app=order",
        "app=order",
    );
    assert_eq!(scene.selector("blue").unwrap(), labels("app=order"));
    assert_eq!(scene.project().of(&identity("order")).count(), 2);
}

#[test]
fn pods_on_the_network_of_a_node_are_neither_selected_nor_in_the_way() {
    let host = |text| PodFacts { host_network: true, ..facts("agent", text) };
    let scene = Scene::new().workload("order", "order", "app=order", "app=order").pod_of(
        "agent",
        opaque("agent"),
        host("app=order"),
    );
    assert_eq!(scene.selector("order").unwrap(), labels("app=order"));
    assert_eq!(scene.of(&opaque("agent")).selector, Err(NoSelector::HostNetwork));
    assert!(scene.applied("order", "order", "app=order").project().spoofs.is_empty());
}

#[test]
fn a_workload_without_a_template_has_the_labels_its_pods_share() {
    let scene = Scene::new()
        .pod("a", opaque("db"), "db", "app=db index=0")
        .pod("b", opaque("db"), "db", "app=db index=1")
        .pod("c", opaque("web"), "web", "app=web index=0");
    assert_eq!(scene.of(&opaque("db")).selector.unwrap().terms(), &labels("app=db"));
    let mixed = scene.pod("0", opaque("db"), "admin", "app=db");
    let accounts = BTreeSet::from(["admin".to_owned(), "db".to_owned()]);
    assert_eq!(mixed.of(&opaque("db")).selector, Err(NoSelector::Mixed { accounts }));
}

#[test]
fn a_moving_workload_keeps_what_is_applied_until_its_last_old_pod_is_gone() {
    let halfway = Scene::new()
        .workload("order", "new", "app=order", "app=order")
        .applied("order", "old", "app=order")
        .pod("a", key("order"), "old", "app=order")
        .pod("b", key("order"), "new", "app=order");
    let projected = halfway.of(&key("order"));
    assert_eq!(projected.identity, identity("old"));
    assert_eq!(projected.moving, Some(Moving { to: identity("new"), moved: 1, pods: 2 }));
    assert_eq!(projected.selector.unwrap().terms(), &labels("app=order"));
    assert!(halfway.project().spoofs.is_empty(), "its new pods are no spoof");

    let mut done = halfway.clone();
    done.snapshot.pods.remove(&(namespace(), "a".to_owned()));
    let projected = done.of(&key("order"));
    assert_eq!((projected.identity, projected.moving), (identity("new"), None));
    assert!(done.project().spoofs.is_empty(), "a finished move is no spoof of itself");

    // Whoever is neither the old nor the new account is a stranger, whatever owner the pod names.
    let third = halfway.clone().pod("c", key("order"), "thief", "app=order");
    assert!(matches!(third.of(&key("order")).selector, Err(NoSelector::Mixed { .. })));
    let spoof = Spoof { pod: "c".to_owned(), runs_as: identity("thief"), matches: key("order") };
    assert_eq!(third.project().spoofs, BTreeSet::from([spoof]));

    // Back to the old account: nothing is chosen anew while pods of both run.
    let mut back = halfway.clone();
    back.snapshot.workloads.get_mut(&key("order")).unwrap().template.account = "old".to_owned();
    let projected = back.of(&key("order"));
    assert_eq!((projected.identity, projected.moving), (identity("old"), None));
    assert!(matches!(projected.selector, Err(NoSelector::Mixed { .. })));

    // Nothing is applied yet: it is not known who it was.
    let mut unknown = halfway;
    unknown.applied.clear();
    let projected = unknown.of(&key("order"));
    assert_eq!((projected.identity, projected.moving), (identity("new"), None));
    assert!(matches!(projected.selector, Err(NoSelector::Mixed { .. })));
}

#[test]
fn a_pod_without_a_template_cannot_move_anything() {
    let mut scene = Scene::new().pod("a", opaque("db"), "db", "app=db").pod("0", opaque("db"), "thief", "app=db");
    let selector = Selector::new(labels("app=db")).unwrap();
    let applied = AppliedWorkload { uid: String::new(), identity: identity("db"), selector };
    scene.applied.insert(opaque("db"), applied);
    assert_eq!(scene.of(&opaque("db")).moving, None);
    assert_eq!(scene.project().spoofs.len(), 1);
}

#[test]
fn whoever_carries_applied_labels_as_somebody_else_is_named() {
    let scene = Scene::new()
        .workload("order", "order", "app=order", "app=order")
        .applied("order", "order", "app=order")
        .pod("x", opaque("x"), "thief", "app=order more=1")
        .pod("y", opaque("y"), "honest", "app=other");
    let spoof = Spoof { pod: "x".to_owned(), runs_as: identity("thief"), matches: key("order") };
    assert_eq!(scene.project().spoofs, BTreeSet::from([spoof]));
}

#[test]
fn ports_are_those_of_the_template_and_of_the_pods() {
    let port = |number: u16| ContainerPort {
        name: "https".to_owned(),
        number: number.try_into().unwrap(),
        protocol: Protocol::Tcp,
    };
    let mut scene = Scene::new().workload("order", "order", "app=order", "app=order");
    scene.snapshot.workloads.get_mut(&key("order")).unwrap().template.ports.insert(port(8443));
    let old = PodFacts { ports: BTreeSet::from([port(443)]), ..facts("order", "app=order") };
    let scene = scene.pod_of("a", key("order"), old);
    assert_eq!(scene.of(&key("order")).ports, BTreeSet::from([port(443), port(8443)]));
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let keys = prop_oneof![Just("app"), Just("tier"), Just("app.kubernetes.io/instance"), Just("pod-template-hash")];
    prop::collection::btree_map(keys.prop_map(str::to_owned), prop_oneof![Just(""), Just("a"), Just("b")], 0..4)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key, value.to_owned())).collect())
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let account = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let name = || prop_oneof![Just("one"), Just("two"), Just("three")];
    let workload = (name(), account(), any_labels(), any_labels());
    let pod = (name(), account(), any_labels(), any::<bool>(), prop::bool::weighted(0.1));
    let applied = (name(), account(), any_labels(), prop::bool::weighted(0.8));
    (prop::collection::vec(workload, 0..4), prop::collection::vec(pod, 0..6), prop::collection::vec(applied, 0..3))
        .prop_map(|(workloads, pods, applied)| {
            let mut scene = Scene::new();
            for (name, account, selector, more) in workloads {
                let template = selector.clone().into_iter().chain(more).collect();
                let template = PodFacts { labels: template, account: account.to_owned(), ..PodFacts::default() };
                let workload = Workload { uid: format!("uid-{name}"), selector, template };
                scene.snapshot.workloads.insert(key(name), workload);
            }
            for (place, (owner, account, labels, owned, host_network)) in pods.into_iter().enumerate() {
                let owner = if owned { key(owner) } else { opaque(owner) };
                let facts = PodFacts { labels, account: account.to_owned(), host_network, ..PodFacts::default() };
                scene = scene.pod_of(&format!("pod-{place}"), owner, facts);
            }
            for (name, account, labels, same) in applied {
                let Some(selector) = Selector::new(labels) else { continue };
                let uid = if same { format!("uid-{name}") } else { "another".to_owned() };
                scene.applied.insert(key(name), AppliedWorkload { uid, identity: identity(account), selector });
            }
            scene
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(10_000), failure_persistence: None, ..ProptestConfig::default() })]

    /// What is chosen matches every pod of its own and nobody else's, judged pod by pod.
    #[test]
    fn a_selector_is_complete_and_exact(scene in any_scene()) {
        let projection = scene.project();
        let templates = scene.snapshot.workloads.iter().map(|(key, workload)| (key, &workload.template));
        let pods = scene.snapshot.pods.values().map(|pod| (&pod.owner, &pod.facts));
        let all: Vec<_> = templates.chain(pods).filter(|(_, facts)| !facts.host_network).collect();
        for (key, projected) in &projection.workloads {
            let Ok(selector) = &projected.selector else { continue };
            let to = projected.moving.as_ref().map(|moving| &moving.to.account);
            for (owner, facts) in &all {
                let selected = selector.matches(&facts.labels);
                let account = &facts.account;
                if *owner == key {
                    prop_assert!(selected, "{key:?} lacks {facts:?}");
                    prop_assert!(*account == projected.identity.account || Some(account) == to);
                } else if *account != projected.identity.account {
                    prop_assert!(!selected, "{key:?} matches {facts:?}");
                }
            }
        }
    }

    /// A pod is a spoof if an applied selector matches it and it runs as nobody who may have these labels.
    #[test]
    fn spoofs_are_all_and_only_those(scene in any_scene()) {
        let mut expected = BTreeSet::new();
        for (key, applied) in &scene.applied {
            for ((_, name), pod) in &scene.snapshot.pods {
                let template = scene.snapshot.workloads.get(key).filter(|now| now.uid == applied.uid);
                let moved = pod.owner == *key && template.is_some_and(|now| now.template.account == pod.facts.account);
                let ours = pod.facts.account == applied.identity.account;
                if applied.selector.matches(&pod.facts.labels) && !pod.facts.host_network && !ours && !moved {
                    expected.insert((name.clone(), key.clone()));
                }
            }
        }
        let found: BTreeSet<_> =
            scene.project().spoofs.into_iter().map(|spoof| (spoof.pod, spoof.matches)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Nobody outside a namespace changes what its workloads are selected by.
    #[test]
    fn another_namespace_changes_nothing(scene in any_scene(), other in any_scene()) {
        let mut both = scene.clone();
        let there = Namespace::parse("other").unwrap();
        both.snapshot.namespaces.insert(there.clone(), NamespaceFacts::default());
        let moved = |key: &WorkloadKey| WorkloadKey { namespace: there.clone(), ..key.clone() };
        both.snapshot.workloads.extend(other.snapshot.workloads.iter().map(|(key, one)| (moved(key), one.clone())));
        both.snapshot.pods.extend(other.snapshot.pods.iter().map(|((_, name), pod)| {
            ((there.clone(), name.clone()), Pod { owner: moved(&pod.owner), ..pod.clone() })
        }));
        both.applied.extend(other.applied.iter().map(|(key, one)| (moved(key), one.clone())));
        let alone = scene.project();
        prop_assert_eq!(&project_namespace(&both.snapshot, &both.applied, &namespace()), &alone);
        let mut whole = both.project();
        whole.workloads.retain(|key, _| key.namespace == namespace());
        prop_assert_eq!(whole.workloads, alone.workloads);
    }
}

#[test]
fn the_word_of_a_template_counts_before_that_of_its_pods() {
    let scene = Scene::new().workload("order", "order", "app=order", "app=order").pod(
        "a",
        key("order"),
        "intruder",
        "app=order",
    );
    let projected = scene.of(&key("order"));
    assert_eq!(projected.identity, identity("order"));
    assert!(matches!(projected.selector, Err(NoSelector::Mixed { .. })));
}
