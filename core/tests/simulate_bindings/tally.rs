//! The count of what was hit.

use std::collections::BTreeMap;

use countersign_core::{
    api::Reason,
    binding::{
        triggers::Trigger,
        world::{Outcome, Settled},
    },
};

use crate::chance::Fault;

/// The calls of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effects {
    /// The empty patch that reads the target.
    ReadTarget,
    /// A login.
    Login,
    /// The look whether a token lives.
    LookUp,
    /// What a mount is.
    ReadMount,
    /// The versions of a secret.
    ReadMetadata,
    /// The values of a version.
    ReadValues,
    /// The values where there are no versions.
    ReadUnversioned,
    /// The apply of the target.
    WriteSecret,
    /// The apply of the status.
    WriteStatus,
}

impl Effects {
    /// Every call.
    pub const ALL: [Self; 9] = [
        Self::ReadTarget,
        Self::Login,
        Self::LookUp,
        Self::ReadMount,
        Self::ReadMetadata,
        Self::ReadValues,
        Self::ReadUnversioned,
        Self::WriteSecret,
        Self::WriteStatus,
    ];
}

/// How often each call with each fault, each trigger and each reason was hit.
#[derive(Default)]
pub struct Tally {
    calls: BTreeMap<(Effects, Fault), u64>,
    triggers: BTreeMap<Trigger, u64>,
    reasons: BTreeMap<Reason, u64>,
}

/// Reasons for which a pass must have stopped.
const REASONS: [Reason; 29] = [
    Reason::Suspended,
    Reason::NamespaceTerminating,
    Reason::ConnectionNotAllowed,
    Reason::PathNotAllowed,
    Reason::ServiceAccountMissing,
    Reason::FenceMissing,
    Reason::TargetClaimed,
    Reason::TargetNotOwned,
    Reason::TargetImmutable,
    Reason::TargetTypeMismatch,
    Reason::ApiServerUnavailable,
    Reason::LoginFailed,
    Reason::AccessDenied,
    Reason::MountMissing,
    Reason::InvalidSpec,
    Reason::RemoteMissing,
    Reason::RemoteDeleted,
    Reason::RemoteVersionMissing,
    Reason::RemoteKeyMissing,
    Reason::KeyCollision,
    Reason::SourceWentBack,
    Reason::WriteConflict,
    Reason::Throttled,
    Reason::VaultSealed,
    Reason::VaultUnavailable,
    Reason::BackendFailing,
    Reason::StandbyRedirect,
    Reason::UpstreamInvalid,
    Reason::ConnectionNotReady,
];

/// Triggers that a run must have fired.
const TRIGGERS: [Trigger; 7] = [
    Trigger::SecretMissing,
    Trigger::SpecChanged,
    Trigger::Drifted,
    Trigger::FailedBefore,
    Trigger::Untold,
    Trigger::RequestedNow,
    Trigger::RefreshDue,
];

impl Tally {
    /// Counts a call.
    pub fn call(&mut self, effect: Effects, fault: Fault) {
        *self.calls.entry((effect, fault)).or_default() += 1;
    }

    /// Counts why the sources were read.
    pub fn trigger(&mut self, trigger: Trigger) {
        *self.triggers.entry(trigger).or_default() += 1;
    }

    /// Counts how a pass ended.
    pub fn settled(&mut self, settled: &Settled) {
        match &settled.outcome {
            Outcome::Steady { .. } => {}
            Outcome::Held(failure) | Outcome::Failed { failure, .. } => {
                *self.reasons.entry(failure.reason).or_default() += 1;
            }
        }
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: Self) {
        other.calls.into_iter().for_each(|(key, count)| *self.calls.entry(key).or_default() += count);
        other.triggers.into_iter().for_each(|(key, count)| *self.triggers.entry(key).or_default() += count);
        other.reasons.into_iter().for_each(|(key, count)| *self.reasons.entry(key).or_default() += count);
    }

    /// The table, and everything that was never hit.
    pub fn report(&self) -> (String, Vec<String>) {
        let mut lines = Vec::new();
        let mut never = Vec::new();
        let mut row = |name: String, count: Option<&u64>| match count {
            Some(count) => lines.push(format!("  {name:<36} {count}")),
            None => never.push(name),
        };
        for effect in Effects::ALL {
            for fault in Fault::ALL {
                row(format!("{effect:?} × {fault:?}"), self.calls.get(&(effect, fault)));
            }
        }
        TRIGGERS.iter().for_each(|trigger| row(format!("trigger {trigger:?}"), self.triggers.get(trigger)));
        REASONS.iter().for_each(|reason| row(format!("stopped by {reason:?}"), self.reasons.get(reason)));
        (lines.join("\n"), never)
    }
}
