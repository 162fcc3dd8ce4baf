//! An independent judge of histories: it asserts what the documents promise, and nothing else.
//!
//! It must not know how the operator decides: it imports the closed words of the API and the plain
//! data of [`crate::history`], no more. Each promise is one small function whose comment is the
//! sentence it stands for; [`pass`] walks a history once, shows every entry to the functions that
//! speak of such an entry, and then lets [`view::View`] take the entry in. Judgement therefore
//! always sees the world as it was just before the entry.
//!
//! One act is one violation: where two sentences cover the same harm, the narrower one names it
//! (a target deleted during an outage is I-07, otherwise I-05).
//!
//! Times are compared with a tolerance of [`SKEW`] seconds, because the operator may follow its own
//! clock as long as that is no further off.

mod content;
mod deadlines;
mod end_state;
mod leaks;
mod names;
mod signing;
mod status;
mod vault;
mod view;
mod writes;

use std::collections::BTreeMap;

pub use end_state::end_state_equal;

use crate::history::{Entry, Event, History};
use view::View;

/// Seconds by which a process's clock may differ from the servers' before it has to follow theirs.
pub const SKEW: i64 = 60;

macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// A promise of the documents. `I..` are the invariants of the reliability document and
        /// `N..` the "never" list of the identity document, where it says more than one of the former.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[doc = $doc])+ $name),+ }

        impl Invariant {
            /// Every invariant.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

invariants! {
    /// Key and certificate of one version belong together (also N1).
    I01,
    /// A stored leaf chains to the domain's authority, is no CA, and has exactly the computed names.
    I02,
    /// `notAfter` never decreases (also N5).
    I03,
    /// The target exists as long as its owner.
    I04,
    /// Nothing is deleted or emptied for want of proof (also N4).
    I05,
    /// One version carries one answer.
    I06,
    /// Nothing changes while Vault is in doubt.
    I07,
    /// Only objects with our label and a matching owner are touched (also N9).
    I08,
    /// Everything stays inside the owner's namespace and the domain's path.
    I09,
    /// Deletes and updates carry preconditions.
    I10,
    /// Logins and calls keep to their budgets (also N10).
    I14,
    /// A steady cluster costs nothing (also N12).
    I15,
    /// Only the holder of the leader lease writes.
    I16,
    /// After faults the end state is the undisturbed one.
    I17,
    /// Creates and deletes are as many as in the undisturbed run.
    I18,
    /// No foreign bytes in any text.
    I23,
    /// No credentials in any text (also N10).
    I24,
    /// Status tells the truth, and in time (also N11).
    I26,
    /// No panic ends the process.
    I29,
    /// Nothing short-lived is stored, and a quarter of life is left at renewal.
    I30,
    /// A private key lives in its own Secret only.
    N2,
    /// A stored leaf passes every check made of an answer.
    N3,
    /// Trust first, then issue; distrust last.
    N6,
    /// No new embedded root without being asked.
    N7,
    /// A CA key stays in the operator's namespace.
    N8,
    /// No forced write.
    N9,
    /// `ca.crt` is the domain's trust set, never the answer's.
    TrustSet,
    /// What forbids a certificate is looked at before a signature is asked for.
    GatesFirst,
    /// The target was read at most 10 s before a signature, and could be written.
    TargetReadFirst,
    /// One signature for one decision.
    OneSignature,
    /// At most 3 issues in 10 min and 20 a day for one identity.
    StormGuard,
    /// At most one forced try a minute for one identity.
    OneForcedTry,
    /// A renewal is one Secret write and one status write.
    TwoWrites,
    /// An unreachable issuer is not a failure of the object.
    OutageIsNoAttempt,
    /// Without the fence no Secret outside the operator's namespace is touched.
    FenceFirst,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub invariant: Invariant,
    /// The ordinal of the entry that broke it.
    pub at: usize,
    /// How.
    pub why: String,
}

/// Everything in `history` that breaks a promise, in order.
pub fn check(history: &History) -> Vec<Violation> {
    pass(history).violations
}

/// How often each invariant had something to judge; what is absent was only vacuously kept.
pub fn exercised(history: &History) -> BTreeMap<Invariant, usize> {
    let findings = pass(history);
    let counted = Invariant::ALL.iter().copied().zip(findings.judged);
    counted.filter(|(_, times)| *times > 0).collect()
}

/// What was judged, and what was found.
struct Findings {
    violations: Vec<Violation>,
    judged: [usize; Invariant::ALL.len()],
}

impl Findings {
    /// Counts one judgement of `invariant` and records a violation unless it `holds`.
    #[inline]
    fn judge(&mut self, invariant: Invariant, entry: &Entry, holds: bool, why: &'static str) {
        if let Some(times) = self.judged.get_mut(invariant as usize) {
            *times += 1;
        }
        if !holds {
            self.violations.push(Violation { invariant, at: entry.ordinal, why: why.to_owned() });
        }
    }
}

fn pass(history: &History) -> Findings {
    let mut findings = Findings { violations: Vec::new(), judged: [0; Invariant::ALL.len()] };
    let mut view = View::new(history);
    for entry in &history.entries {
        deadlines::judge(&mut view, entry, &mut findings);
        match &entry.event {
            Event::Kube(request) => {
                writes::judge(&view, entry, request, &mut findings);
                content::judge(&view, entry, request, &mut findings);
            }
            Event::Status(write) => {
                status::judge(&view, entry, write, &mut findings);
                leaks::judge_status(&view, entry, write, &mut findings);
            }
            Event::Vault(request) => vault::judge(&view, entry, request, &mut findings),
            Event::Sign(signature) => signing::judge(&view, entry, signature, &mut findings),
            Event::Text(line) => leaks::judge_line(&view, entry, line, &mut findings),
            Event::Process(change) => status::judge_process(entry, *change, &mut findings),
            Event::Identity(_)
            | Event::Domain(_)
            | Event::Connection(_)
            | Event::World(_)
            | Event::Lease(_)
            | Event::Mark(_) => {}
        }
        view.absorb(entry);
    }
    findings
}
