//! An independent judge of histories of bindings: it asserts what the documents promise, and nothing else.
//!
//! It must not know how the operator decides: it imports the closed words of the API and the plain data of
//! [`crate::history`], no more. Each promise is one small function whose comment is the sentence it stands for; [`pass`]
//! walks a history once, shows every entry to the functions that speak of such an entry, and then lets [`view::View`]
//! take the entry in. Judgement therefore always sees the world as it was just before the entry.
//!
//! A promise is judged only where a history proves it broken; where lateness, a lost answer or a change of the
//! surroundings may explain an act, it is excused. One act is one violation where two sentences cover the same harm:
//! the narrower one names it (data that change during an outage are I-07, a key that vanishes is I-05, else I-06).

mod content;
mod deadlines;
mod end_state;
mod grants;
mod lease;
mod logins;
mod paces;
mod reads;
mod render;
mod status;
mod view;
mod writes;

use std::collections::BTreeMap;

pub use end_state::end_state_equal;

use crate::history::{Entry, Event, FOREIGN_TEXT, History, ProcessChange, VALUE_PREFIX};
use view::{View, operator};

macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// A promise of the documents. `I..` are the invariants of the reliability document; the others are said in
        /// the secrets document, or are rows of the failure catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[doc = $doc])+ $name),+ }

        impl Invariant {
            /// Every invariant.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

invariants! {
    /// The target goes only with its owner, and only where `deletionPolicy` says so.
    I04,
    /// No key vanishes or empties without a reason, and no target is deleted by us (also S2).
    I05,
    /// What is stored is one rendering of one spec from one version of each source (also S1).
    I06,
    /// Nothing changes while Vault is in doubt.
    I07,
    /// Only Secrets with our label and the binding's UID are written over.
    I08,
    /// Only what a grant covers and a binding names is read, at the one address, with a token of our own (also S3, S4).
    I09,
    /// Writes over something and deletes carry preconditions.
    I10,
    /// Logins and calls keep to their budgets (also S4).
    I14,
    /// A steady cluster costs nothing, and what did not change is not written (also S12).
    I15,
    /// Only the holder of the leader lease writes.
    I16,
    /// After faults the end state is the undisturbed one.
    I17,
    /// One create for one binding, and no delete.
    I18,
    /// No foreign bytes and no values in any text (also S5).
    I23,
    /// Status tells the truth, and in time.
    I26,
    /// No panic ends the process.
    I29,
    /// What forbids a refresh is looked at before Vault is asked, and the fence before a Secret is touched.
    GatesFirst,
    /// No Vault call whose result could not be stored (K1).
    ApiFirst,
    /// While a connection is known to be down, only its health is asked for.
    Breaker,
    /// An older version is stored only after it was shown for a minute.
    WentBack,
    /// What is gone or not shown changes nothing.
    DeletedIsKept,
    /// No read before its time, also not by a process that has just started.
    NotDue,
    /// What is due is done (S14).
    Due,
    /// A target is looked at every five minutes, and repaired.
    DriftSeen,
    /// At most one forced try a minute of what fails.
    OneForcedTry,
    /// The version that is pinned is the one stored.
    Pinned,
    /// The type of the Secret is the spec's.
    Type,
    /// The owner reference follows `deletionPolicy`.
    Ownership,
    /// No forced write (S11).
    NoForce,
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
    let mut view = View::new();
    for entry in &history.entries {
        deadlines::judge(&mut view, entry, &mut findings);
        match &entry.event {
            Event::Secret(request) => writes::judge(&view, entry, request, &mut findings),
            Event::Status(write) => status::judge(&view, entry, write, &mut findings),
            Event::Vault(request) => reads::judge(&view, entry, request, &mut findings),
            Event::Text(line) => says_nothing_secret(entry, line, &mut findings),
            Event::Process(change) => {
                let ended_well = *change != ProcessChange::Panicked;
                findings.judge(Invariant::I29, entry, ended_well, "the process ended by a panic");
            }
            Event::Binding { .. } | Event::World(_) | Event::Lease(_) | Event::Mark(_) => {}
        }
        view.absorb(entry);
    }
    findings
}

/// How every value begins as it is, in base64 and in hexadecimal digits, and what foreign servers say.
const CANARIES: [&str; 4] = [VALUE_PREFIX, "aHVzaC", "687573682d", FOREIGN_TEXT];

/// I-23: "Canary bytes (per value; raw, base64, hex …) occur only in target Secrets and VP traffic: not in logs, events,
/// status, metrics, errors".
fn says_nothing_secret(entry: &Entry, text: &str, findings: &mut Findings) {
    if operator(entry).is_some() {
        let tells = CANARIES.iter().any(|canary| text.contains(canary));
        findings.judge(Invariant::I23, entry, !tells, "a value or a foreign text in a text of ours");
    }
}
