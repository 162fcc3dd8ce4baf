//! One login on one connection, shared by everybody who acts under its identity.
//!
//! The token lives here only: in memory, in a type that cannot be shown, wiped on drop. It is renewed
//! at two thirds of its life by whoever calls next, so a steady cluster costs the server nothing. A
//! login happens only when there is no token, when it cannot be renewed and nears its end, or when
//! the server has forgotten it; never one per request. When to do what is decided in
//! `countersign_core::connection::token`; this module asks and does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_core::{
    api::Reason,
    connection::{
        token::{TokenDue, TokenLife},
        world::SessionView,
    },
    fault::{Class, Failure},
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath},
    },
};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::MutexGuard;

use super::{
    classify,
    client::{VaultClient, lock},
    endpoints::{
        self, IssuerInfo, IssuerSettings, ListedIssuer, RoleInfo, TokenInfo, capabilities, issuer_settings,
        listed_issuers,
    },
    request::{Answer, CallFailed, Request, Token},
};

/// At most one login in this time after a token was lost or a login refused.
const LOGIN_INTERVAL: Duration = Duration::from_secs(30);
/// How long a new token may be unknown to a standby.
const REPLICATION: Duration = Duration::from_secs(2);
/// How long giving the token back may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// How we log in. Has no `Debug`: it holds secrets.
pub enum Credential {
    /// A JWT, at a `kubernetes` or a `jwt` method.
    Jwt {
        /// Mount of the method, below `auth/`.
        mount: VaultPath,
        /// Role of the method.
        role: Segment,
        /// Makes a fresh JWT for each login.
        jwt: Box<dyn Fn() -> BoxFuture<'static, Result<SecretBytes, Failure>> + Send + Sync>,
    },
    /// A role id and a secret id.
    AppRole {
        /// Mount of the method, below `auth/`.
        mount: VaultPath,
        /// The role id, which is no secret.
        role_id: String,
        /// The secret id.
        secret_id: SecretBytes,
    },
    /// A token that somebody else made; it is renewed, but never given back.
    Token(SecretBytes),
}

/// What a session has done so far, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCounters {
    /// Logins that succeeded.
    pub logins: u64,
    /// Renewals that succeeded.
    pub renewals: u64,
}

/// A shared login. Has no `Debug`: it holds the token.
pub struct Session {
    client: Arc<VaultClient>,
    credential: Credential,
    held: Mutex<Option<Arc<Held>>>,
    /// Whoever changes the token holds this; the others wait for the result instead of logging in too.
    gate: tokio::sync::Mutex<Gate>,
    stopping: AtomicBool,
    logins: AtomicU64,
    renewals: AtomicU64,
}

/// A token and its life; replaced as a whole, so callers see one or the other.
struct Held {
    token: Token,
    life: TokenLife,
    /// Tells tokens apart without comparing them; a renewal keeps it.
    serial: u64,
}

#[derive(Default)]
struct Gate {
    serial: u64,
    /// When the last token was obtained.
    obtained: Option<Duration>,
    /// The last refused login.
    refused: Option<(Duration, Failure)>,
    /// The token that the server was last seen to know, and when.
    confirmed: Option<(u64, Duration)>,
}

impl Session {
    /// A session on `client`; logs in at the first call that needs it.
    pub fn new(client: Arc<VaultClient>, credential: Credential) -> Self {
        Self {
            client,
            credential,
            held: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            stopping: AtomicBool::new(false),
            logins: AtomicU64::new(0),
            renewals: AtomicU64::new(0),
        }
    }

    /// The connection below.
    pub fn client(&self) -> &VaultClient {
        &self.client
    }

    /// Makes sure there is a token that can be used, renewing it or logging in if that is due.
    pub async fn authenticate(&self) -> Result<(), Failure> {
        self.token().await.map(drop)
    }

    /// The login as a decision sees it, given the wall clock `now`.
    pub fn view(&self, now: Timestamp) -> SessionView {
        let Some(held) = self.held() else { return SessionView::Absent };
        let at = |wait: Option<Duration>| now.checked_add(SignedDuration::try_from(wait?).ok()?).ok();
        let monotonic = self.client.now();
        SessionView::Live { ends: at(held.life.left(monotonic)), due: at(held.life.until_due(monotonic)) }
    }

    /// What this session has done so far.
    pub fn counters(&self) -> SessionCounters {
        SessionCounters { logins: self.logins.load(Ordering::Relaxed), renewals: self.renewals.load(Ordering::Relaxed) }
    }

    /// The issuers of a mount.
    pub async fn list_issuers(&self, mount: &VaultPath) -> Result<Vec<ListedIssuer>, Failure> {
        let request = endpoints::list_issuers(mount);
        // Public on the server; sent without a token, so that reading needs no login.
        listed_issuers(&request, &self.client.send(&request, None).await?)
    }

    /// An issuer's certificates, by id, by name or as `default`.
    pub async fn read_issuer(&self, mount: &VaultPath, issuer: &Segment) -> Result<IssuerInfo, Failure> {
        let request = endpoints::read_issuer(mount, issuer);
        match self.client.send(&request, None).await {
            Ok(answer) => endpoints::issuer(&request, &answer),
            Err(failed) => Err(self.settle_doubt(mount, issuer, failed).await),
        }
    }

    /// An issuer's settings; `Denied` without the right to read them, which is optional.
    pub async fn issuer_settings(&self, mount: &VaultPath, issuer: &Segment) -> Result<IssuerSettings, Failure> {
        let request = endpoints::read_issuer_settings(mount, issuer);
        match self.send(&request).await {
            Ok(answer) => issuer_settings(&request, &answer),
            Err(failed) => Err(self.settle_doubt(mount, issuer, failed).await),
        }
    }

    /// A role's settings; `Denied` without the right to read them, which is optional.
    pub async fn role(&self, mount: &VaultPath, role: &Segment) -> Result<RoleInfo, Failure> {
        let request = endpoints::read_role(mount, role);
        self.send(&request).await?.data(&request)
    }

    /// Our capabilities on each of `paths`, in their order.
    pub async fn capabilities_self(&self, paths: &[String]) -> Result<Vec<Vec<String>>, Failure> {
        let request = endpoints::capabilities_self(paths);
        capabilities(&request, &self.send(&request).await?, paths)
    }

    /// Ends the session: no login from now on, and the token is given back if that works within 1 s.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let farewell = async {
            // A login under way ends first, so that its token is given back too.
            let _gate = self.gate.lock().await;
            let held = lock(&self.held).take();
            // Somebody else's token is theirs to revoke.
            if let (Some(held), false) = (held, matches!(self.credential, Credential::Token(_))) {
                // Best effort: a token that is not given back ends by itself.
                let _ = self.client.send(&endpoints::revoke_self(), Some(&held.token)).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    /// Sends with our token. A refusal costs one look at the token and, if the server has forgotten
    /// it, one login and one repeat; never more.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, CallFailed> {
        let used = self.token().await?;
        let started = self.client.now();
        match self.client.send(request, Some(&used.token)).await {
            Err(failed) if failed.is_forbidden() => match self.replaced(&used, started).await? {
                Some(next) => self.client.send(request, Some(&next.token)).await,
                None => Err(failed),
            },
            result => result,
        }
    }

    /// Sends with the token at hand; a refusal is an answer and nothing is looked up.
    pub(super) async fn peek(&self, request: &Request) -> Result<Answer, CallFailed> {
        let used = self.token().await?;
        self.client.send(request, Some(&used.token)).await
    }

    fn held(&self) -> Option<Arc<Held>> {
        lock(&self.held).clone()
    }

    /// A token that can be used now.
    async fn token(&self) -> Result<Arc<Held>, Failure> {
        let now = self.client.now();
        if let Some(held) = self.held() {
            match held.life.due(now) {
                TokenDue::Use => return Ok(held),
                TokenDue::Renew | TokenDue::Replace => {
                    // One caller sees to it; the others go on with what is still good.
                    if let Ok(mut gate) = self.gate.try_lock() {
                        return Ok(self.refreshed(&mut gate, held).await);
                    }
                    return Ok(held);
                }
                TokenDue::Ended => {}
            }
        }
        let mut gate = self.gate.lock().await;
        match self.held() {
            Some(held) if held.life.due(self.client.now()) != TokenDue::Ended => Ok(held),
            _ => self.log_in(&mut gate).await,
        }
    }

    /// Lengthens or replaces a token that is still good; if neither works, the old one serves on.
    async fn refreshed(&self, gate: &mut MutexGuard<'_, Gate>, held: Arc<Held>) -> Arc<Held> {
        // Whoever held the gate before us may have done it.
        let held = self.held().unwrap_or(held);
        match held.life.due(self.client.now()) {
            TokenDue::Use | TokenDue::Ended => held,
            TokenDue::Renew => self.renew(&held).await,
            TokenDue::Replace => self.log_in(gate).await.unwrap_or(held),
        }
    }

    async fn renew(&self, held: &Arc<Held>) -> Arc<Held> {
        let request = endpoints::renew_self();
        let renewed = match self.client.send(&request, Some(&held.token)).await {
            Ok(answer) => endpoints::grant(&request, &answer),
            Err(failed) => Err(failed.failure),
        };
        let life = held.life.clone();
        let life = match renewed {
            Ok(grant) => {
                self.renewals.fetch_add(1, Ordering::Relaxed);
                life.renewed(self.client.now(), grant.ttl, grant.renewable)
            }
            // Tried again with the next call; the breaker keeps that from becoming a flood.
            Err(failure) if matches!(failure.class, Class::Unavailable | Class::Throttled) => return held.clone(),
            Err(_) => life.unrenewable(),
        };
        self.hold(Held { token: held.token.clone(), life, serial: held.serial })
    }

    /// After a 403 with `used`: `None` if the server knows that token, so the refusal stands.
    async fn replaced(&self, used: &Arc<Held>, started: Duration) -> Result<Option<Arc<Held>>, Failure> {
        let mut gate = self.gate.lock().await;
        if let Some(held) = self.held().filter(|held| held.serial != used.serial) {
            return Ok(Some(held));
        }
        let seen_alive = |(serial, at): (u64, Duration)| serial == used.serial && at >= started;
        if gate.confirmed.is_some_and(seen_alive) {
            return Ok(None);
        }
        match self.client.send(&endpoints::lookup_self(), Some(&used.token)).await {
            Ok(_) => {
                gate.confirmed = Some((used.serial, self.client.now()));
                return Ok(None);
            }
            Err(failed) if failed.is_forbidden() => {}
            Err(failed) => return Err(failed.failure),
        }
        let age = used.life.age(self.client.now());
        if age < REPLICATION {
            // A standby may not know a token of this age yet; the repeat tells.
            tokio::time::sleep(REPLICATION.saturating_sub(age)).await;
            return Ok(Some(used.clone()));
        }
        let since = gate.obtained.map(|at| self.client.now().saturating_sub(at));
        if let Some(wait) = since.and_then(|since| LOGIN_INTERVAL.checked_sub(since)) {
            let words = "the server forgot our token within 30 s of the login; the next login waits";
            return Err(Failure::new(Class::Throttled, Reason::Throttled, words).retry_after(wait));
        }
        lock(&self.held).take();
        self.log_in(&mut gate).await.map(Some)
    }

    async fn log_in(&self, gate: &mut MutexGuard<'_, Gate>) -> Result<Arc<Held>, Failure> {
        if self.stopping.load(Ordering::SeqCst) {
            let words = "the operator is shutting down; nobody logs in any more";
            return Err(Failure::new(Class::Unavailable, Reason::ConnectionNotReady, words));
        }
        let now = self.client.now();
        if let Some((at, failure)) = &gate.refused
            && let Some(wait) = LOGIN_INTERVAL.checked_sub(now.saturating_sub(*at)).filter(|wait| !wait.is_zero())
        {
            return Err(failure.clone().retry_after(wait));
        }
        match self.obtain().await {
            Ok((token, life)) => {
                gate.serial += 1;
                gate.obtained = Some(self.client.now());
                gate.refused = None;
                Ok(self.hold(Held { token, life, serial: gate.serial }))
            }
            Err(failure) => {
                if failure.class == Class::Denied {
                    gate.refused = Some((self.client.now(), failure.clone()));
                }
                Err(failure)
            }
        }
    }

    async fn obtain(&self) -> Result<(Token, TokenLife), Failure> {
        let request = match &self.credential {
            Credential::Jwt { mount, role, jwt } => endpoints::login_jwt(mount, role, &jwt().await?)?,
            Credential::AppRole { mount, role_id, secret_id } => endpoints::login_app_role(mount, role_id, secret_id)?,
            Credential::Token(secret) => return self.adopt(secret).await,
        };
        // The life starts before the server grants it, so it never seems longer than it is.
        let now = self.client.now();
        let answer = self.client.send(&request, None).await?;
        let grant = endpoints::grant(&request, &answer)?;
        let token = Token::new(&grant.token).ok_or_else(|| classify::misunderstood(&request))?;
        self.logins.fetch_add(1, Ordering::Relaxed);
        Ok((token, TokenLife::new(now, grant.ttl, grant.renewable)))
    }

    /// Learns the life of a token that somebody else made.
    async fn adopt(&self, secret: &SecretBytes) -> Result<(Token, TokenLife), Failure> {
        let token = Token::new(secret).ok_or_else(classify::unusable_credential)?;
        let request = endpoints::lookup_self();
        let now = self.client.now();
        let answer =
            self.client.send(&request, Some(&token)).await.map_err(|failed| {
                if failed.is_forbidden() { classify::unknown_token(&request) } else { failed.failure }
            })?;
        let info: TokenInfo = answer.data(&request)?;
        Ok((token, TokenLife::new(now, info.ttl, info.renewable)))
    }

    fn hold(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        *lock(&self.held) = Some(held.clone());
        held
    }
}
