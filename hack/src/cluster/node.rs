//! The node: one process that holds its own mount, network, pid, uts and ipc namespaces.
//!
//! Firewall, routes and mounts of the host stay untouched, and ending that one process ends everything in the node:
//! the kernel kills all processes of a pid namespace with its first. Must not know which daemons run inside.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::daemons::Plan;
use super::launch::{Site, spawn};
use super::place::{NODE, Place, Run};
use super::record::Process;
use crate::files;
use crate::process::{SEARCH_PATH, capture, poll, succeeds};

/// Folders of the host over which the node mounts empty ones of its own, since daemons write to them by fixed paths.
pub const PRIVATE_FOLDERS: [&str; 5] =
    ["/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/usr/libexec/kubernetes"];

/// Makes the node and its link to the host; returns the holder of its namespaces.
pub fn create(plan: &Plan) -> Result<Process> {
    let holder = hold_namespaces(&plan.run)?;
    connect(plan.place, holder)?;
    inside(holder, &setup_script(plan.place))?;
    Ok(holder)
}

/// The holder of a node that runs.
pub fn holder(run: &Run) -> Option<Process> {
    Process::read(&run.pids().join(HOLDER))
}

/// Ends the node with everything in it and removes its link; does nothing where there is none.
pub fn end(run: &Run, place: Place) -> Result<()> {
    if let Some(holder) = holder(run) {
        if !holder.has_own_namespace() {
            bail!("process {} is recorded as a node but shares our pid namespace; not ending it", holder.pid());
        }
        holder.signal(Signal::KILL)?;
        let outer = Process::read(&run.pids().join(OUTER));
        let gone = || !holder.is_running() && outer.is_none_or(|outer| !outer.is_running());
        if !poll(Duration::from_secs(20), || Ok(gone()))? {
            bail!("the node did not end within 20 s");
        }
    }
    let interface = place.interface();
    if Path::new("/sys/class/net").join(&interface).exists() {
        // The kernel removes the link with the node's network, a moment later; either way it is gone afterwards.
        let removed = || !Path::new("/sys/class/net").join(&interface).exists();
        poll(Duration::from_secs(5), || {
            succeeds(Command::new("ip").args(["link", "delete", &interface]));
            Ok(removed())
        })?;
        if !removed() {
            bail!("cannot remove the network interface {interface}");
        }
    }
    Ok(())
}

const HOLDER: &str = "holder";
const OUTER: &str = "unshare";

fn hold_namespaces(run: &Run) -> Result<Process> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child=KILL"]);
    // The first process of the namespace must reap orphans for ever: a shell that waits does just that.
    command.args(["sh", "-c", "sleep infinity & wait"]);
    let env = [("PATH", SEARCH_PATH.to_owned())];
    let (mut child, outer) = spawn(&command, &env, &[], &run.log(OUTER), &run.pids().join(OUTER), Site::Host)?;
    let mut holder = None;
    poll(Duration::from_secs(10), || {
        if let Some(status) = child.try_wait()? {
            bail!("cannot make namespaces: unshare ended ({status}); see {}", run.log(OUTER).display());
        }
        // Only once the shell runs is the node's own /proc in place.
        let ready = |holder: Process| {
            capture(Site::Node(holder).command(Path::new("/bin/cat")).arg("/proc/1/comm"))
                .is_ok_and(|name| name.trim() == "sh")
        };
        holder = outer.child().filter(|process| process.has_own_namespace() && ready(*process));
        Ok(holder.is_some())
    })?;
    let holder = holder.context("cannot make namespaces: the holder did not start within 10 s")?;
    holder.write(&run.pids().join(HOLDER))?;
    Ok(holder)
}

/// A pair of linked interfaces; the host's end forwards nothing, so pods reach the host and no further.
fn connect(place: Place, holder: Process) -> Result<()> {
    let interface = place.interface();
    let pid = holder.pid().to_string();
    let ip = |words: &str| capture(Command::new("ip").args(words.split(' '))).map(drop);
    ip(&format!("link add {interface} type veth peer name eth0 netns {pid}"))?;
    ip(&format!("address add {}/24 dev {interface}", place.host_address()))?;
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
        // A kernel without IPv6 has no such file and nothing to forward.
        if Path::new(&path).exists() {
            files::write(&path, "0")?;
        }
    }
    ip(&format!("link set {interface} up"))?;
    for range in [place.pod_cidr(), place.service_cidr()] {
        ip(&format!("route replace {range} via {} dev {interface}", place.node_address()))?;
    }
    Ok(())
}

fn setup_script(place: Place) -> String {
    let mounts = PRIVATE_FOLDERS.map(|folder| format!("mount -t tmpfs tmpfs {folder}")).join("\n         ");
    format!(
        "set -e
         mount --make-rshared /
         hostname {NODE}
         ip link set lo up
         ip address add {node}/24 dev eth0
         ip link set eth0 up
         ip route add default via {host}
         cd /proc/sys/net
         echo 1 > ipv4/ip_forward
         echo 0 > ipv4/conf/all/rp_filter
         echo 0 > ipv4/conf/default/rp_filter
         if [ -e bridge/bridge-nf-call-iptables ]; then echo 1 > bridge/bridge-nf-call-iptables; fi
         if [ -d /sys/fs/bpf ]; then mount -t bpf bpf /sys/fs/bpf; fi
         {mounts}
         mkdir -p /run/netns /run/lock /run/containerd",
        node = place.node_address(),
        host = place.host_address(),
    )
}

fn inside(holder: Process, script: &str) -> Result<()> {
    let mut command = Site::Node(holder).command(Path::new("/bin/sh"));
    capture(command.args(["-c", script]).env("PATH", SEARCH_PATH)).context("cannot set up the node").map(drop)
}
