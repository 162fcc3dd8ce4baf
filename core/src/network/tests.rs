//! From declarations to rendered objects, judged pod by pod.

pub(super) mod oracle;
mod tables;
pub(super) mod town;
