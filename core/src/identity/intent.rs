//! The parsed, valid spec of a `ServiceIdentity`; the only place where its fields are validated.
//!
//! The CRD's schema refuses most of what is refused here at admission; an object stored before a
//! rule was tightened still arrives, and is told so instead of crashing a pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    api::{DeletionPolicy, KeyAlgorithm, KeySpec, REQUESTED_AT, ServiceIdentity},
    value::lifetime,
};

/// The shortest lifetime an identity may ask for.
pub const MIN_TTL: Duration = Duration::from_secs(3_600);
/// The longest lifetime an identity may ask for: 90 days.
pub const MAX_TTL: Duration = Duration::from_secs(90 * 86_400);

/// What the user wants, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Namespace of the object, and so of everything it may touch.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object; owns the target.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When the object was created; of two claimants the older keeps a Secret.
    pub created: Timestamp,
    /// Whether a deletion is under way.
    pub deleting: bool,
    /// Whether `spec.suspend` is set.
    pub suspended: bool,
    /// Name of the `TrustDomain` object.
    pub trust_domain: String,
    /// The ServiceAccount whose identity it is.
    pub service_account: String,
    /// Services whose names are asked for.
    pub services: BTreeSet<String>,
    /// Further DNS names, lower case.
    pub dns_names: BTreeSet<String>,
    /// IP addresses.
    pub ip_addresses: BTreeSet<IpAddr>,
    /// Lifetime asked for; absent = the domain's default.
    pub ttl: Option<Duration>,
    /// Key asked for; absent = the domain's default.
    pub key: Option<KeySpec>,
    /// Renewal point asked for, before the end.
    pub renew_before: Option<Duration>,
    /// The Secret to write.
    pub target: Target,
    /// Value of `countersign.dev/requested-at`.
    pub requested: Option<String>,
}

/// The Secret to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Labels the user wants on it.
    pub labels: BTreeMap<String, String>,
    /// Annotations the user wants on it.
    pub annotations: BTreeMap<String, String>,
    /// Whether it goes when the identity goes.
    pub deletion: DeletionPolicy,
}

/// A field that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Path of the field, for example `spec.ttl`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// Parses an object into an [`Intent`].
///
/// # Errors
/// The first field that breaks a rule; the rules are those of the CRD's schema.
pub fn parse(object: &ServiceIdentity) -> Result<Intent, Rejection> {
    let reject = |field, rule| Rejection { field, rule };
    let meta = &object.metadata;
    let spec = &object.spec;
    let ttl = duration(spec.ttl.as_deref()).ok_or_else(|| reject("spec.ttl", "must look like 90m or 24h"))?;
    if ttl.is_some_and(|ttl| !(MIN_TTL..=MAX_TTL).contains(&ttl)) {
        return Err(reject("spec.ttl", "must be between 1h and 2160h"));
    }
    let renew_before = duration(spec.renew_before.as_deref())
        .ok_or_else(|| reject("spec.renewBefore", "must look like 90m or 24h"))?;
    if matches!((renew_before, ttl), (Some(before), Some(ttl)) if before >= ttl) {
        return Err(reject("spec.renewBefore", "must be less than ttl"));
    }
    if spec.key.is_some_and(|key| !is_supported(key)) {
        return Err(reject("spec.key", "must be ECDSA 256/384, Ed25519 or RSA 2048/3072/4096"));
    }
    let mut ip_addresses = BTreeSet::new();
    for text in &spec.ip_addresses {
        let address =
            text.parse().map_err(|_| reject("spec.ipAddresses", "must be IP addresses without zone or mask"))?;
        ip_addresses.insert(address);
    }
    Ok(Intent {
        namespace: meta.namespace.clone().ok_or_else(|| reject("metadata.namespace", "must be set"))?,
        name: meta.name.clone().ok_or_else(|| reject("metadata.name", "must be set"))?,
        uid: meta.uid.clone().ok_or_else(|| reject("metadata.uid", "must be set"))?,
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        suspended: spec.suspend == Some(true),
        trust_domain: spec.trust_domain.clone(),
        service_account: spec.service_account_name.clone(),
        services: spec.services.iter().cloned().collect(),
        dns_names: spec.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        ip_addresses,
        ttl,
        key: spec.key,
        renew_before,
        target: Target {
            name: spec.secret.name.clone(),
            labels: spec.secret.labels.clone(),
            annotations: spec.secret.annotations.clone(),
            deletion: spec.secret.deletion_policy.unwrap_or(DeletionPolicy::Delete),
        },
        requested: meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT)).cloned(),
    })
}

/// Whether a key can be made and is accepted by common verifiers.
pub fn is_supported(key: KeySpec) -> bool {
    match key.algorithm {
        KeyAlgorithm::ECDSA => matches!(key.size, None | Some(256 | 384)),
        KeyAlgorithm::Ed25519 => key.size.is_none(),
        KeyAlgorithm::RSA => matches!(key.size, None | Some(2_048 | 3_072 | 4_096)),
    }
}

/// `None` when the text does not parse, `Some(None)` when there is no text.
#[expect(clippy::option_option, reason = "absent and unreadable are different answers, and only one is an error")]
fn duration(text: Option<&str>) -> Option<Option<Duration>> {
    text.map_or(Some(None), |text| lifetime::parse(text).map(Some))
}
