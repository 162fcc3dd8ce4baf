//! Black-box tests of countersign: the release binary and the chart on a real cluster.
//!
//! Nothing here imports the operator's crates: what is tested is what is shipped.

pub mod api;
pub mod audit;
pub mod bao;
pub mod bench;
pub mod cilium;
pub mod cluster;
pub mod conditions;
pub mod crash;
pub mod env;
pub mod helm;
pub mod identity;
pub mod judges;
pub mod leaks;
pub mod manifests;
pub mod metrics;
pub mod netns;
pub mod operator;
pub mod outputs;
pub mod program;
pub mod records;
pub mod rights;
pub mod shop;
pub mod wait;
