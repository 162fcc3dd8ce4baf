//! May we act? The gates, top to bottom; the first closed one ends the pass.
//!
//! A closed gate never touches what is stored.

use jiff::Timestamp;

use crate::{
    api::Reason,
    fault::{Class, Failure},
    identity::{
        intent::Intent,
        names::{self, Refusal},
        world::{DomainView, ServiceView, TargetView, World},
    },
    value::{domain::Domain, lifetime, x509::Names},
};

/// A closed gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Why, and what kind of trouble it is; decides the conditions.
    pub failure: Failure,
    /// When it may open by itself.
    pub until: Option<Timestamp>,
}

/// What the gates let through: what to ask for, and whom to ask.
#[derive(Debug, Clone)]
pub struct Admitted<'a> {
    /// The domain that signs.
    pub domain: &'a Domain,
    /// The names of the certificate.
    pub names: Names,
    /// Lifetime to ask for, seconds.
    pub ttl: i64,
}

type Gate = fn(&Intent, &World) -> Result<(), Hold>;

/// The gates that need neither the domain nor the time, in order.
const GATES: &[Gate] = &[deletion, suspension, namespace_alive];
/// The gates between the domain and the names, in order.
const REFERENCES: &[Gate] = &[account_exists, services_exist];
/// The gates of the target, in order.
const TARGET: &[Gate] = &[fence_in_force, target_unclaimed, target_usable];

/// Asks every gate that guards looking and planning.
///
/// # Errors
/// The first closed gate.
pub fn check<'a>(intent: &Intent, world: &'a World) -> Result<Admitted<'a>, Hold> {
    pass(GATES, intent, world)?;
    let admitted = admit(intent, world)?;
    pass(TARGET, intent, world)?;
    Ok(admitted)
}

/// Asks the gates that say whether the spec as it stands may be carried out, the target apart.
///
/// # Errors
/// The first closed gate.
pub fn admit<'a>(intent: &Intent, world: &'a World) -> Result<Admitted<'a>, Hold> {
    let domain = domain_ready(intent, world)?;
    pass(REFERENCES, intent, world)?;
    let names = names::wanted(intent, domain, world).map_err(|refusal| name_refused(&refusal))?;
    let ttl = ttl_allowed(intent, domain, world)?;
    Ok(Admitted { domain, names, ttl })
}

fn pass(gates: &[Gate], intent: &Intent, world: &World) -> Result<(), Hold> {
    gates.iter().try_for_each(|gate| gate(intent, world))
}

fn closed(class: Class, reason: Reason, message: impl Into<String>) -> Hold {
    Hold { failure: Failure::new(class, reason, message), until: None }
}

fn deletion(intent: &Intent, _: &World) -> Result<(), Hold> {
    if intent.deleting {
        Err(closed(Class::Waiting, Reason::Deleting, "the identity is being deleted"))
    } else {
        Ok(())
    }
}

fn suspension(intent: &Intent, _: &World) -> Result<(), Hold> {
    if intent.suspended {
        return Err(closed(Class::Waiting, Reason::Suspended, "spec.suspend is true; remove it to go on"));
    }
    Ok(())
}

fn namespace_alive(intent: &Intent, world: &World) -> Result<(), Hold> {
    if world.namespace.terminating {
        let message = format!("namespace {} is terminating", intent.namespace);
        return Err(closed(Class::Waiting, Reason::NamespaceTerminating, message));
    }
    Ok(())
}

fn domain_ready<'a>(intent: &Intent, world: &'a World) -> Result<&'a Domain, Hold> {
    let name = &intent.trust_domain;
    match &world.domain {
        DomainView::Ready(domain) => Ok(domain),
        DomainView::Missing => Err(closed(
            Class::Waiting,
            Reason::TrustDomainNotFound,
            format!("trust domain {name} does not exist; create it or correct spec.trustDomain"),
        )),
        DomainView::NotReady => Err(closed(
            Class::Waiting,
            Reason::TrustDomainNotReady,
            format!("trust domain {name} cannot sign now; see `kubectl describe trustdomain {name}`"),
        )),
    }
}

fn account_exists(intent: &Intent, world: &World) -> Result<(), Hold> {
    if world.account_exists {
        return Ok(());
    }
    let message = format!(
        "serviceaccount {} does not exist in namespace {}; create it",
        intent.service_account, intent.namespace
    );
    Err(closed(Class::Waiting, Reason::ServiceAccountMissing, message))
}

fn services_exist(intent: &Intent, world: &World) -> Result<(), Hold> {
    for service in &intent.services {
        let what = match world.services.get(service) {
            Some(ServiceView::Usable) => continue,
            Some(ServiceView::ExternalName) => "is of type ExternalName",
            Some(ServiceView::Missing) | None => "does not exist",
        };
        let message = format!("service \"{service}\" {what} in namespace {}", intent.namespace);
        return Err(closed(Class::Waiting, Reason::ServiceMissing, message));
    }
    Ok(())
}

fn name_refused(refusal: &Refusal) -> Hold {
    let message = match refusal.reason {
        Reason::ReservedName => format!("\"{}\" is reserved; nobody may ask for it", refusal.name),
        _ => format!("\"{}\" needs an allow rule of the trust domain", refusal.name),
    };
    closed(Class::Invalid, refusal.reason, message)
}

fn ttl_allowed(intent: &Intent, domain: &Domain, world: &World) -> Result<i64, Hold> {
    let most = names::rules(intent, domain, &world.namespace)
        .filter_map(|rule| rule.max_ttl)
        .chain([domain.default_ttl])
        .max();
    let ttl = intent.ttl.unwrap_or(domain.default_ttl);
    match most {
        Some(most) if ttl > most => Err(closed(
            Class::Invalid,
            Reason::TTLNotAllowed,
            format!(
                "ttl {} is above {}, the most this namespace may ask for",
                lifetime::format(ttl),
                lifetime::format(most)
            ),
        )),
        _ => Ok(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
    }
}

fn fence_in_force(_: &Intent, world: &World) -> Result<(), Hold> {
    if world.fenced {
        return Ok(());
    }
    Err(closed(
        Class::Waiting,
        Reason::FenceMissing,
        "the admission policy countersign-operator-fence is not in force; no Secret is touched until it refuses the canary",
    ))
}

fn target_unclaimed(intent: &Intent, world: &World) -> Result<(), Hold> {
    let Some(older) = &world.claimed_by else { return Ok(()) };
    let message = format!("secret \"{}\" is claimed by the older ServiceIdentity {older}", intent.target.name);
    Err(closed(Class::Waiting, Reason::TargetClaimed, message))
}

fn target_usable(intent: &Intent, world: &World) -> Result<(), Hold> {
    let name = &intent.target.name;
    let stored = match &world.target {
        TargetView::Absent => return Ok(()),
        TargetView::Unread(failure) => return Err(Hold { failure: failure.clone(), until: None }),
        TargetView::Foreign => return Err(not_owned(name)),
        TargetView::Present(stored) => stored,
    };
    if stored.owner_uid.as_deref() != Some(intent.uid.as_str()) {
        return Err(not_owned(name));
    }
    if stored.immutable {
        let message = format!("secret \"{name}\" is immutable; delete it or name another");
        return Err(closed(Class::Waiting, Reason::TargetImmutable, message));
    }
    if stored.type_ != "kubernetes.io/tls" {
        let message = format!("secret \"{name}\" has type {}, not kubernetes.io/tls; name another", stored.type_);
        return Err(closed(Class::Waiting, Reason::TargetTypeMismatch, message));
    }
    Ok(())
}

fn not_owned(name: &str) -> Hold {
    let message = format!("secret \"{name}\" is not managed by this object; name another, or delete it");
    closed(Class::Waiting, Reason::TargetNotOwned, message)
}

/// The longest a target may have been read before a signature is bought for it.
pub const TARGET_AGE: i64 = 10;

/// Whether the target was read recently enough to buy a signature whose result must be stored.
pub fn target_is_fresh(world: &World, now: Timestamp) -> bool {
    now.as_second() - world.target_read_at.as_second() <= TARGET_AGE
}
