//! How a view takes in what a process heard from Vault.

use super::{super::paces, Call, NEVER, Read, View};
use crate::history::{Process, VaultAnswer, VaultCall, VaultRequest};

impl<'h> View<'h> {
    /// Takes in a request to Vault and its answer.
    pub(super) fn vault(&mut self, process: Process, request: &'h VaultRequest) {
        let now = self.now;
        let is_steady = self.steady.is_some();
        let index = self.index(process);
        let own = &mut self.processes[index];
        let answer = &request.answer;
        let is_down = matches!(answer, VaultAnswer::Unreached | VaultAnswer::Lost | VaultAnswer::Status(501 | 503));
        own.down = if is_down { own.down.or(Some(now)) } else { None };
        let is_failed = !matches!(
            answer,
            VaultAnswer::Fine
                | VaultAnswer::Token(_)
                | VaultAnswer::Mount { .. }
                | VaultAnswer::Metadata { .. }
                | VaultAnswer::Values { .. }
        );
        if is_failed {
            let concerned =
                own.slots.iter_mut().enumerate().filter(|(slot, _)| request.slot.is_none_or(|one| one == *slot));
            for (_, slot) in concerned {
                slot.failed = now;
                if !matches!(answer, VaultAnswer::Status(403 | 404)) {
                    slot.tripped = now;
                }
            }
        }
        match &request.call {
            VaultCall::Login => {
                own.login = Some((now, answer));
                own.logins = own.logins.next(now, NEVER);
                own.steady_logins += i64::from(is_steady);
                own.token_doubted = now;
                if let VaultAnswer::Token(token) = answer {
                    own.tokens.push(*token);
                    (own.token_at, own.token_is_dead) = (Some(now), false);
                }
            }
            VaultCall::LookupSelf => {
                if *answer != VaultAnswer::Fine {
                    (own.token_is_dead, own.token_doubted) = (true, now);
                }
            }
            VaultCall::Health
            | VaultCall::Mount(_)
            | VaultCall::Metadata { .. }
            | VaultCall::Values { .. }
            | VaultCall::Unversioned { .. } => {}
        }
        if let Some(call) = Call::of(&request.call) {
            self.read(index, Read { at: now, slot: request.slot, call, answer });
        }
    }

    fn read(&mut self, index: usize, read: Read<'h>) {
        if let Some(place) = read.slot {
            let is_forced = paces::is_forced(self, &self.processes[index], &read);
            let own = &mut self.processes[index];
            let slot = &self.slots[place];
            let stirred = slot.stirred.max(self.changed).max(own.clock_stepped);
            let mine = &mut own.slots[place];
            mine.reads = mine.reads.next(read.at, stirred);
            // Another version than the one stored is a reason to look again.
            let chosen = slot.written.as_ref().map_or(&[][..], |written| &written.chosen);
            let mut sources = slot.current().into_iter().flat_map(|version| &version.spec.sources);
            let is_followed = sources.any(|source| read.call.is_of(source) && source.version.is_none());
            let is_news = |newest: (i64, i64)| {
                let mut same = chosen.iter().filter(|one| (one.mount, one.path) == (read.call.mount, read.call.path));
                same.any(|one| (one.number, one.created) != (Some(newest.0), Some(newest.1)))
            };
            if is_followed && read.newest().is_some_and(is_news) {
                mine.news = read.at;
            }
            if read.denies(read.call.version) {
                mine.failed = read.at;
            }
            if is_forced {
                mine.forced = [mine.forced[1], read.at];
            }
        }
        self.processes[index].reads.push(read);
        if let Some(values) = read.values()
            && !self.known.iter().any(|known| known.is_same(&values))
        {
            self.known.push(values);
        }
    }
}
