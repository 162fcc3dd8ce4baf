//! Who asks a server next when more want to than may: each lane has its share, and no namespace has a lane for itself.
//!
//! `vault::turns` is its only caller. Pure and without a clock: a queue of those who wait, and what was served so far.

use std::{borrow::Borrow, collections::BTreeMap};

/// The most namespaces whose last turn is remembered.
const MOST_NAMESPACES: usize = 4_096;

/// Why somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The connection itself: health, logins, tokens; and signatures, which have a queue of their own. Never waits for
    /// another lane.
    Own,
    /// Somebody waits for what is there now: a new or edited object, or one that was asked to look.
    New,
    /// Time alone asks.
    Periodic,
}

impl Lane {
    /// What it may have of a hundred while every lane wants something; what one leaves flows to the others.
    fn share(self) -> u64 {
        match self {
            Self::Own => 100,
            Self::New => 60,
            Self::Periodic => 40,
        }
    }
}

/// Somebody who wants to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    /// In which lane.
    pub lane: Lane,
    /// For an object of which namespace; empty for none.
    pub namespace: String,
}

impl Asker {
    /// The connection itself.
    pub const OWN: Self = Self { lane: Lane::Own, namespace: String::new() };
}

/// What was served so far, as far as it decides who is next.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    /// By lane: how much it has had, the smaller its share the more each request counts.
    had: BTreeMap<Lane, u64>,
    /// By lane and namespace: the number of the last request that was served for it.
    last: BTreeMap<Lane, BTreeMap<String, u64>>,
    served: u64,
}

impl Lanes {
    /// Which of the waiting goes next, and notes that it was served; the first in the list has waited longest.
    pub fn next<A: Borrow<Asker>>(&mut self, waiting: &[A]) -> Option<usize> {
        let lane = self.lane(waiting)?;
        let last = self.last.entry(lane).or_default();
        let turn = |asker: &Asker| last.get(&asker.namespace).copied().unwrap_or_default();
        let askers = waiting.iter().map(Borrow::borrow).enumerate();
        let mine = askers.filter(|(_, asker): &(usize, &Asker)| asker.lane == lane);
        // The namespace that was not served for longest; within it whoever came first.
        let (index, asker) = mine.min_by_key(|(index, asker)| (turn(asker), *index))?;
        self.served += 1;
        last.insert(asker.namespace.clone(), self.served);
        // Forgetting only lets somebody go a turn too early.
        if last.len() > MOST_NAMESPACES {
            last.clear();
        }
        Some(index)
    }

    fn lane<A: Borrow<Asker>>(&mut self, waiting: &[A]) -> Option<Lane> {
        let wants = |lane: Lane| waiting.iter().any(|asker| asker.borrow().lane == lane);
        if wants(Lane::Own) {
            return Some(Lane::Own);
        }
        let claims: Vec<Lane> = [Lane::New, Lane::Periodic].into_iter().filter(|lane| wants(*lane)).collect();
        let had = |lanes: &Self, lane: Lane| lanes.had.get(&lane).copied().unwrap_or_default();
        let lane = claims.iter().copied().min_by_key(|lane| had(self, *lane))?;
        let now = had(self, lane);
        // A lane that wanted nothing saves nothing up for later.
        for idle in [Lane::New, Lane::Periodic] {
            let entry = self.had.entry(idle).or_default();
            *entry = (*entry).max(now);
        }
        *self.had.entry(lane).or_default() += 6_000 / lane.share();
        Some(lane)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asker(lane: Lane, namespace: &str) -> Asker {
        Asker { lane, namespace: namespace.to_owned() }
    }

    /// Serves `count` of those that wait, each of whom asks again at once.
    fn serve(lanes: &mut Lanes, waiting: &[Asker], count: usize) -> Vec<Asker> {
        let mut waiting = waiting.to_vec();
        (0..count)
            .map(|_| {
                let next = waiting.remove(lanes.next(&waiting).unwrap());
                waiting.push(next.clone());
                next
            })
            .collect()
    }

    fn of(served: &[Asker], lane: Lane) -> usize {
        served.iter().filter(|asker| asker.lane == lane).count()
    }

    #[test]
    fn the_connection_itself_never_waits_for_others() {
        let mut waiting = vec![asker(Lane::Periodic, "a"); 5_000];
        waiting.extend([asker(Lane::New, "b"), Asker::OWN]);
        assert_eq!(Lanes::default().next(&waiting), Some(5_001));
    }

    #[test]
    fn what_is_new_is_not_behind_thousands_that_time_asks_for() {
        let mut lanes = Lanes::default();
        let mut waiting = vec![asker(Lane::Periodic, "a"); 5_000];
        let busy = serve(&mut lanes, &waiting, 100);
        assert_eq!(of(&busy, Lane::Periodic), 100, "what the other lane leaves flows on");
        waiting.push(asker(Lane::New, "a"));
        let served = serve(&mut lanes, &waiting, 2);
        assert!(of(&served, Lane::New) >= 1, "{served:?}");
    }

    #[test]
    fn both_lanes_have_their_shares_and_an_idle_one_saves_nothing_up() {
        let mut lanes = Lanes::default();
        serve(&mut lanes, &[asker(Lane::New, "a")], 1_000);
        let both = [asker(Lane::New, "a"), asker(Lane::Periodic, "a")];
        let served = serve(&mut lanes, &both, 100);
        assert!((59..=61).contains(&of(&served, Lane::New)), "{}", of(&served, Lane::New));
    }

    #[test]
    fn a_namespace_that_fails_a_thousand_times_does_not_slow_the_others() {
        let mut waiting = vec![asker(Lane::Periodic, "failing"); 1_000];
        waiting.extend(["a", "b", "c"].map(|name| asker(Lane::Periodic, name)));
        let served = serve(&mut Lanes::default(), &waiting, 400);
        let share = |name: &str| served.iter().filter(|asker| asker.namespace == name).count();
        assert_eq!(["failing", "a", "b", "c"].map(share), [100; 4]);
    }

    #[test]
    fn within_a_namespace_the_first_goes_first() {
        let waiting = [asker(Lane::New, "b"), asker(Lane::New, "a"), asker(Lane::New, "b")];
        let mut lanes = Lanes::default();
        assert_eq!(lanes.next(&waiting), Some(0));
        assert_eq!(lanes.next(&waiting[1..]), Some(0), "a was never served");
    }

    proptest! {
        /// Whoever waits is served within as many turns as there are others and a little more.
        #[test]
        fn nobody_starves(
            lanes in prop::collection::vec((any::<bool>(), 0..4usize), 1..40),
            which in any::<prop::sample::Index>(),
        ) {
            let waiting: Vec<Asker> = lanes
                .iter()
                .map(|(is_new, there)| asker(if *is_new { Lane::New } else { Lane::Periodic }, &there.to_string()))
                .collect();
            let (mut left, mut turns) = (waiting.clone(), 0);
            let mut who: Vec<usize> = (0..waiting.len()).collect();
            let wanted = which.index(waiting.len());
            let mut queue = Lanes::default();
            while who.contains(&wanted) {
                let next = queue.next(&left).unwrap();
                left.remove(next);
                who.remove(next);
                turns += 1;
            }
            prop_assert!(turns <= waiting.len());
        }
    }
}
