//! The SPIFFE ID of a workload: computed from where it runs, never written by anybody.
//!
//! Called where the names of a certificate are put together and where an answer is checked.

use std::fmt;

use super::names::is_trust_domain;

/// The most bytes of an ID, by the SPIFFE standard.
const MAX_ID: usize = 2_048;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<serviceAccountName>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

/// Which part cannot stand in a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpiffeProblem {
    /// The trust domain is not `[a-z0-9._-]{1,255}`.
    TrustDomain,
    /// The namespace or account is empty, `.`, `..`, or has other characters than `A-Za-z0-9._-`.
    Segment,
    /// All is longer than 2,048 bytes.
    TooLong,
}

impl SpiffeId {
    /// Builds the ID from its parts.
    ///
    /// # Errors
    /// [`SpiffeProblem`] names the part that cannot stand in one.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, SpiffeProblem> {
        if !is_trust_domain(trust_domain) {
            return Err(SpiffeProblem::TrustDomain);
        }
        if ![namespace, account].into_iter().all(is_segment) {
            return Err(SpiffeProblem::Segment);
        }
        let id = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
        if id.len() > MAX_ID { Err(SpiffeProblem::TooLong) } else { Ok(Self(id)) }
    }

    /// The ID as it stands in a certificate.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustDomain => "must be a SPIFFE trust domain",
            Self::Segment => "namespace and account must match [A-Za-z0-9._-]+ and not be . or ..",
            Self::TooLong => "the SPIFFE ID would exceed 2,048 bytes",
        })
    }
}

impl std::error::Error for SpiffeProblem {}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_names_domain_namespace_and_account() {
        let id = SpiffeId::new("prod.example", "pay", "api").unwrap();
        assert_eq!(id.as_str(), "spiffe://prod.example/ns/pay/sa/api");
        assert_eq!(id.to_string(), id.as_str());
    }

    #[test]
    fn no_part_can_say_more_than_its_own() {
        use SpiffeProblem::{Segment, TooLong, TrustDomain};
        let long = "a".repeat(2_048);
        for (domain, namespace, account, problem) in [
            ("", "pay", "api", TrustDomain),
            ("Prod", "pay", "api", TrustDomain),
            ("prod/ns/other", "pay", "api", TrustDomain),
            ("prod:443", "pay", "api", TrustDomain),
            ("prod", "", "api", Segment),
            ("prod", "pay", "", Segment),
            ("prod", "..", "api", Segment),
            ("prod", "pay", ".", Segment),
            ("prod", "pay/sa/root", "api", Segment),
            ("prod", "pay", "api/admin", Segment),
            ("prod", "pay", "api?admin", Segment),
            ("prod", "pay", "api#admin", Segment),
            ("prod", "pay", "%2e%2e", Segment),
            ("prod", "pay", "äpi", Segment),
            ("prod", "pay", &*long, TooLong),
        ] {
            assert_eq!(SpiffeId::new(domain, namespace, account), Err(problem), "{domain} {namespace} {account}");
        }
    }
}
