//! What the whole run left behind: the acts in the audit log against the rights, and everything said against the secrets.
//!
//! Cargo runs this target last. It judges the targets before it, so alone, on a fresh cluster, it finds unused rights.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use countersign_e2e::{
    audit::{Act, acts_of_pods},
    cluster::Cluster,
    helm,
    manifests::parse,
    operator::{self, NAMESPACE, RELEASE, USER},
    outputs, records,
    rights::{granted, unused},
};

/// Rights that a run may or may not be seen to use, each with the reason.
const UNSEEN: [(&str, &str); 1] =
    [("patch events.events.k8s.io (everywhere)", "only an event that repeats within minutes becomes a series")];

/// Namespaces, by the start of their names, that tests grant more than what lies below their name, each with the reason.
const GRANTED_MORE: [(&str, &str); 2] = [
    ("plain-", "an engine of its own, under a name of its own"),
    ("stranger-", "another namespace's path, which the server's own policy refuses"),
];

/// Paths that every account may read and that say nothing about objects.
const OPEN: [&str; 4] = ["/version", "/api", "/apis", "/openapi"];

#[tokio::test]
async fn what_is_granted_is_used_and_what_is_used_is_granted() -> Result<()> {
    let Some(cluster) = Cluster::with(&["audit", "node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let manifest = helm::run(&cluster, &["get", "manifest", RELEASE, "-n", NAMESPACE]).await?;
    let objects = parse(&manifest, &[])?;
    let mut wrong = Vec::new();
    for (account, user) in [("countersign", USER.to_owned()), ("countersign-check", format!("{USER}-check"))] {
        let rights = granted(&objects, account)?;
        let acts = acts_of_pods(&cluster, &user)?;
        ensure!(!rights.is_empty(), "the chart grants {account} nothing");
        wrong.extend(refused(&acts).into_iter().map(|act| format!("{account} was refused: {act:?}")));
        let unused = unused(&rights, &acts).into_iter().map(|right| right.to_string());
        let unused = unused.filter(|right| !UNSEEN.iter().any(|(unseen, _)| unseen == right));
        wrong.extend(unused.map(|right| format!("{account} never needed: {right}")));
        println!("{account}: {} rights, {} kinds of acts", rights.len(), acts.len());
    }
    for (right, reason) in UNSEEN {
        println!("granted but unseen: {right}: {reason}");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What was refused although it should be granted. Refusals that the run provokes do not count.
fn refused(acts: &BTreeSet<Act>) -> Vec<&Act> {
    let denied = |act: &&Act| act.forbidden || act.status == 403 || act.status == 422;
    let open = |act: &Act| OPEN.iter().any(|path| act.resource.starts_with(path));
    acts.iter().filter(denied).filter(|act| !open(act) && !provoked(act)).collect()
}

/// Refusals that are wanted, or that nobody can avoid.
fn provoked(act: &Act) -> bool {
    let patch = |resource: &str| act.verb == "patch" && act.resource == resource;
    // The fence: its canary, and targets of somebody else, which can only be found out by being refused.
    let fence = patch("secrets") && act.status == 422;
    // A namespace of the refusals has a quota that admits no Secret; rights were not the matter.
    let quota = patch("secrets") && act.status == 403 && !act.forbidden && act.namespace.starts_with("full-");
    // Helm takes the rights away together with the pods, so the last leader cannot give its Lease back.
    let removal = patch("leases") && act.namespace == NAMESPACE;
    fence || quota || removal
}

/// By the server's own record: accounts of tenants read below their names, the operator signs.
#[tokio::test]
async fn nobody_asked_openbao_for_more_than_was_granted() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node", "openbao"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let all = records::of(&cluster)?;
    let (operators, tenants): (Vec<_>, Vec<_>) =
        all.iter().filter(|one| !one.namespace.is_empty()).partition(|one| one.namespace == NAMESPACE);
    ensure!(!operators.is_empty() && !tenants.is_empty(), "the record is empty");
    let mut wrong: BTreeSet<_> = operators.iter().filter(|one| !one.is_the_operators()).collect();
    let excepted = |one: &records::Asked| GRANTED_MORE.iter().any(|(prefix, _)| one.namespace.starts_with(prefix));
    wrong.extend(tenants.iter().filter(|one| !one.is_a_tenants() && !excepted(one)));
    for (prefix, reason) in GRANTED_MORE {
        println!("granted more: {prefix}*: {reason}");
    }
    ensure!(wrong.is_empty(), "asked for without a grant: {wrong:#?}");
    println!("{} requests of the operator, {} of tenants", operators.len(), tenants.len());
    Ok(())
}

#[tokio::test]
async fn nothing_said_holds_a_secret() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    let search = outputs::search(&cluster).await?;
    let bytes =
        |place: &str| search.places.iter().filter(|(name, _)| name.starts_with(place)).map(|(_, bytes)| bytes).sum();
    for must in ["logs", "metrics", "secretbindings", "serviceidentities", "trustdomains", "/apis/events"] {
        let bytes: usize = bytes(must);
        ensure!(bytes > 100, "there is nothing in {must} to search");
    }
    ensure!(search.leaks.is_empty(), "{}", search.leaks.join("\n"));
    println!("{} secrets, in {} bytes from {} places none", search.secrets, bytes(""), search.places.len());
    Ok(())
}

#[tokio::test]
async fn the_operator_never_fell_over() -> Result<()> {
    let Some(cluster) = Cluster::with(&["node"]).await? else { return Ok(()) };
    operator::installed(&cluster).await?;
    ensure!(operator::restarts(&cluster).await? == 0, "a container was restarted");
    let logs = operator::logs(&cluster).await?;
    let panics: Vec<&str> = logs.lines().filter(|line| line.contains("panicked")).collect();
    ensure!(panics.is_empty(), "{panics:#?}");
    Ok(())
}
