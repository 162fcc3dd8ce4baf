//! Short digests of public data: change detection, never secrecy.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The first 16 bytes of SHA-256 over the length-prefixed parts, hex.
///
/// Each part is preceded by its length, so that no two lists of parts give the same input.
pub fn short(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    HEXLOWER.encode(digest.get(..16).unwrap_or(&digest))
}
