//! How Kubernetes objects are written and deleted: by whom, whose, where, on what condition.

use countersign_core::api::DeletionPolicy;

use super::{
    Findings, Invariant,
    content::new_leaf,
    view::{IdentityView, Seen, View, operator},
};
use crate::history::{Actor, Entry, Kind, KubeRequest, Outcome, Process, Stored, VaultState, Verb};

/// The canary is asked every 10 s, and a deleted fence lapses after one more.
const FENCE_NOTICED: i64 = 11;

/// Shows a request to everything that speaks of how objects are touched.
pub fn judge(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let Some(kind) = view.history.name(request.object).map(|name| name.kind) else { return };
    if kind == Kind::Secret && entry.actor == Actor::Cluster && request.verb == Verb::Delete {
        exists_as_long_as_its_owner(view, entry, request, findings);
    }
    let Some(process) = operator(entry) else { return };
    if kind == Kind::Secret {
        fence_first(view, entry, request, findings);
    }
    if request.verb == Verb::Read || kind == Kind::Lease {
        return;
    }
    only_the_leader_writes(view, entry, process, findings);
    steady_is_quiet(view, entry, findings);
    if !matches!(kind, Kind::Secret | Kind::ConfigMap) {
        return;
    }
    no_force(entry, request, findings);
    preconditions(view, entry, process, request, findings);
    match request.outcome {
        Outcome::Written { .. } => {
            only_our_objects(view, entry, process, request, findings);
            in_the_owners_namespace(view, entry, request, findings);
            if request.verb != Verb::Withdraw {
                nothing_emptied(view, entry, request, findings);
                one_secret_write(view, entry, request, findings);
            }
        }
        Outcome::Deleted => {
            only_our_objects(view, entry, process, request, findings);
            nothing_deleted(view, entry, request, findings);
        }
        Outcome::Found(_) | Outcome::Absent | Outcome::Conflict | Outcome::Refused(_) | Outcome::Unavailable => {}
    }
}

/// I-16: "No write by a process that did not hold the LeaderLease 1 s before sending".
pub fn only_the_leader_writes(view: &View<'_>, entry: &Entry, process: Process, findings: &mut Findings) {
    let settings = &view.history.settings;
    if settings.election {
        let held = view.leadership.held_lately(process, entry.at, settings.lease_seconds);
        findings.judge(Invariant::I16, entry, held, "the writer did not hold the leader lease");
    }
}

/// I-15: "Steady cluster, 5 min: 0 writes to Kubernetes besides the leader Lease (an empty patch is a read)".
pub fn steady_is_quiet(view: &View<'_>, entry: &Entry, findings: &mut Findings) {
    if view.steady {
        findings.judge(Invariant::I15, entry, false, "a write while nothing was due");
    }
}

/// N9: "a write to a Secret … with force".
fn no_force(entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    findings.judge(Invariant::N9, entry, !request.force, "the apply was forced");
}

/// I-10: "Every DELETE has `preconditions.uid`; every update of a Secret or policy has a `resourceVersion` or is a
/// create." (§4: deletes carry the version too.)
fn preconditions(view: &View<'_>, entry: &Entry, process: Process, request: &KubeRequest, findings: &mut Findings) {
    let holds = match request.verb {
        Verb::Delete => request.sent.uid.is_some() && request.sent.version.is_some(),
        Verb::Apply | Verb::Update | Verb::Withdraw => {
            let creates = view.stored(request.object).is_none() || seemed_absent(view, process, request);
            request.sent.version.is_some() || creates
        }
        Verb::Create | Verb::Read => return,
    };
    findings.judge(Invariant::I10, entry, holds, "the write carried no precondition");
}

fn seemed_absent(view: &View<'_>, process: Process, request: &KubeRequest) -> bool {
    view.look(process, request.object).is_some_and(|look| matches!(look.seen, Seen::Absent))
}

/// I-08: "No object without our label **and** a matching owner UID is patched or deleted", and none is left without
/// them. An apply to a target that was absent when it was read may meet a faster stranger; it is withdrawn then.
fn only_our_objects(view: &View<'_>, entry: &Entry, process: Process, request: &KubeRequest, findings: &mut Findings) {
    if request.verb == Verb::Withdraw {
        return;
    }
    let after = request.stored.as_deref();
    let is_marked = after.is_none_or(|after| after.labelled && after.owner_uid.is_some());
    findings.judge(Invariant::I08, entry, is_marked, "the object was written without our label and owner");
    let Some(before) = view.stored(request.object) else { return };
    let is_foreign = view.objects.get(request.object.0).is_some_and(|object| object.foreign);
    let same_owner = after.is_none_or(|after| after.owner_uid == before.owner_uid);
    let is_ours = before.labelled && before.owner_uid.is_some() && same_owner && !is_foreign;
    let lost_a_race =
        request.verb == Verb::Apply && request.sent.version.is_none() && seemed_absent(view, process, request);
    findings.judge(Invariant::I08, entry, is_ours || lost_a_race, "the object is not ours");
}

/// I-09: "Every write is in the owner's namespace".
fn in_the_owners_namespace(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let Some(owner) = request.stored.as_deref().and_then(|stored| stored.owner_uid) else { return };
    let holds = match view.identity(owner) {
        Some(identity) => view.namespace(identity.object) == view.namespace(request.object),
        None => view.domains.iter().all(|domain| domain.uid != owner) || view.is_ours_to_keep(request.object),
    };
    findings.judge(Invariant::I09, entry, holds, "the write is outside the owner's namespace");
}

/// I-05: "No key of a managed Secret vanishes or empties unless the spec dropped it", N4: "a Secret deleted or emptied
/// because of an error, an empty list, a missing trust domain or a lost CA". During an outage it is I-07.
fn nothing_emptied(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let (Some(before), Some(after)) = (view.stored(request.object), request.stored.as_deref()) else { return };
    let owner = view.owner_of(request);
    let is_vouched = new_leaf(Some(before), after).is_some_and(|leaf| {
        let mut answers = view.answers.iter().rev();
        answers.any(|answer| Some(answer.process) == operator(entry) && *answer.leaf == **leaf)
    });
    if owner.is_some_and(|owner| is_in_doubt(view, owner)) {
        // What was answered before the outage may still be stored.
        let holds = before.content == after.content || is_vouched;
        findings.judge(Invariant::I07, entry, holds, "data changed while Vault was in doubt");
        return;
    }
    findings.judge(Invariant::I05, entry, !lost_a_key(before, after), "a key of the Secret vanished or emptied");
}

fn lost_a_key(before: &Stored, after: &Stored) -> bool {
    let (old, new) = (&before.content, &after.content);
    (old.tls_key.is_some() && new.tls_key.is_none())
        || (old.tls_crt.is_some() && new.tls_crt.is_none())
        || (!old.ca_crt.is_empty() && new.ca_crt.is_empty())
        || old.other.iter().any(|key| !new.other.iter().any(|kept| kept.name == key.name))
}

/// I-05 and N4 for deletes: "delete+create as a way to change anything" is one of them. I-07: "While VP is cut, sealed,
/// or answers only 403/404/429/5xx: deletes and data changes of Secrets … = 0".
fn nothing_deleted(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let owner = view.owner_of(request);
    let may_go = owner.is_some_and(|owner| is_gone_with_its_target(view, owner));
    if owner.is_some_and(|owner| !may_go && is_in_doubt(view, owner)) {
        findings.judge(Invariant::I07, entry, false, "a target was deleted while Vault was in doubt");
    } else {
        findings.judge(Invariant::I05, entry, may_go, "a Secret was deleted although its owner lives");
    }
}

/// I-04: "From the first Ready the Secret exists at every version until its owner (same UID) is deleted with
/// `deletionPolicy: Delete`." A user may delete it; the cluster does so only if we told it the wrong owner.
fn exists_as_long_as_its_owner(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let owner = view.stored(request.object).and_then(|stored| stored.owner_uid).and_then(|uid| view.identity(uid));
    if let Some(owner) = owner.filter(|owner| owner.ready_once) {
        let may_go = is_gone_with_its_target(view, owner);
        findings.judge(Invariant::I04, entry, may_go, "the target went although its owner keeps it");
    }
}

fn is_gone_with_its_target(view: &View<'_>, owner: &IdentityView<'_>) -> bool {
    let policy = view.current_spec(owner.uid).map(|version| version.spec.deletion_policy);
    owner.deleted_at.is_some() && policy == Some(DeletionPolicy::Delete)
}

fn is_in_doubt(view: &View<'_>, owner: &IdentityView<'_>) -> bool {
    view.connection_of(owner).is_some_and(|connection| connection.state != VaultState::Up)
}

/// identity.md "1. One Secret apply carries key, certificate and roots together; one status apply follows. Nothing
/// else is written for a renewal."
fn one_secret_write(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let (Some(before), Some(after)) = (view.stored(request.object), request.stored.as_deref()) else { return };
    let renewal = view.owner_of(request).and_then(|owner| owner.renewal.as_ref());
    let Some(renewal) = renewal.filter(|renewal| entry.at <= renewal.at + view.history.settings.truth_within) else {
        return;
    };
    let is_repair = !super::content::is_pair(&before.content);
    let has_cause = renewal.excused || is_repair || before.content.ca_crt != after.content.ca_crt;
    let is_further = new_leaf(Some(before), after).is_none() && !has_cause;
    findings.judge(Invariant::TwoWrites, entry, !is_further, "a renewal took a second write of the Secret");
}

/// reliability.md §10: "until the refusal is seen no Secret request of any kind leaves the operator's namespace".
fn fence_first(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    if view.history.settings.guarded && !view.is_ours_to_keep(request.object) {
        let is_fenced = view.fence_lapsed.is_none_or(|since| entry.at <= since + FENCE_NOTICED);
        findings.judge(Invariant::FenceFirst, entry, is_fenced, "a Secret was touched without the fence");
    }
}
