//! The payment service: answers callers whose certificate names an allowed SPIFFE id.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    database::Login,
    http,
    reload::Loaded as _,
    tls::{self, Endpoint},
};

/// The longest one connection may take, handshake included.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long a caller that was turned away may take to hang up.
const LINGER: Duration = Duration::from_secs(1);
/// How long the calls under way at the stop may still take.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until `stopped` resolves, then finishes the calls under way. Each connection uses the endpoint that is
/// current when it arrives.
pub async fn serve(
    listener: TcpListener,
    current: watch::Receiver<Arc<Endpoint<ServerConfig>>>,
    database: Option<watch::Receiver<Arc<Login>>>,
    say: &impl Fn(&Value),
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = std::pin::pin!(stopped);
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let endpoint = Arc::clone(&current.borrow());
                    let login = database.as_ref().map(|login| Arc::clone(&login.borrow()));
                    calls.spawn(timeout(CALL_DEADLINE, answer(stream, endpoint, login)));
                }
                Err(_) => sleep(http::ACCEPT_PAUSE).await,
            },
            Some(ended) = calls.join_next() => match ended {
                Ok(Ok(Ok(()))) => (),
                Ok(Ok(Err(refusal))) => say(&json!({"event": "refused", "why": format!("{refusal:#}")})),
                Ok(Err(_)) => say(&json!({"event": "refused", "why": "the caller took too long"})),
                Err(_) => say(&json!({"event": "refused", "why": "the call ended abnormally"})),
            },
        }
    }
    drop(listener);
    // Whether all of them finish in time or not, the process ends now.
    let _ = timeout(DRAIN, async { while calls.join_next().await.is_some() {} }).await;
}

async fn answer(stream: TcpStream, endpoint: Arc<Endpoint<ServerConfig>>, login: Option<Arc<Login>>) -> Result<()> {
    stream.set_nodelay(true).context("accept")?;
    let acceptor = TlsAcceptor::from(Arc::clone(&endpoint.config));
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((refusal, stream)) => {
            hang_up(stream).await;
            return Err(refusal).context("handshake");
        }
    };
    let client = tls::peer(stream.get_ref().1.peer_certificates())?;
    let (method, path) = http::read_request(&mut stream).await?;
    let paid = || {
        let body = json!({"paid": true, "client": client.spiffe_id, "clientSerial": client.serial});
        let members = body.as_object().cloned().into_iter().flatten();
        members.chain(login.iter().flat_map(|login| login.state())).collect::<Value>()
    };
    let (status, body) = match (method.as_str(), path.as_str()) {
        ("GET", "/") => ("200 OK", paid()),
        _ => ("404 Not Found", json!({"error": "only GET / is known"})),
    };
    http::write_answer(&mut stream, status, &body).await
}

/// Closes so that the alert just sent arrives: closing with unread data resets the connection, and a reset can
/// overtake what was sent before it.
async fn hang_up(mut stream: TcpStream) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The caller was already refused; how it hangs up changes nothing.
    let _ = timeout(LINGER, until_closed).await;
}
