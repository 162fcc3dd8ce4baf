//! Reads what we expose as a scraper would.

use std::collections::BTreeMap;

use countersign_core::{
    api::{ConditionType, Finding, Verdict, conditions},
    network::{
        compiled::{Edge, EdgeState},
        consent::{Missing, Pair},
        model::Identity,
        plan::Phase,
        ports::PortSet,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;

/// A strict reader of format 0.0.4: type of each family, value of each sample.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line must end");
        let mut scrape = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram", "untyped"].contains(&kind), "{line}");
                assert!(scrape.types.insert(name.into(), kind.into()).is_none(), "{name} is declared twice");
                current = name.into();
            } else if !line.starts_with("# HELP ") {
                assert!(!line.starts_with('#'), "{line}");
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                assert!(name == current || family == Some(&current), "{line} is outside its family {current}");
                assert!(scrape.samples.insert(series.into(), value.parse().unwrap()).is_none(), "{series} twice");
            }
        }
        scrape
    }

    fn of(metrics: &Metrics) -> Self {
        Self::read(&metrics.text())
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    fn with(&self, part: &str) -> Vec<&str> {
        self.samples.keys().filter(|series| series.contains(part)).map(String::as_str).collect()
    }
}

fn status(findings: &[(ConditionType, Verdict, Reason)]) -> Vec<Condition> {
    let findings: Vec<_> =
        findings.iter().map(|&(kind, verdict, reason)| Finding::new(kind, verdict, reason, "")).collect();
    conditions(&findings, &[], 1, Timestamp::UNIX_EPOCH)
}

fn identity<'a>(name: &'a str, conditions: &'a [Condition], trust_domain: &'a str) -> ObjectSample<'a> {
    ObjectSample {
        kind: Kind::ServiceIdentity,
        namespace: Some("shop"),
        name,
        conditions,
        certificate: Some(CertificateTimes {
            trust_domain,
            not_after: Timestamp::from_second(2_000).unwrap(),
            renew_at: Timestamp::from_second(1_000).unwrap(),
        }),
    }
}

#[test]
fn both_formats_parse_and_closed_counters_start_at_zero() {
    let metrics = Metrics::new();
    assert!(metrics.open_metrics().ends_with("# EOF\n"));
    let scrape = Scrape::of(&metrics);
    for (series, kind) in [
        ("countersign_kubernetes_writes_total{resource=\"secrets\",verb=\"create\",result=\"Refused\"}", "counter"),
        ("controller_runtime_reconcile_total{controller=\"identity\",result=\"requeue_after\"}", "counter"),
        ("controller_runtime_reconcile_panics_total{controller=\"connection\"}", "counter"),
        ("countersign_stale_skips_total", "counter"),
        ("countersign_events_dropped_total", "counter"),
        ("countersign_leader", "gauge"),
    ] {
        assert_eq!(scrape.value(series), Some(0.0), "{series}");
        let family = series.split('{').next().unwrap();
        assert_eq!(scrape.types.get(family).map(String::as_str), Some(kind), "{family}");
    }
    let build = scrape.with("countersign_build_info{");
    assert_eq!(build.len(), 1);
    assert_eq!(scrape.types["countersign_build_info"], "gauge");
}

#[test]
fn what_happens_is_counted_under_its_name() {
    let metrics = Metrics::new();
    metrics.set_started(Timestamp::from_second(42).unwrap());
    metrics.set_leader("lease", true);
    metrics.set_readiness(Check::Crds, true);
    metrics.set_clock_skew(Against::ApiServer, -90);
    metrics.count_reconcile(Controller::TrustDomain, ReconcileResult::Error);
    metrics.count_failure(Controller::Identity, &Failure::new(Class::Denied, Reason::LoginFailed, ""));
    metrics.count_write(Resource::Leases, Verb::Patch, Outcome::Conflict);
    metrics.count_stale_skip();
    metrics.count_dropped_event();
    metrics.count_issue("mesh", Trigger::Initial, Outcome::Success);
    metrics.observe_issue("mesh", Duration::from_millis(20));
    let (engine, operation, took) = (Engine::Pki, Operation::Sign, Duration::from_secs(3));
    metrics.observe_vault_request(VaultRequest { connection: "main", engine, operation, code: Some(200), took });
    metrics.observe_vault_request(VaultRequest { connection: "main", engine, operation, code: None, took });
    metrics.count_login("main", Outcome::Refused);
    metrics.set_vault("main", true, false);

    let scrape = Scrape::of(&metrics);
    for (series, value) in [
        ("process_start_time_seconds", 42.0),
        ("leader_election_master_status{name=\"lease\"}", 1.0),
        ("countersign_leader", 1.0),
        ("countersign_readiness_check{check=\"crds\"}", 1.0),
        ("countersign_clock_skew_seconds{against=\"api_server\"}", -90.0),
        ("controller_runtime_reconcile_total{controller=\"trust_domain\",result=\"error\"}", 1.0),
        ("countersign_failures_total{controller=\"identity\",class=\"Denied\",reason=\"LoginFailed\"}", 1.0),
        ("countersign_kubernetes_writes_total{resource=\"leases\",verb=\"patch\",result=\"Conflict\"}", 1.0),
        ("countersign_stale_skips_total", 1.0),
        ("countersign_events_dropped_total", 1.0),
        ("countersign_issuance_total{trust_domain=\"mesh\",trigger=\"Initial\",result=\"Success\"}", 1.0),
        ("countersign_issuance_duration_seconds_bucket{le=\"0.01\",trust_domain=\"mesh\"}", 0.0),
        ("countersign_issuance_duration_seconds_bucket{le=\"0.025\",trust_domain=\"mesh\"}", 1.0),
        ("countersign_vault_requests_total{connection=\"main\",engine=\"pki\",operation=\"sign\",code=\"200\"}", 1.0),
        ("countersign_vault_requests_total{connection=\"main\",engine=\"pki\",operation=\"sign\",code=\"none\"}", 1.0),
        ("countersign_vault_request_duration_seconds_sum{connection=\"main\",engine=\"pki\",operation=\"sign\"}", 6.0),
        ("countersign_vault_logins_total{connection=\"main\",result=\"Refused\"}", 1.0),
        ("countersign_vault_up{connection=\"main\"}", 1.0),
        ("countersign_vault_sealed{connection=\"main\"}", 0.0),
    ] {
        assert_eq!(scrape.value(series), Some(value), "{series} of {:#?}", scrape.with("countersign"));
    }
}

#[test]
fn a_healthy_object_costs_two_series_and_an_abnormal_condition_one_more() {
    let metrics = Metrics::new();
    let good = status(&[
        (ConditionType::Ready, Verdict::True, Reason::Valid),
        (ConditionType::Accepted, Verdict::True, Reason::Accepted),
    ]);
    metrics.show_object(&identity("orders", &good, "mesh"));
    let scrape = Scrape::of(&metrics);
    assert_eq!(
        scrape.with("orders"),
        [
            "countersign_certificate_not_after_timestamp_seconds{namespace=\"shop\",name=\"orders\",trust_domain=\"mesh\"}",
            "countersign_certificate_renewal_timestamp_seconds{namespace=\"shop\",name=\"orders\",trust_domain=\"mesh\"}",
        ]
    );
    assert_eq!(scrape.with("_objects").len(), 1);

    let bad = status(&[
        (ConditionType::Ready, Verdict::False, Reason::Expired),
        (ConditionType::Stalled, Verdict::True, Reason::RoleRefused),
    ]);
    metrics.show_object(&identity("orders", &bad, "mesh"));
    let scrape = Scrape::of(&metrics);
    for (condition, state) in [("Ready", "False"), ("Stalled", "True")] {
        let series = format!(
            "countersign_object_condition{{kind=\"ServiceIdentity\",namespace=\"shop\",name=\"orders\",condition=\"{condition}\",status=\"{state}\"}}"
        );
        assert_eq!(scrape.value(&series), Some(1.0), "{series}");
    }
    let sum = |ready, reason| {
        scrape.value(&format!("countersign_objects{{kind=\"ServiceIdentity\",ready=\"{ready}\",reason=\"{reason}\"}}"))
    };
    assert_eq!((sum("True", "Valid"), sum("False", "Expired")), (Some(0.0), Some(1.0)));
}

#[test]
fn series_follow_their_object_and_go_with_it() {
    let metrics = Metrics::new();
    let bad = status(&[(ConditionType::Ready, Verdict::False, Reason::Expired)]);
    metrics.show_object(&identity("orders", &bad, "old"));
    metrics.show_object(&identity("orders", &bad, "new"));
    metrics.show_object(&identity("pay", &bad, "new"));
    let scrape = Scrape::of(&metrics);
    assert!(scrape.with("trust_domain=\"old\"").is_empty(), "it moved to another trust domain");
    assert_eq!(
        scrape.value("countersign_objects{kind=\"ServiceIdentity\",ready=\"False\",reason=\"Expired\"}"),
        Some(2.0)
    );

    metrics.forget_object(Kind::ServiceIdentity, Some("shop"), "orders");
    let scrape = Scrape::of(&metrics);
    assert!(scrape.with("orders").is_empty());
    assert_eq!(scrape.with("name=\"pay\"").len(), 3);
    assert_eq!(
        scrape.value("countersign_objects{kind=\"ServiceIdentity\",ready=\"False\",reason=\"Expired\"}"),
        Some(1.0)
    );
}

#[test]
fn connections_and_trust_domains_go_with_all_their_series() {
    let metrics = Metrics::new();
    for name in ["one", "two"] {
        metrics.touch_trust_domain(name);
        metrics.touch_connection(name);
        metrics.set_vault(name, false, false);
        let (engine, operation, took) = (Engine::Auth, Operation::Login, Duration::from_millis(1));
        metrics.observe_vault_request(VaultRequest { connection: name, engine, operation, code: Some(403), took });
    }
    assert!(!Scrape::of(&metrics).with("\"one\"").is_empty());
    metrics.forget_trust_domain("one");
    metrics.forget_connection("one");
    let scrape = Scrape::of(&metrics);
    assert!(scrape.with("\"one\"").is_empty(), "{:?}", scrape.with("\"one\""));
    assert!(scrape.with("connection=\"two\"").len() > 4 && scrape.with("trust_domain=\"two\"").len() > 20);
}

#[test]
fn the_network_is_counted_by_state_and_by_phase() {
    let metrics = Metrics::new();
    let edges = |state: &str| format!("countersign_network_edges{{state=\"{state}\"}}");
    assert_eq!(Scrape::of(&metrics).value(&edges("Pending")), Some(0.0));
    let mut decision = Decision::default();
    let name = |text: &str| countersign_core::network::model::Namespace::parse(text).unwrap();
    let identity = |account: &str| Identity { namespace: name("shop"), account: account.to_owned() };
    let waiting = EdgeState::Pending(Missing::Grant);
    for (server, state) in [("a", EdgeState::Live), ("b", waiting), ("c", EdgeState::PortsDisjoint), ("d", waiting)] {
        let edge = Edge { state, ports: PortSet::default(), unknown_ports: BTreeMap::new() };
        decision.compiled.edges.insert(Pair { client: identity("order"), server: identity(server) }, edge);
    }
    decision.plan.phases = BTreeMap::from([(name("shop"), Phase::Closed), (name("b"), Phase::Closing)]);
    metrics.show_network(&decision, Duration::from_millis(30));
    let scrape = Scrape::of(&metrics);
    let states = ["Live", "Observed", "Pending", "Refused"].map(|state| scrape.value(&edges(state)));
    assert_eq!(states, [Some(1.0), Some(0.0), Some(2.0), Some(1.0)]);
    assert_eq!(scrape.value("countersign_network_namespaces{phase=\"Closing\"}"), Some(1.0));
    assert_eq!(scrape.value("countersign_network_decision_duration_seconds_count"), Some(1.0));
    // What is over is not shown any longer.
    metrics.show_network(&Decision::default(), Duration::ZERO);
    assert_eq!(Scrape::of(&metrics).value(&edges("Pending")), Some(0.0));
}

/// The page names every family that there is, and no other. One without a series is not shown, so each gets one.
#[test]
fn the_reference_is_complete() {
    let metrics = Metrics::new();
    metrics.set_leader("countersign", true);
    metrics.set_readiness(Check::Crds, true);
    metrics.set_clock_skew(Against::ApiServer, 1);
    metrics.count_failure(Controller::Identity, &Failure::new(Class::Bug, Reason::InternalError, ""));
    metrics.count_issue("prod", Trigger::Initial, Outcome::Success);
    metrics.observe_issue("prod", Duration::ZERO);
    let (engine, operation, took) = (Engine::Kv, Operation::ReadValues, Duration::ZERO);
    metrics.observe_vault_request(VaultRequest { connection: "main", engine, operation, code: Some(200), took });
    metrics.count_login("main", Outcome::Success);
    metrics.set_vault("main", true, false);
    let abnormal = status(&[(ConditionType::Ready, Verdict::False, Reason::Issuing)]);
    metrics.show_object(&identity("web", &abnormal, "prod"));
    let page = include_str!("../../../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let told: BTreeMap<&str, &str> = rows.map(|(name, rest)| (name, rest.split(' ').next().unwrap())).collect();
    let text = metrics.open_metrics();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let real: BTreeMap<&str, &str> = families.collect();
    assert_eq!(told, real);
}
