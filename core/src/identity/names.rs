//! Which names a certificate carries, and who may ask for them.
//!
//! Names come from the ServiceAccount and the Services of the own namespace. Anything else needs
//! an allow rule of the trust domain, and some names nobody may have. No pod label, annotation or
//! free URI is ever a source of a name.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;

use crate::{
    api::{Reason, ServiceIdentity},
    identity::{
        intent::Intent,
        world::{NamespaceView, World},
    },
    value::{
        domain::{AllowRule, Domain},
        names::{is_link_local, is_unicast},
        spiffe::SpiffeId,
        x509::Names,
    },
};

/// A name that may not be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `NameNotAllowed` or `ReservedName`.
    pub reason: Reason,
    /// The name.
    pub name: String,
}

/// The names of the certificate, or the first that may not be asked for.
///
/// # Errors
/// [`Refusal`] names the offending entry of `dnsNames` or `ipAddresses`, or the SPIFFE ID if the
/// namespace or account cannot be written in one.
pub fn wanted(intent: &Intent, domain: &Domain, world: &World) -> Result<Names, Refusal> {
    let spiffe = SpiffeId::new(&domain.name, &intent.namespace, &intent.service_account)
        .map_err(|_| Refusal { reason: Reason::NameNotAllowed, name: intent.service_account.clone() })?;
    let mut dns = service_names(intent, domain, world);
    for name in &intent.dns_names {
        allowed_dns(name, intent, domain, world)?;
        dns.insert(name.clone());
    }
    for address in &intent.ip_addresses {
        allowed_address(*address, intent, domain, &world.namespace)?;
    }
    Ok(Names { uris: BTreeSet::from([spiffe.to_string()]), dns, ips: intent.ip_addresses.clone(), other: 0 })
}

fn service_names(intent: &Intent, domain: &Domain, world: &World) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for service in &intent.services {
        let base = format!("{service}.{}", intent.namespace);
        names.insert(format!("{base}.svc"));
        names.insert(format!("{base}.svc.{}", world.cluster_domain));
        if domain.short_names {
            names.insert(base);
            names.insert(service.clone());
        }
    }
    names
}

fn allowed_dns(name: &str, intent: &Intent, domain: &Domain, world: &World) -> Result<(), Refusal> {
    if is_below_own_service(name, intent, &world.cluster_domain) {
        return Ok(());
    }
    if is_reserved(name, intent, &world.cluster_domain) {
        return Err(Refusal { reason: Reason::ReservedName, name: name.to_owned() });
    }
    let allowed = rules(intent, domain, &world.namespace)
        .any(|rule| rule.dns_names.iter().any(|pattern| matches_pattern(pattern, name)));
    if allowed { Ok(()) } else { Err(Refusal { reason: Reason::NameNotAllowed, name: name.to_owned() }) }
}

fn allowed_address(
    address: IpAddr,
    intent: &Intent,
    domain: &Domain,
    namespace: &NamespaceView,
) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal { reason, name: address.to_string() });
    if !is_unicast(address) || address.is_loopback() || is_link_local(address) {
        return refuse(Reason::ReservedName);
    }
    if rules(intent, domain, namespace).any(|rule| rule.ip_ranges.iter().any(|range| range.contains(address))) {
        Ok(())
    } else {
        refuse(Reason::NameNotAllowed)
    }
}

/// The allow rules that speak of the identity's namespace.
pub fn rules<'a>(
    intent: &'a Intent,
    domain: &'a Domain,
    namespace: &'a NamespaceView,
) -> impl Iterator<Item = &'a AllowRule> {
    domain.allow.iter().filter(|rule| rule.namespaces.matches(&intent.namespace, &namespace.labels))
}

/// One label, or `*`, directly below a listed Service: the names of a headless Service's pods.
fn is_below_own_service(name: &str, intent: &Intent, cluster_domain: &str) -> bool {
    let Some((first, parent)) = name.split_once('.') else { return false };
    !first.is_empty()
        && intent.services.iter().any(|service| {
            let base = format!("{service}.{}.svc", intent.namespace);
            parent == base || parent.strip_prefix(&base).and_then(|rest| rest.strip_prefix('.')) == Some(cluster_domain)
        })
}

/// Names nobody may have, whatever a rule says.
fn is_reserved(name: &str, intent: &Intent, cluster_domain: &str) -> bool {
    let within = |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    let in_cluster = within("svc") || within(cluster_domain);
    // Even in the own namespace only listed Services give names; `is_below_own_service` has let those pass.
    let own = [format!("{}.svc", intent.namespace), format!("{}.svc.{cluster_domain}", intent.namespace)];
    let own_service = own.iter().any(|suffix| {
        name.strip_suffix(suffix.as_str())
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|service| intent.services.contains(service))
    });
    !name.is_ascii()
        || (in_cluster && !own_service)
        || name.starts_with("kubernetes.default")
        || name.starts_with("localhost")
        || name == "*"
        || name.strip_prefix("*.").is_some_and(|rest| !rest.contains('.'))
}

/// `*.suffix` matches every name with at least one label before the suffix, and the wildcard
/// `*.x` only if `x` is the suffix or below it; any other pattern matches itself only.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some(suffix) = pattern.strip_prefix("*.") else { return pattern.eq_ignore_ascii_case(name) };
    let suffix = suffix.to_ascii_lowercase();
    let below = |name: &str| name.strip_suffix(&suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    match name.strip_prefix("*.") {
        Some(parent) => parent == suffix || below(parent),
        None => below(name),
    }
}

/// The older identity that names the same Secret as `intent`, as `namespace/name`.
///
/// Of two the one that was created first keeps it; within one second the UID decides, so that both
/// come to the same answer. One that is being deleted claims nothing any more.
pub fn older_claim<'a>(intent: &Intent, all: impl IntoIterator<Item = &'a ServiceIdentity>) -> Option<String> {
    let mine = (intent.created, intent.uid.as_str());
    let older = all
        .into_iter()
        .filter(|rival| {
            rival.metadata.namespace.as_deref() == Some(intent.namespace.as_str())
                && rival.spec.secret.name == intent.target.name
                && rival.metadata.deletion_timestamp.is_none()
        })
        .map(|rival| {
            let created = rival.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            (created, rival.metadata.uid.as_deref().unwrap_or_default(), rival.metadata.name.as_deref())
        })
        .filter(|(created, uid, _)| (*created, *uid) < mine)
        .min()?;
    Some(format!("{}/{}", intent.namespace, older.2.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::identity::{intent::parse, renewal::second, tests::shell};

    #[test]
    fn patterns_need_a_label_before_the_suffix() {
        for (pattern, name, matched) in [
            ("*.pay.internal", "api.pay.internal", true),
            ("*.pay.internal", "a.b.pay.internal", true),
            ("*.pay.internal", "pay.internal", false),
            ("*.pay.internal", "xpay.internal", false),
            ("*.pay.internal", "*.pay.internal", true),
            ("*.pay.internal", "*.a.pay.internal", true),
            ("*.pay.internal", "*.internal", false),
            ("pay.internal", "pay.internal", true),
            ("pay.internal", "api.pay.internal", false),
            ("*.pay.internal", ".pay.internal", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn the_older_of_two_claimants_keeps_the_secret_and_who_is_going_claims_nothing() {
        let claimant = |name: &str, created: i64, uid: &str| {
            let mut claimant = shell::object(name);
            claimant.metadata.creation_timestamp = Some(Time(second(created)));
            claimant.metadata.uid = Some(uid.to_owned());
            claimant
        };
        let with = |mut claimant: ServiceIdentity, change: fn(&mut ServiceIdentity)| {
            change(&mut claimant);
            claimant
        };
        let mine = claimant("mine", 10, "b");
        let intent = parse(&mine).unwrap();
        for (rivals, found) in [
            (vec![mine.clone()], None),
            (vec![mine.clone(), claimant("older", 9, "z")], Some("pay/older")),
            (vec![claimant("younger", 11, "a"), mine.clone()], None),
            (vec![claimant("oldest", 1, "z"), claimant("older", 9, "a"), mine.clone()], Some("pay/oldest")),
            (vec![claimant("same-second", 10, "a")], Some("pay/same-second")),
            (vec![claimant("same-second", 10, "c")], None),
            (vec![with(claimant("elsewhere", 9, "a"), |it| it.metadata.namespace = Some("shop".to_owned()))], None),
            (vec![with(claimant("another", 9, "a"), |it| "other-tls".clone_into(&mut it.spec.secret.name))], None),
            (vec![with(claimant("going", 9, "a"), |it| it.metadata.deletion_timestamp = Some(Time(second(9))))], None),
        ] {
            assert_eq!(older_claim(&intent, &rivals).as_deref(), found, "{rivals:?}");
        }
    }
}
