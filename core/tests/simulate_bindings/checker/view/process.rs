//! What one process learnt and did.

use super::{super::render::Values, NEVER};
use crate::history::{GRACE, Process, SKEW, SLOTS, Source, Stored, VaultAnswer, VaultCall};

/// One process.
pub struct ProcessView<'h> {
    /// Which.
    pub process: Process,
    /// When it started.
    pub started: i64,
    /// Its reads of secrets at Vault, in time order.
    pub reads: Vec<Read<'h>>,
    /// The tokens it was given.
    pub tokens: Vec<u64>,
    /// When it was last given a token.
    pub token_at: Option<i64>,
    /// It learnt that its token may be dead.
    pub token_is_dead: bool,
    /// Its last login and the answer.
    pub login: Option<(i64, &'h VaultAnswer)>,
    /// Logins since the beginning of the present minute of them.
    pub logins: Window,
    /// Logins in the steady span.
    pub steady_logins: i64,
    /// Since when it knows that the server is down.
    pub down: Option<i64>,
    /// When its clock last jumped.
    pub clock_stepped: i64,
    /// When it last logged in or learnt that its token may be dead.
    pub token_doubted: i64,
    /// What it knows and did of each binding.
    pub slots: [ProcessSlot<'h>; SLOTS],
}

/// What a process knows of a binding.
pub struct ProcessSlot<'h> {
    /// The target as it last saw it.
    pub seen: Seen<'h>,
    /// When that was.
    pub seen_at: i64,
    /// Every resourceVersion of the target that it was told.
    pub versions: Vec<u64>,
    /// Reads at Vault since the beginning of the present minute of them.
    pub reads: Window,
    /// When something last failed, or was shown to be gone.
    pub failed: i64,
    /// When it last saw another version than the one stored.
    pub news: i64,
    /// When something but a 403 or 404 last failed.
    pub tripped: i64,
    /// The times of the last tries that only an annotation explains.
    pub forced: [i64; 2],
}

/// What a look at a target shows.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'h> {
    /// It is there.
    There(&'h Stored),
    /// 404.
    Absent,
    /// It never looked, or does not know what became of its write.
    Unknown,
}

/// How often something was done since some time.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its first second.
    pub from: i64,
    /// How often.
    pub times: usize,
}

impl Window {
    /// One more, in the present minute or as the first of another.
    pub fn next(self, now: i64, stirred: i64) -> Self {
        if now >= self.from + 60 || stirred >= self.from {
            Self { from: now, times: 1 }
        } else {
            Self { times: self.times + 1, ..self }
        }
    }
}

/// One read of a secret at Vault.
#[derive(Debug, Clone, Copy)]
pub struct Read<'h> {
    /// When.
    pub at: i64,
    /// For which binding.
    pub slot: Option<usize>,
    /// What was asked.
    pub call: Call<'h>,
    /// What came back.
    pub answer: &'h VaultAnswer,
}

/// A call that reads a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'h> {
    /// Whether it asks for metadata only.
    pub is_metadata: bool,
    /// The mount.
    pub mount: &'h str,
    /// The path below it.
    pub path: &'h str,
    /// The version asked for.
    pub version: Option<i64>,
}

impl<'h> Call<'h> {
    /// The call as one that reads a secret, if it is.
    pub fn of(call: &'h VaultCall) -> Option<Self> {
        match call {
            VaultCall::Metadata { mount, path } => Some(Self { is_metadata: true, mount, path, version: None }),
            VaultCall::Values { mount, path, version } => {
                Some(Self { is_metadata: false, mount, path, version: *version })
            }
            VaultCall::Unversioned { mount, path } => Some(Self { is_metadata: false, mount, path, version: None }),
            VaultCall::Health | VaultCall::Login | VaultCall::LookupSelf | VaultCall::Mount(_) => None,
        }
    }

    /// Whether it is of the secret that `source` names.
    pub fn is_of(&self, source: &Source) -> bool {
        self.mount == source.mount && self.path == source.path
    }
}

impl<'h> Read<'h> {
    /// The values it brought; none if they are not of the version asked for.
    pub fn values(&self) -> Option<Values<'h>> {
        let VaultAnswer::Values { version, fields } = self.answer else { return None };
        let Call { mount, path, version: asked, .. } = self.call;
        let number = version.as_ref().map(|version| version.number);
        let is_wanted = asked.is_none() || asked == number;
        let created = version.as_ref().map(|version| version.created);
        is_wanted.then_some(Values { mount, path, number, created, fields })
    }

    /// The newest version as this read shows it: number and time of making.
    pub fn newest(&self) -> Option<(i64, i64)> {
        match self.answer {
            VaultAnswer::Metadata { current, versions } => {
                let version = versions.iter().find(|version| version.number == *current)?;
                Some((*current, version.created))
            }
            VaultAnswer::Values { version: Some(version), .. } if self.call.version.is_none() => {
                Some((version.number, version.created))
            }
            _ => None,
        }
    }

    /// Whether it shows that `wanted` (the newest, if none) is gone or is not shown to us.
    pub fn denies(&self, wanted: Option<i64>) -> bool {
        match self.answer {
            VaultAnswer::Status(403 | 404) => true,
            VaultAnswer::Metadata { current, versions } => {
                let version = versions.iter().find(|version| version.number == wanted.unwrap_or(*current));
                // The time of a deletion may be compared with a clock that is a little off.
                version.is_none_or(|one| one.destroyed || one.deleted.is_some_and(|from| from <= self.at - SKEW))
            }
            _ => false,
        }
    }
}

impl<'h> ProcessView<'h> {
    /// A process that has just started.
    pub fn new(process: Process, started: i64) -> Self {
        let none = Window { from: NEVER, times: 0 };
        let slot = || ProcessSlot {
            seen: Seen::Unknown,
            seen_at: NEVER,
            versions: Vec::new(),
            reads: none,
            failed: NEVER,
            news: NEVER,
            tripped: NEVER,
            forced: [NEVER; 2],
        };
        Self {
            process,
            started,
            reads: Vec::new(),
            tokens: Vec::new(),
            token_at: None,
            token_is_dead: false,
            login: None,
            logins: none,
            steady_logins: 0,
            down: None,
            clock_stepped: NEVER,
            token_doubted: NEVER,
            slots: std::array::from_fn(|_| slot()),
        }
    }

    /// Its reads within the deadline of a pass, the last first.
    pub fn lately(&self, now: i64) -> impl Iterator<Item = &Read<'h>> {
        self.reads.iter().rev().take_while(move |read| read.at >= now - GRACE)
    }

    /// The different values of `source` that it read within the deadline of a pass, the last first.
    pub fn values(&self, source: &Source, now: i64) -> Vec<Values<'h>> {
        let mut found: Vec<Values<'h>> = Vec::new();
        for values in self.lately(now).filter(|read| read.call.is_of(source)).filter_map(Read::values) {
            if !found.iter().any(|known| known.is_same(&values)) {
                found.push(values);
            }
        }
        found
    }
}
