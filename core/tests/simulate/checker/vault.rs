//! Calls to Vault other than signatures: logins, probes, where they go and how many.

use super::{
    Findings, Invariant,
    view::{View, operator},
};
use crate::history::{Entry, ObjectId, Text, VaultCall, VaultRequest, VaultState};

/// After a refused login the next one is at least so many seconds away.
const BETWEEN_LOGINS: i64 = 30;
/// Calls that may be under way or needed to notice an outage, for each life of a leader.
const CALLS_TO_NOTICE: i64 = 16;
/// "≤ 1 request/15 s" while a connection does not work.
const BETWEEN_PROBES: i64 = 15;

/// Shows a call to everything that speaks of calls.
pub fn judge(view: &View<'_>, entry: &Entry, request: &VaultRequest, findings: &mut Findings) {
    if request.call == VaultCall::Login {
        one_login_serves_all(view, entry, request, findings);
    }
    outage_is_cheap(view, entry, request.connection, findings);
    goes_to_the_connection(view, entry, request.connection, &request.sent_to, findings);
    steady_only_asks_for_health(view, entry, request, findings);
}

/// Whether all objects of a connection wait for it together, as opposed to being refused one by one.
pub fn is_shared_outage(state: VaultState) -> bool {
    matches!(state, VaultState::Cut | VaultState::Sealed | VaultState::Answers(429 | 500..))
}

/// I-14: "Logins ≤ 1 + elapsed token lifetimes": a login only if there is no token, or it is dead, or nine tenths of
/// its life are over; N10: never "a login per request".
fn one_login_serves_all(view: &View<'_>, entry: &Entry, request: &VaultRequest, findings: &mut Findings) {
    let process = operator(entry);
    let last = view.logins.iter().find(|one| Some(one.process) == process && one.connection == request.connection);
    let is_needed = last.is_none_or(|login| {
        let has_no_token = login.serves_until.is_none_or(|until| entry.at >= until);
        has_no_token && !(login.refused && entry.at < login.tried_at + BETWEEN_LOGINS)
    });
    findings.judge(Invariant::I14, entry, is_needed, "a login although the last one serves, or was just refused");
}

/// I-14: "Vault calls per object within its minute budget, errors included"; while a connection does not work the
/// budget is that of one probe, however many objects wait.
pub fn outage_is_cheap(view: &View<'_>, entry: &Entry, connection: ObjectId, findings: &mut Findings) {
    let Some(known) = view.connection(connection).filter(|known| is_shared_outage(known.state)) else { return };
    let Some(outage) = known.outages.last() else { return };
    let lives = i64::try_from(view.incidents).unwrap_or(i64::MAX).saturating_add(1);
    let budget = CALLS_TO_NOTICE.saturating_mul(lives).saturating_add((entry.at - outage.from) / BETWEEN_PROBES);
    let is_within = known.calls_in_outage < budget;
    findings.judge(Invariant::I14, entry, is_within, "too many calls to a server that does not work");
}

/// I-09 with V5 and V11: "redirects are never followed": every call goes to the address of its connection.
pub fn goes_to_the_connection(
    view: &View<'_>,
    entry: &Entry,
    connection: ObjectId,
    sent_to: &Text,
    findings: &mut Findings,
) {
    let since = entry.at - view.history.settings.grace;
    let goes_there = view.connection(connection).is_some_and(|known| {
        let before = known.previous.filter(|(_, changed)| *changed >= since).map(|(address, _)| address);
        known.address == Some(sent_to) || before == Some(sent_to)
    });
    findings.judge(Invariant::I09, entry, goes_there, "the call went to another address than the connection's");
}

/// I-15: "only due reads to Vault"; N12: no "Vault call in a steady cluster with nothing due (but `sys/health`)".
fn steady_only_asks_for_health(view: &View<'_>, entry: &Entry, request: &VaultRequest, findings: &mut Findings) {
    if view.steady {
        let may = matches!(request.call, VaultCall::Health | VaultCall::Renew);
        findings.judge(Invariant::I15, entry, may, "a call to Vault while nothing was due");
    }
}
