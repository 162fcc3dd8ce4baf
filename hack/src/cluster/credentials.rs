//! Every key, certificate and kubeconfig of a control plane.
//!
//! Made once a run folder: a stopped cluster starts again with the credentials its stored tokens were made with.

use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;

use super::daemons::Plan;
use super::place::NODE;
use crate::files;
use crate::pki::{Authority, Pair, Usage};

/// Clients of the API server: file name, common name, organization.
const CLIENTS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "kubernetes-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:node1", Some("system:nodes")),
];

/// Makes what is missing and renders the kubeconfigs for the address of this start.
pub fn prepare(plan: &Plan) -> Result<()> {
    let dir = plan.run.pki();
    let complete = dir.join("complete");
    if !complete.exists() {
        files::create_folder(&dir)?;
        make(plan, &dir)?;
        files::write(&complete, "")?;
    }
    let authority = read(&dir, "ca.crt")?;
    for (name, ..) in CLIENTS {
        let pair = Pair { certificate: read(&dir, &format!("{name}.crt"))?, key: read(&dir, &format!("{name}.key"))? };
        let path = dir.join(format!("{name}.kubeconfig"));
        files::write_private(&path, &kubeconfig(&plan.api_url(), &authority, &pair))?;
    }
    Ok(())
}

fn make(plan: &Plan, dir: &Path) -> Result<()> {
    let cluster = Authority::new("kubernetes-ca")?;
    cluster.pair().write(dir, "ca")?;
    for (name, common_name, organization) in CLIENTS {
        cluster.issue(common_name, organization, Usage::Client, &[])?.write(dir, name)?;
    }
    let api_client = ("kube-apiserver-kubelet-client", Some("system:masters"));
    cluster.issue(api_client.0, api_client.1, Usage::Client, &[])?.write(dir, "apiserver-kubelet-client")?;
    cluster.issue("kube-apiserver", None, Usage::Server, &api_names(plan))?.write(dir, "apiserver")?;
    let node = [NODE.to_owned(), plan.place.node_address().to_string(), "127.0.0.1".to_owned()];
    cluster.issue("system:node:node1", Some("system:nodes"), Usage::Server, &node)?.write(dir, "kubelet-server")?;

    let front_proxy = Authority::new("front-proxy-ca")?;
    front_proxy.pair().write(dir, "front-proxy-ca")?;
    front_proxy.issue("front-proxy-client", None, Usage::Client, &[])?.write(dir, "front-proxy-client")?;

    let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256).context("cannot make the key for ServiceAccount tokens")?;
    files::write_private(dir.join("sa.key"), &tokens.serialize_pem())?;
    files::write(dir.join("sa.pub"), tokens.public_key_pem())
}

/// Every name a client may use, so that one certificate serves all layers.
fn api_names(plan: &Plan) -> Vec<String> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        NODE,
        "127.0.0.1",
    ];
    let addresses = [plan.place.node_address(), plan.place.api_service()].map(|address| address.to_string());
    names.into_iter().map(str::to_owned).chain(addresses).collect()
}

/// A kubeconfig with everything inline; JSON is YAML.
fn kubeconfig(server: &str, authority: &str, client: &Pair) -> String {
    let base64 = |text: &str| BASE64.encode(text.as_bytes());
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {
            "server": server, "certificate-authority-data": base64(authority)}}],
        "users": [{"name": "local", "user": {
            "client-certificate-data": base64(&client.certificate), "client-key-data": base64(&client.key)}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    });
    format!("{config:#}\n")
}

fn read(dir: &Path, name: &str) -> Result<String> {
    files::read(dir.join(name))
}
