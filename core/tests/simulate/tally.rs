//! The count of what was hit.

use std::collections::BTreeMap;

use countersign_core::{
    api::Reason,
    identity::{
        triggers::Trigger,
        world::{Outcome, Settled},
    },
};

use crate::chance::Fault;

/// The calls of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effects {
    /// The empty patch that reads the target.
    Read,
    /// A key pair in memory.
    MakeKey,
    /// A signature.
    Sign,
    /// The apply of the target.
    WriteSecret,
    /// The apply of the status.
    WriteStatus,
    /// The read of the Secret with the domain's own authority.
    ReadAuthority,
    /// The creation of that Secret.
    MakeAuthority,
    /// The apply of the domain's status.
    WriteTrustStatus,
}

impl Effects {
    /// Every call.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::MakeKey,
        Self::Sign,
        Self::WriteSecret,
        Self::WriteStatus,
        Self::ReadAuthority,
        Self::MakeAuthority,
        Self::WriteTrustStatus,
    ];
}

/// How often each call with each fault, each trigger and each closed gate was hit.
#[derive(Default)]
pub struct Tally {
    calls: BTreeMap<(Effects, Fault), u64>,
    triggers: BTreeMap<Trigger, u64>,
    gates: BTreeMap<Reason, u64>,
}

/// Gates that a run must have closed.
const GATES: [Reason; 25] = [
    Reason::Suspended,
    Reason::NamespaceTerminating,
    Reason::TrustDomainNotFound,
    Reason::TrustDomainNotReady,
    Reason::ServiceAccountMissing,
    Reason::ServiceMissing,
    Reason::NameNotAllowed,
    Reason::ReservedName,
    Reason::TTLNotAllowed,
    Reason::FenceMissing,
    Reason::TargetNotOwned,
    Reason::TargetImmutable,
    Reason::TargetTypeMismatch,
    Reason::IssuanceThrottled,
    Reason::AnswerRejected,
    Reason::LoginFailed,
    Reason::IssuerUnavailable,
    Reason::TargetClaimed,
    Reason::AccessDenied,
    Reason::IssuerNotUsable,
    Reason::RenewalNotLater,
    Reason::Throttled,
    Reason::AuthorityLost,
    Reason::PermissionMissing,
    Reason::ApiServerUnavailable,
];

/// Triggers that a run must have fired.
const TRIGGERS: [Trigger; 9] = [
    Trigger::SecretMissing,
    Trigger::KeyMismatch,
    Trigger::NamesChanged,
    Trigger::KeyPolicyChanged,
    Trigger::IssuerChanged,
    Trigger::Expired,
    Trigger::RenewalDue,
    Trigger::RequestedNow,
    Trigger::RootsChanged,
];

impl Tally {
    /// Counts a call.
    pub fn call(&mut self, effect: Effects, fault: Fault) {
        *self.calls.entry((effect, fault)).or_default() += 1;
    }

    /// Counts why an effect was named.
    pub fn trigger(&mut self, trigger: Trigger) {
        *self.triggers.entry(trigger).or_default() += 1;
    }

    /// Counts how a pass ended.
    pub fn settled(&mut self, settled: &Settled) {
        match &settled.outcome {
            Outcome::Steady => {}
            Outcome::Held(hold) => self.stopped(hold.failure.reason),
            Outcome::Failed { failure, .. } => self.stopped(failure.reason),
        }
    }

    /// Counts a pass that did not reach its goal.
    pub fn stopped(&mut self, reason: Reason) {
        *self.gates.entry(reason).or_default() += 1;
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: Self) {
        other.calls.into_iter().for_each(|(key, count)| *self.calls.entry(key).or_default() += count);
        other.triggers.into_iter().for_each(|(key, count)| *self.triggers.entry(key).or_default() += count);
        other.gates.into_iter().for_each(|(key, count)| *self.gates.entry(key).or_default() += count);
    }

    /// The table, and everything that was never hit.
    pub fn report(&self) -> (String, Vec<String>) {
        let mut lines = Vec::new();
        let mut never = Vec::new();
        let mut row = |name: String, count: Option<&u64>| match count {
            Some(count) => lines.push(format!("  {name:<32} {count}")),
            None => never.push(name),
        };
        for effect in Effects::ALL {
            for fault in Fault::ALL {
                // A key is made in memory: there is nobody to refuse it and no answer to lose.
                let possible = effect != Effects::MakeKey || !matches!(fault, Fault::Refused | Fault::Lost);
                if possible {
                    row(format!("{effect:?} × {fault:?}"), self.calls.get(&(effect, fault)));
                }
            }
        }
        TRIGGERS.iter().for_each(|trigger| row(format!("trigger {trigger:?}"), self.triggers.get(trigger)));
        GATES.iter().for_each(|reason| row(format!("stopped by {reason:?}"), self.gates.get(reason)));
        (lines.join("\n"), never)
    }
}
