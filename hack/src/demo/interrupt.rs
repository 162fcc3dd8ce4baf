//! Ctrl-C: notices it, ends the programs that are waited for, and lets the demo clean up by itself.
//!
//! Daemons run in sessions of their own and are not touched here: they are ended by the cluster's records.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getsid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Whether the person at the terminal, or whoever started the demo, wants it to end.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on SIGINT, SIGTERM and SIGHUP no longer end the process. A SIGHUP that is ignored, as under `nohup`,
    /// stays ignored.
    pub fn watch() -> Result<Self> {
        let noticed = Arc::new(AtomicBool::new(false));
        // Before our handlers are in place: they replace what was inherited.
        let outlives_terminal = is_ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default(), Signal::HUP);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot wait for signals")?;
        let signals = {
            let _inside = runtime.enter();
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal)
        };
        let [interrupt, terminate, hangup] = signals;
        let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
        let flag = Arc::clone(&noticed);
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => (),
                        _ = terminate.recv() => (),
                        _ = hangup.recv(), if !outlives_terminal => (),
                    }
                    if flag.swap(true, Ordering::SeqCst) {
                        eprintln!("still cleaning up");
                    } else {
                        eprintln!("interrupted: cleaning up");
                        end_children();
                    }
                }
            });
        });
        Ok(Self(noticed))
    }

    /// Whether a signal came.
    pub fn happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The result, unless a signal came: then whatever failed did so for that reason.
    pub fn settle<T>(&self, result: Result<T>) -> Result<T> {
        self.check()?;
        result
    }

    /// Fails if a signal came.
    pub fn check(&self) -> Result<()> {
        if self.happened() {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Whether `/proc/<pid>/status` says that the process ignores a signal.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

/// Ends every process below this one that is of its session: builds, kubectl, helm.
fn end_children() {
    let Ok(own) = i32::try_from(std::process::id()) else { return };
    let session = Pid::from_raw(own).and_then(|pid| getsid(Some(pid)).ok());
    for pid in descendants(own).into_iter().filter_map(Pid::from_raw) {
        if getsid(Some(pid)).ok() == session {
            // It may have ended by itself just now.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn descendants(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children: Vec<i32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
            found.extend(&children);
            open.extend(children);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::process::poll;

    #[test]
    fn an_ignored_signal_is_told_from_one_that_is_not() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, Signal::HUP));
        assert!(is_ignored(status, Signal::PIPE));
        assert!(!is_ignored(status, Signal::INT));
        assert!(!is_ignored("", Signal::HUP));
    }

    #[test]
    fn grandchildren_are_found() {
        let mut child = Command::new("sh").args(["-c", "sleep 600; true"]).stdin(Stdio::null()).spawn().unwrap();
        let shell = i32::try_from(child.id()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let seen = poll(Duration::from_secs(10), || Ok(!descendants(shell).is_empty())).unwrap();
        assert!(seen, "the shell has no child");
        let sleep = descendants(shell)[0];
        let all = descendants(own);
        assert!(all.contains(&shell) && all.contains(&sleep), "{all:?}");
        kill_process(Pid::from_raw(sleep).unwrap(), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
