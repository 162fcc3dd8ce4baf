//! Seeded chance; the simulator of bindings draws from it, too.

/// A stream of numbers that depends only on its seed (SplitMix64).
pub struct Chance {
    state: u64,
    /// Whether calls may fail.
    pub faults: bool,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing.
    None,
    /// The process dies before it is sent.
    KilledBefore,
    /// It is refused with an error of the server's own; nothing was done.
    Refused,
    /// It is done, and the answer does not arrive.
    Lost,
    /// The process dies after the answer.
    KilledAfter,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] = [Self::None, Self::KilledBefore, Self::Refused, Self::Lost, Self::KilledAfter];
}

impl Chance {
    /// Another stream of the same seed, so that what it decides leaves the first as it is.
    pub fn second(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0x2545_f491_4f6c_dd1d, faults: true }
    }

    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), faults: true }
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of the values.
    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        let place = usize::try_from(self.below(values.len() as u64)).unwrap();
        values[place]
    }

    /// The fault of a call: one in eight fails while faults are on.
    pub fn fault(&mut self) -> Fault {
        if !self.faults || self.below(8) > 0 {
            return Fault::None;
        }
        self.one_of(&[Fault::KilledBefore, Fault::Refused, Fault::Lost, Fault::KilledAfter])
    }
}
