//! What happened, and how many seconds after the start.
//!
//! Knows nothing of what it prints. Used by everything of the demo.

use std::time::{Duration, Instant};

/// Prints one line for each thing that became true.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    start: Instant,
}

impl Timeline {
    /// Seconds count from here.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Prints that `what` happened now; `area` is one word for the column before it.
    pub fn say(&self, area: &str, what: &str) {
        println!("{}", line(self.elapsed(), area, what));
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

fn line(at: Duration, area: &str, what: &str) -> String {
    let indented = what.replace('\n', "\n                     ");
    format!("{:7.1} s  {area:<9} {indented}", at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_in_line_whatever_the_time_and_the_text() {
        assert_eq!(line(Duration::from_millis(1_250), "shop", "a"), "    1.2 s  shop      a");
        assert_eq!(line(Duration::from_secs(1_800), "operator", "a"), " 1800.0 s  operator  a");
        assert_eq!(line(Duration::ZERO, "seal", "a\nb"), "    0.0 s  seal      a\n                     b");
    }
}
