//! Which cluster: its layer, and everything that is derived from its index, so that several live side by side.
//!
//! Pure names and paths; touches nothing. Used by every module of the cluster.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::cache::Cache;

/// How much of a cluster is started; each layer contains the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Layer {
    /// etcd, API server and controller manager on loopback; needs no root
    L0,
    /// A whole node with the bridge CNI, which enforces no NetworkPolicy
    L1,
    /// A whole node with Cilium, which enforces NetworkPolicy
    L2,
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        })
    }
}

/// Addresses and names of cluster number `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    index: u8,
}

impl Place {
    /// The largest index: the address ranges below stay apart up to here.
    pub const LAST: u8 = 15;

    /// `None` beyond [`Place::LAST`].
    pub fn new(index: u8) -> Option<Self> {
        (index <= Self::LAST).then_some(Self { index })
    }

    /// 0 to [`Place::LAST`].
    pub fn index(self) -> u8 {
        self.index
    }

    /// The host's end of the link to the node; pods reach the host here and nothing beyond it.
    pub fn host_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.index, 1)
    }

    /// The node's address: kubelet and API server.
    pub fn node_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.index, 2)
    }

    /// The network of both.
    pub fn link_cidr(self) -> String {
        format!("10.250.{}.0/24", self.index)
    }

    /// Addresses of pods.
    pub fn pod_cidr(self) -> String {
        format!("10.{}.0.0/16", 100 + self.index)
    }

    /// The only node's share of [`Place::pod_cidr`].
    pub fn node_pod_cidr(self) -> String {
        format!("10.{}.0.0/24", 100 + self.index)
    }

    /// Addresses of Services.
    pub fn service_cidr(self) -> String {
        format!("10.{}.0.0/16", 120 + self.index)
    }

    /// The Service `kubernetes`.
    pub fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 120 + self.index, 0, 1)
    }

    /// The Service of the cluster's DNS server.
    pub fn dns_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 120 + self.index, 0, 10)
    }

    /// The host's network interface towards the node.
    pub fn interface(self) -> String {
        format!("countersign{}", self.index)
    }

    /// The cgroup above everything the kubelet starts.
    pub fn cgroup(self) -> String {
        format!("countersign-{}", self.index)
    }
}

/// Name of the only node.
pub const NODE: &str = "node1";

/// The folder of one cluster's state.
#[derive(Debug, Clone)]
pub struct Run {
    dir: PathBuf,
}

impl Run {
    /// The folder of cluster `place`; it need not exist.
    pub fn new(cache: &Cache, place: Place) -> Self {
        Self { dir: cache.run().join(place.index().to_string()) }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One file a process: its id and start time.
    pub fn pids(&self) -> PathBuf {
        self.dir.join("pids")
    }

    /// Like [`Run::pids`], for processes that run beside the cluster and end with it, such as OpenBao.
    pub fn guests(&self) -> PathBuf {
        self.dir.join("guests")
    }

    /// One file a process: what it printed, and the audit log.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The log of one process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Keys, certificates and kubeconfigs of the control plane.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Rendered configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki().join("admin.kubeconfig")
    }

    /// Every request's metadata, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    /// What tests are told about the cluster.
    pub fn env(&self) -> PathBuf {
        self.dir.join("env.json")
    }

    /// The layer this folder's state belongs to.
    pub fn layer(&self) -> PathBuf {
        self.dir.join("layer")
    }

    /// State of OpenBao.
    pub fn openbao(&self) -> PathBuf {
        self.dir.join("openbao")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_clusters_share_a_network_a_name_or_a_group() {
        let places: Vec<Place> = (0..=Place::LAST).map(|index| Place::new(index).unwrap()).collect();
        let names = |place: &Place| {
            [place.link_cidr(), place.pod_cidr(), place.service_cidr(), place.interface(), place.cgroup()]
        };
        let all: HashSet<String> = places.iter().flat_map(names).collect();
        assert_eq!(all.len(), places.len() * 5);
        assert_eq!(Place::new(Place::LAST + 1), None);
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        assert!(Place::new(Place::LAST).unwrap().interface().len() <= 15);
    }
}
