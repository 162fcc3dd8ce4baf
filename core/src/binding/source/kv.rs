//! A secret of a KV engine, version 1 or 2, whichever the mount is.
//!
//! Of version 2 the metadata tells the state, and a server that refuses to show them is asked for the values each time.
//! Only the metadata say that a version was deleted: a 403 or a 404 is no evidence.

use std::sync::Arc;

use jiff::Timestamp;

use super::kind::{Kind, Look, State, rejection};
use crate::{
    api::{BindingSource, Reason},
    binding::{
        reads::{Known, What},
        rejection::Rejection,
    },
    fault::{Class, Failure},
    value::{
        kv::{Engine, Metadata, MountKind, Values, Version},
        vault_path::VaultPath,
    },
};

/// A secret of a KV engine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kv {
    /// Mount of the engine, as the spec names it.
    mount: VaultPath,
    /// Path below it.
    below: VaultPath,
    /// Mount and path.
    whole: VaultPath,
    /// The version to stay at.
    version: Option<i64>,
}

/// Parses `kv`.
pub(super) fn parse(spec: &BindingSource) -> Option<Result<Arc<dyn Kind>, Rejection>> {
    let spec = spec.kv.as_ref()?;
    let path =
        |text: &str| text.parse::<VaultPath>().map_err(|_| rejection("must be paths of plain segments, not reserved"));
    let kv = || {
        if spec.version.is_some_and(|version| !(1..=i64::from(i32::MAX)).contains(&version)) {
            return Err(rejection("version must be between 1 and 2147483647"));
        }
        // A path below a mount may begin with any word; only the mount must not be the server's own.
        let whole = path(&format!("{}/{}", spec.mount, spec.path))?;
        let below = VaultPath::below_a_mount(&spec.path).ok_or_else(|| rejection("must be paths of plain segments"))?;
        let kv: Arc<dyn Kind> = Arc::new(Kv { mount: path(&spec.mount)?, below, whole, version: spec.version });
        Ok(kv)
    };
    Some(kv())
}

impl Kind for Kv {
    fn path(&self) -> &VaultPath {
        &self.whole
    }

    fn identity(&self) -> Vec<String> {
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        vec!["kv".to_owned(), self.mount.to_string(), self.below.to_string(), version]
    }

    fn is_pinned(&self) -> bool {
        self.version.is_some()
    }

    fn look(&self, known: &Known, needs_values: bool, now: Timestamp) -> Result<Look, Failure> {
        let Some(mount) = &known.mount else { return Ok(Look::Ask(What::Mount(self.mount.clone()))) };
        let version = match (self.engine(mount)?, &known.metadata, &known.values) {
            (Engine::V1, _, None) => {
                return Ok(Look::Ask(What::Unversioned { mount: self.mount.clone(), path: self.below.clone() }));
            }
            (Engine::V1, _, Some(_)) => return Ok(Look::Seen(None)),
            (Engine::V2, Some(metadata), _) => self.wanted(metadata)?.clone(),
            (Engine::V2, None, Some(Values { version: Some(version), .. })) => version.clone(),
            (Engine::V2, None, Some(Values { version: None, .. })) => {
                let words = format!("values of {} came without their version", self.whole);
                return Err(Failure::new(Class::Bug, Reason::InternalError, words));
            }
            (Engine::V2, None, None) => {
                // Of a pinned version only the metadata tells whether it ever was.
                let values_at_once = needs_values && self.version.is_none();
                return Ok(Look::Ask(if values_at_once || known.is_closed {
                    self.at(self.version)
                } else {
                    What::Metadata { mount: self.mount.clone(), path: self.below.clone() }
                }));
            }
        };
        if version.is_gone(now) {
            let how = if version.destroyed { "destroyed" } else { "deleted" };
            let words = format!("version {} of {} was {how}; the Secret is kept", version.number, self.whole);
            return Err(Failure::new(Class::Waiting, Reason::RemoteDeleted, words));
        }
        Ok(Look::Seen(Some(state(&version))))
    }

    fn values(&self, state: Option<&State>) -> What {
        self.at(state.and_then(|state| state.number))
    }

    fn state_of(&self, values: &Values) -> Option<State> {
        values.version.as_ref().map(state)
    }
}

impl Kv {
    /// Which engine it is; `mount` must be one, and where the spec says.
    fn engine(&self, mount: &MountKind) -> Result<Engine, Failure> {
        let invalid = |reason, words| Err(Failure::new(Class::Invalid, reason, words));
        match mount {
            MountKind::Other => {
                invalid(Reason::NotKv, format!("{} is not a KV engine; a kv source reads those only", self.mount))
            }
            MountKind::Kv { engine: Engine::V1, .. } if self.version.is_some() => invalid(
                Reason::InvalidSpec,
                format!("{} keeps no versions; remove version from the source", self.mount),
            ),
            MountKind::Kv { path, .. } if *path != self.mount => invalid(
                Reason::InvalidSpec,
                format!("the engine is mounted at {path}; write mount: {path} and the rest into path"),
            ),
            MountKind::Kv { engine, .. } => Ok(*engine),
        }
    }

    /// The version that is to be in the Secret.
    fn wanted<'a>(&self, metadata: &'a Metadata) -> Result<&'a Version, Failure> {
        let number = self.version.unwrap_or(metadata.current);
        let (class, reason, words) = match self.version {
            Some(_) => {
                let words = format!("version {number} of {} does not exist", self.whole);
                (Class::Invalid, Reason::RemoteVersionMissing, words)
            }
            None => (Class::Waiting, Reason::RemoteMissing, format!("there is no version of {}", self.whole)),
        };
        metadata.versions.get(&number).ok_or_else(|| Failure::new(class, reason, words))
    }

    fn at(&self, version: Option<i64>) -> What {
        What::Values { mount: self.mount.clone(), path: self.below.clone(), version }
    }
}

/// Numbers begin at 1 again after all of a secret was removed, so the time of a version is part of what it is.
fn state(version: &Version) -> State {
    State { number: Some(version.number), identity: format!("{}@{}", version.number, version.created) }
}
