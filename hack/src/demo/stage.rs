//! The cluster that the demo plays on: waiting for what should become true, and what is shown when it does not.
//!
//! Must not know the order of things (`install.rs`, `prove.rs`) nor what kind of cluster it is (`site.rs`).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::facts::{self, Certificate, Pod};
use super::interrupt::Interrupt;
use super::timeline::Timeline;
use crate::cluster::env::Env;
use crate::cluster::kubectl::Kubectl;
use crate::process::tail;

/// Namespace of the operator.
pub const OPERATOR: &str = "countersign-system";

/// A running cluster, and what everybody needs to play on it.
pub struct Stage {
    /// What there is
    pub env: Env,
    /// The way to it
    pub kubectl: Kubectl,
    /// Where things are told
    pub timeline: Timeline,
    /// Whether to stop
    pub interrupt: Interrupt,
}

/// Something that should become true.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    /// As a sentence, for the timeline
    pub what: &'a str,
    /// Column of the timeline
    pub area: &'a str,
    /// What `kubectl describe` shows if it does not
    pub describe: &'a [&'a str],
    /// What to do then
    pub advice: &'a str,
    /// How long it may take
    pub within: Duration,
}

impl Stage {
    /// Prints that something happened.
    pub fn say(&self, area: &str, what: &str) {
        self.timeline.say(area, what);
    }

    /// Looks again and again until there is an answer. A time-out shows why, as far as the cluster knows.
    pub fn wait<T>(&self, goal: &Goal<'_>, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            self.interrupt.check()?;
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if start.elapsed() >= goal.within {
                let seconds = goal.within.as_secs();
                self.explain(goal);
                bail!("not within {seconds} s: {}; {}", goal.what, goal.advice);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Like [`Stage::wait`], and tells of it.
    pub fn wait_and_say<T>(&self, goal: &Goal<'_>, look: impl FnMut() -> Option<T>) -> Result<T> {
        let seen = self.wait(goal, look)?;
        self.say(goal.area, goal.what);
        Ok(seen)
    }

    /// Waits for a condition of the object that the goal describes, and tells of it.
    pub fn wait_for_condition(&self, goal: &Goal<'_>, condition: &str) -> Result<()> {
        let holds = |object| facts::condition(&object, condition).then_some(());
        self.wait_and_say(goal, || self.object(goal.describe).and_then(holds))
    }

    /// An object, named as for `kubectl get`; `None` while it cannot be read.
    pub fn object(&self, name: &[&str]) -> Option<Value> {
        self.kubectl.json(&[&["get"], name].concat()).ok()
    }

    /// What an identity says about its certificate; nothing while it cannot be read.
    pub fn certificate(&self, namespace: &str, name: &str) -> Certificate {
        self.object(&["-n", namespace, "serviceidentity", name]).map(|o| Certificate::of(&o)).unwrap_or_default()
    }

    /// The pods of a workload of the shop.
    pub fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.object(&["-n", namespace, "pods"]).map(|list| facts::pods(&list)).unwrap_or_default()
    }

    /// The object in question and the end of the operator's log, as far as they can be got.
    pub fn explain(&self, goal: &Goal<'_>) {
        let show = |title: &str, args: &[&str], lines: usize| {
            let text = self.kubectl.text(args).unwrap_or_else(|error| format!("{error:#}"));
            println!("--- {title}\n{}", tail(&text, lines));
        };
        println!("not within {} s: {}", goal.within.as_secs(), goal.what);
        if !goal.describe.is_empty() {
            show(&goal.describe.join(" "), &[&["describe"], goal.describe].concat(), 40);
        }
        show("pods of the operator", &["-n", OPERATOR, "get", "pods", "-o", "wide"], 10);
        let selector = "app.kubernetes.io/name=countersign";
        show("the operator's log", &["-n", OPERATOR, "logs", "-l", selector, "--tail", "15", "--prefix"], 30);
        println!("--- what to do\n{}", goal.advice);
    }
}
