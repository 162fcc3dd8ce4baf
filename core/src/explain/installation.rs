//! Whether an installation is as `helm install` should have left it.

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use serde::Serialize;

use crate::{
    api::{ConditionType, TrustDomain, VaultConnection, all_crds, serves},
    explain::{
        Look, State, Unseen,
        guard::{Gap, Guard, gap},
        said::Said,
    },
    rights::{DELETION_GUARD, OPERATOR_FENCE},
};

/// How long a leader counts as alive after its last renewal, where the Lease does not say.
const LEASE_SECONDS: i32 = 15;

/// What was seen of an installation.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The CRDs of [`definitions`], in that order.
    pub definitions: Vec<Look<CustomResourceDefinition>>,
    /// Name of the leader Lease.
    pub lease_name: String,
    /// The leader Lease.
    pub lease: Look<Lease>,
    /// Whether the Lease was renewed since it was first looked at: then its leader lives, whatever the clocks say.
    pub renewed: bool,
    /// The policy that limits the operator.
    pub fence: Guard,
    /// The policy that guards our CRDs.
    pub deletion: Guard,
    /// Every connection.
    pub connections: Result<Vec<VaultConnection>, Unseen>,
    /// Every trust domain.
    pub domains: Result<Vec<TrustDomain>, Unseen>,
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked, as `Kind/name`.
    pub object: String,
    /// Whether it is as it should be.
    pub state: State,
    /// Whether an unknown state is as bad as a failed one.
    pub needed: bool,
    /// What is so.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<&'static str>,
    /// The right that the caller would need to see more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_right: Option<String>,
}

/// Names of the CRDs this binary works with.
pub fn definitions() -> Vec<String> {
    all_crds().into_iter().filter_map(|crd| crd.metadata.name).collect()
}

/// Every check, in the order in which things depend on each other.
pub fn checks(seen: &Seen, now: Timestamp) -> Vec<Check> {
    let mut checks: Vec<Check> =
        all_crds().iter().zip(&seen.definitions).map(|(ours, look)| definition(ours, look)).collect();
    checks.push(guarded(OPERATOR_FENCE, &seen.fence, true));
    checks.push(guarded(DELETION_GUARD, &seen.deletion, false));
    checks.push(leader(seen, now));
    checks.extend(reported("VaultConnection", &seen.connections, |object| Report {
        meta: &object.metadata,
        observed: object.status.as_ref().and_then(|status| status.observed_generation),
        conditions: object.status.as_ref().map(|status| &*status.conditions).unwrap_or_default(),
    }));
    checks.extend(reported("TrustDomain", &seen.domains, |object| Report {
        meta: &object.metadata,
        observed: object.status.as_ref().and_then(|status| status.observed_generation),
        conditions: object.status.as_ref().map(|status| &*status.conditions).unwrap_or_default(),
    }));
    checks
}

/// Whether the installation is as it should be.
pub fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| match check.state {
        State::Ok => true,
        State::Unknown => !check.needed,
        State::Failed => false,
    })
}

impl Check {
    fn new(object: String, state: State, message: impl Into<String>) -> Self {
        Self { object, state, needed: true, message: message.into(), next: None, missing_right: None }
    }

    fn failed(object: String, message: impl Into<String>, next: &'static str) -> Self {
        Self { next: Some(next), ..Self::new(object, State::Failed, message) }
    }

    fn hidden(object: String, why: &Unseen) -> Self {
        let missing_right = why.right().map(ToString::to_string);
        Self { missing_right, ..Self::new(object, State::Unknown, why.to_string()) }
    }
}

/// As the operator judges it at its start: by the fields it can hold, whoever wrote it.
fn definition(ours: &CustomResourceDefinition, look: &Look<CustomResourceDefinition>) -> Check {
    const RENEW: &str = "`helm upgrade`, or apply the output of `countersign crds`";
    let object = format!("CustomResourceDefinition/{}", ours.metadata.name.as_deref().unwrap_or_default());
    let crd = match look {
        Look::Found(crd) => crd,
        Look::Absent => return Check::failed(object, "it does not exist", RENEW),
        Look::Hidden(why) => return Check::hidden(object, why),
    };
    let established = crd
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|one| one.type_ == "Established" && one.status == "True");
    if !serves(crd, ours) {
        Check::failed(object, "it lacks fields of this version of countersign", RENEW)
    } else if !established {
        Check::failed(object, "the API server does not serve it yet", "wait a moment, then describe it")
    } else {
        Check::new(object, State::Ok, "served, with every field of this version")
    }
}

fn guarded(name: &str, guard: &Guard, needed: bool) -> Check {
    let object = format!("ValidatingAdmissionPolicy/{name}");
    let check = match gap(guard) {
        None => Check::new(object, State::Ok, "it is there, bound, and denies"),
        Some(Gap::Open(what)) => Check::failed(object, what, "`helm upgrade` with admissionPolicies at `Deny`"),
        Some(Gap::Hidden(why)) => Check::hidden(object, why),
    };
    Check { needed, ..check }
}

fn leader(seen: &Seen, now: Timestamp) -> Check {
    const LOOK: &str = "read the log of the operator's pods";
    let object = format!("Lease/{}", seen.lease_name);
    let spec = match &seen.lease {
        Look::Found(lease) => lease.spec.clone().unwrap_or_default(),
        Look::Absent => return Check::failed(object, "it does not exist: no operator has ever led", LOOK),
        Look::Hidden(why) => return Check::hidden(object, why),
    };
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else {
        return Check::failed(object, "nobody holds it", LOOK);
    };
    let Some(renewed) = spec.renew_time.map(|time| time.0) else {
        return Check::failed(object, format!("{holder} holds it and never renewed it"), LOOK);
    };
    let age = now.as_second() - renewed.as_second();
    let life = i64::from(spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS));
    if seen.renewed || age <= life {
        Check::new(object, State::Ok, format!("{holder} leads and renews it"))
    } else {
        Check::failed(object, format!("{holder} holds it and has not renewed it for {age} s"), LOOK)
    }
}

/// The part of an object that says whether the operator has looked at it.
struct Report<'a> {
    meta: &'a ObjectMeta,
    observed: Option<i64>,
    conditions: &'a [Condition],
}

/// Whether the operator has looked at every object; what it found is the business of `status`.
fn reported<K>(kind: &str, objects: &Result<Vec<K>, Unseen>, report: fn(&K) -> Report<'_>) -> Vec<Check> {
    let objects = match objects {
        Ok(objects) if objects.is_empty() => return vec![Check::new(format!("{kind}/-"), State::Ok, "there is none")],
        Ok(objects) => objects,
        Err(why) => return vec![Check::hidden(format!("{kind}/-"), why)],
    };
    let check = |object: &K| {
        let Report { meta, observed, conditions } = report(object);
        let name = format!("{kind}/{}", meta.name.clone().unwrap_or_default());
        let said = Said::new(conditions, observed, meta.generation);
        if !said.current {
            let message = "the operator has not looked at its spec yet";
            return Check::failed(name, message, "read the log of the operator that leads");
        }
        let ready = said.of(ConditionType::Ready);
        Check::new(name, State::Ok, format!("reported on: Ready={:?} ({:?})", ready.verdict, ready.reason))
    };
    objects.iter().map(check).collect()
}
