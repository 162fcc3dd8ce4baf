//! A listener for the answers that a real server cannot be made to give: redirects, HTML, floods,
//! drips, forgotten tokens. It speaks just enough HTTP/1.1 for that, and remembers what it was asked.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs},
};
use url::Url;

use crate::bao::server_certificate;

/// How it answers one request.
#[derive(Clone)]
pub enum Reply {
    /// Status, further header lines, body.
    Plain(u16, &'static str, String),
    /// These bytes, then the connection closes.
    Raw(String),
    /// A head, then one byte every 50 ms.
    Drip,
    /// 100 MB, announced by a length or in chunks.
    Flood { announced: bool },
}

impl Reply {
    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Plain(status, "content-type: application/json\r\n", body.to_string())
    }
}

/// A running listener.
pub struct Impostor {
    pub address: Url,
    pub ca_pem: String,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Impostor {
    /// A TLS listener with a certificate for `localhost` that answers each request by its head (request
    /// line and headers, in lower case).
    pub async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::named("localhost", reply).await
    }

    /// The same with a certificate for 127.0.0.1 and `name`.
    pub async fn named(name: &str, reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let (ca_pem, leaf, key) = server_certificate(name);
        let leaf = rustls_pki_types::pem::PemObject::from_pem_slice(leaf.as_bytes()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)
            .unwrap();
        Self::listen(ca_pem, Some(TlsAcceptor::from(Arc::new(config))), Arc::new(reply)).await
    }

    /// A listener without TLS that sends `bytes` to whoever connects.
    pub async fn without_tls(bytes: &'static [u8]) -> Self {
        let reply = move |_: &str| Reply::Raw(String::from_utf8_lossy(bytes).into_owned());
        let (ca_pem, ..) = server_certificate("localhost");
        Self::listen(ca_pem, None, Arc::new(reply)).await
    }

    async fn listen(ca_pem: String, tls: Option<TlsAcceptor>, reply: Arc<dyn Fn(&str) -> Reply + Send + Sync>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(local) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let address = format!("https://{local}").parse().unwrap();
        let (heads, connections, sent) = (Arc::default(), Arc::new(AtomicUsize::new(0)), Arc::default());
        let seen = (Arc::clone(&heads), Arc::clone(&connections), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.1.fetch_add(1, Ordering::SeqCst);
                let (tls, reply) = (tls.clone(), reply.clone());
                let (heads, sent) = (Arc::clone(&seen.0), Arc::clone(&seen.2));
                // A client that hangs up is what many of these tests are about.
                tokio::spawn(async move { serve(stream, tls, &*reply, &heads, &sent).await.ok() });
            }
        });
        Self { address, ca_pem, heads, connections, sent, task }
    }

    /// The heads of the requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// How many requests so far had `line` at the start of their head, for example `get /v1/sys/health`.
    pub fn requests(&self, line: &str) -> usize {
        self.heads().iter().filter(|head| head.starts_with(line)).count()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of floods were taken from us so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

trait Stream: AsyncReadExt + AsyncWriteExt + Unpin + Send {}
impl<T: AsyncReadExt + AsyncWriteExt + Unpin + Send> Stream for T {}

async fn serve(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    reply: &(dyn Fn(&str) -> Reply + Send + Sync),
    heads: &Mutex<Vec<String>>,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let Some(tls) = tls else {
        let mut tcp = tcp;
        let mut hello = [0; 1024];
        let _ = tcp.read(&mut hello).await?;
        return answer(&mut tcp, reply(""), sent).await;
    };
    let mut stream = tls.accept(tcp).await?;
    while let Some(head) = read_request(&mut stream).await? {
        heads.lock().unwrap().push(head.clone());
        answer(&mut stream, reply(&head), sent).await?;
    }
    Ok(())
}

/// Reads one request and returns its head; the body is read and dropped. `None` at the end.
async fn read_request(stream: &mut impl Stream) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(Some(head))
}

async fn answer(stream: &mut impl Stream, reply: Reply, sent: &AtomicUsize) -> std::io::Result<()> {
    match reply {
        Reply::Plain(status, headers, body) => {
            let mut text = format!("HTTP/1.1 {status} x\r\n{headers}");
            write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
            stream.write_all(text.as_bytes()).await
        }
        Reply::Raw(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{").await?;
            loop {
                stream.write_all(b" ").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::Flood { announced } => {
            const TOTAL: usize = 100 * 1024 * 1024;
            let block = vec![b' '; 64 * 1024];
            let length =
                if announced { format!("content-length: {TOTAL}") } else { "transfer-encoding: chunked".to_owned() };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").as_bytes()).await?;
            for _ in 0..TOTAL / block.len() {
                if !announced {
                    stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await?;
                }
                stream.write_all(&block).await?;
                if !announced {
                    stream.write_all(b"\r\n").await?;
                }
                sent.fetch_add(block.len(), Ordering::SeqCst);
            }
            if !announced {
                stream.write_all(b"0\r\n\r\n").await?;
            }
            stream.flush().await
        }
    }
}
