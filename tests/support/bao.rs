//! A real OpenBao server on loopback with TLS, storage in memory and an audit file.
//!
//! The binary is named by COUNTERSIGN_BAO. The server ends with the value that started it.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A running server. Its own client is the root operator's, so the code under test is not used to prepare its test.
pub struct Bao {
    process: Child,
    directory: TempDir,
    http: reqwest::Client,
    unseal_key: String,
    root_token: String,
    /// Where it listens.
    pub address: Url,
    /// The CA of its certificate.
    pub ca_pem: String,
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A CA and the server certificate it signed for `localhost` and 127.0.0.1: CA, chain, key.
pub fn server_certificate(name: &str) -> (String, String, KeyPair) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let leaf_pem = leaf.signed_by(&key, &issuer).unwrap().pem();
    (ca_pem, leaf_pem, key)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Bao {
    /// A server that is initialised and unsealed.
    pub async fn start() -> Self {
        let mut bao = Self::start_uninitialised().await;
        bao.initialise().await;
        bao
    }

    /// A server that has never been initialised.
    pub async fn start_uninitialised() -> Self {
        let binary = env::var_os("COUNTERSIGN_BAO")
            .map(PathBuf::from)
            .filter(|path| path.is_file())
            .expect("COUNTERSIGN_BAO must name an OpenBao server; `cargo xtask cluster build` puts one into the cache");
        let directory = TempDir::new().unwrap();
        let (ca_pem, leaf_pem, key) = server_certificate("localhost");
        let file = |name: &str| directory.path().join(name).display().to_string();
        fs::write(file("tls.crt"), leaf_pem).unwrap();
        fs::write(file("tls.key"), key.serialize_pem()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // In HCL: the JSON form has no way to write an audit device.
        let config = format!(
            r#"
            api_addr = "https://127.0.0.1:{port}"
            storage "inmem" {{}}
            listener "tcp" {{
              address       = "127.0.0.1:{port}"
              tls_cert_file = "{}"
              tls_key_file  = "{}"
            }}
            audit "file" "calls" {{
              options {{
                file_path = "{}"
              }}
            }}"#,
            file("tls.crt"),
            file("tls.key"),
            file("audit.log"),
        );
        fs::write(file("config.hcl"), config).unwrap();
        let output = fs::File::create(file("output.log")).unwrap();
        let process = Command::new(binary)
            .args(["server", "-config", &file("config.hcl")])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        // Only the test's own client asks for the process's provider; a second install is refused and harmless.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem.as_bytes()).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let address = format!("https://127.0.0.1:{port}").parse().unwrap();
        let empty = String::new;
        let mut bao = Self { process, directory, http, unseal_key: empty(), root_token: empty(), address, ca_pem };
        bao.wait_until_it_answers().await;
        bao
    }

    /// Initialises and unseals it.
    pub async fn initialise(&mut self) {
        let init = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = self.root("POST", "sys/init", &init).await;
        self.unseal_key = text(&answer["keys"][0]);
        self.root_token = text(&answer["root_token"]);
        self.unseal().await;
    }

    /// Unseals it and waits until it serves.
    pub async fn unseal(&mut self) {
        self.root("POST", "sys/unseal", &json!({ "key": self.unseal_key })).await;
        let health = self.address.join("v1/sys/health").unwrap();
        let deadline = Instant::now() + START;
        while self.http.get(health.clone()).send().await.unwrap().status() != 200 {
            assert!(Instant::now() < deadline, "not active after {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Seals it.
    pub async fn seal(&self) {
        self.root("POST", "sys/seal", &json!({})).await;
    }

    /// Calls the server as root and returns its answer; any refusal ends the test.
    pub async fn root(&self, method: &str, path: &str, body: &Value) -> Value {
        self.root_in("", method, path, body).await
    }

    /// As [`Bao::root`], in a namespace.
    pub async fn root_in(&self, namespace: &str, method: &str, path: &str, body: &Value) -> Value {
        let url = self.address.join(&format!("v1/{path}")).unwrap();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, url).header("x-vault-token", &self.root_token);
        if !namespace.is_empty() {
            request = request.header("x-vault-namespace", namespace);
        }
        if *body != Value::Null {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The root token, for a login with a token.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// How often `path` was requested so far, by the server's own audit file.
    pub fn requests(&self, path: &str) -> usize {
        self.audited().filter(|entry| entry["request"]["path"] == path).count()
    }

    /// How many requests came in so far.
    pub fn all_requests(&self) -> usize {
        self.audited().count()
    }

    fn audited(&self) -> impl Iterator<Item = Value> {
        let log = fs::read_to_string(self.directory.path().join("audit.log")).unwrap_or_default();
        let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.into_iter().filter(|entry| entry["type"] == "request")
    }

    async fn wait_until_it_answers(&mut self) {
        let health = self.address.join("v1/sys/health").unwrap();
        let deadline = Instant::now() + START;
        while self.http.get(health.clone()).send().await.is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "it did not start: {}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output.log")).unwrap_or_default()
    }
}
