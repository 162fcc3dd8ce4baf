//! Can this machine run that layer? Facts are gathered first, then judged by a pure function, one sentence a finding.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::process::Command;

use anyhow::{Result, bail};
use flate2::read::GzDecoder;

use super::cilium::CLANGS;
use super::host::CgroupMode;
use super::place::{Layer, Place};
use crate::process::{capture, find};

/// What was found out about this machine.
#[derive(Debug, Clone)]
pub struct Facts {
    root: bool,
    /// Effective capabilities, one bit each
    capabilities: u64,
    cgroups: CgroupMode,
    /// Programs found, of those any check asks for
    programs: Vec<&'static str>,
    /// The kernel's own configuration, where it shows it
    kernel: Option<String>,
    /// IPv4 routes, as `ip route` prints them
    routes: String,
}

/// One thing to know before starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Cannot work
    Blocks(String),
    /// Works, but
    Note(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(sentence) => write!(formatter, "cannot start: {sentence}"),
            Self::Note(sentence) => write!(formatter, "note: {sentence}"),
        }
    }
}

/// Fails with every sentence that blocks the layer; prints the notes.
pub fn ensure(layer: Layer, place: Place) -> Result<()> {
    let findings = assess(&Facts::gather(), layer, place);
    let (blocks, notes): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| matches!(finding, Finding::Blocks(_)));
    for note in notes {
        println!("{note}");
    }
    if !blocks.is_empty() {
        let sentences: Vec<String> = blocks.iter().map(Finding::to_string).collect();
        bail!("layer {layer} needs more than this machine has\n{}", sentences.join("\n"));
    }
    Ok(())
}

/// What stands against `layer`; empty is good.
pub fn assess(facts: &Facts, layer: Layer, place: Place) -> Vec<Finding> {
    if layer == Layer::L0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut block = |sentence: &str| findings.push(Finding::Blocks(sentence.to_owned()));
    if !facts.root {
        block("a node needs root; layer l0 does not");
    } else if !facts.has(CAP_SYS_ADMIN) || !facts.has(CAP_NET_ADMIN) {
        block("root lacks CAP_SYS_ADMIN or CAP_NET_ADMIN here, so it can make no namespaces and no network");
    }
    for (program, from, first) in NEEDED {
        if layer >= first && !facts.programs.contains(&program) {
            block(&format!("`{program}` is missing; install the Debian package {from}"));
        }
    }
    if layer >= Layer::L2 && !CLANGS.iter().any(|clang| facts.programs.contains(clang)) {
        block("clang 18.1 or newer is missing, with which Cilium compiles its eBPF programs; install clang-19");
    }
    if facts.cgroups == CgroupMode::Missing {
        block("no cgroups are mounted under /sys/fs/cgroup");
    }
    if layer >= Layer::L2 {
        for option in facts.missing_options() {
            block(&format!("the kernel was built without {option}, which Cilium needs"));
        }
    }
    for range in [place.link_cidr(), place.pod_cidr(), place.service_cidr()] {
        if let Some(route) = conflicting_route(&facts.routes, &range, &place.interface()) {
            block(&format!("{range} is already routed here (`{route}`); choose another --index"));
        }
    }
    if facts.cgroups == CgroupMode::V2 {
        findings.push(Finding::Note("cgroup version 2 alone is less tried here than version 1".to_owned()));
    }
    if facts.root && !facts.has(CAP_SYS_RESOURCE) {
        findings.push(Finding::Note(
            "root lacks CAP_SYS_RESOURCE: containers run, but none can lower its out-of-memory score".to_owned(),
        ));
    }
    findings
}

/// What stands against a kind cluster on this machine; empty is good.
pub fn assess_kind(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut block = |sentence: &str| findings.push(Finding::Blocks(sentence.to_owned()));
    if !facts.programs.contains(&"kind") {
        block("`kind` is not installed");
    }
    if !["docker", "podman", "nerdctl"].iter().any(|engine| facts.programs.contains(engine)) {
        block("kind needs docker, podman or nerdctl, and none is installed");
    }
    if facts.root && !facts.has(CAP_SYS_RESOURCE) {
        block("kind runs its node as a privileged container, which asks for CAP_SYS_RESOURCE, and root lacks it here");
    }
    findings
}

impl Facts {
    /// Looks at this machine; what cannot be read counts as unknown, not as missing.
    pub fn gather() -> Self {
        let asked = NEEDED.map(|(program, ..)| program).into_iter().chain(CLANGS);
        let asked = asked.chain(["kind", "docker", "podman", "nerdctl"]);
        Self {
            root: rustix::process::geteuid().is_root(),
            capabilities: fs::read_to_string("/proc/self/status").map(|status| effective(&status)).unwrap_or_default(),
            cgroups: CgroupMode::current(),
            programs: asked.filter(|program| find(program).is_some()).collect(),
            kernel: kernel_config(),
            routes: capture(Command::new("ip").args(["-4", "route", "show"])).unwrap_or_default(),
        }
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }

    fn missing_options(&self) -> Vec<&'static str> {
        let Some(kernel) = &self.kernel else { return Vec::new() };
        let set = |option: &str| {
            let option = format!("{option}=");
            kernel.lines().any(|line| line.starts_with(&option))
        };
        KERNEL_OPTIONS.into_iter().filter(|options| !options.split(' ').any(set)).collect()
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Program, Debian package, first layer that needs it.
const NEEDED: [(&str, &str, Layer); 9] = [
    ("unshare", "util-linux", Layer::L1),
    ("nsenter", "util-linux", Layer::L1),
    ("setsid", "util-linux", Layer::L1),
    ("mount", "mount", Layer::L1),
    ("ip", "iproute2", Layer::L1),
    ("iptables", "iptables", Layer::L1),
    ("nft", "nftables", Layer::L1),
    ("conntrack", "conntrack", Layer::L1),
    ("ipset", "ipset", Layer::L2),
];

/// Options that Cilium needs; of several in one line any is enough.
const KERNEL_OPTIONS: [&str; 5] = [
    "CONFIG_NET_CLS_BPF",
    "CONFIG_NET_SCH_INGRESS CONFIG_NET_XGRESS",
    "CONFIG_CGROUP_BPF",
    "CONFIG_BPF_JIT",
    "CONFIG_DEBUG_INFO_BTF",
];

fn effective(status: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default()
}

fn kernel_config() -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(File::open("/proc/config.gz").ok()?).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A route inside `range` that is not our own of an earlier start. A wider route, such as the default, is no conflict.
fn conflicting_route<'a>(routes: &'a str, range: &str, own: &str) -> Option<&'a str> {
    let prefix = match range.split_once('/')? {
        (address, "16") => address.split('.').take(2).collect::<Vec<_>>().join("."),
        (address, _) => address.split('.').take(3).collect::<Vec<_>>().join("."),
    };
    let inside = |route: &&str| {
        let own = route.split_whitespace().any(|word| word == own);
        !own && (route.starts_with(&format!("{prefix}.")))
    };
    routes.lines().map(str::trim).find(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            root: true,
            capabilities: u64::MAX,
            cgroups: CgroupMode::V1,
            programs: NEEDED.map(|(program, ..)| program).into_iter().chain(["clang-19"]).collect(),
            kernel: None,
            routes: "default via 192.0.2.1 dev eth0\n10.0.0.0/8 dev eth0\n".to_owned(),
        }
    }

    fn check(facts: &Facts, layer: Layer, expected: &[&str]) {
        let findings = assess(facts, layer, Place::new(2).unwrap());
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, part) in findings.iter().zip(expected) {
            assert!(finding.to_string().contains(part), "{finding} lacks {part}");
        }
    }

    #[test]
    fn a_good_machine_has_no_findings_and_layer_zero_never_has_any() {
        check(&facts(), Layer::L2, &[]);
        let poor = Facts { root: false, programs: Vec::new(), cgroups: CgroupMode::Missing, ..facts() };
        check(&poor, Layer::L0, &[]);
    }

    #[test]
    fn what_is_missing_is_named() {
        check(&Facts { root: false, ..facts() }, Layer::L1, &["needs root"]);
        check(
            &Facts { capabilities: 0, ..facts() },
            Layer::L1,
            &["CAP_SYS_ADMIN", "note: root lacks CAP_SYS_RESOURCE"],
        );
        check(&Facts { cgroups: CgroupMode::V2, ..facts() }, Layer::L1, &["note: cgroup version 2"]);
        let without = |name: &str| Facts {
            programs: facts().programs.into_iter().filter(|program| *program != name).collect(),
            ..facts()
        };
        check(&without("ipset"), Layer::L1, &[]);
        check(&without("ipset"), Layer::L2, &["`ipset` is missing; install the Debian package ipset"]);
        check(&without("clang-19"), Layer::L2, &["clang 18.1"]);
    }

    #[test]
    fn one_of_several_kernel_options_is_enough() {
        let kernel = "CONFIG_NET_CLS_BPF=y\nCONFIG_NET_XGRESS=y\nCONFIG_CGROUP_BPF=y\n# CONFIG_BPF_JIT is not set\n\
                      CONFIG_DEBUG_INFO_BTF=y\n";
        check(&Facts { kernel: Some(kernel.to_owned()), ..facts() }, Layer::L2, &["without CONFIG_BPF_JIT"]);
    }

    #[test]
    fn a_network_inside_ours_is_a_conflict_unless_it_is_ours() {
        let routes = |line: &str| Facts { routes: line.to_owned(), ..facts() };
        check(&routes("10.102.7.0/24 dev docker0"), Layer::L1, &["10.102.0.0/16 is already routed"]);
        check(&routes("10.250.2.0/24 dev countersign2 proto kernel"), Layer::L1, &[]);
        check(&routes("10.250.20.0/24 dev eth1"), Layer::L1, &[]);
    }

    #[test]
    fn kind_is_refused_with_every_reason() {
        let findings = assess_kind(&Facts { capabilities: !(1 << CAP_SYS_RESOURCE), ..facts() });
        assert_eq!(findings.len(), 3, "{findings:?}");
        let mut able = facts();
        able.programs.extend(["kind", "docker"]);
        assert_eq!(assess_kind(&able), []);
    }
}
