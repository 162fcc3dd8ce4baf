//! The generated part of the chart: definitions, roles, admission policies, and their reference pages.
//!
//! Everything here is rendered from `countersign_core` and from the comments of `values.yaml`, so
//! that code, chart and documents cannot say different things. Called by `cargo xtask crds`.
//! It decides nothing: which rights there are stands in `countersign_core::rights`.

mod reference;
mod template;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Writes the generated files, or, with `check`, fails and names those that differ.
pub fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace of this crate")?;
    let files = generated(root)?;
    if check {
        let stale = stale(root, &files)?;
        if !stale.is_empty() {
            bail!("not as generated, run `cargo xtask crds`: {}", stale.join(", "));
        }
        return Ok(());
    }
    for file in &files {
        let path = root.join(&file.path);
        fs::create_dir_all(path.parent().context("a file below the workspace")?)?;
        fs::write(&path, &file.text).with_context(|| format!("writing {}", path.display()))?;
    }
    for path in strays(root, &files)? {
        fs::remove_file(root.join(&path)).with_context(|| format!("removing {path}"))?;
    }
    Ok(())
}

/// A file that is made here, and nowhere else.
struct Generated {
    /// Relative to the workspace.
    path: String,
    text: String,
}

/// The folder that holds nothing but generated templates.
const TEMPLATES: &str = "charts/countersign/templates/generated";

fn generated(root: &Path) -> Result<Vec<Generated>> {
    let values = root.join("charts/countersign/values.yaml");
    let values = fs::read_to_string(&values).with_context(|| format!("reading {}", values.display()))?;
    let mut files = vec![
        Generated { path: format!("{TEMPLATES}/roles.yaml"), text: template::roles()? },
        Generated { path: format!("{TEMPLATES}/admission.yaml"), text: template::admission()? },
        Generated { path: "docs/reference/rbac.md".into(), text: reference::rbac() },
        Generated { path: "docs/reference/values.md".into(), text: reference::values(&values)? },
    ];
    for (name, text) in template::definitions()? {
        files.push(Generated { path: format!("{TEMPLATES}/crd-{name}.yaml"), text });
    }
    Ok(files)
}

/// Paths that differ from what would be generated, or should not be there.
fn stale(root: &Path, files: &[Generated]) -> Result<Vec<String>> {
    let mut stale: Vec<String> = files
        .iter()
        .filter(|file| fs::read_to_string(root.join(&file.path)).ok().as_ref() != Some(&file.text))
        .map(|file| file.path.clone())
        .collect();
    stale.extend(strays(root, files)?);
    Ok(stale)
}

/// Templates of an earlier generation that nothing makes any more.
fn strays(root: &Path, files: &[Generated]) -> Result<Vec<String>> {
    let folder: PathBuf = root.join(TEMPLATES);
    let mut strays = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(&folder)? {
            let path = format!("{TEMPLATES}/{}", entry?.file_name().to_string_lossy());
            if !files.iter().any(|file| file.path == path) {
                strays.push(path);
            }
        }
    }
    Ok(strays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_the_generated_ones() {
        run(true).unwrap();
    }

    #[test]
    fn a_changed_a_missing_and_a_stray_file_are_named() {
        let root = std::env::temp_dir().join(format!("countersign-chart-{}", std::process::id()));
        fs::create_dir_all(root.join(TEMPLATES)).unwrap();
        fs::write(root.join(TEMPLATES).join("changed.yaml"), "old").unwrap();
        fs::write(root.join(TEMPLATES).join("stray.yaml"), "").unwrap();
        let file = |name: &str| Generated { path: format!("{TEMPLATES}/{name}.yaml"), text: "new".into() };
        let stale = stale(&root, &[file("changed"), file("missing")]).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(stale, ["changed", "missing", "stray"].map(|name| format!("{TEMPLATES}/{name}.yaml")));
    }
}
