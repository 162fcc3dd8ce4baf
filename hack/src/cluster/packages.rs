//! Debian packages that builds and nodes need: installed with apt when missing and possible, else named.
//!
//! Must not know what they are used for in detail. Called by `build`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::place::Layer;
use crate::process::capture;

struct Package {
    name: &'static str,
    /// A file that only exists when the package, or an equal of it from elsewhere, is installed; any one is enough.
    signs: &'static [&'static str],
    layer: Layer,
}

const fn package(layer: Layer, name: &'static str, signs: &'static [&'static str]) -> Package {
    Package { name, signs, layer }
}

const PACKAGES: [Package; 9] = [
    package(Layer::L0, "gcc", &["/usr/bin/gcc"]),
    package(Layer::L1, "iptables", &["/usr/sbin/iptables", "/sbin/iptables"]),
    package(Layer::L1, "nftables", &["/usr/sbin/nft", "/sbin/nft"]),
    package(Layer::L1, "conntrack", &["/usr/sbin/conntrack", "/sbin/conntrack"]),
    package(Layer::L1, "busybox-static", &["/bin/busybox"]),
    package(Layer::L1, "libseccomp-dev", &["/usr/include/seccomp.h"]),
    package(Layer::L1, "pkg-config", &["/usr/bin/pkg-config"]),
    package(Layer::L2, "ipset", &["/usr/sbin/ipset", "/sbin/ipset"]),
    package(Layer::L2, "clang-19", &["/usr/bin/clang-19", "/usr/bin/clang-18", "/usr/bin/clang-20"]),
];

/// Installs what `layer` lacks; fails with the names when this user or system cannot.
pub fn install_missing(layer: Layer) -> Result<()> {
    let missing = missing(layer, |path| Path::new(path).exists());
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("these Debian packages are missing and only root can install them: {names}");
    }
    println!("installing {names}");
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-q", "--no-install-recommends"]);
    capture(command.args(&missing)).with_context(|| format!("cannot install the Debian packages {names}"))?;
    Ok(())
}

fn missing(layer: Layer, exists: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let lacking = |package: &&Package| package.layer <= layer && !package.signs.iter().any(|sign| exists(sign));
    PACKAGES.iter().filter(lacking).map(|package| package.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_layer_needs_and_the_machine_lacks() {
        let all_but_nft = |path: &str| path.ends_with("/gcc") || path == "/usr/bin/clang-18";
        assert_eq!(missing(Layer::L0, all_but_nft), Vec::<&str>::new());
        assert!(missing(Layer::L1, all_but_nft).contains(&"nftables"));
        assert!(!missing(Layer::L1, all_but_nft).contains(&"ipset"));
        assert!(!missing(Layer::L2, all_but_nft).contains(&"clang-19"));
    }
}
