//! What the statuses say: of segments here, of grants, requests and external services in [`access`].

pub mod access;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    applied::Standing,
    compiled::{Compiled, Edge, EdgeState, Trouble},
    consent::{Missing, Pair},
    declared::{Declared, Mode, Segment},
    intent::Rejection,
    model::{Cause, Namespace, Opening, Peer, Ports, Role},
    opinion::{Disagreement, surplus::Surplus},
    plan::{Phase, Plan},
    preflight::{Blocker, Preflight},
    projection::Projection,
    segments::Segmented,
    snapshot::{DataPlane, Snapshot},
};
use crate::{
    api::{
        ConditionType, DataPlaneStatus, EdgeCounts, EdgePhase, Finding, MissingHalf, NamespacePhase, Reason,
        SegmentNamespace, SegmentStatus, Verdict, WouldBreakItem, conditions,
    },
    fault::{Class, Failure},
};

/// The most items of most lists in a status.
const MOST: usize = 64;
/// The most namespaces in a status.
const MOST_NAMESPACES: usize = 256;
/// The most connections that would break in a status; the rest is counted.
const MOST_WOULD_BREAK: usize = 100;

/// Everything a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What people declared.
    pub declared: &'a Declared,
    /// What was observed.
    pub snapshot: &'a Snapshot,
    /// The identities' workloads.
    pub projection: &'a Projection,
    /// What there is to be.
    pub compiled: &'a Compiled,
    /// What there is.
    pub standing: &'a Standing,
    /// What is to be done next.
    pub plan: &'a Plan,
    /// What the second opinion found.
    pub disagreement: Option<&'a Disagreement>,
    /// What policies of others let pass beside ours.
    pub surplus: &'a BTreeMap<Namespace, Surplus>,
    /// Writes that failed, by namespace.
    pub failures: &'a BTreeMap<Namespace, Failure>,
}

/// The status of a segment.
pub fn segment(
    segment: &Segment,
    generation: i64,
    world: &World<'_>,
    previous: &SegmentStatus,
    now: Timestamp,
) -> SegmentStatus {
    let segmented = Segmented::new(world.declared, world.snapshot);
    let mine: Vec<&Namespace> =
        segmented.iter().filter(|(_, one)| one.uid == segment.uid).map(|(namespace, _)| namespace).collect();
    let preflight = Preflight::new(segment, &segmented, world.compiled);
    let identities = world.projection.workloads.values().filter(|one| mine.contains(&&one.identity.namespace));
    let identities: BTreeSet<_> = identities.map(|one| &one.identity).collect();
    let edges = world.compiled.edges.iter();
    let edges = edges.filter(|(pair, _)| [&pair.client, &pair.server].iter().any(|end| mine.contains(&&end.namespace)));
    let findings = findings(segment, &segmented, &mine, &preflight, world);
    let foreign = mine.iter().flat_map(|there| {
        let names = world.standing.foreign.get(*there).into_iter().flatten();
        names.map(move |name| format!("{there}/{name}"))
    });
    SegmentStatus {
        observed_generation: Some(generation),
        mode: Some(format!("{:?}", segment.mode)),
        namespaces: namespaces(segment, &mine, world),
        identities: Some(count(identities.len())),
        edges: Some(counts(edges.map(|(_, edge)| phase(edge.state).0))),
        exceptions: exceptions(&mine, world),
        would_break: preflight.would_break.iter().take(MOST_WOULD_BREAK).map(would_break).collect(),
        would_break_total: Some(count(preflight.would_break.len())),
        foreign_policies: foreign.take(MOST).collect(),
        data_plane: Some(data_plane(world.snapshot.data_plane)),
        conditions: conditions(&findings, &previous.conditions, generation, now),
    }
}

/// Whether the last open edge of a segment is gone while namespaces of it stay closed: that is as declared, and still
/// what somebody who deletes a grant by mistake wants to be told.
pub fn keeps_deny(before: &SegmentStatus, after: &SegmentStatus) -> bool {
    let live = |status: &SegmentStatus| status.edges.as_ref().map_or(0, |edges| edges.live);
    let is_closed = |status: &SegmentStatus, name: &str| {
        status.namespaces.iter().any(|one| one.name == name && one.phase == NamespacePhase::Closed)
    };
    let stays_closed = before.namespaces.iter().any(|one| is_closed(before, &one.name) && is_closed(after, &one.name));
    live(before) > 0 && live(after) == 0 && stays_closed
}

/// The conditions of an object whose spec does not parse; `positive` are the types that keep what they said.
pub fn rejected(
    positive: &[ConditionType],
    rejection: &Rejection,
    generation: i64,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let message = format!("{} {}; correct it", rejection.field, rejection.rule);
    let kept = positive.iter().map(|kind| Finding::kept(*kind, previous));
    let told = [
        Finding::new(ConditionType::Accepted, Verdict::False, Reason::InvalidSpec, message.clone()),
        Finding::new(ConditionType::Stalled, Verdict::True, Reason::InvalidSpec, message),
    ];
    conditions(&kept.chain(told).collect::<Vec<_>>(), previous, generation, now)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many there are in each state.
pub(super) fn counts(phases: impl Iterator<Item = EdgePhase>) -> EdgeCounts {
    let mut counts = EdgeCounts::default();
    for phase in phases {
        *match phase {
            EdgePhase::Live => &mut counts.live,
            EdgePhase::Observed => &mut counts.observed,
            EdgePhase::Pending => &mut counts.pending,
            EdgePhase::Refused => &mut counts.refused,
        } += 1;
    }
    counts
}

/// What a person reads of an edge: where it stands, and why it does not pass.
pub fn phase(state: EdgeState) -> (EdgePhase, Option<Reason>) {
    match state {
        EdgeState::Live => (EdgePhase::Live, None),
        EdgeState::Observed => (EdgePhase::Observed, None),
        EdgeState::NotClosed => (EdgePhase::Live, Some(Reason::NotSegmented)),
        EdgeState::Pending(Missing::Grant) => (EdgePhase::Pending, Some(Reason::GrantMissing)),
        EdgeState::Pending(Missing::Request) => (EdgePhase::Pending, Some(Reason::RequestMissing)),
        EdgeState::SelectsNothing => (EdgePhase::Pending, Some(Reason::SelectsNothing)),
        EdgeState::PortsDisjoint => (EdgePhase::Refused, Some(Reason::PortsDisjoint)),
        EdgeState::TooManyPeers => (EdgePhase::Refused, Some(Reason::TooManyPeers)),
        EdgeState::NoSelector => (EdgePhase::Refused, Some(Reason::SelectorAmbiguous)),
    }
}

fn namespaces(segment: &Segment, mine: &[&Namespace], world: &World<'_>) -> Vec<SegmentNamespace> {
    // One that it has left still has its objects for a while.
    let standing = world.standing.ours.iter().filter(|(_, applied)| applied.segment == segment.uid);
    let left = standing.map(|((namespace, _), _)| namespace);
    let all: BTreeSet<&Namespace> = mine.iter().copied().chain(left).collect();
    all.into_iter()
        .take(MOST_NAMESPACES)
        .map(|namespace| SegmentNamespace {
            name: namespace.to_string(),
            phase: match world.plan.phases.get(namespace) {
                None | Some(Phase::Open) => NamespacePhase::Open,
                Some(Phase::Closing) => NamespacePhase::Closing,
                Some(Phase::Closed) => NamespacePhase::Closed,
                Some(Phase::Opening) => NamespacePhase::Opening,
            },
        })
        .collect()
}

fn would_break(one: &super::preflight::WouldBreak) -> WouldBreakItem {
    WouldBreakItem {
        from: one.pair.client.to_string(),
        to: one.pair.server.to_string(),
        missing: vec![match one.missing {
            Missing::Grant => MissingHalf::Grant,
            Missing::Request => MissingHalf::Request,
        }],
        evidence: "HalfDeclared".to_owned(),
    }
}

fn data_plane(plane: DataPlane) -> DataPlaneStatus {
    let evidence = if plane == DataPlane::Unknown { "None" } else { "Guessed" };
    DataPlaneStatus { name: format!("{plane:?}"), evidence: evidence.to_owned() }
}

/// What passes the denies of these namespaces, one line each.
fn exceptions(mine: &[&Namespace], world: &World<'_>) -> Vec<String> {
    let denies = mine.iter().filter_map(|there| world.compiled.policies.get(&((*there).clone(), Role::Deny)));
    let lines = denies.flat_map(|deny| {
        let openings = deny.isolates.values().flatten();
        openings.map(|(opening, causes)| exception(&deny.namespace, opening, causes.first()))
    });
    lines.take(MOST).collect()
}

fn exception(namespace: &Namespace, opening: &Opening, cause: Option<&Cause>) -> String {
    let cause = match cause {
        Some(Cause::Dns) => "name resolution",
        Some(Cause::ApiServer) => "the Kubernetes API",
        _ => "an exception",
    };
    format!("{namespace}: to {} {} ({cause})", peer(&opening.peer), ports(opening.ports))
}

/// A peer in words.
pub fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespace, selector } => {
            format!("{namespace} {selector}")
        }
        Peer::Namespace(namespace) => format!("every pod of {namespace}"),
        Peer::Cluster => "every pod".to_owned(),
        Peer::Block { block, except } if except.is_empty() => block.to_string(),
        Peer::Block { block, except } => {
            let except: Vec<String> = except.iter().map(ToString::to_string).collect();
            format!("{block} without {}", except.join(","))
        }
    }
}

/// Ports in words.
pub fn ports(ports: Ports) -> String {
    match ports {
        Ports::Every => "every port".to_owned(),
        Ports::Span(span) if span.first() == span.last() => format!("{} {}", span.protocol.as_str(), span.first()),
        Ports::Span(span) => format!("{} {}-{}", span.protocol.as_str(), span.first(), span.last()),
    }
}

fn findings(
    segment: &Segment,
    segmented: &Segmented<'_>,
    mine: &[&Namespace],
    preflight: &Preflight,
    world: &World<'_>,
) -> Vec<Finding> {
    let compiled = match world.disagreement {
        None => Finding::new(ConditionType::Compiled, Verdict::True, Reason::Compiled, "what is declared was compiled"),
        Some(found) => Finding::new(
            ConditionType::Compiled,
            Verdict::False,
            Reason::EvaluatorDisagrees,
            format!("nothing is written: {found}; this is a bug, please report it"),
        ),
    };
    let applied = applied(segment, mine, preflight, world);
    let ready = Finding { kind: ConditionType::Ready, ..applied.clone() };
    let ready = match (segment.mode, &compiled.verdict) {
        (_, Verdict::False) => Finding { kind: ConditionType::Ready, ..compiled.clone() },
        (Mode::Off | Mode::Observe, _) => Finding { verdict: Verdict::True, ..ready },
        (Mode::Enforce, _) => ready,
    };
    let mut findings = vec![ready, compiled, applied.clone(), enforced(segment, world.snapshot.data_plane)];
    findings.extend(troubles(segment, segmented, mine, preflight, world));
    let failure = mine.iter().find_map(|there| world.failures.get(*there));
    if let Some(failure) = failure.filter(|failure| matches!(failure.class, Class::Invalid | Class::Denied)) {
        findings.push(Finding::new(ConditionType::Stalled, Verdict::True, failure.reason, failure.message.clone()));
    } else if segment.mode == Mode::Enforce && applied.verdict == Verdict::False && applied.reason != Reason::Held {
        findings.push(Finding::new(ConditionType::Reconciling, Verdict::True, applied.reason, applied.message));
    }
    if segment.suspended {
        let words = "spec.suspend is true: the policies stay as they are";
        findings.push(Finding::new(ConditionType::Suspended, Verdict::True, Reason::Suspended, words));
    }
    findings
}

fn applied(segment: &Segment, mine: &[&Namespace], preflight: &Preflight, world: &World<'_>) -> Finding {
    let say = |verdict, reason, words: String| Finding::new(ConditionType::Applied, verdict, reason, words);
    let no = |reason, words: String| say(Verdict::False, reason, words);
    let leaving = world.standing.ours.values().any(|applied| applied.segment == segment.uid);
    match segment.mode {
        Mode::Off | Mode::Observe if leaving => {
            return no(Reason::RollingOut, "policies are being withdrawn, the deny first".to_owned());
        }
        Mode::Off => return no(Reason::Off, "mode is Off: nothing of ours exists".to_owned()),
        Mode::Observe => {
            let words = match preflight.would_break.len() {
                0 => "nothing is written; no connection is known that Enforce would break".to_owned(),
                many => format!("nothing is written; {many} connections would break, see status.wouldBreak"),
            };
            return no(Reason::Observing, words);
        }
        Mode::Enforce => {}
    }
    if let Some((there, names)) = mine.iter().find_map(|there| Some((there, world.plan.collisions.get(*there)?))) {
        let names: Vec<&str> = names.iter().map(String::as_str).take(3).collect();
        let words = format!("namespace {there}: {} is not ours; rename or delete it", names.join(", "));
        return no(Reason::NameCollision, words);
    }
    if let Some(failure) = mine.iter().find_map(|there| world.failures.get(*there)) {
        return no(failure.reason, failure.message.clone());
    }
    let phase = |there: &&&Namespace| world.plan.phases.get(**there).copied();
    let open: Vec<&&Namespace> = mine.iter().filter(|there| phase(there) != Some(Phase::Closed)).collect();
    if preflight.holds(segment) && !open.is_empty() {
        return no(Reason::Held, held(preflight));
    }
    let pending = world.plan.writes.iter().any(|write| mine.iter().any(|there| there.as_str() == write.namespace()));
    match (open.first(), pending) {
        (Some(first), _) => no(
            Reason::RollingOut,
            format!("{} of {} namespaces are not closed yet, {first} first", open.len(), mine.len()),
        ),
        (None, true) => no(Reason::RollingOut, "a change is being written".to_owned()),
        (None, false) => say(Verdict::True, Reason::Applied, format!("{} namespaces are closed", mine.len())),
    }
}

/// Why nothing is closed, and what to do.
fn held(preflight: &Preflight) -> String {
    let pair = |Pair { client, server }: &Pair| format!("{client} to {server}");
    match (preflight.blockers.first(), preflight.would_break.first()) {
        (Some(Blocker::DnsNotFound), _) => {
            "nothing is closed: name resolution was not found; set exceptions.dns to Never if there is none".to_owned()
        }
        (Some(Blocker::NotOnThisDataPlane(_)), _) => "nothing is closed: this data plane is not known to match node \
             addresses; if yours does, install with dataPlane.nodeBlocks: Yes"
            .to_owned(),
        (Some(Blocker::NoSelector(edge)), _) => format!(
            "nothing is closed: no labels select exactly the pods of one end of {}; see its grant or request",
            pair(edge)
        ),
        (Some(Blocker::TooManyPeers(edge)), _) => {
            format!("nothing is closed: {}: {}", pair(edge), access::advice(Reason::TooManyPeers))
        }
        (None, Some(first)) => format!(
            "nothing is closed: {} connections would break, {} first, which lacks a {:?}; declare it, or set \
             rollout.onWouldBreak to Proceed",
            preflight.would_break.len(),
            pair(&first.pair),
            first.missing
        ),
        (None, None) => preflight.api_server.first().map_or_else(
            || "nothing is closed".to_owned(),
            |request| {
                format!(
                    "nothing is closed: request {}/{} asks for the Kubernetes API, which exceptions.apiServer keeps from \
                     everybody; set that to OnRequest, or rollout.onWouldBreak to Proceed",
                    request.namespace, request.name
                )
            },
        ),
    }
}

fn enforced(segment: &Segment, plane: DataPlane) -> Finding {
    let (verdict, reason, words) = match (segment.mode, plane) {
        (Mode::Off | Mode::Observe, _) => (Verdict::False, Reason::Observing, "nothing is closed in this mode"),
        (_, DataPlane::Flannel) => {
            (Verdict::False, Reason::NotEnforced, "flannel alone drops no packets; install a data plane that does")
        }
        (_, DataPlane::Unknown) => {
            (Verdict::Unknown, Reason::Pending, "no data plane is known that drops packets; test a closed connection")
        }
        _ => (Verdict::Unknown, Reason::Guessed, "its agents run; whether packets are dropped was not tried"),
    };
    Finding::new(ConditionType::Enforced, verdict, reason, words)
}

fn troubles(
    segment: &Segment,
    segmented: &Segmented<'_>,
    mine: &[&Namespace],
    preflight: &Preflight,
    world: &World<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut tell = |kind, reason, words: String| findings.push(Finding::new(kind, Verdict::True, reason, words));
    let names = |set: &BTreeSet<Namespace>| set.iter().take(5).map(Namespace::as_str).collect::<Vec<_>>().join(", ");
    if preflight.breaks() || !preflight.blockers.is_empty() {
        tell(ConditionType::WouldBreak, Reason::Held, held(preflight));
    }
    if let Some(taken) = segmented.conflicts.get(&segment.name) {
        let words = format!("an older segment has {}; this one leaves them out", names(taken));
        tell(ConditionType::Conflict, Reason::SegmentConflict, words);
    }
    if let Some(kept) = segmented.protected.get(&segment.name) {
        let words = format!("{} is closed only with spec.protected: true", names(kept));
        tell(ConditionType::Unresolved, Reason::NamespaceProtected, words);
    } else if let super::declared::Namespaces::Names(wanted) = &segment.namespaces {
        let missing = wanted.iter().filter(|name| !world.snapshot.namespaces.contains_key(*name)).cloned().collect();
        if segment.mode != Mode::Off && !BTreeSet::is_empty(&missing) {
            tell(ConditionType::Unresolved, Reason::NamespaceMissing, format!("{} does not exist", names(&missing)));
        }
    }
    let too_large = world.compiled.troubles.iter().find_map(|trouble| match trouble {
        Trouble::TooManyPeers { workload, flow, peers } if mine.contains(&&workload.namespace) => {
            Some((workload, flow, peers))
        }
        _ => None,
    });
    if let Some((workload, flow, peers)) = too_large {
        let words = format!(
            "{}/{}: the {flow:?} policy would name {peers} peers; {}",
            workload.namespace,
            workload.name,
            access::advice(Reason::TooManyPeers)
        );
        tell(ConditionType::Unresolved, Reason::TooManyPeers, words);
    }
    if let Some((there, found)) = mine.iter().find_map(|there| Some((there, world.surplus.get(*there)?))) {
        let Surplus { policy, from, to, port, .. } = found;
        let words = format!(
            "NetworkPolicy {there}/{policy} lets {from} reach {to} on port {port}, which nobody declared; narrow or delete it"
        );
        tell(ConditionType::ForeignPolicyWidens, Reason::ForeignPolicyWidens, words);
    }
    let mut spoofs = world.projection.spoofs.iter().filter(|spoof| mine.contains(&&spoof.matches.namespace));
    if let Some(first) = spoofs.next() {
        let words = format!(
            "pod {} runs as {} and carries the labels of {}; it gets what that may reach until it is gone",
            first.pod, first.runs_as, first.matches.name
        );
        tell(ConditionType::LabelSpoofed, Reason::LabelSpoofed, words);
    }
    findings
}

/// The edge of a pair, in words of a status.
pub(super) fn told(edge: &Edge) -> Vec<String> {
    edge.ports.openings().take(MOST).map(ports).collect()
}
