//! Packs files into an image: an OCI layout tar that `ctr images import` and `kind load image-archive` read.
//!
//! The bytes depend on the arguments alone (no times, owners or compressor settings of the moment), so equal input gives
//! an equal digest. Must not know what is packed. Used by `image.rs` and the cluster's node images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Name and settings of an image.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Full reference with tag, such as `localhost/pause:1`
    pub reference: String,
    /// Program and leading arguments
    pub entrypoint: Vec<String>,
    /// Default arguments
    pub command: Vec<String>,
    /// `uid` or `uid:gid`; empty is root
    pub user: String,
    /// OCI labels
    pub labels: BTreeMap<String, String>,
}

/// One entry of the image's only layer; parent folders are made as needed.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A program: mode 0755
    Program {
        /// Absolute path in the image
        path: String,
        /// Its bytes
        content: Vec<u8>,
    },
    /// A symbolic link
    Link {
        /// Absolute path in the image
        path: String,
        /// What it points to
        target: String,
    },
}

/// The layout tar of an image with these entries and an empty `/tmp` that anyone may write to.
pub fn pack(entries: &[Entry], config: &Config) -> Result<Vec<u8>> {
    let layer = layer(entries).context("cannot pack the layer")?;
    let mut zip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    zip.write_all(&layer).context("cannot compress the layer")?;
    let zipped = zip.finish().context("cannot compress the layer")?;

    let settings = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "User": config.user,
            "Labels": config.labels,
            "Env": ["PATH=/usr/bin:/bin:/"],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let settings = settings.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&settings, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(&zipped, "application/vnd.oci.image.layer.v1.tar+gzip")],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = index(&manifest, &config.reference);

    let mut layout = Builder::new(Vec::new());
    add(&mut layout, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add(&mut layout, "index.json", 0o644, index.to_string().as_bytes())?;
    for blob in [&zipped, &settings, &manifest] {
        add(&mut layout, &format!("blobs/sha256/{}", sha256(blob)), 0o644, blob)?;
    }
    layout.into_inner().context("cannot pack the image")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn index(manifest: &[u8], reference: &str) -> Value {
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let mut entry = descriptor(manifest, MANIFEST);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("platform".into(), json!({"architecture": "amd64", "os": "linux"}));
        let annotations = json!({"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag});
        entry.insert("annotations".into(), annotations);
    }
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]})
}

fn layer(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    folder(&mut layer, &mut folders, Path::new("tmp"), 0o1777)?;
    for entry in entries {
        let (Entry::Program { path, .. } | Entry::Link { path, .. }) = entry;
        let path = path.trim_start_matches('/');
        if let Some(parent) = Path::new(path).parent() {
            folder(&mut layer, &mut folders, parent, 0o755)?;
        }
        match entry {
            Entry::Program { content, .. } => add(&mut layer, path, 0o755, content)?,
            Entry::Link { target, .. } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                layer.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(layer.into_inner()?)
}

fn folder(tar: &mut Builder<Vec<u8>>, made: &mut BTreeSet<String>, path: &Path, permissions: u32) -> Result<()> {
    if path.as_os_str().is_empty() || !made.insert(path.display().to_string()) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        folder(tar, made, parent, 0o755)?;
    }
    let mut header = header(EntryType::Directory, permissions, 0);
    Ok(tar.append_data(&mut header, format!("{}/", path.display()), std::io::empty())?)
}

fn add(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn descriptor(blob: &[u8], media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", sha256(blob))
}

fn sha256(blob: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(blob))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn sample() -> (Vec<Entry>, Config) {
        let program = Entry::Program { path: "/bin/tool".into(), content: b"binary".to_vec() };
        let link = Entry::Link { path: "/bin/sh".into(), target: "tool".into() };
        let config = Config {
            reference: "localhost/tool:3".into(),
            entrypoint: vec!["/bin/tool".into()],
            user: "65532:65532".into(),
            ..Config::default()
        };
        (vec![program, link], config)
    }

    fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let read = |entry: Result<tar::Entry<'_, &[u8]>, std::io::Error>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn two_packs_are_equal_byte_for_byte() {
        let (entries, config) = sample();
        assert_eq!(pack(&entries, &config).unwrap(), pack(&entries, &config).unwrap());
    }

    #[test]
    fn every_digest_names_the_blob_it_stands_for() {
        let (entries, config) = sample();
        let layout = files(&pack(&entries, &config).unwrap());
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
            let content = &layout[&name];
            assert_eq!(descriptor["digest"], digest(content));
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&layout["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/tool:3");
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let settings: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(settings["config"]["User"], "65532:65532");
        let mut layer = Vec::new();
        GzDecoder::new(&*blob(&manifest["layers"][0])).read_to_end(&mut layer).unwrap();
        assert_eq!(settings["rootfs"]["diff_ids"][0], digest(&layer));
        let names: Vec<String> = files(&layer).into_keys().collect();
        assert_eq!(names, ["bin/", "bin/sh", "bin/tool", "tmp/"]);
    }
}
