//! The links of a `TrustDomain`, and of the connection under it.

use jiff::Timestamp;

use crate::{
    api::{ConditionType, Finding, Reason, TrustDomain, VaultConnection},
    explain::{Chain, Link, Look, Step, connection, said::Said},
    trust::intent,
    value::domain::Domain,
};

/// What was seen of a trust domain.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// The object.
    pub domain: Look<TrustDomain>,
    /// The connection that [`connection_of`] names; anything where it names none.
    pub connection: Look<VaultConnection>,
}

/// The connection that signs for a domain; `None` for an embedded authority.
pub fn connection_of(domain: &TrustDomain) -> Option<&str> {
    domain.spec.issuer.vault.as_ref().map(|vault| vault.connection.as_str())
}

/// The chain of `TrustDomain/name`.
pub fn domain(seen: &Seen, now: Timestamp) -> Chain {
    let mut links = under(seen);
    links.extend(own(seen, now));
    Chain { links }
}

/// The links of the connection, if one is needed.
pub(super) fn under(seen: &Seen) -> Vec<Link> {
    let name = seen.domain.found().and_then(connection_of);
    name.map(|name| connection::links(name, &seen.connection)).unwrap_or_default()
}

/// The links of the domain itself.
pub(super) fn own(seen: &Seen, now: Timestamp) -> Vec<Link> {
    let object = format!("TrustDomain/{}", seen.name);
    let domain = match &seen.domain {
        Look::Found(domain) => domain,
        Look::Absent => {
            let message = format!("trust domain {} does not exist", seen.name);
            return vec![Link::failed(Step::Domain, &object, Reason::TrustDomainNotFound, message)];
        }
        Look::Hidden(why) => return vec![Link::hidden(Step::Domain, &object, why)],
    };
    let status = domain.status.clone().unwrap_or_default();
    let said = Said::new(&status.conditions, status.observed_generation, domain.metadata.generation);
    vec![
        Link::ok(Step::Domain, &object, format!("signs for {}", domain.spec.name)),
        accepted(domain, &object, said),
        issuer(&object, said),
        authority(domain, &object, said, now),
    ]
}

fn accepted(domain: &TrustDomain, object: &str, said: Said<'_>) -> Link {
    let step = Step::DomainAccepted;
    if let Err(problem) = intent::parse(domain) {
        return Link::failed(step, object, Reason::InvalidSpec, problem.to_string());
    }
    if domain.metadata.deletion_timestamp.is_some() {
        return Link::failed(step, object, Reason::Deleting, "the trust domain is being deleted");
    }
    if domain.spec.suspend == Some(true) {
        return Link::failed(step, object, Reason::Suspended, "spec.suspend is true: nothing is signed in this domain");
    }
    if !said.current {
        return Link::unknown(step, object, "the operator has not looked at this spec yet");
    }
    said.bad(ConditionType::Accepted).map_or_else(
        || Link::ok(step, object, "the spec is understood and allowed"),
        |finding| failed(step, object, finding),
    )
}

fn issuer(object: &str, said: Said<'_>) -> Link {
    let step = Step::IssuerReachable;
    match said.bad(ConditionType::IssuerReachable) {
        Some(finding) => failed(step, object, finding),
        None if said.holds(ConditionType::IssuerReachable) => {
            Link::ok(step, object, said.of(ConditionType::IssuerReachable).message)
        }
        None => Link::unknown(step, object, "the operator has not asked the issuer yet"),
    }
}

/// Judged by the same function that decides whether an identity may be signed for.
fn authority(domain: &TrustDomain, object: &str, said: Said<'_>, now: Timestamp) -> Link {
    let step = Step::Authority;
    let ready = domain.status.as_ref().and_then(|status| Domain::new(&domain.spec, status));
    if let Some(ready) = ready {
        let end = ready.active.not_after;
        if end <= now {
            let next = Some("make a TrustDomain with a new authority, and move the identities there");
            let ended = format!("the authority ended at {end}");
            return Link { next, ..Link::failed(step, object, Reason::Expired, ended) };
        }
        let warning = said.bad(ConditionType::AuthorityExpiring).map(|finding| finding.message);
        return Link::ok(step, object, warning.unwrap_or_else(|| format!("it can sign until {end}")));
    }
    match said.bad(ConditionType::Ready) {
        Some(finding) => failed(step, object, finding),
        None if said.holds(ConditionType::Ready) => {
            let message = "the status has no authority that can be read";
            Link::failed(step, object, Reason::TrustDomainNotReady, message)
        }
        None => Link::unknown(step, object, "no authority is known yet"),
    }
}

fn failed(step: Step, object: &str, finding: Finding) -> Link {
    Link::failed(step, object, finding.reason, finding.message)
}
