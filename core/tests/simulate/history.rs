//! What an outside observer of one run saw, in time order: plain data, no behaviour of the operator.
//!
//! The simulator writes a [`History`], the checker judges it. Neither the operator's decisions nor
//! its types occur here; only the closed words of the API do. Everything that is repeated in a run
//! (names, leaves, stored contents) is behind an id or an `Arc`, so that an entry is cheap.
//!
//! Whoever writes a history records more than writes, because judgement rests on it:
//! - every read of a target and of an embedded authority's Secret, also the failed ones;
//! - every start and end of a process, and the leader lease (with renewals, unless
//!   [`Settings::lease_seconds`] is none);
//! - that ServiceAccounts and Services exist: until told so, they do not;
//! - when faults are injected ([`Mark::FaultsBegin`]) and when the world is cut off
//!   ([`WorldChange::Vault`], [`WorldChange::ApiServer`]): lateness is excused by nothing else;
//! - the authorities of a domain as soon as they are known, and the end of the run ([`Mark::End`]).

mod events;
mod facts;

pub use events::*;
pub use facts::*;

/// One run as it was seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// What the observer knows about the set-up of the run.
    pub settings: Settings,
    /// The objects that occur, by [`ObjectId`].
    pub objects: Vec<ObjectName>,
    /// What happened, in time order; the ordinal of an entry is its place here.
    pub entries: Vec<Entry>,
}

/// What is fixed for a whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the operator keeps its own objects.
    pub operator_namespace: Text,
    /// The chart value `clusterDomain`.
    pub cluster_domain: Text,
    /// Whether the processes elect a leader; without it two may write at once.
    pub election: bool,
    /// How long the leader lease holds after it was last renewed; none if the run records no renewals, so that it
    /// holds until it is taken or released.
    pub lease_seconds: Option<i64>,
    /// Whether the Guarded rights profile is used, where no Secret is touched unless the fence holds.
    pub guarded: bool,
    /// D: within how many seconds status must tell the truth (30 s at scale 1).
    pub truth_within: i64,
    /// How many seconds after a change of the spec an effect decided before it may still arrive:
    /// the deadline of one reconcile (60 s), plus whatever lag the run puts on watches.
    pub grace: i64,
    /// Bytes that must not be seen in any text.
    pub canaries: Vec<Canary>,
    /// Objects that a disturbed run may create or delete more often than an undisturbed one.
    pub permitted_extras: Vec<ObjectId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            operator_namespace: "countersign-system".into(),
            cluster_domain: "cluster.local".into(),
            election: true,
            lease_seconds: Some(15),
            guarded: true,
            truth_within: 30,
            grace: 60,
            canaries: Vec::new(),
            permitted_extras: Vec::new(),
        }
    }
}

/// Bytes planted in the run that must stay where they were planted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What it stands for.
    pub kind: CanaryKind,
    /// The text as it would appear; one canary for each encoding looked for.
    pub needle: Text,
}

/// What a canary stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryKind {
    /// A value, or the text of somebody else's answer.
    Foreign,
    /// A token, JWT, accessor, lease id, private key or password.
    Credential,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Seconds of the world's clock (the servers' clock, not that of a process).
    pub at: i64,
    /// Place in the history.
    pub ordinal: usize,
    /// Who did it.
    pub actor: Actor,
    /// What it was.
    pub event: Event,
}

/// Who acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The operator, one process of it.
    Operator(Process),
    /// A person or a foreign controller.
    User,
    /// The cluster itself: garbage collection, namespace deletion.
    Cluster,
    /// The surroundings, or the simulator's own marks.
    World,
}

/// One life of one replica: a restart is the same leader in the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Which replica.
    pub leader: u32,
    /// Which life of it.
    pub epoch: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request for a Kubernetes object other than a status.
    Kube(KubeRequest),
    /// A write of the status of one of our kinds.
    Status(Box<StatusWrite>),
    /// A request to Vault other than a signature.
    Vault(VaultRequest),
    /// A signature asked for, from Vault or from an embedded authority.
    Sign(Signature),
    /// A user changed a ServiceIdentity.
    Identity(IdentityChange),
    /// A user changed a TrustDomain, or its authorities changed.
    Domain(DomainChange),
    /// A user changed a VaultConnection.
    Connection(ConnectionChange),
    /// The surroundings changed.
    World(WorldChange),
    /// The leader lease changed hands or was renewed by the acting process.
    Lease(LeaseChange),
    /// The acting process started or ended.
    Process(ProcessChange),
    /// The acting process wrote a line of text that others can read.
    Text(TextLine),
    /// The simulator marks a span of the run.
    Mark(Mark),
}

impl History {
    /// A run in which nothing happened yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, objects: Vec::with_capacity(16), entries: Vec::with_capacity(512) }
    }

    /// The id of an object, entered on first use.
    pub fn object(&mut self, kind: Kind, namespace: impl Into<Text>, name: impl Into<Text>) -> ObjectId {
        let wanted = ObjectName { kind, namespace: namespace.into(), name: name.into() };
        let place = self.objects.iter().position(|known| *known == wanted).unwrap_or_else(|| {
            self.objects.push(wanted);
            self.objects.len() - 1
        });
        ObjectId(place)
    }

    /// Appends what happened; its ordinal is its place.
    pub fn push(&mut self, at: i64, actor: Actor, event: Event) {
        self.entries.push(Entry { at, ordinal: self.entries.len(), actor, event });
    }

    /// The full name behind an id.
    pub fn name(&self, id: ObjectId) -> Option<&ObjectName> {
        self.objects.get(id.0)
    }
}
