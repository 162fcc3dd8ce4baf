//! An issuer of a mount: chosen and pinned at the first read, looked at again only for a reason.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{Authority, AuthorityState, Reason},
    fault::{Class, Failure},
    next::Next,
    trust::{
        decide::{after, ended, held, is_requested, next_boundary},
        intent::{Intent, Pki},
        world::{
            Complaint, ConnectionView, Effect, IssuerView, MountIssuers, Outcome, PkiIssuer, RoleView, RootsView,
            Settled, World,
        },
    },
    value::x509::{Certificate, Roots},
};

/// Names the next call for an issuer of a mount, or settles.
pub(super) fn decide(intent: &Intent, world: &World, pki: &Pki, now: Timestamp) -> Next<Effect, Settled> {
    match next(intent, world, pki, now) {
        Ok(next) => next,
        Err(failure) => held(intent, world, failure, now),
    }
}

fn next(intent: &Intent, world: &World, pki: &Pki, now: Timestamp) -> Result<Next<Effect, Settled>, Failure> {
    let pinned = pinned(world)?;
    connection_usable(world, pki)?;
    let roots = asked_roots(world)?;
    if let Some(pinned) = &pinned
        && !is_look_due(intent, world)
    {
        return settle(intent, with_roots(pinned.authority, roots)?, &pinned.certificate, false, now);
    }
    if let Some(waiting) = backing_off(intent, world, now) {
        return Ok(Next::Settle(waiting));
    }
    let Some(role) = world.found.role else {
        return Ok(Next::Do(Effect::ReadRole { mount: pki.mount.clone(), role: pki.role.clone() }));
    };
    role_usable(intent, world, pki, role)?;
    let id = match (&pinned, &world.found.issuers) {
        (Some(pinned), _) => pinned.issuer.to_owned(),
        (None, Some(issuers)) => choose(issuers, pki)?,
        (None, None) => return Ok(Next::Do(Effect::ReadIssuers { mount: pki.mount.clone() })),
    };
    let Some(issuer) = &world.found.issuer else {
        return Ok(Next::Do(Effect::ReadIssuer { mount: pki.mount.clone(), issuer: id }));
    };
    let issuer = issuer_usable(intent, world, issuer, pki, &id)?;
    let authority = match &pinned {
        Some(pinned) => still_pinned(pinned, issuer, roots)?,
        None => pin(issuer, roots)?,
    };
    settle(intent, authority, &issuer.certificate, true, now)
}

/// The authority of the status, read.
struct Pinned<'a> {
    authority: &'a Authority,
    issuer: &'a str,
    certificate: Certificate,
}

fn pinned(world: &World) -> Result<Option<Pinned<'_>>, Failure> {
    let unusable = |message: &str| Failure::new(Class::Invalid, Reason::IssuerNotUsable, message);
    let Some(authority) = world.memory.active() else {
        return if world.memory.authorities.is_empty() {
            Ok(None)
        } else {
            Err(unusable("the status has authorities and none that signs; restore it or make a new trust domain"))
        };
    };
    let Some(issuer) = &authority.issuer_ref else {
        let message = "the domain is pinned to an authority of its own; restore spec.issuer or make a new trust domain";
        return Err(unusable(message));
    };
    let certificate = Certificate::parse_pem(&authority.certificate).map_err(|_| {
        unusable("the pinned certificate in the status does not read; restore it or make a new trust domain")
    })?;
    Ok(Some(Pinned { authority, issuer, certificate }))
}

fn connection_usable(world: &World, pki: &Pki) -> Result<(), Failure> {
    let name = &pki.connection;
    match world.connection {
        ConnectionView::Usable => Ok(()),
        ConnectionView::Missing => {
            let message = format!("VaultConnection {name} does not exist; create it or correct spec.issuer.vault");
            Err(Failure::new(Class::Waiting, Reason::ConnectionNotFound, message))
        }
        ConnectionView::NotReady => {
            let message = format!("VaultConnection {name} cannot be used now; see `kubectl describe vconn {name}`");
            Err(Failure::new(Class::Waiting, Reason::ConnectionNotReady, message))
        }
    }
}

fn asked_roots(world: &World) -> Result<Option<&Roots>, Failure> {
    /// The status keeps them for each authority.
    const LONGEST: usize = 64 * 1_024;
    let bad = |what: String| {
        Failure::new(Class::Invalid, Reason::CABundleInvalid, format!("spec.issuer.vault.roots: {what}"))
    };
    match &world.roots {
        RootsView::NotAsked => Ok(None),
        RootsView::Found(roots) if roots.pem().len() > LONGEST => {
            Err(bad("there are more than 64 KiB of them".to_owned()))
        }
        RootsView::Found(roots) => Ok(Some(roots)),
        RootsView::Bad(fault) => Err(bad(format!("{fault}; give PEM certificates of authorities"))),
        RootsView::Unread(failure) => Err(failure.clone()),
        RootsView::Missing => {
            let message = "the object or key that spec.issuer.vault.roots names does not exist in the operator's namespace; create it";
            Err(Failure::new(Class::Waiting, Reason::SourceMissing, message))
        }
    }
}

/// Nothing is asked of a mount without a reason: a changed spec, a person's request, an identity's
/// complaint, or a status that is not good.
fn is_look_due(intent: &Intent, world: &World) -> bool {
    world.memory.generation != Some(intent.generation)
        || is_requested(intent, world)
        || complaint(intent, world).is_some()
        || !world.memory.good
}

/// What signing has shown under this spec.
fn complaint<'a>(intent: &Intent, world: &'a World) -> Option<&'a Complaint> {
    world.complaint.as_ref().filter(|complaint| complaint.generation == intent.generation)
}

/// A complaint that no look has answered yet. One that was answered by a failed look is forgotten at
/// the next: where we may not see what is wrong, only signing shows whether it still is.
fn fresh_complaint<'a>(intent: &Intent, world: &'a World) -> Option<&'a Failure> {
    let answered = |complaint: &Complaint| world.attempt.as_ref().is_some_and(|last| last.at >= complaint.at);
    complaint(intent, world).filter(|complaint| !answered(complaint)).map(|complaint| &complaint.failure)
}

/// The failure of an earlier look at the same spec that still has to wait.
fn backing_off(intent: &Intent, world: &World, now: Timestamp) -> Option<Settled> {
    let last = world.attempt.as_ref().filter(|last| last.generation == intent.generation && last.at <= now)?;
    // What held us before we could ask is over as soon as we are here.
    let asked = !matches!(last.failure.class, Class::Waiting) && last.failure.reason != Reason::TrustDomainConflict;
    let until = after(last.at, last.failure.backoff(last.attempts, &intent.uid));
    let looking = world.found.role.is_some() || is_requested(intent, world) || fresh_complaint(intent, world).is_some();
    (asked && !looking && now < until).then(|| Settled {
        outcome: Outcome::Held(last.failure.clone()),
        attempt: Some(last.clone()),
        wake: Some(until),
    })
}

fn role_usable(intent: &Intent, world: &World, pki: &Pki, role: RoleView) -> Result<(), Failure> {
    let missing = || {
        let message =
            format!("role {} does not exist in mount {}; create it or correct spec.issuer.vault", pki.role, pki.mount);
        Err(Failure::new(Class::Invalid, Reason::RoleNotFound, message))
    };
    match role {
        RoleView::Present => Ok(()),
        RoleView::Missing => missing(),
        RoleView::Hidden => match fresh_complaint(intent, world) {
            Some(failure) if failure.reason == Reason::RoleNotFound => missing(),
            Some(_) | None => Ok(()),
        },
    }
}

/// The default issuer, else the only one.
fn choose(issuers: &MountIssuers, pki: &Pki) -> Result<String, Failure> {
    let only = match issuers.ids.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    issuers.default.as_ref().or(only).cloned().ok_or_else(|| {
        let message = format!("mount {} has no default issuer; set one", pki.mount);
        Failure::new(Class::Invalid, Reason::IssuerNotUsable, message)
    })
}

fn issuer_usable<'a>(
    intent: &Intent,
    world: &World,
    issuer: &'a IssuerView,
    pki: &Pki,
    id: &str,
) -> Result<&'a PkiIssuer, Failure> {
    let unusable = |what: &str| {
        let message = format!("issuer {id} of mount {} {what}; restore it or make a new trust domain", pki.mount);
        Err(Failure::new(Class::Invalid, Reason::IssuerNotUsable, message))
    };
    let issuer = match issuer {
        IssuerView::Gone => return unusable("does not exist"),
        IssuerView::Present(issuer) => issuer,
    };
    let leaf = &issuer.certificate.leaf;
    let signs = leaf.is_ca && leaf.key_usage.is_none_or(|usage| usage.key_cert_sign);
    if !signs || leaf.subject_key_id.is_none() {
        return unusable("is not an authority with a key identifier");
    }
    match (issuer.may_sign, fresh_complaint(intent, world)) {
        (Some(false), _) => unusable("may not sign certificates"),
        (None, Some(failure)) if failure.reason == Reason::IssuerNotUsable => Err(failure.clone()),
        (Some(true) | None, _) => Ok(issuer),
    }
}

/// The same key is the same authority, whatever certificate it has now; the root stays as it was pinned.
fn still_pinned(pinned: &Pinned<'_>, issuer: &PkiIssuer, roots: Option<&Roots>) -> Result<Authority, Failure> {
    let leaf = &issuer.certificate.leaf;
    let known = &pinned.certificate.leaf;
    let same = (&leaf.spki, &leaf.subject_key_id, &leaf.subject_name_der)
        == (&known.spki, &known.subject_key_id, &known.subject_name_der);
    if !same {
        let message =
            format!("issuer {} is not the one that was pinned; restore it or make a new trust domain", pinned.issuer);
        return Err(Failure::new(Class::Invalid, Reason::IssuerNotUsable, message));
    }
    let renewed = Authority {
        certificate: issuer.certificate.pem(),
        not_after: Time(leaf.not_after),
        ..pinned.authority.clone()
    };
    with_roots(&renewed, roots)
}

/// Anchors that the spec names replace pinned ones; a pinned one changes by nothing else.
fn with_roots(authority: &Authority, roots: Option<&Roots>) -> Result<Authority, Failure> {
    let root = roots.map_or_else(|| authority.root.clone(), Roots::pem);
    if root.is_empty() { Err(root_unknown()) } else { Ok(Authority { root, ..authority.clone() }) }
}

fn pin(issuer: &PkiIssuer, roots: Option<&Roots>) -> Result<Authority, Failure> {
    let root = match roots {
        Some(roots) => roots.pem(),
        None => self_signed_end(issuer).ok_or_else(root_unknown)?.pem(),
    };
    Ok(Authority {
        id: issuer.certificate.leaf.spki.to_string(),
        state: AuthorityState::Active,
        issuer_ref: Some(issuer.id.clone()),
        certificate: issuer.certificate.pem(),
        root,
        not_after: Time(issuer.certificate.leaf.not_after),
    })
}

/// Follows the names upward; each certificate is used once, so that a ring ends.
fn self_signed_end(issuer: &PkiIssuer) -> Option<&Certificate> {
    let mut above: Vec<&Certificate> = issuer.chain.iter().collect();
    let mut current = &issuer.certificate;
    while !current.leaf.is_self_issued() {
        let next = above.iter().position(|each| each.leaf.subject_name_der == current.leaf.issuer_name_der)?;
        current = above.swap_remove(next);
    }
    current.leaf.is_ca.then_some(current)
}

fn root_unknown() -> Failure {
    let message = "the issuer's chain has no self-signed end; give the trust anchors in spec.issuer.vault.roots";
    Failure::new(Class::Invalid, Reason::RootUnknown, message)
}

fn settle(
    intent: &Intent,
    authority: Authority,
    certificate: &Certificate,
    looked: bool,
    now: Timestamp,
) -> Result<Next<Effect, Settled>, Failure> {
    if certificate.leaf.not_after < now {
        return Err(ended(&certificate.leaf));
    }
    let wake = next_boundary(intent, &certificate.leaf, now);
    let outcome = Outcome::Ready { authority: Box::new(authority), looked };
    Ok(Next::Settle(Settled { outcome, attempt: None, wake }))
}
