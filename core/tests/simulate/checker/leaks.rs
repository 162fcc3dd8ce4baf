//! Text that others can read, searched for bytes that must not be in it.

use super::{
    Findings, Invariant,
    view::{View, operator},
};
use crate::history::{Canary, CanaryKind, Entry, StatusWrite, TextLine};

/// The bytes that canaries start with: most bytes of most texts are none of them.
pub fn starts(canaries: &[Canary]) -> [bool; 256] {
    let mut starts = [false; 256];
    for first in canaries.iter().filter_map(|canary| canary.needle.bytes().next()) {
        if let Some(is_start) = starts.get_mut(usize::from(first)) {
            *is_start = true;
        }
    }
    starts
}

/// Logs, events and metrics.
pub fn judge_line(view: &View<'_>, entry: &Entry, line: &TextLine, findings: &mut Findings) {
    judge_texts(view, entry, std::iter::once(&*line.text), findings);
}

/// Every message of a status.
pub fn judge_status(view: &View<'_>, entry: &Entry, write: &StatusWrite, findings: &mut Findings) {
    let failure = write.last_failure.as_ref().map(|failure| &*failure.message);
    judge_texts(view, entry, write.conditions.iter().map(|one| &*one.message).chain(failure), findings);
}

/// I-23: "Canary bytes … occur only in target Secrets and VP traffic: not in logs, events, status, metrics, errors".
/// I-24: "Lease ids, accessors, tokens, JWTs, private keys, keystore passwords: not in logs, events, status, metrics."
fn judge_texts<'t>(view: &View<'_>, entry: &Entry, texts: impl Iterator<Item = &'t str>, findings: &mut Findings) {
    if operator(entry).is_none() || view.history.settings.canaries.is_empty() {
        return;
    }
    let (mut foreign, mut credential) = (false, false);
    for text in texts {
        match first_canary(view, text) {
            Some(CanaryKind::Foreign) => foreign = true,
            Some(CanaryKind::Credential) => credential = true,
            None => {}
        }
    }
    findings.judge(Invariant::I23, entry, !foreign, "foreign bytes in a text of ours");
    findings.judge(Invariant::I24, entry, !credential, "a credential in a text of ours");
}

fn first_canary(view: &View<'_>, text: &str) -> Option<CanaryKind> {
    let bytes = text.as_bytes();
    let may_start = |byte: &u8| view.canary_starts.get(usize::from(*byte)).copied().unwrap_or(false);
    let candidates = bytes.iter().enumerate().filter(|(_, byte)| may_start(byte)).map(|(place, _)| place);
    candidates.filter_map(|place| bytes.get(place..)).find_map(|rest| {
        let mut canaries = view.history.settings.canaries.iter();
        canaries.find(|canary| rest.starts_with(canary.needle.as_bytes())).map(|canary| canary.kind)
    })
}
