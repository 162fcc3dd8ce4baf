//! The only place with randomness.
//!
//! Keys do not come from here: the TLS library makes them from the same system generator itself.
//! What does is everything else that must not be guessed or repeated, such as the name of one
//! candidate in the election.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};

/// A source of random bytes.
#[derive(Debug)]
pub struct Entropy(Source);

#[derive(Debug)]
enum Source {
    System(SystemRandom),
    #[cfg(any(test, feature = "testing"))]
    Seeded(std::sync::Mutex<Stream>),
}

impl Entropy {
    /// The system's generator.
    pub fn system() -> Self {
        Self(Source::System(SystemRandom::new()))
    }

    /// The same bytes for the same seed and purpose, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn seeded(seed: u64, purpose: &str) -> Self {
        Self(Source::Seeded(std::sync::Mutex::new(Stream { seed, purpose: purpose.into(), drawn: 0 })))
    }

    /// `N` random bytes; a class `Bug` failure if the system has none to give.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        match &self.0 {
            Source::System(system) => system.fill(&mut bytes).map_err(|_| {
                Failure::new(Class::Bug, Reason::InternalError, "the system's random generator gave no bytes")
            })?,
            #[cfg(any(test, feature = "testing"))]
            Source::Seeded(stream) => stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill(&mut bytes),
        }
        Ok(bytes)
    }
}

/// SHA-256 in counter mode.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
struct Stream {
    seed: u64,
    purpose: String,
    drawn: u64,
}

#[cfg(any(test, feature = "testing"))]
impl Stream {
    fn fill(&mut self, bytes: &mut [u8]) {
        use sha2::{Digest, Sha256};
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(self.drawn.to_be_bytes())
                .chain_update(&self.purpose)
                .finalize();
            self.drawn += 1;
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_does_not_repeat_itself() {
        let entropy = Entropy::system();
        assert_ne!(entropy.bytes::<16>().unwrap(), entropy.bytes::<16>().unwrap());
    }

    #[test]
    fn a_seed_and_a_purpose_name_one_stream() {
        let draw = |seed, purpose| {
            let entropy = Entropy::seeded(seed, purpose);
            (entropy.bytes::<40>().unwrap(), entropy.bytes::<8>().unwrap())
        };
        assert_eq!(draw(1, "candidate"), draw(1, "candidate"));
        assert_ne!(draw(1, "candidate"), draw(2, "candidate"));
        assert_ne!(draw(1, "candidate"), draw(1, "other"));
        let (first, second) = draw(1, "candidate");
        assert_ne!(first[..8], second);
        assert_ne!(first[..8], first[32..]);
    }
}
