//! One line for each object of ours, the worst first.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use serde::{Serialize, Serializer};

use crate::{
    api::{AuthorityState, ConditionType, SecretBinding, ServiceIdentity, TrustDomain, VaultConnection, Verdict},
    explain::said::Said,
};

/// A kind of ours; causes come before what depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// A server and a login.
    VaultConnection,
    /// Who signs.
    TrustDomain,
    /// A certificate.
    ServiceIdentity,
    /// Values of a server.
    SecretBinding,
}

impl Kind {
    /// As `kubectl` takes it, in short.
    pub fn short(self) -> &'static str {
        match self {
            Self::VaultConnection => "vconn",
            Self::TrustDomain => "td",
            Self::ServiceIdentity => "sid",
            Self::SecretBinding => "sbind",
        }
    }
}

/// How urgently a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Urgency {
    /// Not ready, and a person must act.
    Stalled,
    /// Not ready.
    NotReady,
    /// Nobody knows.
    Unknown,
    /// Ready, and not for long, or not as it should be.
    Troubled,
    /// Ready.
    Fine,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; absent for cluster-scoped kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    #[serde(serialize_with = "word")]
    pub ready: Verdict,
    /// Why, in one word.
    pub reason: String,
    /// How urgent it is.
    pub urgency: Urgency,
    /// The end of the stored certificate, or of the authority that signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What it waits for or lacks; absent when nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// How many objects there are, and how they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All.
    pub total: usize,
    /// Those that are ready.
    pub ready: usize,
    /// Those that are not.
    pub not_ready: usize,
    /// Those of which nobody knows.
    pub unknown: usize,
    /// The next end of a certificate or authority that has not ended yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_expiry: Option<Timestamp>,
}

/// The line of a connection.
pub fn connection(object: &VaultConnection, now: Timestamp) -> Row {
    let status = object.status.clone().unwrap_or_default();
    Facts {
        kind: Kind::VaultConnection,
        meta: &object.metadata,
        observed: status.observed_generation,
        conditions: &status.conditions,
        expires: None,
    }
    .row(now)
}

/// The line of a trust domain.
pub fn domain(object: &TrustDomain, now: Timestamp) -> Row {
    let status = object.status.clone().unwrap_or_default();
    let active = status.authorities.iter().find(|authority| authority.state == AuthorityState::Active);
    Facts {
        kind: Kind::TrustDomain,
        meta: &object.metadata,
        observed: status.observed_generation,
        conditions: &status.conditions,
        expires: active.map(|authority| &authority.not_after),
    }
    .row(now)
}

/// The line of an identity.
pub fn identity(object: &ServiceIdentity, now: Timestamp) -> Row {
    let status = object.status.clone().unwrap_or_default();
    Facts {
        kind: Kind::ServiceIdentity,
        meta: &object.metadata,
        observed: status.observed_generation,
        conditions: &status.conditions,
        expires: status.not_after.as_ref(),
    }
    .row(now)
}

/// The line of a binding.
pub fn binding(object: &SecretBinding, now: Timestamp) -> Row {
    let status = object.status.clone().unwrap_or_default();
    Facts {
        kind: Kind::SecretBinding,
        meta: &object.metadata,
        observed: status.observed_generation,
        conditions: &status.conditions,
        expires: None,
    }
    .row(now)
}

/// The line of an object that this version cannot read.
pub fn unreadable(kind: Kind, meta: &ObjectMeta) -> Row {
    Row {
        kind,
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
        ready: Verdict::Unknown,
        reason: "Unreadable".to_owned(),
        urgency: Urgency::Unknown,
        expires: None,
        waits_for: Some("a version of countersign that can read it".to_owned()),
    }
}

/// Puts the worst first; among equals what ends first, then causes, then by name.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
}

fn key(row: &Row) -> (Urgency, bool, Option<Timestamp>, Kind, Option<&str>, &str) {
    (row.urgency, row.expires.is_none(), row.expires, row.kind, row.namespace.as_deref(), &row.name)
}

/// Counts the lines.
pub fn summary(rows: &[Row], now: Timestamp) -> Summary {
    let count = |ready| rows.iter().filter(|row| row.ready == ready).count();
    Summary {
        total: rows.len(),
        ready: count(Verdict::True),
        not_ready: count(Verdict::False),
        unknown: count(Verdict::Unknown),
        next_expiry: rows.iter().filter_map(|row| row.expires).filter(|end| *end > now).min(),
    }
}

struct Facts<'a> {
    kind: Kind,
    meta: &'a ObjectMeta,
    observed: Option<i64>,
    conditions: &'a [Condition],
    expires: Option<&'a Time>,
}

impl Facts<'_> {
    fn row(self, now: Timestamp) -> Row {
        let said = Said::new(self.conditions, self.observed, self.meta.generation);
        let expires = self.expires.map(|end| end.0);
        let mut ready = said.of(ConditionType::Ready).verdict;
        // As it was written, also where a newer version wrote a word that is unknown here.
        let written = self.conditions.iter().find(|condition| condition.type_ == "Ready");
        let mut reason = written.map_or_else(|| "Pending".to_owned(), |condition| condition.reason.clone());
        // A status that nobody keeps up to date goes on saying True.
        if ready == Verdict::True && expires.is_some_and(|end| end <= now) {
            (ready, reason) = (Verdict::False, "Expired".to_owned());
        }
        let waits_for = waits_for(said, ready, self.meta.generation);
        Row {
            kind: self.kind,
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone().unwrap_or_default(),
            ready,
            reason,
            urgency: urgency(said, ready, waits_for.is_some()),
            expires,
            waits_for,
        }
    }
}

fn waits_for(said: Said<'_>, ready: Verdict, generation: Option<i64>) -> Option<String> {
    use ConditionType::{AuthorityExpiring, ClockSkew, ExpiringSoon, RenewalOverdue, Throttled, TokenExpiring};
    if !said.current {
        let generation = generation.unwrap_or_default();
        return Some(format!("the operator, which has not looked at generation {generation} yet"));
    }
    let ageing = [RenewalOverdue, ExpiringSoon, AuthorityExpiring, TokenExpiring, Throttled, ClockSkew];
    let trouble = said.trouble().or_else(|| ageing.into_iter().find_map(|kind| said.bad(kind)));
    let unready = || Some(said.of(ConditionType::Ready)).filter(|_| ready != Verdict::True);
    trouble.or_else(unready).map(|finding| finding.message)
}

fn urgency(said: Said<'_>, ready: Verdict, troubled: bool) -> Urgency {
    match ready {
        Verdict::False if said.holds(ConditionType::Stalled) => Urgency::Stalled,
        Verdict::False => Urgency::NotReady,
        Verdict::Unknown => Urgency::Unknown,
        Verdict::True if troubled => Urgency::Troubled,
        Verdict::True => Urgency::Fine,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
fn word<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{verdict:?}"))
}
