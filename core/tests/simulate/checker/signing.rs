//! Signatures: when one may be asked for, where, and how often.

use super::{
    Findings, Invariant, SKEW, content, names, vault,
    view::{DomainVersion, IdentityView, Look, Seen, SpecVersion, View, operator},
};
use crate::history::{
    AuthorityState, Entry, Issuer, Leaf, ObjectId, SignAnswer, SignEndpoint, SignPath, Signature, Stored, Uid,
};

/// Length of the window in which signatures asked for are counted.
pub const MINUTE: i64 = 60;
/// Length of the short window of the storm guard, less the time a signature takes to be recorded.
pub const TEN_MINUTES: i64 = 600 - SKEW;
/// Length of its long window, likewise.
pub const DAY: i64 = 86_400 - SKEW;
const ISSUES_IN_TEN_MINUTES: usize = 3;
const ISSUES_IN_A_DAY: usize = 20;
/// One attempt, its repetition with a fresh login or a shorter ttl, and the first steps of a back-off from 2 s.
const SIGNATURES_IN_A_MINUTE: usize = 6;
/// "The target was read ≤ 10 s ago".
const TARGET_IS_FRESH: i64 = 10;
/// How long an answer is kept, and therefore must not be asked for again.
const KEEP_ANSWER: i64 = 600;

/// Shows a signature to everything that speaks of signatures.
pub fn judge(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    our_key_and_the_domains_role(view, entry, signature, findings);
    gates_first(view, entry, signature, findings);
    target_read_first(view, entry, signature, findings);
    one_signature(view, entry, signature, findings);
    storm_guard(view, entry, signature, findings);
    one_forced_try(view, entry, signature, findings);
    minute_budget(view, entry, signature, findings);
    if view.steady {
        findings.judge(Invariant::I15, entry, false, "a signature while nothing was due");
    }
}

/// Whether an answer says no, as opposed to saying nothing.
pub fn is_refusal(answer: &SignAnswer) -> bool {
    match answer {
        SignAnswer::Doctored(..) => true,
        SignAnswer::Status(code) => refuses(*code),
        SignAnswer::Honest(_) | SignAnswer::Lost | SignAnswer::Unreached | SignAnswer::Redirect(_) => false,
    }
}

/// Whether a status code says no: neither throttled nor one of those that identity.md §7 counts as an outage.
pub fn refuses(code: u16) -> bool {
    code < 500 && !matches!(code, 412 | 429 | 472 | 473)
}

/// The certificate of an answer if it may be stored as things stand.
pub fn fitting_answer<'h>(view: &View<'h>, signature: &'h Signature) -> Option<&'h Leaf> {
    let SignAnswer::Honest(leaf) = &signature.answer else { return None };
    let identity = view.identity(signature.identity)?;
    let spec = view.current_spec(identity.uid)?.spec;
    let domain = view.current_domain(spec.trust_domain)?.spec;
    let stored = view.stored(identity.target).and_then(|stored| stored.content.tls_crt.as_ref());
    let fits = content::is_for(view, identity, spec, domain, leaf)
        && content::flaw(view, spec, domain, leaf, view.now).is_none()
        && leaf.public_key == signature.asked.public_key
        && leaf.not_after - view.now >= content::MINIMUM_LIFE
        && stored.is_none_or(|stored| stored.not_after < leaf.not_after);
    fits.then_some(leaf)
}

/// Whether the stored leaf of an identity is old enough to be renewed in the normal course.
pub fn is_due_renewal(view: &View<'_>, uid: Uid) -> bool {
    let leaf = view.identity(uid).and_then(|identity| view.stored(identity.target)?.content.tls_crt.as_ref());
    let renew_before = view.current_spec(uid).and_then(|version| version.spec.renew_before);
    leaf.is_some_and(|leaf| view.now >= View::earliest_renewal(leaf, renew_before))
}

/// N2: no "`issue/` or `sign-verbatim/` calls"; I-09: "every Vault path inside the grant": connection, mount and role
/// are those of the identity's own domain.
fn our_key_and_the_domains_role(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let fits = |spec: &SpecVersion<'_>, domain: &DomainVersion<'_>| {
        is_path_of(&signature.path, spec.spec.trust_domain, &domain.spec.issuer)
    };
    // What is gone says last where its signatures belong; whether one may still be asked for is for the gates.
    let last = view.current_spec(signature.identity);
    let is_last = last.is_none_or(|spec| {
        let domain = view.domains.iter().rev().find(|domain| domain.object == spec.spec.trust_domain);
        domain.is_some_and(|domain| fits(spec, domain))
    });
    let is_own = is_last || view.lately(signature.identity, entry.at, fits);
    findings.judge(Invariant::I09, entry, is_own, "the path belongs to another domain");
    if let SignPath::Vault { connection, sent_to, endpoint, .. } = &signature.path {
        vault::goes_to_the_connection(view, entry, *connection, sent_to, findings);
        vault::outage_is_cheap(view, entry, *connection, findings);
        let is_ours = *endpoint == SignEndpoint::Sign;
        findings.judge(Invariant::N2, entry, is_ours, "the endpoint makes keys, or keeps no rules");
    }
}

fn is_path_of(path: &SignPath, domain: ObjectId, issuer: &Issuer) -> bool {
    match (path, issuer) {
        (SignPath::Embedded(own), Issuer::Embedded) => *own == domain,
        (SignPath::Vault { connection, mount, role, .. }, Issuer::Vault { connection: own, mount: at, role: by }) => {
            connection == own && mount == at && role == by
        }
        (SignPath::Embedded(_), Issuer::Vault { .. }) | (SignPath::Vault { .. }, Issuer::Embedded) => false,
    }
}

/// identity.md §2 "Before signing, in this order; the first failure … stops": spec and domain exist, ServiceAccount and
/// Services exist, names and ttl are allowed, nothing is suspended or being deleted, and the target is not claimed:
/// "`TargetClaimed` (older UID wins)".
fn gates_first(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let since = entry.at - view.history.settings.grace;
    let asked = &*signature.asked;
    let carried = names::Carried { spiffe_id: &asked.spiffe_id, dns: &asked.dns_names, addresses: &asked.ip_addresses };
    let exists = |object: &ObjectId| {
        view.objects.get(object.0).is_some_and(|known| known.absent_since.is_none_or(|absent| absent >= since))
    };
    let identity = view.identity(signature.identity).filter(|one| one.deleted_at.is_none_or(|at| at >= since));
    let is_claimed = identity.and_then(|identity| view.objects.get(identity.target.0)?.claimed_since);
    let identity = identity.filter(|_| is_claimed.is_none_or(|claimed| claimed >= since));
    let namespace = identity.and_then(|identity| view.namespace(identity.object));
    let may = namespace.is_some_and(|namespace| {
        view.lately(signature.identity, entry.at, |spec, domain| {
            !spec.spec.suspend
                && exists(&spec.spec.service_account)
                && spec.spec.services.iter().all(exists)
                && names::are_exactly(view.history, spec.spec, domain.spec, namespace, &carried)
        })
    });
    findings.judge(Invariant::GatesFirst, entry, may, "a signature was asked for that a gate forbids");
}

/// identity.md §2: "the target was read ≤ 10 s ago (no signature is bought that could not be stored)".
fn target_read_first(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let could_store = last_look(view, entry, signature.identity).is_some_and(|look| {
        let is_writable = match look.seen {
            Seen::Absent => true,
            Seen::There(stored) => stored.is_none_or(|stored| is_owned(stored, signature.identity)),
            Seen::Unknown => false,
        };
        is_writable && look.read_at >= entry.at - TARGET_IS_FRESH
    });
    findings.judge(Invariant::TargetReadFirst, entry, could_store, "the target was not read, or is not ours");
}

fn last_look<'v, 'h>(view: &'v View<'h>, entry: &Entry, uid: Uid) -> Option<&'v Look<'h>> {
    view.look(operator(entry)?, view.identity(uid)?.target)
}

fn is_owned(stored: &Stored, uid: Uid) -> bool {
    stored.labelled && stored.owner_uid == Some(uid)
}

/// identity.md §3: "Never sign twice for one decision": not while a fitting answer is kept in memory, and not while
/// the target, as this process read it, needs nothing.
fn one_signature(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let Some(identity) = view.identity(signature.identity) else { return };
    let holds_one = identity.unsaved.is_some_and(|(holder, leaf, at)| {
        Some(holder) == operator(entry)
            && entry.at - at <= KEEP_ANSWER
            && leaf.not_after - entry.at >= content::MINIMUM_LIFE
    });
    findings.judge(Invariant::OneSignature, entry, !holds_one, "a fitting answer was not stored yet");
    let is_needless = last_look(view, entry, signature.identity).is_some_and(|look| match look.seen {
        Seen::There(Some(stored)) => needs_nothing(view, identity, stored, entry.at),
        Seen::There(None) | Seen::Absent | Seen::Unknown => false,
    });
    findings.judge(Invariant::OneSignature, entry, !is_needless, "the stored leaf fits and is not due");
}

fn needs_nothing(view: &View<'_>, identity: &IdentityView<'_>, stored: &Stored, now: i64) -> bool {
    identity.requested.is_none() && is_as_wanted(view, identity, stored, now)
}

/// Whether the stored leaf is what is wanted, and not due, whoever asks for another one.
fn is_as_wanted(view: &View<'_>, identity: &IdentityView<'_>, stored: &Stored, now: i64) -> bool {
    let (Some(version), Some(leaf)) = (view.current_spec(identity.uid), &stored.content.tls_crt) else { return false };
    let Some(domain) = view.current_domain(version.spec.trust_domain) else { return false };
    let known = view.authority(version.spec.trust_domain, leaf.authority);
    view.is_unchanged(identity.uid, now)
        && now < View::earliest_renewal(leaf, version.spec.renew_before)
        && content::is_pair(&stored.content)
        && leaf.verifies
        && leaf.key_kind == version.spec.key.unwrap_or(domain.spec.key)
        && known.is_some_and(|known| known.authority.state == AuthorityState::Active)
        && content::is_for(view, identity, version.spec, domain.spec, leaf)
}

/// Whether nothing but a person's request asks for this signature, as far as its process could see.
pub fn is_forced(view: &View<'_>, entry: &Entry, signature: &Signature) -> bool {
    let Some(identity) = view.identity(signature.identity).filter(|one| one.requested.is_some()) else { return false };
    last_look(view, entry, signature.identity).is_some_and(|look| match look.seen {
        Seen::There(Some(stored)) => is_as_wanted(view, identity, stored, entry.at),
        Seen::There(None) | Seen::Absent | Seen::Unknown => false,
    })
}

/// reliability.md §2: "backoff is cleared by … `countersign.dev/requested-at` (≤ 1 forced try a minute)", counted from
/// the last one whose certificate is stored, by the clocks of the processes: no restart opens the gate.
fn one_forced_try(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    if !is_forced(view, entry, signature) {
        return;
    }
    let last = view.identity(signature.identity).and_then(|identity| identity.forced_at);
    let now = operator(entry).map_or(entry.at, |process| view.clock_of(process, entry.at));
    let is_alone = last.is_none_or(|last| now < last || now - last >= MINUTE);
    findings.judge(Invariant::OneForcedTry, entry, is_alone, "a second forced try within a minute");
}

/// identity.md §6: "per identity 3 issues/10 min and 20/day … so a crash loop cannot bypass it". What a crash or a
/// change of leader kept from being recorded is not counted, and in the long window neither are renewals in the normal
/// course: the shortest ttl alone needs more than 20 of them.
fn storm_guard(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let Some(identity) = view.identity(signature.identity) else { return };
    if !matches!(signature.answer, SignAnswer::Honest(_) | SignAnswer::Doctored(..)) {
        return;
    }
    let short = identity.ten_minutes.at(entry.at, TEN_MINUTES, view.incidents);
    let long = identity.day.at(entry.at, DAY, view.incidents);
    let counts_today = usize::from(!is_due_renewal(view, identity.uid));
    let is_calm = short.count < ISSUES_IN_TEN_MINUTES + (view.incidents - short.incidents)
        && long.count + counts_today <= ISSUES_IN_A_DAY + (view.incidents - long.incidents);
    findings.judge(Invariant::StormGuard, entry, is_calm, "too many issues for one identity");
}

/// I-14: "Vault calls per object within its minute budget, errors included", from the last change that clears the
/// back-off on.
fn minute_budget(view: &View<'_>, entry: &Entry, signature: &Signature, findings: &mut Findings) {
    let Some(identity) = view.identity(signature.identity) else { return };
    let window = identity.minute.at(entry.at, MINUTE, view.incidents);
    let is_within = window.count < SIGNATURES_IN_A_MINUTE + (view.incidents - window.incidents);
    findings.judge(Invariant::I14, entry, is_within, "too many signatures asked for in a minute");
}
