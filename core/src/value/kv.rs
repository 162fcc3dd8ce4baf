//! What a KV engine answers, as plain facts: a mount, the versions of a secret, its values.
//!
//! Values are read by a [`Deserialize`] of their own, which refuses a key that stands twice and nesting beyond 64
//! levels: what one reader takes for the first and another for the last value must not become a password.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::value::{secret_data::SecretBytes, vault_path::VaultPath};

/// How far the clock of a server may be ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_secs(5);
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
/// The largest number that every JSON reader keeps exactly: 2^53 - 1.
const MAX_EXACT: u64 = 9_007_199_254_740_991;

/// Which KV engine a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Without versions.
    V1,
    /// With versions and metadata.
    V2,
}

/// What a mount look-up says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A KV engine, mounted there.
    Kv {
        /// Which one.
        engine: Engine,
        /// Where it is mounted; a shorter path than asked for, where the path asked for goes on below it.
        path: VaultPath,
    },
    /// Another engine.
    Other,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number; numbers begin at 1 again after all of a secret was removed.
    pub number: i64,
    /// When it was made; tells two versions of one number apart.
    pub created: Timestamp,
    /// From when on it is deleted; may lie in the future.
    pub deleted: Option<Timestamp>,
    /// Whether it is gone for good.
    pub destroyed: bool,
}

impl Version {
    /// Whether its values can no longer be read at `now`, which is our clock; a deletion has the time of the server's.
    ///
    /// What the server deleted a moment ago must not look as if it were still to be deleted, so up to [`SKEW`] between
    /// the clocks counts as past. One that is to end within that time is gone that much too early, which takes nothing
    /// away: the Secret is kept.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.destroyed || self.deleted.is_some_and(|at| at.duration_since(now) <= SKEW)
    }
}

/// The metadata of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Number of the newest version; 0 = there never was one.
    pub current: i64,
    /// The versions that are known, by number.
    pub versions: BTreeMap<i64, Version>,
}

/// The values of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Values {
    /// Their version; `None` for an engine without versions.
    pub version: Option<Version>,
    /// By key.
    pub fields: BTreeMap<String, RemoteValue>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({:?}, {} keys)", self.version, self.fields.len())
    }
}

/// A value of a secret; shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub enum RemoteValue {
    /// A text.
    Text(SecretBytes),
    /// A whole number that every reader of JSON keeps exactly.
    Integer(i64),
    /// Any other number.
    Inexact,
    /// true or false.
    Bool(bool),
    /// The value is missing.
    Null,
    /// A list.
    List(Vec<RemoteValue>),
    /// An object.
    Object(BTreeMap<String, RemoteValue>),
}

impl fmt::Debug for RemoteValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.kind())
    }
}

impl RemoteValue {
    /// What it is, in a word with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) | Self::Inexact => "a number",
            Self::Bool(_) => "a boolean",
            Self::Null => "null",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for RemoteValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(0).deserialize(deserializer)
    }
}

/// Reads a value at this depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.0 < MAX_DEPTH { Ok(Self(self.0 + 1)) } else { Err(E::custom("nested too deeply")) }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = RemoteValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RemoteValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = RemoteValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<RemoteValue, E> {
        Ok(RemoteValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RemoteValue, E> {
        Ok(if value.unsigned_abs() <= MAX_EXACT { RemoteValue::Integer(value) } else { RemoteValue::Inexact })
    }

    fn visit_u64<E>(self, value: u64) -> Result<RemoteValue, E> {
        let exact = i64::try_from(value).ok().filter(|_| value <= MAX_EXACT);
        Ok(exact.map_or(RemoteValue::Inexact, RemoteValue::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<RemoteValue, E> {
        Ok(RemoteValue::Inexact)
    }

    fn visit_str<E>(self, value: &str) -> Result<RemoteValue, E> {
        Ok(RemoteValue::Text(SecretBytes::new(value.as_bytes().to_vec())))
    }

    fn visit_string<E>(self, value: String) -> Result<RemoteValue, E> {
        Ok(RemoteValue::Text(SecretBytes::from(value)))
    }

    fn visit_unit<E>(self) -> Result<RemoteValue, E> {
        Ok(RemoteValue::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RemoteValue, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(RemoteValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RemoteValue, A::Error> {
        let below = self.below()?;
        let mut object = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(below)?;
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(RemoteValue::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<RemoteValue> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn numbers_that_lose_digits_are_told_from_those_that_do_not() {
        for (json, value) in [
            ("0", RemoteValue::Integer(0)),
            ("-7", RemoteValue::Integer(-7)),
            ("9007199254740991", RemoteValue::Integer(9_007_199_254_740_991)),
            ("9007199254740992", RemoteValue::Inexact),
            ("-9007199254740992", RemoteValue::Inexact),
            ("8019210420527506405", RemoteValue::Inexact),
            ("99999999999999999999", RemoteValue::Inexact),
            ("1.10", RemoteValue::Inexact),
            ("1e3", RemoteValue::Inexact),
        ] {
            assert_eq!(read(json), Some(value), "{json}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_and_deep_nesting_are_refused() {
        assert_eq!(read(r#"{"a":"1","a":"2"}"#), None);
        assert_eq!(read(r#"{"a":{"b":1,"b":1}}"#), None);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(MAX_DEPTH)).is_some());
        assert_eq!(read(&nested(MAX_DEPTH + 1)), None);
    }

    #[test]
    fn nothing_of_a_value_is_shown() {
        let value = read(r#"{"password":"canary","n":4711,"l":["canary"]}"#).unwrap();
        assert_eq!(format!("{value:?}"), "<an object>");
    }

    #[test]
    fn a_version_with_an_end_in_the_future_is_not_gone_yet_but_one_deleted_by_a_clock_ahead_of_ours_is() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let version = Version { number: 1, created: at(0), deleted: Some(at(100)), destroyed: false };
        assert!(version.is_gone(at(95)), "the clock of the server is 5 s ahead");
        assert!(!version.is_gone(at(94)) && version.is_gone(at(100)));
        assert!(Version { deleted: None, destroyed: true, ..version }.is_gone(at(0)));
    }
}
