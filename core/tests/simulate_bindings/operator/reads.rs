//! What a binding reads of Vault: shared where the shell shares it, and turned into the facts that decisions know.

use std::{collections::BTreeMap, sync::Arc};

use countersign_core::{
    api::Reason,
    binding::{
        reads::{Answer, What},
        world::Read,
    },
    fault::{Class, Failure},
    value::kv::{Engine, Metadata, MountKind, Values, Version},
};

use super::{Crashed, Operator, Surroundings, remote_values};
use crate::{
    history::{self, Event, ProcessChange, VaultAnswer, VaultCall},
    model::{Model, time},
    mutants::Mutant,
};

/// How long it is believed what a mount is.
const MOUNTS_FOR: i64 = 24 * 3_600;

impl Operator {
    /// Reads one thing; an answer of the same second serves whoever is only due.
    pub(super) fn read(
        &mut self,
        slot: usize,
        read: &Read,
        fresh: bool,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Answer, Failure>, Crashed> {
        if let Err(failure) = self.may_act(model, around.mutant) {
            return Ok(Err(failure));
        }
        let (what, now) = (&read.what, model.now);
        let is_mount = matches!(what, What::Mount(_));
        if is_mount {
            self.mounts.retain(|(_, since, _)| now - since < MOUNTS_FOR);
            if let Some((.., answer)) = self.mounts.iter().find(|(other, ..)| other == what) {
                return Ok(Ok(answer.clone()));
            }
        }
        if self.answers_of != now {
            self.answers.clear();
            self.answers_of = now;
        }
        let account = model.account.unwrap_or_default();
        let shared = self.answers.iter().position(|(other, asker, _)| *asker == account && other == what);
        let result = match shared.filter(|_| !fresh) {
            Some(place) => self.answers[place].2.clone(),
            None => {
                let result = self.ask_for(slot, what, model, around)?;
                if let Some(place) = shared {
                    drop(self.answers.remove(place));
                }
                self.answers.push((what.clone(), account, result.clone()));
                result
            }
        };
        match &result {
            Ok(answer) if is_mount => self.mounts.push((what.clone(), now, answer.clone())),
            // The engine is not what it was: look again before the next read.
            Err(failure) if matches!(failure.reason, Reason::MountMissing | Reason::NotKv) => self.mounts.clear(),
            Ok(_) | Err(_) => {}
        }
        Ok(result)
    }

    fn ask_for(
        &mut self,
        slot: usize,
        what: &What,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Answer, Failure>, Crashed> {
        let call = call(what);
        let sent = self.send(slot, &call, model, around)?;
        if around.mutant == Mutant::PanicsAtNonsense
            && matches!(&sent, Err(failed) if failed.failure.reason == Reason::UpstreamInvalid)
        {
            model.push(self.actor(), Event::Process(ProcessChange::Panicked));
            return Err(Crashed);
        }
        Ok(match sent {
            Ok(answer) => Ok(understood(what, &answer)),
            Err(failed) if failed.is_forbidden && matches!(what, What::Metadata { .. }) => Ok(Answer::MetadataDenied),
            // The server hides a mount from who has no right below it.
            Err(failed) if failed.is_forbidden && matches!(what, What::Mount(_)) => {
                let words = "there is no such mount, or the account may not know of it";
                Err(Failure::new(Class::Waiting, Reason::MountMissing, words))
            }
            Err(failed) => Err(failed.failure),
        })
    }

    /// What a broken shell makes of an answer.
    pub(super) fn mutate_answer(
        &mut self,
        slot: usize,
        read: &Read,
        is_pinned: bool,
        answer: Result<Answer, Failure>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Answer, Failure>, Crashed> {
        let is_values = matches!(read.what, What::Values { .. } | What::Unversioned { .. });
        let place = (slot, read.source, is_values);
        let reason = answer.as_ref().err().map(|failure| failure.reason);
        let mutated = match around.mutant {
            Mutant::FailedSourceAsBefore if !matches!(read.what, What::Mount(_)) && answer.is_err() => {
                self.last.get(&place).cloned().map_or(answer, Ok)
            }
            Mutant::VersionsMixed => match (answer, self.last.get(&place)) {
                (Ok(Answer::Values(mut new)), Some(Answer::Values(old))) => {
                    let mixed = new.clone();
                    if let (Some(user), true) = (old.fields.get("user"), new.fields.contains_key("user")) {
                        new.fields.insert("user".to_owned(), user.clone());
                    }
                    // What is remembered is honest, or the same value would be written for ever.
                    self.last.insert(place, Answer::Values(mixed));
                    return Ok(Ok(Answer::Values(new)));
                }
                (answer, _) => answer,
            },
            Mutant::NotFoundDeletes if matches!(reason, Some(Reason::RemoteMissing | Reason::MountMissing)) => {
                self.delete_target(slot, model);
                answer
            }
            Mutant::ForbiddenEmpties if reason == Some(Reason::AccessDenied) => {
                self.empty_target(slot, model);
                answer
            }
            Mutant::DeletedIsEmpty => self.emptied(read, answer),
            Mutant::PinIgnored if is_pinned => self.newest(slot, read, answer, model, around)?,
            _ => answer,
        };
        if let Ok(answer @ (Answer::Values(_) | Answer::Metadata(_))) = &mutated {
            self.last.insert(place, answer.clone());
        }
        Ok(mutated)
    }

    /// Metadata in which nothing is deleted, and values of what is.
    fn emptied(&self, read: &Read, answer: Result<Answer, Failure>) -> Result<Answer, Failure> {
        match (&read.what, answer) {
            (_, Ok(Answer::Metadata(mut metadata))) => {
                for version in metadata.versions.values_mut() {
                    (version.deleted, version.destroyed) = (None, false);
                }
                Ok(Answer::Metadata(metadata))
            }
            (What::Values { version: Some(number), .. }, Err(failure)) if failure.reason == Reason::RemoteDeleted => {
                let known = self.last.values().find_map(|answer| {
                    let Answer::Metadata(metadata) = answer else { return None };
                    metadata.versions.get(number).cloned()
                });
                Ok(Answer::Values(Values { version: known, fields: BTreeMap::default() }))
            }
            (_, answer) => answer,
        }
    }

    /// The newest values, as if they were those asked for.
    fn newest(
        &mut self,
        slot: usize,
        read: &Read,
        answer: Result<Answer, Failure>,
        model: &mut Model,
        around: &mut Surroundings<'_>,
    ) -> Result<Result<Answer, Failure>, Crashed> {
        let (What::Values { mount, path, version: Some(_) }, Ok(Answer::Values(asked))) = (&read.what, &answer) else {
            return Ok(answer);
        };
        let newest = What::Values { mount: mount.clone(), path: path.clone(), version: None };
        Ok(match self.ask_for(slot, &newest, model, around)? {
            Ok(Answer::Values(values)) => {
                Ok(Answer::Values(Values { version: asked.version.clone(), fields: values.fields }))
            }
            _ => answer,
        })
    }

    fn delete_target(&mut self, slot: usize, model: &mut Model) {
        let Some(secret) = model.slots[slot].secret.take() else { return };
        let request = history::SecretRequest {
            slot,
            verb: history::Verb::Delete,
            version: Some(secret.version),
            uid: Some(secret.told.uid),
            force: false,
            outcome: history::Outcome::Deleted,
            answer_lost: false,
            stored: None,
        };
        model.push(self.actor(), Event::Secret(request));
    }

    fn empty_target(&mut self, slot: usize, model: &mut Model) {
        let after = model.fresh();
        let Some(secret) = model.slots[slot].secret.as_mut() else { return };
        let before = secret.version;
        secret.version = after;
        Arc::make_mut(&mut secret.told).data.clear();
        let request = history::SecretRequest {
            slot,
            verb: history::Verb::Apply,
            version: Some(before),
            uid: None,
            force: false,
            outcome: history::Outcome::Written { before: Some(before), after },
            answer_lost: false,
            stored: Some(secret.told.clone()),
        };
        model.push(self.actor(), Event::Secret(request));
    }

    /// The mutant that clears the place before it writes.
    pub(super) fn clear_first(&mut self, slot: usize, model: &mut Model) {
        self.delete_target(slot, model);
    }
}

/// What is sent for a read.
fn call(what: &What) -> VaultCall {
    match what {
        What::Mount(path) => VaultCall::Mount(path.to_string()),
        What::Metadata { mount, path } => VaultCall::Metadata { mount: mount.to_string(), path: path.to_string() },
        What::Values { mount, path, version } => {
            VaultCall::Values { mount: mount.to_string(), path: path.to_string(), version: *version }
        }
        What::Unversioned { mount, path } => {
            VaultCall::Unversioned { mount: mount.to_string(), path: path.to_string() }
        }
    }
}

/// A usable answer as decisions know it.
fn understood(what: &What, answer: &VaultAnswer) -> Answer {
    match (what, answer) {
        (What::Mount(path), VaultAnswer::Mount { kv: true, versions }) => {
            let engine = if *versions { Engine::V2 } else { Engine::V1 };
            Answer::Mount(MountKind::Kv { engine, path: path.clone() })
        }
        (_, VaultAnswer::Metadata { current, versions }) => {
            let versions = versions.iter().map(|one| (one.number, fact(one))).collect();
            Answer::Metadata(Metadata { current: *current, versions })
        }
        (_, VaultAnswer::Values { version, fields }) => {
            Answer::Values(Values { version: version.as_ref().map(fact), fields: remote_values(fields) })
        }
        _ => Answer::Mount(MountKind::Other),
    }
}

fn fact(version: &history::Version) -> Version {
    Version {
        number: version.number,
        created: time(version.created),
        deleted: version.deleted.map(time),
        destroyed: version.destroyed,
    }
}
