//! What OpenBao's own record says that it was asked: the path of every request, with the account that asked.
//!
//! The server writes it after it has read the request, so whatever a client puts into an address has become a path here.

use std::io::{BufRead as _, BufReader};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{api::text, cluster::Cluster};

/// A request that carried a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Namespace of the ServiceAccount that the token was given to; empty for a token that no account got.
    pub namespace: String,
    /// Name of the account.
    pub account: String,
    /// What was done: `read`, `update`, `list`.
    pub operation: String,
    /// The path, without `/v1/`.
    pub path: String,
}

/// Every request so far, in order.
///
/// # Errors
/// When the server keeps no record, or it cannot be read.
pub fn of(cluster: &Cluster) -> Result<Vec<Asked>> {
    let path = &cluster.openbao()?.record_file;
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut all = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.context("the record broke off")?;
        // The last line may be half-written.
        all.extend(serde_json::from_str(&line).ok().as_ref().and_then(asked));
    }
    Ok(all)
}

fn asked(entry: &Value) -> Option<Asked> {
    (text(entry, "/type") == "request").then(|| Asked {
        namespace: text(entry, "/auth/metadata/service_account_namespace").to_owned(),
        account: text(entry, "/auth/metadata/service_account_name").to_owned(),
        operation: text(entry, "/request/operation").to_owned(),
        path: text(entry, "/request/path").to_owned(),
    })
}

impl Asked {
    /// Whether an account of a tenant may ask for that: its own token, what a mount above its paths is, and what lies
    /// below the name of its namespace.
    pub fn is_a_tenants(&self) -> bool {
        let own = |mount: &str| {
            let below = self.path.strip_prefix(mount).and_then(|rest| rest.strip_prefix(&self.namespace));
            below.is_some_and(|rest| rest.starts_with('/'))
        };
        let token = ["auth/token/renew-self", "auth/token/lookup-self", "auth/token/revoke-self"];
        // The record leaves out what follows the mount; the server itself says of it only what the asker may know.
        let mount = self.path.strip_prefix("sys/internal/ui/mounts/").is_some_and(|mount| !mount.is_empty());
        let reads = mount || ["secret/data/", "secret/metadata/", "kv1/"].into_iter().any(own);
        self.operation == "read" && reads || token.contains(&self.path.as_str())
    }

    /// Whether the operator itself may ask for that where no grant says `as: Operator`: signatures, and its own token.
    pub fn is_the_operators(&self) -> bool {
        ["pki", "auth/token/", "sys/capabilities-self"].iter().any(|start| self.path.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(path: &str) -> Asked {
        let metadata = json!({"service_account_namespace": "shop", "service_account_name": "app"});
        asked(&json!({
            "type": "request", "auth": {"metadata": metadata}, "request": {"operation": "read", "path": path},
        }))
        .unwrap()
    }

    #[test]
    fn a_tenant_stays_below_its_name() {
        for path in ["secret/data/shop/a", "secret/metadata/shop/a/b", "kv1/shop/a", "sys/internal/ui/mounts/secret"] {
            assert!(read(path).is_a_tenants(), "{path}");
        }
        for path in
            ["secret/data/shop", "secret/data/shop-eu/a", "secret/data/payments/a", "secret/config", "sys/mounts"]
        {
            assert!(!read(path).is_a_tenants(), "{path}");
        }
        assert!(!Asked { operation: "update".to_owned(), ..read("secret/data/shop/a") }.is_a_tenants());
    }

    #[test]
    fn answers_are_not_requests() {
        assert_eq!(asked(&json!({"type": "response", "request": {"path": "secret/data/shop/a"}})), None);
    }
}
