//! One namespace, one connection, two bindings, one leading process, and what it does step by step.

mod kubernetes;

use std::{collections::BTreeMap, sync::Arc};

use countersign_core::api::{DeletionPolicy, RefreshMode};

use crate::history::*;

/// When every run starts.
pub const START: i64 = 1_000_000;
pub const HOUR: i64 = 3_600;
/// The replica that leads.
pub const LEADER: Process = Process { leader: 1, epoch: 1 };
/// Its rival.
pub const RIVAL: Process = Process { leader: 2, epoch: 1 };
/// The secret of the engine with versions.
pub const DB: &str = "kv/pay/db";
/// The secret of the engine without.
pub const API: &str = "old/pay/api";

/// Values by key.
pub fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), format!("hush-{value}"))).collect()
}

/// Refreshed from [`DB`], every key.
pub fn plain_spec() -> Spec {
    let source = Source { name: "db".into(), mount: "kv".into(), path: "pay/db".into(), version: None };
    Spec {
        every: 900,
        mode: RefreshMode::Auto,
        sources: vec![source],
        entries: vec![Entries::Each { source: "db".into(), prefix: String::new() }],
        type_: "Opaque".into(),
        deletion: DeletionPolicy::Delete,
        suspend: false,
    }
}

/// Refreshed from both secrets.
pub fn mixed_spec() -> Spec {
    let mut spec = plain_spec();
    spec.sources.push(Source { name: "api".into(), mount: "old".into(), path: "pay/api".into(), version: None });
    let password = Entries::One { key: "password".into(), source: "db".into(), field: "password".into() };
    spec.entries = vec![password, Entries::Each { source: "api".into(), prefix: "API_".into() }];
    spec
}

/// A history in the making, and the servers behind it.
pub struct Run {
    pub history: History,
    pub at: i64,
    pub process: Process,
    pub specs: [Spec; SLOTS],
    pub generations: [i64; SLOTS],
    pub uids: [u64; SLOTS],
    pub handled: [Option<String>; SLOTS],
    pub held: [Option<(u64, Stored)>; SLOTS],
    /// What the server holds, the oldest first.
    pub remote: BTreeMap<&'static str, Vec<Kept>>,
    token: u64,
    drawn: u64,
}

/// A version that the server holds.
#[derive(Clone)]
pub struct Kept {
    pub version: Version,
    pub fields: Arc<BTreeMap<String, String>>,
}

impl Run {
    /// A leading process that has logged in, a working Vault, and the first binding, made just now.
    pub fn new() -> Self {
        Self::with(plain_spec())
    }

    /// As [`Run::new`], with another spec.
    pub fn with(spec: Spec) -> Self {
        let mut run = Self {
            history: History::default(),
            at: START,
            process: LEADER,
            specs: [spec, mixed_spec()],
            generations: [0; SLOTS],
            uids: [10, 20],
            handled: [None, None],
            held: [None, None],
            remote: BTreeMap::new(),
            token: 0,
            drawn: 100,
        };
        run.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken));
        run.change(WorldChange::Granted(vec!["kv/pay/**".into(), "old/pay/a*".into()]));
        run.put(DB, &[("password", "one"), ("user", "app")]).put(API, &[("KEY", "k1")]);
        run.edit(0, |_| {}).wait(1).login();
        run
    }

    /// As [`Run::new`], and the target is written and told of.
    pub fn ready() -> Self {
        Self::ready_with(plain_spec())
    }

    /// As [`Run::ready`], with another spec.
    pub fn ready_with(spec: Spec) -> Self {
        let mut run = Self::with(spec);
        run.refresh(0);
        run
    }

    /// Time passes; whoever leads keeps the lease.
    pub fn wait(&mut self, seconds: i64) -> &mut Self {
        self.at += seconds;
        self.push(Event::Lease(LeaseChange::Renewed))
    }

    /// As [`Run::wait`], with a look at the target as often as promised.
    pub fn idle(&mut self, seconds: i64) -> &mut Self {
        let end = self.at + seconds;
        while self.at < end {
            self.wait((DRIFT / 3).min(end - self.at));
            for slot in 0..SLOTS {
                if self.generations[slot] > 0 {
                    self.look(slot);
                }
            }
        }
        self
    }

    /// The current process did something.
    pub fn push(&mut self, event: Event) -> &mut Self {
        self.history.push(self.at, Actor::Operator(self.process), event);
        self
    }

    /// The surroundings changed.
    pub fn change(&mut self, change: WorldChange) -> &mut Self {
        self.history.push(self.at, Actor::World, Event::World(change));
        self
    }

    pub fn mark(&mut self, mark: Mark) -> &mut Self {
        self.history.push(self.at, Actor::World, Event::Mark(mark));
        self
    }

    pub fn vault_is(&mut self, state: VaultState) -> &mut Self {
        self.change(WorldChange::Vault(state))
    }

    /// The process dies and another one starts and leads.
    pub fn restart(&mut self) -> &mut Self {
        self.push(Event::Process(ProcessChange::Killed));
        self.process.epoch += 1;
        self.push(Event::Process(ProcessChange::Started)).push(Event::Lease(LeaseChange::Taken))
    }

    // ------------------------------------------------------------------------------------------ bindings

    /// A person edits a binding, or makes it.
    pub fn edit(&mut self, slot: usize, change: impl FnOnce(&mut Spec)) -> &mut Self {
        change(&mut self.specs[slot]);
        self.generations[slot] += 1;
        let spec = Arc::new(self.specs[slot].clone());
        self.edited(slot, BindingEdit::Spec { generation: self.generations[slot], spec })
    }

    pub fn edited(&mut self, slot: usize, change: BindingEdit) -> &mut Self {
        let uid = self.uids[slot];
        self.history.push(self.at, Actor::User, Event::Binding { slot, uid, change });
        self
    }

    pub fn request(&mut self, slot: usize, text: &str) -> &mut Self {
        self.edited(slot, BindingEdit::Requested(text.into()))
    }

    // ------------------------------------------------------------------------------------------ Vault

    /// The server gets a new version, or new values where it keeps no versions.
    pub fn put(&mut self, path: &'static str, pairs: &[(&str, &str)]) -> &mut Self {
        let fields = Arc::new(fields(pairs));
        let known = self.remote.entry(path).or_default();
        let number = i64::try_from(known.len()).unwrap() + 1;
        let version = Version { number, created: self.at, deleted: None, destroyed: false };
        known.push(Kept { version: version.clone(), fields: fields.clone() });
        let version = (path == DB).then_some(version);
        self.change(WorldChange::Remote(Remote::Put { path: path.into(), version, fields }))
    }

    /// The newest version is deleted at the server.
    pub fn delete_newest(&mut self, path: &'static str) -> &mut Self {
        let at = self.at;
        let version = self.remote.get_mut(path).and_then(|known| known.last_mut()).map(|kept| {
            kept.version.deleted = Some(at);
            kept.version.clone()
        });
        self.change(WorldChange::Remote(Remote::Version { path: path.into(), version: version.unwrap() }))
    }

    pub fn call(&mut self, slot: Option<usize>, call: VaultCall, answer: VaultAnswer) -> &mut Self {
        let token = !matches!(call, VaultCall::Login | VaultCall::Health);
        let token = token.then_some(self.token);
        self.push(Event::Vault(VaultRequest { sent_to: ADDRESS.into(), token, slot, call, answer }))
    }

    pub fn login(&mut self) -> &mut Self {
        self.token += 1;
        let token = self.token;
        self.call(None, VaultCall::Login, VaultAnswer::Token(token))
    }

    pub fn refused_login(&mut self) -> &mut Self {
        self.call(None, VaultCall::Login, VaultAnswer::Status(403))
    }

    /// Metadata of [`DB`] with this answer.
    pub fn metadata_answered(&mut self, slot: usize, answer: VaultAnswer) -> &mut Self {
        self.call(Some(slot), VaultCall::Metadata { mount: "kv".into(), path: "pay/db".into() }, answer)
    }

    /// Metadata of [`DB`] as they are.
    pub fn metadata(&mut self, slot: usize) -> &mut Self {
        let newest = self.remote[DB].len();
        self.metadata_as_of(slot, newest)
    }

    /// Metadata of [`DB`] as they were when this was the newest version.
    pub fn metadata_as_of(&mut self, slot: usize, newest: usize) -> &mut Self {
        let versions = self.remote[DB].iter().take(newest).map(|kept| kept.version.clone()).collect();
        self.metadata_answered(slot, VaultAnswer::Metadata { current: i64::try_from(newest).unwrap(), versions })
    }

    /// Values of a version of [`DB`].
    pub fn values(&mut self, slot: usize, number: usize) -> &mut Self {
        let Kept { version, fields } = self.remote[DB][number - 1].clone();
        let asked = Some(version.number);
        let call = VaultCall::Values { mount: "kv".into(), path: "pay/db".into(), version: asked };
        self.call(Some(slot), call, VaultAnswer::Values { version: Some(version), fields })
    }

    /// Values of [`API`].
    pub fn plain_values(&mut self, slot: usize) -> &mut Self {
        let fields = self.remote[API].last().unwrap().fields.clone();
        let call = VaultCall::Unversioned { mount: "old".into(), path: "pay/api".into() };
        self.call(Some(slot), call, VaultAnswer::Values { version: None, fields })
    }

    /// Every source of a binding is read.
    pub fn read_sources(&mut self, slot: usize) -> &mut Self {
        for source in self.specs[slot].sources.clone() {
            if source.mount == "kv" {
                self.metadata(slot);
                let number = source.version.map_or(self.remote[DB].len(), |pin| usize::try_from(pin).unwrap());
                self.values(slot, number);
            } else {
                self.plain_values(slot);
            }
        }
        self
    }
}

/// A request without anything special.
pub fn asked(slot: usize, verb: Verb, outcome: Outcome) -> SecretRequest {
    SecretRequest { slot, verb, version: None, uid: None, force: false, outcome, answer_lost: false, stored: None }
}
