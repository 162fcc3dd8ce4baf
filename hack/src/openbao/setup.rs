//! Prepares a running OpenBao for the operator and its tenants: two PKI mounts, a KV mount, roles, policies, and login
//! by ServiceAccount.
//!
//! The roles and the policies are the ones the documents recommend, kept as files in `hack/openbao`. Safe to repeat.

use anyhow::{Context, Result};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Server;
use crate::cluster::kubectl::Kubectl;
use crate::process::{capture, feed};

/// Mount of the root that signs the intermediate.
const ROOT_MOUNT: &str = "pki";

impl Server {
    /// Sets up what is missing and renews what ages; tokens are reviewed by the API server that `kubectl` talks to.
    pub fn setup(&self, kubectl: &Kubectl) -> Result<()> {
        self.mount_pki(ROOT_MOUNT)?;
        self.mount_pki("pki_int")?;
        if !self.has_issuer(ROOT_MOUNT)? {
            let root = json!({"common_name": "local root", "key_type": "ec", "ttl": "87600h"});
            self.write(&[ROOT_MOUNT, "root", "generate", "internal"].join("/"), &root)?;
        }
        if !self.has_issuer("pki_int")? {
            self.make_intermediate()?;
        }
        self.write_text("pki_int/roles/workload", include_str!("../../openbao/role-workload.json"))?;
        let policy = include_str!("../../openbao/policy-countersign.hcl");
        feed(self.authorized()?.args(["policy", "write", "countersign", "-"]), policy.as_bytes())?;
        self.trust_service_accounts(kubectl)?;
        self.admit_tenants()
    }

    /// A KV mount, and one policy and role by which every account reads what lies below the name of its namespace.
    fn admit_tenants(&self) -> Result<()> {
        if self.json(&["secrets", "list", "-format=json"])?.get("secret/").is_none() {
            let args = ["secrets", "enable", "-path", "secret", "-version=2", "kv"];
            capture(self.authorized()?.args(args)).context("cannot mount secret")?;
        }
        let logins = self.json(&["auth", "list", "-format=json"])?;
        let accessor = logins.pointer("/kubernetes~1/accessor").and_then(Value::as_str);
        let accessor = accessor.context("the login by ServiceAccount has no accessor")?;
        let policy = include_str!("../../openbao/policy-tenant.hcl")
            .replace("aliases.ACCESSOR.", &format!("aliases.{accessor}."));
        feed(self.authorized()?.args(["policy", "write", "tenant", "-"]), policy.as_bytes())?;
        self.write_text("auth/kubernetes/role/tenant", include_str!("../../openbao/role-tenant.json")).map(drop)
    }

    fn mount_pki(&self, path: &str) -> Result<()> {
        let mounts = self.json(&["secrets", "list", "-format=json"])?;
        if mounts.get(format!("{path}/")).is_none() {
            let args = ["secrets", "enable", "-path", path, "-max-lease-ttl=87600h", "pki"];
            capture(self.authorized()?.args(args)).with_context(|| format!("cannot mount {path}"))?;
        }
        Ok(())
    }

    /// An intermediate whose key never leaves its mount, signed by the root.
    fn make_intermediate(&self) -> Result<()> {
        let request = json!({"common_name": "local intermediate", "key_type": "ec"});
        let request = self.write("pki_int/intermediate/generate/internal", &request)?;
        let sign = json!({"csr": data(&request, "csr")?, "format": "pem_bundle", "ttl": "43800h"});
        let signed = self.write(&[ROOT_MOUNT, "root", "sign-intermediate"].join("/"), &sign)?;
        self.write("pki_int/intermediate/set-signed", &json!({"certificate": data(&signed, "certificate")?})).map(drop)
    }

    fn trust_service_accounts(&self, kubectl: &Kubectl) -> Result<()> {
        if self.json(&["auth", "list", "-format=json"])?.get("kubernetes/").is_none() {
            capture(self.authorized()?.args(["auth", "enable", "kubernetes"])).context("cannot enable the login")?;
        }
        kubectl.apply(include_str!("../../openbao/reviewer.yaml")).context("cannot create the token reviewer")?;
        let args = ["-n", "kube-system", "create", "token", "openbao-token-reviewer", "--duration", "720h"];
        let reviewer = kubectl.text(&args).context("cannot get a token for the token reviewer")?;
        let api = ApiServer::of(kubectl)?;
        let config = json!({
            "kubernetes_host": api.url,
            "kubernetes_ca_cert": api.authority,
            "token_reviewer_jwt": reviewer.trim(),
            // It runs outside of any pod, so there is nothing local to fall back to.
            "disable_local_ca_jwt": true,
        });
        self.write("auth/kubernetes/config", &config)?;
        self.write_text("auth/kubernetes/role/countersign", include_str!("../../openbao/role-login.json")).map(drop)
    }

    fn has_issuer(&self, mount: &str) -> Result<bool> {
        // Not by listing, which for an empty mount fails like any error.
        let config = self.json(&["read", "-format=json", &format!("{mount}/config/issuers")])?;
        Ok(data(&config, "default").is_ok_and(|issuer| !issuer.is_empty()))
    }

    /// Writes a new version of a secret of the KV mount.
    pub fn put_secret(&self, path: &str, data: &Value) -> Result<()> {
        self.write(&format!("secret/data/{path}"), &json!({"data": data})).map(drop)
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let text = capture(self.authorized()?.args(args))?;
        serde_json::from_str(&text).context("bao printed something that is not JSON")
    }

    fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.write_text(path, &body.to_string())
    }

    /// Writes a JSON body and returns the answer, which is null where there is none.
    fn write_text(&self, path: &str, body: &str) -> Result<Value> {
        let answer = feed(self.authorized()?.args(["write", "-format=json", path, "-"]), body.as_bytes())?;
        if answer.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer).context("bao printed something that is not JSON")
    }
}

/// A text of an answer's data.
fn data<'a>(answer: &'a Value, name: &str) -> Result<&'a str> {
    let text = answer.pointer(&format!("/data/{name}")).and_then(Value::as_str);
    text.with_context(|| format!("OpenBao's answer has no {name}"))
}

/// Where tokens are reviewed.
struct ApiServer {
    url: String,
    /// PEM
    authority: String,
}

impl ApiServer {
    fn of(kubectl: &Kubectl) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Cluster {
            server: String,
            certificate_authority_data: String,
        }
        let view = kubectl.json(&["config", "view", "--raw", "--minify"])?;
        let cluster = view.pointer("/clusters/0/cluster").cloned().context("the kubeconfig names no cluster")?;
        let cluster: Cluster =
            serde_json::from_value(cluster).context("the kubeconfig has no inline certificate authority")?;
        let authority = BASE64
            .decode(cluster.certificate_authority_data.as_bytes())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .context("the kubeconfig's certificate authority is not base64 of PEM")?;
        Ok(Self { url: cluster.server, authority })
    }
}
