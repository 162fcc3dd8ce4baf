//! The fault proxy: a TLS listener on loopback in front of a server, which it also reaches by TLS.
//!
//! It forwards headers (the bearer token among them) and streams answers, so watches work; what goes wrong, and when,
//! [`Wire`] decides.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{
    call::{Request as Asked, Side, Sort},
    plan::{Act, Position},
    script::Canned,
    tls::Identity,
    wire::Wire,
};

/// A server behind a proxy.
#[derive(Clone)]
pub struct Upstream {
    /// Which.
    pub side: Side,
    /// `https://host:port`.
    pub url: String,
    /// Client that trusts it and nothing else.
    pub client: reqwest::Client,
}

impl Upstream {
    /// A server whose certificate `authority` (PEM) signed.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn new(side: Side, url: &str, authority: &[u8]) -> Result<Self> {
        let authority = reqwest::Certificate::from_pem(authority).context("no certificate authority")?;
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .context("no client can be made")?;
        Ok(Self { side, url: url.trim_end_matches('/').to_owned(), client })
    }
}

/// A listening proxy; stops when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(wire: Arc<Wire>, upstream: Upstream, identity: &Identity) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.server));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, acceptor.clone(), Arc::clone(&wire), upstream.clone()));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Marks the end of a connection without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor, wire: Arc<Wire>, upstream: Upstream) {
    let _ = stream.set_nodelay(true);
    // A connection that is cut shall look like one: RST instead of an orderly end.
    let _ = stream.set_zero_linger();
    // A client that goes away or distrusts us is no business of the proxy's.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| {
        let (wire, upstream) = (Arc::clone(&wire), upstream.clone());
        async move { serve(&wire, &upstream, request).await }
    });
    // An error of the service ends the connection at once and unanswered: that is the fault.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn serve(wire: &Arc<Wire>, upstream: &Upstream, request: Request<Incoming>) -> Result<Response<Answer>, Cut> {
    let (head, body) = request.into_parts();
    let bytes = collect(body).await?;
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let (process, path) = split_process(head.uri.path());
    let method = head.method.clone();
    let asked = match upstream.side {
        Side::Api => {
            let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            Asked::api(method.as_str(), &path, content_type, &body)
        }
        Side::Vault => Asked::vault(method.as_str(), &path),
    };
    let query = narrowed(&asked, head.uri.query().unwrap_or_default(), wire.lane.as_deref());
    let url =
        if query.is_empty() { format!("{}{path}", upstream.url) } else { format!("{}{path}?{query}", upstream.url) };
    let whole = asked.sort != Sort::Read;
    let verdict = wire.admit(asked, &body, process);
    let (index, fault, canned) = (verdict.index, verdict.fault, verdict.canned);
    if let Some(canned) = canned {
        return scripted(wire, index, canned).await;
    }
    let sent = Sent { wire, upstream, index, method, url, headers: head.headers, bytes };
    match fault {
        None => sent.pass(whole).await,
        Some((Position::Before, Act::Answer(status))) => Ok(sent.refuse(status)),
        Some((Position::Before, Act::Delete)) => {
            wire.step().await;
            sent.pass(whole).await
        }
        Some((Position::Before, act)) => sent.end(act).await,
        Some((Position::Lost, act)) => {
            let answer = sent.forward(true).await?;
            match act {
                Act::Answer(status) => Ok(sent.refuse(status)),
                Act::Delete => {
                    wire.step().await;
                    wire.answered(index, answer.status().as_u16());
                    Ok(answer)
                }
                act => sent.end(act).await,
            }
        }
        Some((Position::After, act)) => {
            let mut answer = sent.pass(true).await?;
            let (delivered, wait) = mpsc::channel(1);
            answer.body_mut().delivered = Some(delivered);
            tokio::spawn(afterwards(Arc::clone(wire), wait, act));
            Ok(answer)
        }
    }
}

/// Strikes one millisecond after an answer was delivered.
async fn afterwards(wire: Arc<Wire>, mut delivered: mpsc::Receiver<()>, act: Act) {
    // The sender is dropped with the answer's body, once all of it is written.
    let _ = delivered.recv().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    match act {
        Act::Delete => wire.step().await,
        _ => wire.kill(),
    }
}

/// Answers as the script says.
async fn scripted(wire: &Arc<Wire>, index: usize, canned: Canned) -> Result<Response<Answer>, Cut> {
    match canned {
        Canned::Reset => Err(Cut),
        Canned::Silence(span) => {
            tokio::time::sleep(span).await;
            Err(Cut)
        }
        Canned::CutShort(body) => {
            wire.answered(index, 200);
            let (sender, chunks) = mpsc::channel(2);
            // There is room for both, so neither waits for a reader.
            let _ = sender.send(Ok(body.into())).await;
            let _ = sender.send(Err(Cut)).await;
            Ok(Response::new(Answer { first: None, chunks: Some(chunks), delivered: None }))
        }
        Canned::Answer { status, body, header } => {
            wire.answered(index, status);
            let mut response = Response::builder().status(status);
            if let Some((name, value)) = header {
                response = response.header(name, value);
            }
            response.body(Answer::whole(body.into())).map_err(|_| Cut)
        }
    }
}

/// A call on its way.
struct Sent<'a> {
    wire: &'a Arc<Wire>,
    upstream: &'a Upstream,
    /// Its place in the log.
    index: usize,
    method: Method,
    url: String,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Sent<'_> {
    /// Sends it on; reads the `whole` answer, or streams it. Whoever calls decides what the client sees of it.
    async fn forward(&self, whole: bool) -> Result<Response<Answer>, Cut> {
        let mut headers = self.headers.clone();
        for hop in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(hop);
        }
        let request =
            self.upstream.client.request(self.method.clone(), &self.url).headers(headers).body(self.bytes.clone());
        self.wire.forwarded(self.index);
        let mut answer = request.send().await.map_err(|_| Cut)?;
        let status = answer.status();
        let mut response = Response::builder().status(status);
        for (name, value) in answer.headers() {
            if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
                response = response.header(name, value);
            }
        }
        let body = if whole {
            let bytes = answer.bytes().await.map_err(|_| Cut)?;
            let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            self.wire.done(self.index, status.as_u16(), &json);
            Answer::whole(bytes)
        } else {
            self.wire.done(self.index, status.as_u16(), &Value::Null);
            let (sender, chunks) = mpsc::channel(16);
            tokio::spawn(async move {
                loop {
                    let item = answer.chunk().await.map_err(|_| Cut);
                    let last = !matches!(item, Ok(Some(_)));
                    let Some(item) = item.transpose() else { break };
                    if sender.send(item).await.is_err() || last {
                        break;
                    }
                }
            });
            Answer { first: None, chunks: Some(chunks), delivered: None }
        };
        response.body(body).map_err(|_| Cut)
    }

    /// Sends it on, and passes the answer back.
    async fn pass(&self, whole: bool) -> Result<Response<Answer>, Cut> {
        let answer = self.forward(whole).await?;
        self.wire.answered(self.index, answer.status().as_u16());
        Ok(answer)
    }

    /// Answers in the server's stead.
    fn refuse(&self, status: u16) -> Response<Answer> {
        self.wire.answered(self.index, status);
        let body = match self.upstream.side {
            Side::Api => {
                let reason = match status {
                    403 => "Forbidden",
                    409 => "Conflict",
                    504 => "Timeout",
                    _ => "InternalError",
                };
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
                    "message": "an injected fault", "code": status})
            }
            Side::Vault => json!({"errors": ["an injected fault"]}),
        };
        let mut response = Response::new(Answer::whole(body.to_string().into()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Ends without an answer.
    async fn end(&self, act: Act) -> Result<Response<Answer>, Cut> {
        if act == Act::Kill {
            self.wire.kill();
            // The peer is dead; nothing is said to it until its connection is seen to be closed.
            return std::future::pending().await;
        }
        Err(Cut)
    }
}

/// The number of the process that asks, which stands before the path, and the path.
fn split_process(path: &str) -> (Option<u32>, String) {
    let numbered = path.strip_prefix("/p").and_then(|rest| rest.split_once('/'));
    match numbered.and_then(|(number, rest)| Some((number.parse().ok()?, rest))) {
        Some((number, rest)) => (Some(number), format!("/{rest}")),
        None => (None, path.to_owned()),
    }
}

/// Our kinds of which the plans make objects.
const OURS: [&str; 7] = [
    "serviceidentities",
    "trustdomains",
    "vaultconnections",
    "secretbindings",
    "segments",
    "accessgrants",
    "accessrequests",
];

/// The query, which for lists and watches of our kinds asks for the lane's objects only.
fn narrowed(asked: &Asked, query: &str, lane: Option<&str>) -> String {
    let ours = OURS.contains(&asked.resource.as_str());
    let Some(lane) = lane.filter(|_| ours && asked.verb == "GET" && asked.object.is_empty()) else {
        return query.to_owned();
    };
    let narrowing = format!("labelSelector=lane%3D{lane}");
    if query.is_empty() { narrowing } else { format!("{query}&{narrowing}") }
}

async fn collect(mut body: Incoming) -> Result<Bytes, Cut> {
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(|_| Cut)?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all.into())
}

/// An answer: whole, or as it comes.
struct Answer {
    first: Option<Bytes>,
    chunks: Option<mpsc::Receiver<Result<Bytes, Cut>>>,
    /// Dropped once everything was handed over.
    delivered: Option<mpsc::Sender<()>>,
}

impl Answer {
    fn whole(bytes: Bytes) -> Self {
        Self { first: Some(bytes), chunks: None, delivered: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(bytes) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut self.chunks {
            Some(chunks) => chunks.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match (&self.first, &self.chunks) {
            (Some(bytes), None) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            _ => hyper::body::SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::crash::{
        call::{Name, Owner, Scope},
        wire::Fault,
    };

    /// A server that counts and answers with a version.
    async fn server(identity: &Identity) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.server));
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        async move {
                            collect(request.into_body()).await?;
                            let body = json!({"metadata": {"resourceVersion": "7"}});
                            Ok::<_, Cut>(Response::new(Answer::whole(body.to_string().into())))
                        }
                    });
                    let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                });
            }
        });
        (address, served)
    }

    /// For a write with that fault: the status that the client sees, calls that the server saw, and its status.
    async fn write(position: Position, act: Act) -> (Option<u16>, usize, Option<u16>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (behind, front) = (Identity::new().unwrap(), Identity::new().unwrap());
        let (address, served) = server(&behind).await;
        let (steps, mut wanted) = mpsc::unbounded_channel::<tokio::sync::oneshot::Sender<()>>();
        tokio::spawn(async move {
            while let Some(done) = wanted.recv().await {
                done.send(()).unwrap();
            }
        });
        let wire = Arc::new(Wire::new(std::time::Instant::now(), Some("1"), steps));
        let (verb, resource) = ("POST".to_owned(), "secrets".to_owned());
        let target = Name { side: Side::Api, owner: Owner::Identity, verb, resource, ordinal: 1 };
        let scope = Scope { namespace: "n".into(), domain: "d".into(), connection: None, closed: None };
        wire.arm(scope, Some(Fault { target, position, act }));
        let upstream = Upstream::new(Side::Api, &format!("https://{address}"), behind.authority.as_bytes()).unwrap();
        let proxy = Proxy::start(Arc::clone(&wire), upstream, &front).await.unwrap();
        let client = Upstream::new(Side::Api, "", front.authority.as_bytes()).unwrap().client;
        let url = format!("https://{}/p3/api/v1/namespaces/n/secrets", proxy.address);
        let answer = client.post(url).body(json!({"kind": "Secret"}).to_string()).send().await;
        let seen = answer.ok().map(|answer| answer.status().as_u16());
        let state = wire.state();
        let call = state.calls.first().unwrap();
        assert_eq!((state.calls.len(), call.process), (1, 3));
        assert_eq!(call.answered, seen);
        (seen, served.load(Ordering::SeqCst), call.status)
    }

    #[tokio::test]
    async fn a_fault_strikes_where_it_should() {
        assert_eq!(write(Position::Before, Act::Answer(500)).await, (Some(500), 0, None));
        assert_eq!(write(Position::Before, Act::Reset).await, (None, 0, None));
        assert_eq!(write(Position::Lost, Act::Answer(504)).await, (Some(504), 1, Some(200)));
        assert_eq!(write(Position::Before, Act::Delete).await, (Some(200), 1, Some(200)));
        assert_eq!(write(Position::After, Act::Delete).await, (Some(200), 1, Some(200)));
    }

    #[tokio::test]
    async fn a_lost_answer_was_an_answer() {
        let (seen, served, status) = write(Position::Lost, Act::Reset).await;
        assert_eq!((seen, served, status), (None, 1, Some(200)));
    }

    #[test]
    fn only_lists_of_our_kinds_are_narrowed() {
        let asked = |path: &str| Asked::api("GET", path, "", &Value::Null);
        let ours = asked("/apis/countersign.dev/v1alpha1/serviceidentities");
        assert_eq!(narrowed(&ours, "watch=1", Some("2")), "watch=1&labelSelector=lane%3D2");
        assert_eq!(narrowed(&ours, "", Some("2")), "labelSelector=lane%3D2");
        let single = asked("/apis/countersign.dev/v1alpha1/trustdomains/d");
        assert_eq!(narrowed(&single, "", Some("2")), "");
        assert_eq!(narrowed(&asked("/api/v1/namespaces"), "watch=1", Some("2")), "watch=1");
        assert_eq!(narrowed(&ours, "watch=1", None), "watch=1");
    }

    #[test]
    fn the_process_stands_before_the_path() {
        assert_eq!(split_process("/p12/api/v1"), (Some(12), "/api/v1".to_owned()));
        assert_eq!(split_process("/pods/x"), (None, "/pods/x".to_owned()));
        assert_eq!(split_process("/v1/sys/health"), (None, "/v1/sys/health".to_owned()));
    }
}
