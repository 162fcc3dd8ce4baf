//! `cargo xtask cluster up`: the order in which a cluster starts.
//!
//! Every step waits for a condition with a deadline. A start that fails ends what it had started and keeps the logs.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::daemons::{CONTAINERD_SOCKET, Plan, Ports};
use super::env::Env;
use super::kubectl::Kubectl;
use super::launch::{Launch, Site, Started};
use super::place::{Layer, NODE, Place, Run};
use super::programs::{NODE_IMAGES, Programs};
use super::status::State;
use super::{cilium, config, credentials, daemons, dns, down, host, node, preflight};
use crate::cache::Cache;
use crate::files;
use crate::process::lock;

/// Starts cluster `place`, or says that it runs already.
pub fn up(cache: &Cache, layer: Layer, place: Place) -> Result<()> {
    let programs = Programs::locate(cache)?;
    programs.require(layer)?;
    preflight::ensure(layer, place)?;
    let run = Run::new(cache, place);
    let _lock = lock(&run.dir().join("lock"), "this cluster")?;
    match State::of(&run) {
        State::Up(running) if running == layer.to_string() => {
            println!("cluster {} ({layer}) is up already", place.index());
            return Ok(());
        }
        State::Up(running) => {
            bail!("cluster {} is up as {running}; end it first or choose another --index", place.index())
        }
        State::Partly(gone) => {
            println!("cluster {} is only partly up ({}); starting it again", place.index(), gone.join(", "));
            down::end(cache, place, &run)?;
        }
        State::Down => down::end(cache, place, &run)?,
    }
    keep_to_one_layer(&run, layer)?;

    let ports = if layer == Layer::L0 { Ports::free()? } else { Ports::USUAL };
    let plan = Plan { place, layer, run, bin: programs.bin(), ports };
    if let Err(error) = start(&plan, &programs, cache) {
        down::end(cache, place, &plan.run)?;
        return Err(error);
    }
    Env::local(place, layer, &plan.run, &programs).write(&plan.run.env())?;
    println!("cluster {} ({layer}) is up", place.index());
    println!("  kubeconfig          {}", plan.run.kubeconfig().display());
    println!("  COUNTERSIGN_TEST_ENV={}", plan.run.env().display());
    Ok(())
}

/// Stored objects of one layer name nodes, addresses and networks that another does not have.
fn keep_to_one_layer(run: &Run, layer: Layer) -> Result<()> {
    if let Ok(stored) = fs::read_to_string(run.layer())
        && stored.trim() != layer.to_string()
    {
        bail!(
            "{} holds the state of an {} cluster; drop it with `cluster down --purge` or choose another --index",
            run.dir().display(),
            stored.trim()
        );
    }
    Ok(fs::write(run.layer(), format!("{layer}\n"))?)
}

fn start(plan: &Plan, programs: &Programs, cache: &Cache) -> Result<()> {
    for folder in [plan.run.pids(), plan.run.guests(), plan.run.logs(), plan.run.config()] {
        files::create_folder(&folder)?;
    }
    credentials::prepare(plan)?;
    config::write(plan)?;
    let kubectl = Kubectl::new(programs.program("kubectl"), plan.run.kubeconfig(), plan.run.dir());
    let mut launch = Launch::new(&plan.bin, &plan.run, &kubectl, Site::Host);
    if plan.has_node() {
        start_node(plan, programs, cache, &kubectl, &mut launch)?;
    } else {
        launch.run(vec![daemons::etcd(plan)])?;
        launch.run(vec![daemons::api_server(plan)])?;
        launch.run(vec![daemons::controller_manager(plan)])?;
    }
    // A namespace is usable once its ServiceAccount exists, and that shows the controller manager working.
    launch.wait_for("default ServiceAccount", "kube-controller-manager", Duration::from_secs(60), || {
        kubectl.succeeds(&["-n", "default", "get", "serviceaccount", "default"])
    })
}

fn start_node(
    plan: &Plan,
    programs: &Programs,
    cache: &Cache,
    kubectl: &Kubectl,
    launch: &mut Launch<'_>,
) -> Result<()> {
    host::prepare(cache)?;
    host::make_cgroup(&plan.place.cgroup())?;
    let site = Site::Node(node::create(plan)?);
    launch.site = site;
    write_ctr(plan, site)?;
    launch.say("namespaces and network");

    prepare_networks(plan)?;
    launch.run(vec![daemons::etcd(plan), daemons::containerd(plan)])?;
    thread::scope(|scope| {
        let images = scope.spawn(|| import_node_images(plan, programs));
        let agent = start_control_plane(plan, programs, kubectl, launch)?;
        let Ok(imported) = images.join() else { bail!("the import of images was cut short") };
        imported?;
        launch.say("images imported");
        start_node_daemons(plan, kubectl, launch, agent)
    })
}

/// The folder of network configurations as containerd will find it: it ends when the folder is removed under it.
/// Cilium's configuration comes later, from its agent.
fn prepare_networks(plan: &Plan) -> Result<()> {
    let folder = plan.run.dir().join("cni.d");
    if folder.exists() {
        files::remove(&folder)?;
    }
    files::create_folder(&folder)?;
    if plan.layer == Layer::L1 {
        fs::copy(plan.run.config().join("bridge.conflist"), folder.join("10-bridge.conflist"))
            .context("cannot copy the network configuration")?;
    }
    Ok(())
}

/// The control plane and, on L2, Cilium's agent, which compiles while the rest starts.
fn start_control_plane(
    plan: &Plan,
    programs: &Programs,
    kubectl: &Kubectl,
    launch: &Launch<'_>,
) -> Result<Option<Started>> {
    launch.run(vec![daemons::api_server(plan)])?;
    let agent = if plan.layer >= Layer::L2 {
        cilium::apply_crds(kubectl, programs)?;
        cilium::write_settings(plan, programs)?;
        launch.say("Cilium's kinds");
        Some(launch.start(daemons::cilium_agent(plan))?)
    } else {
        None
    };
    launch.run(vec![daemons::controller_manager(plan), daemons::scheduler(plan)])?;
    launch.wait_for("namespace kube-system", "kube-apiserver", Duration::from_secs(20), || {
        kubectl.succeeds(&["get", "namespace", "kube-system"])
    })?;
    kubectl.apply(&config::addons(plan)?).context("cannot apply CoreDNS")?;
    Ok(agent)
}

fn start_node_daemons(plan: &Plan, kubectl: &Kubectl, launch: &Launch<'_>, agent: Option<Started>) -> Result<()> {
    launch.run(vec![daemons::kubelet(plan), daemons::kube_proxy(plan)])?;
    if let Some(agent) = agent {
        launch.wait(agent)?;
        cilium::publish_cni(plan)?;
    }
    launch.wait_for("node Ready", "kubelet", Duration::from_secs(120), || node_is_ready(kubectl))?;
    launch
        .wait_for("cluster DNS answers", "kubelet", Duration::from_secs(120), || dns::answers(plan.place.dns_service()))
}

fn node_is_ready(kubectl: &Kubectl) -> bool {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    kubectl.text(&["get", "node", NODE, "-o", path]).is_ok_and(|status| status == "True")
}

fn import_node_images(plan: &Plan, programs: &Programs) -> Result<()> {
    let ctr = plan.run.dir().join("ctr");
    NODE_IMAGES.iter().try_for_each(|name| import(&ctr, &programs.image(name)))
}

/// Loads an OCI layout tar through the run folder's `ctr`. By standard input: the node does not see all of the host's folders.
pub fn import(ctr: &Path, image: &Path) -> Result<()> {
    let file = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
    let output = std::process::Command::new(ctr)
        .args(["images", "import", "--local", "-"])
        .stdin(Stdio::from(file))
        .output()
        .with_context(|| format!("cannot start {}", ctr.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cannot load {}: {}", image.display(), said.trim());
    }
    Ok(())
}

/// A `ctr` that enters the node and is pointed at the kubelet's images; tests use it too.
fn write_ctr(plan: &Plan, site: Site) -> Result<()> {
    let command = site.command(&plan.bin.join("ctr"));
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let script = format!("#!/bin/sh\nexec {} -a {CONTAINERD_SOCKET} -n k8s.io \"$@\"\n", words.join(" "));
    let path = plan.run.dir().join("ctr");
    files::write(&path, script)?;
    Ok(fs::set_permissions(&path, Permissions::from_mode(0o755))?)
}
