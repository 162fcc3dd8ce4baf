//! What the statuses say of a small town.

use super::*;
use crate::{
    api::AccessStatus,
    network::{
        applied::Standing,
        declared::{Addresses, ApiServer, ObjectKey, OnWouldBreak, Request, Source, Target},
        opinion::surplus::surplus,
        plan::{Inputs, plan},
        preflight::held,
        projection::{Applied, project},
        render::{NetworkPolicies, render},
        tests::town::{Town, identity, namespace, tcp},
    },
};

struct Told {
    town: Town,
    projection: Projection,
    compiled: Compiled,
    standing: Standing,
    surplus: BTreeMap<Namespace, Surplus>,
    plan: Plan,
    failures: BTreeMap<Namespace, Failure>,
}

impl Told {
    fn of(mut town: Town, standing: Standing) -> Self {
        for (there, _) in town.snapshot.namespaces.clone() {
            let pods = town.snapshot.pods.iter().filter(|((here, _), _)| *here == there);
            let accounts = pods.map(|(_, pod)| pod.facts.account.clone()).collect();
            town.snapshot.accounts.insert(there, accounts);
        }
        let projection = project(&town.snapshot, &Applied::new());
        let compiled = town.compile();
        let plan = plan(&Inputs {
            declared: &town.declared,
            snapshot: &town.snapshot,
            projection: &projection,
            compiled: &compiled,
            standing: &standing,
            held: &held(&town.declared, &town.snapshot, &compiled),
            touched: &BTreeMap::new(),
            since: Timestamp::UNIX_EPOCH,
            now: Timestamp::from_second(1_000).unwrap(),
        });
        let surplus = surplus(&town.declared, &town.snapshot, &projection, &compiled, &standing.others);
        Self { town, projection, compiled, standing, surplus, plan, failures: BTreeMap::new() }
    }

    fn new(town: Town) -> Self {
        Self::of(town, Standing::default())
    }

    /// With everything written that was compiled.
    fn settled(town: Town) -> Self {
        let projection = project(&town.snapshot, &Applied::new());
        let objects: Vec<_> = town
            .compile()
            .policies
            .values()
            .map(|policy| {
                let bearer = match &policy.role {
                    Role::Deny => None,
                    Role::Workload { workload, .. } => Some(crate::network::render::Bearer {
                        uid: town.snapshot.workloads[workload].uid.clone(),
                        account: projection.workloads[workload].identity.account.clone(),
                    }),
                };
                render::<NetworkPolicies>(policy, &format!("uid-{}", policy.namespace), bearer.as_ref())
            })
            .collect();
        Self::of(town, Standing::read(&objects))
    }

    fn world(&self) -> World<'_> {
        World {
            declared: &self.town.declared,
            snapshot: &self.town.snapshot,
            projection: &self.projection,
            compiled: &self.compiled,
            standing: &self.standing,
            surplus: &self.surplus,
            plan: &self.plan,
            disagreement: None,
            failures: &self.failures,
        }
    }

    fn segment(&self, name: &str) -> SegmentStatus {
        let segment = &self.town.declared.segments[name];
        super::segment(segment, 1, &self.world(), &SegmentStatus::default(), Timestamp::UNIX_EPOCH)
    }

    fn request(&self) -> AccessStatus {
        let request: &Request = self.town.declared.requests.values().next().unwrap();
        access::request(request, 1, &self.world(), &AccessStatus::default(), Timestamp::UNIX_EPOCH)
    }

    fn grant(&self) -> AccessStatus {
        let grant = self.town.declared.grants.values().next().unwrap();
        access::grant(grant, 1, &self.world(), &AccessStatus::default(), Timestamp::UNIX_EPOCH)
    }
}

/// `Type=Status/Reason` of each condition.
fn said(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|one| format!("{}={}/{}", one.type_, one.status, one.reason)).collect()
}

fn town() -> Town {
    Town::default().with("a", &["x"]).with("b", &["x"])
}

fn granted(town: Town) -> Town {
    town.grant("b/x", &[Source::Identity(identity("a/x"))], &[tcp(80)])
}

fn both(town: Town) -> Town {
    granted(town).request("a/x", "b/x", &[tcp(80)])
}

fn closed(town: Town) -> Town {
    town.segment("a", |_| {}).segment("b", |_| {})
}

#[test]
fn a_segment_says_how_far_it_is() {
    let observing = both(town()).segment("a", |segment| segment.mode = Mode::Observe);
    let status = Told::new(observing).segment("a");
    assert_eq!(
        said(&status.conditions),
        ["Ready=True/Observing", "Compiled=True/Compiled", "Applied=False/Observing", "Enforced=False/Observing"]
    );
    assert_eq!(status.namespaces[0].phase, NamespacePhase::Open);

    let status = Told::new(closed(both(town()))).segment("b");
    assert_eq!(
        said(&status.conditions),
        [
            "Ready=False/RollingOut",
            "Compiled=True/Compiled",
            "Applied=False/RollingOut",
            "Enforced=Unknown/Pending",
            "Reconciling=True/RollingOut",
        ]
    );
    assert_eq!((status.namespaces[0].phase, status.edges.unwrap().live), (NamespacePhase::Closing, 1));

    let status = Told::settled(closed(both(town()))).segment("b");
    assert_eq!(
        said(&status.conditions),
        ["Ready=True/Applied", "Compiled=True/Compiled", "Applied=True/Applied", "Enforced=Unknown/Pending"]
    );
    assert_eq!(status.namespaces[0].phase, NamespacePhase::Closed);
}

#[test]
fn what_would_break_holds_and_is_told() {
    let told = Told::new(closed(granted(town())));
    let status = told.segment("b");
    assert_eq!(
        said(&status.conditions),
        [
            "Ready=False/Held",
            "Compiled=True/Compiled",
            "Applied=False/Held",
            "Enforced=Unknown/Pending",
            "WouldBreak=True/Held",
        ]
    );
    assert_eq!((status.would_break.len(), status.would_break_total), (1, Some(1)));
    assert_eq!(status.would_break[0].missing, [MissingHalf::Request]);
    assert!(status.conditions[0].message.contains("a/x to b/x"), "{}", status.conditions[0].message);
    assert_eq!(said(&told.grant().conditions), ["Ready=False/RequestMissing", "Accepted=True/Accepted"]);
}

#[test]
fn nobody_who_asks_for_the_kubernetes_api_is_cut_from_it_unseen() {
    let asks = |needs: ApiServer, action: OnWouldBreak| {
        closed(both(town())).request_of("b/x", Target::ApiServer).segment("b", |segment| {
            (segment.exceptions.api_server, segment.pace.on_would_break) = (needs, action);
        })
    };
    let told = |needs, action| said(&Told::new(asks(needs, action)).segment("b").conditions);
    let held = told(ApiServer::Never, OnWouldBreak::Hold);
    assert!(held.contains(&"Applied=False/Held".to_owned()), "{held:?}");
    assert!(held.contains(&"WouldBreak=True/Held".to_owned()), "{held:?}");
    let proceeds = told(ApiServer::Never, OnWouldBreak::Proceed);
    assert!(proceeds.contains(&"Applied=False/RollingOut".to_owned()), "{proceeds:?}");
    assert!(proceeds.contains(&"WouldBreak=True/Held".to_owned()), "{proceeds:?}");
    let open = told(ApiServer::OnRequest, OnWouldBreak::Hold);
    assert!(!open.contains(&"WouldBreak=True/Held".to_owned()), "{open:?}");
    let message = &Told::new(asks(ApiServer::Never, OnWouldBreak::Hold)).segment("b").conditions[0].message;
    assert!(message.contains("request b/") && message.contains("Kubernetes API"), "{message}");
}

#[test]
fn the_troubles_of_a_segment_have_a_name() {
    let younger = closed(both(town())).segment("late", |segment| {
        segment.created = Timestamp::from_second(60).unwrap();
        segment.namespaces = crate::network::declared::Namespaces::Names([namespace("a")].into());
    });
    assert!(said(&Told::new(younger).segment("late").conditions).contains(&"Conflict=True/SegmentConflict".to_owned()));

    let missing = town().segment("nowhere", |_| {});
    let conditions = said(&Told::new(missing).segment("nowhere").conditions);
    assert!(conditions.contains(&"Unresolved=True/NamespaceMissing".to_owned()), "{conditions:?}");

    let system = town().with("kube-system", &["x"]).segment("kube-system", |_| {});
    let conditions = said(&Told::new(system).segment("kube-system").conditions);
    assert!(conditions.contains(&"Unresolved=True/NamespaceProtected".to_owned()), "{conditions:?}");

    let mut foreign = Standing::default();
    foreign.foreign.entry(namespace("b")).or_default().extend(["countersign-deny".to_owned(), "legacy".to_owned()]);
    let status = Told::of(closed(both(town())), foreign).segment("b");
    assert!(said(&status.conditions).contains(&"Applied=False/NameCollision".to_owned()));
    assert_eq!(status.foreign_policies, ["b/countersign-deny", "b/legacy"]);

    let mut told = Told::new(closed(both(town())));
    let failure = Failure::new(Class::Denied, Reason::PermissionMissing, "writing it: the operator lacks the right");
    told.failures.insert(namespace("b"), failure);
    let conditions = said(&told.segment("b").conditions);
    assert!(conditions.contains(&"Applied=False/PermissionMissing".to_owned()), "{conditions:?}");
    assert!(conditions.contains(&"Stalled=True/PermissionMissing".to_owned()), "{conditions:?}");
}

/// A policy of somebody else in `b`, for every pod there.
fn foreign(spec: &serde_json::Value) -> Standing {
    let object = serde_json::json!({"metadata": {"namespace": "b", "name": "legacy"}, "spec": spec});
    Standing::read(&[serde_json::from_value(object).unwrap()])
}

#[test]
fn a_foreign_policy_that_opens_more_than_was_declared_is_named() {
    use serde_json::json;
    let widens = |spec: serde_json::Value| {
        let status = Told::of(closed(both(town())), foreign(&spec)).segment("b");
        status.conditions.into_iter().find(|one| one.type_ == "ForeignPolicyWidens").map(|one| one.message)
    };
    let all = widens(json!({"podSelector": {}, "ingress": [{}]})).unwrap();
    assert!(all.contains("b/legacy") && all.contains(" reach "), "{all}");
    let port = widens(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 9999}]}]})).unwrap();
    assert!(port.contains("port 9999"), "{port}");
    let out = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    assert!(widens(out).is_some());
    // Closing more opens nothing, and what was declared anyway is no surplus.
    assert_eq!(widens(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})), None);
    let from = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a"}},
        "podSelector": {"matchLabels": {"app": "x"}},
    });
    let edge = json!({
        "podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [from], "ports": [{"port": 80, "protocol": "TCP"}]}],
    });
    assert_eq!(widens(edge), None);
    // A namespace that is not closed has no wall to open.
    let open = Told::of(both(town()), foreign(&json!({"podSelector": {}, "ingress": [{}]})));
    assert!(open.surplus.is_empty());
}

#[test]
fn grants_and_requests_say_where_their_edges_stand() {
    assert_eq!(said(&Told::new(both(town())).request().conditions)[0], "Ready=True/NotSegmented");
    let told = Told::settled(closed(both(town())));
    let request = told.request();
    assert_eq!(said(&request.conditions), ["Ready=True/Live", "Accepted=True/Accepted"]);
    assert_eq!(request.edges[0].ports, ["TCP 80"]);
    assert_eq!(request.workloads[0].selector.as_deref(), Some("app=x"));

    let disjoint = closed(granted(town()).request("a/x", "b/x", &[tcp(81)]));
    let request = Told::new(disjoint).request();
    assert_eq!(said(&request.conditions)[0], "Ready=False/PortsDisjoint");
    assert_eq!(request.counts.unwrap().refused, 1);

    let nobody = closed(town()).request("a/nobody", "b/x", &[tcp(80)]);
    let conditions = said(&Told::new(nobody).request().conditions);
    assert!(conditions.contains(&"Unresolved=True/ServiceAccountMissing".to_owned()), "{conditions:?}");

    let mut twin = closed(both(town()));
    let mut pod = twin.snapshot.pods[&(namespace("a"), "x-1".to_owned())].clone();
    (pod.facts.account, pod.owner) = ("other".to_owned(), crate::network::tests::town::workload("a", "other"));
    twin.snapshot.pods.insert((namespace("a"), "other-1".to_owned()), pod);
    let request = Told::new(twin).request();
    let conditions = said(&request.conditions);
    assert_eq!(conditions[0], "Ready=False/SelectorAmbiguous");
    assert!(conditions.contains(&"SelectorAmbiguous=True/SelectorAmbiguous".to_owned()), "{conditions:?}");
}

#[test]
fn a_place_outside_must_be_outside() {
    let mut town = town().external("a", "office", &[Addresses::Block("10.0.0.0/24".parse().unwrap())], &[tcp(443)]);
    let key = ObjectKey { namespace: namespace("a"), name: "office".to_owned() };
    let of = |town: &Town| {
        let told = Told::new(town.clone());
        said(&access::external(&town.declared.externals[&key], 1, &told.world(), &[], Timestamp::UNIX_EPOCH).conditions)
    };
    assert_eq!(of(&town), ["Ready=True/Valid", "Accepted=True/Accepted"]);
    town.snapshot.cluster_ranges.insert("10.0.0.0/8".parse().unwrap());
    assert_eq!(of(&town)[0], "Ready=False/OverlapsCluster");
}

#[test]
fn the_two_readings_differ_is_said_first() {
    let told = Told::new(closed(both(town())));
    let found = Disagreement {
        from: "a/x".to_owned(),
        to: "b/x".to_owned(),
        port: 81,
        flow: crate::network::model::Flow::Ingress,
        declared: false,
    };
    let world = World { disagreement: Some(&found), ..told.world() };
    let segment = &told.town.declared.segments["b"];
    let status = super::segment(segment, 1, &world, &SegmentStatus::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(said(&status.conditions)[..2], ["Ready=False/EvaluatorDisagrees", "Compiled=False/EvaluatorDisagrees"]);
}

#[test]
fn that_the_last_edge_is_gone_is_told_only_of_what_stays_closed() {
    let status = |phase: NamespacePhase, live: i64| SegmentStatus {
        namespaces: vec![SegmentNamespace { name: "shop".to_owned(), phase }],
        edges: Some(EdgeCounts { live, ..EdgeCounts::default() }),
        ..SegmentStatus::default()
    };
    let closed = |live| status(NamespacePhase::Closed, live);
    assert!(keeps_deny(&closed(2), &closed(0)));
    assert!(!keeps_deny(&closed(2), &closed(1)));
    assert!(!keeps_deny(&closed(0), &closed(0)));
    assert!(!keeps_deny(&closed(2), &status(NamespacePhase::Opening, 0)));
    assert!(!keeps_deny(&status(NamespacePhase::Closing, 2), &closed(0)));
    let elsewhere = SegmentStatus {
        namespaces: vec![SegmentNamespace { name: "payments".to_owned(), phase: NamespacePhase::Closed }],
        ..closed(0)
    };
    assert!(!keeps_deny(&closed(2), &elsewhere));
}
