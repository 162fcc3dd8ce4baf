//! What a node changes on the host beyond its own namespaces, and how that is put back: sysctls, folders, cgroups.
//!
//! Shared by all nodes of this machine: saved before the first starts, restored when the last has ended.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::node::PRIVATE_FOLDERS;
use super::place::{Place, Run};
use crate::cache::Cache;
use crate::files;
use crate::process::poll;

/// Host-wide settings that the kubelet and Cilium write.
const SYSCTLS: [&str; 5] =
    ["kernel/panic", "kernel/panic_on_oops", "kernel/timer_migration", "vm/overcommit_memory", "vm/panic_on_oom"];

#[derive(Debug, Serialize, Deserialize)]
struct Before {
    sysctls: BTreeMap<String, String>,
    /// Mount points that did not exist
    folders: Vec<PathBuf>,
}

/// Saves what nodes will change, unless an earlier node did, and makes their mount points.
pub fn prepare(cache: &Cache) -> Result<()> {
    let path = saved(cache);
    if !path.exists() {
        let read = |name: &str| Some((name.to_owned(), fs::read_to_string(sysctl(name)).ok()?.trim().to_owned()));
        let absent = |folder: &&str| !Path::new(folder).exists();
        let before = Before {
            sysctls: SYSCTLS.into_iter().filter_map(read).collect(),
            folders: PRIVATE_FOLDERS.into_iter().filter(absent).map(PathBuf::from).collect(),
        };
        files::write(&path, serde_json::to_string_pretty(&before)?)?;
    }
    for folder in PRIVATE_FOLDERS {
        files::create_folder(folder)?;
    }
    Ok(())
}

/// Puts everything back, unless another node still runs.
pub fn restore(cache: &Cache) -> Result<()> {
    let path = saved(cache);
    let places = (0..=Place::LAST).filter_map(Place::new);
    if !path.exists() || places.into_iter().any(|place| super::node::holder(&Run::new(cache, place)).is_some()) {
        return Ok(());
    }
    let text = files::read(&path)?;
    let before: Before =
        serde_json::from_str(&text).with_context(|| format!("{} is not what we wrote", path.display()))?;
    for (name, value) in before.sysctls {
        files::write(sysctl(&name), value)?;
    }
    for folder in before.folders {
        match fs::remove_dir(&folder) {
            // Something else uses it by now: it stays.
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
    }
    files::remove(&path)
}

/// How this machine mounts its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// One folder a controller, with or without the unified one beside them
    V1,
    /// The unified hierarchy alone
    V2,
    /// No cgroups at all
    Missing,
}

impl CgroupMode {
    /// What is mounted now.
    pub fn current() -> Self {
        if Path::new(CGROUPS).join("cgroup.controllers").exists() {
            Self::V2
        } else if Path::new(CGROUPS).join("memory").exists() {
            Self::V1
        } else {
            Self::Missing
        }
    }
}

/// Makes the cgroup of that name in every hierarchy.
pub fn make_cgroup(name: &str) -> Result<()> {
    for parent in cgroup_parents()? {
        let path = parent.join(name);
        files::create_folder(&path)?;
        // A cpuset starts empty in version 1, and no process can enter an empty one.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = parent.join(file);
            if CgroupMode::current() == CgroupMode::V1 && from.exists() {
                files::write(path.join(file), fs::read(&from)?)?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroup of that name with everything below, once its processes are gone.
pub fn remove_cgroup(name: &str) -> Result<()> {
    for parent in cgroup_parents()? {
        let path = parent.join(name);
        // The kernel lets go of the last process a moment after it ended.
        if !poll(Duration::from_secs(5), || Ok(remove_tree(&path)))? {
            bail!("the cgroup {} is still in use", path.display());
        }
    }
    Ok(())
}

const CGROUPS: &str = "/sys/fs/cgroup";

fn cgroup_parents() -> Result<Vec<PathBuf>> {
    Ok(match CgroupMode::current() {
        CgroupMode::Missing => Vec::new(),
        CgroupMode::V2 => vec![PathBuf::from(CGROUPS)],
        CgroupMode::V1 => {
            let entries = fs::read_dir(CGROUPS).context("cannot list the cgroups")?;
            let real = |path: &PathBuf| path.is_dir() && !path.is_symlink();
            entries.flatten().map(|entry| entry.path()).filter(real).collect()
        }
    })
}

/// Bottom up; only folders can be removed there, files vanish with them.
fn remove_tree(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        for child in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            remove_tree(&child);
        }
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}

fn saved(cache: &Cache) -> PathBuf {
    cache.run().join("host.json")
}

fn sysctl(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}
