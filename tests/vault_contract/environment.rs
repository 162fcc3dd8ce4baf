//! What the environment says is not heard, and what is secret is not said.

use std::{
    env,
    io::Write,
    process::Command,
    sync::{Arc, Mutex},
};

use countersign::vault::Credential;
use countersign_core::{api::Reason, value::secret_data::SecretBytes};
use serde_json::json;
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::{
    bao::{Bao, server_certificate},
    impostor::{Impostor, Reply},
    setup::{SIGN_ONLY, allowed, app_role, at_bao, now, pki, session, settings},
};

const ADDRESS: &str = "COUNTERSIGN_TEST_ADDRESS";
const CA: &str = "COUNTERSIGN_TEST_CA";

fn login_with(secret_id: &str) -> Credential {
    Credential::AppRole {
        mount: "approle".parse().unwrap(),
        role_id: "id".to_owned(),
        secret_id: SecretBytes::from(secret_id.to_owned()),
    }
}

/// Starts itself again in an environment that lies about everything, and looks at what the servers heard.
#[tokio::test]
async fn no_variable_of_the_environment_is_heard() {
    if env::var_os(ADDRESS).is_some() {
        return in_a_hostile_environment().await;
    }
    let trap = Impostor::start(|_| Reply::Plain(200, "", String::new())).await;
    let server = Impostor::start(|_| {
        Reply::json(200, &json!({ "auth": { "client_token": "s.ours", "lease_duration": 60, "renewable": true } }))
    })
    .await;
    let trap_address = trap.address.as_str().trim_end_matches('/').to_owned();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "environment::no_variable_of_the_environment_is_heard"]);
    child.env(ADDRESS, server.address.as_str()).env(CA, &server.ca_pem);
    for prefix in ["VAULT", "BAO"] {
        child.env(format!("{prefix}_ADDR"), &trap_address).env(format!("{prefix}_TOKEN"), "s.environment");
        child.env(format!("{prefix}_NAMESPACE"), "evil").env(format!("{prefix}_SKIP_VERIFY"), "true");
        child.env(format!("{prefix}_PROXY_ADDR"), &trap_address).env(format!("{prefix}_HTTP_PROXY"), &trap_address);
    }
    for proxy in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(proxy, &trap_address);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(trap.connections(), 0);
    let heads = server.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in heads {
        assert!(!head.contains("environment") && !head.contains("evil") && !head.contains("namespace"), "{head}");
    }
}

async fn in_a_hostile_environment() {
    let value = |name| env::var_os(name).unwrap().into_string().unwrap();
    let address = value(ADDRESS).parse().unwrap();
    let (heard, _) = session(&settings(&address, &value(CA)), login_with("s"));
    heard.authenticate().await.unwrap();
    heard.stop().await;
    let (other_ca, ..) = server_certificate("localhost");
    let (refused, _) = session(&settings(&address, &other_ca), login_with("s"));
    assert_eq!(refused.authenticate().await.unwrap_err().reason, Reason::TLSFailed, "verification cannot be skipped");
}

/// Everything that is logged in this process, at every level, by whatever crate.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn install() -> Self {
        let logged = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(logged.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log::set_boxed_logger(Box::new(logged.clone())).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        logged
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Logged {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        writeln!(self.0.lock().unwrap(), "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn no_token_and_no_credential_is_ever_said() {
    let logged = Logged::install();
    let mut said = Vec::new();

    // At a real server: a login whose secret id we know, a refusal, an end.
    let bao = Bao::start().await;
    let issuer = pki(&bao, "1000h").await;
    let login = app_role(&bao, SIGN_ONLY, json!({})).await;
    let Credential::AppRole { secret_id, .. } = &login else { panic!() };
    let secret_id = String::from_utf8(secret_id.expose().to_vec()).unwrap();
    let (real, _) = at_bao(&bao, login);
    real.sign(&allowed(&issuer), now()).await.unwrap();
    said.push(format!("{:?}", real.sign(&allowed("nope"), now()).await));
    real.stop().await;
    said.push(format!("{:?} {:?}", real.authenticate().await, real.counters()));

    // At an impostor, which hands out a token we know and answers every refusal with it.
    let echo = json!({ "errors": ["s.canary-token"], "data": "s.canary-token" });
    for status in [200, 400, 403, 404, 429, 500] {
        let echo = echo.clone();
        let impostor = Impostor::start(move |head| match head.split(' ').nth(1) {
            Some("/v1/auth/approle/login") => {
                let auth = json!({ "client_token": "s.canary-token", "accessor": "canary-accessor",
                    "lease_duration": 3_600, "renewable": true });
                Reply::json(200, &json!({ "auth": auth }))
            }
            _ => Reply::json(status, &echo),
        })
        .await;
        let (session, _) = session(&settings(&impostor.address, &impostor.ca_pem), login_with("canary-secret-id"));
        let result = session.sign(&allowed("default"), now()).await;
        let failure = result.unwrap_err();
        said.push(format!("{failure:?} {failure}"));
        assert!(impostor.heads().iter().any(|head| head.contains("s.canary-token")), "the token was used");
    }

    let (heard, said) = (logged.text(), said.join("\n"));
    assert!(heard.contains("hyper") || heard.contains("rustls"), "the libraries were listened to");
    for secret in ["s.canary-token", "canary-accessor", "canary-secret-id", &secret_id] {
        assert!(!heard.contains(secret), "{secret} is in a log line");
        assert!(!said.contains(secret), "{secret} is in what we say: {said}");
    }
}
