//! One connection: every request to a server goes through here and nothing gets round it.
//!
//! Each one passes the breaker, waits for its turn, is sent once, over TLS to the pinned roots,
//! without proxy, redirect, compression or retry, under one deadline, and its answer is read up to
//! 2 MiB. It must not know what a request means; that is `endpoints` and `session`. The environment
//! is not read: there is no `VAULT_ADDR` that could send a token elsewhere.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::Reason,
    connection::{
        address::Surroundings,
        breaker::{Breaker, Outcome, Permit},
    },
    fault::{Class, Failure},
    value::vault_path::VaultNamespace,
};
use http::{HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use rustls_pki_types::DnsName;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{
    classify,
    health::{self, Health},
    request::{Answer, Call, CallFailed, Request, Token},
    tls::{Resolver, Roots, client_config},
    turns::{Crowded, Slot, Turns},
};

/// The most bytes of an answer.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// How long a TCP and TLS connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest `Retry-After` we believe.
const LONGEST_WISH: Duration = Duration::from_secs(120);

/// Bounds on what a connection asks of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second, 1–10000.
    pub requests_per_second: u32,
    /// Requests under way at once, 1–1000.
    pub in_flight: usize,
    /// Deadline of one request from its first byte to the last of its answer, 1s–60s.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: 50, in_flight: 32, timeout: Duration::from_secs(10) }
    }
}

/// All there is to know about a server before asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// UID of the `VaultConnection`; spreads the probes after an outage.
    pub uid: String,
    /// `https` URL without credentials, query or fragment.
    pub address: Url,
    /// Whom we trust to vouch for the server.
    pub roots: Roots,
    /// DNS name to verify (and send) instead of the address's host.
    pub server_name: Option<String>,
    /// Vault Enterprise or OpenBao namespace.
    pub namespace: Option<VaultNamespace>,
    /// Bounds.
    pub limits: Limits,
    /// Where we must not go, whatever a name resolves to.
    pub surroundings: Surroundings,
}

/// One request that ended, for whoever measures.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// What it was for.
    pub call: Call,
    /// The answer's status; `None` without an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub took: Duration,
}

/// One connection to one server, shared by all its sessions.
pub struct VaultClient {
    http: reqwest::Client,
    /// Scheme, name to verify, port and path prefix, without a trailing slash.
    base: String,
    namespace: Option<HeaderValue>,
    limits: Limits,
    breaker: Arc<Mutex<Breaker>>,
    turns: Turns,
    monotonic: Arc<dyn Fn() -> Duration + Send + Sync>,
    observer: Box<dyn Fn(Observation) + Send + Sync>,
}

impl VaultClient {
    /// A client for `settings`; connects to nothing yet.
    ///
    /// `monotonic` is the time since any fixed moment and never goes back. Fails with `Invalid` if the
    /// address, the roots or the server name cannot be used.
    pub fn new(
        settings: &ConnectionSettings,
        monotonic: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&settings.roots)?)
            .https_only(true)
            .http1_only()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT);
        let mut base = checked_address(&settings.address)?;
        let port = base.port_or_known_default().unwrap_or(443);
        let mut resolver = Resolver { host: None, port, surroundings: settings.surroundings.clone() };
        if let Some(name) = &settings.server_name {
            resolver.host = Some(dial_host(&base)?);
            base = renamed(base, name)?;
        }
        builder = builder.dns_resolver(resolver);
        let http = builder.build().map_err(|_| classify::internal("the HTTP client cannot be built"))?;
        let namespace = settings.namespace.as_ref().map(|namespace| HeaderValue::from_str(&namespace.to_string()));
        let breaker = Arc::new(Mutex::new(Breaker::new(settings.uid.clone())));
        let monotonic: Arc<dyn Fn() -> Duration + Send + Sync> = Arc::new(monotonic);
        let full = f64::from(settings.limits.requests_per_second.max(1));
        let turns = Turns::new(settings.limits.in_flight, {
            let (breaker, monotonic) = (breaker.clone(), monotonic.clone());
            move || {
                let now = monotonic();
                (lock(&breaker).rate(now, full), now)
            }
        });
        Ok(Self {
            http,
            base: base.as_str().trim_end_matches('/').to_owned(),
            namespace: namespace.transpose().map_err(|_| invalid("the namespace cannot be sent as a header"))?,
            limits: settings.limits,
            breaker,
            turns,
            monotonic,
            observer: Box::new(|_| ()),
        })
    }

    /// The same client, whose requests are told to `observer` when they end.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Fn(Observation) + Send + Sync + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Asks the server for its health; an answer that says "sealed" is an answer.
    ///
    /// While the server is away, only the callers whose turn it is to probe ask it.
    pub async fn health(&self) -> Result<Health, Failure> {
        let permit = self.breaker().ask(self.now());
        match permit {
            Permit::Refuse(cause) => Err(cause),
            Permit::Call | Permit::Probe => self.examine().await,
        }
    }

    /// What keeps callers away now, if anything does.
    pub fn outage(&self) -> Option<Failure> {
        self.breaker().cause().cloned()
    }

    /// The same, with the time after which somebody may ask again.
    pub fn refusal(&self) -> Option<Failure> {
        let now = self.now();
        self.breaker().refusal(now)
    }

    /// The time since this client's fixed moment.
    pub(super) fn now(&self) -> Duration {
        (self.monotonic)()
    }

    /// Sends a request and returns its usable answer.
    pub(super) async fn send(&self, request: &Request, token: Option<&Token>) -> Result<Answer, CallFailed> {
        let slot = self.admit(request).await?;
        let result = self.exchange(request, token).await;
        drop(slot);
        let outcome = match &result {
            // A signature that fails with 500 speaks of its issuer until the issuer was looked at.
            Err(failed) if speaks_of_an_issuer(request.call, failed) => return result,
            Err(failed) if failed.failure.reason == Reason::BackendFailing => {
                Outcome::Stumbled { path: request.path.as_str().to_owned() }
            }
            Err(failed) => Outcome::from(Err(&failed.failure)),
            Ok(_) => Outcome::Answered,
        };
        self.breaker().record(self.now(), outcome);
        result
    }

    /// Passes the breaker (probing, if it is our turn) and waits for a slot and our turn.
    async fn admit(&self, request: &Request) -> Result<Slot, Failure> {
        let permit = self.breaker().ask(self.now());
        match permit {
            Permit::Refuse(cause) => return Err(cause),
            Permit::Probe => self.examine().await?.usable()?,
            Permit::Call => {}
        }
        let slot = self.turn(request).await?;
        // Somebody may have found the server away while we waited.
        let cause = self.outage();
        cause.map_or(Ok(slot), Err)
    }

    async fn examine(&self) -> Result<Health, Failure> {
        let request = health::request();
        let _slot = self.turn(&request).await?;
        let result = match self.exchange(&request, None).await {
            Ok(answer) => health::read(&answer),
            Err(failed) => Err(failed.failure),
        };
        let verdict = result.as_ref().map_err(Clone::clone).and_then(Health::usable);
        let now = self.now();
        match verdict {
            Ok(()) => self.breaker().probed(now),
            Err(failure) => self.breaker().record(now, Outcome::from(Err(&failure))),
        }
        result
    }

    /// Waits for a free slot and for the pace, but no longer than a request may take.
    async fn turn(&self, request: &Request) -> Result<Slot, Failure> {
        let own_budget = |words: &str, wait: Duration| {
            Failure::new(Class::Throttled, Reason::Throttled, format!("{request}: {words}")).retry_after(wait)
        };
        let timeout = self.limits.timeout;
        self.turns.enter(timeout).await.map_err(|crowded| match crowded {
            Crowded::Slots => own_budget("our own limit `inFlight` is used up", timeout),
            Crowded::Pace(wait) => own_budget("our own limit `requestsPerSecond` is used up", wait),
        })
    }

    async fn exchange(&self, request: &Request, token: Option<&Token>) -> Result<Answer, CallFailed> {
        let started = self.now();
        let result = match tokio::time::timeout(self.limits.timeout, self.round_trip(request, token)).await {
            Ok(result) => result,
            Err(_) => Err(classify::deadline(request)),
        };
        let status = result.as_ref().map_or_else(|failed| failed.status, |answer| Some(answer.status));
        (self.observer)(Observation {
            call: request.call,
            status: status.map(|status| status.as_u16()),
            took: self.now().saturating_sub(started),
        });
        result.and_then(|answer| classify::answer(request, answer))
    }

    async fn round_trip(&self, request: &Request, token: Option<&Token>) -> Result<Answer, CallFailed> {
        let broken = |error: reqwest::Error| classify::transport(request, &error);
        let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{}/v1/{}{query}", self.base, request.path.as_str());
        let mut building = self
            .http
            .request(request.method.clone(), url)
            .header(header::ACCEPT, "application/json")
            // Agents and proxies may be told to refuse requests without it (protection against SSRF).
            .header("x-vault-request", "true");
        if let Some(namespace) = self.namespace.as_ref().filter(|_| request.call != Call::Health) {
            building = building.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            building = building.header("x-vault-token", token.header());
        }
        if let Some(body) = &request.body {
            building = building.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = building.send().await.map_err(broken)?;
        let (status, retry_after) = (response.status(), retry_after(response.headers().get(header::RETRY_AFTER)));
        let body = read_body(request, &mut response).await?;
        Ok(Answer { status, retry_after, body })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }
}

/// The guarded values are replaced in one step each, so a panic elsewhere cannot leave them half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn speaks_of_an_issuer(call: Call, failed: &CallFailed) -> bool {
    matches!(call, Call::Sign | Call::Issuer) && failed.status == Some(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn read_body(request: &Request, response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, CallFailed> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > MAX_BODY {
        return Err(classify::oversized(request));
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = response.chunk().await.map_err(|error| classify::transport(request, &error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(classify::oversized(request));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn retry_after(value: Option<&HeaderValue>) -> Option<Duration> {
    let seconds: u64 = value?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WISH))
}

fn checked_address(address: &Url) -> Result<Url, Failure> {
    let plain = address.username().is_empty()
        && address.password().is_none()
        && address.query().is_none()
        && address.fragment().is_none();
    if address.scheme() == "https" && plain && address.has_host() {
        Ok(address.clone())
    } else {
        Err(invalid("the address must be an https URL without credentials, query or fragment"))
    }
}

/// The address's host in the form in which it is resolved or dialled.
fn dial_host(address: &Url) -> Result<String, Failure> {
    match address.host() {
        Some(Host::Domain(name)) => Ok(name.to_owned()),
        Some(Host::Ipv4(ip)) => Ok(ip.to_string()),
        Some(Host::Ipv6(ip)) => Ok(ip.to_string()),
        None => Err(invalid("the address has no host")),
    }
}

fn renamed(mut address: Url, name: &str) -> Result<Url, Failure> {
    let unusable = || invalid("`tls.serverName` must be a DNS name");
    // An IP address would be dialled instead of resolved, and reach another host than the address says.
    DnsName::try_from(name).map_err(|_| unusable())?;
    address.set_host(Some(name)).map_err(|_| unusable())?;
    if matches!(address.host(), Some(Host::Domain(_))) { Ok(address) } else { Err(unusable()) }
}

fn invalid(words: &str) -> Failure {
    Failure::new(Class::Invalid, Reason::InvalidSpec, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str, server_name: Option<&str>) -> ConnectionSettings {
        ConnectionSettings {
            uid: "u".to_owned(),
            address: address.parse().unwrap(),
            roots: Roots { pem: None, public: true },
            server_name: server_name.map(str::to_owned),
            namespace: None,
            limits: Limits::default(),
            surroundings: Surroundings::default(),
        }
    }

    fn base(address: &str, server_name: Option<&str>) -> Result<String, Reason> {
        VaultClient::new(&settings(address, server_name), || Duration::ZERO)
            .map(|client| client.base)
            .map_err(|failure| failure.reason)
    }

    #[test]
    fn only_plain_https_addresses_are_taken() {
        let table = [
            ("https://bao.infra.svc:8200", Ok("https://bao.infra.svc:8200")),
            ("https://bao.infra.svc:8200/", Ok("https://bao.infra.svc:8200")),
            ("https://gate.example/vault/", Ok("https://gate.example/vault")),
            ("https://[::1]:8200", Ok("https://[::1]:8200")),
            ("http://bao.infra.svc:8200", Err(Reason::InvalidSpec)),
            ("ftp://bao.infra.svc", Err(Reason::InvalidSpec)),
            ("file:///etc/passwd", Err(Reason::InvalidSpec)),
            ("https://user@bao.infra.svc", Err(Reason::InvalidSpec)),
            ("https://user:pw@bao.infra.svc", Err(Reason::InvalidSpec)),
            ("https://bao.infra.svc/?a=b", Err(Reason::InvalidSpec)),
            ("https://bao.infra.svc/#x", Err(Reason::InvalidSpec)),
        ];
        for (address, expected) in table {
            assert_eq!(base(address, None).as_deref(), expected.as_deref(), "{address}");
        }
    }

    #[test]
    fn the_server_name_takes_the_place_of_the_host_and_is_a_dns_name() {
        let address = "https://10.1.2.3:8200/prefix";
        assert_eq!(base(address, Some("bao.infra.svc")).as_deref(), Ok("https://bao.infra.svc:8200/prefix"));
        for name in ["10.9.9.9", "::1", "[::1]", "", "a b", "a/b", "a:1", "1", "0x7f.1"] {
            assert_eq!(base(address, Some(name)), Err(Reason::InvalidSpec), "{name:?}");
        }
    }

    #[test]
    fn a_wish_is_read_in_seconds_and_not_believed_beyond_two_minutes() {
        let wish = |text: &str| retry_after(Some(&HeaderValue::from_str(text).unwrap()));
        assert_eq!(wish("7"), Some(Duration::from_secs(7)));
        assert_eq!(wish("99999999"), Some(LONGEST_WISH));
        assert_eq!(wish("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after(None), None);
    }
}
