//! What the tests share: a clock to turn by hand, sessions, and the set-up of the documentation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use countersign::vault::{ConnectionSettings, Credential, Limits, Roots, Session, SignRequest, VaultClient};
use countersign_core::{
    connection::{address::Surroundings, world::SessionView},
    value::secret_data::SecretBytes,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use url::Url;

use crate::{bao::Bao, impostor::Impostor};

/// Real time, plus what a test adds: makes tokens age and breakers probe without waiting.
#[derive(Clone)]
pub struct Hours {
    start: Instant,
    added: Arc<AtomicU64>,
}

impl Hours {
    pub fn new() -> Self {
        Self { start: Instant::now(), added: Arc::default() }
    }

    pub fn add(&self, seconds: u64) {
        self.added.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> Duration {
        self.start.elapsed() + Duration::from_secs(self.added.load(Ordering::SeqCst))
    }
}

/// Wide limits: what is under test is not the pace.
pub const WIDE: Limits = Limits { requests_per_second: 10_000, in_flight: 32, timeout: Duration::from_secs(10) };

pub fn settings(address: &Url, ca_pem: &str) -> ConnectionSettings {
    ConnectionSettings {
        uid: "b1b6f0d6-0000-4000-8000-000000000001".to_owned(),
        address: address.clone(),
        roots: Roots { pem: Some(ca_pem.to_owned()), public: false },
        server_name: None,
        namespace: None,
        limits: WIDE,
        surroundings: Surroundings { loopback_allowed: true, ..Surroundings::default() },
    }
}

/// When the session's token ends.
pub fn token_end(session: &Session, now: Timestamp) -> Option<Timestamp> {
    match session.view(now) {
        SessionView::Absent => None,
        SessionView::Live { ends, .. } => ends,
    }
}

pub fn session(settings: &ConnectionSettings, credential: Credential) -> (Session, Hours) {
    let hours = Hours::new();
    let clock = hours.clone();
    let client = VaultClient::new(settings, move || clock.now()).unwrap();
    (Session::new(Arc::new(client), credential), hours)
}

pub fn at_bao(bao: &Bao, credential: Credential) -> (Session, Hours) {
    session(&settings(&bao.address, &bao.ca_pem), credential)
}

pub fn at_impostor(impostor: &Impostor) -> (Session, Hours) {
    session(&settings(&impostor.address, &impostor.ca_pem), token("s.canary"))
}

pub fn token(text: &str) -> Credential {
    Credential::Token(SecretBytes::from(text.to_owned()))
}

/// The wall clock that a session is handed.
pub fn now() -> Timestamp {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().try_into().map(from_epoch).unwrap()
}

fn from_epoch(since: jiff::SignedDuration) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(since).unwrap()
}

/// The policy of the documentation, with and without its optional part.
pub const SIGN_ONLY: &str = r#"path "pki_int/issuer/+/sign/workload" { capabilities = ["update"] }"#;
pub const WITH_READS: &str = r#"path "pki_int/issuer/+/sign/+" { capabilities = ["update"] }
path "pki_int/roles/+" { capabilities = ["read"] }
path "pki_int/issuer/+" { capabilities = ["read"] }"#;

/// Mounts `pki_int`, makes a root in it that ends after `ttl`, and the role `workload` as documented.
/// Returns the issuer's id.
pub async fn pki(bao: &Bao, ttl: &str) -> String {
    bao.root("POST", "sys/mounts/pki_int", &json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } })).await;
    let role = json!({
        "key_type": "ec", "key_bits": 256, "require_cn": false, "use_csr_common_name": false, "use_csr_sans": false,
        "allowed_uri_sans": "spiffe://prod.example/ns/*",
        "allowed_domains": "*.svc,*.svc.cluster.local,*.pay.internal", "allow_glob_domains": true,
        "allow_wildcard_certificates": false, "allow_localhost": false, "allow_ip_sans": false,
        "key_usage": "DigitalSignature", "basic_constraints_valid_for_non_ca": true,
        "not_before_duration": "300s", "ttl": "24h", "max_ttl": "168h", "no_store": true
    });
    bao.root("POST", "pki_int/roles/workload", &role).await;
    another_root(bao, ttl).await
}

/// Below a PKI mount: makes a root whose key stays there.
pub const NEW_ROOT: &str = "root/generate/internal";

/// One more root in `pki_int`; returns its issuer id.
pub async fn another_root(bao: &Bao, ttl: &str) -> String {
    let root = json!({ "common_name": "root", "ttl": ttl, "key_type": "ec" });
    let answer = bao.root("POST", &format!("pki_int/{NEW_ROOT}"), &root).await;
    answer["data"]["issuer_id"].as_str().unwrap().to_owned()
}

/// An AppRole login with `policy` and these token settings.
pub async fn app_role(bao: &Bao, policy: &str, settings: Value) -> Credential {
    bao.root("POST", "sys/policies/acl/countersign", &json!({ "policy": policy })).await;
    bao.root("POST", "sys/auth/approle", &json!({ "type": "approle" })).await;
    let mut role = json!({ "token_policies": ["countersign"] });
    role.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    bao.root("POST", "auth/approle/role/operator", &role).await;
    let role_id = bao.root("GET", "auth/approle/role/operator/role-id", &Value::Null).await;
    let secret_id = bao.root("POST", "auth/approle/role/operator/secret-id", &json!({})).await;
    Credential::AppRole {
        mount: "approle".parse().unwrap(),
        role_id: role_id["data"]["role_id"].as_str().unwrap().to_owned(),
        secret_id: SecretBytes::from(secret_id["data"]["secret_id"].as_str().unwrap().to_owned()),
    }
}

/// What the server calls the login of [`app_role`].
pub const APP_ROLE_LOGIN: &str = "auth/approle/login";

/// A CSR and a request for `names` (a SPIFFE ID and DNS names) under role `workload`.
pub fn asking(issuer: &str, uri: &str, dns: &[&str]) -> SignRequest {
    let mut params = CertificateParams::new(dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    SignRequest {
        mount: "pki_int".parse().unwrap(),
        issuer: issuer.parse().unwrap(),
        role: "workload".parse().unwrap(),
        csr_pem: csr.pem().unwrap(),
        ttl: Duration::from_secs(3_600),
        uri_sans: vec![uri.to_owned()],
        alt_names: dns.iter().map(|&name| name.to_owned()).collect(),
        ip_sans: Vec::new(),
    }
}

/// A request that the documented role allows.
pub fn allowed(issuer: &str) -> SignRequest {
    asking(issuer, "spiffe://prod.example/ns/shop/sa/cart", &["cart.shop.svc", "cart.shop.svc.cluster.local"])
}
