//! Both programs against each other over loopback, with certificates made on the spot.

use std::{
    cell::RefCell,
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, SerialNumber};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    args::Target,
    client::{self, Caller, Verdict},
    database::{self, Login},
    reload::{self, Loaded as _, Mount},
    server, tls,
};

const ORDER: &str = "spiffe://prod.example/ns/shop/sa/order";
const PAYMENT: &str = "spiffe://prod.example/ns/payments/sa/payment";
/// Far above what any of these tests needs; reached only when one of them hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, spiffe_id: &str, serial: u8) -> Signed {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(spiffe_id.try_into().unwrap()));
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

/// A directory laid out like a mounted Secret; removed when dropped.
struct Secret {
    directory: PathBuf,
    swaps: u32,
}

impl Secret {
    fn mounted(signed: &Signed, roots: &str) -> Self {
        let mut secret = Self::empty();
        secret.swap(&signed.certificate, &signed.key, roots);
        secret
    }

    fn empty() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("shop-test-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        Self { directory, swaps: 0 }
    }

    fn swap(&mut self, certificate: &str, key: &str, roots: &str) {
        self.put(&[("tls.crt", certificate), ("tls.key", key), ("ca.crt", roots)]);
    }

    /// What the kubelet does: write a new directory, move the link over, remove the old directory.
    fn put(&mut self, files: &[(&str, &str)]) {
        let old = self.directory.join(format!("..{}", self.swaps));
        self.swaps += 1;
        let name = format!("..{}", self.swaps);
        let new = self.directory.join(&name);
        fs::create_dir(&new).unwrap();
        for (file, text) in files {
            fs::write(new.join(file), text).unwrap();
            if self.swaps == 1 {
                symlink(Path::new("..data").join(file), self.directory.join(file)).unwrap();
            }
        }
        symlink(&name, self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

async fn listener() -> (TcpListener, Target) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Target { host: "localhost".to_owned(), port })
}

/// Everything printed so far.
#[derive(Default)]
struct Lines(RefCell<Vec<Value>>);

impl Lines {
    fn push(&self, line: &Value) {
        self.0.borrow_mut().push(line.clone());
    }

    fn with(&self, event: &str) -> Vec<Value> {
        self.0.borrow().iter().filter(|line| line["event"] == event).cloned().collect()
    }

    /// Waits until `reached` holds of the lines with this event.
    async fn until(&self, event: &str, reached: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let reached = async {
            while !reached(&self.with(event)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("never saw it: {:?}", self.0.borrow()));
        self.with(event)
    }
}

/// Runs server and client, both following their mounts, until `scenario` ends.
async fn shop<T>(
    server_mount: &Mount,
    client_mount: &Mount,
    server_id: Option<&str>,
    scenario: impl AsyncFnOnce(&Target, &Lines, &Lines) -> T,
) -> T {
    let (listener, target) = listener().await;
    let (served, called) = (Lines::default(), Lines::default());
    let ids = [ORDER.to_owned()];
    let build = |files| tls::server(&tls::Pem::of(files)?, &ids);
    let build_client = |files| tls::client(&tls::Pem::of(files)?);
    let (server_stamp, first) = server_mount.load(&build).unwrap();
    let (server_sender, server_current) = watch::channel(Arc::new(first));
    let (client_stamp, first) = client_mount.load(&build_client).unwrap();
    let (client_sender, client_current) = watch::channel(Arc::new(first));
    let (healthy, _) = watch::channel(false);
    let order =
        Caller { server: target.clone(), server_id: server_id.map(str::to_owned), every: Duration::from_millis(20) };
    let (say_server, say_client) = (|line: &Value| served.push(line), |line: &Value| called.push(line));
    tokio::select! {
        () = server::serve(listener, server_current, None, &say_server, std::future::pending()) => unreachable!(),
        () = reload::follow(server_mount, server_stamp, &build, &server_sender, &say_server) => unreachable!(),
        () = client::run(&order, client_current, &healthy, &say_client) => unreachable!(),
        () = reload::follow(client_mount, client_stamp, &build_client, &client_sender, &say_client) => unreachable!(),
        result = scenario(&target, &served, &called) => result,
    }
}

fn last(lines: &[Value]) -> &Value {
    lines.last().unwrap()
}

#[tokio::test]
async fn mutual_tls_works_and_names_both_serials() {
    let authority = Authority::new();
    let payment = Secret::mounted(&authority.sign(PAYMENT, 0x0a), &authority.pem);
    let order = Secret::mounted(&authority.sign(ORDER, 0x0b), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(order.directory.clone()));
    shop(&mounts.0, &mounts.1, Some(PAYMENT), async |_, _, called| {
        let seconds =
            called.until("second", |lines| lines.last().is_some_and(|l| l["okTotal"].as_u64() > Some(10))).await;
        let second = last(&seconds);
        assert_eq!(second["failedTotal"], 0, "{:?}", called.with("failed"));
        assert_eq!((&second["clientSerial"], &second["serverSerial"]), (&"0b".into(), &"0a".into()));
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused_with_an_alert() {
    let authority = Authority::new();
    let payment = Secret::mounted(&authority.sign(PAYMENT, 1), &authority.pem);
    let order = Secret::mounted(&authority.sign(ORDER, 2), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(order.directory.clone()));
    let verdict =
        shop(&mounts.0, &mounts.1, None, async |target, _, _| client::probe(target, &order.directory).await).await;
    assert_eq!(verdict, Verdict::Refused("TLS alert CertificateRequired".to_owned()));
    assert_eq!(verdict.exit_code(), 0);
}

#[tokio::test]
async fn a_server_that_accepts_anyone_fails_the_probe() {
    let authority = Authority::new();
    let payment = Secret::mounted(&authority.sign(PAYMENT, 1), &authority.pem);
    let (_, endpoint) = Mount::new(payment.directory.clone()).load(&open_to_all).unwrap();
    let (listener, target) = listener().await;
    let acceptor = tokio_rustls::TlsAcceptor::from(endpoint.config);
    let serve_one = async {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        crate::http::read_request(&mut stream).await.unwrap();
        crate::http::write_answer(&mut stream, "200 OK", &Value::Null).await.unwrap();
    };
    let ((), verdict) = tokio::join!(serve_one, client::probe(&target, &payment.directory));
    assert_eq!((verdict.exit_code(), &verdict), (1, &Verdict::Accepted));
}

/// The mistake that the probe is there to find: a server that does not ask for certificates.
fn open_to_all(files: reload::Files) -> anyhow::Result<tls::Endpoint<rustls::ServerConfig>> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let pem = tls::Pem::of(files)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            CertificateDer::pem_slice_iter(&pem.chain).collect::<Result<_, _>>()?,
            PrivateKeyDer::from_pem_slice(&pem.key)?,
        )?;
    Ok(tls::Endpoint { config: Arc::new(config), serial: String::new() })
}

#[tokio::test]
async fn an_absent_or_false_server_gives_the_probe_no_verdict() {
    let authority = Authority::new();
    let order = Secret::mounted(&authority.sign(ORDER, 2), &authority.pem);
    let (listening, target) = listener().await;
    drop(listening);
    let absent = client::probe(&target, &order.directory).await;
    assert_eq!(absent.exit_code(), 2, "{absent:?}");

    let other = Authority::new();
    let payment = Secret::mounted(&other.sign(PAYMENT, 1), &other.pem);
    let trusting = Secret::mounted(&authority.sign(ORDER, 2), &other.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(trusting.directory.clone()));
    let untrusted =
        shop(&mounts.0, &mounts.1, None, async |target, _, _| client::probe(target, &order.directory).await).await;
    assert_eq!(untrusted.exit_code(), 2, "{untrusted:?}");
}

#[tokio::test]
async fn a_caller_with_another_identity_is_refused() {
    let authority = Authority::new();
    let payment = Secret::mounted(&authority.sign(PAYMENT, 1), &authority.pem);
    let stranger = Secret::mounted(&authority.sign("spiffe://prod.example/ns/shop/sa/cart", 2), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(stranger.directory.clone()));
    shop(&mounts.0, &mounts.1, None, async |_, served, called| {
        let failed = called.until("failed", |lines| lines.len() > 3).await;
        assert!(last(&failed)["why"].as_str().unwrap().contains("AccessDenied"), "{failed:?}");
        assert!(!served.with("refused").is_empty());
        assert!(called.with("second").iter().all(|second| second["okTotal"] == 0));
    })
    .await;
}

#[tokio::test]
async fn a_server_with_another_identity_is_not_called() {
    let authority = Authority::new();
    let payment = Secret::mounted(&authority.sign(PAYMENT, 1), &authority.pem);
    let order = Secret::mounted(&authority.sign(ORDER, 2), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(order.directory.clone()));
    shop(&mounts.0, &mounts.1, Some("spiffe://prod.example/ns/payments/sa/refund"), async |_, _, called| {
        let failed = called.until("failed", |lines| lines.len() > 3).await;
        assert!(last(&failed)["why"].as_str().unwrap().contains(PAYMENT), "{failed:?}");
    })
    .await;
}

#[tokio::test]
async fn certificates_change_under_calls_without_a_failure() {
    let authority = Authority::new();
    let mut payment = Secret::mounted(&authority.sign(PAYMENT, 0x11), &authority.pem);
    let mut order = Secret::mounted(&authority.sign(ORDER, 0x21), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(order.directory.clone()));
    shop(&mounts.0, &mounts.1, Some(PAYMENT), async |_, _, called| {
        // Only what follows a first call is a change.
        called.until("second", |lines| lines.last().is_some_and(|line| line["okTotal"].as_u64() > Some(0))).await;
        for round in 2..=4_u8 {
            let signed = authority.sign(PAYMENT, 0x10 + round);
            payment.swap(&signed.certificate, &signed.key, &authority.pem);
            let signed = authority.sign(ORDER, 0x20 + round);
            order.swap(&signed.certificate, &signed.key, &authority.pem);
            let seen = |whose: &str, to: String| move_seen(called, whose, &to);
            timeout(PATIENCE, async {
                while !(seen("server", format!("1{round}")) && seen("client", format!("2{round}"))) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap();
        }
        let after = called.with("second").len() + 1;
        let seconds = called.until("second", |lines| lines.len() > after).await;
        assert_eq!(last(&seconds)["failedTotal"], 0, "{:?}", called.with("failed"));
        assert!(last(&seconds)["okTotal"].as_u64() > Some(20));
        assert_eq!(called.with("serial").len(), 6);
    })
    .await;
}

fn move_seen(lines: &Lines, whose: &str, to: &str) -> bool {
    lines.with("serial").iter().any(|line| line["whose"] == whose && line["to"] == to)
}

#[tokio::test]
async fn a_pair_that_does_not_fit_leaves_the_old_one_in_use() {
    let authority = Authority::new();
    let old = authority.sign(PAYMENT, 0x31);
    let mut payment = Secret::mounted(&old, &authority.pem);
    let order = Secret::mounted(&authority.sign(ORDER, 0x41), &authority.pem);
    let mounts = (Mount::new(payment.directory.clone()), Mount::new(order.directory.clone()));
    shop(&mounts.0, &mounts.1, None, async |_, served, called| {
        let new = authority.sign(PAYMENT, 0x32);
        payment.swap(&new.certificate, &old.key, &authority.pem);
        let kept = served.until("kept", |lines| !lines.is_empty()).await;
        assert!(last(&kept)["why"].as_str().unwrap().contains("do not fit together"), "{kept:?}");

        payment.swap(&new.certificate, "", &authority.pem);
        let kept = served.until("kept", |lines| lines.len() > 1).await;
        assert!(last(&kept)["why"].as_str().unwrap().contains("tls.key holds no private key"), "{kept:?}");
        let after = called.with("second").len() + 1;
        let seconds = called.until("second", |lines| lines.len() > after).await;
        assert_eq!(last(&seconds)["serverSerial"], "31");

        payment.swap(&new.certificate, &new.key, &authority.pem);
        called.until("serial", |lines| lines.iter().any(|line| line["to"] == "32")).await;
        let after = called.with("second").len();
        let seconds = called.until("second", |lines| lines.len() > after).await;
        assert_eq!(last(&seconds)["failedTotal"], 0, "{:?}", called.with("failed"));
    })
    .await;
}

#[tokio::test]
async fn health_follows_the_last_call() {
    let (listener, target) = listener().await;
    let (healthy, health) = watch::channel(true);
    tokio::spawn(crate::http::serve_health(listener, health));
    let address = SocketAddr::from(([127, 0, 0, 1], target.port));
    assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(ask(address, "/").await.starts_with("HTTP/1.1 404 "));
    healthy.send_replace(false);
    assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 503 "));
}

async fn ask(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_new_database_login_is_taken_up_and_an_empty_one_is_not() {
    let mut secret = Secret::empty();
    secret.put(&[("username", "shop"), ("password", "canary-1"), ("revision", "1")]);
    let mount = Mount::of(secret.directory.clone(), &database::FILES);
    let (stamp, first) = mount.load(&Login::of).unwrap();
    assert_eq!(Value::from(first.state()), json!({"database": {"username": "shop", "revision": "1"}}));
    let (sender, current) = watch::channel(Arc::new(first));
    let lines = Lines::default();
    let say = |line: &Value| lines.push(line);
    let scenario = async {
        secret.put(&[("username", "shop"), ("password", "canary-2"), ("revision", "2")]);
        lines.until("reloaded", |lines| lines.len() == 1).await;
        assert_eq!(current.borrow().revision, "2");
        secret.put(&[("username", "shop"), ("password", ""), ("revision", "3")]);
        lines.until("kept", |lines| lines.len() == 1).await;
        assert_eq!(current.borrow().revision, "2");
    };
    tokio::select! {
        () = reload::follow(&mount, stamp, &Login::of, &sender, &say) => unreachable!(),
        () = scenario => {}
    }
    let printed = format!("{:?}", lines.0.borrow());
    assert!(!printed.contains("canary"), "{printed}");
}
