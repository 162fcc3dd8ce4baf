//! What can be measured: one registry, and one method for each thing that happens.
//!
//! Labels are closed enums or object names. Expiries are exported as timestamps, never as time left.
//! Whatever belongs to one object is forgotten with it. Must not know how anything is done; called by
//! whoever does it.

mod labels;
mod network;
mod objects;
mod series;
#[cfg(test)]
mod tests;
pub mod text;

use std::{sync::Arc, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    network::decide::Decision,
};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use self::{labels::Spelt, network::Network, objects::Objects, series::Series};
pub use self::{
    labels::{
        Against, Check, Code, Controller, Engine, Kind, Operation, Outcome, ReconcileResult, Resource, Trigger, Verb,
    },
    objects::{CertificateTimes, ObjectSample},
};
use super::build;

/// The prefix of our own metrics.
const PREFIX: &str = "countersign";

/// The process's metrics; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    leader: Gauge,
    master: Family<NameLabel, Gauge>,
    readiness: Family<CheckLabel, Gauge>,
    clock_skew: Family<AgainstLabel, Gauge>,
    started: Gauge,
    reconciles: Family<ReconcileLabels, Counter>,
    panics: Family<ControllerLabel, Counter>,
    failures: Family<FailureLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    stale_skips: Counter,
    events_dropped: Counter,
    objects: Objects,
    network: Network,
    issues: Series<IssueLabels, Counter>,
    issue_seconds: Series<TrustDomainLabel, Histogram>,
    vault_requests: Series<RequestLabels, Counter>,
    vault_seconds: Series<RequestTimeLabels, Histogram>,
    vault_logins: Series<LoginLabels, Counter>,
    vault_up: Series<ConnectionLabel, Gauge>,
    vault_sealed: Series<ConnectionLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
    rustc: &'static str,
    features: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabel {
    check: Check,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgainstLabel {
    against: Against,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: Controller,
    result: ReconcileResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: Controller,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    controller: Controller,
    class: Spelt<Class>,
    reason: Spelt<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    resource: Resource,
    verb: Verb,
    result: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssueLabels {
    trust_domain: String,
    trigger: Trigger,
    result: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrustDomainLabel {
    trust_domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabel {
    connection: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoginLabels {
    connection: String,
    result: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    connection: String,
    engine: Engine,
    operation: Operation,
    code: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestTimeLabels {
    connection: String,
    engine: Engine,
    operation: Operation,
}

/// One request to Vault that ended.
#[derive(Debug, Clone, Copy)]
pub struct VaultRequest<'a> {
    /// Name of the connection.
    pub connection: &'a str,
    /// The part of Vault.
    pub engine: Engine,
    /// What was asked.
    pub operation: Operation,
    /// The answer's status; `None` without an answer.
    pub code: Option<u16>,
    /// How long it took.
    pub took: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry with every family of ours; counters of closed label sets start at 0, or the first
    /// event would be invisible to `increase`.
    pub fn new() -> Self {
        let inner = Inner::new();
        inner.touch();
        Self(Arc::new(inner))
    }

    /// Notes when the process started.
    pub fn set_started(&self, at: Timestamp) {
        self.0.started.set(at.as_second());
    }

    /// Notes whether this process leads by `lease`.
    pub fn set_leader(&self, lease: &str, leads: bool) {
        self.0.leader.set(i64::from(leads));
        self.0.master.get_or_create_owned(&NameLabel { name: lease.to_owned() }).set(i64::from(leads));
    }

    /// Notes whether a readiness check passes.
    pub fn set_readiness(&self, check: Check, passes: bool) {
        self.0.readiness.get_or_create_owned(&CheckLabel { check }).set(i64::from(passes));
    }

    /// Notes how many seconds another clock is ahead of ours.
    pub fn set_clock_skew(&self, against: Against, seconds: i64) {
        self.0.clock_skew.get_or_create_owned(&AgainstLabel { against }).set(seconds);
    }

    /// Counts a finished reconcile.
    pub fn count_reconcile(&self, controller: Controller, result: ReconcileResult) {
        self.0.reconciles.get_or_create_owned(&ReconcileLabels { controller, result }).inc();
    }

    /// Counts a panic that the fence caught.
    pub fn count_panic(&self, controller: Controller) {
        self.0.panics.get_or_create_owned(&ControllerLabel { controller }).inc();
    }

    /// Counts a failure by class and reason.
    pub fn count_failure(&self, controller: Controller, failure: &Failure) {
        let (class, reason) = (Spelt(failure.class), Spelt(failure.reason));
        self.0.failures.get_or_create_owned(&FailureLabels { controller, class, reason }).inc();
    }

    /// Counts a write to Kubernetes. An empty patch is a read and is not counted.
    pub fn count_write(&self, resource: Resource, verb: Verb, result: Outcome) {
        self.0.writes.get_or_create_owned(&WriteLabels { resource, verb, result }).inc();
    }

    /// Counts a pass that was skipped because the cached object was older than our last write.
    pub fn count_stale_skip(&self) {
        self.0.stale_skips.inc();
    }

    /// Counts an event that was not published.
    pub fn count_dropped_event(&self) {
        self.0.events_dropped.inc();
    }

    /// Makes the counters of a trust domain exist, at 0.
    pub fn touch_trust_domain(&self, trust_domain: &str) {
        for (trigger, result) in pairs(Trigger::ALL, Outcome::ALL) {
            self.0.issues.of(&IssueLabels { trust_domain: trust_domain.to_owned(), trigger, result });
        }
        self.0.issue_seconds.of(&TrustDomainLabel { trust_domain: trust_domain.to_owned() });
    }

    /// Counts an attempt to issue a certificate.
    pub fn count_issue(&self, trust_domain: &str, trigger: Trigger, result: Outcome) {
        self.0.issues.of(&IssueLabels { trust_domain: trust_domain.to_owned(), trigger, result }).inc();
    }

    /// Notes how long it took from the first effect to the stored certificate.
    pub fn observe_issue(&self, trust_domain: &str, took: Duration) {
        let labels = TrustDomainLabel { trust_domain: trust_domain.to_owned() };
        self.0.issue_seconds.of(&labels).observe(took.as_secs_f64());
    }

    /// Removes everything measured about a trust domain that is gone.
    pub fn forget_trust_domain(&self, trust_domain: &str) {
        self.0.issues.forget(|labels| labels.trust_domain == trust_domain);
        self.0.issue_seconds.forget(|labels| labels.trust_domain == trust_domain);
    }

    /// Makes the counters of a connection exist, at 0.
    pub fn touch_connection(&self, connection: &str) {
        for &result in Outcome::ALL {
            self.0.vault_logins.of(&LoginLabels { connection: connection.to_owned(), result });
        }
    }

    /// Counts and times a request to Vault.
    pub fn observe_vault_request(&self, request: VaultRequest<'_>) {
        let VaultRequest { engine, operation, code, .. } = request;
        let connection = request.connection.to_owned();
        let labels = RequestTimeLabels { connection: connection.clone(), engine, operation };
        self.0.vault_seconds.of(&labels).observe(request.took.as_secs_f64());
        self.0.vault_requests.of(&RequestLabels { connection, engine, operation, code: Code(code) }).inc();
    }

    /// Counts a login to Vault.
    pub fn count_login(&self, connection: &str, result: Outcome) {
        self.0.vault_logins.of(&LoginLabels { connection: connection.to_owned(), result }).inc();
    }

    /// Notes whether a connection's server answers, and whether it is sealed; a server that does not
    /// answer is not known to be sealed.
    pub fn set_vault(&self, connection: &str, up: bool, sealed: bool) {
        let labels = ConnectionLabel { connection: connection.to_owned() };
        self.0.vault_up.of(&labels).set(i64::from(up));
        self.0.vault_sealed.of(&labels).set(i64::from(sealed));
    }

    /// Removes everything measured about a connection that is gone.
    pub fn forget_connection(&self, connection: &str) {
        self.0.vault_requests.forget(|labels| labels.connection == connection);
        self.0.vault_seconds.forget(|labels| labels.connection == connection);
        self.0.vault_logins.forget(|labels| labels.connection == connection);
        self.0.vault_up.forget(|labels| labels.connection == connection);
        self.0.vault_sealed.forget(|labels| labels.connection == connection);
    }

    /// Shows an object as its status now is; what was shown of it before is replaced.
    pub fn show_object(&self, sample: &ObjectSample<'_>) {
        self.0.objects.show(sample);
    }

    /// Removes the series of an object that is gone.
    pub fn forget_object(&self, kind: Kind, namespace: Option<&str>, name: &str) {
        self.0.objects.forget(kind, namespace, name);
    }

    /// Shows the network as a pass has found it, after that long.
    pub fn show_network(&self, decision: &Decision, took: Duration) {
        self.0.network.show(decision, took);
    }

    /// Everything, as OpenMetrics.
    pub fn open_metrics(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail; a family of ours that could not be encoded would leave the
        // end mark out, which every scraper refuses.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.0.registry);
        out
    }

    /// Everything, in text format 0.0.4.
    pub fn text(&self) -> String {
        text::from_open_metrics(&self.open_metrics())
    }
}

impl Inner {
    fn new() -> Self {
        let mut registry = Registry::default();
        let reconciles =
            family(&mut registry, "controller_runtime_reconcile", "Finished reconciles by controller and result");
        let panics = family(&mut registry, "controller_runtime_reconcile_panics", "Panics caught in reconciles");
        let master = family(&mut registry, "leader_election_master_status", "1 if this process holds the Lease");
        let started = Gauge::default();
        registry.register("process_start_time_seconds", "When the process started", started.clone());

        let ours = registry.sub_registry_with_prefix(PREFIX);
        let labels = BuildLabels {
            version: build::VERSION,
            revision: build::REVISION,
            rustc: build::RUSTC,
            features: build::FEATURES,
        };
        ours.register("build", "Which build this is", Info::new(labels));
        let leader = Gauge::default();
        ours.register("leader", "1 if this process leads", leader.clone());
        let (stale_skips, events_dropped) = (Counter::default(), Counter::default());
        ours.register("stale_skips", "Passes skipped because the cache was behind our writes", stale_skips.clone());
        ours.register("events_dropped", "Events that were not published", events_dropped.clone());
        Self {
            leader,
            master,
            started,
            reconciles,
            panics,
            stale_skips,
            events_dropped,
            readiness: family(ours, "readiness_check", "1 if the readiness check passes"),
            clock_skew: family(ours, "clock_skew_seconds", "How far another clock is ahead of ours"),
            failures: family(ours, "failures", "Failures by class and reason"),
            writes: family(ours, "kubernetes_writes", "Writes to Kubernetes"),
            objects: Objects::register(ours),
            network: Network::register(ours),
            issues: Series::register(ours, "issuance", "Attempts to issue a certificate", Counter::default),
            issue_seconds: Series::register(
                ours,
                "issuance_duration_seconds",
                "From the first effect to the stored certificate",
                seconds,
            ),
            vault_requests: Series::register(ours, "vault_requests", "Requests to Vault", Counter::default),
            vault_seconds: Series::register(ours, "vault_request_duration_seconds", "How long Vault took", seconds),
            vault_logins: Series::register(ours, "vault_logins", "Logins to Vault", Counter::default),
            vault_up: Series::register(ours, "vault_up", "1 if the connection's server answers", Gauge::default),
            vault_sealed: Series::register(
                ours,
                "vault_sealed",
                "1 if the connection's server is sealed",
                Gauge::default,
            ),
            registry,
        }
    }

    /// `failures` is left out: its closed set has more than a thousand members, of which a handful
    /// ever occur, and no alert counts its first event.
    fn touch(&self) {
        for (controller, result) in pairs(Controller::ALL, ReconcileResult::ALL) {
            self.reconciles.get_or_create_owned(&ReconcileLabels { controller, result });
        }
        for &controller in Controller::ALL {
            self.panics.get_or_create_owned(&ControllerLabel { controller });
        }
        for ((resource, verb), &result) in
            pairs(Resource::ALL, Verb::ALL).flat_map(|pair| Outcome::ALL.iter().map(move |result| (pair, result)))
        {
            self.writes.get_or_create_owned(&WriteLabels { resource, verb, result });
        }
    }
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: Clone + std::hash::Hash + Eq,
    M: Default,
    Family<L, M>: prometheus_client::registry::Metric + Clone,
{
    let family = Family::<L, M>::default();
    registry.register(name, help, family.clone());
    family
}

fn pairs<A: Copy, B: Copy>(left: &'static [A], right: &'static [B]) -> impl Iterator<Item = (A, B)> {
    left.iter().flat_map(move |&a| right.iter().map(move |&b| (a, b)))
}

/// Buckets from 5 ms to 60 s: a signature takes tens of milliseconds, a pass at most a minute.
fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}
