//! Tools that come as Python packages, each in a virtual environment of its own in the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process;

/// The program of a package of the same name, installed on first use.
pub fn tool(cache: &Cache, package: &str, version: &str) -> Result<PathBuf> {
    let place = cache.programs().join(format!("python-{package}-{version}"));
    let program = place.join("bin").join(package);
    let done = place.join("installed");
    if done.exists() {
        return Ok(program);
    }
    println!("installing {package} {version}");
    process::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))
        .context("python3 with its venv module is needed (Debian: python3-venv)")?;
    let wanted = format!("{package}=={version}");
    process::capture(Command::new(place.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        &wanted,
    ]))
    .with_context(|| format!("{wanted} cannot be installed from the Python package index"))?;
    std::fs::write(&done, "")?;
    Ok(program)
}
