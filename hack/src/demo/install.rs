//! Brings OpenBao, the operator, the trust domains and the shop into the cluster, and waits until each works.
//!
//! What is applied are the chart and the examples that people copy, unchanged but for OpenBao's address.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stage::{Goal, OPERATOR, Stage};
use crate::cache::repository;
use crate::cluster::env::Env;
use crate::cluster::kubectl::Kubectl;
use crate::cluster::place::Run;
use crate::files;
use crate::openbao::Server;
use crate::process::{SEARCH_PATH, capture};

/// Starts OpenBao beside the cluster and sets it up for the operator.
pub fn openbao(stage: &Stage, run: &Run) -> Result<Server> {
    let server = Server::new(run, &stage.env)?;
    server.start()?;
    server.unseal()?;
    server.setup(&stage.kubectl)?;
    stage.say("openbao", &format!("{}: TLS, a PKI mount, a KV mount, login by ServiceAccount", server.url()));
    Ok(server)
}

/// Installs the chart and waits for its pods.
pub fn operator(stage: &Stage, run: &Run) -> Result<()> {
    let goal = Goal {
        what: "installed by Helm, every pod ready",
        area: "operator",
        describe: &["-n", OPERATOR, "pods"],
        advice: "look at the pods' events above; images of a local cluster are loaded, not pulled",
        within: Duration::from_secs(120),
    };
    let mut command = helm(&stage.env, run);
    command.args(["install", "countersign"]).arg(repository().join("charts/countersign"));
    let timeout = format!("{}s", goal.within.as_secs());
    command.args(["--namespace", OPERATOR, "--create-namespace", "--wait", "--timeout", &timeout]);
    if let Err(error) = capture(&mut command) {
        stage.interrupt.check()?;
        stage.explain(&goal);
        return Err(error).context("the chart cannot be installed");
    }
    stage.say(goal.area, goal.what);
    Ok(())
}

/// One trust domain that OpenBao signs for, and one with an authority of its own.
pub fn trust(stage: &Stage, server: &Server) -> Result<()> {
    let authority = files::read(server.env().ca_file)?;
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bao-ca", "namespace": OPERATOR},
        "data": {"ca.crt": authority},
    });
    stage.kubectl.apply(&config_map.to_string())?;
    stage.kubectl.apply(&addressed(&example("trust-domain-vault.yaml")?, &server.url())?)?;
    stage.kubectl.apply(&example("quickstart.yaml")?)?;

    let goal = Goal {
        what: "VaultConnection main is Ready: the operator has logged in",
        area: "trust",
        describe: &["vaultconnection", "main"],
        advice: "docs/how-to/vault-or-openbao.md, section 4, goes through the usual reasons",
        within: Duration::from_secs(60),
    };
    stage.wait_for_condition(&goal, "Ready")?;
    let what = "TrustDomain prod is Ready: OpenBao signs for prod.example";
    let goal = Goal { what, describe: &["trustdomain", "prod"], ..goal };
    stage.wait_for_condition(&goal, "Ready")?;
    let goal = Goal {
        what: "TrustDomain quickstart is Ready: it has an authority of its own",
        describe: &["trustdomain", "quickstart"],
        advice: "the reason above is explained in docs/reference/conditions-and-reasons.md",
        ..goal
    };
    stage.wait_for_condition(&goal, "Ready")?;
    issued(stage, &["-n", "quickstart", "serviceidentity", "web"])
}

/// The two services: first the server, so that the client's first call is answered.
pub fn shop(stage: &Stage, server: &Server) -> Result<()> {
    server.put_secret("payments/database", &database_login(1))?;
    for file in ["00-namespaces.yaml", "identities.yaml", "secrets.yaml", "payment.yaml"] {
        stage.kubectl.apply(&example(&format!("shop/manifests/{file}"))?)?;
    }
    let goal = Goal {
        what: "payment has its database login, in its Secret payment-database",
        area: "secret",
        describe: &["-n", "payments", "secretbinding", "database"],
        advice: "the reason above is explained in docs/reference/conditions-and-reasons.md",
        within: Duration::from_secs(60),
    };
    stage.wait_for_condition(&goal, "Ready")?;
    issued(stage, &["-n", "payments", "serviceidentity", "payment"])?;
    issued(stage, &["-n", "shop", "serviceidentity", "order"])?;
    started(stage, &["-n", "payments", "deployment", "payment"], "payment serves HTTPS with its certificate")?;
    stage.kubectl.apply(&example("shop/manifests/order.yaml")?)?;
    started(stage, &["-n", "shop", "deployment", "order"], "order calls payment every 20 ms, each time anew")
}

/// The database login of payment that OpenBao holds as `revision`.
pub fn database_login(revision: u32) -> Value {
    json!({"username": "payment", "password": format!("only for this demo, number {revision}"), "revision": revision.to_string()})
}

/// Every kind of ours.
const KINDS: [&str; 8] = [
    "secretbindings",
    "serviceidentities",
    "trustdomains",
    "vaultconnections",
    "segments",
    "accessgrants",
    "accessrequests",
    "externalservices",
];

/// Removes what the demo made from a cluster that stays.
pub fn remove(env: &Env, run: &Run) -> Result<()> {
    let kubectl = Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), run.dir());
    let delete = |what: &[&str]| kubectl.text(&[&["delete", "--ignore-not-found"], what].concat());
    let ours = kubectl.succeeds(&["get", "crd", "serviceidentities.countersign.dev"]);
    if ours {
        // Bindings and identities first, while the operator is there to let them go.
        delete(&["segments", "--all", "--timeout=120s"])?;
        for kind in ["secretbindings", "serviceidentities", "trustdomains", "vaultconnections"] {
            delete(&[kind, "--all", "--all-namespaces", "--wait=false"])?;
        }
    }
    delete(&["namespace", "shop", "payments", "quickstart", "--wait=false"])?;
    let installed = helm(env, run).args(["status", "countersign", "--namespace", OPERATOR]).output();
    if installed.is_ok_and(|output| output.status.success()) {
        capture(helm(env, run).args(["uninstall", "countersign", "--namespace", OPERATOR, "--wait"]))?;
    }
    if ours {
        for kind in KINDS {
            let crd = format!("{kind}.countersign.dev");
            // The guard of the definitions may outlive its release for a moment, and this is meant.
            kubectl.text(&["annotate", "crd", &crd, "countersign.dev/allow-deletion=true", "--overwrite"])?;
            delete(&["crd", &crd, "--timeout=20s"])?;
        }
    }
    delete(&["namespace", OPERATOR, "--wait=false"])?;
    delete(&["clusterrolebinding", "openbao-token-reviewer"])?;
    delete(&["-n", "kube-system", "serviceaccount", "openbao-token-reviewer"]).map(drop)
}

/// Waits until an identity has its certificate.
fn issued(stage: &Stage, name: &[&str]) -> Result<()> {
    let of = name.last().copied().unwrap_or_default();
    let goal = Goal {
        what: &format!("{of} has a certificate, in its Secret {of}-tls"),
        area: "identity",
        describe: name,
        advice: "the reason above is explained in docs/reference/conditions-and-reasons.md",
        within: Duration::from_secs(60),
    };
    stage.wait_for_condition(&goal, "Ready")
}

fn started(stage: &Stage, name: &[&str], what: &str) -> Result<()> {
    let goal = Goal {
        what,
        area: "shop",
        describe: name,
        advice: "look at the pod's events and at its log",
        within: Duration::from_secs(90),
    };
    stage.wait_for_condition(&goal, "Available")
}

/// A file of the examples.
pub fn example(file: &str) -> Result<String> {
    files::read(repository().join("examples").join(file))
}

/// The example with the address of the demo's OpenBao.
fn addressed(example: &str, url: &str) -> Result<String> {
    ensure!(example.contains(EXAMPLE_ADDRESS), "the example names another address than {EXAMPLE_ADDRESS}");
    Ok(example.replace(EXAMPLE_ADDRESS, url))
}

/// The address in `examples/trust-domain-vault.yaml`.
const EXAMPLE_ADDRESS: &str = "https://bao.infra.svc:8200";

/// Helm against the cluster, blind to the caller's own settings.
fn helm(env: &Env, run: &Run) -> Command {
    let folder = run.dir().join("helm");
    let mut command = Command::new(&env.programs.helm);
    command.env_clear().env("PATH", SEARCH_PATH).env("HOME", &folder);
    for (name, below) in [("CACHE", "cache"), ("CONFIG", "config"), ("DATA", "data")] {
        command.env(format!("HELM_{name}_HOME"), Path::new(&folder).join(below));
    }
    command.arg("--kubeconfig").arg(&env.kubeconfig);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_the_address_that_is_replaced() {
        let text = addressed(&example("trust-domain-vault.yaml").unwrap(), "https://10.0.0.1:8200").unwrap();
        assert!(text.contains("address: https://10.0.0.1:8200\n") && !text.contains(EXAMPLE_ADDRESS));
        assert!(addressed("address: https://elsewhere", "https://10.0.0.1:8200").is_err());
    }
}
