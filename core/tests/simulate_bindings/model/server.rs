//! What Vault holds: two secrets of a KV engine with versions, one of an engine without, and what a server that lags
//! behind still shows of them.

use std::{collections::BTreeMap, sync::Arc};

use crate::history::{Remote, VALUE_PREFIX, VaultAnswer, VaultCall, Version, WorldChange};

/// The values of a secret.
pub type Fields = Arc<BTreeMap<String, String>>;

/// Mount and path of every secret, and whether the mount keeps versions.
pub const PLACES: [(&str, &str, bool); 3] = [("kv", "pay/a", true), ("kv", "pay/b", true), ("old", "pay/c", false)];

/// A secret.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Number of the newest version.
    pub current: i64,
    /// Every version with its values; an engine without versions has one only, number 0.
    pub versions: BTreeMap<i64, (Version, Fields)>,
}

/// All secrets, by place.
pub type State = [Option<Arc<Held>>; PLACES.len()];

/// What Vault holds.
#[derive(Default)]
pub struct Server {
    /// The truth.
    pub held: State,
    /// What was true before each of the last changes.
    before: Vec<State>,
    /// What is shown instead of the truth, if the server lags.
    pub lagging: Option<State>,
}

/// Mount and path in one text.
pub fn whole(place: usize) -> String {
    let (mount, path, _) = PLACES[place];
    format!("{mount}/{path}")
}

/// Values that nobody has yet.
pub fn new_fields(number: u64, has_extra: bool) -> Fields {
    let mut fields = BTreeMap::from([
        ("user".to_owned(), format!("{VALUE_PREFIX}user-{number}")),
        ("pass".to_owned(), format!("{VALUE_PREFIX}pass-{number}")),
    ]);
    if has_extra {
        fields.insert("extra".to_owned(), format!("{VALUE_PREFIX}extra-{number}"));
    }
    Arc::new(fields)
}

impl Server {
    /// The current version of a secret with its values.
    pub fn current(&self, place: usize) -> Option<&(Version, Fields)> {
        let held = self.held[place].as_ref()?;
        held.versions.get(&held.current)
    }

    fn changing(&mut self) {
        if self.before.len() == 4 {
            self.before.remove(0);
        }
        self.before.push(self.held.clone());
    }

    /// New values, as a new version where there are any.
    pub fn put(&mut self, place: usize, fields: Fields, now: i64, ends: Option<i64>) -> WorldChange {
        self.changing();
        let (_, _, versions) = PLACES[place];
        let held = Arc::make_mut(self.held[place].get_or_insert_default());
        if versions {
            held.current += 1;
        }
        let version = Version { number: held.current, created: now, deleted: ends, destroyed: false };
        held.versions.insert(held.current, (version.clone(), fields.clone()));
        let version = versions.then_some(version);
        WorldChange::Remote(Remote::Put { path: whole(place), version, fields })
    }

    /// Deletes, destroys or brings back a version; none if there is no such version, or it is gone for good.
    pub fn change(&mut self, place: usize, number: i64, change: impl FnOnce(&mut Version)) -> Option<WorldChange> {
        let known = self.held[place].as_ref()?.versions.get(&number)?;
        if !PLACES[place].2 || known.0.destroyed {
            return None;
        }
        self.changing();
        let held = Arc::make_mut(self.held[place].as_mut()?);
        let (version, _) = held.versions.get_mut(&number)?;
        change(version);
        Some(WorldChange::Remote(Remote::Version { path: whole(place), version: version.clone() }))
    }

    /// Removes all of a secret.
    pub fn remove(&mut self, place: usize) -> Option<WorldChange> {
        self.held[place].as_ref()?;
        self.changing();
        self.held[place] = None;
        Some(WorldChange::Remote(Remote::Gone { path: whole(place) }))
    }

    /// From now on an older state is shown, if there was one: that before the last changes.
    pub fn lag(&mut self, back: usize) -> bool {
        let place = self.before.len().checked_sub(1 + back);
        self.lagging = place.and_then(|place| self.before.get(place)).cloned();
        self.lagging.is_some()
    }

    /// The answer to a read that nothing is in the way of; and whether a 404 comes with the metadata of a version
    /// that was deleted.
    pub fn answer(&self, call: &VaultCall, now: i64) -> (VaultAnswer, bool) {
        let shown = self.lagging.as_ref().unwrap_or(&self.held);
        let find = |mount: &str, path: &str| {
            let place = PLACES.iter().position(|place| place.0 == mount && place.1 == path)?;
            shown[place].as_ref()
        };
        let nothing = (VaultAnswer::Status(404), false);
        match call {
            VaultCall::Mount(mount) => match PLACES.iter().find(|place| place.0 == mount) {
                Some((_, _, versions)) => (VaultAnswer::Mount { kv: true, versions: *versions }, false),
                None => (VaultAnswer::Status(403), false),
            },
            VaultCall::Metadata { mount, path } => find(mount, path).map_or(nothing, |held| {
                let versions = held.versions.values().map(|(version, _)| version.clone()).collect();
                (VaultAnswer::Metadata { current: held.current, versions }, false)
            }),
            VaultCall::Values { mount, path, version } => {
                let found = find(mount, path);
                let found = found.and_then(|held| held.versions.get(&version.unwrap_or(held.current)));
                match found {
                    None => nothing,
                    Some((version, _)) if version.destroyed || version.deleted.is_some_and(|at| at <= now) => {
                        (VaultAnswer::Status(404), true)
                    }
                    Some((version, fields)) => {
                        (VaultAnswer::Values { version: Some(version.clone()), fields: fields.clone() }, false)
                    }
                }
            }
            VaultCall::Unversioned { mount, path } => {
                let found = find(mount, path).and_then(|held| held.versions.get(&held.current));
                found.map_or(nothing, |(_, fields)| {
                    (VaultAnswer::Values { version: None, fields: fields.clone() }, false)
                })
            }
            VaultCall::Health | VaultCall::Login | VaultCall::LookupSelf => (VaultAnswer::Fine, false),
        }
    }
}
