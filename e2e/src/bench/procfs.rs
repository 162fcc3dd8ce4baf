//! What a process used: CPU time and memory, and how busy the machine is, all from `/proc`.
//!
//! Must not know whose process it is.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Now.
    pub now: f64,
    /// At its highest.
    pub peak: f64,
}

/// CPU time that a process has used, in user and system mode, by all of its threads.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    cpu_of(&stat).with_context(|| format!("/proc/{pid}/stat has another form"))
}

/// Memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} has ended"))?;
    memory_of(&status).with_context(|| format!("/proc/{pid}/status has another form"))
}

/// Runnable processes, averaged over the last minute.
///
/// # Errors
/// When the system does not say.
pub fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read the load average")?;
    text.split(' ').next().and_then(|first| first.parse().ok()).context("/proc/loadavg has another form")
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The name, in parentheses, may itself contain spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * MILLISECONDS_A_TICK))
}

fn memory_of(status: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib / 1024.0)
    };
    Some(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Linux tells programs times in hundredths of a second, whatever the kernel counts in.
const MILLISECONDS_A_TICK: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_an_awkward_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 9 9 20 0 1 0 4711 1 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(cpu_of("7 (a"), None);
    }

    #[test]
    fn memory_is_in_mebibytes() {
        let status = "Name:\tx\nVmPeak:\t  99999 kB\nVmHWM:\t    3072 kB\nVmRSS:\t    2560 kB\n";
        assert_eq!(memory_of(status), Some(Memory { now: 2.5, peak: 3.0 }));
        assert_eq!(memory_of("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_some_of_both() {
        let own = std::process::id();
        assert!(memory(own).unwrap().now > 0.1);
        cpu(own).unwrap();
        assert!(load_average().unwrap() >= 0.0);
    }
}
