//! The parsed, valid spec of a `TrustDomain`; the only place where its issuer is validated.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{CertificateSource, EmbeddedIssuer, KeyAlgorithm, KeyRef, KeySpec, REQUESTED_AT, TrustDomain, VaultIssuer},
    trust::rules::least_lifetime,
    value::{
        domain::{self, FieldProblem, Rules},
        lifetime,
        vault_path::{Segment, VaultPath},
        x509::Roots,
    },
};

/// What the platform wants, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When the object was created; of two with one SPIFFE name the older keeps it.
    pub created: Timestamp,
    /// Whether a deletion is under way.
    pub deleting: bool,
    /// Whether `spec.suspend` is set.
    pub suspended: bool,
    /// Value of `countersign.dev/requested-at`.
    pub requested: Option<String>,
    /// What may be signed.
    pub rules: Rules,
    /// Who signs.
    pub issuer: Issuer,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issuer {
    /// An authority of our own.
    Embedded {
        /// Key of the authority: ECDSA 256 or 384.
        key: KeySpec,
        /// Lifetime of the authority.
        lifetime: Duration,
    },
    /// A PKI mount of Vault or OpenBao.
    Vault(Pki),
}

/// A PKI mount of Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pki {
    /// Name of the `VaultConnection`.
    pub connection: String,
    /// The mount.
    pub mount: VaultPath,
    /// The role.
    pub role: Segment,
    /// The trust anchors; `None` = the self-signed end of the issuer's chain.
    pub roots: Option<RootsSource>,
}

/// Where the trust anchors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootsSource {
    /// In a ConfigMap of the operator's namespace.
    ConfigMap(KeyRef),
    /// In a Secret of the operator's namespace.
    Secret(KeyRef),
    /// In the spec.
    Inline(Roots),
}

/// Parses an object.
pub fn parse(object: &TrustDomain) -> Result<Intent, FieldProblem> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let rules = domain::rules(spec)?;
    let issuer = match (&spec.issuer.vault, &spec.issuer.embedded) {
        (Some(vault), None) => Issuer::Vault(pki(vault)?),
        (None, Some(embedded)) => own(embedded, &rules)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(problem("spec.issuer", "must be exactly one of vault, embedded"));
        }
    };
    Ok(Intent {
        name: meta.name.clone().ok_or_else(|| problem("metadata.name", "must be set"))?,
        uid: meta.uid.clone().ok_or_else(|| problem("metadata.uid", "must be set"))?,
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        suspended: spec.suspend == Some(true),
        requested: meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT)).cloned(),
        rules,
        issuer,
    })
}

fn problem(field: &'static str, rule: &'static str) -> FieldProblem {
    FieldProblem { field, rule }
}

fn own(embedded: &EmbeddedIssuer, rules: &Rules) -> Result<Issuer, FieldProblem> {
    const FIELD: &str = "spec.issuer.embedded.lifetime";
    let key = embedded.key.unwrap_or(KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) });
    if !matches!(key, KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256 | 384) }) {
        return Err(problem("spec.issuer.embedded.key", "must be ECDSA 256/384"));
    }
    let lifetime = match embedded.lifetime.as_deref() {
        None => Duration::from_secs(8_760 * 3_600),
        Some(text) => lifetime::parse(text).ok_or(problem(FIELD, "must look like 90m or 24h"))?,
    };
    if !(Duration::from_secs(24 * 3_600)..=Duration::from_secs(87_600 * 3_600)).contains(&lifetime) {
        return Err(problem(FIELD, "must be between 24h and 87600h"));
    }
    if lifetime < least_lifetime(rules) {
        return Err(problem(FIELD, "must be at least three times the largest ttl of the domain, and two hours more"));
    }
    Ok(Issuer::Embedded { key, lifetime })
}

fn pki(vault: &VaultIssuer) -> Result<Pki, FieldProblem> {
    let mount = vault.mount.parse();
    let role = vault.role.parse();
    Ok(Pki {
        connection: vault.connection.clone(),
        mount: mount.map_err(|_| {
            problem("spec.issuer.vault.mount", "must be a path of 1-16 segments outside sys, auth, identity, cubbyhole")
        })?,
        role: role.map_err(|_| problem("spec.issuer.vault.role", "must match ^[A-Za-z0-9_.-]{1,128}$"))?,
        roots: vault.roots.as_ref().map(roots).transpose()?,
    })
}

fn roots(source: &CertificateSource) -> Result<RootsSource, FieldProblem> {
    match source {
        CertificateSource { config_map: Some(key), secret: None, inline: None } => {
            Ok(RootsSource::ConfigMap(key.clone()))
        }
        CertificateSource { config_map: None, secret: Some(key), inline: None } => Ok(RootsSource::Secret(key.clone())),
        CertificateSource { config_map: None, secret: None, inline: Some(pem) } => Roots::parse(pem)
            .map(RootsSource::Inline)
            .map_err(|_| problem("spec.issuer.vault.roots.inline", "must be PEM certificates of authorities")),
        _ => Err(problem("spec.issuer.vault.roots", "must be exactly one of configMap, secret, inline")),
    }
}
