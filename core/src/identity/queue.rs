//! Who gets the next signature: first those without a valid certificate, then those with the
//! smallest share of their life left.

use jiff::Timestamp;

use crate::{identity::renewal, value::x509::Leaf};

/// A place in the queue for signatures; smaller is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Urgency {
    /// There is no valid certificate.
    NothingValid,
    /// Thousandths of the lifetime that are left.
    Left(u16),
}

impl Urgency {
    /// The urgency of replacing `leaf` at `now`.
    pub fn of(leaf: Option<&Leaf>, now: Timestamp) -> Self {
        let Some(leaf) = leaf.filter(|leaf| leaf.not_after > now) else { return Self::NothingValid };
        let left = leaf.not_after.as_second() - now.as_second();
        let thousandths = (left * 1_000 / renewal::lifetime(leaf)).clamp(0, 1_000);
        Self::Left(u16::try_from(thousandths).unwrap_or(1_000))
    }
}

/// Of the slots, how many stay free for identities without a valid certificate: a fifth.
pub fn reserved(slots: usize) -> usize {
    slots / 5
}

/// Which of the waiting goes next; `None` when no slot is free for any of them.
///
/// Among equals the one that has waited longest (the first in the list) goes first.
pub fn next(waiting: &[Urgency], in_flight: usize, slots: usize) -> Option<usize> {
    let (index, urgency) = waiting.iter().enumerate().min_by_key(|(index, urgency)| (**urgency, *index))?;
    let open = match urgency {
        Urgency::NothingValid => slots,
        Urgency::Left(_) => slots - reserved(slots),
    };
    (in_flight < open).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::renewal::second;

    #[test]
    fn nothing_valid_goes_first_then_the_least_left() {
        let waiting = [Urgency::Left(500), Urgency::Left(10), Urgency::NothingValid, Urgency::NothingValid];
        assert_eq!(next(&waiting, 0, 10), Some(2));
        assert_eq!(next(&waiting[..2], 0, 10), Some(1));
        assert_eq!(next(&[], 0, 10), None);
    }

    #[test]
    fn a_fifth_of_the_slots_is_kept_for_those_without_a_certificate() {
        assert_eq!(next(&[Urgency::Left(1)], 8, 10), None);
        assert_eq!(next(&[Urgency::Left(1)], 7, 10), Some(0));
        assert_eq!(next(&[Urgency::NothingValid], 9, 10), Some(0));
        assert_eq!(next(&[Urgency::NothingValid], 10, 10), None);
        assert_eq!(next(&[Urgency::Left(1)], 0, 1), Some(0));
    }

    #[test]
    fn urgency_is_the_share_of_life_left() {
        let leaf = Leaf::test("01").valid(second(0), second(1_000));
        assert_eq!(Urgency::of(Some(&leaf), second(250)), Urgency::Left(750));
        assert_eq!(Urgency::of(Some(&leaf), second(1_000)), Urgency::NothingValid);
        assert_eq!(Urgency::of(None, second(0)), Urgency::NothingValid);
    }
}
