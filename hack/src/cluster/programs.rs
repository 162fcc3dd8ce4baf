//! Which programs a cluster is made of, where each comes from, and the folder they lie in.
//!
//! The tables are data; `build.rs` carries them out. Versions are in `hack/cluster/go/*/go.mod` and `hack/cluster/wheels.txt`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::place::Layer;
use crate::cache::{Cache, repository};
use crate::process::capture;

/// A wrapper module under `hack/cluster/go` and the flags of everything built from it.
///
/// Flags are the same for all programs of a module: with any difference the Go build cache is missed and all compiles again.
#[derive(Debug)]
pub struct GoSet {
    /// Folder name
    pub dir: &'static str,
    /// Whether C code is linked in
    pub cgo: bool,
    /// Build tags
    pub tags: &'static str,
    /// Linker flags beyond `-s -w`
    pub ldflags: &'static str,
}

/// One program of a [`GoSet`].
#[derive(Debug)]
pub struct GoProgram {
    /// Path below `bin/`
    pub output: &'static str,
    /// Go package
    pub package: &'static str,
    /// Module and flags
    pub set: &'static GoSet,
    /// The first layer that needs it
    pub layer: Layer,
}

/// Programs that come from wheels, for every layer.
pub const WHEEL_PROGRAMS: [&str; 3] = ["kubectl", "helm", "bao"];

const ETCD: GoSet = GoSet { dir: "etcd", cgo: true, tags: "", ldflags: "" };
const KUBERNETES: GoSet = GoSet {
    dir: "k8s",
    cgo: true,
    tags: "",
    ldflags: "-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 \
              -X k8s.io/component-base/version.gitMinor=37",
};
const CONTAINERD: GoSet = GoSet {
    dir: "containerd",
    cgo: true,
    tags: "no_btrfs no_devmapper no_zfs",
    ldflags: "-X github.com/containerd/containerd/v2/version.Version=v2.4.2",
};
const RUNC: GoSet = GoSet { dir: "runc", cgo: true, tags: "seccomp", ldflags: "-X main.version=1.5.2" };
const CNI: GoSet = GoSet { dir: "cni", cgo: true, tags: "", ldflags: "" };
const COREDNS: GoSet = GoSet { dir: "coredns", cgo: false, tags: "", ldflags: "" };
/// Cilium's wrapper module; its sources also hold the eBPF programs, CRDs and chart.
pub const CILIUM: GoSet = GoSet {
    dir: "cilium",
    cgo: false,
    tags: "osusergo",
    ldflags: "-X github.com/cilium/cilium/pkg/version.ciliumVersion=1.20.2",
};

const fn go(layer: Layer, set: &'static GoSet, output: &'static str, package: &'static str) -> GoProgram {
    GoProgram { output, package, set, layer }
}

/// Every Go program, in the order in which they are built.
pub const GO_PROGRAMS: [GoProgram; 17] = [
    go(Layer::L0, &ETCD, "etcd", "go.etcd.io/etcd/server/v3"),
    go(Layer::L0, &KUBERNETES, "kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    go(Layer::L0, &KUBERNETES, "kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    go(Layer::L1, &KUBERNETES, "kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    go(Layer::L1, &KUBERNETES, "kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    go(Layer::L1, &KUBERNETES, "kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    go(Layer::L1, &CONTAINERD, "containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    go(
        Layer::L1,
        &CONTAINERD,
        "containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    ),
    go(Layer::L1, &CONTAINERD, "ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    go(Layer::L1, &RUNC, "runc", "github.com/opencontainers/runc"),
    go(Layer::L1, &CNI, "cni/loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
    go(Layer::L1, &CNI, "cni/bridge", "github.com/containernetworking/plugins/plugins/main/bridge"),
    go(Layer::L1, &CNI, "cni/host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    go(Layer::L1, &CNI, "cni/portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
    go(Layer::L1, &COREDNS, "coredns", "."),
    go(Layer::L2, &CILIUM, "cilium-agent", "github.com/cilium/cilium/daemon"),
    go(Layer::L2, &CILIUM, "cni/cilium-cni", "github.com/cilium/cilium/plugins/cilium-cni"),
];

/// The images a node starts with, as names of tars below `images/`.
pub const NODE_IMAGES: [&str; 3] = ["pause", "coredns", "busybox"];

/// The folder of one content key.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The folder for what this clone asks for, built or not; needs Go, whose version is part of the key.
    pub fn locate(cache: &Cache) -> Result<Self> {
        let version = capture(Command::new("go").arg("version").env("GOTOOLCHAIN", "local"))
            .context("the cluster's programs are built with Go; install Go 1.26.6 or newer")?;
        let key = content_key(&sources(&repository().join("hack/cluster"))?, version.trim());
        Ok(Self { dir: cache.programs().join(key) })
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the programs lie.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin().join(name)
    }

    /// The path of one node image's tar.
    pub fn image(&self, name: &str) -> PathBuf {
        self.dir.join("images").join(format!("{name}.tar"))
    }

    /// What `up` needs of Cilium besides its programs: CRDs, agent settings, eBPF sources.
    pub fn cilium(&self) -> PathBuf {
        self.dir.join("cilium")
    }

    /// Fails with the names of what is missing and the command that builds it.
    pub fn require(&self, layer: Layer) -> Result<()> {
        let missing: Vec<String> = self
            .wanted(layer)
            .into_iter()
            .filter(|path| !path.exists())
            .map(|path| path.strip_prefix(&self.dir).unwrap_or(&path).display().to_string())
            .collect();
        if !missing.is_empty() {
            let layer = layer.to_string().to_lowercase();
            bail!("not built yet: {}; run `cargo xtask cluster build --layer {layer}`", missing.join(", "));
        }
        Ok(())
    }

    /// Like [`Programs::require`], for what an existing cluster is worked on with.
    pub fn require_wheels(&self) -> Result<()> {
        if !WHEEL_PROGRAMS.iter().all(|name| self.program(name).exists()) {
            bail!("kubectl, Helm and OpenBao are missing; run `cargo xtask cluster build --layer l0`");
        }
        Ok(())
    }

    fn wanted(&self, layer: Layer) -> Vec<PathBuf> {
        let go = GO_PROGRAMS.iter().filter(|program| program.layer <= layer).map(|program| program.output);
        let mut wanted: Vec<PathBuf> = WHEEL_PROGRAMS.into_iter().chain(go).map(|name| self.program(name)).collect();
        if layer >= Layer::L1 {
            wanted.extend(NODE_IMAGES.map(|name| self.image(name)));
        }
        if layer >= Layer::L2 {
            wanted.push(self.cilium());
        }
        wanted
    }
}

/// Names the outcome of a build: equal for equal sources, flags and Go version, different otherwise.
fn content_key(sources: &[(String, Vec<u8>)], go_version: &str) -> String {
    let mut flags = String::new();
    for program in &GO_PROGRAMS {
        // Writing to a String cannot fail.
        let _ = writeln!(flags, "{program:?}");
    }
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(go_version.as_bytes());
    part(flags.as_bytes());
    for (name, content) in sources {
        part(name.as_bytes());
        part(content);
    }
    HEXLOWER.encode(hash.finalize().get(..8).unwrap_or_default())
}

/// Every file that decides what is built, with its path below `top`, sorted.
fn sources(top: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![("node_images.rs".to_owned(), include_bytes!("node_images.rs").to_vec())];
    let mut folders = vec![top.join("go"), top.join("pause")];
    let mut paths = vec![top.join("wheels.txt"), top.join("conf/cilium-values.yaml")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    for path in paths {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path.strip_prefix(top).unwrap_or(&path).display().to_string(), content));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, content: &str, go: &str) -> String {
        content_key(&[(name.into(), content.into())], go)
    }

    #[test]
    fn the_key_follows_names_contents_and_go() {
        let base = key("a/go.mod", "x", "go1");
        assert_eq!(base, key("a/go.mod", "x", "go1"));
        assert_eq!(base.len(), 16);
        for other in [key("a/go.mo", "dx", "go1"), key("a/go.mod", "y", "go1"), key("a/go.mod", "x", "go2")] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn every_module_and_every_lock_is_part_of_the_key() {
        let names: Vec<String> =
            sources(&repository().join("hack/cluster")).unwrap().into_iter().map(|(name, _)| name).collect();
        for program in &GO_PROGRAMS {
            for file in ["go.mod", "go.sum"] {
                let name = format!("go/{}/{file}", program.set.dir);
                assert!(names.contains(&name), "{name}");
            }
        }
        assert!(names.contains(&"wheels.txt".to_owned()));
        assert!(names.is_sorted());
    }

    #[test]
    fn a_missing_program_is_named_with_its_command() {
        let programs = Programs { dir: "/nonexistent".into() };
        let error = programs.require(Layer::L0).unwrap_err().to_string();
        assert!(error.contains("bin/kube-apiserver") && error.ends_with("--layer l0`"), "{error}");
        assert!(!error.contains("kubelet"), "{error}");
    }
}
