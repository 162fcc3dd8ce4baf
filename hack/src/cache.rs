//! Where everything lies that these commands make: outside the clone, in the user's cache folder.
//!
//! Knows paths only; creates nothing. Used by every command.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache folder as the command line and the environment name it.
#[derive(Debug, Clone, clap::Args)]
pub struct CacheArgs {
    /// Folder for built programs, images and cluster state [default: $XDG_CACHE_HOME/countersign or ~/.cache/countersign]
    #[arg(long = "cache", value_name = "DIR", env = "COUNTERSIGN_CACHE", hide_env_values = true, global = true)]
    explicit: Option<PathBuf>,
    #[arg(long, env = "XDG_CACHE_HOME", hide = true, global = true)]
    xdg_cache_home: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true, global = true)]
    home: Option<PathBuf>,
}

impl CacheArgs {
    /// The first of: `--cache` or `COUNTERSIGN_CACHE`, `XDG_CACHE_HOME`, `HOME/.cache`.
    pub fn resolve(self) -> Result<Cache> {
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let root = given(self.explicit)
            .or_else(|| Some(given(self.xdg_cache_home)?.join("countersign")))
            .or_else(|| Some(given(self.home)?.join(".cache/countersign")))
            .context("no cache folder: set COUNTERSIGN_CACHE or HOME")?;
        let root = std::path::absolute(root).context("the cache folder is not a usable path")?;
        Ok(Cache { root })
    }
}

/// The cache folder; always an absolute path.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Built and downloaded programs, one folder for each content key.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Images packed by `cargo xtask image`.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// State of running clusters, one folder for each index.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
}

/// The top of the clone these commands were built from.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(explicit: Option<&str>, xdg: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        let path = |value: Option<&str>| value.map(PathBuf::from);
        let args = CacheArgs { explicit: path(explicit), xdg_cache_home: path(xdg), home: path(home) };
        args.resolve().ok().map(|cache| cache.root)
    }

    #[test]
    fn the_most_specific_setting_wins_and_an_empty_one_does_not_count() {
        assert_eq!(root(Some("/c"), Some("/x"), Some("/h")), Some("/c".into()));
        assert_eq!(root(None, Some("/x"), Some("/h")), Some("/x/countersign".into()));
        assert_eq!(root(Some(""), Some(""), Some("/h")), Some("/h/.cache/countersign".into()));
        assert_eq!(root(None, None, None), None);
    }
}
