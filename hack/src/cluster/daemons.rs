//! The daemons of a cluster: name, command line, health check and patience of each.
//!
//! Pure: renders arguments, starts nothing. `up.rs` decides the order, `launch.rs` starts and watches.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::place::{Layer, NODE, Place, Run};
use crate::process::SEARCH_PATH;

/// Everything the command lines are derived from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Addresses and names
    pub place: Place,
    /// How much is started
    pub layer: Layer,
    /// Where state lies
    pub run: Run,
    /// Where the programs lie
    pub bin: PathBuf,
    /// Ports of the control plane
    pub ports: Ports,
}

/// Ports that the control plane listens on.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// API server
    pub api: u16,
    etcd: u16,
    etcd_peer: u16,
    controller_manager: u16,
}

impl Ports {
    /// The usual ones: a node has a network of its own.
    pub const USUAL: Self = Self { api: 6443, etcd: 2379, etcd_peer: 2380, controller_manager: 10257 };

    /// Ports of the host's loopback that are free now.
    pub fn free() -> Result<Self> {
        // All four are held at once, or the system might hand out one of them twice.
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on loopback");
        let (api, etcd, etcd_peer, controller_manager) = (listen()?, listen()?, listen()?, listen()?);
        let port = |listener: &TcpListener| Ok::<u16, std::io::Error>(listener.local_addr()?.port());
        Ok(Self {
            api: port(&api)?,
            etcd: port(&etcd)?,
            etcd_peer: port(&etcd_peer)?,
            controller_manager: port(&controller_manager)?,
        })
    }
}

impl Plan {
    /// Where the API server listens: the node's own address, because the endpoints of the Service `kubernetes`
    /// may not be loopback; loopback where there is no node.
    pub fn api_address(&self) -> Ipv4Addr {
        if self.has_node() { self.place.node_address() } else { Ipv4Addr::LOCALHOST }
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        format!("https://{}:{}", self.api_address(), self.ports.api)
    }

    /// Whether pods can run.
    pub fn has_node(&self) -> bool {
        self.layer >= Layer::L1
    }

    fn pki(&self, file: &str) -> String {
        self.run.pki().join(file).display().to_string()
    }

    fn config(&self, file: &str) -> String {
        self.run.config().join(file).display().to_string()
    }

    fn state(&self, folder: &str) -> String {
        self.run.dir().join(folder).display().to_string()
    }
}

/// A program to start and how to see that it works.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Name of its log and record; equal to the program's
    pub name: &'static str,
    /// Arguments
    pub args: Vec<String>,
    /// Its whole environment: nothing of the caller's proxies or kubeconfigs leaks in
    pub env: Vec<(&'static str, String)>,
    /// What must hold before it counts as up
    pub health: Health,
    /// How long to wait for that
    pub timeout: Duration,
}

/// A condition that shows a daemon working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It listens on this TCP port of its own network namespace
    Port(u16),
    /// It listens on this unix socket
    Socket(&'static str),
    /// It has written this file
    File(PathBuf),
    /// The API server says it is ready
    ApiReady,
}

impl Daemon {
    fn new(plan: &Plan, name: &'static str, health: Health, args: Vec<String>) -> Self {
        let env = vec![("PATH", format!("{}:{SEARCH_PATH}", plan.bin.display())), ("HOME", plan.state(""))];
        Self { name, args, env, health, timeout: Duration::from_secs(60) }
    }
}

/// The container socket, in the node's own `/run`.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// etcd on loopback, without fsync: a test cluster may lose its state with the machine, not its speed.
pub fn etcd(plan: &Plan) -> Daemon {
    let client = format!("http://127.0.0.1:{}", plan.ports.etcd);
    let peer = format!("http://127.0.0.1:{}", plan.ports.etcd_peer);
    let args = flags(&[
        ("name", NODE),
        ("data-dir", &plan.state("etcd")),
        ("listen-client-urls", &client),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &format!("{NODE}={peer}")),
        ("unsafe-no-fsync", "true"),
        ("log-level", "warn"),
    ]);
    Daemon::new(plan, "etcd", Health::Port(plan.ports.etcd), args)
}

/// containerd; its settings are in `containerd.toml`.
pub fn containerd(plan: &Plan) -> Daemon {
    let args = flags(&[("config", &plan.config("containerd.toml"))]);
    Daemon::new(plan, "containerd", Health::Socket(CONTAINERD_SOCKET), args)
}

/// kube-apiserver with a request log of metadata.
pub fn api_server(plan: &Plan) -> Daemon {
    let address = plan.api_address().to_string();
    let mut args = flags(&[
        ("bind-address", &address),
        ("advertise-address", &address),
        ("secure-port", &plan.ports.api.to_string()),
        ("etcd-servers", &format!("http://127.0.0.1:{}", plan.ports.etcd)),
        ("service-cluster-ip-range", &plan.place.service_cidr()),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("allow-privileged", "true"),
        ("profiling", "false"),
        ("audit-policy-file", &plan.config("audit.yaml")),
        ("audit-log-path", &plan.run.audit_log().display().to_string()),
        ("client-ca-file", &plan.pki("ca.crt")),
        ("tls-cert-file", &plan.pki("apiserver.crt")),
        ("tls-private-key-file", &plan.pki("apiserver.key")),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
        ("service-account-key-file", &plan.pki("sa.pub")),
        ("service-account-signing-key-file", &plan.pki("sa.key")),
        ("requestheader-client-ca-file", &plan.pki("front-proxy-ca.crt")),
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("proxy-client-cert-file", &plan.pki("front-proxy-client.crt")),
        ("proxy-client-key-file", &plan.pki("front-proxy-client.key")),
    ]);
    if plan.has_node() {
        args.extend(flags(&[
            ("kubelet-client-certificate", &plan.pki("apiserver-kubelet-client.crt")),
            ("kubelet-client-key", &plan.pki("apiserver-kubelet-client.key")),
            ("kubelet-certificate-authority", &plan.pki("ca.crt")),
            ("kubelet-preferred-address-types", "InternalIP"),
        ]));
    } else {
        // Loopback may not be an endpoint, and without pods nobody uses the Service `kubernetes`.
        args.extend(flags(&[("endpoint-reconciler-type", "none")]));
    }
    Daemon::new(plan, "kube-apiserver", Health::ApiReady, args)
}

/// kube-controller-manager: garbage collection, namespaces, tokens, workloads.
pub fn controller_manager(plan: &Plan) -> Daemon {
    let mut args = flags(&[
        ("secure-port", &plan.ports.controller_manager.to_string()),
        ("service-cluster-ip-range", &plan.place.service_cidr()),
        ("use-service-account-credentials", "true"),
        ("service-account-private-key-file", &plan.pki("sa.key")),
        ("root-ca-file", &plan.pki("ca.crt")),
        ("cluster-signing-cert-file", &plan.pki("ca.crt")),
        ("cluster-signing-key-file", &plan.pki("ca.key")),
        ("requestheader-client-ca-file", &plan.pki("front-proxy-ca.crt")),
    ]);
    args.extend(api_client(plan, "controller-manager"));
    if plan.has_node() {
        args.extend(flags(&[("cluster-cidr", &plan.place.pod_cidr()), ("allocate-node-cidrs", "true")]));
    }
    Daemon::new(plan, "kube-controller-manager", Health::Port(plan.ports.controller_manager), args)
}

/// kube-scheduler.
pub fn scheduler(plan: &Plan) -> Daemon {
    Daemon::new(plan, "kube-scheduler", Health::Port(10259), api_client(plan, "scheduler"))
}

/// The kubelet; its settings are in `kubelet.yaml`.
pub fn kubelet(plan: &Plan) -> Daemon {
    let args = flags(&[
        ("config", &plan.config("kubelet.yaml")),
        ("kubeconfig", &plan.pki("kubelet.kubeconfig")),
        ("hostname-override", NODE),
        ("node-ip", &plan.place.node_address().to_string()),
        ("root-dir", &plan.state("kubelet")),
        ("cert-dir", &plan.state("kubelet/pki")),
    ]);
    Daemon::new(plan, "kubelet", Health::Port(10250), args)
}

/// kube-proxy; its settings are in `kube-proxy.yaml`.
pub fn kube_proxy(plan: &Plan) -> Daemon {
    let args = flags(&[("config", &plan.config("kube-proxy.yaml"))]);
    Daemon::new(plan, "kube-proxy", Health::Port(10256), args)
}

/// The Cilium agent as a plain process; its settings are one file a key in `cilium/config`.
pub fn cilium_agent(plan: &Plan) -> Daemon {
    let args = flags(&[("config-dir", &plan.state("cilium/config"))]);
    let written = plan.run.dir().join("cilium/cni/05-cilium.conflist");
    let mut daemon = Daemon::new(plan, "cilium-agent", Health::File(written), args);
    daemon.timeout = Duration::from_secs(180);
    // The agent compiles its eBPF programs with whatever is called `clang`.
    daemon.env = vec![
        ("PATH", format!("{}:{}:{SEARCH_PATH}", plan.state("cilium/clang"), plan.bin.display())),
        ("HOME", plan.state("")),
        ("K8S_NODE_NAME", NODE.to_owned()),
        ("CILIUM_K8S_NAMESPACE", "kube-system".to_owned()),
        ("KUBERNETES_SERVICE_HOST", plan.api_address().to_string()),
        ("KUBERNETES_SERVICE_PORT", plan.ports.api.to_string()),
    ];
    daemon
}

/// What every leaderless client of the API server is told.
fn api_client(plan: &Plan, credential: &str) -> Vec<String> {
    let kubeconfig = plan.pki(&format!("{credential}.kubeconfig"));
    flags(&[
        ("kubeconfig", &kubeconfig),
        ("authentication-kubeconfig", &kubeconfig),
        ("authorization-kubeconfig", &kubeconfig),
        ("bind-address", "127.0.0.1"),
        ("leader-elect", "false"),
        ("kube-api-qps", "200"),
        ("kube-api-burst", "400"),
    ])
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cache::CacheArgs;

    /// A plan of cluster 3 below `/c`.
    pub fn plan(layer: Layer) -> Plan {
        let cache = <CacheArgs as clap::FromArgMatches>::from_arg_matches(
            &<CacheArgs as clap::Args>::augment_args(clap::Command::new("test"))
                .get_matches_from(["test", "--cache", "/c"]),
        );
        let place = Place::new(3).unwrap();
        let run = Run::new(&cache.unwrap().resolve().unwrap(), place);
        Plan { place, layer, run, bin: "/programs/bin".into(), ports: Ports::USUAL }
    }

    fn all(plan: &Plan) -> Vec<Daemon> {
        [etcd, containerd, api_server, controller_manager, scheduler, kubelet, kube_proxy, cilium_agent]
            .map(|daemon| daemon(plan))
            .to_vec()
    }

    #[test]
    fn without_a_node_everything_listens_on_loopback() {
        let plan = plan(Layer::L0);
        for daemon in [etcd(&plan), api_server(&plan), controller_manager(&plan)] {
            let listens: Vec<&String> = daemon
                .args
                .iter()
                .filter(|arg| arg.contains("bind-address=") || arg.contains("listen-") || arg.contains("advertise-"))
                .collect();
            assert!(!listens.is_empty() && listens.iter().all(|arg| arg.contains("127.0.0.1")), "{listens:?}");
        }
        assert!(api_server(&plan).args.contains(&"--endpoint-reconciler-type=none".to_owned()));
    }

    #[test]
    fn a_node_has_its_own_addresses_and_every_path_is_its_own() {
        let plan = plan(Layer::L2);
        assert!(api_server(&plan).args.contains(&"--bind-address=10.250.3.2".to_owned()));
        assert!(controller_manager(&plan).args.contains(&"--cluster-cidr=10.103.0.0/16".to_owned()));
        for daemon in all(&plan) {
            for path in daemon.args.iter().filter_map(|arg| arg.split_once("=/")).map(|(_, path)| path) {
                assert!(path.starts_with("c/run/3/"), "{}: {path}", daemon.name);
            }
        }
    }

    #[test]
    fn no_flag_is_given_twice() {
        for daemon in all(&plan(Layer::L2)) {
            let mut names: Vec<&str> =
                daemon.args.iter().filter_map(|arg| arg.split_once('=')).map(|(name, _)| name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", daemon.name);
        }
    }
}
