//! What an observer knows at one point of a history: the world as it is, and who learnt what when.
//!
//! It judges nothing. [`View::absorb`] takes an entry in; the questions the judges ask are here.

mod absorb;
mod calm;
mod surroundings;

use std::{cell::Cell, ptr};

use super::{SKEW, leaks, names};
use crate::history::{
    Authority, AuthorityId, DomainSpec, Entry, History, IdentitySpec, Issuer, KeyPair, KubeRequest, Leaf, ObjectId,
    ObjectName, Process, StatusWrite, Stored, Text, Uid, VaultState,
};
pub use calm::{Calm, Leadership, Span, overlap};

/// Everything an observer knows before an entry.
pub struct View<'h> {
    /// The run.
    pub history: &'h History,
    /// The time of the last entry taken in.
    pub now: i64,
    /// By [`ObjectId`].
    pub objects: Vec<ObjectView<'h>>,
    /// Every ServiceIdentity that ever was.
    pub identities: Vec<IdentityView<'h>>,
    /// Every generation of every spec, in time order.
    pub specs: Vec<SpecVersion<'h>>,
    /// Every version of every TrustDomain, in time order.
    pub domains: Vec<DomainVersion<'h>>,
    /// The authorities of the domains.
    pub authorities: Vec<KnownAuthority>,
    /// The key of every embedded authority that was ever stored, by the UID of its TrustDomain.
    pub minted: Vec<(Uid, KeyPair)>,
    /// TrustDomains for which a person asked for a new authority.
    pub rotations: Vec<Uid>,
    /// The connections.
    pub connections: Vec<ConnectionView<'h>>,
    /// The last look of each process at each object.
    pub looks: Vec<Look<'h>>,
    /// Every certificate that reached a process.
    pub answers: Vec<Answered<'h>>,
    /// The last login of each process at each connection.
    pub logins: Vec<LoginView>,
    /// How far the clock of each process is off.
    pub clocks: Vec<(Process, i64)>,
    /// Who leads, and who is alive.
    pub leadership: Leadership,
    /// When nothing was in the operator's way.
    pub calm: Calm,
    /// In which Secret each private key was first stored.
    pub key_homes: Vec<(KeyPair, ObjectId)>,
    /// Applies that met a foreign object which had just appeared.
    pub races: Vec<Race>,
    /// Since when the fence is not in force.
    pub fence_lapsed: Option<i64>,
    /// Whether nothing is due.
    pub steady: bool,
    /// Crashes and changes of leader so far: each may cost a signature that is then asked for again.
    pub incidents: usize,
    /// No deadline lies before this.
    pub next_deadline: i64,
    /// The bytes that canaries start with.
    pub canary_starts: [bool; 256],
}

/// One object as the server holds it.
pub struct ObjectView<'h> {
    /// The object; none while absent.
    pub stored: Option<&'h Stored>,
    /// It lies in the operator's own namespace.
    is_ours_to_keep: bool,
    /// Somebody else made it: our label on it would be an accident.
    pub foreign: bool,
    /// Since when it is absent (ServiceAccounts and Services).
    pub absent_since: Option<i64>,
    /// Since when an older ServiceIdentity names it, too (targets).
    pub claimed_since: Option<i64>,
    /// Its status as stored, and the process that wrote it and knows so.
    pub status: Option<(&'h StatusWrite, Option<Process>)>,
}

/// One generation of a spec.
pub struct SpecVersion<'h> {
    /// Whose.
    pub uid: Uid,
    /// Which.
    pub generation: i64,
    /// When it was current.
    pub span: Span,
    /// What it says.
    pub spec: &'h IdentitySpec,
}

/// One version of a TrustDomain.
pub struct DomainVersion<'h> {
    /// The object.
    pub object: ObjectId,
    /// Its UID.
    pub uid: Uid,
    /// When it was current.
    pub span: Span,
    /// What it says.
    pub spec: &'h DomainSpec,
}

/// One authority, as last seen.
pub struct KnownAuthority {
    /// Of which TrustDomain.
    pub domain: ObjectId,
    /// Of which life of it.
    pub uid: Uid,
    /// Since when it is in this state.
    pub since: i64,
    /// When its domain was deleted.
    pub gone_at: Option<i64>,
    /// What is known of it.
    pub authority: Authority,
}

/// One connection.
pub struct ConnectionView<'h> {
    /// The object.
    pub object: ObjectId,
    /// Its address; none once deleted.
    pub address: Option<&'h Text>,
    /// The address before the last change, and when that was: a call may be under way.
    pub previous: Option<(&'h Text, i64)>,
    /// How its server answers.
    pub state: VaultState,
    /// When it was in doubt.
    pub outages: Vec<Span>,
    /// Calls in the present outage, all processes together.
    pub calls_in_outage: i64,
}

/// What a process last saw of an object.
pub struct Look<'h> {
    /// Which process.
    pub process: Process,
    /// Which object.
    pub object: ObjectId,
    /// When it last read it, as opposed to writing it.
    pub read_at: i64,
    /// What it saw.
    pub seen: Seen<'h>,
}

/// What a look at an object shows.
#[derive(Clone, Copy)]
pub enum Seen<'h> {
    /// It is there, with this content.
    There(Option<&'h Stored>),
    /// 404.
    Absent,
    /// The read failed, or a write had no known outcome.
    Unknown,
}

/// A certificate that reached a process.
pub struct Answered<'h> {
    /// Which process.
    pub process: Process,
    /// For which ServiceIdentity.
    pub identity: Uid,
    /// When.
    pub at: i64,
    /// The certificate.
    pub leaf: &'h Leaf,
}

/// The last login of a process at a connection.
pub struct LoginView {
    /// Which process.
    pub process: Process,
    /// Where.
    pub connection: ObjectId,
    /// When it was tried.
    pub tried_at: i64,
    /// Whether it was refused.
    pub refused: bool,
    /// Until when its token does, nine tenths of its life; none if there is no live token.
    pub serves_until: Option<i64>,
}

/// An apply to an object that seemed absent and was not.
pub struct Race {
    /// Who wrote.
    pub process: Process,
    /// What.
    pub object: ObjectId,
    /// When.
    pub at: i64,
}

/// One ServiceIdentity.
pub struct IdentityView<'h> {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub object: ObjectId,
    /// Its target.
    pub target: ObjectId,
    /// Its newest generation.
    pub generation: i64,
    /// When it was deleted.
    pub deleted_at: Option<i64>,
    /// Whether it ever was Ready.
    pub ready_once: bool,
    /// A request that was not yet echoed.
    pub requested: Option<&'h Text>,
    /// The leaf we stored last, and the generation it was stored under.
    pub baseline: Option<(&'h Leaf, i64)>,
    /// The certificate that a request forced, until it is stored.
    pub forcing: Option<&'h Leaf>,
    /// When one was stored last, by the clock of its process.
    pub forced_at: Option<i64>,
    /// A fitting certificate that a process holds and has not stored.
    pub unsaved: Option<(Process, &'h Leaf, i64)>,
    /// What became of signatures since the last status write.
    pub tally: Tally,
    /// Issues in ten minutes.
    pub ten_minutes: Window,
    /// Issues in a day that were no due renewal.
    pub day: Window,
    /// Signatures asked for in a minute.
    pub minute: Window,
    /// Status writes since the last signature.
    pub statuses_since_sign: u32,
    /// Whether something happened since the last signature that may cost a write of its own.
    pub troubled: bool,
    /// The renewal that was stored last.
    pub renewal: Option<Renewal>,
    /// Whether the last attempt was refused.
    pub failing: bool,
    /// The last spec, domain and leaf whose names were found to agree: the same three are asked about at the answer,
    /// at the write and at the status.
    named: Cell<Option<(*const IdentitySpec, *const DomainSpec, *const Leaf)>>,
    /// When the status must tell of the newest generation or failure.
    pub truth_due: Option<i64>,
    /// When the stored leaf must have been replaced.
    pub renewal_due: Option<i64>,
}

/// What became of signatures.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Certificates that arrived.
    pub answered: u32,
    /// The process at which the last of them arrived.
    pub answerer: Option<Process>,
    /// Refused by the issuer, or refused by us.
    pub refused: u32,
    /// Not reached, lost, or a 5xx.
    pub unreached: u32,
}

/// A counter that starts anew when its time is over.
#[derive(Clone, Copy)]
pub struct Window {
    /// When it started.
    pub since: i64,
    /// How often since.
    pub count: usize,
    /// [`View::incidents`] when it started.
    pub incidents: usize,
}

impl Window {
    /// A window that is long over.
    pub const OVER: Self = Self { since: i64::MIN / 2, count: 0, incidents: 0 };

    /// The window that is current at `now` if one lasts `length` seconds.
    pub fn at(self, now: i64, length: i64, incidents: usize) -> Self {
        if now < self.since + length { self } else { Self { since: now, count: 0, incidents } }
    }
}

/// A renewal that was stored, and the writes it took.
pub struct Renewal {
    /// When the Secret was written.
    pub at: i64,
    /// Status writes from the signature on.
    pub statuses: u32,
    /// Something else happened meanwhile that may cost a write of its own.
    pub excused: bool,
}

impl<'h> View<'h> {
    /// What is known before anything happened.
    pub fn new(history: &'h History) -> Self {
        let home = &history.settings.operator_namespace;
        let unknown = |name: &ObjectName| ObjectView {
            stored: None,
            is_ours_to_keep: name.namespace == *home,
            foreign: false,
            absent_since: Some(i64::MIN),
            claimed_since: None,
            status: None,
        };
        Self {
            history,
            now: i64::MIN,
            objects: history.objects.iter().map(unknown).collect(),
            identities: Vec::new(),
            specs: Vec::new(),
            domains: Vec::new(),
            authorities: Vec::new(),
            minted: Vec::new(),
            rotations: Vec::new(),
            connections: Vec::new(),
            looks: Vec::new(),
            answers: Vec::new(),
            logins: Vec::new(),
            clocks: Vec::new(),
            leadership: Leadership::default(),
            calm: Calm::new(),
            key_homes: Vec::new(),
            races: Vec::new(),
            fence_lapsed: None,
            steady: false,
            incidents: 0,
            next_deadline: i64::MAX,
            canary_starts: leaks::starts(&history.settings.canaries),
        }
    }

    /// The object behind an id, while it exists.
    pub fn stored(&self, object: ObjectId) -> Option<&'h Stored> {
        self.objects.get(object.0).and_then(|known| known.stored)
    }

    /// Whether the object lies in the operator's own namespace.
    pub fn is_ours_to_keep(&self, object: ObjectId) -> bool {
        self.objects.get(object.0).is_some_and(|known| known.is_ours_to_keep)
    }

    /// The namespace of an object.
    pub fn namespace(&self, object: ObjectId) -> Option<&'h Text> {
        self.history.name(object).map(|name| &name.namespace)
    }

    /// The identity with this UID.
    pub fn identity(&self, uid: Uid) -> Option<&IdentityView<'h>> {
        self.identities.iter().find(|identity| identity.uid == uid)
    }

    /// The identity on whose behalf a Secret is touched: by label after the write, by label before it, by name.
    pub fn owner_of(&self, request: &KubeRequest) -> Option<&IdentityView<'h>> {
        let after = request.stored.as_ref().and_then(|stored| stored.owner_uid);
        let before = self.stored(request.object).and_then(|stored| stored.owner_uid);
        let labelled = after.and_then(|uid| self.identity(uid)).or_else(|| before.and_then(|uid| self.identity(uid)));
        labelled.or_else(|| self.identities.iter().rev().find(|identity| identity.target == request.object))
    }

    /// The newest spec of an identity.
    pub fn current_spec(&self, uid: Uid) -> Option<&SpecVersion<'h>> {
        self.specs.iter().rev().find(|version| version.uid == uid)
    }

    /// The newest version of a TrustDomain, while it exists.
    pub fn current_domain(&self, object: ObjectId) -> Option<&DomainVersion<'h>> {
        self.domains.iter().rev().find(|version| version.object == object).filter(|version| version.span.is_open())
    }

    /// Whether `holds` for a spec and a domain that were both current within the grace before `now`.
    pub fn lately(
        &self,
        uid: Uid,
        now: i64,
        mut holds: impl FnMut(&SpecVersion<'h>, &DomainVersion<'h>) -> bool,
    ) -> bool {
        let since = now - self.history.settings.grace;
        let specs = self.specs.iter().rev().filter(|version| version.uid == uid && version.span.until >= since);
        specs.into_iter().any(|spec| {
            let domain = spec.spec.trust_domain;
            let mut domains = self.domains.iter().rev().filter(|one| one.object == domain && one.span.until >= since);
            domains.any(|domain| holds(spec, domain))
        })
    }

    /// The stored status of an object of this UID, and the process that wrote it and knows so.
    pub fn status(&self, object: ObjectId, uid: Uid) -> Option<(&'h StatusWrite, Option<Process>)> {
        self.objects.get(object.0).and_then(|known| known.status).filter(|(status, _)| status.uid == uid)
    }

    /// Whether spec and domain of an identity have been the same for the whole grace.
    pub fn is_unchanged(&self, uid: Uid, now: i64) -> bool {
        let since = now - self.history.settings.grace;
        self.current_spec(uid).is_some_and(|spec| {
            spec.span.from < since
                && self.current_domain(spec.spec.trust_domain).is_some_and(|domain| domain.span.from < since)
        })
    }

    /// An authority of a TrustDomain; within the grace also of one that was just deleted.
    pub fn authority(&self, domain: ObjectId, id: AuthorityId) -> Option<&KnownAuthority> {
        let since = self.now.saturating_sub(self.history.settings.grace);
        let is_current = |known: &&KnownAuthority| known.gone_at.is_none_or(|gone| gone >= since);
        self.authorities.iter().filter(is_current).find(|known| known.domain == domain && known.authority.id == id)
    }

    /// What the clock of a process shows.
    pub fn clock_of(&self, process: Process, now: i64) -> i64 {
        now + self.clocks.iter().find(|(known, _)| *known == process).map_or(0, |(_, off)| *off)
    }

    /// The connection that signs for an identity now, if one does.
    pub fn connection_of(&self, identity: &IdentityView<'h>) -> Option<&ConnectionView<'h>> {
        let spec = self.current_spec(identity.uid)?.spec;
        let domain = self.domains.iter().rev().find(|version| version.object == spec.trust_domain)?;
        match &domain.spec.issuer {
            Issuer::Vault { connection, .. } => self.connection(*connection),
            Issuer::Embedded => None,
        }
    }

    /// A connection.
    pub fn connection(&self, object: ObjectId) -> Option<&ConnectionView<'h>> {
        self.connections.iter().find(|connection| connection.object == object)
    }

    /// What a process last saw of an object.
    pub fn look(&self, process: Process, object: ObjectId) -> Option<&Look<'h>> {
        self.looks.iter().find(|look| look.object == object && look.process == process)
    }

    /// Whether the leaf has exactly the names computed from a spec and domain, and all of them are allowed.
    pub fn has_its_names(
        &self,
        identity: &IdentityView<'h>,
        spec: &IdentitySpec,
        domain: &DomainSpec,
        leaf: &Leaf,
    ) -> bool {
        let question = (ptr::from_ref(spec), ptr::from_ref(domain), ptr::from_ref(leaf));
        if identity.named.get() == Some(question) {
            return true;
        }
        let carried =
            names::Carried { spiffe_id: &leaf.spiffe_id, dns: &leaf.dns_names, addresses: &leaf.ip_addresses };
        let namespace = self.namespace(identity.object);
        let has = namespace.is_some_and(|it| names::are_exactly(self.history, spec, domain, it, &carried));
        if has {
            identity.named.set(Some(question));
        }
        has
    }

    /// The earliest point at which a leaf may be due for renewal, whatever the UID adds to it.
    pub fn earliest_renewal(leaf: &Leaf, renew_before: Option<i64>) -> i64 {
        let life = leaf.not_after - leaf.not_before;
        let earliest = match renew_before.filter(|before| *before < life / 2) {
            Some(before) => leaf.not_after - before - life / 20,
            // The smallest values over u of T × (2/3 − u/10) and T × (3/4 − u/20) − 12 min.
            None => leaf.not_before + (life * 17 / 30).min(life * 7 / 10 - 720),
        };
        earliest - SKEW
    }

    /// Makes sure that a deadline at `due` is looked at.
    pub fn expect_by(&mut self, due: i64) {
        self.next_deadline = self.next_deadline.min(due);
    }

    fn identity_mut(&mut self, uid: Uid) -> Option<&mut IdentityView<'h>> {
        self.identities.iter_mut().find(|identity| identity.uid == uid)
    }
}

impl IdentityView<'_> {
    /// A ServiceIdentity that was just created.
    fn new(uid: Uid, object: ObjectId, target: ObjectId, generation: i64) -> Self {
        Self {
            uid,
            object,
            target,
            generation,
            deleted_at: None,
            ready_once: false,
            requested: None,
            baseline: None,
            forcing: None,
            forced_at: None,
            unsaved: None,
            tally: Tally::default(),
            ten_minutes: Window::OVER,
            day: Window::OVER,
            minute: Window::OVER,
            statuses_since_sign: 0,
            troubled: false,
            renewal: None,
            failing: false,
            named: Cell::new(None),
            truth_due: None,
            renewal_due: None,
        }
    }

    /// Other things than the renewal cost writes now.
    fn excuse(&mut self) {
        self.troubled = true;
        if let Some(renewal) = &mut self.renewal {
            renewal.excused = true;
        }
    }
}

/// The process that acted, if it was the operator.
pub fn operator(entry: &Entry) -> Option<Process> {
    match entry.actor {
        crate::history::Actor::Operator(process) => Some(process),
        crate::history::Actor::User | crate::history::Actor::Cluster | crate::history::Actor::World => None,
    }
}
