//! The architecture as tests: rules over our sources and over what we depend on.
//!
//! `rules.rs` holds the table of rules with their reasons, `checks.rs` the longer ones, `source.rs` the
//! view of a file that they check, `graph.rs` the dependencies against `deny.toml`. No tool but cargo is needed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise; clippy.toml grants that to test functions only, not to what they call"
)]

mod checks;
mod graph;
mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rules::RULES;
use source::Source;

/// Folders that hold nothing we wrote.
const SKIPPED: &[&str] = &["target", ".git", "node_modules"];

#[test]
fn sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = files_below(root);
    assert!(files.len() > 20, "only {} files found below {}", files.len(), root.display());
    let mut broken = Vec::new();
    for file in files {
        // What is not text is not ours to judge.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let source = Source::new(&path, &text);
        for rule in RULES.iter().filter(|rule| rule.applies(&path)) {
            for (line, what) in rule.find(&source) {
                broken.push(format!("{path}:{line}: {what}\n    rule: {}\n    why:  {}", rule.name, rule.reason));
            }
        }
    }
    assert!(broken.is_empty(), "{} places break a rule\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES {
        let (path, text) = rule.broken_by;
        assert!(rule.applies(path), "{}: does not look at {path}", rule.name);
        assert!(!rule.find(&Source::new(path, text)).is_empty(), "{}: does not see what breaks it", rule.name);
        assert!(rule.reason.len() > 20, "{}: has no reason", rule.name);
    }
}

#[test]
fn dependencies_keep_deny_toml() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    let graph = graph::crates(None);
    assert!(graph.len() > 100, "only {} crates found", graph.len());
    let broken = graph::violations(&graph, &graph::Deny::parse(&text));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_crate_comes_from_crates_io() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let foreign = lock.lines().filter(|line| line.starts_with("source = ") && !line.contains(graph::CRATES_IO));
    assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn core_reaches_no_io() {
    let broken = graph::core_violations(&graph::crates(Some("countersign-core")));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let skipped = entry.file_name().to_str().is_none_or(|name| SKIPPED.contains(&name));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && !skipped => files.extend(files_below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => (),
        }
    }
    files.sort();
    files
}
