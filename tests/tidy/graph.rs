//! Checks what we depend on against `deny.toml`: bans, licences, duplicates, and what `core` may reach.
//!
//! The graph is that of all targets with all our features, from `cargo tree`: unlike
//! `cargo metadata` it leaves out optional crates that nothing switches on.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// One crate of the graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub license: String,
}

/// What `deny.toml` says, as far as we check it.
#[derive(Debug, Default)]
pub struct Deny {
    pub licenses: BTreeSet<String>,
    /// Names, with the reason.
    pub banned: BTreeMap<String, String>,
    /// `name@version prefix`, with the reason.
    pub skip: BTreeMap<String, String>,
}

/// The only registry that a lock file of ours may name.
pub const CRATES_IO: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";
/// Crates that `core` must not reach: each is I/O, a clock, randomness or a C build.
const NOT_IN_CORE: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "getrandom",
    "hyper",
    "kube",
    "kube-client",
    "kube-runtime",
    "mio",
    "rand",
    "rand_core",
    "rcgen",
    "reqwest",
    "rustify",
    "rustls",
    "rustls-webpki",
    "tokio",
    "tracing",
    "vaultrs",
];
/// `core` is what we would carry into another program; beyond this it is no longer a core.
const MOST_IN_CORE: usize = 90;

/// Every crate of the workspace, or those `package` needs to run.
pub fn crates(package: Option<&str>) -> BTreeSet<Crate> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tree", "--locked", "--target", "all", "--prefix", "none"]);
    command.args(["--format", "{p}|{l}"]);
    match package {
        Some(name) => command.args(["--package", name, "--edges", "normal"]),
        None => command.args(["--workspace", "--all-features", "--edges", "normal,build,dev"]),
    };
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().filter(|line| !line.is_empty()).map(parse_crate).collect()
}

/// Everything that `graph` and `deny` disagree on.
pub fn violations(graph: &BTreeSet<Crate>, deny: &Deny) -> Vec<String> {
    let banned = graph.iter().filter_map(|found| {
        deny.banned.get(&found.name).map(|reason| format!("{} {} is banned: {reason}", found.name, found.version))
    });
    let licenses = graph.iter().filter(|found| !permitted(&found.license, &deny.licenses)).map(|found| {
        format!("{} {}: licence `{}` is not allowed by deny.toml", found.name, found.version, found.license)
    });
    let skipped = |found: &Crate| deny.skip.keys().any(|entry| is_version(entry, found));
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for found in graph.iter().filter(|found| !skipped(found)) {
        versions.entry(&found.name).or_default().push(&found.version);
    }
    let duplicates = versions.iter().filter(|(_, versions)| versions.len() > 1).map(|(name, versions)| {
        format!("{name} is there as {}: agree on one, or skip one in deny.toml with a reason", versions.join(" and "))
    });
    let stale = deny.skip.keys().filter(|entry| !graph.iter().any(|found| is_version(entry, found)));
    let stale = stale.map(|entry| format!("deny.toml skips {entry}, which is no longer there: remove the line"));
    banned.chain(licenses).chain(duplicates).chain(stale).collect()
}

/// What `core` reaches and must not.
pub fn core_violations(graph: &BTreeSet<Crate>) -> Vec<String> {
    let mut found: Vec<String> = graph
        .iter()
        .filter(|reached| NOT_IN_CORE.contains(&reached.name.as_str()))
        .map(|reached| format!("core reaches {}: it could then do I/O, tell the time or roll dice", reached.name))
        .collect();
    if graph.len() >= MOST_IN_CORE {
        found.push(format!("core has {} crates, {MOST_IN_CORE} are too many", graph.len()));
    }
    found
}

impl Deny {
    /// Reads our `deny.toml`: one entry a line, in arrays that begin `name = [` and end `]`.
    pub fn parse(text: &str) -> Self {
        let mut deny = Self::default();
        let mut section = String::new();
        let mut array = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                line.clone_into(&mut section);
            } else if let Some(name) = line.strip_suffix(" = [") {
                name.clone_into(&mut array);
            } else if line == "]" {
                array.clear();
            } else if !array.is_empty() {
                deny.entry(&section, &array, line);
            }
        }
        deny
    }

    fn entry(&mut self, section: &str, array: &str, line: &str) {
        let mut strings = line.split('"').skip(1).step_by(2).map(str::to_owned);
        let first = strings.next().unwrap_or_else(|| panic!("deny.toml: no string in `{line}`"));
        match (section, array) {
            ("[licenses]", "allow") => {
                assert!(line.contains('#'), "deny.toml: licence {first} has no reason");
                self.licenses.insert(first);
            }
            ("[bans]", "deny" | "skip") => {
                let reason = strings.next().unwrap_or_else(|| panic!("deny.toml: {first} has no reason"));
                let list = if array == "deny" { &mut self.banned } else { &mut self.skip };
                list.insert(first, reason);
            }
            _ => panic!("deny.toml: the test knows no list `{array}` in {section}"),
        }
    }
}

/// Whether an SPDX expression can be met with the `allowed` licences alone. `/` is the old form of OR.
pub fn permitted(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any_of(rest, allowed);
            *rest = rest.strip_prefix(&[")"]).unwrap_or_default();
            met
        }
        [license, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed.contains(&format!("{license} WITH {exception}"))
        }
        [license, tail @ ..] => {
            *rest = tail;
            allowed.contains(*license)
        }
        [] => false,
    }
}

/// `name v1.2.3 (note)|licence`, perhaps with ` (*)` behind it.
fn parse_crate(line: &str) -> Crate {
    let (package, license) = line.split_once('|').unwrap_or_else(|| panic!("cargo tree printed `{line}`"));
    let mut words = package.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (name, version) = (word(), word().trim_start_matches('v').to_owned());
    Crate { name, version, license: license.trim_end_matches(" (*)").to_owned() }
}

fn is_version(entry: &str, found: &Crate) -> bool {
    let (name, version) = entry.split_once('@').unwrap_or_else(|| panic!("deny.toml: `{entry}` is not name@version"));
    name == found.name
        && found.version.strip_prefix(version).is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, version: &str, license: &str) -> Crate {
        Crate { name: name.to_owned(), version: version.to_owned(), license: license.to_owned() }
    }

    #[test]
    fn every_kind_of_violation_is_seen() {
        let deny = Deny::parse(
            "[licenses]\nallow = [\n\"MIT\", # ours\n]\n[bans]\ndeny = [\n{ crate = \"ring\", reason = \"r\" },\n]\n\
             skip = [\n{ crate = \"syn@1\", reason = \"old\" },\n{ crate = \"gone@2\", reason = \"old\" },\n]\n",
        );
        let graph = BTreeSet::from([
            found("ring", "0.17.0", "MIT"),
            found("a", "1.0.0", "MIT AND GPL-3.0"),
            found("b", "1.0.0", "MIT"),
            found("b", "2.0.0", "MIT"),
            found("syn", "1.0.0", "MIT"),
            found("syn", "2.0.0", "MIT"),
        ]);
        let seen = violations(&graph, &deny);
        assert_eq!(seen.len(), 4, "{seen:?}");
        for (line, part) in
            seen.iter().zip(["ring 0.17.0 is banned: r", "`MIT AND GPL-3.0`", "1.0.0 and 2.0.0", "gone@2"])
        {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(core_violations(&BTreeSet::from([found("tokio", "1.0.0", "MIT")])).len(), 1);
    }

    #[test]
    fn license_expressions() {
        let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned(), "ISC".to_owned()]);
        for met in ["MIT", "MIT/Apache-2.0", "MIT OR GPL-3.0", "GPL-3.0 OR MIT AND ISC", "(GPL-3.0 OR MIT) AND ISC"] {
            assert!(permitted(met, &allowed), "{met}");
        }
        for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT WITH x-exception", "MIT MIT"] {
            assert!(!permitted(unmet, &allowed), "{unmet}");
        }
    }
}
