//! Words of a status, read back into the closed words of the API.

use countersign_core::api::{ConditionType, Reason, Verdict};

/// A condition type by its name.
pub fn condition(name: &str) -> Option<ConditionType> {
    ConditionType::named(name)
}

/// A verdict by its name.
pub fn verdict(name: &str) -> Verdict {
    match name {
        "True" => Verdict::True,
        "False" => Verdict::False,
        _ => Verdict::Unknown,
    }
}

/// A reason by its name.
pub fn reason(name: &str) -> Option<Reason> {
    Reason::named(name)
}
