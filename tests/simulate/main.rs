//! The simulator: the operator's decisions against model servers, and an independent judge of what came of it.

mod checker;
#[cfg(test)]
mod checker_tests;
mod history;
