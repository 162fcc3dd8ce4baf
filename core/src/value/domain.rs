//! A trust domain as the other kinds see it: parsed, and able to sign.
//!
//! Built from the spec and the status of a `TrustDomain`, because what is pinned in the status is
//! what leaves are verified against; read by the identity kind and by the issuers. The rules of the
//! spec are parsed here once, for those readers and for the trust domain's own kind.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{
        AuthorityState, ConditionType, KeyAlgorithm, KeySpec, NamespaceSelector, TrustDomainSpec, TrustDomainStatus,
        Verdict,
    },
    value::{
        digest, lifetime,
        names::Cidr,
        x509::{Certificate, Roots},
    },
};

/// The shortest lifetime of a leaf.
pub const MIN_TTL: Duration = Duration::from_secs(3_600);
/// The longest lifetime of a leaf: 90 days.
pub const MAX_TTL: Duration = Duration::from_secs(2_160 * 3_600);

/// A trust domain that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The SPIFFE trust domain, for example `prod.example`.
    pub name: String,
    /// Lifetime of a leaf that does not ask for one.
    pub default_ttl: Duration,
    /// Key of a leaf that does not ask for one.
    pub default_key: KeySpec,
    /// Whether Services also give their short, not unique names.
    pub short_names: bool,
    /// Names beyond the caller's own.
    pub allow: Vec<AllowRule>,
    /// The authority that signs.
    pub active: ActiveAuthority,
    /// Every trust anchor, PEM; written to `ca.crt` as it stands.
    pub roots: String,
    /// Bounds on signing.
    pub limits: SigningLimits,
    /// Changes whenever any of the above, or the issuer, changes, and whenever the domain is Ready again: what its issuer
    /// refused before is then worth another try.
    pub revision: String,
}

/// The authority that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveAuthority {
    /// Its id: the hash of its public key.
    pub id: String,
    /// The issuer's id in the PKI mount; `None` for an embedded authority.
    pub issuer_ref: Option<String>,
    /// Its subject key identifier, which its leaves name as their authority key identifier.
    pub subject_key_id: Vec<u8>,
    /// The end of its certificate; no leaf may outlive it.
    pub not_after: Timestamp,
}

/// Names that some namespaces may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Who may.
    pub namespaces: NamespaceSelector,
    /// Patterns: an exact name, or `*.suffix`.
    pub dns_names: Vec<String>,
    /// Address ranges.
    pub ip_ranges: Vec<Cidr>,
    /// The longest lifetime they may ask for.
    pub max_ttl: Option<Duration>,
}

/// Bounds on signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningLimits {
    /// Signatures a second.
    pub signs_per_second: u32,
    /// Signatures under way at once.
    pub in_flight: u32,
}

/// The part of a spec that says what may be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The SPIFFE trust domain.
    pub name: String,
    /// Lifetime of a leaf that does not ask for one.
    pub default_ttl: Duration,
    /// Key of a leaf that does not ask for one.
    pub default_key: KeySpec,
    /// Whether Services also give their short, not unique names.
    pub short_names: bool,
    /// Names beyond the caller's own.
    pub allow: Vec<AllowRule>,
    /// Bounds on signing.
    pub limits: SigningLimits,
}

impl Rules {
    /// The longest lifetime anybody may ask for.
    pub fn longest_ttl(&self) -> Duration {
        self.allow.iter().filter_map(|rule| rule.max_ttl).fold(self.default_ttl, Duration::max)
    }
}

/// A field that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field, for example `spec.defaults.ttl`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; correct it", self.field, self.rule)
    }
}

/// Parses the rules of a spec; absent fields get their defaults.
pub fn rules(spec: &TrustDomainSpec) -> Result<Rules, FieldProblem> {
    let problem = |field, rule| FieldProblem { field, rule };
    if !is_trust_domain(&spec.name) {
        return Err(problem("spec.name", "must be a SPIFFE trust domain"));
    }
    let defaults = spec.defaults.clone().unwrap_or_default();
    let default_key = defaults.key.unwrap_or(KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) });
    if !is_leaf_key(default_key) {
        return Err(problem("spec.defaults.key", "must be ECDSA 256/384, Ed25519 or RSA 2048/3072/4096"));
    }
    let limits = spec.limits.clone().unwrap_or_default();
    Ok(Rules {
        name: spec.name.clone(),
        default_ttl: ttl(defaults.ttl.as_deref(), "spec.defaults.ttl")?.unwrap_or(Duration::from_secs(86_400)),
        default_key,
        short_names: defaults.short_names == Some(true),
        allow: spec.allow.iter().map(allow_rule).collect::<Result<_, _>>()?,
        limits: SigningLimits {
            signs_per_second: within(limits.signs_per_second, 50, 10_000)
                .ok_or_else(|| problem("spec.limits.signsPerSecond", "must be between 1 and 10000"))?,
            in_flight: within(limits.in_flight, 8, 256)
                .ok_or_else(|| problem("spec.limits.inFlight", "must be between 1 and 256"))?,
        },
    })
}

fn allow_rule(rule: &crate::api::AllowRule) -> Result<AllowRule, FieldProblem> {
    if !rule.dns_names.iter().all(|pattern| is_pattern(pattern)) {
        return Err(FieldProblem { field: "spec.allow[].dnsNames", rule: "must be DNS names or *.suffix" });
    }
    let ip_ranges = rule.ip_ranges.iter().map(|text| text.parse()).collect::<Result<_, _>>();
    Ok(AllowRule {
        namespaces: rule.namespaces.clone(),
        dns_names: rule.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        ip_ranges: ip_ranges
            .map_err(|_| FieldProblem { field: "spec.allow[].ipRanges", rule: "must be canonical CIDRs, never /0" })?,
        max_ttl: ttl(rule.max_ttl.as_deref(), "spec.allow[].maxTTL")?,
    })
}

/// Whether a text is the name of a SPIFFE trust domain.
fn is_trust_domain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a text is a DNS name, or `*.` and a DNS name.
fn is_pattern(pattern: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inner);
    pattern.len() <= 253 && pattern.strip_prefix("*.").unwrap_or(pattern).split('.').all(label)
}

fn is_leaf_key(key: KeySpec) -> bool {
    match key.algorithm {
        KeyAlgorithm::ECDSA => matches!(key.size, None | Some(256 | 384)),
        KeyAlgorithm::Ed25519 => key.size.is_none(),
        KeyAlgorithm::RSA => matches!(key.size, None | Some(2_048 | 3_072 | 4_096)),
    }
}

fn ttl(text: Option<&str>, field: &'static str) -> Result<Option<Duration>, FieldProblem> {
    let Some(text) = text else { return Ok(None) };
    let ttl = lifetime::parse(text).ok_or(FieldProblem { field, rule: "must look like 90m or 24h" })?;
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        Ok(Some(ttl))
    } else {
        Err(FieldProblem { field, rule: "must be between 1h and 2160h" })
    }
}

fn within(given: Option<i32>, default: u32, most: u32) -> Option<u32> {
    let Some(given) = given else { return Some(default) };
    u32::try_from(given).ok().filter(|value| (1..=most).contains(value))
}

impl Domain {
    /// The domain of a spec and status; `None` while it cannot sign.
    ///
    /// It can if its rules parse, its condition `Ready` is True and the status has an active
    /// authority that reads. An outage of the issuer leaves `Ready` as it was.
    pub fn new(spec: &TrustDomainSpec, status: &TrustDomainStatus) -> Option<Self> {
        if !is_ready(status) || spec.suspend == Some(true) {
            return None;
        }
        let rules = rules(spec).ok()?;
        let active = status.authorities.iter().find(|authority| authority.state == AuthorityState::Active)?;
        let certificate = Certificate::parse_pem(&active.certificate).ok()?;
        let subject_key_id = certificate.leaf.subject_key_id.clone()?;
        let roots = trust(status)?.pem();
        Some(Self {
            revision: revision(spec, status, &roots),
            name: rules.name,
            default_ttl: rules.default_ttl,
            default_key: rules.default_key,
            short_names: rules.short_names,
            allow: rules.allow,
            active: ActiveAuthority {
                id: active.id.clone(),
                issuer_ref: active.issuer_ref.clone(),
                subject_key_id,
                not_after: certificate.leaf.not_after,
            },
            roots,
            limits: rules.limits,
        })
    }
}

/// Every trust anchor of the authorities in a status; `None` if there is none or one does not read.
pub fn trust(status: &TrustDomainStatus) -> Option<Roots> {
    let roots = status
        .authorities
        .iter()
        .try_fold(Roots::default(), |all, authority| Roots::parse(&authority.root).map(|roots| all.union(&roots)));
    roots.ok().filter(|roots| !roots.is_empty())
}

fn is_ready(status: &TrustDomainStatus) -> bool {
    let (ready, holds) = (ConditionType::Ready.name(), Verdict::True.name());
    status.conditions.iter().any(|condition| condition.type_ == ready && condition.status == holds)
}

/// Over the spec as text: it has only maps with sorted keys, so equal specs give equal text.
fn revision(spec: &TrustDomainSpec, status: &TrustDomainStatus, roots: &str) -> String {
    let spec = serde_json::to_vec(spec).unwrap_or_default();
    let mut parts: Vec<&[u8]> = vec![&spec, roots.as_bytes()];
    for authority in &status.authorities {
        parts.extend([authority.id.as_bytes(), authority.certificate.as_bytes()]);
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.name());
    let since = ready.map(|ready| ready.last_transition_time.0.to_string()).unwrap_or_default();
    parts.push(since.as_bytes());
    digest::short(&parts)
}
