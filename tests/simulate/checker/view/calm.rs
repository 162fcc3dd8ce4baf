//! When something was in the operator's way, and who led.

use crate::history::{LeaseChange, Process, ProcessChange};

/// A stretch of time; `until` is [`i64::MAX`] while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its start.
    pub from: i64,
    /// Its end.
    pub until: i64,
}

impl Span {
    /// A span that starts at `from` and lasts.
    pub const fn open(from: i64) -> Self {
        Self { from, until: i64::MAX }
    }

    /// Whether it still lasts.
    pub const fn is_open(self) -> bool {
        self.until == i64::MAX
    }
}

/// How many seconds of `window` the spans cover.
pub fn overlap(spans: &[Span], window: Span) -> i64 {
    let covered = |span: &Span| (span.until.min(window.until) - span.from.max(window.from)).max(0);
    spans.iter().map(covered).sum()
}

/// Whether something is in the operator's way: no API server, injected faults, nobody who leads.
pub struct Calm {
    /// The API server does not answer.
    pub api_down: bool,
    /// Faults are being injected.
    pub faults: bool,
    /// Nobody leads.
    pub leaderless: bool,
    /// Since when nothing is in the way.
    pub since: Option<i64>,
    /// When something was.
    pub disturbed: Vec<Span>,
}

impl Calm {
    /// Before the first process starts nobody leads.
    pub fn new() -> Self {
        Self {
            api_down: false,
            faults: false,
            leaderless: true,
            since: None,
            disturbed: vec![Span::open(i64::MIN / 2)],
        }
    }

    /// Brings `since` and `disturbed` in line with the three causes.
    pub fn settle(&mut self, now: i64) {
        let troubled = self.api_down || self.faults || self.leaderless;
        if troubled && self.since.is_some() {
            self.since = None;
            self.disturbed.push(Span::open(now));
        } else if !troubled && self.since.is_none() {
            self.since = Some(now);
            if let Some(last) = self.disturbed.last_mut() {
                last.until = now;
            }
        }
    }
}

/// Who holds the leader lease, and who is alive.
#[derive(Default)]
pub struct Leadership {
    holdings: Vec<Holding>,
    alive: Vec<Process>,
}

struct Holding {
    process: Process,
    span: Span,
    renewed: i64,
}

impl Leadership {
    /// Takes in a change of the lease; says whether it changed hands.
    pub fn lease(&mut self, process: Process, change: LeaseChange, now: i64) -> bool {
        let holding = self.holdings.last_mut().filter(|holding| holding.span.is_open());
        match (change, holding) {
            (LeaseChange::Taken | LeaseChange::Renewed, Some(holding)) if holding.process == process => {
                holding.renewed = now;
                false
            }
            (LeaseChange::Taken, holding) => {
                if let Some(holding) = holding {
                    holding.span.until = now;
                }
                self.holdings.push(Holding { process, span: Span::open(now), renewed: now });
                true
            }
            (LeaseChange::Released, Some(holding)) if holding.process == process => {
                holding.span.until = now;
                true
            }
            (LeaseChange::Released | LeaseChange::Renewed, _) => false,
        }
    }

    /// Takes in the start or end of a process.
    pub fn process(&mut self, process: Process, change: ProcessChange) {
        self.alive.retain(|one| *one != process);
        if change == ProcessChange::Started {
            self.alive.push(process);
        }
    }

    /// Whether `process` held the lease at some instant of the last second.
    pub fn held_lately(&self, process: Process, now: i64, lease_seconds: Option<i64>) -> bool {
        let runs_out = |holding: &Holding| lease_seconds.map_or(i64::MAX, |seconds| holding.renewed + seconds);
        let mut own = self.holdings.iter().rev().filter(|holding| holding.process == process);
        own.any(|holding| holding.span.until.min(runs_out(holding)) >= now - 1)
    }

    /// Whether a process is alive that may write.
    pub fn is_led(&self, election: bool) -> bool {
        if !election {
            return !self.alive.is_empty();
        }
        let holder = self.holdings.last().filter(|holding| holding.span.is_open());
        holder.is_some_and(|holding| self.alive.contains(&holding.process))
    }
}
