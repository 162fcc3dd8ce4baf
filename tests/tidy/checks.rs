//! The checks behind the rules that need more than a list of paths or texts.
//!
//! Each takes a file and returns the lines that break its rule, with what is wrong. `rules.rs` says
//! why and where.

use crate::source::Source;

/// The most lines of production code in a file.
pub const MOST_LINES: usize = 400;

pub fn branches_on_spec(source: &Source) -> Vec<(usize, String)> {
    let branches = |code: &str| code.split(|c: char| !c.is_alphanumeric()).any(|word| matches!(word, "if" | "match"));
    let lines = source.production().filter(|(_, code)| branches(code) && code.contains(".spec."));
    lines.map(|(line, _)| (line, "a branch on a field of the spec".to_owned())).collect()
}

pub fn too_long(source: &Source) -> Vec<(usize, String)> {
    let lines = source.production().filter(|(_, code)| !code.trim().is_empty()).count();
    if lines > MOST_LINES {
        vec![(source.tests_from, format!("{lines} lines of code, {MOST_LINES} at most"))]
    } else {
        vec![]
    }
}

pub fn no_introduction(source: &Source) -> Vec<(usize, String)> {
    let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if first.starts_with("//!") { vec![] } else { vec![(1, "does not start with `//!`".to_owned())] }
}

pub fn unfinished(source: &Source) -> Vec<(usize, String)> {
    with_any(source, &["todo!", "unimplemented!", "dbg!"])
}

pub fn ignored_without_reason(source: &Source) -> Vec<(usize, String)> {
    with_any(source, &["#[ignore]"])
}

pub fn silenced_without_reason(source: &Source) -> Vec<(usize, String)> {
    let attribute = |code: &str| {
        ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|a| code.trim_start().starts_with(a))
    };
    let starts = source.numbered().filter(|(_, code)| attribute(code));
    // An attribute may be broken over lines; it ends with the first `]`.
    let whole = |line: usize| {
        source.code[line - 1..]
            .iter()
            .scan(false, |done, code| {
                let was = std::mem::replace(done, code.contains(']'));
                (!was).then_some(code.as_str())
            })
            .collect::<String>()
    };
    starts
        .filter(|(line, _)| !whole(*line).contains("reason"))
        .map(|(line, code)| (line, format!("`{}`", code.trim())))
        .collect()
}

pub fn doers(source: &Source) -> Vec<(usize, String)> {
    let named = |code: &str| {
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let pairs = words.windows(2).filter(|pair| matches!(pair[0], "struct" | "enum" | "trait" | "mod" | "fn"));
        let mut bad = pairs.map(|pair| (pair[0], pair[1])).filter(|(kind, name)| {
            let name_ends = |ends: &[&str]| ends.iter().any(|end| name.to_lowercase().ends_with(end));
            if *kind == "fn" {
                name.starts_with("get_")
            } else {
                name_ends(&["manager", "helper", "helpers", "util", "utils"])
            }
        });
        bad.next().map(|(kind, name)| format!("`{kind} {name}`"))
    };
    source.production().filter_map(|(line, code)| named(code).map(|what| (line, what))).collect()
}

pub fn lints_not_inherited(source: &Source) -> Vec<(usize, String)> {
    if source.text.contains("[lints]\nworkspace = true\n") {
        vec![]
    } else {
        vec![(1, "no `[lints] workspace = true`".to_owned())]
    }
}

pub fn versions_of_its_own(source: &Source) -> Vec<(usize, String)> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for (index, line) in source.text.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
            found.push((index + 1, format!("`{line}` does not take the workspace's version")));
        }
    }
    found
}

fn with_any(source: &Source, wanted: &[&str]) -> Vec<(usize, String)> {
    let hit = |code: &str| wanted.iter().find(|text| code.contains(*text)).map(|text| format!("`{text}`"));
    source.numbered().filter_map(|(line, code)| hit(code).map(|what| (line, what))).collect()
}
