//! The shape of every decision: do one effect, or settle until something changes.
//!
//! Every kind implements [`Machine`]; the operator's shared loop and the simulator are the only
//! two callers of it, so both run exactly the same decisions.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// What a decision asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<E, S> {
    /// Perform this one effect, absorb its reply, decide again.
    Do(E),
    /// Stop until the world changes or the settlement's wake time passes.
    Settle(S),
}

/// One kind's pure state machine.
///
/// `decide` is total and memoryless: everything it knows is in the intent, the world and `now`
/// (whole seconds). A crash between two effects is therefore just a new call of `decide`.
pub trait Machine {
    /// The parsed, valid spec.
    type Intent;
    /// What was observed, plus the replies absorbed since.
    type World;
    /// One remote call or write, fully specified.
    type Effect;
    /// The result of performing an effect.
    type Reply;
    /// Why the machine stopped, and for how long.
    type Settled;

    /// Names the next effect, or settles.
    fn decide(intent: &Self::Intent, world: &Self::World, now: Timestamp) -> Next<Self::Effect, Self::Settled>;

    /// Folds a reply into the world.
    fn absorb(world: Self::World, reply: Self::Reply) -> Self::World;
}

/// The most effects one pass may perform before it is set aside as a bug: a machine that does not
/// settle by then is looping.
pub const MAX_EFFECTS: usize = 16;

/// A fraction in `[0, 1)` that depends only on `parts`: `SHA-256(parts…)[0..8] / 2^64`.
///
/// All jitter is derived this way, so that it is the same after a restart and the same in a test.
pub fn spread(parts: &[&[u8]]) -> f64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut first = [0_u8; 8];
    for (to, from) in first.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    // 53 bits are what an f64 holds exactly; the rest would only round up to 1.0.
    #[expect(clippy::cast_precision_loss, reason = "the value was shifted to 53 bits, which f64 holds exactly")]
    let numerator = (u64::from_be_bytes(first) >> 11) as f64;
    numerator / 9_007_199_254_740_992.0
}

/// `base` moved by up to ±20 %, by `uid`: keeps objects that failed together from retrying together.
pub fn jittered(base: Duration, uid: &str) -> Duration {
    base.mul_f64(0.8 + 0.4 * spread(&[uid.as_bytes()]))
}
