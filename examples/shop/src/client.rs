//! The order service: calls payment again and again and counts; and the probe without a certificate.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
    time::{MissedTickBehavior, interval, interval_at, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    args::Target,
    http, reload,
    tls::{self, Endpoint, Leaf},
};

/// The longest one call may take, from the connection to the end of the answer.
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// How long the server's addresses are used: a look-up for each of fifty calls a second would measure the cluster's
/// DNS, not its certificates.
const ADDRESSES_FOR: Duration = Duration::from_secs(1);

/// Whom to call, and how often.
pub struct Caller {
    /// The server; its name must be in its certificate.
    pub server: Target,
    /// SPIFFE id the server must have as well.
    pub server_id: Option<String>,
    /// Pause between the starts of two calls.
    pub every: Duration,
}

/// Calls for ever, each time over a new connection with the endpoint that is current. Prints one line a second, one
/// for each failure and one whenever a serial changes; `healthy` follows the last call.
pub async fn run(
    caller: &Caller,
    current: watch::Receiver<Arc<Endpoint<ClientConfig>>>,
    healthy: &watch::Sender<bool>,
    say: &impl Fn(&Value),
) {
    let tally = RefCell::new(Tally::default());
    let calls = async {
        let mut ticks = interval(caller.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut addresses = Addresses::default();
        loop {
            ticks.tick().await;
            let endpoint = Arc::clone(&current.borrow());
            let outcome = call(caller, &mut addresses, &endpoint.config).await;
            healthy.send_replace(outcome.is_ok());
            tally.borrow_mut().record(&endpoint.serial, &outcome).iter().for_each(say);
        }
    };
    let report = async {
        let second = Duration::from_secs(1);
        let mut ticks = interval_at(tokio::time::Instant::now() + second, second);
        loop {
            ticks.tick().await;
            say(&tally.borrow_mut().second());
        }
    };
    tokio::join!(calls, report);
}

/// One call: connect, shake hands, `GET /`, read the answer. Returns the server's leaf.
async fn call(caller: &Caller, addresses: &mut Addresses, config: &Arc<ClientConfig>) -> Result<Leaf> {
    let attempt = async {
        let addresses = addresses.of(&caller.server).await?;
        let stream = TcpStream::connect(addresses).await.context("connect")?;
        // Else the request waits for the acknowledgement of the handshake's last message, which is delayed by 40 ms.
        stream.set_nodelay(true).context("connect")?;
        let mut stream = TlsConnector::from(Arc::clone(config))
            .connect(server_name(&caller.server)?, stream)
            .await
            .context("handshake")?;
        let server = tls::peer(stream.get_ref().1.peer_certificates())?;
        ensure!(
            caller.server_id.is_none() || caller.server_id == server.spiffe_id,
            "the server is {}, not the one expected",
            server.spiffe_id.as_deref().unwrap_or("without a SPIFFE id")
        );
        http::get(&mut stream, &caller.server.host).await.context("request")?;
        Ok(server)
    };
    timeout(CALL_DEADLINE, attempt).await.context("no answer in time")?
}

/// The server's addresses, for [`ADDRESSES_FOR`].
#[derive(Default)]
struct Addresses {
    known: Vec<SocketAddr>,
    since: Option<Instant>,
}

impl Addresses {
    async fn of(&mut self, server: &Target) -> Result<&[SocketAddr]> {
        if self.since.is_none_or(|since| since.elapsed() >= ADDRESSES_FOR) {
            self.since = None;
            self.known = lookup_host((server.host.as_str(), server.port)).await.context("look-up")?.collect();
            self.since = Some(Instant::now());
        }
        Ok(&self.known)
    }
}

fn server_name(server: &Target) -> Result<ServerName<'static>> {
    ServerName::try_from(server.host.clone()).context("the server's name is not one that a certificate can carry")
}

/// What happened so far.
#[derive(Default)]
pub struct Tally {
    this_second: Count,
    in_all: Count,
    client: Option<String>,
    server: Option<String>,
}

#[derive(Default)]
struct Count {
    ok: u64,
    failed: u64,
}

impl Tally {
    /// Counts one call; returns the lines that are worth printing at once.
    fn record(&mut self, client_serial: &str, outcome: &Result<Leaf>) -> Vec<Value> {
        let mut lines = Vec::new();
        lines.extend(changed("client", &mut self.client, client_serial));
        match outcome {
            Ok(server) => {
                self.this_second.ok += 1;
                self.in_all.ok += 1;
                lines.extend(changed("server", &mut self.server, &server.serial));
            }
            Err(failure) => {
                self.this_second.failed += 1;
                self.in_all.failed += 1;
                lines.push(json!({"event": "failed", "why": format!("{failure:#}"), "clientSerial": client_serial}));
            }
        }
        lines
    }

    /// The line for the second that ends now.
    fn second(&mut self) -> Value {
        let Count { ok, failed } = std::mem::take(&mut self.this_second);
        json!({
            "event": "second",
            "ok": ok,
            "failed": failed,
            "okTotal": self.in_all.ok,
            "failedTotal": self.in_all.failed,
            "clientSerial": self.client,
            "serverSerial": self.server,
        })
    }
}

fn changed(whose: &str, known: &mut Option<String>, serial: &str) -> Option<Value> {
    if known.as_deref() == Some(serial) {
        return None;
    }
    let before = known.replace(serial.to_owned())?;
    Some(json!({"event": "serial", "whose": whose, "from": before, "to": serial}))
}

/// What the server does with a caller that has no certificate.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It sent a TLS alert: the one wanted.
    Refused(String),
    /// It answered the request.
    Accepted,
    /// It could not be reached, is not the server it should be, or hung up without an alert.
    Unknown(String),
}

impl Verdict {
    /// For the printed line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Accepted => "accepted",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Why, for people.
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(detail) | Self::Unknown(detail) => detail,
            Self::Accepted => "the server answered a caller without a certificate",
        }
    }

    /// 0 only for the verdict that is wanted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 0,
            Self::Accepted => 1,
            Self::Unknown(_) => 2,
        }
    }
}

/// Calls `server` once without a certificate; `certs` holds the `ca.crt` that the server is verified with.
pub async fn probe(server: &Target, certs: &Path) -> Verdict {
    let attempt = async {
        let mut stream = match shake_hands_anonymously(server, certs).await {
            Ok(stream) => stream,
            Err(error) => return Verdict::Unknown(format!("{error:#}")),
        };
        // In TLS 1.3 the client is done before the server has looked at its certificate, so the refusal arrives with
        // the first read; an alert before that is about something else.
        match http::get(&mut stream, &server.host).await {
            Ok(()) => Verdict::Accepted,
            Err(error) => alert(&error).map_or_else(|| Verdict::Unknown(format!("{error:#}")), Verdict::Refused),
        }
    };
    timeout(CALL_DEADLINE, attempt).await.unwrap_or_else(|_| Verdict::Unknown("no answer in time".to_owned()))
}

async fn shake_hands_anonymously(server: &Target, certs: &Path) -> Result<TlsStream<TcpStream>> {
    let config = tls::anonymous(&reload::roots(certs)?)?;
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await.context("connect")?;
    TlsConnector::from(config).connect(server_name(server)?, stream).await.context("handshake")
}

/// The TLS alert that the server sent, if that is what ended the call.
fn alert(error: &anyhow::Error) -> Option<String> {
    let io = error.downcast_ref::<std::io::Error>()?;
    match io.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(format!("TLS alert {alert:?}")),
        _ => None,
    }
}
