//! Keyed hashes of secret content: change detection that tells nobody who lacks the key anything.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::value::secret_data::SecretBytes;

/// The key of an installation. Has no `Debug` of its bytes, and is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallKey {
    id: String,
    key: SecretBytes,
}

/// How many bytes a key has.
pub const KEY_LENGTH: usize = 32;

impl InstallKey {
    /// The key with these bytes; `None` unless there are [`KEY_LENGTH`] of them.
    pub fn new(key: SecretBytes) -> Option<Self> {
        if key.expose().len() != KEY_LENGTH {
            return None;
        }
        let digest = Sha256::digest(key.expose());
        let id = HEXLOWER.encode(digest.get(..4).unwrap_or(&digest));
        Some(Self { id, key })
    }

    /// `<key id>:<HMAC-SHA256>` over the length-prefixed parts, hex; the HMAC is cut to 16 bytes.
    pub fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        // HMAC takes a key of any length, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.expose()) else { return String::new() };
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        let tag = mac.finalize().into_bytes();
        format!("{}:{}", self.id, HEXLOWER.encode(tag.get(..16).unwrap_or(&tag)))
    }

    /// Whether a hash was made with this key.
    pub fn made(&self, hash: &str) -> bool {
        hash.split_once(':').is_some_and(|(id, _)| id == self.id)
    }
}

impl fmt::Debug for InstallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstallKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_and_another_split_give_another_hash() {
        let key = |byte| InstallKey::new(SecretBytes::new(vec![byte; KEY_LENGTH])).unwrap();
        let hash = key(1).hash([b"ab".as_slice(), b"c"]);
        assert_eq!(hash, key(1).hash([b"ab".as_slice(), b"c"]));
        assert_ne!(hash, key(1).hash([b"a".as_slice(), b"bc"]));
        assert_ne!(hash, key(2).hash([b"ab".as_slice(), b"c"]));
        assert!(key(1).made(&hash) && !key(2).made(&hash) && !key(1).made(""));
        assert!(InstallKey::new(SecretBytes::new(vec![1; KEY_LENGTH - 1])).is_none());
    }
}
