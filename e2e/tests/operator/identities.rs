//! Identities of both issuers with every kind of key, judged by everybody who may meet them.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{path_of, text},
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{TRUTH, ready, reports},
    identity::{Leaf, Material},
    judges::Docket,
    manifests::{account, embedded_domain, identity, service, with},
    operator,
};
use serde_json::{Value, json};

use crate::SLOW;

/// Name, algorithm and size of every key that can be asked for.
const KEYS: [(&str, &str, Option<u32>); 6] = [
    ("ecdsa-256", "ECDSA", Some(256)),
    ("ecdsa-384", "ECDSA", Some(384)),
    ("ed25519", "Ed25519", None),
    ("rsa-2048", "RSA", Some(2048)),
    ("rsa-3072", "RSA", Some(3072)),
    ("rsa-4096", "RSA", Some(4096)),
];

/// The operator's pod finds OpenBao by name, trusts its pinned authority and makes RSA keys; nothing of it is mocked.
#[tokio::test]
async fn every_judge_accepts_every_key_of_both_issuers() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let run = unique();
    let (embedded, vault) = (format!("embedded-{run}"), format!("vault-{run}"));
    cluster.api.apply(&embedded_domain(&embedded)).await?;
    connect(&cluster, &vault).await?;
    let namespace = cluster.namespace("judged").await?;

    // All are asked for before the first is waited for, as by a deployment of many services.
    for (issuer, domain) in [("own", &embedded), ("bao", &vault)] {
        for key in KEYS {
            ask(&cluster, &namespace, &format!("{issuer}-{}", key.0), domain, key).await?;
        }
    }
    let mut docket = Docket::new()?;
    for (issuer, domain) in [("own", &embedded), ("bao", &vault)] {
        for key in KEYS {
            let name = format!("{issuer}-{}", key.0);
            let material = check(&cluster, &namespace, &name, &format!("{domain}.example"), key).await?;
            docket.add(&name, &material, &format!("{name}.{namespace}.svc"))?;
        }
    }
    let refusals = docket.refusals().await?;
    ensure!(refusals.is_empty(), "{}", refusals.join("\n"));
    Ok(())
}

/// A connection by DNS name, and a domain whose role takes every key.
async fn connect(cluster: &Cluster, name: &str) -> Result<()> {
    let bao = Bao::of(cluster)?;
    bao.login_role(name).await?;
    let any = json!({"key_type": "any", "key_bits": 0});
    bao.pki_role(name, &format!("{name}.example"), &any).await?;
    let connection = bao::connection(cluster, name, name)?;
    ensure!(text(&connection, "/spec/address").contains("host.node.test"), "the address is not a name");
    cluster.api.apply(&connection).await?;
    let connection = reports(&cluster.api, &path_of(&connection)?, &ready(), TRUTH).await?;
    ensure!(bao::is_known(&connection), "{}", connection["status"]);
    let domain = bao::domain(name, name, name);
    cluster.api.apply(&domain).await?;
    reports(&cluster.api, &path_of(&domain)?, &ready(), TRUTH).await.map(drop)
}

async fn ask(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    domain: &str,
    key: (&str, &str, Option<u32>),
) -> Result<()> {
    let mut wanted = json!({"algorithm": key.1});
    if let Some(size) = key.2 {
        wanted["size"] = size.into();
    }
    cluster.api.apply(&account(namespace, name)).await?;
    cluster.api.apply(&service(namespace, name)).await?;
    let identity = with(with(identity(namespace, name, domain), "key", wanted), "services", json!([name]));
    cluster.api.apply(&identity).await.map(drop)
}

/// Status and Secret say the same, and exactly what was asked for.
async fn check(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    trust_domain: &str,
    key: (&str, &str, Option<u32>),
) -> Result<Material> {
    let path = format!("/apis/countersign.dev/v1alpha1/namespaces/{namespace}/serviceidentities/{name}");
    let object = reports(&cluster.api, &path, &ready(), SLOW).await?;
    let secret = cluster.api.get(&format!("/api/v1/namespaces/{namespace}/secrets/{name}-tls")).await?;
    let material = Material::of(&secret).with_context(|| name.to_owned())?;
    let leaf = Leaf::read(material.certificates()?.first().context("no leaf")?)?;

    let spiffe = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{name}");
    let dns = format!("DNS:{name}.{namespace}.svc");
    let names = [format!("URI:{spiffe}"), dns.clone(), format!("{dns}.cluster.local")];
    ensure!(leaf.names == names.into(), "{name} carries the names {:?}", leaf.names);
    ensure!(leaf.key == (key.1.to_owned(), key.2), "{name} has a key {:?}", leaf.key);
    ensure!(!leaf.is_authority, "{name} may sign certificates");

    let status = |field: &str| text(&object, &format!("/status/{field}")).to_owned();
    ensure!(status("spiffeId") == spiffe, "{name}: status.spiffeId is {}", status("spiffeId"));
    ensure!(status("serial") == leaf.serial, "{name}: status.serial {}, stored {}", status("serial"), leaf.serial);
    ensure!(status("fingerprint") == leaf.fingerprint, "{name}: status.fingerprint is of another certificate");
    for (field, seconds) in [("notBefore", leaf.not_before), ("notAfter", leaf.not_after)] {
        let stated: jiff::Timestamp = status(field).parse().with_context(|| format!("status.{field} of {name}"))?;
        ensure!(stated.as_second() == seconds, "{name}: status.{field} differs from the certificate");
    }
    owned(&object, &secret).with_context(|| name.to_owned())?;
    Ok(material)
}

/// The Secret says whose it is, in the way that garbage collection and the fence understand.
fn owned(object: &Value, secret: &Value) -> Result<()> {
    let uid = text(object, "/metadata/uid");
    let label = |name: &str| secret["metadata"]["labels"][name].as_str().unwrap_or_default();
    ensure!(label("app.kubernetes.io/managed-by") == "countersign", "the Secret lacks the label of its maker");
    ensure!(label("countersign.dev/owner-uid") == uid, "the Secret's label names another owner");
    ensure!(text(secret, "/metadata/ownerReferences/0/uid") == uid, "the Secret has no owner reference");
    Ok(())
}
