//! What the operator is made to do: the objects of each workload, the test's own steps, and the goal.

use anyhow::{Context as _, Result};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    call::{Closed, OPERATOR_NAMESPACE, PLACE_PREFIX, Scope},
    certificate,
    history::{Change, Subject, Version, is_ready, is_working},
    maker::Maker,
    plan::{Job, Workload},
    segment,
};

/// Value of the annotation that asks for a renewal.
pub const REQUEST: &str = "now-please";

/// Names of the objects of a plan; `number` is unique in the run, and the operator's time runs `scale` times as fast.
pub fn subject(workload: Workload, run: &str, number: usize, scale: u32) -> Subject {
    let vault = workload.uses_vault();
    let domain = format!("crash-{run}-{number}-td");
    let scope = Scope {
        namespace: format!("{PLACE_PREFIX}{run}-{number}-ns"),
        connection: vault.then(|| format!("crash-{run}-{number}-vc")),
        domain: domain.clone(),
        closed: (workload.job() == Job::Segment).then(|| Closed {
            peer: format!("{PLACE_PREFIX}{run}-{number}-peer"),
            segment: format!("crash-{run}-{number}-seg"),
        }),
    };
    Subject {
        identity: scope.closed.as_ref().map_or_else(|| "web".into(), |closed| closed.segment.clone()),
        scope,
        job: workload.job(),
        secret: "web-tls".into(),
        bystander: "bystander".into(),
        // The role of the local OpenBao signs for this one alone; lanes do not see each other's.
        trust_domain: if vault { "prod.example".into() } else { domain },
        service_account: "web".into(),
        services: vec!["web".into()],
        retains: workload == Workload::Retain,
        settle: segment::SETTLE / scale,
    }
}

impl Maker {
    /// The namespace and what is in it before the operator has anything to do.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn ground(&self, subject: &Subject) -> Result<()> {
        if subject.job == Job::Segment {
            return self.two_sides(subject).await;
        }
        let namespace = subject.scope.namespace.as_str();
        self.create("Namespace", "", namespace, json!({})).await?;
        self.create("ServiceAccount", namespace, &subject.service_account, json!({})).await?;
        for service in &subject.services {
            let spec = json!({"spec": {"ports": [{"port": 443}], "selector": {"app": "web"}}});
            self.create("Service", namespace, service, spec).await?;
        }
        self.create("Secret", namespace, &subject.bystander, json!({"stringData": {"whose": "not yours"}})).await
    }

    /// The connection.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn connection(&self, name: &str) -> Result<()> {
        let spec = json!({"spec": {
            "address": self.vault,
            "tls": {"ca": {"inline": self.authority}},
            "auth": {"kubernetes": {"mount": "kubernetes", "role": "countersign", "audience": "vault"}},
            "grants": [{
                "namespaces": {"all": true}, "as": "ServiceAccount", "role": "tenant", "paths": ["secret/{namespace}/**"],
            }],
        }});
        self.create("VaultConnection", "", name, spec).await
    }

    /// Writes the next values of a binding: those of one version belong together.
    ///
    /// # Errors
    /// When OpenBao refuses.
    pub async fn values(&self, subject: &Subject, version: &str) -> Result<()> {
        let values = json!({"user": format!("user-{version}"), "password": format!("password-{version}")});
        let path = format!("secret/data/{}/{}", subject.scope.namespace, subject.identity);
        self.bao.write(&path, &json!({"data": values})).await.map(drop)
    }

    /// The binding.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn binding(&self, subject: &Subject) -> Result<()> {
        self.values(subject, "1").await?;
        let path = format!("{}/{}", subject.scope.namespace, subject.identity);
        let spec = json!({"spec": {
            "connection": subject.scope.connection,
            "serviceAccountName": subject.service_account,
            // A look that is due by itself would come into some plan or other.
            "refresh": {"every": "24h"},
            "sources": [{"name": "app", "kv": {"mount": "secret", "path": path}}],
            "secret": {"name": subject.secret, "data": [{"each": "app"}]},
        }});
        self.create("SecretBinding", &subject.scope.namespace, &subject.identity, spec).await
    }

    /// The trust domain.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn domain(&self, subject: &Subject) -> Result<()> {
        let issuer = match &subject.scope.connection {
            Some(connection) => json!({"vault": {"connection": connection, "mount": "pki_int", "role": "workload"}}),
            None => json!({"embedded": {}}),
        };
        let spec = json!({"spec": {"name": subject.trust_domain, "issuer": issuer, "defaults": {"ttl": "24h"}}});
        self.create("TrustDomain", "", &subject.scope.domain, spec).await
    }

    /// The identity.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn identity(&self, subject: &Subject) -> Result<()> {
        let policy = if subject.retains { "Retain" } else { "Delete" };
        let spec = json!({"spec": {
            "trustDomain": subject.scope.domain,
            "serviceAccountName": subject.service_account,
            "services": subject.services,
            "secret": {"name": subject.secret, "deletionPolicy": policy},
        }});
        self.create("ServiceIdentity", &subject.scope.namespace, &subject.identity, spec).await
    }

    /// Asks for a renewal, or for values that are newer.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn request(&self, subject: &Subject) -> Result<()> {
        if subject.job == Job::Binding {
            self.values(subject, "2").await?;
        }
        let patch = json!({"metadata": {"annotations": {"countersign.dev/requested-at": REQUEST}}});
        let api = self.api(subject.job.kind(), &subject.scope.namespace);
        api.patch(&subject.identity, &PatchParams::default(), &Patch::Merge(patch)).await.context("cannot annotate")?;
        Ok(())
    }

    /// Asks the trust domain to look at its issuer now, as a person does who has repaired it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn repaired(&self, subject: &Subject) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {"countersign.dev/requested-at": REQUEST}}});
        let api = self.api("TrustDomain", "");
        api.patch(&subject.scope.domain, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot annotate")?;
        Ok(())
    }

    /// Deletes the identity, or the segment.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete(&self, subject: &Subject) -> Result<()> {
        let api = self.api(subject.job.kind(), &subject.scope.namespace);
        match api.delete(&subject.identity, &DeleteParams::default()).await {
            Err(error) => Err(error).context("cannot delete the plan's object"),
            Ok(_) => Ok(()),
        }
    }

    /// Clears up after a plan. What is gone already is no error.
    pub async fn clear(&self, subject: &Subject, versions: &[Version]) {
        if subject.job == Job::Segment {
            return self.clear_sides(subject).await;
        }
        let scope = &subject.scope;
        let authorities = versions.iter().filter(|v| v.text("/metadata/namespace") == OPERATOR_NAMESPACE);
        let mut objects: Vec<(&str, String)> = authorities.map(|v| ("Secret", v.name().to_owned())).collect();
        objects.dedup();
        objects.push(("TrustDomain", scope.domain.clone()));
        objects.extend(scope.connection.clone().map(|name| ("VaultConnection", name)));
        let own = self.api(subject.job.kind(), &scope.namespace);
        let _ = own.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
        for (kind, name) in objects.into_iter().rev() {
            let _ = self.api(kind, OPERATOR_NAMESPACE).delete(&name, &DeleteParams::default()).await;
        }
    }
}

/// What is stored, if anything: the serial of the certificate, the values, or the policies.
pub fn stored(versions: &[Version], subject: &Subject) -> Option<String> {
    if subject.job == Job::Segment {
        return segment::written(versions);
    }
    let secret = versions.iter().rfind(|version| version.is("Secret", &subject.secret))?;
    let there = secret.change != Change::Deleted;
    if subject.job == Job::Binding {
        return there.then(|| secret.object.get("data").map(Value::to_string)).flatten();
    }
    there.then(|| certificate::read(&secret.object).ok()).flatten().map(|material| material.leaf.serial)
}

/// Whether a workload has reached its goal; `before` is the serial stored when it began.
pub fn reached(workload: Workload, versions: &[Version], subject: &Subject, before: Option<&str>) -> bool {
    let stored = stored(versions, subject);
    let kind = subject.job.kind();
    let identity = versions.iter().rfind(|version| version.kind == kind);
    let gone = identity.is_some_and(|version| version.change == Change::Deleted);
    // A connection that broke is asked less and less often, so what depends on it is told last that it is back.
    let rests = |kind: &str| is_ready(versions, kind) && !is_working(versions, kind);
    let rests_on = match (subject.job, &subject.scope.connection) {
        (Job::Identity, Some(_)) => rests("VaultConnection") && rests("TrustDomain"),
        (Job::Binding, _) => rests("VaultConnection"),
        (Job::Identity, None) | (Job::Segment, _) => true,
    };
    match workload {
        Workload::Issue | Workload::IssueVault | Workload::Bind => {
            stored.is_some() && is_ready(versions, kind) && !is_working(versions, kind) && rests_on
        }
        Workload::Renew | Workload::RenewVault | Workload::Outage | Workload::Refresh => {
            let handled = identity.map(|version| version.text("/status/lastHandledRequest"));
            stored.is_some() && stored.as_deref() != before && handled == Some(REQUEST) && rests_on
        }
        Workload::Delete | Workload::Vanish => gone && stored.is_none(),
        Workload::Retain => gone && stored.as_deref() == before,
        Workload::Close | Workload::Edit | Workload::Open => segment::reached(workload, versions),
    }
}
