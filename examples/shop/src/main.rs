//! Example workload.

fn main() {}
