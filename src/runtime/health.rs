//! Whether the process lives and is ready, and the two small servers that say so.
//!
//! Alive means that every loop of ours still turns; it never depends on the API server or Vault, since
//! a restart heals neither. Ready means that the named checks pass; Vault is not among them, and
//! neither is leadership. Loops and checks are reported by whoever runs them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{
    clock::Clock,
    metrics::{Check, Metrics, text},
};

/// A loop that did not turn for this long is stuck.
pub const STUCK: Duration = Duration::from_secs(60);
/// A check that has passed once must fail this long before it counts: a short outage of the API
/// server must not take every replica out of service.
pub const TOLERANCE: Duration = Duration::from_secs(120);

/// The process's health; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    loops: Mutex<BTreeMap<&'static str, Duration>>,
    checks: Mutex<BTreeMap<Check, Known>>,
}

/// Says that a loop turns. A loop that ends without the process ending is stuck, so dropping this
/// changes nothing.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    health: Health,
    name: &'static str,
}

/// What is known of one check.
#[derive(Debug, Default)]
struct Known {
    passed_at: Option<Duration>,
    trouble: Option<String>,
}

impl Heartbeat {
    /// The loop turned.
    pub fn tick(&self) {
        let now = self.health.0.clock.monotonic();
        self.health.loops().insert(self.name, now);
    }
}

impl Health {
    /// Nothing runs and nothing is checked yet.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, loops: Mutex::default(), checks: Mutex::default() }))
    }

    /// From now on the loop `name` must turn within every [`STUCK`].
    pub fn heartbeat(&self, name: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat { health: self.clone(), name };
        heartbeat.tick();
        heartbeat
    }

    /// The loop `name` has done its work and need not turn any more.
    pub fn retire(&self, name: &str) {
        self.loops().remove(name);
    }

    /// From now on `check` is needed to be ready; it fails until it is reported to pass.
    pub fn require(&self, check: Check) {
        self.checks()
            .entry(check)
            .or_insert_with(|| Known { passed_at: None, trouble: Some("not checked yet".into()) });
    }

    /// Notes that a check passes, or in our own words why it does not.
    pub fn report(&self, check: Check, result: Result<(), String>) {
        let now = self.0.clock.monotonic();
        let mut checks = self.checks();
        let state = checks.entry(check).or_default();
        state.trouble = result.err();
        if state.trouble.is_none() {
            state.passed_at = Some(now);
        }
    }

    /// Every loop, and what is wrong with it.
    pub fn live(&self) -> Vec<(&'static str, Option<String>)> {
        let now = self.0.clock.monotonic();
        let stuck = |last: Duration| {
            let age = now.saturating_sub(last);
            (age >= STUCK).then(|| format!("has not turned for {} s", age.as_secs()))
        };
        self.loops().iter().map(|(name, last)| (*name, stuck(*last))).collect()
    }

    /// Every check that is needed, and what is wrong with it.
    pub fn ready(&self) -> Vec<(Check, Option<String>)> {
        let now = self.0.clock.monotonic();
        let tolerated = |state: &Known| state.passed_at.is_some_and(|at| now.saturating_sub(at) < TOLERANCE);
        self.checks()
            .iter()
            .map(|(check, state)| (*check, state.trouble.clone().filter(|_| !tolerated(state))))
            .collect()
    }

    fn loops(&self) -> MutexGuard<'_, BTreeMap<&'static str, Duration>> {
        self.0.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<Check, Known>> {
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/livez` and `/readyz`; `?verbose` lists the loops or checks by name.
pub async fn serve_probes(listener: TcpListener, health: Health) -> io::Result<()> {
    axum::serve(listener, probes(health)).await
}

/// Serves `/metrics`.
pub async fn serve_metrics(listener: TcpListener, metrics: Metrics, health: Health) -> io::Result<()> {
    axum::serve(listener, exposition(metrics, health)).await
}

fn probes(health: Health) -> Router {
    let live = |State(health): State<Health>, uri: Uri| async move { answer("livez", &health.live(), &uri) };
    let ready = |State(health): State<Health>, uri: Uri| async move {
        let checks: Vec<_> = health.ready().into_iter().map(|(check, trouble)| (check.as_str(), trouble)).collect();
        answer("readyz", &checks, &uri)
    };
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(health)
}

fn exposition(metrics: Metrics, health: Health) -> Router {
    let scrape = |State((metrics, health)): State<(Metrics, Health)>, headers: HeaderMap| async move {
        for (check, trouble) in health.ready() {
            metrics.set_readiness(check, trouble.is_none());
        }
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if text::wants_open_metrics(accept) {
            ([(header::CONTENT_TYPE, text::OPEN_METRICS)], metrics.open_metrics())
        } else {
            ([(header::CONTENT_TYPE, text::TEXT)], metrics.text())
        }
    };
    Router::new().route("/metrics", get(scrape)).with_state((metrics, health))
}

/// `ok`, or with `?verbose` and on failure every line, in the words of the API server's own probes.
fn answer(probe: &str, lines: &[(&str, Option<String>)], uri: &Uri) -> Response {
    let failed = lines.iter().any(|(_, trouble)| trouble.is_some());
    let verbose =
        uri.query().is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    if !failed && !verbose {
        return "ok".into_response();
    }
    let mut body = String::new();
    for (name, trouble) in lines {
        // Writing to a string cannot fail.
        let _ = match trouble {
            None => writeln!(body, "[+]{name} ok"),
            Some(trouble) => writeln!(body, "[-]{name} failed: {trouble}"),
        };
    }
    let (status, verdict) =
        if failed { (StatusCode::SERVICE_UNAVAILABLE, "failed") } else { (StatusCode::OK, "passed") };
    let _ = writeln!(body, "{probe} check {verdict}");
    (status, body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tokio::time::advance;
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(router: &Router, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn check(router: &Router, path: &str, status: u16, body: &str) {
        let (got, _, text) = fetch(router, path, "").await;
        assert_eq!((got, text.as_str()), (status, body), "{path}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_named() {
        let health = Health::new(Clock::system());
        let router = probes(health.clone());
        let (election, identity) = (health.heartbeat("election"), health.heartbeat("identity"));
        check(&router, "/livez", 200, "ok").await;
        check(&router, "/livez?verbose", 200, "[+]election ok\n[+]identity ok\nlivez check passed\n").await;
        advance(STUCK.saturating_sub(Duration::from_secs(1))).await;
        election.tick();
        check(&router, "/livez", 200, "ok").await;
        advance(Duration::from_secs(1)).await;
        let stuck = "[+]election ok\n[-]identity failed: has not turned for 60 s\nlivez check failed\n";
        check(&router, "/livez", 503, stuck).await;
        identity.tick();
        check(&router, "/livez", 200, "ok").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_required_check_must_pass_once_and_then_may_fail_for_a_while() {
        let health = Health::new(Clock::system());
        let router = probes(health.clone());
        health.require(Check::ApiServer);
        check(&router, "/readyz", 503, "[-]api_server failed: not checked yet\nreadyz check failed\n").await;
        health.report(Check::ApiServer, Err("does not answer".into()));
        check(&router, "/readyz", 503, "[-]api_server failed: does not answer\nreadyz check failed\n").await;
        health.report(Check::ApiServer, Ok(()));
        check(&router, "/readyz?verbose", 200, "[+]api_server ok\nreadyz check passed\n").await;

        advance(TOLERANCE.saturating_sub(Duration::from_secs(1))).await;
        health.report(Check::ApiServer, Err("does not answer".into()));
        check(&router, "/readyz", 200, "ok").await;
        advance(Duration::from_secs(1)).await;
        check(&router, "/readyz", 503, "[-]api_server failed: does not answer\nreadyz check failed\n").await;
        health.require(Check::ApiServer);
        check(&router, "/readyz", 503, "[-]api_server failed: does not answer\nreadyz check failed\n").await;
    }

    #[tokio::test]
    async fn metrics_are_answered_in_the_format_asked_for_and_show_the_checks() {
        let health = Health::new(Clock::system());
        health.require(Check::Crds);
        let router = exposition(Metrics::new(), health);
        let (status, kind, body) = fetch(&router, "/metrics", "application/openmetrics-text").await;
        assert_eq!((status, kind.as_str()), (200, text::OPEN_METRICS));
        assert!(body.ends_with("# EOF\n"));
        let (_, kind, body) = fetch(&router, "/metrics", "*/*").await;
        assert_eq!(kind, text::TEXT);
        assert!(body.contains("countersign_readiness_check{check=\"crds\"} 0\n") && !body.contains("# EOF"));
    }
}
