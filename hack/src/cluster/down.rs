//! `cargo xtask cluster down`: ends exactly what was recorded, and puts the host back as it was.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::place::{Place, Run};
use super::record::Process;
use super::{host, node};
use crate::cache::Cache;
use crate::files;
use crate::process::{lock, poll};

/// Ends cluster `place`; with `purge` its stored state goes too. Does nothing where nothing is.
pub fn down(cache: &Cache, place: Place, purge: bool) -> Result<()> {
    let run = Run::new(cache, place);
    if !run.dir().exists() {
        println!("cluster {} is down", place.index());
        return Ok(());
    }
    let lock = lock(&run.dir().join("lock"), "this cluster")?;
    end(cache, place, &run)?;
    if purge {
        files::remove(run.dir())?;
    }
    drop(lock);
    println!("cluster {} is down{}", place.index(), if purge { ", its state is gone" } else { "" });
    Ok(())
}

/// Ends every recorded process of the run folder and restores the host; the caller holds the cluster's lock.
pub fn end(cache: &Cache, place: Place, run: &Run) -> Result<()> {
    files::remove(run.env())?;
    end_recorded(&run.guests())?;
    // One signal ends a whole node; what is left then are the processes of a cluster without one.
    node::end(run, place)?;
    end_recorded(&run.pids())?;
    if rustix::process::geteuid().is_root() {
        host::remove_cgroup(&place.cgroup())?;
        host::restore(cache)?;
    }
    Ok(())
}

/// Ends the processes recorded in a folder and the records. By KILL: none of them has anything to lose.
fn end_recorded(folder: &std::path::Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    let processes: Vec<Process> = paths.iter().filter_map(|path| Process::read(path)).collect();
    processes.iter().try_for_each(|process| process.signal(Signal::KILL))?;
    if !poll(Duration::from_secs(20), || Ok(!processes.iter().any(|process| process.is_running())))? {
        bail!("some processes recorded in {} did not end", folder.display());
    }
    paths.iter().try_for_each(files::remove)
}
