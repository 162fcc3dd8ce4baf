//! Names and who may ask for them: f(namespace, ServiceAccount, Services, allow rules), computed again from the document.
//!
//! No string is built: names are compared piece by piece, because this runs for every stored leaf.

use std::net::IpAddr;

use crate::history::{AllowRule, DomainSpec, History, IdentitySpec, ObjectId, Text};

/// The names that a leaf carries, or a request asks for.
pub struct Carried<'a> {
    /// The SPIFFE URI.
    pub spiffe_id: &'a str,
    /// DNS names.
    pub dns: &'a [Text],
    /// IP addresses.
    pub addresses: &'a [Text],
}

/// "SAN set **equal** to the asked set": exactly the computed names, and each of them allowed.
pub fn are_exactly(
    history: &History,
    spec: &IdentitySpec,
    domain: &DomainSpec,
    namespace: &str,
    carried: &Carried<'_>,
) -> bool {
    let account = name_of(history, spec.service_account);
    let asker = Asker { history, spec, domain, namespace };
    is_joined(carried.spiffe_id, &["spiffe://", &domain.name, "/ns/", namespace, "/sa/", account])
        && carried.dns.iter().all(|name| asker.computes(name))
        && asker.covers(carried.dns)
        && same_set(carried.addresses, &spec.ip_addresses)
        && asker.may_have_all()
}

struct Asker<'a> {
    history: &'a History,
    spec: &'a IdentitySpec,
    domain: &'a DomainSpec,
    namespace: &'a str,
}

impl Asker<'_> {
    fn services(&self) -> impl Iterator<Item = &str> {
        self.spec.services.iter().map(|service| name_of(self.history, *service))
    }

    /// `api.<ns>.svc`, `api.<ns>.svc.<cluster domain>`, with short names `api.<ns>` and `api`; and `dnsNames`.
    fn computes(&self, name: &str) -> bool {
        let (ns, cluster) = (self.namespace, &*self.history.settings.cluster_domain);
        self.spec.dns_names.iter().any(|asked| asked.eq_ignore_ascii_case(name))
            || self.services().any(|service| {
                is_joined(name, &[service, ".", ns, ".svc"])
                    || is_joined(name, &[service, ".", ns, ".svc.", cluster])
                    || (self.domain.short_names && (name == service || is_joined(name, &[service, ".", ns])))
            })
    }

    /// Whether no computed name is absent from `names`.
    fn covers(&self, names: &[Text]) -> bool {
        let (ns, cluster) = (self.namespace, &*self.history.settings.cluster_domain);
        let has = |pieces: &[&str]| names.iter().any(|name| is_joined(name, pieces));
        self.spec.dns_names.iter().all(|asked| names.iter().any(|name| name.eq_ignore_ascii_case(asked)))
            && self.services().all(|service| {
                has(&[service, ".", ns, ".svc"])
                    && has(&[service, ".", ns, ".svc.", cluster])
                    && (!self.domain.short_names || (has(&[service]) && has(&[service, ".", ns])))
            })
    }

    fn rules(&self) -> impl Iterator<Item = &AllowRule> {
        self.domain.allow.iter().filter(|rule| rule.namespaces.iter().any(|one| **one == *self.namespace))
    }

    fn may_have_all(&self) -> bool {
        self.spec.dns_names.iter().all(|name| self.may_have(name))
            && self.services().all(|service| !(self.namespace == "default" && service == "kubernetes"))
            && self.spec.ip_addresses.iter().all(|address| self.may_have_address(address))
            && self.spec.ttl.is_none_or(|ttl| {
                ttl <= self.domain.ttl || self.rules().any(|rule| rule.max_ttl.is_some_and(|most| ttl <= most))
            })
    }

    fn may_have(&self, name: &str) -> bool {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.may_have(&name.to_ascii_lowercase());
        }
        let by_rule = || self.rules().any(|rule| rule.dns_names.iter().any(|pattern| matches_pattern(name, pattern)));
        !self.is_reserved(name) && (self.is_below_a_service(name) || by_rule())
    }

    /// "One label, or `*`, directly below `<service>.<ns>.svc[.<cluster domain>]` of a listed Service".
    fn is_below_a_service(&self, name: &str) -> bool {
        let Some((label, rest)) = name.split_once('.') else { return false };
        let (ns, cluster) = (self.namespace, &*self.history.settings.cluster_domain);
        !label.is_empty()
            && self.services().any(|service| {
                is_joined(rest, &[service, ".", ns, ".svc"]) || is_joined(rest, &[service, ".", ns, ".svc.", cluster])
            })
    }

    /// "Refused whatever a rule says".
    fn is_reserved(&self, name: &str) -> bool {
        let cluster = &*self.history.settings.cluster_domain;
        let inside_cluster = strip_suffix(name, cluster).unwrap_or(name);
        let claims_cluster = is_suffix(name, cluster) || is_suffix(name, "svc");
        let of_own_namespace = strip_suffix(inside_cluster, "svc").is_some_and(|rest| is_suffix(rest, self.namespace));
        let one_label_wildcard = name.strip_prefix("*.").is_some_and(|rest| !rest.contains('.'));
        !name.is_ascii()
            || name == "*"
            || one_label_wildcard
            || name.starts_with("localhost")
            || name.starts_with("kubernetes.default")
            || (claims_cluster && !of_own_namespace)
    }

    fn may_have_address(&self, text: &str) -> bool {
        let Ok(address) = text.parse::<IpAddr>() else { return false };
        let reserved =
            address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_link_local(address);
        !reserved && self.rules().any(|rule| rule.ip_ranges.iter().any(|range| is_in_range(address, range)))
    }
}

/// `*.pay.internal` matches names with at least one label before the suffix, `pay.internal` itself only.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => strip_suffix(name, suffix).is_some_and(|before| !before.is_empty()),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// `name` without `.suffix`.
fn strip_suffix<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    name.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.'))
}

/// Whether `name` is `suffix` or ends with `.suffix`.
fn is_suffix(name: &str, suffix: &str) -> bool {
    name == suffix || strip_suffix(name, suffix).is_some()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

fn is_in_range(address: IpAddr, range: &str) -> bool {
    let Some((network, length)) = range.split_once('/') else { return false };
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn same_set(some: &[Text], others: &[Text]) -> bool {
    some.iter().all(|one| others.contains(one)) && others.iter().all(|one| some.contains(one))
}

fn name_of(history: &History, object: ObjectId) -> &str {
    history.name(object).map_or("", |name| &name.name)
}

/// Whether `text` is these pieces one after the other.
fn is_joined(text: &str, pieces: &[&str]) -> bool {
    let mut rest = text;
    for piece in pieces {
        match rest.strip_prefix(piece) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}
