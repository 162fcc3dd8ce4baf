//! OpenBao's HTTP API with root rights: what the tests set up beside the common configuration, and its seal.

use anyhow::{Context as _, Result, bail};
use http::Method;
use reqwest::Certificate;
use serde_json::{Value, json};

use crate::{api::text, cluster::Cluster, env::OpenBao, manifests::with};

/// PKI mount whose issuer is an intermediate.
pub const MOUNT: &str = "pki_int";

/// A client with the root token.
pub struct Bao {
    client: reqwest::Client,
    server: OpenBao,
    token: String,
}

impl Bao {
    /// The server beside the cluster.
    ///
    /// # Errors
    /// When there is none, or its files cannot be read.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        Self::at(cluster.openbao()?)
    }

    /// That server.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn at(server: &OpenBao) -> Result<Self> {
        let server = server.clone();
        let ca = std::fs::read(&server.ca_file).context("cannot read OpenBao's CA")?;
        let client = reqwest::Client::builder().tls_certs_only(Certificate::from_pem_bundle(&ca)?);
        let client = client.build().context("no client can be made")?;
        let token = std::fs::read_to_string(&server.root_token_file).context("cannot read the root token")?;
        Ok(Self { client, token: token.trim().to_owned(), server })
    }

    /// The root token, to look for where it must not be.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sends a request; a refusal is an error without the answer's body.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/v1/{path}", self.server.address);
        let method = Method::from_bytes(method.as_bytes()).context("not a method")?;
        let request = self.client.request(method.clone(), url).header("X-Vault-Token", &self.token);
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let answer = request.send().await.with_context(|| format!("OpenBao does not answer to {method} {path}"))?;
        let status = answer.status();
        let text = answer.text().await.context("OpenBao's answer broke off")?;
        if !status.is_success() {
            bail!("{method} {path}: {status}");
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Writes to a path.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, body).await
    }

    /// Seals the server: it goes on running and answers 503.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn seal(&self) -> Result<()> {
        self.write("sys/seal", &Value::Null).await.map(drop)
    }

    /// Unseals the server.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn unseal(&self) -> Result<()> {
        let key = std::fs::read_to_string(&self.server.unseal_key_file).context("cannot read the unseal key")?;
        self.write("sys/unseal", &json!({"key": key.trim()})).await.map(drop)
    }

    /// Accessors of all live tokens.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn accessors(&self) -> Result<Vec<String>> {
        let answer = self.call("LIST", "auth/token/accessors", &Value::Null).await?;
        let keys = answer.pointer("/data/keys").and_then(Value::as_array).context("no list of accessors")?;
        Ok(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// How many live tokens belong to accounts of `namespace`.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn logins_from(&self, namespace: &str) -> Result<usize> {
        let mut found = 0;
        for accessor in self.accessors().await? {
            // One that ended since the list was made cannot be looked up, and is none.
            let Ok(token) = self.write("auth/token/lookup-accessor", &json!({"accessor": accessor})).await else {
                continue;
            };
            found += usize::from(token.pointer("/data/meta/service_account_namespace") == Some(&json!(namespace)));
        }
        Ok(found)
    }

    /// Makes the PKI role `name` for names of the trust domain `domain`, with differences from the recommended one.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn pki_role(&self, name: &str, domain: &str, differences: &Value) -> Result<()> {
        let mut role: Value = serde_json::from_str(include_str!("../../hack/openbao/role-workload.json"))?;
        let object = role.as_object_mut().context("the recommended role is no object")?;
        object.insert("allowed_uri_sans".into(), format!("spiffe://{domain}/ns/*").into());
        for (key, value) in differences.as_object().into_iter().flatten() {
            object.insert(key.clone(), value.clone());
        }
        self.write(&format!("{MOUNT}/roles/{name}"), &role).await.map(drop)
    }

    /// Lets the operator's account log in through the role `login` and sign with every PKI role.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn login_role(&self, login: &str) -> Result<()> {
        self.login_role_for(login, "vault").await
    }

    /// The same with tokens for `audience`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn login_role_for(&self, login: &str, audience: &str) -> Result<()> {
        let policy = format!(
            "path \"{MOUNT}/issuer/+/sign/+\" {{ capabilities = [\"update\"] }}\n\
             path \"{MOUNT}/roles/+\" {{ capabilities = [\"read\"] }}\n"
        );
        self.write(&format!("sys/policies/acl/{login}"), &json!({"policy": policy})).await?;
        let role = json!({
            "bound_service_account_names": "countersign", "bound_service_account_namespaces": "countersign-system",
            "audience": audience, "token_policies": login, "token_ttl": "1h", "token_max_ttl": "24h",
        });
        self.write(&format!("auth/kubernetes/role/{login}"), &role).await.map(drop)
    }
}

/// A connection by which accounts of `namespaces` read what lies below the names of their namespaces.
///
/// # Errors
/// When the cluster has no server.
pub fn granting(cluster: &Cluster, name: &str, login: &str, namespaces: &[&str]) -> Result<Value> {
    let grants = json!([{
        "namespaces": {"names": namespaces}, "as": "ServiceAccount", "role": "tenant",
        "paths": ["secret/{namespace}/**", "kv1/{namespace}/**"],
    }]);
    Ok(with(connection(cluster, name, login)?, "grants", grants))
}

/// The server's authority, PEM.
///
/// # Errors
/// When the cluster has no server or the file cannot be read.
pub fn authority(cluster: &Cluster) -> Result<String> {
    std::fs::read_to_string(&cluster.openbao()?.ca_file).context("cannot read OpenBao's CA")
}

/// The server's URL for a pod, by a name that the cluster's DNS resolves.
///
/// # Errors
/// When the cluster has no server or its address has no port.
pub fn address_by_name(cluster: &Cluster) -> Result<String> {
    let address = &cluster.openbao()?.address;
    let port = address.rsplit(':').next().context("OpenBao's address has no port")?;
    Ok(format!("https://host.node.test:{port}"))
}

/// A connection to it as the operator's account.
///
/// # Errors
/// When the cluster has no server.
pub fn connection(cluster: &Cluster, name: &str, login: &str) -> Result<Value> {
    Ok(json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "VaultConnection", "metadata": {"name": name},
        "spec": {
            "address": address_by_name(cluster)?,
            "tls": {"ca": {"inline": authority(cluster)?}},
            "auth": {"kubernetes": {"mount": "kubernetes", "role": login, "audience": "vault"}},
        },
    }))
}

/// A trust domain `<name>.example` that the PKI role `role` signs for.
pub fn domain(name: &str, connection: &str, role: &str) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustDomain", "metadata": {"name": name},
        "spec": {
            "name": format!("{name}.example"),
            "issuer": {"vault": {"connection": connection, "mount": MOUNT, "role": role}},
        },
    })
}

/// Whether a connection's status speaks of the product it is connected to.
pub fn is_known(connection: &Value) -> bool {
    text(connection, "/status/product") == "OpenBao" && !text(connection, "/status/version").is_empty()
}
