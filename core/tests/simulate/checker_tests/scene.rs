//! One namespace, one trust domain signed by Vault, one leading process, and what it does step by step.

use std::{collections::BTreeMap, sync::Arc};

use countersign_core::api::{ConditionType, DeletionPolicy, Reason, Verdict};

use crate::history::*;

/// When every run starts.
pub const START: i64 = 1_000_000;
pub const HOUR: i64 = 3_600;
pub const DAY: i64 = 24 * HOUR;
/// The replica that leads.
pub const LEADER: Process = Process { leader: 1, epoch: 1 };
/// Its rival.
pub const RIVAL: Process = Process { leader: 2, epoch: 1 };
pub const ADDRESS: &str = "https://bao.infra.svc:8200";
pub const DOMAIN_UID: Uid = Uid(1);
pub const AUTHORITY: Authority = Authority {
    id: AuthorityId(1),
    key: KeyPair(900),
    root: Root(1),
    not_after: START + 3_650 * DAY,
    state: AuthorityState::Active,
};

/// A history in the making, and the servers behind it.
pub struct Run {
    pub history: History,
    pub at: i64,
    pub process: Process,
    /// The ServiceIdentity that the next steps are about.
    pub who: Who,
    pub domain: ObjectId,
    pub connection: ObjectId,
    held: BTreeMap<ObjectId, (u64, Arc<Stored>)>,
    version: u64,
    drawn: u64,
}

/// One ServiceIdentity and what belongs to it.
#[derive(Clone)]
pub struct Who {
    pub uid: Uid,
    pub object: ObjectId,
    pub spec: IdentitySpec,
    pub generation: i64,
    pub status: StatusWrite,
}

impl Run {
    /// A leading process, a working Vault, and `pay/api`, created just now.
    pub fn new() -> Self {
        let canary = |kind, needle: &'static str| Canary { kind, needle: needle.into() };
        let settings = Settings {
            canaries: vec![
                canary(CanaryKind::Foreign, "zebra-of-the-issuer"),
                canary(CanaryKind::Credential, "hvs.zebra-token"),
            ],
            ..Settings::default()
        };
        let mut history = History::new(settings);
        let domain = history.object(Kind::TrustDomain, "", "prod");
        let connection = history.object(Kind::VaultConnection, "", "main");
        let who = blank(&mut history, domain, "api", 10);
        let held = BTreeMap::new();
        let mut run =
            Self { history, at: START, process: LEADER, who, domain, connection, held, version: 100, drawn: 0 };
        run.world(Event::Process(ProcessChange::Started), LEADER);
        run.world(Event::Lease(LeaseChange::Taken), LEADER);
        let address = Some(ADDRESS.into());
        run.user(Event::Connection(ConnectionChange { object: connection, address }));
        run.change_domain(|_| {});
        run.add_authority(AUTHORITY);
        run.create();
        run
    }

    /// As [`Run::new`], and the first certificate is stored and told of.
    pub fn issued() -> Self {
        let mut run = Self::new();
        run.wait(1).login();
        run.issue();
        run
    }

    /// As [`Run::issued`], 16 hours later: renewal is due, and the target was read just now.
    pub fn due() -> Self {
        let mut run = Self::issued();
        run.wait(16 * HOUR + 600).login().read();
        run
    }

    /// Time passes; whoever leads keeps the lease.
    pub fn wait(&mut self, seconds: i64) -> &mut Self {
        self.at += seconds;
        self.push(Event::Lease(LeaseChange::Renewed))
    }

    /// The current process did something.
    pub fn push(&mut self, event: Event) -> &mut Self {
        self.history.push(self.at, Actor::Operator(self.process), event);
        self
    }

    /// A given process did something.
    pub fn world(&mut self, event: Event, process: Process) {
        self.history.push(self.at, Actor::Operator(process), event);
    }

    /// A user did something.
    pub fn user(&mut self, event: Event) -> &mut Self {
        self.history.push(self.at, Actor::User, event);
        self
    }

    /// The surroundings changed.
    pub fn change(&mut self, change: WorldChange) -> &mut Self {
        self.history.push(self.at, Actor::World, Event::World(change));
        self
    }

    /// The server behind the connection answers otherwise from now on.
    pub fn vault_is(&mut self, state: VaultState) -> &mut Self {
        let connection = self.connection;
        self.change(WorldChange::Vault { connection, state })
    }

    pub fn mark(&mut self, mark: Mark) -> &mut Self {
        self.history.push(self.at, Actor::World, Event::Mark(mark));
        self
    }

    /// The TrustDomain as it is from now on.
    pub fn change_domain(&mut self, change: impl FnOnce(&mut DomainSpec)) -> &mut Self {
        let issuer = Issuer::Vault { connection: self.connection, mount: "pki_int".into(), role: "workload".into() };
        let mut spec = DomainSpec {
            name: "prod.example".into(),
            issuer,
            ttl: DAY,
            key: KeyKind::P256,
            short_names: false,
            allow: Vec::new(),
        };
        change(&mut spec);
        let change = DomainEdit::Spec(Arc::new(spec));
        let object = self.domain;
        self.user(Event::Domain(DomainChange { object, uid: DOMAIN_UID, change }))
    }

    pub fn add_authority(&mut self, authority: Authority) -> &mut Self {
        let change = DomainEdit::Authority(authority);
        let object = self.domain;
        self.user(Event::Domain(DomainChange { object, uid: DOMAIN_UID, change }))
    }

    /// Turns to another, new ServiceIdentity.
    pub fn turn_to(&mut self, name: &'static str, uid: u64) -> &mut Self {
        self.who = blank(&mut self.history, self.domain, name, uid);
        self.create()
    }

    /// A user creates the ServiceIdentity, its ServiceAccount and its Service.
    fn create(&mut self) -> &mut Self {
        let spec = self.who.spec.clone();
        for object in spec.services.iter().chain([&spec.service_account]) {
            self.change(WorldChange::Present { object: *object, present: true });
        }
        self.edit(|_| {})
    }

    /// A user edits the spec.
    pub fn edit(&mut self, change: impl FnOnce(&mut IdentitySpec)) -> &mut Self {
        change(&mut self.who.spec);
        self.who.generation += 1;
        let (generation, spec) = (self.who.generation, Arc::new(self.who.spec.clone()));
        self.edited(IdentityEdit::Spec { generation, spec })
    }

    pub fn edited(&mut self, change: IdentityEdit) -> &mut Self {
        let (object, uid) = (self.who.object, self.who.uid);
        self.user(Event::Identity(IdentityChange { object, uid, change }))
    }

    /// A login that works, for a token of one hour.
    pub fn login(&mut self) -> &mut Self {
        self.call(VaultCall::Login, VaultAnswer::Token(HOUR))
    }

    pub fn call(&mut self, call: VaultCall, answer: VaultAnswer) -> &mut Self {
        let connection = self.connection;
        self.push(Event::Vault(VaultRequest { connection, sent_to: ADDRESS.into(), call, answer }))
    }

    /// The process reads the target.
    pub fn read(&mut self) -> &mut Self {
        let held = self.target();
        let outcome = held.as_ref().map_or(Outcome::Absent, |(version, _)| Outcome::Found(*version));
        let stored = held.map(|(_, stored)| stored);
        let object = self.who.spec.secret;
        self.request(KubeRequest { outcome, stored, ..request(Verb::Read, object) })
    }

    /// What the server holds of the target.
    pub fn target(&self) -> Option<(u64, Arc<Stored>)> {
        self.held.get(&self.who.spec.secret).cloned()
    }

    pub fn request(&mut self, request: KubeRequest) -> &mut Self {
        self.push(Event::Kube(request))
    }

    /// What an honest issuer would sign now for the spec as it is.
    pub fn honest_leaf(&mut self) -> Leaf {
        self.drawn += 1;
        let spec = &self.who.spec;
        let name = |object: ObjectId| self.history.name(object).unwrap().name.clone();
        let services = spec.services.iter().flat_map(|service| {
            let short = format!("{}.pay.svc", &*name(*service));
            [short.clone().into(), format!("{short}.cluster.local").into()]
        });
        Leaf {
            public_key: KeyPair(self.drawn),
            key_kind: spec.key.unwrap_or(KeyKind::P256),
            spiffe_id: format!("spiffe://prod.example/ns/pay/sa/{}", &*name(spec.service_account)).into(),
            dns_names: services.chain(spec.dns_names.iter().cloned()).collect(),
            ip_addresses: spec.ip_addresses.clone(),
            not_before: self.at - 300,
            not_after: self.at + spec.ttl.unwrap_or(DAY),
            serial: Serial(self.drawn),
            authority: AUTHORITY.id,
            is_ca: false,
            verifies: true,
        }
    }

    /// Asks for a signature and is answered honestly.
    pub fn sign(&mut self) -> Arc<Leaf> {
        self.sign_for(|leaf| SignAnswer::Honest(Arc::new(leaf)))
    }

    /// Asks for a signature and gets a certificate that is not what was asked.
    pub fn sign_doctored(&mut self, doctoring: Doctoring, change: impl FnOnce(&mut Leaf)) -> Arc<Leaf> {
        self.sign_for(|mut leaf| {
            change(&mut leaf);
            SignAnswer::Doctored(Arc::new(leaf), doctoring)
        })
    }

    /// Asks for a signature; the answer is made from what an honest issuer would sign.
    pub fn sign_for(&mut self, answer: impl FnOnce(Leaf) -> SignAnswer) -> Arc<Leaf> {
        let path = self.path();
        self.sign_at(path, answer)
    }

    pub fn sign_at(&mut self, path: SignPath, answer: impl FnOnce(Leaf) -> SignAnswer) -> Arc<Leaf> {
        let leaf = self.honest_leaf();
        let asked = SignRequest {
            public_key: leaf.public_key,
            spiffe_id: leaf.spiffe_id.clone(),
            dns_names: leaf.dns_names.clone(),
            ip_addresses: leaf.ip_addresses.clone(),
            ttl: DAY,
        };
        let answer = answer(leaf.clone());
        let answered = match &answer {
            SignAnswer::Honest(leaf) | SignAnswer::Doctored(leaf, _) => leaf.clone(),
            _ => Arc::new(leaf),
        };
        let (identity, asked) = (self.who.uid, Arc::new(asked));
        self.push(Event::Sign(Signature { identity, path, asked, answer }));
        answered
    }

    /// Where the domain's signatures are asked for.
    pub fn path(&self) -> SignPath {
        SignPath::Vault {
            connection: self.connection,
            sent_to: ADDRESS.into(),
            mount: "pki_int".into(),
            role: "workload".into(),
            endpoint: SignEndpoint::Sign,
        }
    }

    /// Stores key, leaf and roots in one apply.
    pub fn store(&mut self, leaf: &Arc<Leaf>) -> &mut Self {
        self.store_as(leaf, |_| {}, |_| {})
    }

    /// Stores another content than `leaf` would have.
    pub fn store_with(&mut self, leaf: &Arc<Leaf>, change: impl FnOnce(&mut Stored)) -> &mut Self {
        self.store_as(leaf, change, |_| {})
    }

    /// Stores in another way, and perhaps another content.
    pub fn store_as(
        &mut self,
        leaf: &Arc<Leaf>,
        change: impl FnOnce(&mut Stored),
        send: impl FnOnce(&mut KubeRequest),
    ) -> &mut Self {
        let object = self.who.spec.secret;
        let mut stored = Stored {
            uid: Some(Uid(1_000 + self.who.uid.0)),
            labelled: true,
            owner_uid: Some(self.who.uid),
            owner_reference: Some(self.who.uid),
            content: Content {
                tls_key: Some(leaf.public_key),
                tls_crt: Some(leaf.clone()),
                ca_crt: vec![AUTHORITY.root],
                other: Vec::new(),
            },
        };
        change(&mut stored);
        let before = self.target().map(|(version, _)| version);
        let mut request = request(Verb::Apply, object);
        request.sent.version = before;
        request.stored = Some(Arc::new(stored));
        send(&mut request);
        self.perform(request)
    }

    /// The server does as asked, whoever asks.
    pub fn perform(&mut self, request: KubeRequest) -> &mut Self {
        let actor = Actor::Operator(self.process);
        self.perform_by(actor, request)
    }

    pub fn perform_by(&mut self, actor: Actor, mut request: KubeRequest) -> &mut Self {
        let before = self.held.get(&request.object).map(|(version, _)| *version);
        self.version += 1;
        if let Some(stored) = request.stored.clone() {
            request.outcome = Outcome::Written { before, after: self.version };
            self.held.insert(request.object, (self.version, stored));
        } else {
            request.outcome = Outcome::Deleted;
            self.held.remove(&request.object);
        }
        self.history.push(self.at, actor, Event::Kube(request));
        self
    }

    /// Deletes the target, with all preconditions.
    pub fn delete(&mut self) -> KubeRequest {
        let (version, stored) = self.target().unwrap();
        let sent = Preconditions { version: Some(version), uid: stored.uid };
        KubeRequest { sent, ..request(Verb::Delete, self.who.spec.secret) }
    }

    /// Writes the status that is true now.
    pub fn tell(&mut self) -> &mut Self {
        self.tell_with(|_| {})
    }

    /// Writes another status.
    pub fn tell_with(&mut self, change: impl FnOnce(&mut StatusWrite)) -> &mut Self {
        let leaf = self.target().and_then(|(_, stored)| stored.content.tls_crt.clone());
        let status = &mut self.who.status;
        status.observed_generation = self.who.generation;
        status.not_after = leaf.as_ref().map(|leaf| leaf.not_after);
        if status.serial != leaf.as_ref().map(|leaf| leaf.serial) {
            status.revision += 1;
            status.issues += 1;
        }
        status.serial = leaf.as_ref().map(|leaf| leaf.serial);
        change(status);
        let write = self.who.status.clone();
        self.push(Event::Status(Box::new(write)))
    }

    /// Reads, signs, stores and tells.
    pub fn issue(&mut self) -> &mut Self {
        self.read();
        let leaf = self.sign();
        self.store(&leaf).tell()
    }
}

/// A condition that is True.
pub fn holds(kind: ConditionType, reason: Reason) -> Condition {
    Condition { kind, verdict: Verdict::True, reason, message: "all is well".into() }
}

/// A request for a Secret before it is known what becomes of it.
pub fn request(verb: Verb, object: ObjectId) -> KubeRequest {
    KubeRequest {
        verb,
        object,
        sent: Preconditions::default(),
        field_manager: "countersign.dev/identity".into(),
        force: false,
        outcome: Outcome::Absent,
        answer_lost: false,
        stored: None,
    }
}

fn blank(history: &mut History, domain: ObjectId, name: &'static str, uid: u64) -> Who {
    let object = history.object(Kind::ServiceIdentity, "pay", name);
    let spec = IdentitySpec {
        trust_domain: domain,
        service_account: history.object(Kind::ServiceAccount, "pay", name),
        services: vec![history.object(Kind::Service, "pay", name)],
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        ttl: None,
        key: None,
        renew_before: None,
        secret: history.object(Kind::Secret, "pay", format!("{name}-tls")),
        deletion_policy: DeletionPolicy::Delete,
        suspend: false,
    };
    let status = StatusWrite {
        object,
        uid: Uid(uid),
        outcome: Outcome::Written { before: None, after: 1 },
        answer_lost: false,
        observed_generation: 0,
        conditions: vec![
            holds(ConditionType::Ready, Reason::Valid),
            holds(ConditionType::Issued, Reason::Issued),
            holds(ConditionType::Accepted, Reason::Accepted),
        ],
        not_after: None,
        serial: None,
        authority: None,
        renew_at: None,
        revision: 0,
        issues: 0,
        last_failure: None,
        last_handled_request: None,
    };
    Who { uid: Uid(uid), object, spec, generation: 0, status }
}
