//! `cargo xtask cluster build`: makes every program of a layer from package registries, skipping what exists.
//!
//! Each result is written under a temporary name and renamed, so an interrupted build leaves only whole programs behind.
//! Must not know how a cluster is started.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::place::Layer;
use super::programs::{CILIUM, GO_PROGRAMS, GoSet, Programs};
use super::{node_images, packages, wheels};
use crate::cache::{Cache, repository};
use crate::files;
use crate::process::{capture, lock};

/// Builds what `layer` needs and prints one line a program.
pub fn build(cache: &Cache, layer: Layer) -> Result<()> {
    let start = Instant::now();
    packages::install_missing(layer)?;
    let programs = Programs::locate(cache)?;
    let _lock = lock(&cache.programs().join("lock"), "`cluster build`")?;
    files::create_folder(programs.bin().join("cni"))?;
    files::create_folder(programs.dir().join("images"))?;
    println!("programs of {layer} in {}", programs.dir().display());

    wheels::fetch(&programs)?;
    for program in GO_PROGRAMS.iter().filter(|program| program.layer <= layer) {
        make(&programs.program(program.output), program.output, |partial| {
            let module = repository().join("hack/cluster/go").join(program.set.dir);
            go_build(&module, program.set, program.package, partial)
        })?;
    }
    if layer >= Layer::L1 {
        node_images::pack(&programs)?;
    }
    if layer >= Layer::L2 {
        make(&programs.cilium(), "cilium settings", |partial| cilium_files(&programs, partial))?;
    }
    println!("done in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// Makes `path` unless it exists: `write` fills the partial path it is given, which then gets the final name.
pub fn make(path: &Path, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        println!("  {name:<28} present");
        return Ok(());
    }
    let start = Instant::now();
    let partial = path.with_extension("partial");
    // What an interrupted build left.
    files::remove(&partial)?;
    write(&partial).with_context(|| format!("cannot build {name}"))?;
    fs::rename(&partial, path).with_context(|| format!("cannot move {name} into place"))?;
    println!("  {name:<28} {:6.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// Builds one Go package of the module in that folder.
pub fn go_build(module: &Path, set: &GoSet, package: &str, output: &Path) -> Result<()> {
    let mut command = Command::new("go");
    command.current_dir(module).arg("build").args(go_flags(set)).arg("-o").arg(output).arg(package);
    command.env("CGO_ENABLED", if set.cgo { "1" } else { "0" }).env("GOTOOLCHAIN", "local").env_remove("GOFLAGS");
    capture(&mut command).map(drop)
}

fn go_flags(set: &GoSet) -> Vec<String> {
    let mut flags = vec!["-mod=readonly".to_owned(), "-buildvcs=false".to_owned()];
    if !set.tags.is_empty() {
        flags.extend(["-tags".to_owned(), set.tags.to_owned()]);
    }
    flags.extend(["-ldflags".to_owned(), format!("-s -w {}", set.ldflags).trim_end().to_owned()]);
    flags
}

/// Copies out of Cilium's module what `up` needs, so that starting a cluster needs neither Go nor the module cache.
fn cilium_files(programs: &Programs, output: &Path) -> Result<()> {
    let module = repository().join("hack/cluster/go").join(CILIUM.dir);
    let sources = go_module_dir(&module, "github.com/cilium/cilium")?;
    let sources = Path::new(&sources);
    files::create_folder(output)?;
    copy_tree(&sources.join("bpf"), &output.join("bpf"))?;

    let mut crds = String::new();
    for name in CILIUM_CRDS {
        let path = sources.join("pkg/k8s/apis/cilium.io/client/crds").join(name).with_extension("yaml");
        crds += &files::read(&path)?;
    }
    files::write(output.join("crds.yaml"), crds.as_bytes())?;

    let mut helm = Command::new(programs.program("helm"));
    // Helm would otherwise read and write the user's own plugins and caches.
    helm.env("HELM_CACHE_HOME", output).env("HELM_CONFIG_HOME", output).env("HELM_DATA_HOME", output);
    helm.args(["template", "cilium"]).arg(sources.join("install/kubernetes/cilium"));
    helm.args(["-n", "kube-system", "-s", "templates/cilium-configmap.yaml", "-f"]);
    helm.arg(repository().join("hack/cluster/conf/cilium-values.yaml"));
    files::write(output.join("configmap.yaml"), capture(&mut helm)?.as_bytes())
}

/// The folder of a module that the wrapper module `module` requires, downloading it when missing.
fn go_module_dir(module: &Path, name: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Download {
        #[serde(rename = "Dir")]
        dir: String,
    }
    let mut command = Command::new("go");
    command.current_dir(module).env_remove("GOFLAGS").args(["mod", "download", "-json", name]);
    let answer: Download =
        serde_json::from_str(&capture(&mut command)?).context("Go did not say where the module is")?;
    Ok(answer.dir)
}

/// The agent waits for ever if any of these is missing: usually its operator registers them.
const CILIUM_CRDS: [&str; 9] = [
    "v2/ciliumidentities",
    "v2/ciliumendpoints",
    "v2/ciliumnodes",
    "v2/ciliumnetworkpolicies",
    "v2/ciliumclusterwidenetworkpolicies",
    "v2/ciliumcidrgroups",
    "v2/ciliumloadbalancerippools",
    "v2alpha1/ciliumpodippools",
    "v2alpha1/ciliuml2announcementpolicies",
];

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {}", from.display());
    files::create_folder(to)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_tree(&path, &to.join(name))?;
        } else {
            // Not `fs::copy`: modules are read-only, and a copy of them must be removable.
            let content = fs::read(&path).with_context(failed)?;
            files::write(to.join(name), content)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn flags_name_tags_only_where_there_are_some() {
        let plain = GoSet { dir: "x", cgo: true, tags: "", ldflags: "" };
        assert_eq!(go_flags(&plain), ["-mod=readonly", "-buildvcs=false", "-ldflags", "-s -w"]);
        let tagged = GoSet { dir: "x", cgo: true, tags: "a b", ldflags: "-X v=1" };
        assert_eq!(go_flags(&tagged), ["-mod=readonly", "-buildvcs=false", "-tags", "a b", "-ldflags", "-s -w -X v=1"]);
    }

    #[test]
    fn an_interrupted_build_is_repeated_and_a_finished_one_is_not() {
        let dir = std::env::temp_dir().join(format!("xtask-make-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("tool");
        let interrupted = make(&path, "tool", |partial| {
            fs::write(partial, "half")?;
            bail!("interrupted")
        });
        assert!(interrupted.is_err() && !path.exists());
        make(&path, "tool", |partial| Ok(fs::write(partial, "whole")?)).unwrap();
        make(&path, "tool", |_| bail!("built twice")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        fs::remove_dir_all(dir).unwrap();
    }
}
