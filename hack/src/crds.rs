//! `cargo xtask crds`: writes the CRDs that the wire types describe to `crds/`, or compares them.
//!
//! Which files there are and what is in them is decided in [`countersign_core::api::crd_files`].

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};
use countersign_core::api::crd_files;

/// Writes `crds/`; with `check`, only says whether it is what it should be.
///
/// # Errors
/// A file cannot be read or written; with `check`, a file differs, is missing or is one too many.
pub fn run(check: bool) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    fs::create_dir_all(&directory).context("cannot create crds/")?;
    let files = crd_files().context("a CRD cannot be written as YAML")?;
    for (name, yaml) in &files {
        let path = directory.join(name);
        if fs::read_to_string(&path).is_ok_and(|found| found == *yaml) {
            continue;
        }
        if check {
            bail!("crds/{name} is not what the wire types describe; run `cargo xtask crds`");
        }
        fs::write(&path, yaml).with_context(|| format!("cannot write crds/{name}"))?;
        println!("wrote crds/{name}");
    }
    let known: BTreeSet<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    for entry in fs::read_dir(&directory).context("cannot list crds/")? {
        let name = entry?.file_name();
        if !known.contains(name.to_string_lossy().as_ref()) {
            bail!("crds/{} belongs to no kind; remove it", name.display());
        }
    }
    Ok(())
}
