//! The live connections: one client and one login for each `VaultConnection`, and what this process
//! remembers of it between passes.
//!
//! Made and replaced by the connection controller; used by whoever signs. Nothing here is lost with
//! the process that matters after a restart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use countersign_core::{
    api::Reason,
    connection::{
        address::Surroundings,
        intent::{Intent, JwtMethod, Login},
        world::{LoginAttempt, Probed},
    },
    fault::{Class, Failure},
    value::{digest, secret_data::SecretBytes},
};
use futures::FutureExt;
use jiff::Timestamp;
use url::Url;

use crate::{
    cluster::Cluster,
    runtime::{
        clock::Clock,
        metrics::{Engine, Metrics, Operation, Outcome, VaultRequest},
    },
    vault::{Call, ConnectionSettings, Credential, Limits, Observation, Roots, Session, Tenant, Tenants, VaultClient},
};

/// The live connections; clones share them.
#[derive(Clone)]
pub struct Connections {
    cluster: Cluster,
    clock: Clock,
    metrics: Metrics,
    account: Arc<str>,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Default)]
struct Entry {
    live: Option<Live>,
    /// Nobody may ask by it: its object is suspended.
    paused: bool,
    memory: Memory,
}

/// A client and its login, and what they were made of.
struct Live {
    made_of: String,
    session: Arc<Session>,
    /// Logins of other accounts, where the method takes their tokens.
    tenants: Option<Arc<Tenants>>,
}

impl Live {
    async fn stop(&self) {
        if let Some(tenants) = &self.tenants {
            tenants.stop().await;
        }
        self.session.stop().await;
    }
}

/// What this process remembers of a connection between passes.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The last health probe.
    pub health: Option<Probed>,
    /// The last login that failed.
    pub login_failure: Option<LoginAttempt>,
    /// Since when calls are refused because of the rate.
    pub throttled_since: Option<Timestamp>,
}

/// What a connection is made of besides its spec.
pub struct Material<'a> {
    /// Its CA certificates, PEM; `None` = the public roots alone.
    pub ca: Option<String>,
    /// The value of the Secret that the login names.
    pub credential: Option<SecretBytes>,
    /// What is forbidden here.
    pub surroundings: &'a Surroundings,
}

impl Connections {
    /// No connections; `account` is the operator's own ServiceAccount.
    pub fn new(cluster: Cluster, clock: Clock, metrics: Metrics, account: &str) -> Self {
        Self { cluster, clock, metrics, account: Arc::from(account), entries: Arc::default() }
    }

    /// The login of a connection, if there is one that can be used.
    pub fn session(&self, name: &str) -> Option<Arc<Session>> {
        let entries = self.entries();
        let entry = entries.get(name).filter(|entry| !entry.paused)?;
        entry.live.as_ref().map(|live| live.session.clone())
    }

    /// The login of an account on a connection, if there is a connection that takes it.
    pub fn tenant(&self, name: &str, tenant: &Tenant) -> Option<Arc<Session>> {
        let entries = self.entries();
        let entry = entries.get(name).filter(|entry| !entry.paused)?;
        Some(entry.live.as_ref()?.tenants.as_ref()?.session(tenant))
    }

    /// From now on a connection may be used, or may not.
    pub fn pause(&self, name: &str, paused: bool) {
        self.entries().entry(name.to_owned()).or_default().paused = paused;
    }

    /// What keeps callers of a connection away now, if anything does.
    pub fn outage(&self, name: &str) -> Option<Failure> {
        self.session(name)?.client().outage()
    }

    /// What is remembered of a connection.
    pub fn memory(&self, name: &str) -> Memory {
        self.entries().get(name).map(|entry| entry.memory.clone()).unwrap_or_default()
    }

    /// Remembers what a pass has learned.
    pub fn remember(&self, name: &str, memory: Memory) {
        self.entries().entry(name.to_owned()).or_default().memory = memory;
    }

    /// The connection as the spec and its material say; the one there is, if it was made of the same.
    ///
    /// A replaced login is given back in the background, and what was remembered goes with it.
    ///
    /// # Errors
    /// When no client can be made of it.
    pub fn connect(&self, intent: &Intent, material: &Material<'_>) -> Result<Arc<Session>, Failure> {
        let made_of = fingerprint(intent, material);
        let known = self.entries().get(&intent.name).and_then(|entry| {
            entry.live.as_ref().filter(|live| live.made_of == made_of).map(|live| live.session.clone())
        });
        if let Some(session) = known {
            return Ok(session);
        }
        let client = Arc::new(self.client(intent, material)?);
        let session = Arc::new(Session::new(client.clone(), self.credential(intent, material)?));
        self.metrics.touch_connection(&intent.name);
        let live = Some(Live { made_of, session: session.clone(), tenants: self.tenants(intent, client) });
        let entry = Entry { live, ..Entry::default() };
        let replaced = self.entries().insert(intent.name.clone(), entry);
        give_back(replaced);
        Ok(session)
    }

    /// Forgets a connection that is gone, and gives its login back.
    pub fn forget(&self, name: &str) {
        let gone = self.entries().remove(name);
        give_back(gone);
        self.metrics.forget_connection(name);
    }

    /// Gives every login back; nobody logs in any more.
    pub async fn stop(&self) {
        let live: Vec<_> = self.entries().values_mut().filter_map(|entry| entry.live.take()).collect();
        futures::future::join_all(live.iter().map(Live::stop)).await;
    }

    fn client(&self, intent: &Intent, material: &Material<'_>) -> Result<VaultClient, Failure> {
        let unusable = |_| Failure::new(Class::Invalid, Reason::InvalidSpec, "spec.address is not a URL; correct it");
        let settings = ConnectionSettings {
            uid: intent.uid.clone(),
            address: Url::parse(&intent.server.address.to_string()).map_err(unusable)?,
            roots: Roots { pem: material.ca.clone(), public: intent.server.public_roots },
            server_name: intent.server.server_name.clone(),
            namespace: intent.server.namespace.clone(),
            limits: Limits {
                requests_per_second: intent.limits.requests_per_second,
                in_flight: usize::try_from(intent.limits.in_flight).unwrap_or(usize::MAX),
                timeout: intent.limits.timeout,
            },
            surroundings: material.surroundings.clone(),
        };
        let clock = self.clock.clone();
        let (metrics, name) = (self.metrics.clone(), intent.name.clone());
        let client = VaultClient::new(&settings, move || clock.monotonic())?;
        Ok(client.observed_by(move |seen| observe(&metrics, &name, seen)))
    }

    fn credential(&self, intent: &Intent, material: &Material<'_>) -> Result<Credential, Failure> {
        let secret = || {
            material.credential.clone().ok_or_else(|| {
                let words = "the Secret that spec.auth names was not read";
                Failure::new(Class::Bug, Reason::InternalError, words)
            })
        };
        Ok(match &intent.login {
            // Both methods take the same request; which one it is decides only how the server checks it.
            Login::Jwt { method: JwtMethod::Kubernetes | JwtMethod::Jwt, mount, role, audience } => {
                let (cluster, account, audience) = (self.cluster.clone(), self.account.clone(), audience.clone());
                let jwt = move || {
                    let (cluster, account, audience) = (cluster.clone(), account.clone(), audience.clone());
                    async move { cluster.own_token(&account, &audience).await }.boxed()
                };
                Credential::Jwt { mount: mount.clone(), role: role.clone(), jwt: Box::new(jwt) }
            }
            Login::AppRole { mount, role_id, .. } => {
                Credential::AppRole { mount: mount.clone(), role_id: role_id.clone(), secret_id: secret()? }
            }
            Login::Token { .. } => Credential::Token(secret()?),
        })
    }

    /// The logins of other accounts: at the mount where the operator logs in, with tokens of the same audience.
    fn tenants(&self, intent: &Intent, client: Arc<VaultClient>) -> Option<Arc<Tenants>> {
        let Login::Jwt { method: JwtMethod::Kubernetes | JwtMethod::Jwt, mount, audience, .. } = &intent.login else {
            return None;
        };
        let (cluster, audience) = (self.cluster.clone(), audience.clone());
        let ask = move |tenant: &Tenant| {
            let (cluster, audience, tenant) = (cluster.clone(), audience.clone(), tenant.clone());
            async move { cluster.account_token(&tenant.namespace, &tenant.account, &audience).await }.boxed()
        };
        Some(Arc::new(Tenants::new(client, mount.clone(), Arc::new(ask))))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_back(entry: Option<Entry>) {
    if let Some(live) = entry.and_then(|entry| entry.live) {
        tokio::spawn(async move { live.stop().await });
    }
}

/// Hash over everything a client or login is made of; a change of any of it makes a new one.
fn fingerprint(intent: &Intent, material: &Material<'_>) -> String {
    let spec = format!("{:?}", (&intent.uid, &intent.server, &intent.login, &intent.limits));
    let credential = material.credential.as_ref().map(SecretBytes::expose).unwrap_or_default();
    digest::short(&[spec.as_bytes(), material.ca.as_deref().unwrap_or_default().as_bytes(), credential])
}

fn observe(metrics: &Metrics, connection: &str, seen: Observation) {
    let (engine, operation) = match seen.call {
        Call::Login => (Engine::Auth, Operation::Login),
        Call::Token => (Engine::Auth, Operation::Token),
        Call::Sign => (Engine::Pki, Operation::Sign),
        Call::Issuer => (Engine::Pki, Operation::ReadIssuer),
        Call::Role => (Engine::Pki, Operation::ReadRole),
        Call::Capabilities => (Engine::Sys, Operation::Capabilities),
        Call::Health => (Engine::Sys, Operation::Health),
        Call::Mount => (Engine::Sys, Operation::ReadMount),
        Call::Metadata => (Engine::Kv, Operation::ReadMetadata),
        Call::Values => (Engine::Kv, Operation::ReadValues),
    };
    if seen.call == Call::Login {
        let result = match seen.status {
            Some(200) => Outcome::Success,
            Some(400..=499) => Outcome::Refused,
            Some(_) | None => Outcome::Failed,
        };
        metrics.count_login(connection, result);
    }
    metrics.observe_vault_request(VaultRequest { connection, engine, operation, code: seen.status, took: seen.took });
}
