//! What a stored version of a target holds: keys, leaves, names, roots.

use super::{
    Findings, Invariant, SKEW,
    view::{IdentityView, KnownAuthority, View, operator},
};
use crate::history::{
    AuthorityState, Content, DomainSpec, Entry, IdentitySpec, KeyPair, Kind, KubeRequest, Leaf, ObjectId, Outcome,
    Root, Stored, Uid, Verb,
};
use std::{ptr, sync::Arc};

/// How long a key and an answer may be kept in memory before they are stored.
const KEEP_ANSWER: i64 = 600;
/// The shortest life that is worth storing.
pub const MINIMUM_LIFE: i64 = 15 * 60;
/// A leaf ends at least so long before its CA.
const CA_MARGIN: i64 = 3_600;
const DAY: i64 = 86_400;
/// The longest `ttl`.
const LONGEST_LIFE: i64 = 90 * DAY;

/// One stored version that the operator wrote, with all that is needed to judge it.
struct Version<'v, 'h> {
    view: &'v View<'h>,
    entry: &'v Entry,
    object: ObjectId,
    stored: &'v Stored,
    before: Option<&'h Stored>,
    owner: &'v IdentityView<'h>,
}

/// Shows a stored Secret to everything that speaks of its content.
pub fn judge(view: &View<'_>, entry: &Entry, request: &KubeRequest, findings: &mut Findings) {
    let is_secret = view.history.name(request.object).is_some_and(|name| name.kind == Kind::Secret);
    let is_stored = matches!(request.outcome, Outcome::Written { .. }) && request.verb != Verb::Withdraw;
    let (true, Some(stored), Some(_)) = (is_secret && is_stored, request.stored.as_deref(), operator(entry)) else {
        return;
    };
    ca_key_stays_home(view, entry, request.object, stored, findings);
    no_silent_root(view, entry, request, stored, findings);
    let Some(owner) = view.owner_of(request) else { return };
    let before = view.stored(request.object);
    let version = Version { view, entry, object: request.object, stored, before, owner };
    pair_in_one_version(&version, findings);
    key_in_its_own_secret(&version, findings);
    roots_are_the_trust_set(&version, findings);
    if let Some(leaf) = new_leaf(before, stored) {
        names_and_authority(&version, leaf, findings);
        answer_was_checked(&version, leaf, findings);
        life_is_worth_storing(&version, leaf, findings);
        one_write_one_answer(&version, leaf, findings);
        end_never_earlier(&version, leaf, findings);
        trust_before_issue(&version, leaf, findings);
    }
}

/// The leaf that this version holds and the one before it did not.
pub fn new_leaf<'s>(before: Option<&Stored>, after: &'s Stored) -> Option<&'s Arc<Leaf>> {
    let old = before.and_then(|before| before.content.tls_crt.as_ref());
    after.content.tls_crt.as_ref().filter(|leaf| old != Some(leaf))
}

/// Whether key and certificate are both there and belong together.
pub fn is_pair(content: &Content) -> bool {
    content.tls_key.is_some() && content.tls_key == content.tls_crt.as_ref().map(|leaf| leaf.public_key)
}

/// The first check of section 2 that a leaf fails for this spec and domain, names apart.
pub fn flaw(view: &View<'_>, spec: &IdentitySpec, domain: &DomainSpec, leaf: &Leaf, at: i64) -> Option<&'static str> {
    let wanted = spec.key.unwrap_or(domain.key);
    let authority_ends = view.authority(spec.trust_domain, leaf.authority).map(|known| known.authority.not_after);
    let flaws = [
        (!leaf.verifies, "the leaf does not verify"),
        (leaf.not_before > at + SKEW, "the leaf is not valid yet"),
        (leaf.not_before <= at - DAY - SKEW, "the leaf starts more than a day ago"),
        (leaf.not_after > at + LONGEST_LIFE + SKEW, "the leaf lives longer than any ttl"),
        (leaf.key_kind != wanted, "the key is of another kind than asked for"),
        (authority_ends.is_some_and(|ends| leaf.not_after > ends - CA_MARGIN), "the leaf outlives its authority"),
    ];
    flaws.into_iter().find(|(is_flaw, _)| *is_flaw).map(|(_, why)| why)
}

/// Whether the leaf has the chain and names of this spec and domain.
pub fn is_for(
    view: &View<'_>,
    owner: &IdentityView<'_>,
    spec: &IdentitySpec,
    domain: &DomainSpec,
    leaf: &Leaf,
) -> bool {
    !leaf.is_ca
        && view.authority(spec.trust_domain, leaf.authority).is_some()
        && view.has_its_names(owner, spec, domain, leaf)
}

/// I-01: "In every version of a ServiceIdentity's Secret the public key of `tls.crt[0]` equals that of `tls.key`;
/// keystores and combined files hold the same pair."
fn pair_in_one_version(version: &Version<'_, '_>, findings: &mut Findings) {
    let content = &version.stored.content;
    if content.tls_key.is_none() && content.tls_crt.is_none() {
        return;
    }
    let was_whole = version.before.is_some_and(|before| is_pair(&before.content));
    let lost_half = was_whole && (content.tls_key.is_none() || content.tls_crt.is_none());
    let strangers = content.other.iter().filter_map(|key| key.key_pair).any(|pair| {
        let known_elsewhere = is_ca_key(version.view, pair) || is_stored_elsewhere(version, pair);
        Some(pair) != content.tls_key && !known_elsewhere
    });
    // Half a pair after a whole one is data that vanished: I-05 says so.
    let holds = (is_pair(content) || lost_half) && !strangers;
    findings.judge(Invariant::I01, version.entry, holds, "tls.key does not belong to tls.crt");
}

/// I-02: "Every stored certificate chains to the TrustDomain's pinned authority, is no CA, and its names equal
/// f(namespace, serviceAccountName, services, allowed names) exactly."
fn names_and_authority(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let Version { view, owner, entry, .. } = version;
    let fits = view.lately(owner.uid, entry.at, |spec, domain| is_for(view, owner, spec.spec, domain.spec, leaf));
    findings.judge(Invariant::I02, entry, fits, "the leaf is not from the domain's authority, or has other names");
}

/// N3: "a stored certificate that fails one check of section 2".
fn answer_was_checked(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let Version { view, owner, entry, .. } = version;
    let mut why = "neither spec nor domain exists";
    let passes = view.lately(owner.uid, entry.at, |spec, domain| {
        let found = flaw(view, spec.spec, domain.spec, leaf, entry.at);
        why = found.unwrap_or(why);
        found.is_none()
    });
    findings.judge(Invariant::N3, entry, passes, why);
    let old = version.before.and_then(|before| before.content.tls_crt.as_ref());
    let is_other = old.is_none_or(|old| old.serial != leaf.serial);
    findings.judge(Invariant::N3, entry, is_other, "the serial is that of the stored leaf");
}

/// I-30: "Nothing is stored with less life than the minimum".
fn life_is_worth_storing(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let is_worth = leaf.not_after - version.entry.at >= MINIMUM_LIFE - SKEW;
    findings.judge(Invariant::I30, version.entry, is_worth, "less than 15 min of life were left when it was stored");
}

/// I-06: "One Secret version = source versions that one successful round of reads returned": the leaf is one that
/// this very process was answered for this identity, no longer ago than it may be kept.
fn one_write_one_answer(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let (writer, since) = (operator(version.entry), version.entry.at - KEEP_ANSWER - SKEW);
    let was_answered = version.view.answers.iter().rev().any(|answer| {
        Some(answer.process) == writer
            && answer.identity == version.owner.uid
            && answer.at >= since
            && (ptr::eq(answer.leaf, leaf) || answer.leaf == leaf)
    });
    findings.judge(Invariant::I06, version.entry, was_answered, "nobody answered this process with this leaf");
}

/// I-03: "`notAfter` never decreases for one ServiceIdentity UID unless spec or authority changed."
fn end_never_earlier(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let Some((old, generation)) = version.owner.baseline else { return };
    let is_same_wish = generation == version.owner.generation
        && old.authority == leaf.authority
        && old.key_kind == leaf.key_kind
        && old.dns_names == leaf.dns_names
        && old.ip_addresses == leaf.ip_addresses;
    if is_same_wish {
        let is_later = leaf.not_after >= old.not_after;
        findings.judge(Invariant::I03, version.entry, is_later, "notAfter went down");
    }
}

/// N2: "a private key outside process memory and its own Secret".
fn key_in_its_own_secret(version: &Version<'_, '_>, findings: &mut Findings) {
    let content = &version.stored.content;
    let pairs = content.tls_key.into_iter().chain(content.other.iter().filter_map(|key| key.key_pair));
    let mut pairs = pairs.filter(|pair| !is_ca_key(version.view, *pair));
    let is_own = !pairs.any(|pair| is_stored_elsewhere(version, pair));
    findings.judge(Invariant::N2, version.entry, is_own, "the private key is also in another Secret");
}

fn is_stored_elsewhere(version: &Version<'_, '_>, pair: KeyPair) -> bool {
    version.view.key_homes.iter().any(|(known, home)| *known == pair && *home != version.object)
}

fn is_ca_key(view: &View<'_>, pair: KeyPair) -> bool {
    view.authorities.iter().any(|known| known.authority.key == pair)
}

/// N6: "a leaf from B before gate G1, or A dropped before gate G2": only an active authority issues, and the root of
/// every authority that issues or drains is in `ca.crt`.
fn trust_before_issue(version: &Version<'_, '_>, leaf: &Leaf, findings: &mut Findings) {
    let Version { view, entry, owner, stored, .. } = version;
    let (Some(spec), since) = (view.current_spec(owner.uid), entry.at - view.history.settings.grace) else { return };
    let domain = spec.spec.trust_domain;
    if let Some(known) = view.authority(domain, leaf.authority) {
        let is_active = known.authority.state == AuthorityState::Active || known.since >= since;
        findings.judge(Invariant::N6, entry, is_active, "the leaf is from an authority that does not issue");
    }
    let is_needed = |known: &&KnownAuthority| {
        let trusted = matches!(known.authority.state, AuthorityState::Active | AuthorityState::Draining);
        known.domain == domain && trusted && known.since < since && known.gone_at.is_none()
    };
    let mut needed = view.authorities.iter().filter(is_needed);
    let all_trusted = needed.all(|known| stored.content.ca_crt.contains(&known.authority.root));
    findings.judge(Invariant::N6, entry, all_trusted, "the root of a living authority is not in ca.crt");
}

/// identity.md §8.1: "`ca.crt` = the domain's whole trust set, from `TrustDomain`, never from the answer".
fn roots_are_the_trust_set(version: &Version<'_, '_>, findings: &mut Findings) {
    let Some(spec) = version.view.current_spec(version.owner.uid) else { return };
    let domain = spec.spec.trust_domain;
    let belongs = |root: &Root| {
        let mut known = version.view.authorities.iter().filter(|known| known.domain == domain);
        known.any(|known| known.authority.root == *root)
    };
    let kept = |root: &Root| version.before.is_some_and(|before| before.content.ca_crt.contains(root));
    let is_set = version.stored.content.ca_crt.iter().all(|root| belongs(root) || kept(root));
    findings.judge(Invariant::TrustSet, version.entry, is_set, "ca.crt holds a root of no authority of the domain");
}

/// N8: "a CA key in any namespace but the operator's".
fn ca_key_stays_home(view: &View<'_>, entry: &Entry, object: ObjectId, stored: &Stored, findings: &mut Findings) {
    if view.is_ours_to_keep(object) {
        return;
    }
    let content = &stored.content;
    let mut pairs = content.tls_key.into_iter().chain(content.other.iter().filter_map(|key| key.key_pair));
    let is_home = !pairs.any(|pair| is_ca_key(view, pair));
    findings.judge(Invariant::N8, entry, is_home, "a CA key left the operator's namespace");
}

/// N7: "a new embedded root minted because the key Secret could not be read or is gone": after the first one of a
/// TrustDomain every further one needs a person's word.
fn no_silent_root(view: &View<'_>, entry: &Entry, request: &KubeRequest, stored: &Stored, findings: &mut Findings) {
    let Some((domain, key)) = embedded_authority(view, request.object, stored) else { return };
    let known = view.authorities.iter().map(|known| (known.uid, known.authority.key));
    let mut earlier = known.chain(view.minted.iter().copied());
    let is_first = !earlier.any(|(of, other)| of == domain && other != key);
    let is_asked = view.rotations.contains(&domain);
    findings.judge(Invariant::N7, entry, is_first || is_asked, "a second root was minted without being asked for");
}

/// The TrustDomain and key of an embedded authority, if that is what a Secret holds.
pub fn embedded_authority(view: &View<'_>, object: ObjectId, stored: &Stored) -> Option<(Uid, KeyPair)> {
    let leaf = stored.content.tls_crt.as_deref().filter(|leaf| leaf.is_ca && view.is_ours_to_keep(object))?;
    Some((stored.owner_uid?, leaf.public_key))
}
