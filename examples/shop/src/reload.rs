//! Follows the certificate files of a mounted Secret.
//!
//! The kubelet writes a new directory and then swaps the symbolic link `..data` to it, so all
//! files change at one instant; reading them through `tls.crt` and friends one after another could
//! still catch the swap in the middle. So the link is resolved once and all three files are read
//! below its target. A plain directory without `..data` works too, for runs outside a cluster.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::tls::{Endpoint, Pem};

/// How often the directory is looked at: a swap is in use within a second, and the price is a
/// `readlink` and three `stat`s.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// The directory of the certificate files.
pub struct Mount {
    directory: PathBuf,
}

/// Identifies one state of the directory; equal stamps mean equal files.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    directory: PathBuf,
    files: Vec<(SystemTime, u64)>,
}

impl Mount {
    /// The certificate files in `directory`.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Reads one snapshot and builds from it; fails if a file is missing, the files do not fit together or they
    /// changed while they were read.
    pub fn load<C>(&self, build: &impl Fn(&Pem) -> Result<Endpoint<C>>) -> Result<(Stamp, Endpoint<C>)> {
        let stamp = self.stamp()?;
        let read = |name| read(&stamp.directory, name);
        let [chain, key, roots] = FILES;
        let pem = Pem { chain: read(chain)?, key: read(key)?, roots: read(roots)? };
        ensure!(self.stamp()? == stamp, "the files changed while they were read");
        Ok((stamp, build(&pem)?))
    }

    fn stamp(&self) -> Result<Stamp> {
        let directory = match fs::read_link(self.directory.join("..data")) {
            Ok(target) => self.directory.join(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.directory.clone(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.directory.display())),
        };
        let state = |name: &&str| {
            let path = directory.join(name);
            let metadata = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((metadata.modified().context("this file system keeps no modification times")?, metadata.len()))
        };
        let files = FILES.iter().map(state).collect::<Result<_>>()?;
        Ok(Stamp { directory, files })
    }
}

/// The `ca.crt` of `directory`, for a caller without an identity of its own.
pub fn roots(directory: &Path) -> Result<Vec<u8>> {
    let [_, _, roots] = FILES;
    read(directory, roots)
}

/// Looks at `mount` for ever and sends each new snapshot that `build` accepts; the first was loaded at `stamp`.
///
/// A snapshot that is refused leaves the last good one in use, is reported once and looked at again.
pub async fn follow<C>(
    mount: &Mount,
    mut stamp: Stamp,
    build: &impl Fn(&Pem) -> Result<Endpoint<C>>,
    current: &watch::Sender<Arc<Endpoint<C>>>,
    say: &impl Fn(&Value),
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_complaint = None;
    loop {
        ticks.tick().await;
        // Blocking calls on purpose: three small files in memory cost less than handing them to a thread.
        if mount.stamp().is_ok_and(|now| now == stamp) {
            last_complaint = None;
            continue;
        }
        match mount.load(build) {
            Ok((loaded, endpoint)) => {
                say(&json!({"event": "reloaded", "serial": endpoint.serial}));
                stamp = loaded;
                last_complaint = None;
                current.send_replace(Arc::new(endpoint));
            }
            Err(refusal) => {
                let complaint = format!("{refusal:#}");
                if last_complaint.as_ref() != Some(&complaint) {
                    say(&json!({"event": "kept", "serial": current.borrow().serial, "why": complaint}));
                }
                last_complaint = Some(complaint);
            }
        }
    }
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let path = directory.join(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
