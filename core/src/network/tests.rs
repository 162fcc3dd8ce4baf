//! From declarations to rendered objects, judged pod by pod.

mod backends;
pub(super) mod oracle;
mod tables;
pub(super) mod town;

/// How many cases a property tries: the number given, or that of `COUNTERSIGN_CASES` for a longer search.
#[expect(clippy::disallowed_methods, reason = "a test is told its length by the environment")]
pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("COUNTERSIGN_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
