//! What a Secret was made of, kept on the Secret itself: of each source its path and the number of its state.
//!
//! A status may be lost with the process that was to write it; the Secret and what it was made of are one write.

use std::collections::BTreeMap;

use crate::binding::{
    intent::Intent,
    source::{Source, State},
};

/// Annotation with the version of each source that a Secret was made of: `app=2@secret/shop/app`, for an engine without
/// versions `app=-@kv1/shop/app`, with a space between two.
pub const ORIGIN: &str = "countersign.dev/origin";

/// The annotation's text for these states, by the place of the source.
pub fn origin(intent: &Intent, states: &[Option<State>]) -> String {
    let one = |(source, state): (&Source, &Option<State>)| {
        let number = state.as_ref().and_then(|state| state.number);
        let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        format!("{}={number}@{}", source.name, source.kind.path())
    };
    intent.sources.iter().zip(states).map(one).collect::<Vec<_>>().join(" ")
}

/// One source that a Secret was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// What the spec called it.
    pub name: &'a str,
    /// Its mount and path.
    pub path: &'a str,
    /// Its version, where the engine has versions.
    pub version: Option<i64>,
}

/// Reads the annotation; what does not read as one is left out.
pub fn parse(text: &str) -> impl Iterator<Item = Origin<'_>> {
    text.split(' ').filter_map(|one| {
        let (name, rest) = one.split_once('=')?;
        let (number, path) = rest.split_once('@')?;
        let version = if number == "-" { None } else { Some(number.parse().ok()?) };
        Some(Origin { name, path, version })
    })
}

/// Which sources show an older state than the Secret was made of, if any do; a source that is pinned, or was read from
/// another path, says nothing of that.
pub fn older(intent: &Intent, text: &str, states: &[Option<State>]) -> Option<String> {
    let known: BTreeMap<&str, i64> = parse(text).filter_map(|one| Some((one.path, one.version?))).collect();
    let one = |(source, state): (&Source, &Option<State>)| {
        let (state, known) = (state.as_ref()?, known.get(source.kind.path().to_string().as_str())?);
        let is_older = !source.kind.is_pinned() && state.number? < *known;
        is_older.then(|| format!("{}={}", source.name, state.identity))
    };
    let older: Vec<String> = intent.sources.iter().zip(states).filter_map(one).collect();
    if older.is_empty() { None } else { Some(older.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_ours_is_left_out() {
        let read: Vec<_> = parse("app=2@secret/shop/app old=-@kv1/shop/old x y=z a=1 b=x@c =").collect();
        let expected = [
            Origin { name: "app", path: "secret/shop/app", version: Some(2) },
            Origin { name: "old", path: "kv1/shop/old", version: None },
        ];
        assert_eq!(read, expected);
    }
}
