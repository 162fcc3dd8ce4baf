//! Takes in what users, the surroundings and the lives of processes change.

use super::{ConnectionView, DomainVersion, IdentityView, KnownAuthority, Span, SpecVersion, View, Window, operator};
use crate::history::{
    Authority, ConnectionChange, DomainChange, DomainEdit, Entry, IdentityChange, IdentityEdit, LeaseChange, Mark,
    Process, ProcessChange, VaultState, WorldChange,
};

impl<'h> View<'h> {
    pub(super) fn absorb_identity(&mut self, change: &'h IdentityChange) {
        let (now, within) = (self.now, self.history.settings.truth_within);
        match &change.change {
            IdentityEdit::Spec { generation, spec } => {
                if let Some(last) = self.specs.iter_mut().rev().find(|version| version.uid == change.uid) {
                    last.span.until = now;
                }
                self.specs.push(SpecVersion { uid: change.uid, generation: *generation, span: Span::open(now), spec });
                if self.identity(change.uid).is_none() {
                    self.identities.push(IdentityView::new(change.uid, change.object, spec.secret, *generation));
                }
                let Some(identity) = self.identity_mut(change.uid) else { return };
                identity.generation = *generation;
                // What was refused was refused to the old spec; the new one may need nothing.
                identity.failing = false;
                identity.unsaved = None;
                identity.renewal_due = None;
                identity.truth_due = Some(now + within);
                identity.minute = Window::OVER;
                identity.excuse();
                self.expect_by(now + within);
            }
            IdentityEdit::Requested(value) => {
                if let Some(identity) = self.identity_mut(change.uid) {
                    identity.requested = Some(value);
                    identity.minute = Window::OVER;
                    identity.excuse();
                }
            }
            IdentityEdit::Deleted => {
                if let Some(last) = self.specs.iter_mut().rev().find(|version| version.uid == change.uid) {
                    last.span.until = now;
                }
                if let Some(identity) = self.identity_mut(change.uid) {
                    identity.deleted_at = Some(now);
                    (identity.truth_due, identity.renewal_due, identity.unsaved) = (None, None, None);
                }
            }
        }
    }

    pub(super) fn absorb_domain(&mut self, change: &'h DomainChange) {
        let now = self.now;
        match &change.change {
            DomainEdit::Spec(spec) => {
                self.end_domain(change, now);
                let (object, uid) = (change.object, change.uid);
                self.domains.push(DomainVersion { object, uid, span: Span::open(now), spec });
                self.reconsider_all();
            }
            DomainEdit::Deleted => {
                self.end_domain(change, now);
                let all = self.authorities.iter_mut().filter(|known| known.domain == change.object);
                all.for_each(|known| known.gone_at = known.gone_at.or(Some(now)));
                self.reconsider_all();
            }
            DomainEdit::RotationRequested => self.rotations.push(change.uid),
            DomainEdit::Authority(authority) => self.absorb_authority(change, *authority),
        }
    }

    fn end_domain(&mut self, change: &DomainChange, now: i64) {
        let current = self.domains.iter_mut().rev().find(|one| one.object == change.object && one.span.is_open());
        if let Some(version) = current {
            version.span.until = now;
        }
    }

    fn absorb_authority(&mut self, change: &DomainChange, authority: Authority) {
        let now = self.now;
        let (domain, uid) = (change.object, change.uid);
        let known = self.authorities.iter_mut().find(|one| one.domain == domain && one.authority.id == authority.id);
        match known {
            Some(known) if known.authority == authority && known.gone_at.is_none() => return,
            Some(known) => {
                if known.authority.state != authority.state || known.gone_at.is_some() {
                    known.since = now;
                }
                (known.uid, known.gone_at, known.authority) = (uid, None, authority);
            }
            None => self.authorities.push(KnownAuthority { domain, uid, since: now, gone_at: None, authority }),
        }
        self.reconsider_all();
    }

    pub(super) fn absorb_connection(&mut self, change: &'h ConnectionChange) {
        let (now, object) = (self.now, change.object);
        for login in self.logins.iter_mut().filter(|login| login.connection == object) {
            (login.serves_until, login.refused) = (None, false);
        }
        let address = change.address.as_ref();
        match self.connections.iter_mut().find(|connection| connection.object == object) {
            Some(connection) => {
                connection.previous = connection.address.map(|address| (address, now));
                connection.address = address;
            }
            None => self.connections.push(ConnectionView {
                object,
                address,
                previous: None,
                state: VaultState::Up,
                outages: Vec::new(),
                calls_in_outage: 0,
            }),
        }
        self.reconsider_all();
    }

    pub(super) fn absorb_world(&mut self, change: &WorldChange) {
        let now = self.now;
        match change {
            WorldChange::Present { object, present } => {
                if let Some(known) = self.objects.get_mut(object.0) {
                    known.absent_since = (!present).then_some(now);
                }
            }
            WorldChange::Claimed { object, claimed } => {
                if let Some(known) = self.objects.get_mut(object.0) {
                    known.claimed_since = claimed.then_some(now);
                }
            }
            WorldChange::Vault { connection, state } => {
                let Some(known) = self.connections.iter_mut().find(|one| one.object == *connection) else { return };
                let was_up = known.state == VaultState::Up;
                known.state = *state;
                known.calls_in_outage = 0;
                if was_up && *state != VaultState::Up {
                    known.outages.push(Span::open(now));
                } else if let Some(last) = known.outages.last_mut().filter(|_| *state == VaultState::Up) {
                    last.until = now;
                }
                // An outage excuses no lateness by itself (that is measured), only further writes.
                self.identities.iter_mut().for_each(IdentityView::excuse);
                return;
            }
            WorldChange::TokensRevoked(connection) => {
                for login in self.logins.iter_mut().filter(|login| login.connection == *connection) {
                    login.serves_until = None;
                }
            }
            WorldChange::ApiServer { up } => {
                self.calm.api_down = !up;
                self.settle_calm();
                self.identities.iter_mut().for_each(IdentityView::excuse);
                return;
            }
            WorldChange::Fence { in_force } => self.fence_lapsed = (!in_force).then_some(now),
            WorldChange::ClockStep { leader, seconds } => {
                // It is the clock of the process that lives now: a new one starts with the servers'.
                let living = self.clocks.iter_mut().rev().find(|(process, _)| process.leader == *leader);
                living.into_iter().for_each(|(_, off)| *off += seconds);
            }
            WorldChange::RoleLimit { .. } => {}
        }
        self.reconsider_all();
    }

    pub(super) fn absorb_lease(&mut self, entry: &Entry, change: LeaseChange) {
        let Some(process) = operator(entry) else { return };
        if self.leadership.lease(process, change, self.now) {
            self.incidents += 1;
            self.drop_unsaved(|holder| holder != process || change == LeaseChange::Released);
            self.settle_leadership();
        }
    }

    pub(super) fn absorb_process(&mut self, entry: &Entry, change: ProcessChange) {
        let Some(process) = operator(entry) else { return };
        self.leadership.process(process, change);
        if change == ProcessChange::Started {
            self.clocks.push((process, 0));
        }
        if change != ProcessChange::Started {
            self.incidents += 1;
            self.drop_unsaved(|holder| holder == process);
            self.races.retain(|race| race.process != process);
        }
        self.settle_leadership();
    }

    pub(super) fn absorb_mark(&mut self, mark: Mark) {
        match mark {
            Mark::FaultsBegin | Mark::FaultsEnd => {
                self.calm.faults = mark == Mark::FaultsBegin;
                self.settle_calm();
                self.identities.iter_mut().for_each(IdentityView::excuse);
            }
            Mark::SteadyBegins => self.steady = true,
            Mark::SteadyEnds => self.steady = false,
            Mark::End => {}
        }
    }

    /// What a process knew is lost with it, or with its lead.
    fn drop_unsaved(&mut self, lost: impl Fn(Process) -> bool) {
        for identity in &mut self.identities {
            if identity.unsaved.is_some_and(|(holder, ..)| lost(holder)) {
                identity.unsaved = None;
            }
            identity.excuse();
        }
    }

    fn settle_leadership(&mut self) {
        self.calm.leaderless = !self.leadership.is_led(self.history.settings.election);
        self.settle_calm();
    }

    fn settle_calm(&mut self) {
        self.calm.settle(self.now);
        if self.calm.since.is_some() {
            self.expect_by(self.now + self.history.settings.truth_within);
        }
    }

    /// Something that many identities depend on changed: answers may not fit, renewals may be late.
    fn reconsider_all(&mut self) {
        for identity in &mut self.identities {
            (identity.unsaved, identity.renewal_due) = (None, None);
            identity.excuse();
        }
    }
}
