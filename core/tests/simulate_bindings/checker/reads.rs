//! What Vault is asked: by whom, for whom, and where.

use super::{
    Findings, Invariant,
    grants::covers,
    logins, paces,
    view::{Call, EDIT_LAG, ProcessView, View, operator},
};
use crate::history::{ADDRESS, Entry, GRACE, VaultCall, VaultRequest, VaultState};

/// Shows a request to everything that speaks of Vault.
pub fn judge(view: &View<'_>, entry: &Entry, request: &VaultRequest, findings: &mut Findings) {
    let Some(process) = operator(entry) else { return };
    let at_home = request.sent_to == ADDRESS;
    findings.judge(Invariant::I09, entry, at_home, "a request went to another address");
    let Some(own) = view.process(process).filter(|_| at_home) else { return };
    match &request.call {
        VaultCall::Health => breaker_holds(view, entry, own, true, findings),
        VaultCall::Login => {
            breaker_holds(view, entry, own, false, findings);
            logins::judge(view, entry, own, findings);
        }
        VaultCall::LookupSelf => own_token(entry, own, request, findings),
        VaultCall::Mount(mount) => {
            breaker_holds(view, entry, own, false, findings);
            own_token(entry, own, request, findings);
            let holds = is_named(view, entry, request, |one, path| one == mount && is_granted(view, entry, one, path));
            findings.judge(Invariant::I09, entry, holds, "a mount was looked up that no granted source lies in");
            gates_first(view, entry, request, findings);
        }
        VaultCall::Metadata { .. } | VaultCall::Values { .. } | VaultCall::Unversioned { .. } => {
            let Some(call) = Call::of(&request.call) else { return };
            breaker_holds(view, entry, own, false, findings);
            own_token(entry, own, request, findings);
            let holds = is_named(view, entry, request, |mount, path| (mount, path) == (call.mount, call.path));
            findings.judge(Invariant::I09, entry, holds, "a path was read that the binding does not name");
            let granted = is_granted(view, entry, call.mount, call.path);
            findings.judge(Invariant::I09, entry, granted, "a path was read that no grant covers");
            gates_first(view, entry, request, findings);
            if let Some(slot) = request.slot {
                paces::judge(view, entry, own, slot, call, findings);
            }
        }
    }
}

/// S3, S4: reads are made as the binding's own account, with a token that this process logged in for.
fn own_token(entry: &Entry, own: &ProcessView<'_>, request: &VaultRequest, findings: &mut Findings) {
    let holds = request.token.is_some_and(|token| own.tokens.contains(&token));
    findings.judge(Invariant::I09, entry, holds, "a read carried a token that this process was not given");
}

/// Whether a binding that the request may be for has, or had a moment ago, a source that fits.
fn is_named(view: &View<'_>, entry: &Entry, request: &VaultRequest, fits: impl Fn(&str, &str) -> bool) -> bool {
    let slots = view.slots.iter().enumerate().filter(|(slot, _)| request.slot.is_none_or(|one| one == *slot));
    let mut specs = slots.flat_map(|(_, slot)| slot.lately(entry.at));
    specs.any(|version| version.spec.sources.iter().any(|source| fits(&source.mount, &source.path)))
}

/// I-09: "every Vault path inside the grant of that namespace"; a pass that was under way may still end.
fn is_granted(view: &View<'_>, entry: &Entry, mount: &str, path: &str) -> bool {
    let path = format!("{mount}/{path}");
    let in_force = view.grants.iter().rev().take_while(|(_, until)| *until >= entry.at - GRACE);
    in_force.flat_map(|(patterns, _)| patterns.iter()).any(|pattern| covers(pattern, &path))
}

/// reliability.md §3 K11: "no Vault call per retry"; K1: "no Vault call whose result could not be stored"; secrets.md §6
/// `TargetClaimed`, api.md `suspend`.
fn gates_first(view: &View<'_>, entry: &Entry, request: &VaultRequest, findings: &mut Findings) {
    let api_down = view.api.lasts(false, entry.at, EDIT_LAG);
    findings.judge(Invariant::ApiFirst, entry, !api_down, "Vault was read though nothing could be stored");
    let Some(slot) = request.slot.and_then(|slot| view.slots.get(slot)) else { return };
    let is_barred = slot.is_suspended(entry.at)
        || slot.claimed.lasts(true, entry.at, EDIT_LAG)
        || view.terminating.lasts(true, entry.at, EDIT_LAG)
        || view.account.lasts(false, entry.at, EDIT_LAG);
    findings.judge(Invariant::GatesFirst, entry, !is_barred, "Vault was read for a binding that must not act");
}

/// secrets.md §4: "opens on 503/501, transport errors …; then one `sys/health` probe …; everybody else is parked".
/// What was under way when the server went may still end.
fn breaker_holds(view: &View<'_>, entry: &Entry, own: &ProcessView<'_>, is_probe: bool, findings: &mut Findings) {
    let (state, since) = view.vault;
    if matches!(state, VaultState::Cut | VaultState::Sealed) && since < entry.at - GRACE {
        let knows = own.down.is_some_and(|down| down < entry.at - GRACE);
        let why = "a server that is known to be down was asked for more than health";
        findings.judge(Invariant::Breaker, entry, is_probe || !knows, why);
    }
}
