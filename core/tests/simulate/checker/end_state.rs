//! The oracle of disturbed runs: they end where the undisturbed one ends, and stay there.
//!
//! Masked are times, serials and UIDs, and whatever is drawn anew in each run: keys, revisions, counts of issues,
//! the wording of messages.

use countersign_core::api::{ConditionType, Reason, Verdict};

use super::{Invariant, Violation, content, view::View, view::operator};
use crate::history::{
    Actor, AuthorityState, Entry, Event, FailureClass, History, KeyKind, Kind, Mark, ObjectId, ObjectName, Outcome,
    StatusWrite, Stored, Text,
};

/// What of a Secret must be the same in every run.
#[derive(PartialEq, Default)]
struct MaskedSecret<'h> {
    labelled: bool,
    owner: Option<&'h ObjectName>,
    is_referenced: bool,
    is_pair: bool,
    leaf: Option<MaskedLeaf<'h>>,
    roots: usize,
    other: Vec<&'h str>,
}

#[derive(PartialEq)]
struct MaskedLeaf<'h> {
    key_kind: KeyKind,
    spiffe_id: &'h str,
    dns_names: &'h [Text],
    ip_addresses: &'h [Text],
    signed_by: Option<AuthorityState>,
    is_ca: bool,
    verifies: bool,
}

/// What of a status must be the same in every run.
#[derive(PartialEq)]
struct MaskedStatus<'h> {
    observed_generation: i64,
    conditions: Vec<(ConditionType, Verdict, Reason)>,
    failure: Option<(Reason, FailureClass)>,
    last_handled_request: Option<&'h str>,
}

/// How the two runs differ where they must not.
///
/// I-17: "Faults stop → within D every object reaches the undisturbed run's end state (masked: times, serials, UIDs)
/// and stays". I-18: "Create and delete counts per object equal the undisturbed run's; permitted extras are listed by
/// name" (in the settings of the disturbed run).
pub fn end_state_equal(undisturbed: &History, disturbed: &History) -> Vec<Violation> {
    let (wanted, found) = (replay(undisturbed), replay(disturbed));
    let end = disturbed.entries.len().saturating_sub(1);
    let mut violations = stays(disturbed);
    let mut differ = |invariant, name: &ObjectName, what: &str| {
        let why = format!("{:?} {}/{}: {what}", name.kind, &*name.namespace, &*name.name);
        violations.push(Violation { invariant, at: end, why });
    };
    let only_here = disturbed.objects.iter().filter(|name| !undisturbed.objects.contains(name));
    for name in undisturbed.objects.iter().chain(only_here) {
        let (there, here) = (place(undisturbed, name), place(disturbed, name));
        if secret(&wanted, there) != secret(&found, here) {
            differ(Invariant::I17, name, "another content at the end");
        }
        if status(&wanted, there) != status(&found, here) {
            differ(Invariant::I17, name, "another status at the end");
        }
        let is_permitted = here.is_some_and(|id| disturbed.settings.permitted_extras.contains(&id));
        if name.kind != Kind::Event && !is_permitted && counts(undisturbed, there) != counts(disturbed, here) {
            differ(Invariant::I18, name, "other numbers of creates and deletes");
        }
    }
    violations
}

fn replay(history: &History) -> View<'_> {
    let mut view = View::new(history);
    for entry in &history.entries {
        view.absorb(entry);
    }
    view
}

fn place(history: &History, name: &ObjectName) -> Option<ObjectId> {
    history.objects.iter().position(|known| known == name).map(ObjectId)
}

fn secret<'h>(view: &View<'h>, object: Option<ObjectId>) -> Option<MaskedSecret<'h>> {
    object.and_then(|object| view.stored(object)).map(|stored| masked(view, stored))
}

fn masked<'h>(view: &View<'h>, stored: &'h Stored) -> MaskedSecret<'h> {
    let owner = stored.owner_uid.and_then(|uid| {
        let identity = view.identity(uid).map(|identity| identity.object);
        identity.or_else(|| view.domains.iter().find(|domain| domain.uid == uid).map(|domain| domain.object))
    });
    let leaf = stored.content.tls_crt.as_deref().map(|leaf| MaskedLeaf {
        key_kind: leaf.key_kind,
        spiffe_id: &leaf.spiffe_id,
        dns_names: &leaf.dns_names,
        ip_addresses: &leaf.ip_addresses,
        signed_by: signer(view, leaf.authority),
        is_ca: leaf.is_ca,
        verifies: leaf.verifies,
    });
    MaskedSecret {
        labelled: stored.labelled,
        owner: owner.and_then(|object| view.history.name(object)),
        is_referenced: stored.owner_reference.is_some() && stored.owner_reference == stored.owner_uid,
        is_pair: content::is_pair(&stored.content),
        leaf,
        roots: stored.content.ca_crt.len(),
        other: stored.content.other.iter().map(|key| &*key.name).collect(),
    }
}

fn signer(view: &View<'_>, id: crate::history::AuthorityId) -> Option<AuthorityState> {
    view.authorities.iter().map(|known| known.authority).find(|authority| authority.id == id).map(|one| one.state)
}

fn status<'h>(view: &View<'h>, object: Option<ObjectId>) -> Option<MaskedStatus<'h>> {
    let status: &'h StatusWrite = object.and_then(|object| view.objects.get(object.0)?.status).map(|(one, _)| one)?;
    let mut conditions: Vec<_> = status.conditions.iter().map(|one| (one.kind, one.verdict, one.reason)).collect();
    conditions.sort_by_key(|(kind, ..)| *kind);
    Some(MaskedStatus {
        observed_generation: status.observed_generation,
        conditions,
        failure: status.last_failure.as_ref().map(|failure| (failure.reason, failure.class)),
        last_handled_request: status.last_handled_request.as_deref(),
    })
}

/// How often the operator created and deleted an object.
fn counts(history: &History, object: Option<ObjectId>) -> (usize, usize) {
    let Some(object) = object else { return (0, 0) };
    let own = history.entries.iter().filter(|entry| operator(entry).is_some());
    let outcomes = own.filter_map(|entry| match &entry.event {
        Event::Kube(request) if request.object == object => Some(request.outcome),
        _ => None,
    });
    outcomes.fold((0, 0), |(created, deleted), outcome| match outcome {
        Outcome::Written { before: None, .. } => (created + 1, deleted),
        Outcome::Deleted => (created, deleted + 1),
        _ => (created, deleted),
    })
}

/// The second half of I-17: once reached, the end state stays. From D after the last fault, edit or change of the
/// surroundings on, no write of the operator changes anything but what is masked.
fn stays(history: &History) -> Vec<Violation> {
    let is_cause = |entry: &&Entry| match entry.event {
        Event::Mark(mark) => matches!(mark, Mark::FaultsBegin | Mark::FaultsEnd),
        Event::Process(_) => true,
        _ => matches!(entry.actor, Actor::User | Actor::Cluster | Actor::World),
    };
    let Some(last_cause) = history.entries.iter().filter(is_cause).map(|entry| entry.at).next_back() else {
        return Vec::new();
    };
    let settled = last_cause + history.settings.truth_within;
    let mut view = View::new(history);
    let mut violations = Vec::new();
    for entry in &history.entries {
        if let Event::Kube(request) = &entry.event
            && entry.at > settled
            && matches!(request.outcome, Outcome::Written { .. } | Outcome::Deleted)
        {
            let before = secret(&view, Some(request.object));
            let after = request.stored.as_deref().map(|stored| masked(&view, stored));
            if before != after {
                let why = "the end state was left again".to_owned();
                violations.push(Violation { invariant: Invariant::I17, at: entry.ordinal, why });
            }
        }
        view.absorb(entry);
    }
    violations
}
