//! Who of two replicas holds the lease: one rule for all simulators. What comes of it is theirs.

/// Who could not renew for so many seconds steps down.
const STEPS_DOWN: i64 = 10;

/// What happens to the lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Nothing,
    /// This one gives up.
    StepsDown(usize),
    /// This one renews it.
    Renewed(usize),
    /// It changes hands.
    Taken {
        /// Who has it now.
        heir: usize,
        /// Who had it, and finds that out.
        from: Option<usize>,
    },
}

/// Whose turn it is. The lease was renewed `age` seconds ago and is taken when that is `life`; `works` says which replica
/// runs and is not stopped.
pub fn turn(holder: Option<usize>, age: i64, life: i64, api_up: bool, works: [bool; 2]) -> Turn {
    match holder {
        Some(holder) if !api_up && age >= STEPS_DOWN => return Turn::StepsDown(holder),
        Some(holder) if api_up && works[holder] && age < life => return Turn::Renewed(holder),
        Some(_) | None => {}
    }
    if !api_up || age < life {
        return Turn::Nothing;
    }
    let heir = works.iter().position(|works| *works);
    heir.map_or(Turn::Nothing, |heir| Turn::Taken { heir, from: holder.filter(|old| *old != heir) })
}
