//! One row: a binding that is whole, an answer, and what becomes of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::{
    api::{Api, array, path_of, text},
    bao::Bao,
    conditions::{Expected, ready, reports, shown},
    crash::{script::Rule, wire::Wire},
    manifests,
    wait::{throughout, until},
};
use serde_json::{Value, json};

use super::{
    SLOW, labels,
    rows::{At, Row, Step},
};

/// How long the calls of a row are counted, from its first.
const WINDOW: Duration = Duration::from_secs(8);
const REQUESTED: &str = "countersign.dev/requested-at";

/// What the rows share.
pub struct Stage {
    /// Namespace of every binding.
    pub namespace: String,
    /// The server, with root rights.
    pub bao: Bao,
    /// The proxy before it.
    pub vault: String,
    /// The proxy's authority, PEM.
    pub authority: String,
    /// The API server, as administrator.
    pub api: Api,
    /// What the proxies answer, and what they saw.
    pub wire: Arc<Wire>,
}

/// What was seen of a row.
pub struct Verdict {
    /// The reason that was told.
    pub reason: String,
    /// Calls at its path within the window.
    pub calls: usize,
    /// Seconds at which it was whole, asked, and whole again.
    pub times: [u64; 3],
}

/// Plays one row.
///
/// # Errors
/// When something is not as the row says, or the test itself fails.
pub async fn play(stage: &Stage, row: &Row) -> Result<Verdict> {
    let scene = Scene { stage, row, below: format!("{}/{}", stage.namespace, row.name) };
    scene.begin().await.context("it did not begin")?;
    let begun = stage.wire.now();
    let before = scene.secret().await?;
    scene.put("after").await?;
    scene.change(true).await?;
    let from = stage.wire.now();
    scene.request("1").await?;

    let failed = Expected::status("Synced", "False").because(row.reason);
    let told = reports(&stage.api, &scene.path("secretbindings", &row.name), &failed, SLOW).await?;
    let kind = if row.stalled { "Stalled" } else { "Reconciling" };
    let progress = Expected::status(kind, "True").because(row.reason);
    if row.reason != "WriteConflict" {
        progress.look(&told).map_err(|seen| anyhow::anyhow!("not {kind}: {seen}"))?;
    }
    // Another spec is not what the Secret is made of; all else takes nothing away.
    let is_edited = matches!(row.step, Step::Pin(_) | Step::Mount(_));
    let kept = if is_edited { Expected::status("Ready", "False").because("OutOfDate") } else { ready() };
    kept.look(&told).map_err(|seen| anyhow::anyhow!("Ready is not what it was: {seen}"))?;
    let words = told["status"].to_string();
    ensure!(!words.contains("injected") && !words.contains("canary"), "foreign words in the status: {words}");
    if row.others_are_well {
        scene.neighbour().await?;
    }
    let calls = match &row.calls {
        Some(expected) => {
            let calls = scene.count(from, &before, *expected.end()).await?;
            ensure!(expected.contains(&calls), "asked {calls} times within {} s, not {expected:?}", WINDOW.as_secs());
            calls
        }
        None => scene.calls(from, stage.wire.now()),
    };
    ensure!(scene.secret().await? == before, "the Secret was changed");
    // Before the fault ends: a binding that tries by itself would otherwise find the values in between, and be content.
    scene.put("healed").await?;
    scene.change(false).await?;
    scene.recover().await.context("it did not recover")?;
    let times = [begun, from, stage.wire.now()].map(|at| at.as_secs());
    Ok(Verdict { reason: row.reason.to_owned(), calls, times })
}

struct Scene<'a> {
    stage: &'a Stage,
    row: &'a Row,
    /// Path below the mount.
    below: String,
}

impl Scene<'_> {
    fn path(&self, plural: &str, name: &str) -> String {
        let group = "/apis/countersign.dev/v1alpha1";
        format!("{group}/namespaces/{}/{plural}/{name}", self.stage.namespace)
    }

    async fn secret(&self) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{}/secrets/{}", self.stage.namespace, self.row.name);
        self.stage.api.get(&path).await
    }

    async fn put(&self, value: &str) -> Result<()> {
        let values = match (value, &self.row.step) {
            ("after", Step::Values(values)) => values.clone(),
            _ => json!({"password": format!("canary-{value}-{}", self.row.name)}),
        };
        self.stage.bao.write(&format!("secret/data/{}", self.below), &json!({"data": values})).await.map(drop)
    }

    /// A connection, an account, and a binding that is whole.
    async fn begin(&self) -> Result<()> {
        let (stage, name) = (self.stage, &self.row.name);
        let connection = json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "VaultConnection",
            "metadata": {"name": self.connection(), "labels": labels()},
            "spec": {
                "address": stage.vault,
                "tls": {"ca": {"inline": stage.authority}},
                "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}},
                "limits": {"timeout": "2s"},
                "grants": [{
                    "namespaces": {"names": [stage.namespace]}, "as": "ServiceAccount", "role": "tenant",
                    "paths": ["secret/{namespace}/**", "nowhere/{namespace}/**"],
                }],
            },
        });
        stage.api.apply(&connection).await?;
        stage.api.apply(&manifests::account(&stage.namespace, name)).await?;
        self.put("before").await?;
        let binding = self.binding(name);
        stage.api.apply(&binding).await?;
        reports(&stage.api, &path_of(&binding)?, &Expected::status("Synced", "True"), SLOW).await.map(drop)
    }

    fn connection(&self) -> String {
        format!("{}-{}", self.stage.namespace, self.row.name)
    }

    fn binding(&self, name: &str) -> Value {
        json!({
            "apiVersion": "countersign.dev/v1alpha1", "kind": "SecretBinding",
            "metadata": {"namespace": self.stage.namespace, "name": name, "labels": labels()},
            "spec": {
                "connection": self.connection(), "serviceAccountName": self.row.name,
                "sources": [{"name": "app", "kv": {"mount": "secret", "path": format!("{}/{name}", self.stage.namespace)}}],
                "secret": {"name": name, "data": [{"key": "password", "from": "app.password"}]},
            },
        })
    }

    /// Makes the server answer as the row says, or takes that back.
    async fn change(&self, begins: bool) -> Result<()> {
        let (bao, below) = (&self.stage.bao, &self.below);
        let metadata = format!("secret/metadata/{below}");
        let values = format!("secret/data/{below}");
        let rule = |path: &str, canned| Rule { path: path.to_owned(), canned };
        {
            let mut state = self.stage.wire.state();
            if begins {
                let refused = || countersign_e2e::crash::script::Canned::refusal(403);
                state.rules.extend(match &self.row.at {
                    At::Metadata(canned) => vec![rule(&metadata, canned.clone())],
                    At::Values(canned) => vec![rule(&values, canned.clone())],
                    At::ClosedValues(canned) => vec![rule(&metadata, refused()), rule(&values, canned.clone())],
                    At::Closed => vec![rule(&metadata, refused())],
                    At::Nowhere => Vec::new(),
                });
            } else {
                state.rules.retain(|rule| rule.path != metadata && rule.path != values);
            }
        }
        match (&self.row.step, begins) {
            (Step::Delete, true) => bao.write(&format!("secret/delete/{below}"), &json!({"versions": [2]})).await?,
            (Step::Delete, false) => bao.write(&format!("secret/undelete/{below}"), &json!({"versions": [2]})).await?,
            (Step::Destroy, true) => bao.write(&format!("secret/destroy/{below}"), &json!({"versions": [2]})).await?,
            (Step::Pin(version), true) => self.edit_source(&json!({"version": version})).await?,
            (Step::Mount(mount), true) => self.edit_source(&json!({"mount": mount})).await?,
            (Step::Pin(_) | Step::Mount(_), false) => self.edit_source(&json!({})).await?,
            (Step::Nothing | Step::Destroy | Step::Values(_), _) => Value::Null,
        };
        Ok(())
    }

    async fn edit_source(&self, change: &Value) -> Result<Value> {
        let mut source = json!({"mount": "secret", "path": self.below});
        for (key, value) in change.as_object().into_iter().flatten() {
            source[key] = value.clone();
        }
        let patch = json!({"spec": {"sources": [{"name": "app", "kv": source}]}});
        self.stage.api.merge(&self.path("secretbindings", &self.row.name), &patch).await
    }

    async fn request(&self, value: &str) -> Result<()> {
        self.stage.api.annotate(&self.path("secretbindings", &self.row.name), REQUESTED, value).await.map(drop)
    }

    /// Another binding of the same connection and account is served all the while.
    async fn neighbour(&self) -> Result<()> {
        let name = format!("{}-neighbour", self.row.name);
        let path = format!("secret/data/{}/{name}", self.stage.namespace);
        self.stage.bao.write(&path, &json!({"data": {"password": "canary-neighbour"}})).await?;
        let binding = self.binding(&name);
        self.stage.api.apply(&binding).await?;
        let synced = Expected::status("Synced", "True");
        reports(&self.stage.api, &path_of(&binding)?, &synced, Duration::from_secs(5)).await.map(drop)
    }

    /// Calls at the path of the row in the window from its first, in which the Secret stays and it is not asked more
    /// often than `most` times.
    async fn count(&self, from: Duration, before: &Value, most: usize) -> Result<usize> {
        let end = self.first(from).unwrap_or(from) + WINDOW;
        let left = end.saturating_sub(self.stage.wire.now());
        throughout("the Secret stays, and the server is asked no more often", left, async || {
            let calls = self.calls(from, end);
            if calls > most {
                return Ok(Err(format!("asked {calls} times")));
            }
            Ok(if self.secret().await? == *before { Ok(()) } else { Err("the Secret was changed".to_owned()) })
        })
        .await?;
        Ok(self.calls(from, end))
    }

    fn first(&self, from: Duration) -> Option<Duration> {
        let state = self.stage.wire.state();
        state.calls.iter().find(|call| call.at >= from && self.is_ours(&call.request.resource)).map(|call| call.at)
    }

    fn calls(&self, from: Duration, to: Duration) -> usize {
        let state = self.stage.wire.state();
        let within = |at: Duration| from <= at && at < to;
        state.calls.iter().filter(|call| within(call.at) && self.is_ours(&call.request.resource)).count()
    }

    /// One count a try: the first call of each.
    fn is_ours(&self, resource: &str) -> bool {
        let suffix = match (&self.row.at, &self.row.step) {
            (_, Step::Mount(mount)) => return resource == format!("sys/internal/ui/mounts/{mount}"),
            (At::Values(_), _) => "secret/data",
            _ => "secret/metadata",
        };
        resource == format!("{suffix}/{}", self.below)
    }

    /// The server is well again: a changed spec is tried at once, and what was written meanwhile arrives.
    async fn recover(&self) -> Result<()> {
        let path = self.path("secretbindings", &self.row.name);
        self.stage.api.merge(&path, &json!({"spec": {"refresh": {"every": "14m"}}})).await?;
        let healed = format!("canary-healed-{}", self.row.name);
        until("what was written last is in the Secret", SLOW, async || {
            let secret = self.secret().await?;
            let is_there = text(&secret, "/data/password") == data_encoding::BASE64.encode(healed.as_bytes());
            let object = self.stage.api.get(&path).await?;
            Ok(if is_there { Ok(()) } else { Err(shown(&object)) })
        })
        .await?;
        let object = reports(&self.stage.api, &path, &Expected::status("Synced", "True"), SLOW).await?;
        let stuck = array(&object, "/status/conditions").iter().any(|one| text(one, "/type") == "Stalled");
        ensure!(!stuck, "still stalled: {}", shown(&object));
        Ok(())
    }
}
