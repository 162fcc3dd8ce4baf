//! The order of writes: what may be written now, and when to look again.
//!
//! A namespace is closed by complete sets first, the deny last, one direction after the other; it is opened the other
//! way round. A set that changes is widened, and narrowed once the data plane has had time to follow: what is applied
//! and still declared is never cut, what is no longer declared goes at once. Every step is found from what stands in
//! the cluster, so a crash after any write changes nothing but the time.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    applied::{AppliedPolicy, Standing},
    compiled::{Causes, Compiled},
    declared::{Declared, Mode, Segment},
    model::{Flow, Namespace, Openings, Peer, Policy, Role, Subject},
    projection::Projection,
    render::{self, Bearer, Kind, Object, name},
    segments::Segmented,
    snapshot::Snapshot,
};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What people declared. A segment that is being deleted is `Off` here.
    pub declared: &'a Declared,
    /// What was observed.
    pub snapshot: &'a Snapshot,
    /// The identities' workloads.
    pub projection: &'a Projection,
    /// What there is to be.
    pub compiled: &'a Compiled,
    /// What there is.
    pub standing: &'a Standing,
    /// Segments, by name, that close no further namespace and no further direction now.
    pub held: &'a BTreeSet<String>,
    /// When something of ours was last written or deleted in a namespace.
    pub touched: &'a BTreeMap<Namespace, Timestamp>,
    /// When this process began to write; before that, nobody knows.
    pub since: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Applies an object whole.
    Apply {
        /// The object.
        object: Object,
        /// The version it must still have; `None` = it does not exist.
        expected: Option<String>,
        /// Whether somebody changed it, so that it is taken back.
        repairs: bool,
    },
    /// Deletes an object.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

impl Write {
    /// The kind of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Apply { object, .. } => object.kind(),
            Self::Delete { kind, .. } => *kind,
        }
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Apply { object, .. } => object.meta().namespace.as_deref().unwrap_or_default(),
            Self::Delete { namespace, .. } => namespace.as_str(),
        }
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        match self {
            Self::Apply { object, .. } => object.meta().name.as_deref().unwrap_or_default(),
            Self::Delete { name, .. } => name,
        }
    }
}

/// How far a namespace is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing of ours is there.
    Open,
    /// Policies are written, the deny follows.
    Closing,
    /// The deny stands in every direction.
    Closed,
    /// Policies are being withdrawn.
    Opening,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What may be written now, in this order; those of different namespaces do not wait for each other.
    pub writes: Vec<Write>,
    /// When the next step may be due by itself.
    pub wake: Option<Timestamp>,
    /// How far each namespace is that has a segment or something of ours.
    pub phases: BTreeMap<Namespace, Phase>,
    /// Names that we need and that objects of others have; nothing is written in these namespaces.
    pub collisions: BTreeMap<Namespace, BTreeSet<String>>,
}

/// Plans the next writes.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let segmented = Segmented::new(inputs.declared, inputs.snapshot);
    let mut plan = Plan::default();
    let standing = inputs.standing.ours.keys().map(|(namespace, _)| namespace);
    let namespaces: BTreeSet<&Namespace> = segmented.iter().map(|(namespace, _)| namespace).chain(standing).collect();
    let mut closing: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut waiting, mut steps) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let facts = inputs.snapshot.namespaces.get(namespace);
        if facts.is_none_or(|facts| facts.terminating) {
            continue;
        }
        let place = Place::new(inputs, namespace);
        match segmented.of(namespace).filter(|segment| segment.mode == Mode::Enforce) {
            Some(segment) if segment.suspended => {
                plan.phases.insert(namespace.clone(), place.phase(segment));
            }
            Some(segment) if place.live.is_empty() => waiting.push((segment, place)),
            Some(segment) => {
                if place.phase(segment) == Phase::Closing {
                    *closing.entry(&segment.name).or_default() += 1;
                }
                steps.extend(place.close(segment, &mut plan));
            }
            None => place.open(&mut plan),
        }
    }
    for (segment, place) in waiting {
        let running = closing.entry(&segment.name).or_default();
        if *running >= segment.pace.at_once || inputs.held.contains(&segment.name) {
            plan.phases.insert(place.namespace.clone(), Phase::Open);
            continue;
        }
        *running += 1;
        steps.extend(place.close(segment, &mut plan));
    }
    let widening: BTreeSet<_> = steps.iter().filter(|next| next.is_widening).map(|next| next.namespace).collect();
    for next in steps {
        if next.after.iter().any(|peer| widening.contains(peer)) {
            continue; // the write there is the next step
        }
        if inputs.now >= next.due {
            plan.writes.extend(next.writes);
        } else {
            plan.wake = Some(plan.wake.map_or(next.due, |wake| wake.min(next.due)));
        }
    }
    plan
}

/// The next writes of a namespace that is being closed, or is closed.
struct Step<'a> {
    namespace: &'a Namespace,
    writes: Vec<Write>,
    /// When they may be made.
    due: Timestamp,
    /// Whether they let something pass that did not where policies stand already.
    is_widening: bool,
    /// Namespaces that must have nothing to widen.
    after: BTreeSet<Namespace>,
}

/// One namespace, and what of ours stands there.
struct Place<'a> {
    inputs: &'a Inputs<'a>,
    namespace: &'a Namespace,
    live: BTreeMap<&'a Role, &'a AppliedPolicy>,
}

/// What an object is to say: at last, and until everybody has followed.
struct Goal {
    last: Policy,
    until: Policy,
    bearer: Option<Bearer>,
}

impl Goal {
    /// Namespaces of peers that lose one opening here and keep another: an edge whose ports are exchanged. What it gets
    /// must be open at its other end as well before it loses the rest; a peer that loses everything waits for nobody.
    fn exchanging(&self) -> impl Iterator<Item = &Namespace> {
        let lost = self.until.isolates.iter().flat_map(|(flow, openings)| {
            let left = self.last.isolates.get(flow);
            openings.keys().filter(move |opening| left.is_none_or(|left| !left.contains_key(*opening)))
        });
        let kept = |peer: &Peer| {
            self.last.isolates.values().any(|openings| openings.keys().any(|opening| opening.peer == *peer))
        };
        lost.filter_map(move |opening| match &opening.peer {
            Peer::Pods { namespace, .. } | Peer::Namespace(namespace) if kept(&opening.peer) => Some(namespace),
            _ => None,
        })
    }
}

impl<'a> Place<'a> {
    fn new(inputs: &'a Inputs<'a>, namespace: &'a Namespace) -> Self {
        let here = inputs.standing.ours.iter().filter(|((there, _), _)| there == namespace);
        Self { inputs, namespace, live: here.map(|((_, role), applied)| (role, applied)).collect() }
    }

    /// The directions that the deny closes now.
    fn denied(&self) -> BTreeSet<Flow> {
        self.live.get(&Role::Deny).map(|deny| deny.policy.isolates.keys().copied().collect()).unwrap_or_default()
    }

    fn phase(&self, segment: &Segment) -> Phase {
        match (self.live.is_empty(), self.denied().is_superset(&segment.directions)) {
            (true, _) => Phase::Open,
            (false, true) => Phase::Closed,
            (false, false) => Phase::Closing,
        }
    }

    /// When the data plane is taken to have followed the last write here.
    fn settled(&self, segment: &Segment) -> Timestamp {
        self.settled_with(segment, [])
    }

    /// The same for writes here and in other namespaces.
    fn settled_with<'n>(&self, segment: &Segment, others: impl IntoIterator<Item = &'n Namespace>) -> Timestamp {
        let last = |namespace: &Namespace| self.inputs.touched.get(namespace).copied().unwrap_or(self.inputs.since);
        let touched = others.into_iter().map(last).fold(last(self.namespace), Timestamp::max);
        touched
            .saturating_add(jiff::SignedDuration::try_from(segment.pace.settle).unwrap_or_default())
            .unwrap_or(touched)
    }

    fn close(&self, segment: &Segment, plan: &mut Plan) -> Option<Step<'a>> {
        plan.phases.insert(self.namespace.clone(), self.phase(segment));
        if self.live.is_empty() {
            plan.phases.insert(self.namespace.clone(), Phase::Closing);
        }
        let goals = self.goals(segment);
        if self.collides(&goals, plan) {
            return None;
        }
        let mut widening = Vec::new();
        let mut narrowing = Vec::new();
        let mut after = BTreeSet::new();
        for (role, goal) in &goals {
            let live = self.live.get(role).copied();
            if !says(live, &goal.until, segment, goal) {
                widening.push(apply(live, &goal.until, segment, goal));
            } else if goal.until != goal.last {
                narrowing.push(apply(live, &goal.last, segment, goal));
                after.extend(goal.exchanging().cloned());
            }
        }
        let namespace = self.namespace;
        if !widening.is_empty() {
            let is_widening = !self.live.is_empty();
            let after = BTreeSet::new();
            return Some(Step { namespace, writes: widening, due: Timestamp::MIN, is_widening, after });
        }
        let writes = if narrowing.is_empty() { self.deny_or_prune(segment, &goals) } else { narrowing };
        let due = self.settled_with(segment, &after);
        (!writes.is_empty()).then_some(Step { namespace, writes, due, is_widening: false, after })
    }

    /// What each object here is to say: those of the workloads, ingress first, and the deny as far as it stands.
    fn goals(&self, segment: &Segment) -> Vec<(Role, Goal)> {
        let compiled = self.inputs.compiled;
        let (denied, is_held) = (self.denied(), self.inputs.held.contains(&segment.name));
        let of_here = |(there, _): &&(Namespace, Role)| there == self.namespace;
        let wanted = compiled.policies.keys().filter(of_here).map(|(_, role)| role);
        let caused = compiled.causes.keys().filter(of_here).map(|(_, role)| role);
        let roles: BTreeSet<&Role> = wanted.chain(caused).chain(self.live.keys().copied()).collect();
        let mut goals: Vec<(Role, Goal)> = roles
            .into_iter()
            .filter_map(|role| {
                let flows = match role {
                    // A direction that is to be opened waits for those that are to be closed instead.
                    Role::Deny if denied.is_superset(&segment.directions) => segment.directions.clone(),
                    Role::Deny => denied.clone(),
                    // A direction that is to be opened is opened by the deny first.
                    Role::Workload { flow, .. } if !segment.directions.contains(flow) => return None,
                    // Of a direction that is held back nothing new is begun: each object closes it for its own pods.
                    Role::Workload { flow, .. }
                        if is_held && !denied.contains(flow) && !self.live.contains_key(role) =>
                    {
                        return None;
                    }
                    Role::Workload { flow, .. } => BTreeSet::from([*flow]),
                };
                if flows.is_empty() {
                    return None;
                }
                self.goal(role, &flows).map(|goal| (role.clone(), goal))
            })
            .collect();
        goals.sort_by_key(|(role, _)| match role {
            Role::Workload { flow: Flow::Ingress, .. } => 0,
            Role::Workload { flow: Flow::Egress, .. } => 1,
            Role::Deny => 2,
        });
        goals
    }

    fn goal(&self, role: &Role, flows: &BTreeSet<Flow>) -> Option<Goal> {
        let key = (self.namespace.clone(), role.clone());
        let (wanted, live) = (self.inputs.compiled.policies.get(&key), self.live.get(role).copied());
        let nothing = Causes::default();
        let causes = self.inputs.compiled.causes.get(&key).unwrap_or(&nothing);
        // Declared, and nothing can be written for it now: it stays as it is, and loses only what is taken back.
        let is_frozen = wanted.is_none() && !causes.declared.is_empty();
        let lasting = if is_frozen { &causes.declared } else { &causes.unresolved };
        let subject = match (wanted, live) {
            (Some(wanted), _) => wanted.subject.clone(),
            // Somebody changed which pods it is about, and we cannot say better: it goes.
            (None, Some(live)) if live.policy.subject == Subject::WholeNamespace => return None,
            (None, live) => live?.policy.subject.clone(),
        };
        // What every pod may reach is in each object that closes its way out, also in one that opens nothing else.
        let deny = self.inputs.compiled.policies.get(&(self.namespace.clone(), Role::Deny));
        let empty = Openings::new();
        let (mut last, mut until) = (BTreeMap::new(), BTreeMap::new());
        for flow in flows {
            let applied = live.and_then(|live| live.policy.isolates.get(flow)).unwrap_or(&empty);
            let at_last = match wanted.or(deny).map(|policy| policy.isolates.get(flow)) {
                Some(Some(open)) => joined(open, applied, lasting),
                // Nobody says what may pass in a direction that is to be opened; it stays as it is until then.
                Some(None) => applied.clone(),
                None => joined(&empty, applied, lasting),
            };
            until.insert(*flow, joined(&at_last, applied, &causes.declared));
            last.insert(*flow, at_last);
        }
        let policy = |isolates| Policy {
            namespace: self.namespace.clone(),
            role: role.clone(),
            subject: subject.clone(),
            isolates,
        };
        let bearer = match wanted {
            Some(_) => self.bearer(role),
            None => live.and_then(|live| live.bearer.clone()),
        };
        Some(Goal { last: policy(last), until: policy(until), bearer })
    }

    fn bearer(&self, role: &Role) -> Option<Bearer> {
        let Role::Workload { workload, .. } = role else { return None };
        let account = self.inputs.projection.workloads.get(workload)?.identity.account.clone();
        let uid = self.inputs.snapshot.workloads.get(workload).map(|workload| workload.uid.clone()).unwrap_or_default();
        Some(Bearer { uid, account })
    }

    /// After everything that lets through: the deny, one direction after the other; then what nobody needs any more.
    fn deny_or_prune(&self, segment: &Segment, goals: &[(Role, Goal)]) -> Vec<Write> {
        let denied = self.denied();
        let missing = [Flow::Ingress, Flow::Egress]
            .into_iter()
            .find(|flow| segment.directions.contains(flow) && !denied.contains(flow));
        if let Some(next) = missing {
            // Also of a namespace that is closed in the other direction already.
            if self.inputs.held.contains(&segment.name) {
                return Vec::new();
            }
            let flows = denied.iter().copied().chain([next]).collect();
            let goal = self.goal(&Role::Deny, &flows);
            let live = self.live.get(&Role::Deny).copied();
            return goal.map(|goal| apply(live, &goal.until, segment, &goal)).into_iter().collect();
        }
        let needed = |role: &Role| {
            let key = (self.namespace.clone(), role.clone());
            let causes = self.inputs.compiled.causes.get(&key);
            self.inputs.compiled.policies.contains_key(&key) || causes.is_some_and(|causes| !causes.declared.is_empty())
        };
        let is_goal = |role: &Role| goals.iter().any(|(known, _)| known == role);
        let unneeded = self.live.iter().filter(|(role, _)| **role != &Role::Deny && !(needed(role) && is_goal(role)));
        unneeded.map(|(_, live)| self.delete(live)).collect()
    }

    /// Withdraws what a segment that no longer closes this namespace has written: the deny first, the rest when
    /// everybody has followed. What belongs to no segment that is known was left behind on purpose, and stays.
    fn open(&self, plan: &mut Plan) {
        let known = |live: &AppliedPolicy| {
            let mut segments = self.inputs.declared.segments.values();
            segments.find(|segment| segment.uid == live.segment && !segment.suspended)
        };
        let Some(segment) = self.live.values().find_map(|live| known(live)) else { return };
        plan.phases.insert(self.namespace.clone(), Phase::Opening);
        if let Some(deny) = self.live.get(&Role::Deny).copied().filter(|deny| known(deny).is_some()) {
            plan.writes.push(self.delete(deny));
            return;
        }
        let due = self.settled(segment);
        if self.inputs.now >= due {
            plan.writes.extend(self.live.values().filter(|live| known(live).is_some()).map(|live| self.delete(live)));
        } else {
            plan.wake = Some(plan.wake.map_or(due, |wake| wake.min(due)));
        }
    }

    fn delete(&self, live: &AppliedPolicy) -> Write {
        Write::Delete {
            kind: live.kind,
            namespace: self.namespace.clone(),
            name: name(&live.policy.role),
            uid: live.uid.clone(),
        }
    }

    fn collides(&self, goals: &[(Role, Goal)], plan: &mut Plan) -> bool {
        let standing = self.inputs.standing;
        let taken = |name: &String| {
            [&standing.foreign, &standing.unreadable]
                .into_iter()
                .any(|others| others.get(self.namespace).is_some_and(|names| names.contains(name)))
        };
        let names = goals.iter().map(|(role, _)| name(role)).chain([name(&Role::Deny)]);
        let collisions: BTreeSet<String> = names.filter(taken).collect();
        if collisions.is_empty() {
            return false;
        }
        plan.collisions.insert(self.namespace.clone(), collisions);
        true
    }
}

fn says(live: Option<&AppliedPolicy>, policy: &Policy, segment: &Segment, goal: &Goal) -> bool {
    live.is_some_and(|live| {
        live.is_intact && live.policy == *policy && live.segment == segment.uid && live.bearer == goal.bearer
    })
}

fn apply(live: Option<&AppliedPolicy>, policy: &Policy, segment: &Segment, goal: &Goal) -> Write {
    Write::Apply {
        object: render::object(policy, &segment.uid, goal.bearer.as_ref()),
        expected: live.map(|live| live.version.clone()),
        repairs: live.is_some_and(|live| !live.is_intact),
    }
}

/// `open`, and what of `applied` has one of the causes.
fn joined(open: &Openings, applied: &Openings, causes: &BTreeSet<super::model::Cause>) -> Openings {
    let mut all = open.clone();
    for (opening, why) in applied {
        let lasting: BTreeSet<_> = why.intersection(causes).cloned().collect();
        if !lasting.is_empty() && !open.contains_key(opening) {
            all.insert(opening.clone(), lasting);
        }
    }
    all
}
