//! How often the operator logs in.

use super::{
    Findings, Invariant,
    view::{NEVER, ProcessView, View},
};
use crate::history::{Entry, SKEW, TOKEN_LIFE, VaultAnswer};

/// How long a login that was refused is not repeated; half a minute, less what a clock rounds.
const REFUSED_FOR: i64 = 25;
/// Logins in a minute at the most, though each fails: probes at 5, 10, 20, 40 s and what is new in between.
const LOGINS_A_MINUTE: usize = 8;
/// A token is given up when less than a third of its life is left, by a clock that may be off.
const TOKEN_SERVES: i64 = TOKEN_LIFE / 3 * 2 - 2 * SKEW;

/// I-14: "Logins ≤ 1 + elapsed token lifetimes … per (account, VaultConnection)". secrets.md §3: "After 403:
/// `lookup-self`: dead → one login, one repeat; alive → `AccessDenied`"; V2: "Never a login loop".
pub fn judge(view: &View<'_>, entry: &Entry, own: &ProcessView<'_>, findings: &mut Findings) {
    let now = entry.at;
    let (last, answer) = own.login.map_or((NEVER, None), |(at, answer)| (at, Some(answer)));
    // Another account of the same name is another identity.
    let is_renewed = own.token_at.is_none_or(|given| {
        own.token_is_dead || now - given >= TOKEN_SERVES || view.account.since >= given || own.clock_stepped >= given
    });
    let has_failed = !matches!(answer, Some(VaultAnswer::Token(_)));
    findings.judge(Invariant::I14, entry, is_renewed || has_failed, "a login though the last token serves");
    let is_refused = matches!(answer, Some(VaultAnswer::Status(400 | 403)));
    if is_refused && view.account.since < last && own.clock_stepped < last {
        findings.judge(Invariant::I14, entry, now - last >= REFUSED_FOR, "a refused login was repeated at once");
    }
    let minute = own.logins.next(now, own.clock_stepped);
    findings.judge(Invariant::I14, entry, minute.times <= LOGINS_A_MINUTE, "too many logins in a minute");
    if let Some(since) = view.steady {
        let most = 1 + (now - since) / TOKEN_SERVES;
        findings.judge(Invariant::I15, entry, own.steady_logins < most, "more logins than token lives while steady");
    }
}
