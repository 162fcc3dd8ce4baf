//! Which build this is; for `version`, the metrics and the first log line.

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, as the image build names it; `unknown` for a build by hand.
pub const REVISION: &str = env!("COUNTERSIGN_REVISION");
/// The compiler.
pub const RUSTC: &str = env!("COUNTERSIGN_RUSTC");
/// Cargo features that change what is in the binary, separated by commas.
pub const FEATURES: &str = if cfg!(feature = "testing") { "testing" } else { "" };
