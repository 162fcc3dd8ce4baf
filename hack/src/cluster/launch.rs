//! Starts daemons, on the host or inside a node, records them, and waits until each is healthy.
//!
//! Must not know which daemons there are nor their order: that is `up.rs`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::daemons::{Daemon, Health};
use super::kubectl::Kubectl;
use super::place::Run;
use super::record::Process;
use crate::process::{poll, tail};

/// Where a daemon runs.
#[derive(Debug, Clone, Copy)]
pub enum Site {
    /// Directly on this machine
    Host,
    /// In the namespaces of this process
    Node(Process),
}

impl Site {
    /// The command that runs `program` there.
    pub fn command(self, program: &Path) -> Command {
        let mut words = self.prefix();
        words.push(program.display().to_string());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// `nsenter` and not `ip netns exec`, which mounts a new `/sys` and so hides the cgroups.
    fn prefix(self) -> Vec<String> {
        match self {
            Self::Host => Vec::new(),
            Self::Node(holder) => {
                let target = holder.pid().to_string();
                ["nsenter", "-t", &target, "-m", "-n", "-p", "-u", "-i", "--"].map(str::to_owned).to_vec()
            }
        }
    }
}

/// Starts the daemons of one cluster and says how long each step took.
pub struct Launch<'a> {
    /// Where daemons run
    pub site: Site,
    bin: &'a Path,
    run: &'a Run,
    kubectl: &'a Kubectl,
    start: Instant,
}

/// A daemon that was started.
pub struct Started {
    daemon: Daemon,
    /// Kept so that an ended process is reaped and seen as ended
    child: Child,
    process: Process,
}

impl<'a> Launch<'a> {
    /// Times count from here.
    pub fn new(bin: &'a Path, run: &'a Run, kubectl: &'a Kubectl, site: Site) -> Self {
        Self { site, bin, run, kubectl, start: Instant::now() }
    }

    /// Starts daemons together and waits for all of them.
    pub fn run(&self, daemons: Vec<Daemon>) -> Result<()> {
        let started = daemons.into_iter().map(|daemon| self.start(daemon)).collect::<Result<Vec<_>>>()?;
        started.into_iter().try_for_each(|daemon| self.wait(daemon))
    }

    /// Starts a daemon in a session of its own, logging to a file, and records it.
    pub fn start(&self, daemon: Daemon) -> Result<Started> {
        let command = self.site.command(&self.bin.join(daemon.name));
        let (child, process) = self.spawn(&command, &daemon)?;
        Ok(Started { daemon, child, process })
    }

    /// Waits for the daemon's health check; fails with the end of its log when it ends or stays unhealthy.
    pub fn wait(&self, mut started: Started) -> Result<()> {
        let daemon = &started.daemon;
        let healthy = poll(daemon.timeout, || {
            // The condition comes second: a daemon that left its file behind and died is not healthy.
            if let Some(status) = started.child.try_wait()? {
                bail!("{} ended ({status}); {}", daemon.name, self.log_end(daemon.name));
            }
            Ok(self.is_healthy(&daemon.health, started.process))
        })?;
        if !healthy {
            let seconds = daemon.timeout.as_secs();
            bail!("{} is not healthy after {seconds} s; {}", daemon.name, self.log_end(daemon.name));
        }
        self.say(daemon.name);
        Ok(())
    }

    /// Polls `condition`; on a timeout says what was awaited and shows the log of the daemon responsible for it.
    pub fn wait_for(
        &self,
        what: &str,
        responsible: &str,
        timeout: Duration,
        condition: impl Fn() -> bool,
    ) -> Result<()> {
        if !poll(timeout, || Ok(condition()))? {
            bail!("{what}: not within {} s; {}", timeout.as_secs(), self.log_end(responsible));
        }
        self.say(what);
        Ok(())
    }

    /// Prints a step with the time since the start.
    pub fn say(&self, what: &str) {
        println!("{:7} ms  {what}", self.start.elapsed().as_millis());
    }

    fn spawn(&self, command: &Command, daemon: &Daemon) -> Result<(Child, Process)> {
        let record = self.run.pids().join(daemon.name);
        spawn(command, &daemon.env, &daemon.args, &self.run.log(daemon.name), &record, self.site)
    }

    fn is_healthy(&self, health: &Health, process: Process) -> bool {
        match health {
            Health::File(path) => path.exists(),
            Health::ApiReady => self.kubectl.succeeds(&["get", "--raw", "/readyz"]),
            Health::Port(port) => {
                let tables = ["tcp", "tcp6"].map(|table| namespace_file(process, table));
                tables.iter().any(|table| listens(table, *port))
            }
            Health::Socket(path) => namespace_file(process, "unix").lines().any(|line| line.ends_with(path)),
        }
    }

    fn log_end(&self, name: &str) -> String {
        let path = self.run.log(name);
        let text = fs::read(&path).unwrap_or_default();
        format!("the end of {}:\n{}", path.display(), tail(&String::from_utf8_lossy(&text), 30))
    }
}

/// Starts `command` detached, with only the given environment and its output in `log`; records it in `record`.
pub fn spawn(
    command: &Command,
    env: &[(&'static str, String)],
    args: &[String],
    log: &Path,
    record: &Path,
    site: Site,
) -> Result<(Child, Process)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    // A session of its own: neither Ctrl-C nor a closed terminal reaches the daemon.
    let mut detached = Command::new("setsid");
    detached.arg(command.get_program()).args(command.get_args()).args(args);
    detached.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    detached.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    let child = detached.spawn().with_context(|| format!("cannot start {program}"))?;
    let process = recorded(&child, site).with_context(|| format!("{program} ended at once; see {}", log.display()))?;
    process.write(record)?;
    Ok((child, process))
}

/// `nsenter` stays outside and waits for the real process, which is its child.
fn recorded(child: &Child, site: Site) -> Option<Process> {
    let outer = Process::current(i32::try_from(child.id()).ok()?)?;
    match site {
        Site::Host => Some(outer),
        Site::Node(_) => {
            let mut inner = None;
            let found = poll(Duration::from_secs(10), || {
                inner = outer.child();
                Ok(inner.is_some() || !outer.is_running())
            });
            found.ok().and(inner)
        }
    }
}

/// A table of the network namespace that `process` is in; readable from outside.
fn namespace_file(process: Process, table: &str) -> String {
    fs::read_to_string(format!("/proc/{}/net/{table}", process.pid())).unwrap_or_default()
}

/// Whether a table in the form of `/proc/net/tcp` has a listening socket on `port`.
fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|address| address.ends_with(&suffix));
        local && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_command_enters_every_namespace_of_the_holder() {
        let own = Process::current(i32::try_from(std::process::id()).unwrap()).unwrap();
        let command = Site::Node(own).command(Path::new("/bin/x"));
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let expected = format!("nsenter -t {} -m -n -p -u -i -- /bin/x", own.pid());
        assert_eq!(words.join(" "), expected);
        assert_eq!(Site::Host.command(Path::new("/bin/x")).get_program(), "/bin/x");
    }

    #[test]
    fn only_a_listening_socket_counts() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 0100007F:094B 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:1F90 0100007F:094C 01 00000000:00000000\n";
        assert!(listens(table, 0x094B));
        assert!(!listens(table, 0x1F90), "connected, not listening");
        assert!(!listens(table, 0x094C), "the remote port");
    }
}
