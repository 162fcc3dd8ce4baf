//! Where the demo plays: a cluster of its own, one made by kind, or one that is there already.
//!
//! Makes the cluster, brings images into it and takes everything away again. Never looks at an ambient kubeconfig.

use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::stage::OPERATOR;
use super::timeline::Timeline;
use super::{build, install};
use crate::cache::Cache;
use crate::cluster;
use crate::cluster::env::{self, Env, ImageLoader};
use crate::cluster::kubectl::Kubectl;
use crate::cluster::place::{Layer, Place, Run};
use crate::files;
use crate::process::{capture, find};

/// Index of the demo's own cluster; people use the lower ones, the tests the next.
pub const INDEX: u8 = 8;

/// Which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// One of our own, made and ended by the demo
    Own,
    /// One made and ended by kind
    Kind,
    /// One that exists and stays
    Existing(PathBuf),
}

/// Name of the kind cluster.
const KIND: &str = "countersign-demo";

/// The place of the demo's own cluster; its run folder also holds OpenBao's state for the others.
pub fn place() -> Result<Place> {
    Place::new(INDEX).context("there is no cluster of that number")
}

impl Site {
    /// Fails, with every reason, where this machine cannot play there. Cheap: asked before anything is built.
    pub fn ensure(&self) -> Result<()> {
        match self {
            Self::Own => cluster::ensure(Layer::L2, place()?),
            Self::Kind => cluster::ensure_kind(),
            Self::Existing(file) if file.is_file() => Ok(()),
            Self::Existing(file) => bail!("{} is not a file", file.display()),
        }
    }

    /// Builds, or only fetches, the programs that are needed there.
    pub fn build(&self, cache: &Cache, timeline: Timeline) -> Result<()> {
        match self {
            Self::Own => build::programs(cache, Layer::L2, timeline),
            Self::Kind | Self::Existing(_) => cluster::fetch_tools(cache),
        }
    }

    /// Starts the cluster, or finds it, and says what there is. An own cluster that was left running is ended first.
    pub fn start(&self, cache: &Cache) -> Result<Env> {
        let place = place()?;
        let run = Run::new(cache, place);
        if run.dir().exists() {
            cluster::stop(cache, place)?;
        }
        match self {
            Self::Own => {
                cluster::start(cache, Layer::L2, place)?;
                Env::read(&run.env())
            }
            Self::Kind => {
                prepare_folders(&run)?;
                let kubeconfig = run.dir().join("kind.kubeconfig");
                let mut create = kind()?;
                create.args(["create", "cluster", "--name", KIND, "--wait", "180s", "--kubeconfig"]).arg(&kubeconfig);
                capture(&mut create).context("kind cannot make a cluster")?;
                describe(&kubeconfig, cache)
            }
            Self::Existing(file) => {
                prepare_folders(&run)?;
                let env = match own_cluster(file, cache) {
                    Some(env) => env,
                    None => describe(file, cache)?,
                };
                refuse_used(&Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), run.dir()))?;
                Ok(env)
            }
        }
    }

    /// Loads an image tar.
    pub fn load(&self, env: &Env, image: &Path) -> Result<()> {
        match (env.image_loader, &env.programs.ctr) {
            (ImageLoader::Ctr, Some(ctr)) => {
                // By standard input: the node does not see all of the host's folders.
                let file = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
                let mut import = Command::new(ctr);
                import.args(["images", "import", "--local", "-"]).stdin(Stdio::from(file));
                let output = import.output().context("cannot start ctr")?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("cannot load {}: {}", image.display(), said.trim());
                }
                Ok(())
            }
            (ImageLoader::Kind, _) => {
                let name = if *self == Self::Kind { KIND.to_owned() } else { kind_name(env)? };
                let mut load = kind()?;
                load.args(["load", "image-archive", "--name", &name]).arg(image);
                capture(&mut load).context("kind cannot load an image").map(drop)
            }
            (ImageLoader::Ctr | ImageLoader::None, _) => bail!(
                "the demo cannot bring its images into this cluster, only into its own and into kind's; \
                 docs/tutorials/first-certificate.md is the way for any other"
            ),
        }
    }

    /// Takes away what the demo made; `env` is what [`Site::start`] returned, if it came so far.
    pub fn end(&self, cache: &Cache, env: Option<&Env>) -> Result<()> {
        let place = place()?;
        let run = Run::new(cache, place);
        match (self, env) {
            (Self::Own, _) | (Self::Existing(_), None) => {}
            (Self::Kind, _) => {
                let mut delete = kind()?;
                delete.args(["delete", "cluster", "--name", KIND, "--kubeconfig"]);
                capture(delete.arg(run.dir().join("kind.kubeconfig"))).context("kind cannot end its cluster")?;
            }
            (Self::Existing(_), Some(env)) => install::remove(env, &run)?,
        }
        cluster::stop(cache, place)
    }
}

/// The description of a cluster of ours that has this kubeconfig.
fn own_cluster(kubeconfig: &Path, cache: &Cache) -> Option<Env> {
    let file = kubeconfig.canonicalize().ok()?;
    let runs = (0..=Place::LAST).filter_map(Place::new).map(|place| Run::new(cache, place));
    let run = runs.into_iter().find(|run| run.kubeconfig().canonicalize().is_ok_and(|path| path == file))?;
    Env::read(&run.env()).ok()
}

/// Asks an existing cluster what it is, and by which address its pods reach this machine.
fn describe(kubeconfig: &Path, cache: &Cache) -> Result<Env> {
    let mut env = env::external(kubeconfig, cache)?;
    if !env.capabilities.contains("node") {
        bail!("the cluster has no node that is ready");
    }
    let kubectl = Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), &env.logs);
    env.host_address = Some(address_towards(&kubectl.json(&["get", "nodes"])?)?.to_string());
    Ok(env)
}

/// This machine's address on the way to the first node: where pods of that node reach it. Sends nothing.
fn address_towards(nodes: &Value) -> Result<IpAddr> {
    let node = node_address(nodes).context("no node of the cluster has an internal address")?;
    let unspecified: IpAddr = if node.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((unspecified, 0)).context("no socket")?;
    socket.connect((node, 9)).with_context(|| format!("this machine has no way to the node {node}"))?;
    Ok(socket.local_addr().context("no address")?.ip())
}

fn node_address(nodes: &Value) -> Option<IpAddr> {
    let addresses = nodes.pointer("/items/0/status/addresses").and_then(Value::as_array)?;
    let internal = addresses.iter().find(|address| address.get("type") == Some(&"InternalIP".into()))?;
    internal.get("address").and_then(Value::as_str)?.parse().ok()
}

/// What the demo makes, it also removes; so it does not start where somebody else has made it.
fn refuse_used(kubectl: &Kubectl) -> Result<()> {
    for namespace in [OPERATOR, "shop", "payments", "quickstart"] {
        if kubectl.succeeds(&["get", "namespace", namespace]) {
            bail!("the namespace {namespace} exists; the demo makes and removes it, so it does not start here");
        }
    }
    if kubectl.succeeds(&["get", "crd", "serviceidentities.countersign.dev"]) {
        bail!("countersign is installed in this cluster; the demo would remove it, so it does not start here");
    }
    Ok(())
}

fn prepare_folders(run: &Run) -> Result<()> {
    [run.pids(), run.guests(), run.logs()].iter().try_for_each(files::create_folder)
}

fn kind() -> Result<Command> {
    Ok(Command::new(find("kind").context("`kind` is not installed")?))
}

/// The name of the kind cluster that a node belongs to, from `kind://<engine>/<name>/<node>`.
fn kind_name(env: &Env) -> Result<String> {
    let kubectl = Kubectl::new(env.programs.kubectl.clone(), env.kubeconfig.clone(), &env.logs);
    let id = kubectl.text(&["get", "nodes", "-o", "jsonpath={.items[0].spec.providerID}"])?;
    id.strip_prefix("kind://").and_then(|id| id.split('/').nth(1)).map(str::to_owned).context("not a node of kind")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_address_is_that_of_the_way_to_the_node() {
        let nodes = |kind: &str| {
            json!({"items": [{"status": {"addresses": [
                {"type": "Hostname", "address": "n"}, {"type": kind, "address": "127.0.0.7"}]}}]})
        };
        assert_eq!(address_towards(&nodes("InternalIP")).unwrap(), IpAddr::from([127, 0, 0, 1]));
        assert!(address_towards(&nodes("ExternalIP")).is_err());
        assert!(address_towards(&json!({"items": []})).is_err());
    }

    #[test]
    fn a_kubeconfig_that_is_no_file_is_refused_before_anything_is_built() {
        assert!(Site::Existing("/no/such/file".into()).ensure().is_err());
    }
}
