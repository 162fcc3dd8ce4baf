//! The parsed, valid spec of a `SecretBinding`; the only place where its fields are validated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use regex_lite::Regex;

use crate::{
    api::{DataEntry, Decoding, DeletionPolicy, KeyCase, NonString, REQUESTED_AT, Refresh, RefreshMode, SecretBinding},
    binding::{rejection::Rejection, source::Source},
    value::{lifetime, names::is_label},
};

/// How often the sources are read, where the spec does not say.
const DEFAULT_EVERY: Duration = Duration::from_secs(15 * 60);
/// The shortest and the longest time between two refreshes.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(86_400);
/// The most characters of a pattern for keys.
const MAX_MATCH: usize = 128;

/// What the user wants, parsed.
#[derive(Debug, Clone)]
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
    /// Name of the `VaultConnection`.
    pub connection: String,
    /// The ServiceAccount that reads, where one is named.
    pub service_account: Option<String>,
    /// Time between two refreshes, 30 s to 24 h.
    pub every: Duration,
    /// What makes it read.
    pub mode: RefreshMode,
    /// The sources; at least one, names unique.
    pub sources: Vec<Source>,
    /// The Secret to write.
    pub target: Target,
    /// Its keys, in their order; at least one.
    pub entries: Vec<Entry>,
    /// Value of `countersign.dev/requested-at`.
    pub requested: Option<String>,
}

/// The Secret to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: String,
    /// Labels the user wants on it.
    pub labels: BTreeMap<String, String>,
    /// Annotations the user wants on it.
    pub annotations: BTreeMap<String, String>,
    /// Whether it goes when the binding goes.
    pub deletion: DeletionPolicy,
}

/// Keys of the Secret.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Every key of a source.
    Each {
        /// Which source, by its place.
        source: usize,
        /// Put in front of each key.
        prefix: String,
        /// How the keys are written.
        case: Option<KeyCase>,
        /// Which keys.
        only: Option<Regex>,
        /// What becomes of values that are no text.
        non_string: NonString,
    },
    /// One key.
    One {
        /// The key of the Secret.
        key: String,
        /// Which source, by its place.
        source: usize,
        /// The key of the source, or a path into nested values.
        field: String,
        /// How the value is written there.
        decode: Decoding,
        /// What becomes of a value that is no text.
        non_string: NonString,
    },
}

/// Parses an object into an [`Intent`].
///
/// # Errors
/// The first field that breaks a rule; the rules are those of the CRD's schema.
pub fn parse(object: &SecretBinding) -> Result<Intent, Rejection> {
    let reject = |field, rule| Rejection { field, rule };
    let (meta, spec) = (&object.metadata, &object.spec);
    let (every, mode) = refresh(spec.refresh.as_ref())?;
    let sources = sources(object)?;
    let entries = entries(&spec.secret.data, &sources)?;
    let type_ = spec.secret.type_.clone().unwrap_or_else(|| "Opaque".to_owned());
    if is_credential(&type_) {
        return Err(reject("spec.secret.type", "unsupported secret type"));
    }
    Ok(Intent {
        namespace: meta.namespace.clone().ok_or_else(|| reject("metadata.namespace", "must be set"))?,
        name: meta.name.clone().ok_or_else(|| reject("metadata.name", "must be set"))?,
        uid: meta.uid.clone().ok_or_else(|| reject("metadata.uid", "must be set"))?,
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        suspended: spec.suspend == Some(true),
        connection: spec.connection.clone(),
        service_account: spec.service_account_name.clone(),
        every,
        mode,
        sources,
        target: Target {
            name: spec.secret.name.clone(),
            type_,
            labels: spec.secret.labels.clone(),
            annotations: spec.secret.annotations.clone(),
            deletion: spec.secret.deletion_policy.unwrap_or(DeletionPolicy::Delete),
        },
        entries,
        requested: meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT)).cloned(),
    })
}

fn refresh(refresh: Option<&Refresh>) -> Result<(Duration, RefreshMode), Rejection> {
    let text = refresh.and_then(|refresh| refresh.every.as_deref());
    let every = text.map_or(Some(DEFAULT_EVERY), lifetime::parse).filter(|every| EVERY.contains(every));
    let every = every.ok_or(Rejection { field: "spec.refresh.every", rule: "must be between 30s and 24h" })?;
    Ok((every, refresh.and_then(|refresh| refresh.mode).unwrap_or(RefreshMode::Auto)))
}

fn sources(object: &SecretBinding) -> Result<Vec<Source>, Rejection> {
    let reject = |rule| Rejection { field: "spec.sources", rule };
    let mut names = BTreeSet::new();
    let mut sources = Vec::new();
    for source in &object.spec.sources {
        if !is_label(&source.name) || !names.insert(&source.name) {
            return Err(reject("must have unique names that are DNS-1123 labels"));
        }
        sources.push(Source::parse(source)?);
    }
    if sources.is_empty() { Err(reject("must have at least 1 item")) } else { Ok(sources) }
}

fn entries(entries: &[DataEntry], sources: &[Source]) -> Result<Vec<Entry>, Rejection> {
    let reject = |rule| Rejection { field: "spec.secret.data", rule };
    let place = |name: &str| {
        sources
            .iter()
            .position(|source| source.name == name)
            .ok_or_else(|| reject("must name a source of spec.sources"))
    };
    let mut parsed = Vec::new();
    for entry in entries {
        let non_string = entry.non_string.unwrap_or(NonString::Refuse);
        parsed.push(match (&entry.each, &entry.from, &entry.key) {
            (Some(each), None, None) => Entry::Each {
                source: place(each)?,
                prefix: entry.prefix.clone().unwrap_or_default(),
                case: entry.case,
                only: pattern(entry.match_.as_deref())?,
                non_string,
            },
            (None, Some(from), Some(key)) => {
                let (source, field) = from.split_once('.').ok_or_else(|| reject("from must be SOURCE.KEY"))?;
                Entry::One {
                    key: key.clone(),
                    source: place(source)?,
                    field: field.to_owned(),
                    decode: entry.decode.unwrap_or(Decoding::None),
                    non_string,
                }
            }
            _ => return Err(reject("must have either each, or key and from")),
        });
    }
    if parsed.is_empty() { Err(reject("must have at least 1 item")) } else { Ok(parsed) }
}

fn pattern(text: Option<&str>) -> Result<Option<Regex>, Rejection> {
    let unusable =
        Rejection { field: "spec.secret.data", rule: "match must be a regular expression of at most 128 characters" };
    let Some(text) = text else { return Ok(None) };
    if text.len() > MAX_MATCH {
        return Err(unusable);
    }
    Regex::new(text).map(Some).map_err(|_| unusable)
}

/// Types that the cluster, a package manager or we ourselves take for a credential or a record.
fn is_credential(type_: &str) -> bool {
    matches!(type_, "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token" | "helm.sh/release.v1")
        || type_.starts_with("countersign.dev/")
}
