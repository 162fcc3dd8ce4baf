//! What people want of a binding: drawn from chance, and as the API has it.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use countersign_core::{
    api::{BindingSecret, BindingSource, DataEntry, KvSource, REQUESTED_AT, Refresh, SecretBinding, SecretBindingSpec},
    api::{DeletionPolicy, RefreshMode},
    binding::intent::{self, Intent},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    chance::Chance,
    history::{ACCOUNT, Entries, NAMESPACE, Source, Spec},
    model::{
        OPAQUE,
        server::{PLACES, Server},
        time,
    },
};

/// Names of the bindings.
pub const NAMES: [&str; 2] = ["app", "web"];
/// Names that sources have, by their place in the spec.
const SOURCES: [&str; 2] = ["one", "two"];

/// A binding that is new.
pub fn new_spec(chance: &mut Chance) -> Spec {
    let mode = match chance.below(8) {
        0 => RefreshMode::OnChange,
        1 => RefreshMode::Once,
        _ => RefreshMode::Auto,
    };
    let mut spec = Spec {
        every: chance.one_of(&[300, 900]),
        mode,
        sources: Vec::new(),
        entries: Vec::new(),
        type_: OPAQUE.to_owned(),
        deletion: if chance.below(4) == 0 { DeletionPolicy::Retain } else { DeletionPolicy::Delete },
        suspend: false,
    };
    draw_sources(&mut spec, chance);
    draw_entries(&mut spec, chance);
    spec
}

/// Other sources.
pub fn draw_sources(spec: &mut Spec, chance: &mut Chance) {
    let first = chance.below(3);
    let count = 1 + chance.below(2);
    spec.sources = (0..count)
        .map(|nth| {
            let (mount, path, _) = PLACES[usize::try_from((first + nth) % 3).unwrap()];
            let name = SOURCES[usize::try_from(nth).unwrap()];
            Source { name: name.to_owned(), mount: mount.to_owned(), path: path.to_owned(), version: None }
        })
        .collect();
    spec.entries.retain(|entry| {
        let (Entries::Each { source, .. } | Entries::One { source, .. }) = entry;
        spec.sources.iter().any(|other| other.name == *source)
    });
}

/// Other keys: sometimes some that collide, or that are not there.
pub fn draw_entries(spec: &mut Spec, chance: &mut Chance) {
    let mut entries = Vec::new();
    for source in &spec.sources {
        let name = source.name.clone();
        let prefix = if source.name == SOURCES[0] { "A_" } else { "B_" };
        match chance.below(8) {
            0 => entries.push(Entries::Each { source: name, prefix: String::new() }),
            1 => {
                let field = chance.one_of(&["extra", "nope"]).to_owned();
                entries.push(Entries::One { key: format!("{prefix}KEY"), source: name, field });
            }
            2 | 3 => {
                for (key, field) in [("USER", "user"), ("PASS", "pass")] {
                    let (key, field) = (format!("{prefix}{key}"), field.to_owned());
                    entries.push(Entries::One { key, source: name.clone(), field });
                }
            }
            _ => entries.push(Entries::Each { source: name, prefix: prefix.to_owned() }),
        }
    }
    spec.entries = entries;
}

/// A version of one source that the spec stays at from now on, or none any more.
pub fn draw_pin(spec: &mut Spec, server: &Server, chance: &mut Chance) {
    let place = usize::try_from(chance.below(spec.sources.len() as u64)).unwrap();
    let source = &mut spec.sources[place];
    if source.version.take().is_some() {
        return;
    }
    let newest = PLACES.iter().position(|(mount, path, _)| source.mount == *mount && source.path == *path);
    let newest = newest.and_then(|place| server.held[place].as_ref()).map_or(1, |held| held.current.max(1));
    source.version = Some(match chance.below(4) {
        0 => newest + 1,
        1 => newest,
        _ => (newest - 1).max(1),
    });
}

/// A spec that can be fulfilled, with keys that no Secret had before: even a binding that reads only when it is
/// changed reads what is there now.
pub fn whole(spec: &mut Spec) {
    spec.suspend = false;
    spec.entries.clear();
    for source in &mut spec.sources {
        source.version = None;
        let prefix = if source.name == SOURCES[0] { "X_" } else { "Y_" };
        spec.entries.push(Entries::Each { source: source.name.clone(), prefix: prefix.to_owned() });
    }
}

/// Everything of a binding that an API server would hold, parsed.
pub fn parsed(slot: usize, spec: &Arc<Spec>, uid: u64, generation: i64, requested: Option<String>) -> Rc<Intent> {
    let name = NAMES[slot];
    let entry = |entry: &Entries| {
        let mut written = DataEntry {
            each: None,
            prefix: None,
            case: None,
            match_: None,
            key: None,
            from: None,
            decode: None,
            non_string: None,
        };
        match entry {
            Entries::Each { source, prefix } => {
                written.each = Some(source.clone());
                written.prefix = (!prefix.is_empty()).then(|| prefix.clone());
            }
            Entries::One { key, source, field } => {
                written.key = Some(key.clone());
                written.from = Some(format!("{source}.{field}"));
            }
        }
        written
    };
    let source = |source: &Source| BindingSource {
        name: source.name.clone(),
        kv: Some(KvSource { mount: source.mount.clone(), path: source.path.clone(), version: source.version }),
    };
    let secret = BindingSecret {
        name: format!("{name}-env"),
        type_: Some(spec.type_.clone()),
        deletion_policy: Some(spec.deletion),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        data: spec.entries.iter().map(entry).collect(),
    };
    let written = SecretBindingSpec {
        connection: "main".to_owned(),
        service_account_name: Some(ACCOUNT.to_owned()),
        refresh: Some(Refresh { every: Some(format!("{}s", spec.every)), mode: Some(spec.mode) }),
        sources: spec.sources.iter().map(source).collect(),
        secret,
        suspend: spec.suspend.then_some(true),
    };
    let mut object = SecretBinding::new(name, written);
    object.metadata.namespace = Some(NAMESPACE.to_owned());
    object.metadata.uid = Some(uid.to_string());
    object.metadata.generation = Some(generation);
    object.metadata.creation_timestamp = Some(Time(time(0)));
    object.metadata.annotations = requested.map(|value| BTreeMap::from([(REQUESTED_AT.to_owned(), value)]));
    Rc::new(intent::parse(&object).unwrap())
}
