//! Figures of tests of `core`, the simulator and the closed network of a large cluster, read from what they printed.
//!
//! Pure. Whoever runs the benchmark ran them before and kept their output.

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

/// What a pass over the network of a large cluster costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// One pass, in milliseconds, on one core.
    pub pass_ms: f64,
    /// Writes of a pass in which nothing changed.
    pub resync_writes: f64,
    /// The most objects that one edited edge wrote.
    pub objects_an_edge: f64,
}

/// Finds the line `network: 900 ms a pass, 0 writes when nothing changed, 2 objects an edge`.
///
/// # Errors
/// When there is none.
pub fn network(output: &str) -> Result<Network> {
    output.lines().find_map(network_line).context("the network was not measured; its test did not come to its end")
}

fn network_line(line: &str) -> Option<Network> {
    let mut parts = line.strip_prefix("network: ")?.split(", ");
    let mut number = |word: &str| -> Option<f64> { parts.next()?.strip_suffix(word)?.trim().parse().ok() };
    Some(Network {
        pass_ms: number("ms a pass")?,
        resync_writes: number("writes when nothing changed")?,
        objects_an_edge: number("objects an edge")?,
    })
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
    fn the_network_is_found_too() {
        let output = "running 1 test\nnetwork: 900 ms a pass, 0 writes when nothing changed, 2 objects an edge\n";
        let expected = Network { pass_ms: 900.0, resync_writes: 0.0, objects_an_edge: 2.0 };
        assert_eq!(network(output).unwrap(), expected);
        assert!(network("network: many ms a pass\n").is_err());
    }

    #[test]
    fn no_result_is_an_error() {
        assert!(parse("error: could not compile\n").is_err());
        assert!(parse("7000 schedules, many a second, 0 violations\n").is_err());
    }
}
