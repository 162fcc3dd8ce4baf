//! As much HTTP/1.1 as the example needs: one request with an empty body per connection.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

/// The longest head or whole message that is read, bytes.
const MOST: usize = 8 * 1024;
/// The longest a caller of `/healthz` may take.
const HEALTH_DEADLINE: Duration = Duration::from_secs(2);
/// The pause after `accept` failed, which it does when file descriptors are used up.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads a request's head and returns its method and path.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<(String, String)> {
    let head = read_while(stream, |read| !read.windows(4).any(|end| end == b"\r\n\r\n")).await?;
    let head = String::from_utf8(head).ok().context("the request is not text")?;
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(path), Some("HTTP/1.1" | "HTTP/1.0"), None) => Ok((method.to_owned(), path.to_owned())),
        _ => bail!("not an HTTP/1.1 request"),
    }
}

/// Writes a whole answer; `status` is the code with its phrase, such as `200 OK`.
pub async fn write_answer(stream: &mut (impl AsyncWrite + Unpin), status: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await.context("cannot end the answer")
}

/// Sends `GET /` and reads the answer to its end; fails unless it is a 200.
pub async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    let sent = sent.await;
    // Read even if sending failed: the server's alert, which says why, may be waiting.
    let answer = read_while(stream, |_| true).await?;
    sent.context("cannot send the request")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the answer is not a 200");
    Ok(())
}

/// Answers `GET /healthz`: 200 while `healthy` says so, else 503. Never returns.
pub async fn serve_health(listener: TcpListener, healthy: watch::Receiver<bool>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let well = *healthy.borrow();
        tokio::spawn(timeout(HEALTH_DEADLINE, async move {
            let (method, path) = read_request(&mut stream).await?;
            let status = match (method.as_str(), path.as_str(), well) {
                ("GET", "/healthz", true) => "200 OK",
                ("GET", "/healthz", false) => "503 Service Unavailable",
                _ => "404 Not Found",
            };
            write_answer(&mut stream, status, &Value::Null).await
        }));
    }
}

/// Reads until `more` says no, or the end of the stream.
async fn read_while(stream: &mut (impl AsyncRead + Unpin), more: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(512);
    while more(&message) {
        ensure!(message.len() < MOST, "the message is longer than {MOST} bytes");
        if stream.read_buf(&mut message).await? == 0 {
            break;
        }
    }
    Ok(message)
}
