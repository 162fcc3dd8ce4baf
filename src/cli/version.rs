//! `countersign version`.

use super::print;
use crate::runtime::build;

/// Prints one line.
pub(super) fn run() -> u8 {
    print(&format!("countersign {} (revision {}, rustc {})\n", build::VERSION, build::REVISION, build::RUSTC))
}
