//! `cargo xtask image`: static release binaries, packed as images without Docker.
//!
//! The `Dockerfile` at the top of the clone makes the same operator image with a builder container.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::cache::{Cache, repository};
use crate::cargo::{cargo, executable};
use crate::files;
use crate::oci;
use crate::process::{capture, find, succeeds};

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// Which images
    #[arg(value_enum, default_value = "countersign")]
    images: Vec<Image>,
}

/// An image made from a binary of this workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Image {
    /// The operator
    Countersign,
    /// The example workload
    Shop,
}

/// Builds and packs the images and prints where they lie.
pub fn main(args: &ImageArgs, cache: &Cache) -> Result<()> {
    for (image, packed) in args.images.iter().zip(pack(&args.images, cache)?) {
        println!("{} in {}", image.reference(), packed.tar.display());
    }
    Ok(())
}

/// What came of one image.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The image, for `cargo xtask cluster images`
    pub tar: PathBuf,
    /// The program in it, as it lies on this machine
    pub binary: PathBuf,
}

/// Both images, the operator's first.
pub fn pack_all(cache: &Cache) -> Result<[Packed; 2]> {
    let packed = pack(&[Image::Countersign, Image::Shop], cache)?;
    <[Packed; 2]>::try_from(packed).map_err(|_| anyhow!("there are not two images"))
}

/// Builds the binaries in one go, so that what they share is compiled once, and packs each.
fn pack(images: &[Image], cache: &Cache) -> Result<Vec<Packed>> {
    let binaries = build(images, Target::choose()?)?;
    images.iter().zip(binaries).map(|(image, binary)| pack_one(*image, binary, cache)).collect()
}

fn pack_one(image: Image, binary: PathBuf, cache: &Cache) -> Result<Packed> {
    let content = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let program = oci::Entry::Program { path: format!("/{}", image.name()), content };
    let packed = oci::pack(&[program], &image.config())?;
    let folder = cache.images();
    files::create_folder(&folder)?;
    let tar = folder.join(format!("{}.tar", image.name()));
    files::write(&tar, packed)?;
    Ok(Packed { tar, binary })
}

impl Image {
    /// Name of the package, its binary and its tar.
    fn name(self) -> &'static str {
        match self {
            Self::Countersign => "countersign",
            Self::Shop => "shop",
        }
    }

    /// The reference that chart and manifests use by default, so that a loaded image needs no override.
    fn reference(self) -> String {
        format!("ghcr.io/countersign-dev/{}:{VERSION}", self.name())
    }

    fn config(self) -> oci::Config {
        let mut labels = BTreeMap::from([
            ("org.opencontainers.image.title".to_owned(), self.name().to_owned()),
            ("org.opencontainers.image.source".to_owned(), String::new()),
            ("org.opencontainers.image.version".to_owned(), VERSION.to_owned()),
            ("org.opencontainers.image.licenses".to_owned(), env!("CARGO_PKG_LICENSE").to_owned()),
        ]);
        if let Some(revision) = revision() {
            labels.insert("org.opencontainers.image.revision".to_owned(), revision);
        }
        oci::Config {
            reference: self.reference(),
            entrypoint: vec![format!("/{}", self.name())],
            command: match self {
                Self::Countersign => vec!["run".to_owned()],
                Self::Shop => Vec::new(),
            },
            user: "65532:65532".to_owned(),
            labels,
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the clone; a source archive has none.
fn revision() -> Option<String> {
    let head = capture(Command::new("git").arg("-C").arg(repository()).args(["rev-parse", "HEAD"])).ok()?;
    Some(head.trim().to_owned())
}

/// What a static binary is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// musl, as in releases
    Musl,
    /// glibc linked statically: runs the same, but is no release
    Glibc,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Musl => "x86_64-unknown-linux-musl",
            Self::Glibc => "x86_64-unknown-linux-gnu",
        })
    }
}

impl Target {
    /// musl where its parts are there or can be fetched; else glibc, with a notice.
    fn choose() -> Result<Self> {
        let mut add = Command::new("rustup");
        add.current_dir(repository()).args(["target", "add", "x86_64-unknown-linux-musl"]);
        if !succeeds(&mut add) {
            println!("notice: rustup cannot add the musl target; building against glibc instead, which is no release");
            return Ok(Self::Glibc);
        }
        if find("musl-gcc").is_none() {
            if !rustix::process::geteuid().is_root() {
                bail!("musl-gcc is missing; install the Debian package musl-tools");
            }
            capture(Command::new("apt-get").args(["install", "-y", "-q", "musl-tools"]))
                .context("cannot install the Debian package musl-tools")?;
        }
        Ok(Self::Musl)
    }

    fn flags(self, remap: &[(String, &str)]) -> String {
        let remap = remap.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
        let linked = match self {
            Self::Musl => None,
            Self::Glibc => Some("-Ctarget-feature=+crt-static".to_owned()),
        };
        // The separator of CARGO_ENCODED_RUSTFLAGS: paths may contain spaces.
        remap.chain(linked).collect::<Vec<_>>().join("\u{1f}")
    }
}

/// Builds the static release binaries and returns their paths.
fn build(images: &[Image], target: Target) -> Result<Vec<PathBuf>> {
    let metadata = metadata()?;
    // The same bytes from any folder: no path of this machine stays in the binary. Our own sources are compiled by their
    // paths within the workspace; naming its folder here would only rebuild everything for each clone.
    let crates = metadata.crates()?;
    let remap = [(metadata.target_directory, "/target"), (crates, "/crates")];
    let c_flags = remap.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect::<Vec<_>>().join(" ");
    let triple = target.to_string();
    let underscored = triple.replace('-', "_");
    let mut cargo = cargo(&["build", "--locked", "--release", "--message-format=json-render-diagnostics"]);
    cargo.args(["--target", &triple]);
    cargo.args(images.iter().flat_map(|image| ["--package", image.name(), "--bin", image.name()]));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", target.flags(&remap)).env("SOURCE_DATE_EPOCH", "0");
    cargo.env(format!("CFLAGS_{underscored}"), c_flags);
    if target == Target::Musl {
        cargo.env(format!("CC_{underscored}"), "musl-gcc");
    }
    // Progress and errors go straight to the terminal; only the messages are read.
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cannot build the binaries for {triple}");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = |image: &Image| {
        let name = image.name();
        executable(&messages, name).with_context(|| format!("cargo built no executable of {name}"))
    };
    images.iter().map(built).collect()
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: String,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    /// Absent for members of the workspace
    source: Option<String>,
    manifest_path: PathBuf,
}

impl Metadata {
    /// The folder that downloaded crates are unpacked in, one folder each.
    fn crates(&self) -> Result<String> {
        let downloaded = self.packages.iter().find(|package| package.source.is_some());
        let folder = downloaded.and_then(|package| package.manifest_path.ancestors().nth(2));
        Ok(folder.context("cargo downloaded no crate")?.display().to_string())
    }
}

fn metadata() -> Result<Metadata> {
    serde_json::from_str(&capture(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?)
        .context("cargo described the workspace in an unknown form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_runs_without_root_and_with_its_default_command() {
        let config = Image::Countersign.config();
        assert_eq!(config.entrypoint, ["/countersign"]);
        assert_eq!(config.command, ["run"]);
        assert_eq!(config.user, "65532:65532");
        assert_eq!(config.labels["org.opencontainers.image.version"], VERSION);
    }

    #[test]
    fn flags_hide_paths_and_link_statically() {
        let remap = [("/build/a b".to_owned(), "/src")];
        assert_eq!(Target::Musl.flags(&remap), "--remap-path-prefix=/build/a b=/src");
        assert!(Target::Glibc.flags(&remap).ends_with("\u{1f}-Ctarget-feature=+crt-static"));
    }
}
