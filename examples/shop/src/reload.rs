//! Follows the files of a mounted Secret.
//!
//! The kubelet writes a new directory and then swaps the symbolic link `..data` to it, so all
//! files change at one instant; reading them by their names one after another could still catch the
//! swap in the middle. So the link is resolved once and all files are read below its target. A plain directory without `..data` works too, for runs outside a cluster.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// How often the directory is looked at: a swap is in use within a second, and the price is a
/// `readlink` and a few `stat`s.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The files of a certificate.
const CERTIFICATE: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// What is made of the files of one snapshot.
pub trait Loaded: Sized {
    /// Which of them it is, to be printed; nothing secret.
    fn state(&self) -> Map<String, Value>;
}

/// The contents of one snapshot, by the names of the files. No `Debug`: some are secret.
pub struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    /// Takes one file out.
    pub fn take(&mut self, name: &str) -> Result<Vec<u8>> {
        self.0.remove(name).with_context(|| format!("{name} was not read"))
    }
}

/// A mounted directory, and which files of it matter.
pub struct Mount {
    directory: PathBuf,
    names: &'static [&'static str],
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
        Self::of(directory, &CERTIFICATE)
    }

    /// The files `names` in `directory`.
    pub fn of(directory: PathBuf, names: &'static [&'static str]) -> Self {
        Self { directory, names }
    }

    /// Reads one snapshot and builds from it; fails if a file is missing, the files do not fit together or they
    /// changed while they were read.
    pub fn load<T>(&self, build: &impl Fn(Files) -> Result<T>) -> Result<(Stamp, T)> {
        let stamp = self.stamp()?;
        let one = |name: &&'static str| Ok((*name, read(&stamp.directory, name)?));
        let files = Files(self.names.iter().map(one).collect::<Result<_>>()?);
        ensure!(self.stamp()? == stamp, "the files changed while they were read");
        Ok((stamp, build(files)?))
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
        let files = self.names.iter().map(state).collect::<Result<_>>()?;
        Ok(Stamp { directory, files })
    }
}

/// The `ca.crt` of `directory`, for a caller without an identity of its own.
pub fn roots(directory: &Path) -> Result<Vec<u8>> {
    let [_, _, roots] = CERTIFICATE;
    read(directory, roots)
}

/// Looks at `mount` for ever and sends each new snapshot that `build` accepts; the first was loaded at `stamp`.
///
/// A snapshot that is refused leaves the last good one in use, is reported once and looked at again.
pub async fn follow<T: Loaded>(
    mount: &Mount,
    mut stamp: Stamp,
    build: &impl Fn(Files) -> Result<T>,
    current: &watch::Sender<Arc<T>>,
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
            Ok((seen, loaded)) => {
                say(&told("reloaded", &loaded, None));
                stamp = seen;
                last_complaint = None;
                current.send_replace(Arc::new(loaded));
            }
            Err(refusal) => {
                let complaint = format!("{refusal:#}");
                if last_complaint.as_ref() != Some(&complaint) {
                    say(&told("kept", &**current.borrow(), Some(&complaint)));
                }
                last_complaint = Some(complaint);
            }
        }
    }
}

/// One line about what is in use.
fn told(event: &str, loaded: &impl Loaded, why: Option<&str>) -> Value {
    let mut line = loaded.state();
    line.insert("event".to_owned(), event.into());
    line.extend(why.map(|why| ("why".to_owned(), why.into())));
    line.into()
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    let path = directory.join(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
