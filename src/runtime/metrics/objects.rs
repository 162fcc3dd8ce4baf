//! The series of single objects, and their sums by kind.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use countersign_core::api::ConditionType;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{encoding::EncodeLabelSet, metrics::gauge::Gauge, registry::Registry};

use super::{Kind, series::Series};

/// An object as its status shows it.
#[derive(Debug, Clone, Copy)]
pub struct ObjectSample<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for a cluster-scoped kind.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// The conditions of the status that we wrote.
    pub conditions: &'a [Condition],
    /// Of a ServiceIdentity with a stored certificate.
    pub certificate: Option<CertificateTimes<'a>>,
}

/// The two times of a stored certificate.
#[derive(Debug, Clone, Copy)]
pub struct CertificateTimes<'a> {
    /// Name of the trust domain.
    pub trust_domain: &'a str,
    /// When it ends.
    pub not_after: Timestamp,
    /// When it will be renewed.
    pub renew_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SumLabels {
    kind: Kind,
    ready: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    kind: Kind,
    namespace: String,
    name: String,
    condition: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    namespace: String,
    name: String,
    trust_domain: String,
}

pub(super) struct Objects {
    sums: Series<SumLabels, Gauge>,
    conditions: Series<ConditionLabels, Gauge>,
    not_after: Series<CertificateLabels, Gauge>,
    renewal: Series<CertificateLabels, Gauge>,
    /// What each object is shown as, so that the next sample replaces it without a search.
    shown: Mutex<HashMap<Key, Shown>>,
}

#[derive(Debug, PartialEq)]
struct Shown {
    sum: SumLabels,
    conditions: Vec<ConditionLabels>,
    certificate: Option<CertificateLabels>,
}

impl Objects {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            sums: Series::register(registry, "objects", "Objects by kind, readiness and reason", Gauge::default),
            conditions: Series::register(registry, "object_condition", "Abnormal conditions", Gauge::default),
            not_after: Series::register(
                registry,
                "certificate_not_after_timestamp_seconds",
                "When the stored certificate ends",
                Gauge::default,
            ),
            renewal: Series::register(
                registry,
                "certificate_renewal_timestamp_seconds",
                "When the stored certificate will be renewed",
                Gauge::default,
            ),
            shown: Mutex::default(),
        }
    }

    pub(super) fn show(&self, sample: &ObjectSample<'_>) {
        let key = Key::new(sample.kind, sample.namespace, sample.name);
        let next = Shown::of(&key, sample);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // New series first: a scrape in between sees one too many rather than a gap.
        for labels in &next.conditions {
            self.conditions.of(labels).set(1);
        }
        if let (Some(labels), Some(times)) = (&next.certificate, sample.certificate) {
            self.not_after.of(labels).set(times.not_after.as_second());
            self.renewal.of(labels).set(times.renew_at.as_second());
        }
        self.sums.of(&next.sum).inc();
        if let Some(previous) = shown.remove(&key) {
            self.hide(&previous, Some(&next));
        }
        shown.insert(key, next);
    }

    pub(super) fn forget(&self, kind: Kind, namespace: Option<&str>, name: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(previous) = shown.remove(&Key::new(kind, namespace, name)) {
            self.hide(&previous, None);
        }
    }

    /// Removes what `previous` shows and `next` does not.
    fn hide(&self, previous: &Shown, next: Option<&Shown>) {
        self.sums.of(&previous.sum).dec();
        for labels in &previous.conditions {
            if next.is_none_or(|next| !next.conditions.contains(labels)) {
                self.conditions.remove(labels);
            }
        }
        if let Some(labels) = &previous.certificate
            && next.is_none_or(|next| next.certificate.as_ref() != Some(labels))
        {
            self.not_after.remove(labels);
            self.renewal.remove(labels);
        }
    }
}

impl Key {
    fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        Self { kind, namespace: namespace.unwrap_or_default().to_owned(), name: name.to_owned() }
    }
}

impl Shown {
    fn of(key: &Key, sample: &ObjectSample<'_>) -> Self {
        let ready = sample.conditions.iter().find(|condition| condition.type_ == "Ready");
        let (ready, reason) = ready.map_or(("Unknown", "Pending"), |c| (c.status.as_str(), c.reason.as_str()));
        let conditions = sample.conditions.iter().filter(|condition| is_abnormal(condition));
        Self {
            sum: SumLabels { kind: key.kind, ready: ready.to_owned(), reason: reason.to_owned() },
            conditions: conditions
                .map(|condition| ConditionLabels {
                    kind: key.kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    condition: condition.type_.clone(),
                    status: condition.status.clone(),
                })
                .collect(),
            certificate: sample.certificate.map(|times| CertificateLabels {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                trust_domain: times.trust_domain.to_owned(),
            }),
        }
    }
}

fn is_abnormal(condition: &Condition) -> bool {
    let positive = ConditionType::named(&condition.type_).is_some_and(ConditionType::is_positive);
    if positive { condition.status != "True" } else { condition.status == "True" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_abnormal_by_what_the_api_calls_positive() {
        let condition = |type_: &str, status: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: String::new(),
            message: String::new(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        for positive in ["Ready", "Synced", "Compiled", "Applied"] {
            assert!(is_abnormal(&condition(positive, "False")) && !is_abnormal(&condition(positive, "True")));
        }
        assert!(is_abnormal(&condition("Stalled", "True")) && !is_abnormal(&condition("Stalled", "False")));
    }
}
