//! The checker is checked: for every invariant a history that keeps it and one that breaks it and nothing else.

mod content;
mod grants;
mod honest;
mod pace;
mod reads;
mod runs;
mod scene;
mod status;
mod writes;

use std::collections::BTreeSet;

use crate::checker::{Invariant, check, exercised};
use scene::Run;

/// The run breaks nothing, and `invariant` had something to judge in it.
fn keeps(run: &Run, invariant: Invariant) {
    assert_eq!(check(&run.history), Vec::new(), "a good history");
    assert!(exercised(&run.history).contains_key(&invariant), "{invariant:?} is kept, but only vacuously");
}

/// The run breaks `invariant` and nothing else.
fn breaks(run: &Run, invariant: Invariant) {
    let violations = check(&run.history);
    let broken: BTreeSet<Invariant> = violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(broken, BTreeSet::from([invariant]), "{violations:#?}");
}
