//! The two figures of the simulator, read from what it printed.
//!
//! Pure. The simulator is a test of `core`; whoever runs the benchmark ran it before and kept its output.

use anyhow::{Context as _, Result};

/// What the simulator said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simulated {
    /// Schedules run in one second, on two threads.
    pub schedules_per_second: f64,
    /// Promises that were broken.
    pub violations: f64,
}

/// Finds the line `7000 schedules, 25000 a second, 1700 against undisturbed ones, 0 violations`.
///
/// # Errors
/// When there is none.
pub fn parse(output: &str) -> Result<Simulated> {
    output.lines().find_map(line).context("the simulator printed no result; it did not come to its end")
}

fn line(line: &str) -> Option<Simulated> {
    let mut parts = line.split(", ");
    let number = |part: Option<&str>, word: &str| -> Option<f64> { part?.strip_suffix(word)?.trim().parse().ok() };
    number(parts.next(), "schedules")?;
    let schedules_per_second = number(parts.next(), "a second")?;
    let violations = number(parts.last(), "violations")?;
    Some(Simulated { schedules_per_second, violations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_among_other_lines() {
        let output = "running 1 test\nEscrow: lost: 2 schedules, the first with COUNTERSIGN_SEED=7\n\
                      7000 schedules, 25123 a second, 1700 against undisturbed ones, 2 violations\nlosses: 4\n";
        let expected = Simulated { schedules_per_second: 25_123.0, violations: 2.0 };
        assert_eq!(parse(output).unwrap(), expected);
    }

    #[test]
    fn no_result_is_an_error() {
        assert!(parse("error: could not compile\n").is_err());
        assert!(parse("7000 schedules, many a second, 0 violations\n").is_err());
    }
}
