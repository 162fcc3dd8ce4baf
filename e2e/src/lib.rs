//! Black-box tests of countersign: the release binary and the chart on a real cluster.
//!
//! Nothing here imports the operator's crates: what is tested is what is shipped.

pub mod bench;
pub mod crash;
pub mod env;
