//! Must we act? The triggers, top to bottom; the first that fires is the named cause.

use jiff::Timestamp;

use crate::{
    api::RefreshMode,
    binding::{
        hashes::content_hash,
        intent::Intent,
        phase::Phase,
        world::{Stored, World},
    },
    value::keyed::InstallKey,
};

/// Why the sources are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trigger {
    /// There is no Secret.
    SecretMissing,
    /// The Secret was made of another spec.
    SpecChanged,
    /// The content of the Secret is not what was written, or was hashed with a key that is lost.
    Drifted,
    /// The last look failed, and nobody knows how far it came: also a write whose answer was lost.
    FailedBefore,
    /// The status does not tell that all is well: who looked last died before it was told, or failed, or could not look.
    Untold,
    /// A person asked for it.
    RequestedNow,
    /// A moment of its phase has passed.
    RefreshDue,
}

impl Trigger {
    /// Whether the Secret is written even if the sources are what they were.
    pub fn needs_values(self) -> bool {
        match self {
            Self::SecretMissing | Self::SpecChanged | Self::Drifted => true,
            Self::FailedBefore | Self::Untold | Self::RequestedNow | Self::RefreshDue => false,
        }
    }

    /// Whether somebody waits for what is at the server now: only what time alone asks for may be shared with an
    /// answer of a moment ago.
    pub fn is_waited_for(self) -> bool {
        self != Self::RefreshDue
    }
}

/// The first trigger that fires.
pub fn first(
    intent: &Intent,
    world: &World,
    key: &InstallKey,
    rendering: &str,
    phase: Phase,
    now: Timestamp,
) -> Option<Trigger> {
    let Some(stored) = world.ours(&intent.uid) else { return Some(Trigger::SecretMissing) };
    if stored.rendering.as_deref() != Some(rendering) {
        return Some(Trigger::SpecChanged);
    }
    // What was synced once is the application's own from then on.
    if intent.mode == RefreshMode::Once {
        return None;
    }
    if !is_as_written(stored, key) {
        return Some(Trigger::Drifted);
    }
    if world.memory.last.is_some() {
        return Some(Trigger::FailedBefore);
    }
    if !world.memory.told {
        return Some(Trigger::Untold);
    }
    if intent.requested.is_some() && intent.requested != world.memory.handled {
        return Some(Trigger::RequestedNow);
    }
    (intent.mode == RefreshMode::Auto && phase.last(now) > world.memory.checked).then_some(Trigger::RefreshDue)
}

/// Whether the content is what was written.
pub fn is_as_written(stored: &Stored, key: &InstallKey) -> bool {
    stored.content.as_deref() == Some(content_hash(key, &stored.type_, &stored.data).as_str())
}
