//! Cilium's agent as a plain process of the node: without operator, Envoy or DaemonSet.
//!
//! `build.rs` has put its CRDs, chart settings and eBPF sources aside; here they are fitted to one cluster.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::daemons::Plan;
use super::kubectl::Kubectl;
use super::programs::Programs;
use crate::files;
use crate::process::find;

/// Names under which a clang that can compile Cilium's eBPF programs (18.1 or newer) is installed.
pub const CLANGS: [&str; 3] = ["clang-19", "clang-20", "clang-18"];

/// Registers Cilium's kinds.
pub fn apply_crds(kubectl: &Kubectl, programs: &Programs) -> Result<()> {
    let crds = files::read(programs.cilium().join("crds.yaml"))?;
    kubectl.apply(&crds).context("cannot register Cilium's kinds")
}

/// Writes the agent's settings, one file a key, and links what it compiles and with what.
pub fn write_settings(plan: &Plan, programs: &Programs) -> Result<()> {
    let dir = plan.run.dir().join("cilium");
    if dir.exists() {
        files::remove(&dir)?;
    }
    for folder in ["config", "cni", "lib", "clang"] {
        files::create_folder(dir.join(folder))?;
    }
    let chart = files::read(programs.cilium().join("configmap.yaml"))?;
    for (key, value) in settings(&chart, plan)? {
        files::write(dir.join("config").join(&key), value)?;
    }
    let clang = CLANGS.into_iter().find_map(find).context("clang 18.1 or newer is not installed")?;
    link(&clang, &dir.join("clang/clang"))?;
    link(&programs.cilium().join("bpf"), &dir.join("lib/bpf"))
}

/// Hands the agent's network configuration to containerd. A copy: containerd misses the atomic rename of the agent's own write.
pub fn publish_cni(plan: &Plan) -> Result<()> {
    let dir = plan.run.dir();
    fs::copy(dir.join("cilium/cni/05-cilium.conflist"), dir.join("cni.d/05-cilium.conflist"))
        .context("cannot copy Cilium's network configuration")
        .map(drop)
}

/// The chart's settings with those of this cluster in their place.
fn settings(chart: &str, plan: &Plan) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct ConfigMap {
        data: BTreeMap<String, String>,
    }
    let ConfigMap { mut data } = serde_saphyr::from_str(chart).context("Cilium's chart rendered no ConfigMap")?;
    let dir = plan.run.dir();
    let path = |name: &str| dir.join(name).display().to_string();
    for (key, value) in [
        ("ipv4-native-routing-cidr", plan.place.pod_cidr()),
        ("write-cni-conf-when-ready", path("cilium/cni/05-cilium.conflist")),
        ("cni-log-file", path("logs/cilium-cni.log")),
        ("k8s-kubeconfig-path", plan.run.kubeconfig().display().to_string()),
        ("lib-dir", path("cilium/lib")),
        ("state-dir", "/run/cilium".to_owned()),
        ("cgroup-root", "/run/cilium/cgroupv2".to_owned()),
        ("procfs", "/proc".to_owned()),
        // An ipBlock may match the node's own addresses, as on other networks.
        ("policy-cidr-match-mode", "nodes".to_owned()),
        ("auto-create-cilium-node-resource", "true".to_owned()),
        ("bpf-map-dynamic-size-ratio", "0.0025".to_owned()),
        ("agent-health-port", "9879".to_owned()),
        ("gops-port", "0".to_owned()),
        ("enable-policy-secrets-sync", "false".to_owned()),
        ("enable-metrics", "false".to_owned()),
        ("prometheus-serve-addr", String::new()),
    ] {
        data.insert(key.to_owned(), value);
    }
    data.remove("ipv4-range");
    Ok(data)
}

fn link(target: &Path, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::daemons::tests::plan;
    use super::super::place::Layer;
    use super::*;

    #[test]
    fn the_cluster_overrides_the_chart_and_the_rest_stays() {
        let chart = "---\n# Source: x\nkind: ConfigMap\ndata:\n  ipv4-range: auto\n  routing-mode: \"native\"\n  \
                     ipv4-native-routing-cidr: 10.0.0.0/8\n";
        let settings = settings(chart, &plan(Layer::L2)).unwrap();
        assert_eq!(settings["routing-mode"], "native");
        assert_eq!(settings["ipv4-native-routing-cidr"], "10.103.0.0/16");
        assert_eq!(settings["k8s-kubeconfig-path"], "/c/run/3/pki/admin.kubeconfig");
        assert!(!settings.contains_key("ipv4-range"));
    }
}
