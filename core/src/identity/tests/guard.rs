//! The storm guard, held against what a process has bought and not recorded yet.

use super::shell::{START, Shell};
use crate::{
    api::Reason,
    identity::{
        Identity,
        renewal::second,
        world::{Effect, Outcome, Progress},
    },
    next::{Machine, Next},
};

/// The answer of a write was lost, the spec changed, and no status could be written between the two.
#[test]
fn what_was_bought_and_not_recorded_counts() {
    let mut shell = Shell::new();
    for number in 0..2 {
        shell.intent.service_account = format!("account-{number}");
        shell.pass(START + number);
    }
    shell.intent.service_account = "another".to_owned();
    for (signed, is_held) in [(0, false), (1, true)] {
        let mut world = shell.world(START + 5);
        world.progress = Progress { signed, ..Progress::default() };
        match Identity::decide(&shell.intent, &world, second(START + 5)) {
            Next::Do(Effect::MakeKey { .. }) => assert!(!is_held, "{signed}"),
            Next::Settle(settled) => {
                let Outcome::Held(hold) = &settled.outcome else { panic!("{settled:?}") };
                assert_eq!((hold.failure.reason, is_held), (Reason::IssuanceThrottled, true), "{signed}");
                assert_eq!(settled.wake, Some(second(START + 600)));
            }
            Next::Do(effect) => panic!("{effect:?}"),
        }
    }
}
