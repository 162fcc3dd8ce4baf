//! Servers that are no OpenBao, and a connection that goes away while it is used.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use countersign_e2e::{
    api::path_of,
    bao::{self, Bao},
    cluster::{Cluster, unique},
    conditions::{Expected, TRUTH, ready, reports},
    manifests::{account, identity},
    operator,
    wait::until,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// Row 99: the domain says what is missing; what was issued stays and counts.
#[tokio::test]
async fn a_connection_deleted_while_used_takes_nothing_along() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let name = format!("deleted-{}", unique());
    let bao = Bao::of(&cluster)?;
    bao.login_role(&name).await?;
    bao.pki_role(&name, &format!("{name}.example"), &json!({})).await?;
    let (connection, domain) = (bao::connection(&cluster, &name, &name)?, bao::domain(&name, &name, &name));
    let namespace = cluster.namespace("deleted").await?;
    let identity = identity(&namespace, "web", &name);
    for object in [&connection, &domain, &account(&namespace, "web"), &identity] {
        cluster.api.apply(object).await?;
    }
    reports(&cluster.api, &path_of(&identity)?, &ready(), TRUTH).await?;
    let secret = format!("/api/v1/namespaces/{namespace}/secrets/web-tls");
    let before = cluster.api.get(&secret).await?;

    cluster.api.delete(&path_of(&connection)?).await?;
    let lost = Expected::status("IssuerReachable", "False").because("ConnectionNotFound");
    reports(&cluster.api, &path_of(&domain)?, &lost, TRUTH).await?;
    reports(&cluster.api, &path_of(&identity)?, &ready(), TRUTH).await?;
    ensure!(cluster.api.get(&secret).await? == before, "the Secret was written");
    cluster.api.apply(&connection).await?;
    reports(&cluster.api, &path_of(&domain)?, &ready(), TRUTH).await.map(drop)
}

/// Rows 94 and 100, with servers of the test's own on the ports that the chart's NetworkPolicy leaves open.
#[tokio::test]
async fn a_server_that_is_no_openbao_or_too_old_is_named() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let host = cluster.env.host_address.clone().context("pods cannot reach this host")?;
    let folder = tempfile::tempdir()?;
    let authority = certificates(folder.path())?;
    let _web = serve(folder.path(), &format!("{host}:443"), &["-www"]).await?;
    let _old =
        serve(folder.path(), &format!("{host}:6443"), &["-www", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await?;
    let run = unique();
    for (name, port, reason) in [("web", 443, "NotVault"), ("old", 6443, "TLSFailed")] {
        let object = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "VaultConnection",
            "metadata": {"name": format!("{name}-{run}")},
            "spec": {
                "address": format!("https://host.node.test:{port}"),
                "tls": {"ca": {"inline": authority}},
                "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}},
            },
        });
        cluster.api.apply(&object).await?;
        let expected = Expected::status("Reachable", "False").because(reason);
        let object: Value = reports(&cluster.api, &path_of(&object)?, &expected, TRUTH).await?;
        let told = object["status"]["conditions"].to_string().to_lowercase();
        ensure!(!told.contains("<html") && !told.contains("s_server"), "the answer is in the status: {told}");
    }
    Ok(())
}

fn certificates(folder: &Path) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "impostor");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["host.node.test".to_owned()])?.signed_by(&key, &authority)?;
    std::fs::write(folder.join("server.crt"), leaf.pem())?;
    std::fs::write(folder.join("server.key"), key.serialize_pem())?;
    Ok(authority.pem())
}

/// OpenSSL's test server, until the handle is dropped.
async fn serve(folder: &Path, address: &str, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new("openssl");
    command
        .args(["s_server", "-accept", address, "-cert", "server.crt", "-key", "server.key", "-quiet"])
        .args(arguments);
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start openssl s_server")?;
    until(&format!("openssl s_server listens on {address}"), TRUTH, async || {
        if let Some(status) = child.try_wait()? {
            bail!("openssl s_server ended: {status}");
        }
        Ok(TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string()))
    })
    .await?;
    Ok(child)
}
