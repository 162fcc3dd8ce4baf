//! Documents as tests: links lead somewhere, and every YAML example of our kinds is what the operator reads.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise; clippy.toml grants that to test functions only, not to what they call"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_core::api::{
    AccessGrant, AccessRequest, ExternalService, SecretBinding, Segment, ServiceIdentity, TrustDomain, VaultConnection,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Folders that hold nothing we wrote.
const SKIPPED: &[&str] = &["target", ".git", "node_modules"];

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for file in files_with("md") {
        let text = fs::read_to_string(&file).unwrap();
        for (line, link) in links(&text) {
            checked += 1;
            if let Err(why) = follow(&file, link) {
                broken.push(format!("{}:{line}: {link} {why}", shown(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(checked > 20, "only {checked} links were seen");
}

#[test]
fn every_example_of_our_kinds_is_read_by_the_operators_own_types() {
    let mut broken = Vec::new();
    let mut read = 0;
    for (place, yaml) in examples() {
        for document in yaml.split("\n---").filter(|document| !document.trim().is_empty()) {
            match check(document) {
                Ok(ours) => read += usize::from(ours),
                Err(why) => broken.push(format!("{place}: {why}")),
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(read > 8, "only {read} objects of our kinds were seen");
}

#[test]
fn the_checks_can_fail() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md");
    assert!(follow(&here, "docs/absent.md").is_err());
    assert!(follow(&here, "docs/README.md#no-such-heading").is_err());
    assert!(follow(&here, "docs/README.md#documentation").is_ok());
    let unknown = "apiVersion: countersign.dev/v1alpha1\nkind: TrustDomain\nmetadata: {name: a}\nspec: {name: a, issuer: {vault: {connection: a, mount: b, role: c, rolle: d}}}";
    assert_eq!(check(unknown), Err("the field `spec.issuer.vault.rolle` is unknown".to_owned()));
    assert!(check("apiVersion: countersign.dev/v1alpha1\nkind: Segment\n").is_err());
    assert_eq!(check("apiVersion: v1\nkind: Namespace\n"), Ok(false));
    assert_eq!(links("a [b](c.md) `[d](e)` [f](<g h>)\n```\n[i](j)\n```\n"), [(1, "c.md"), (1, "g h")]);
}

/// YAML files of `examples/`, and YAML blocks of all documents, with the place they are from.
fn examples() -> Vec<(String, String)> {
    let examples = files_with("yaml").into_iter().filter(|file| shown(file).starts_with("examples/"));
    let mut found: Vec<_> = examples.map(|file| (shown(&file), fs::read_to_string(&file).unwrap())).collect();
    for file in files_with("md") {
        let text = fs::read_to_string(&file).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let yaml = block.split("```").next().unwrap_or_default();
            let first = yaml.lines().next().unwrap_or_default();
            found.push((format!("{}, block `{first}`", shown(&file)), yaml.to_owned()));
        }
    }
    found
}

/// Whether `yaml` is an object of ours; fails if it is one that the operator could not read.
fn check(yaml: &str) -> Result<bool, String> {
    let value: Value = serde_saphyr::from_str(yaml).map_err(|error| format!("not YAML: {error}"))?;
    let member = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    match (member("apiVersion"), member("kind")) {
        ("countersign.dev/v1alpha1", "ServiceIdentity") => read::<ServiceIdentity>(yaml),
        ("countersign.dev/v1alpha1", "SecretBinding") => read::<SecretBinding>(yaml),
        ("countersign.dev/v1alpha1", "Segment") => read::<Segment>(yaml),
        ("countersign.dev/v1alpha1", "AccessGrant") => read::<AccessGrant>(yaml),
        ("countersign.dev/v1alpha1", "AccessRequest") => read::<AccessRequest>(yaml),
        ("countersign.dev/v1alpha1", "ExternalService") => read::<ExternalService>(yaml),
        ("countersign.dev/v1alpha1", "TrustDomain") => read::<TrustDomain>(yaml),
        ("countersign.dev/v1alpha1", "VaultConnection") => read::<VaultConnection>(yaml),
        (group, kind) if group.starts_with("countersign.dev/") => Err(format!("there is no {kind} in {group}")),
        _ => Ok(false),
    }
}

/// Fails unless the type takes everything that is written there: it ignores what it does not know, so that an older
/// operator can read a newer object, but an example with a misspelt field would be a lie.
fn read<K: DeserializeOwned + Serialize>(yaml: &str) -> Result<bool, String> {
    let object: K = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    let written: Value = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    let taken = serde_json::to_value(object).map_err(|error| error.to_string())?;
    lost(&written, &taken).map_or(Ok(true), |field| Err(format!("the field `{field}` is unknown")))
}

/// The path of the first member of `written` that is not in `taken`.
fn lost(written: &Value, taken: &Value) -> Option<String> {
    match (written, taken) {
        (Value::Object(written), Value::Object(taken)) => written.iter().find_map(|(name, value)| {
            let Some(taken) = taken.get(name) else { return Some(name.clone()) };
            lost(value, taken).map(|rest| format!("{name}.{rest}"))
        }),
        (Value::Array(written), Value::Array(taken)) => written.iter().zip(taken).find_map(|(w, t)| lost(w, t)),
        _ => None,
    }
}

/// Targets of inline links outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        // Every second part between back-ticks is code.
        for prose in line.split('`').step_by(2) {
            for rest in prose.split("](").skip(1) {
                let target = match rest.strip_prefix('<') {
                    Some(quoted) => quoted.split('>').next(),
                    None => rest.split(')').next(),
                };
                found.push((index + 1, target.unwrap_or_default()));
            }
        }
    }
    found
}

fn follow(from: &Path, link: &str) -> Result<(), &'static str> {
    if link.starts_with("https://") {
        return Ok(());
    }
    if link.contains("://") {
        return Err("is neither https nor relative");
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    let target = if path.is_empty() { from.to_owned() } else { from.parent().unwrap().join(path) };
    if !target.exists() {
        return Err("does not exist");
    }
    let Some(heading) = heading else { return Ok(()) };
    let text = fs::read_to_string(target).map_err(|_| "has no headings")?;
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    if headings.any(|line| anchor(line) == heading) { Ok(()) } else { Err("has no such heading") }
}

/// The anchor that Markdown readers make of a heading.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let skipped = path.file_name().is_none_or(|name| SKIPPED.iter().any(|skip| name == *skip));
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    file.strip_prefix(root).unwrap_or_else(|_| panic!("{} is outside", file.display())).display().to_string()
}
