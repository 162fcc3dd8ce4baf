//! Which processes belong to a cluster: id and start time of each, in files of the run folder.
//!
//! Ids are used again by the system, so a process counts as ours only while its start time is the recorded one.
//! Nothing is ever found or ended by name. Used by `launch`, `down`, `status` and `openbao`.

use std::fs;
use std::path::Path;

use crate::files;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// One process, told apart from later ones with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// Clock ticks after boot
    started: u64,
}

impl Process {
    /// The process that has this id now; `None` if there is none or it has ended.
    pub fn current(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: running_since(&stat)? })
    }

    /// The process recorded in `path`, if it still runs.
    pub fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let recorded = Self { pid: pid.parse().ok()?, started: started.parse().ok()? };
        recorded.is_running().then_some(recorded)
    }

    /// Records the process in `path`.
    pub fn write(self, path: &Path) -> Result<()> {
        files::write(path, format!("{} {}\n", self.pid, self.started))
    }

    /// The id in the namespace of this command.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub fn is_running(self) -> bool {
        Self::current(self.pid) == Some(self)
    }

    /// The first child, such as the program that `nsenter` or `unshare` runs.
    pub fn child(self) -> Option<Self> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        Self::current(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(pid) = self.is_running().then(|| Pid::from_raw(self.pid)).flatten() else { return Ok(()) };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Whether it lives in another pid namespace than this command; ending the first process of such a namespace ends all of it.
    pub fn has_own_namespace(self) -> bool {
        let own = fs::read_link("/proc/self/ns/pid");
        let other = fs::read_link(format!("/proc/{}/ns/pid", self.pid));
        matches!((own, other), (Ok(own), Ok(other)) if own != other)
    }
}

/// The start time in a line of `/proc/PID/stat`; `None` for a process that has ended and only waits to be reaped.
fn running_since(stat: &str) -> Option<u64> {
    // The name, in parentheses, may itself contain spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[test]
    fn start_time_is_found_behind_an_awkward_name() {
        let line = |state: &str| format!("7 (a) b (c) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1");
        assert_eq!(running_since(&line("S")), Some(4711));
        assert_eq!(running_since(&line("Z")), None);
    }

    #[test]
    fn a_record_is_void_once_the_process_ends_or_its_id_is_another_process() {
        let path = std::env::temp_dir().join(format!("xtask-record-{}", id()));
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::current(i32::try_from(child.id()).unwrap()).unwrap();
        process.write(&path).unwrap();
        assert_eq!(Process::read(&path), Some(process));
        Process { started: process.started + 1, ..process }.write(&path).unwrap();
        assert_eq!(Process::read(&path), None);
        process.write(&path).unwrap();
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert_eq!(Process::read(&path), None);
        fs::remove_file(path).unwrap();
    }
}
