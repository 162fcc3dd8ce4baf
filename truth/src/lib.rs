//! Truth tables of NetworkPolicy: three namespaces of three pods, all pairs, two ports, two protocols; see `cases/`.
//!
//! Only data and how it reads. Who judges by it lies elsewhere: the tests of `core` ask the evaluator, those of `e2e` a
//! real data plane. So neither can be right about a table that the other never saw.

mod case;
mod table;

use std::{collections::BTreeMap, fmt};

pub use case::{Case, Cilium};
use serde_json::Value;
pub use table::{Line, Outcome, Question, Table};

/// The ports of every pair.
pub const PORTS: [u16; 2] = [80, 81];
/// The protocols of every pair.
pub const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];

const FILES: [(&str, &str); 5] = [
    ("isolation", include_str!("../cases/isolation.yaml")),
    ("peers", include_str!("../cases/peers.yaml")),
    ("ports", include_str!("../cases/ports.yaml")),
    ("blocks", include_str!("../cases/blocks.yaml")),
    ("malformed", include_str!("../cases/malformed.yaml")),
];
const SCENE: &str = include_str!("../cases/scene.yaml");

/// What every case begins with.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Labels of each namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels, addresses and named ports of each pod, `namespace/name`.
    pub pods: BTreeMap<String, Value>,
}

/// A file of cases that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    file: &'static str,
    error: Box<serde_saphyr::Error>,
}

impl Unreadable {
    fn new(file: &'static str, error: serde_saphyr::Error) -> Self {
        Self { file, error: Box::new(error) }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.error)
    }
}

impl std::error::Error for Unreadable {}

/// All cases, in the order of the files.
///
/// # Errors
/// When a file says what no case can.
pub fn cases() -> Result<Vec<Case>, Unreadable> {
    let mut all = Vec::new();
    for (file, text) in FILES {
        let cases: Vec<Case> = serde_saphyr::from_str(text).map_err(|error| Unreadable::new(file, error))?;
        all.extend(cases);
    }
    Ok(all)
}

/// The scene that every case begins with.
///
/// # Errors
/// When it cannot be read.
pub fn scene() -> Result<Scene, Unreadable> {
    serde_saphyr::from_str(SCENE).map_err(|error| Unreadable::new("scene", error))
}

/// Every question about these ends.
pub fn questions<'a>(ends: &'a [&'a str]) -> impl Iterator<Item = Question<'a>> {
    let pairs = ends.iter().flat_map(|from| ends.iter().map(move |to| (*from, *to)));
    pairs.flat_map(|(from, to)| {
        let whats = PORTS.into_iter().flat_map(|port| PROTOCOLS.map(|protocol| (port, protocol)));
        whats.map(move |(port, protocol)| Question { from, to, port, protocol })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = cases().unwrap();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() >= 60, "only {} cases", cases.len());
    }

    #[test]
    fn every_line_of_every_table_is_about_something() {
        let scene = scene().unwrap();
        for case in cases().unwrap() {
            let ends: Vec<&str> = scene.pods.keys().chain(&case.addresses).map(String::as_str).collect();
            let other = match &case.cilium {
                Some(Cilium::Differs { table, .. }) => Some(table),
                _ => None,
            };
            for table in std::iter::once(&case.table).chain(other) {
                let idle = table.idle(&ends);
                assert!(idle.is_empty(), "{}: a line is about nothing: {idle:?}", case.name);
            }
        }
    }

    #[test]
    fn a_difference_is_one() {
        let scene = scene().unwrap();
        let ends: Vec<&str> = scene.pods.keys().map(String::as_str).collect();
        for case in cases().unwrap() {
            let Some(Cilium::Differs { table, why }) = &case.cilium else { continue };
            let differs = |question: Question<'_>| table.outcome(&question) != case.table.outcome(&question);
            assert!(questions(&ends).any(differs), "{}: both tables say the same", case.name);
            assert!(!why.is_empty(), "{}", case.name);
        }
    }
}
