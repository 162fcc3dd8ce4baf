//! Bindings on a real OpenBao, read as their own accounts by TokenReview: what arrives, what stays, what is refused.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports},
    manifests::{account, with},
    operator,
    wait::until,
};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// A namespace with an account, a connection that grants it its own paths, and a server beside it.
struct Tenant {
    cluster: Cluster,
    bao: Bao,
    namespace: String,
    connection: String,
}

impl Tenant {
    async fn new(prefix: &str) -> Result<Option<Self>> {
        let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(None) };
        operator::installed(&cluster).await?;
        let bao = Bao::of(&cluster)?;
        let connection = format!("{prefix}-{}", unique());
        let namespace = cluster.namespace(prefix).await?;
        bao.login_role(&connection).await?;
        let object = bao::granting(&cluster, &connection, &connection, &[&namespace])?;
        cluster.api.apply(&object).await?;
        cluster.api.apply(&account(&namespace, "app")).await?;
        reports(&cluster.api, &path_of(&object)?, &ready(), TRUTH).await?;
        Ok(Some(Self { cluster, bao, namespace, connection }))
    }

    /// Writes a secret of the tenant at the server.
    async fn put(&self, path: &str, data: &Value) -> Result<()> {
        self.bao.write(&format!("secret/data/{}/{path}", self.namespace), &json!({"data": data})).await.map(drop)
    }

    /// A binding of `secret/<namespace>/<name>` with every key of it, in the Secret `<name>`.
    fn binding(&self, name: &str) -> Value {
        json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"namespace": self.namespace, "name": name},
            "spec": {
                "connection": self.connection, "serviceAccountName": "app",
                "sources": [{"name": "app", "kv": {"mount": "secret", "path": format!("{}/{name}", self.namespace)}}],
                "secret": {"name": name, "data": [{"each": "app"}]},
            },
        })
    }

    async fn apply(&self, binding: &Value, expected: &Expected) -> Result<Value> {
        self.cluster.api.apply(binding).await?;
        reports(&self.cluster.api, &path_of(binding)?, expected, TRUTH).await
    }

    async fn secret(&self, name: &str) -> Result<Option<Value>> {
        self.cluster.api.find(&format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace)).await
    }

    async fn data(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let secret = self.secret(name).await?.context("the Secret is not there")?;
        let data = secret.pointer("/data").and_then(Value::as_object).cloned().unwrap_or_default();
        data.into_iter()
            .map(|(key, value)| {
                let bytes = BASE64.decode(value.as_str().unwrap_or_default().as_bytes())?;
                Ok((key, String::from_utf8(bytes)?))
            })
            .collect()
    }

    /// Asks for a refresh, and waits until it was made.
    async fn refresh(&self, name: &str) -> Result<Value> {
        let path = path_of(&self.binding(name))?;
        let asked = unique();
        self.cluster.api.annotate(&path, "countersign.dev/requested-at", &asked).await?;
        until(&format!("{name} was refreshed"), TRUTH, async || {
            let object = self.cluster.api.get(&path).await?;
            let handled = text(&object, "/status/lastHandledRequest").to_owned();
            Ok(if handled == asked { Ok(object) } else { Err(handled) })
        })
        .await
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_value_arrives_changes_and_goes_with_its_binding() -> Result<()> {
    let Some(tenant) = Tenant::new("bound").await? else { return Ok(()) };
    tenant.put("db", &json!({"username": "shop-rw", "password": "canary-of-the-first-version"})).await?;
    let binding = tenant.binding("db");
    let object = tenant.apply(&binding, &ready()).await?;
    ensure!(
        tenant.data("db").await? == map(&[("password", "canary-of-the-first-version"), ("username", "shop-rw")]),
        "the Secret holds something else"
    );
    ensure!(object["status"]["sources"][0]["version"] == 1, "{}", object["status"]);
    let secret = tenant.secret("db").await?.context("no Secret")?;
    ensure!(text(&secret, "/metadata/ownerReferences/0/uid") == text(&object, "/metadata/uid"), "it has no owner");

    // Nothing new at the server: nothing is written.
    tenant.refresh("db").await?;
    ensure!(tenant.secret("db").await?.as_ref() == Some(&secret), "an unchanged refresh wrote the Secret");

    tenant.put("db", &json!({"username": "shop-rw", "password": "canary-of-the-second-version"})).await?;
    let object = tenant.refresh("db").await?;
    ensure!(tenant.data("db").await?["password"] == "canary-of-the-second-version", "the new value did not arrive");
    ensure!(object["status"]["sources"][0]["version"] == 2, "{}", object["status"]);

    // What somebody removes is written again.
    let path = format!("/api/v1/namespaces/{}/secrets/db", tenant.namespace);
    tenant.cluster.api.merge(&path, &json!({"data": {"password": null}})).await?;
    ensure!(tenant.data("db").await?.len() == 1, "the key was not removed");
    tenant.refresh("db").await?;
    ensure!(tenant.data("db").await?["password"] == "canary-of-the-second-version", "it stayed removed");
    tenant.cluster.api.delete(&path).await?;
    tenant.refresh("db").await?;
    ensure!(tenant.data("db").await?.len() == 2, "it stayed deleted");

    // What somebody changes is theirs from then on: it is told, and never overwritten.
    tenant.cluster.api.merge(&path, &json!({"data": {"password": BASE64.encode(b"canary-of-somebody-else")}})).await?;
    let object = path_of(&binding)?;
    tenant.cluster.api.annotate(&object, "countersign.dev/requested-at", &unique()).await?;
    reports(&tenant.cluster.api, &object, &Expected::status("FieldConflict", "True"), TRUTH).await?;
    let drifted = Expected::status("Ready", "False").because("Drifted");
    reports(&tenant.cluster.api, &object, &drifted, TRUTH).await?;
    ensure!(
        tenant.data("db").await?["password"] == "canary-of-somebody-else",
        "what is somebody else's was overwritten"
    );
    tenant.cluster.api.delete(&path).await?;
    tenant.refresh("db").await?;
    ensure!(tenant.data("db").await?["password"] == "canary-of-the-second-version", "it was not made anew");

    tenant.cluster.api.delete(&path_of(&binding)?).await?;
    until("the Secret goes with its owner", TRUTH, async || {
        Ok(tenant.secret("db").await?.map_or(Ok(()), |_| Err("it is there".to_owned())))
    })
    .await
}

#[tokio::test]
async fn what_a_server_lacks_takes_nothing_away() -> Result<()> {
    let Some(tenant) = Tenant::new("kept").await? else { return Ok(()) };
    tenant.put("kept", &json!({"a": "canary-that-is-kept"})).await?;
    tenant.apply(&tenant.binding("kept"), &ready()).await?;
    let before = tenant.secret("kept").await?;
    let unchanged = async |what: &str| -> Result<()> {
        ensure!(tenant.secret("kept").await? == before, "{what} changed the Secret");
        Ok(())
    };
    let path = path_of(&tenant.binding("kept"))?;
    let ask = async || tenant.cluster.api.annotate(&path, "countersign.dev/requested-at", &unique()).await;
    let missing = |reason: &str| Expected::status("SourceMissing", "True").because(reason);

    tenant.bao.call("DELETE", &format!("secret/data/{}/kept", tenant.namespace), &Value::Null).await?;
    ask().await?;
    reports(&tenant.cluster.api, &path, &missing("RemoteDeleted"), TRUTH).await?;
    let object = reports(&tenant.cluster.api, &path, &ready(), TRUTH).await?;
    ensure!(object["status"]["sources"][0]["phase"] == "Deleted", "{}", object["status"]);
    unchanged("a deletion at the server").await?;

    // Each is a binding of its own, so that none waits for another's back-off.
    let expected = [
        ("nothing", json!({"path": format!("{}/nothing", tenant.namespace)}), "RemoteMissing"),
        ("pinned", json!({"path": format!("{}/kept", tenant.namespace), "version": 7}), "RemoteVersionMissing"),
        ("foreign", json!({"path": "another-namespace/app"}), "PathNotAllowed"),
        ("no-mount", json!({"mount": "kv1", "path": format!("{}/a", tenant.namespace)}), "MountMissing"),
    ];
    for (name, kv, reason) in expected {
        let mut source = json!({"name": "app", "kv": {"mount": "secret"}});
        for (field, value) in kv.as_object().into_iter().flatten() {
            source["kv"][field] = value.clone();
        }
        let binding = with(tenant.binding(name), "sources", json!([source]));
        tenant.apply(&binding, &Expected::reason(reason)).await?;
        ensure!(tenant.secret(name).await?.is_none(), "{name} wrote a Secret");
    }
    tenant.put("number", &json!({"n": 8_019_210_420_527_506_405_u64})).await?;
    tenant.apply(&tenant.binding("number"), &Expected::reason("NonStringValue")).await?;
    tenant.put("odd", &json!({"a b": "x"})).await?;
    tenant.apply(&tenant.binding("odd"), &Expected::reason("InvalidKeyName")).await?;
    unchanged("somebody else's failure").await
}

#[tokio::test]
async fn only_who_was_granted_reads() -> Result<()> {
    let Some(tenant) = Tenant::new("granted").await? else { return Ok(()) };
    let Some(stranger) = Tenant::new("stranger").await? else { return Ok(()) };
    tenant.put("own", &json!({"a": "canary-of-the-tenant"})).await?;
    tenant.apply(&tenant.binding("own"), &ready()).await?;

    // One answer for a connection that grants nothing here and one that does not exist.
    for connection in [tenant.connection.as_str(), "does-not-exist"] {
        let mut binding = with(stranger.binding("theirs"), "connection", connection.into());
        binding["metadata"]["name"] = format!("by-{connection}").into();
        binding["spec"]["secret"]["name"] = format!("by-{connection}").into();
        stranger.apply(&binding, &Expected::reason("ConnectionNotAllowed")).await?;
    }
    let missing = with(tenant.binding("missing"), "serviceAccountName", "nobody".into());
    tenant.apply(&missing, &Expected::reason("ServiceAccountMissing")).await?;
    let of_type = with(
        tenant.binding("typed"),
        "secret",
        json!({"name": "typed", "type": "kubernetes.io/basic-auth", "data": [{"each": "app"}]}),
    );
    tenant.apply(&of_type, &Expected::reason("TypeNotAllowed")).await?;

    // The server's policy is a second wall: a grant alone does not open another tenant's path.
    let connection = format!("/apis/countersign.dev/v1alpha1/vaultconnections/{}", stranger.connection);
    let wide = json!([{
        "namespaces": {"names": [stranger.namespace]}, "as": "ServiceAccount", "role": "tenant",
        "paths": ["secret/**"],
    }]);
    stranger.cluster.api.merge(&connection, &json!({"spec": {"grants": wide}})).await?;
    let theirs = json!([{"name": "app", "kv": {"mount": "secret", "path": format!("{}/own", tenant.namespace)}}]);
    let binding = with(stranger.binding("walled"), "sources", theirs);
    stranger.apply(&binding, &Expected::reason("AccessDenied")).await?;
    ensure!(stranger.secret("walled").await?.is_none(), "another tenant's secret was written");
    Ok(())
}

#[tokio::test]
async fn an_engine_without_versions_serves_too() -> Result<()> {
    let Some(tenant) = Tenant::new("plain").await? else { return Ok(()) };
    let mount = format!("kv-{}", unique());
    tenant.bao.write(&format!("sys/mounts/{mount}"), &json!({"type": "kv", "options": {"version": "1"}})).await?;
    let policy = format!("path \"{mount}/*\" {{ capabilities = [\"read\"] }}");
    tenant.bao.write(&format!("sys/policies/acl/{mount}"), &json!({"policy": policy})).await?;
    let role = json!({
        "bound_service_account_names": "app", "bound_service_account_namespaces": tenant.namespace,
        "audience": "vault", "token_policies": mount, "token_ttl": "1h",
    });
    tenant.bao.write(&format!("auth/kubernetes/role/{mount}"), &role).await?;
    let connection = format!("/apis/countersign.dev/v1alpha1/vaultconnections/{}", tenant.connection);
    let grants = json!([{
        "namespaces": {"names": [tenant.namespace]}, "as": "ServiceAccount", "role": mount,
        "paths": [format!("{mount}/*")], "secretTypes": ["Opaque"],
    }]);
    tenant.cluster.api.merge(&connection, &json!({"spec": {"grants": grants}})).await?;
    tenant
        .bao
        .write(&format!("{mount}/app"), &json!({"token": "canary-of-version-one", "n": {"deep": "canary-deep"}}))
        .await?;
    let sources = json!([{"name": "app", "kv": {"mount": mount, "path": "app"}}]);
    let mut binding = with(tenant.binding("plain"), "sources", sources);
    binding["spec"]["secret"]["data"] = json!([
        {"key": "TOKEN", "from": "app.token"}, {"key": "DEEP", "from": "app.n.deep"},
    ]);
    tenant.apply(&binding, &ready()).await?;
    ensure!(
        tenant.data("plain").await? == map(&[("DEEP", "canary-deep"), ("TOKEN", "canary-of-version-one")]),
        "the Secret holds something else"
    );
    let before = tenant.secret("plain").await?;
    tenant.refresh("plain").await?;
    ensure!(tenant.secret("plain").await? == before, "an unchanged refresh wrote the Secret");
    Ok(())
}

/// Ten bindings of one account and path: one login, and the values are read once.
#[tokio::test]
async fn what_many_ask_at_once_is_asked_once() -> Result<()> {
    let Some(tenant) = Tenant::new("many").await? else { return Ok(()) };
    tenant.put("shared", &json!({"a": "canary-of-the-shared"})).await?;
    for number in 0..10 {
        let mut binding = tenant.binding("shared");
        binding["metadata"]["name"] = format!("shared-{number}").into();
        binding["spec"]["secret"]["name"] = format!("shared-{number}").into();
        tenant.cluster.api.apply(&binding).await?;
    }
    for number in 0..10 {
        let path =
            format!("/apis/countersign.dev/v1alpha1/namespaces/{}/secretbindings/shared-{number}", tenant.namespace);
        reports(&tenant.cluster.api, &path, &ready(), TRUTH).await?;
    }
    ensure!(tenant.bao.logins_from(&tenant.namespace).await? == 1, "one account logged in more than once");
    Ok(())
}
