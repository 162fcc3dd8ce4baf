//! Stages of a test command: a child that is one check, or one that runs tests whose results are counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Index of the cluster that the tests start; people use the lower ones.
pub const INDEX: u8 = 9;

/// Every feature of the workspace but those of `countersign-e2e`, whose tests need more than an API server. All test
/// commands build the whole workspace with nearly the same features, so that the second has next to nothing to compile.
pub const FEATURES: &str =
    "countersign/testing,countersign/cluster,countersign/contract,countersign/chart,countersign-core/testing";

/// What came of the tests so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// One check that held or did not.
    fn one(holds: bool) -> Self {
        Self { passed: u32::from(holds), failed: u32::from(!holds), skipped: 0 }
    }

    /// Reads a closing line of the test harness: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn read(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("test result: ")?;
        let number = |word: &str| -> Option<u32> {
            let part = rest.split([';', '.']).find(|part| part.trim_end().ends_with(word))?;
            part.trim().split(' ').next()?.parse().ok()
        };
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
    }

    /// Prints the sum as the last line; fails if something did.
    pub fn conclude(self, started: Instant) -> Result<()> {
        println!("\n{} s", started.elapsed().as_secs());
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.failed > 0 {
            bail!("{} failed", self.failed);
        }
        Ok(())
    }

    /// Whether the line says that a test found its cluster wanting. The harness calls such a test passed.
    fn is_skip(line: &str) -> bool {
        line.trim_start().starts_with("skipped: ")
    }
}

/// A command that is one check.
pub fn check(name: &str, command: &mut Command) -> Result<Counts> {
    let started = Instant::now();
    println!("\n== {name}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{name}: cannot be started"))?;
    println!("{} {name} ({} s)", if status.success() { "ok" } else { "FAILED" }, started.elapsed().as_secs());
    Ok(Counts::one(status.success()))
}

/// A command that runs tests; its output passes through, and its closing lines are added up.
pub fn counted(name: &str, command: &mut Command) -> Result<Counts> {
    let started = Instant::now();
    println!("\n== {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name}: cannot be started"))?;
    let output = child.stdout.take().context("no output")?;
    let mut counts = Counts::default();
    let mut skipped = 0;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(result) = Counts::read(&line) {
            counts += result;
        }
        skipped += u32::from(Counts::is_skip(&line));
        println!("{line}");
    }
    counts.passed = counts.passed.saturating_sub(skipped);
    counts.skipped += skipped;
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        // It did not come as far as a result: a test that does not compile, or a harness that was ended.
        counts.failed += 1;
    }
    println!("{} {name} ({} s)", if status.success() { "ok" } else { "FAILED" }, started.elapsed().as_secs());
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 14 filtered out; finished in 0.03s";
        assert_eq!(Counts::read(line), Some(Counts { passed: 12, failed: 1, skipped: 2 }));
        assert_eq!(
            Counts::read("test result: FAILED. 0 passed; 3 failed; 0 ignored"),
            Some(Counts { passed: 0, failed: 3, skipped: 0 })
        );
        assert_eq!(Counts::read("running 3 tests"), None);
    }

    #[test]
    fn a_test_that_says_so_is_skipped() {
        assert!(Counts::is_skip("skipped: ports::only_probes: the cluster lacks `enforcement`"));
        assert!(!Counts::is_skip("test ports::skipped: ok"));
    }
}
