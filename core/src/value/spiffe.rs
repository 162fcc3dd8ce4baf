//! The SPIFFE ID of a workload.

use std::fmt;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<serviceAccountName>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Builds the ID from its parts.
    ///
    /// # Errors
    /// When a part is empty.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, fmt::Error> {
        if [trust_domain, namespace, account].iter().any(|part| part.is_empty()) {
            return Err(fmt::Error);
        }
        Ok(Self(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
