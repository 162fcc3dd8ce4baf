//! The countersign operator.

pub mod vault;
