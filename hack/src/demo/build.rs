//! Builds what the demo runs, and says every few seconds what a long build is busy with.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::timeline::Timeline;
use crate::cache::Cache;
use crate::cluster;
use crate::cluster::place::Layer;
use crate::cluster::programs::{GO_PROGRAMS, Programs};
use crate::image::{Packed, pack_all};

/// How often a long build says that it goes on.
const EVERY: Duration = Duration::from_secs(20);

/// The images of operator and shop.
pub struct Images {
    /// The operator
    pub countersign: Packed,
    /// The services
    pub shop: Packed,
}

impl Images {
    /// Where their tars lie.
    pub fn tars(&self) -> [&Path; 2] {
        [&self.countersign.tar, &self.shop.tar]
    }
}

/// Builds the programs of a layer.
pub fn programs(cache: &Cache, layer: Layer, timeline: Timeline) -> Result<()> {
    let names: Vec<&str> =
        GO_PROGRAMS.iter().filter(|program| program.layer <= layer).map(|program| program.output).collect();
    let bin = Programs::locate(cache)?.bin();
    let missing = names.iter().filter(|name| !bin.join(name).exists()).count();
    if missing > 0 {
        let what = format!("{missing} of {} programs are built from source now, once: some minutes", names.len());
        timeline.say("build", &what);
    }
    meanwhile(
        || cluster::build(cache, layer),
        || {
            if let Some(what) = busy_with(&names, |name| bin.join(name).exists()) {
                timeline.say("build", &what);
            }
        },
    )
}

/// Builds and packs the images.
pub fn images(cache: &Cache, timeline: Timeline) -> Result<Images> {
    meanwhile(
        || pack_all(cache).map(|[countersign, shop]| Images { countersign, shop }),
        || timeline.say("build", "the operator and the shop are being compiled"),
    )
}

/// Does `work`, and calls `tell` from time to time until it is done.
fn meanwhile<T>(work: impl FnOnce() -> Result<T>, tell: impl Fn() + Send) -> Result<T> {
    thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        scope.spawn(move || {
            while waiting.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                tell();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// The first program that is missing is the one being built: they are built in order.
fn busy_with(names: &[&str], exists: impl Fn(&str) -> bool) -> Option<String> {
    let position = names.iter().position(|name| !exists(name))?;
    Some(format!("{} ({} of {})", names.get(position)?, position + 1, names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_what_is_built_next() {
        let names = ["etcd", "kube-apiserver", "kubelet"];
        assert_eq!(busy_with(&names, |name| name == "etcd").as_deref(), Some("kube-apiserver (2 of 3)"));
        assert_eq!(busy_with(&names, |_| true), None);
    }

    #[test]
    fn work_that_is_done_at_once_is_not_waited_for() {
        assert_eq!(meanwhile(|| Ok(7), || ()).unwrap(), 7);
    }
}
