//! Logins of other namespaces' ServiceAccounts on one connection: exactly one for each, shared by all their bindings.
//!
//! A login is made when a binding first reads, renewed by whoever reads next, and lapses when nobody does. It must not
//! know Kubernetes: whoever builds it hands in how a token of an account is asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use countersign_core::{
    fault::Failure,
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath},
    },
};
use futures::future::BoxFuture;

use super::{
    client::{VaultClient, lock},
    session::{Credential, Session},
};

/// The most logins that are kept; the one that was not used for longest goes first, and is given back.
const MOST: usize = 10_000;

/// Whose login it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The namespace.
    pub namespace: String,
    /// The ServiceAccount.
    pub account: String,
    /// UID of the ServiceAccount: another one of the same name logs in anew.
    pub uid: String,
    /// The role it logs in under.
    pub role: Segment,
}

/// Asks for a token of an account of a namespace, to be used for one login.
pub type AskToken = dyn Fn(&Tenant) -> BoxFuture<'static, Result<SecretBytes, Failure>> + Send + Sync;

/// The logins of one connection.
pub struct Tenants {
    client: Arc<VaultClient>,
    mount: VaultPath,
    token: Arc<AskToken>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sessions: HashMap<Tenant, Entry>,
    /// Counts uses, to tell which login was used last.
    uses: u64,
}

struct Entry {
    session: Arc<Session>,
    used: u64,
}

impl Tenants {
    /// No logins yet; they are made at the method mounted at `mount`, with what `token` gives.
    pub fn new(client: Arc<VaultClient>, mount: VaultPath, token: Arc<AskToken>) -> Self {
        Self { client, mount, token, kept: Mutex::default() }
    }

    /// The login of a tenant; nothing is sent before it is used.
    pub fn session(&self, tenant: &Tenant) -> Arc<Session> {
        let mut kept = lock(&self.kept);
        kept.uses += 1;
        let used = kept.uses;
        if let Some(entry) = kept.sessions.get_mut(tenant) {
            entry.used = used;
            return entry.session.clone();
        }
        if kept.sessions.len() >= MOST {
            let oldest = kept.sessions.iter().min_by_key(|(_, entry)| entry.used).map(|(tenant, _)| tenant.clone());
            give_back(oldest.and_then(|oldest| kept.sessions.remove(&oldest)));
        }
        let (ask, whose) = (self.token.clone(), tenant.clone());
        let credential = Credential::Jwt {
            mount: self.mount.clone(),
            role: tenant.role.clone(),
            jwt: Box::new(move || ask(&whose)),
        };
        let session = Arc::new(Session::new(self.client.clone(), credential));
        kept.sessions.insert(tenant.clone(), Entry { session: session.clone(), used });
        session
    }

    /// Ends every login and gives it back.
    pub async fn stop(&self) {
        let sessions: Vec<_> = lock(&self.kept).sessions.drain().map(|(_, entry)| entry.session).collect();
        futures::future::join_all(sessions.iter().map(|session| session.stop())).await;
    }
}

fn give_back(entry: Option<Entry>) {
    if let Some(entry) = entry {
        tokio::spawn(async move { entry.session.stop().await });
    }
}
