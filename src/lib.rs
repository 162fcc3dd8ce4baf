//! The countersign operator.
