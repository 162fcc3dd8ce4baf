//! An authority of our own: found in its Secret, or made once and never silently again.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{Authority, AuthorityState, KeySpec, Reason},
    fault::{Class, Failure},
    next::{Next, jittered},
    trust::{
        decide::{after, ended, held, next_boundary},
        intent::Intent,
        rules::secret_name,
        world::{Effect, Outcome, SecretView, SecretsView, Settled, World},
    },
    value::x509::Certificate,
};

/// How often the Secret is looked at without a reason, ±20 % by UID; a read, never a write.
const LOOK: Duration = Duration::from_secs(600);

/// Names the next call for an authority of our own, or settles.
pub(super) fn decide(
    intent: &Intent,
    world: &World,
    key: KeySpec,
    lifetime: Duration,
    now: Timestamp,
) -> Next<Effect, Settled> {
    let secrets = match &world.secrets {
        SecretsView::Read(secrets) => secrets,
        SecretsView::Unread(failure) => return held(intent, world, unread(intent, world, failure), now),
    };
    if let Some(number) = world.found.taken {
        return Next::Do(Effect::ReadAuthority { number, secret: secret_name(&intent.rules.name, number) });
    }
    match found(intent, world, secrets) {
        Err(failure) => held(intent, world, failure, now),
        Ok(Some(authority)) if authority.leaf.not_after < now => held(intent, world, ended(&authority.leaf), now),
        Ok(Some(authority)) => Next::Settle(ready(intent, world, authority, now)),
        Ok(None) => Next::Do(Effect::MakeAuthority {
            number: 1,
            secret: secret_name(&intent.rules.name, 1),
            trust_domain: intent.rules.name.clone(),
            key,
            lifetime: lifetime.as_secs(),
        }),
    }
}

/// The authority to use; `Ok(None)` only if there was never one.
///
/// What the status knows and the Secrets do not have is lost, whatever else they have: a root that
/// appears by itself is trusted by nobody, and would cut off everybody.
fn found<'a>(
    intent: &Intent,
    world: &World,
    secrets: &'a BTreeMap<u32, SecretView>,
) -> Result<Option<&'a Certificate>, Failure> {
    let usable = || secrets.values().rev().filter_map(certificate);
    match (world.memory.active(), secrets.values().next_back()) {
        (Some(known), _) if known.issuer_ref.is_some() => Err(Failure::new(
            Class::Invalid,
            Reason::IssuerNotUsable,
            "the domain is pinned to an issuer of a mount; restore spec.issuer or make a new trust domain",
        )),
        (Some(known), _) => {
            let same = usable().find(|certificate| certificate.leaf.spki.as_str() == known.id);
            same.map(Some).ok_or_else(|| lost(intent, secrets))
        }
        (None, _) if !world.memory.authorities.is_empty() => Err(lost(intent, secrets)),
        (None, None) => Ok(None),
        // Made by a pass whose status was lost, or by another leader: adopted.
        (None, Some(_)) => usable().next().map(Some).ok_or_else(|| lost(intent, secrets)),
    }
}

fn certificate(view: &SecretView) -> Option<&Certificate> {
    match view {
        SecretView::Authority(certificate) => Some(certificate),
        SecretView::Unusable(_) => None,
    }
}

fn lost(intent: &Intent, secrets: &BTreeMap<u32, SecretView>) -> Failure {
    let wrong = secrets.values().find_map(|view| match view {
        SecretView::Unusable(failure) => Some(failure.clone()),
        SecretView::Authority(_) => None,
    });
    wrong.unwrap_or_else(|| {
        let message = format!(
            "the Secret with the domain's authority ({} or a later number) does not exist in the operator's namespace \
             or holds another one; restore it",
            secret_name(&intent.rules.name, 1)
        );
        Failure::new(Class::Invalid, Reason::AuthorityLost, message)
    })
}

/// An outage of the API server loses nothing; a refusal does, until somebody grants the right again.
fn unread(intent: &Intent, world: &World, failure: &Failure) -> Failure {
    if failure.class != Class::Denied || world.memory.authorities.is_empty() {
        return failure.clone();
    }
    let message = format!("the Secret {} may not be read: {}", secret_name(&intent.rules.name, 1), failure.message);
    Failure::new(Class::Denied, Reason::AuthorityLost, message)
}

fn ready(intent: &Intent, world: &World, certificate: &Certificate, now: Timestamp) -> Settled {
    let pem = certificate.pem();
    // What is pinned stays as it was read first: it is what leaves were verified against.
    let authority = world.memory.active().cloned().unwrap_or_else(|| Authority {
        id: certificate.leaf.spki.to_string(),
        state: AuthorityState::Active,
        issuer_ref: None,
        root: pem.clone(),
        certificate: pem,
        not_after: Time(certificate.leaf.not_after),
    });
    let look = after(now, jittered(LOOK, &intent.uid));
    let wake = next_boundary(intent, &certificate.leaf, now).map_or(look, |boundary| boundary.min(look));
    let outcome = Outcome::Ready { authority: Box::new(authority), looked: true };
    Settled { outcome, attempt: None, wake: Some(wake) }
}
