//! Small facts about trust domains that decisions and reports share.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::Reason,
    fault::{Class, Failure},
    value::{digest, domain::Rules, x509::Leaf},
};

/// How long a trust anchor must be out before anybody relies on it.
const SOAK: Duration = Duration::from_secs(3_600);
/// No name of an object is longer.
const LONGEST_NAME: usize = 253;

/// The shortest life of an authority that still leaves time to replace it: three lives of a leaf and two soaks.
pub fn least_lifetime(rules: &Rules) -> Duration {
    rules.longest_ttl() * 3 + SOAK * 2
}

/// From when an authority is close to its end: a sixth of its life, or three lives of a leaf and a soak.
pub fn expiring_from(authority: &Leaf, rules: &Rules) -> Timestamp {
    let life = authority.not_after.as_second().saturating_sub(authority.not_before.as_second());
    let leaves = i64::try_from((rules.longest_ttl() * 3 + SOAK).as_secs()).unwrap_or(i64::MAX);
    let margin = leaves.max(life / 6);
    Timestamp::from_second(authority.not_after.as_second().saturating_sub(margin)).unwrap_or(Timestamp::MIN)
}

/// Name of the Secret that keeps the domain's authority number `number`.
///
/// It is spelled out where the trust domain can be part of a name, and hashed where it cannot (an
/// underscore, 255 characters), so that no two domains share a Secret.
pub fn secret_name(trust_domain: &str, number: u32) -> String {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let hyphen = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !hyphen && label.bytes().all(inner)
    };
    let plain = format!("countersign-ca-{trust_domain}-{number}");
    if plain.len() <= LONGEST_NAME && plain.split('.').all(label) {
        return plain;
    }
    format!("countersign-ca-{}-{number}", digest::short(&[trust_domain.as_bytes()]))
}

/// Whom a failed signature speaks of, and so who has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The issuer: its trust domain looks.
    Issuer,
    /// The server or our login there: its connection looks.
    Server,
    /// The one request.
    Request,
}

impl Subject {
    /// Whom `failure` speaks of.
    pub fn of(failure: &Failure) -> Self {
        match (failure.reason, failure.class) {
            (Reason::AuthorityLost | Reason::IssuerNotUsable | Reason::IssuerUnavailable | Reason::RoleNotFound, _) => {
                Self::Issuer
            }
            (_, Class::Unavailable) | (Reason::LoginFailed, _) => Self::Server,
            (_, Class::Invalid | Class::Waiting | Class::Denied | Class::Throttled | Class::Conflict | Class::Bug) => {
                Self::Request
            }
        }
    }
}

/// A `TrustDomain` object, as far as it claims a SPIFFE name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim<'a> {
    /// When it was created.
    pub created: Timestamp,
    /// Its UID, which decides between objects of one second.
    pub uid: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The SPIFFE name it claims.
    pub trust_domain: &'a str,
}

/// The oldest other object that claims the same SPIFFE name before `mine`, by name.
pub fn older_namesake<'a>(mine: &Claim<'_>, all: impl IntoIterator<Item = Claim<'a>>) -> Option<&'a str> {
    let before = |claim: &Claim<'_>| (claim.created, claim.uid) < (mine.created, mine.uid);
    all.into_iter()
        .filter(|claim| claim.trust_domain == mine.trust_domain && before(claim))
        .min()
        .map(|claim| claim.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_signature_sends_whoever_can_help_to_look() {
        for (class, reason, subject) in [
            (Class::Invalid, Reason::RoleNotFound, Subject::Issuer),
            (Class::Unavailable, Reason::IssuerUnavailable, Subject::Issuer),
            (Class::Unavailable, Reason::VaultSealed, Subject::Server),
            (Class::Denied, Reason::LoginFailed, Subject::Server),
            (Class::Denied, Reason::AccessDenied, Subject::Request),
            (Class::Invalid, Reason::RoleRefused, Subject::Request),
            (Class::Throttled, Reason::Throttled, Subject::Request),
        ] {
            assert_eq!(Subject::of(&Failure::new(class, reason, "x")), subject, "{reason:?}");
        }
    }
}
