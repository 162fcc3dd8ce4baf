//! Cilium's agent: which policies it has read, and whether every pod is held to them.
//!
//! Asked on its own socket. That is the only way to tell a policy that opens everything from one that has not arrived.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use reqwest::Client;
use serde_json::Value;

use crate::{
    api::{array, text},
    netns::processes,
};

/// The agent's socket, in the files that it sees itself.
const SOCKET: &str = "root/run/cilium/cilium.sock";

/// The agent of a node that runs on this machine.
pub struct Agent {
    client: Client,
}

impl Agent {
    /// The agent that holds the pods with these addresses; another cluster on this machine has another.
    ///
    /// # Errors
    /// When there is none.
    pub async fn of(addresses: &[&str]) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let is_agent = |process: &std::path::PathBuf| {
            fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == "cilium-agent")
        };
        for process in processes(is_agent)? {
            let client = Client::builder().no_proxy().unix_socket(process.join(SOCKET)).build()?;
            let agent = Self { client };
            let Ok(held) = agent.revisions().await else { continue };
            if addresses.iter().all(|address| held.contains_key(*address)) {
                return Ok(agent);
            }
        }
        bail!("no agent of Cilium on this machine holds the pods")
    }

    /// Whether the agent has read the policies with the UIDs of `present`, none with those of `absent`, and holds the
    /// pods with these addresses to what it has read; or why not yet.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn holds(&self, addresses: &[&str], present: &[String], absent: &[String]) -> Result<Result<(), String>> {
        let policy = self.get("policy").await?;
        let rules = text(&policy, "/policy");
        if let Some(uid) = present.iter().find(|uid| !rules.contains(uid.as_str())) {
            return Ok(Err(format!("the policy {uid} is not read")));
        }
        if let Some(uid) = absent.iter().find(|uid| rules.contains(uid.as_str())) {
            return Ok(Err(format!("the policy {uid} is not forgotten")));
        }
        let read = policy.pointer("/revision").and_then(Value::as_u64).context("the agent has no revision")?;
        let held = self.revisions().await?;
        let late = |address: &&&str| held.get(**address).is_none_or(|revision| *revision < read);
        Ok(addresses.iter().find(late).map_or(Ok(()), |address| {
            Err(format!("{address} is held to revision {:?}, not {read}", held.get(*address)))
        }))
    }

    /// The revision of the policies that each pod is held to, by its address. It rises when the maps of the data plane
    /// are written, not before.
    async fn revisions(&self) -> Result<BTreeMap<String, u64>> {
        let endpoints = self.get("endpoint").await?;
        let revision = |endpoint: &Value| {
            let address = text(endpoint, "/status/networking/addressing/0/ipv4").to_owned();
            let revision = endpoint.pointer("/status/policy/realized/policy-revision")?.as_u64()?;
            Some((address, revision))
        };
        Ok(array(&endpoints, "").iter().filter_map(revision).collect())
    }

    async fn get(&self, what: &str) -> Result<Value> {
        let response = self.client.get(format!("http://localhost/v1/{what}")).send().await;
        let response = response.with_context(|| format!("Cilium's agent does not tell its {what}"))?;
        let body = response.error_for_status()?.bytes().await?;
        serde_json::from_slice(&body).with_context(|| format!("Cilium's agent tells its {what} in no JSON"))
    }
}
