//! The images every node starts with: pause, CoreDNS, and a busybox for tests.
//!
//! This file is part of the programs' content key, so a change here makes them anew. Called by `build`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::build::{go_build, make};
use super::programs::{GoSet, Programs};
use crate::cache::repository;
use crate::files;
use crate::oci;

/// Packs the images unless they exist.
pub fn pack(programs: &Programs) -> Result<()> {
    make(&programs.image("pause"), "image pause", |partial| {
        let binary = partial.with_extension("binary");
        let set = GoSet { dir: "pause", cgo: false, tags: "", ldflags: "" };
        go_build(&repository().join("hack/cluster/pause"), &set, ".", &binary)?;
        let packed = pack_program(&binary, "/pause", "localhost/pause:1", "65535:65535", partial);
        files::remove(&binary)?;
        packed
    })?;
    make(&programs.image("coredns"), "image coredns", |partial| {
        pack_program(&programs.program("coredns"), "/coredns", "localhost/coredns:1.15.0", "65532:65532", partial)
    })?;
    make(&programs.image("busybox"), "image busybox", |partial| {
        let busybox = fs::read("/bin/busybox").context("/bin/busybox is missing")?;
        if !is_static(&busybox) {
            bail!("/bin/busybox is linked dynamically; install the Debian package busybox-static");
        }
        // Not wget: a static glibc program cannot look up hosts without the shared library, and busybox's wget crashes.
        let link = |name: &str| oci::Entry::Link { path: format!("/bin/{name}"), target: "busybox".into() };
        let mut entries = vec![oci::Entry::Program { path: "/bin/busybox".into(), content: busybox }];
        entries.extend(["sh", "cat", "ls", "sleep", "nc", "nslookup"].map(link));
        let config = oci::Config {
            reference: "localhost/busybox:1".into(),
            command: vec!["sleep".into(), "infinity".into()],
            user: "65532:65532".into(),
            ..oci::Config::default()
        };
        files::write(partial, &oci::pack(&entries, &config)?)
    })
}

/// An image of one static program.
fn pack_program(binary: &Path, path: &str, reference: &str, user: &str, output: &Path) -> Result<()> {
    let content = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let config = oci::Config {
        reference: reference.into(),
        entrypoint: vec![path.into()],
        user: user.into(),
        ..oci::Config::default()
    };
    files::write(output, &oci::pack(&[oci::Entry::Program { path: path.into(), content }], &config)?)
}

/// Whether an ELF program needs no dynamic loader, which it would name in its first kilobytes.
fn is_static(program: &[u8]) -> bool {
    let head = program.get(..4096).unwrap_or(program);
    !head.windows(8).any(|window| window == b"ld-linux")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_in_the_head_means_dynamic() {
        assert!(is_static(b"\x7fELF..........."));
        assert!(!is_static(b"\x7fELF.../lib64/ld-linux-x86-64.so.2"));
    }
}
