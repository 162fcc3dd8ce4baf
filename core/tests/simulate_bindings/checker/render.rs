//! What a spec makes of values: a second reading of `spec.secret.data`, written from the document alone.

use std::{borrow::Cow, collections::BTreeMap, ptr};

use crate::history::{Entries, Source, Spec};

/// The most ways in which values may be put together before the search is given up.
const MOST_WAYS: usize = 256;

/// The values of one version of a secret, as they were once read.
#[derive(Debug, Clone, Copy)]
pub struct Values<'h> {
    /// The mount.
    pub mount: &'h str,
    /// The path below it.
    pub path: &'h str,
    /// The number of the version; none for an engine without versions.
    pub number: Option<i64>,
    /// When the version was made.
    pub created: Option<i64>,
    /// By key.
    pub fields: &'h BTreeMap<String, String>,
}

impl Values<'_> {
    /// Whether they are of the secret that `source` names.
    pub fn is_of(&self, source: &Source) -> bool {
        self.mount == source.mount && self.path == source.path
    }

    /// Whether both are the same version with the same values.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.number, self.created) == (other.number, other.created)
            && self.mount == other.mount
            && self.path == other.path
            && (ptr::eq(self.fields, other.fields) || self.fields == other.fields)
    }
}

/// secrets.md §5: "a key produced twice is `KeyCollision`, never last-wins", a key that a source lacks is
/// `RemoteKeyMissing`, "a bad name fails the refresh": then there is no rendering. `chosen` has one item for each source.
pub fn render<'s>(spec: &'s Spec, chosen: &[Values<'s>]) -> Option<BTreeMap<Cow<'s, str>, &'s str>> {
    let mut data = BTreeMap::new();
    let fields = |name: &str| {
        let place = spec.sources.iter().position(|source| source.name == *name)?;
        chosen.get(place).map(|values| values.fields)
    };
    for entry in &spec.entries {
        match entry {
            Entries::Each { source, prefix } => {
                for (field, value) in fields(source)? {
                    let key = match prefix.as_str() {
                        "" => Cow::Borrowed(field.as_str()),
                        prefix => Cow::Owned(format!("{prefix}{field}")),
                    };
                    add(&mut data, key, value)?;
                }
            }
            Entries::One { key, source, field } => {
                add(&mut data, Cow::Borrowed(key.as_str()), fields(source)?.get(field)?)?;
            }
        }
    }
    Some(data)
}

fn add<'s>(data: &mut BTreeMap<Cow<'s, str>, &'s str>, key: Cow<'s, str>, value: &'s str) -> Option<()> {
    (is_key_name(&key) && data.insert(key, value).is_none()).then_some(())
}

/// secrets.md §5: "Key names `[-._a-zA-Z0-9]{1,253}`, not `.`, not starting `..`".
fn is_key_name(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&key.len()) && key.bytes().all(is_allowed) && key != "." && !key.starts_with("..")
}

/// Whether `data` are the rendering, and beyond it only keys that others put there.
pub fn is_rendered(
    data: &BTreeMap<String, String>,
    rendering: &BTreeMap<Cow<'_, str>, &str>,
    foreign: &[&str],
) -> bool {
    let mut ours = 0;
    for (key, value) in data {
        match rendering.get(key.as_str()) {
            Some(wanted) if *wanted == value => ours += 1,
            None if foreign.contains(&key.as_str()) => {}
            Some(_) | None => return false,
        }
    }
    ours == rendering.len()
}

/// One version for each source of `spec`, out of `options`, from which `data` are rendered.
pub fn explain<'h>(
    spec: &'h Spec,
    options: &[Vec<Values<'h>>],
    data: &BTreeMap<String, String>,
    foreign: &[&str],
) -> Option<Vec<Values<'h>>> {
    let fits = |source: &Source, values: &Values<'h>| is_part(spec, source, values, data);
    let options = spec
        .sources
        .iter()
        .zip(options)
        .map(|(source, known)| known.iter().filter(|values| fits(source, values)).copied().collect());
    let options: Vec<Vec<Values<'h>>> = options.collect();
    let ways = options.iter().try_fold(1_usize, |ways, one| ways.checked_mul(one.len())).unwrap_or(usize::MAX);
    (0..ways.min(MOST_WAYS)).find_map(|mut way| {
        let mut chosen = Vec::with_capacity(options.len());
        for one in &options {
            chosen.push(*one.get(way % one.len())?);
            way /= one.len();
        }
        let rendering = render(spec, &chosen)?;
        is_rendered(data, &rendering, foreign).then_some(chosen)
    })
}

/// Whether `data` hold all that `source` gives, if its values are these.
fn is_part(spec: &Spec, source: &Source, values: &Values<'_>, data: &BTreeMap<String, String>) -> bool {
    spec.entries.iter().all(|entry| match entry {
        Entries::Each { source: name, prefix } if *name == source.name => {
            values.fields.iter().all(|(field, value)| match prefix.as_str() {
                "" => data.get(field) == Some(value),
                prefix => data.get(&format!("{prefix}{field}")) == Some(value),
            })
        }
        Entries::One { key, source: name, field } if *name == source.name => {
            values.fields.get(field).is_some_and(|value| data.get(key) == Some(value))
        }
        Entries::Each { .. } | Entries::One { .. } => true,
    })
}
