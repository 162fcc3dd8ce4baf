//! A proxy before OpenBao that counts requests by kind.
//!
//! It listens on loopback with a certificate of its own throw-away authority, passes every request on as
//! it is, and remembers nothing of it but the kind of its path. Must not know who asks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Sub,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use http::{HeaderMap, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use reqwest::{Body, Certificate, Client};
use rustls_pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs},
};

/// A running proxy; it ends with the process.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    /// PEM of the authority of its certificate.
    pub authority: String,
    tally: Arc<Tally>,
}

/// What kind of request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A login at any auth method.
    Login,
    /// A signature by a PKI mount.
    Sign,
    /// About the asker's own token.
    Token,
    /// About the server: health, seal.
    System,
    /// Anything else.
    Other,
}

/// Requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Logins.
    pub logins: u64,
    /// Signatures.
    pub signatures: u64,
    /// Renewals and lookups of tokens.
    pub tokens: u64,
    /// Questions about the server.
    pub system: u64,
    /// Anything else.
    pub others: u64,
}

#[derive(Debug, Default)]
struct Tally([AtomicU64; 5]);

impl Kind {
    /// The kind of a request with this path.
    pub fn of(path: &str) -> Self {
        let mut segments = path.strip_prefix("/v1/").unwrap_or(path).split('/');
        let rest: Vec<&str> = segments.clone().skip(1).collect();
        match segments.next() {
            Some("auth") if rest.first() == Some(&"token") => Self::Token,
            Some("auth") if rest.contains(&"login") => Self::Login,
            Some("sys") => Self::System,
            _ if rest.contains(&"sign") => Self::Sign,
            _ => Self::Other,
        }
    }
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.logins + self.signatures + self.tokens + self.system + self.others
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            logins: self.logins - earlier.logins,
            signatures: self.signatures - earlier.signatures,
            tokens: self.tokens - earlier.tokens,
            system: self.system - earlier.system,
            others: self.others - earlier.others,
        }
    }
}

impl Tally {
    fn count(&self, kind: Kind) {
        let [logins, signatures, tokens, system, others] = &self.0;
        let counter = match kind {
            Kind::Login => logins,
            Kind::Sign => signatures,
            Kind::Token => tokens,
            Kind::System => system,
            Kind::Other => others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        let [logins, signatures, tokens, system, others] =
            [0, 1, 2, 3, 4].map(|at: usize| self.0.get(at).map_or(0, |counter| counter.load(Ordering::Relaxed)));
        Counts { logins, signatures, tokens, system, others }
    }
}

impl Proxy {
    /// Starts one before the server at `upstream`, whose certificate the authority in `ca_file` signed.
    ///
    /// # Errors
    /// When no certificate can be made, or no port is free.
    pub async fn start(upstream: &str, ca_file: &Path) -> Result<Self> {
        let (config, authority) = tls()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let ca = std::fs::read(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&ca).context("OpenBao's authority is no certificate")?])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no HTTP client can be made")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on loopback")?;
        let address: SocketAddr = listener.local_addr().context("no free port on loopback")?;
        let tally = Arc::new(Tally::default());
        let upstream = Upstream { client, base: upstream.trim_end_matches('/').into(), tally: Arc::clone(&tally) };
        tokio::spawn(async move {
            // Ends with the process: there is nobody to tell, and the operator sees a closed door.
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), upstream.clone()));
            }
        });
        Ok(Self { url: format!("https://{address}"), authority, tally })
    }

    /// What was counted since it started.
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }
}

#[derive(Clone)]
struct Upstream {
    client: Client,
    base: Arc<str>,
    tally: Arc<Tally>,
}

impl Upstream {
    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        self.tally.count(Kind::of(parts.uri.path()));
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.base).parse().context("a path that no address can have")?;
        end_to_end(&mut parts.headers);
        let request = Request::from_parts(parts, Body::wrap(body));
        let answer = self.client.execute(request.try_into()?).await?;
        let mut answer: Response<Body> = answer.into();
        end_to_end(answer.headers_mut());
        Ok(answer)
    }
}

/// Takes out what speaks of one connection only.
fn end_to_end(headers: &mut HeaderMap) {
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, upstream: Upstream) {
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| {
        let upstream = upstream.clone();
        async move { upstream.pass(request).await.map_err(std::io::Error::other) }
    });
    // A connection that breaks is the asker's to see and to try again.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// A certificate for loopback, and its authority, whose key is forgotten at once.
fn tls() -> Result<(ServerConfig, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((config, authority.pem()))
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    #[test]
    fn paths_have_kinds() {
        for (path, kind) in [
            ("/v1/auth/kubernetes/login", Kind::Login),
            ("/v1/auth/k8s/eu/login", Kind::Login),
            ("/v1/auth/token/renew-self", Kind::Token),
            ("/v1/sys/health", Kind::System),
            ("/v1/pki_int/issuer/6f1c/sign/workload", Kind::Sign),
            ("/v1/pki_int/sign/workload", Kind::Sign),
            ("/v1/pki_int/roles/sign-me", Kind::Other),
            ("/v1/pki_int/issuer/default/json", Kind::Other),
            ("/", Kind::Other),
        ] {
            assert_eq!(Kind::of(path), kind, "{path}");
        }
    }

    #[test]
    fn counts_are_kept_apart_and_can_be_subtracted() {
        let tally = Tally::default();
        tally.count(Kind::Login);
        let earlier = tally.counts();
        for kind in [Kind::Sign, Kind::Sign, Kind::Token, Kind::System, Kind::Other] {
            tally.count(kind);
        }
        let since = tally.counts() - earlier;
        assert_eq!(since, Counts { logins: 0, signatures: 2, tokens: 1, system: 1, others: 1 });
        assert_eq!((since.total(), tally.counts().total()), (5, 6));
    }

    /// The upstream answers with what it got.
    #[tokio::test]
    async fn requests_are_passed_on_and_counted() {
        let _ = aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("countersign-proxy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (config, authority) = tls().unwrap();
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = upstream.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = upstream.accept().await.unwrap();
                let stream = acceptor.accept(stream).await.unwrap();
                let echo = service_fn(|request: Request<Incoming>| async move {
                    let method = request.method().to_string();
                    let path = request.uri().path_and_query().unwrap().to_string();
                    let token = request.headers()["x-vault-token"].to_str().unwrap().to_owned();
                    let body = Body::wrap(request.into_body());
                    Response::builder().status(418).header("x-seen", format!("{method} {path} {token}")).body(body)
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
            }
        });
        let ca_file = folder.join("ca.crt");
        std::fs::write(&ca_file, authority).unwrap();
        let proxy = Proxy::start(&format!("https://{address}"), &ca_file).await.unwrap();
        let trusted = Certificate::from_pem(proxy.authority.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([trusted]).no_proxy().build().unwrap();
        let url = format!("{}/v1/auth/kubernetes/login?a=b", proxy.url);
        let answer = client.post(url).header("x-vault-token", "t").body("hello").send().await.unwrap();
        assert_eq!(answer.status(), 418);
        assert_eq!(answer.headers()["x-seen"], "POST /v1/auth/kubernetes/login?a=b t");
        assert_eq!(answer.bytes().await.unwrap(), Bytes::from_static(b"hello"));
        assert_eq!(proxy.counts(), Counts { logins: 1, ..Counts::default() });
        std::fs::remove_dir_all(folder).unwrap();
    }
}
