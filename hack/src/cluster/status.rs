//! `cargo xtask cluster status`: which clusters there are, and how each of their processes is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::env::Env;
use super::kubectl::Kubectl;
use super::place::{Place, Run};
use super::record::Process;
use crate::cache::Cache;

/// How a cluster is, by its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Started to the end, and every process of it runs; the layer's name
    Up(String),
    /// Something is missing; the names
    Partly(Vec<String>),
    /// Nothing runs
    Down,
}

impl State {
    /// The state of the cluster in that folder. Guests do not count: a cluster is up without its OpenBao.
    pub fn of(run: &Run) -> Self {
        let (running, mut gone): (Vec<_>, Vec<_>) =
            records(&run.pids()).into_iter().partition(|(_, process)| process.is_some());
        if running.is_empty() {
            return Self::Down;
        }
        let Ok(env) = Env::read(&run.env()) else {
            return Self::Partly(vec!["its start was interrupted".to_owned()]);
        };
        if gone.is_empty() {
            return Self::Up(env.layer);
        }
        gone.sort_by(|left, right| left.0.cmp(&right.0));
        Self::Partly(gone.into_iter().map(|(name, _)| format!("{name} has ended")).collect())
    }
}

/// Prints every cluster that has a run folder.
pub fn status(cache: &Cache) {
    let mut none = true;
    for place in (0..=Place::LAST).filter_map(Place::new) {
        let run = Run::new(cache, place);
        if run.dir().exists() {
            none = false;
            print(place, &run);
        }
    }
    if none {
        println!("no cluster");
    }
}

fn print(place: Place, run: &Run) {
    match State::of(run) {
        State::Down => {
            println!("cluster {}: down, state kept in {}", place.index(), run.dir().display());
            return;
        }
        State::Up(layer) => println!("cluster {}: {layer} up", place.index()),
        State::Partly(gone) => println!("cluster {}: partly up: {}", place.index(), gone.join(", ")),
    }
    for folder in [run.pids(), run.guests()] {
        for (name, process) in records(&folder) {
            let state = process.map_or("ended".to_owned(), |process| format!("up, process {}", process.pid()));
            println!("  {name:<26} {:>9}  {state}", age(&folder.join(&name)));
        }
    }
    if let Ok(env) = Env::read(&run.env()) {
        let kubectl = Kubectl::new(env.programs.kubectl, env.kubeconfig.clone(), run.dir());
        println!(
            "  {:<26} {}",
            "API",
            if kubectl.succeeds(&["get", "--raw", "/readyz"]) { "ready" } else { "not ready" }
        );
        if env.capabilities.contains("node") {
            let nodes = kubectl.text(&["get", "nodes", "--no-headers"]);
            println!("  {:<26} {}", "node", nodes.unwrap_or_else(|_| "unknown".to_owned()).trim());
        }
        println!("  {:<26} {}", "kubeconfig", env.kubeconfig.display());
    }
}

/// Name and running process of each record in a folder, sorted by name.
fn records(folder: &Path) -> Vec<(String, Option<Process>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut records: Vec<_> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), Process::read(&entry.path())))
        .collect();
    records.sort_by(|left, right| left.0.cmp(&right.0));
    records
}

/// How long ago a process was recorded, which is when it started.
fn age(record: &Path) -> String {
    let modified = fs::metadata(record).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or(Duration::ZERO).as_secs();
    match age {
        0..120 => format!("{age} s"),
        120..7200 => format!("{} min", age / 60),
        _ => format!("{} h", age / 3600),
    }
}
