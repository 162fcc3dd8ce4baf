//! The network of a pod, entered by a thread of the test: what that sends comes from the pod, and no program need lie in
//! its image.
//!
//! Only for pods that run on this machine, and with the rights of its administrator.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The processes of this machine for which `holds` is true, as their folders below `/proc`.
///
/// # Errors
/// When there is no `/proc`.
pub fn processes(holds: impl Fn(&PathBuf) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc").context("cannot list the processes")?;
    let is_process = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
    };
    // What ends while it is looked at is no process any more.
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| is_process(path) && holds(path)).collect())
}

/// The network namespace of the pod with that UID.
///
/// # Errors
/// When none of its processes is seen on this machine.
pub fn of_pod(uid: &str) -> Result<File> {
    // Drivers of cgroups write the UID in one of two ways.
    let spellings = [uid.to_owned(), uid.replace('-', "_")];
    let is_of_pod = |process: &PathBuf| {
        let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        spellings.iter().any(|uid| cgroups.contains(uid.as_str()))
    };
    let process = processes(is_of_pod)?.into_iter().next();
    let process = process.with_context(|| format!("no process of the pod {uid} is seen on this machine"))?;
    File::open(process.join("ns/net")).with_context(|| format!("the network of the pod {uid} is not open to us"))
}

/// Moves the calling thread there, for good.
///
/// # Errors
/// When it may not.
pub fn enter(network: &File) -> Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter a pod's network")
}
