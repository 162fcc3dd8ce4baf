//! Who held the leader lease when, and since when somebody has led without a break.

use crate::history::{LEASE_SECONDS, LeaseChange, Process, ProcessChange};

/// Who holds the leader lease, and who held it.
#[derive(Default)]
pub struct Leadership {
    holdings: Vec<Holding>,
}

struct Holding {
    process: Process,
    from: i64,
    /// [`i64::MAX`] while nobody took it and it was not given up.
    until: i64,
    renewed: i64,
    /// Since when it was taken, or taken again after it had run out.
    unbroken: i64,
    alive: bool,
}

impl Leadership {
    /// Takes in a change of the lease.
    pub fn lease(&mut self, process: Process, change: LeaseChange, now: i64) {
        let holding = self.holdings.last_mut().filter(|holding| holding.until == i64::MAX);
        match (change, holding) {
            (LeaseChange::Taken | LeaseChange::Renewed, Some(holding)) if holding.process == process => {
                if change == LeaseChange::Taken {
                    holding.unbroken = now;
                }
                holding.renewed = now;
            }
            (LeaseChange::Taken, holding) => {
                if let Some(holding) = holding {
                    holding.until = now;
                }
                let taken = Holding { process, from: now, until: i64::MAX, renewed: now, unbroken: now, alive: true };
                self.holdings.push(taken);
            }
            (LeaseChange::Released, Some(holding)) if holding.process == process => holding.until = now,
            (LeaseChange::Released | LeaseChange::Renewed, _) => {}
        }
    }

    /// Takes in the end of a process: it leads no more, though its lease may last.
    pub fn process(&mut self, process: Process, change: ProcessChange) {
        if let Some(holding) = self.holdings.last_mut()
            && change != ProcessChange::Started
            && holding.process == process
        {
            holding.alive = false;
        }
    }

    /// Whether `process` held the lease at some instant of the last second.
    pub fn held_lately(&self, process: Process, now: i64) -> bool {
        let mut own = self.holdings.iter().rev().filter(|holding| holding.process == process);
        own.any(|holding| holding.until.min(holding.renewed + LEASE_SECONDS) >= now - 1)
    }

    /// Since when `process` leads, if it does.
    pub fn taken(&self, process: Process) -> Option<i64> {
        let holding = self.holdings.last().filter(|holding| holding.process == process)?;
        (holding.until == i64::MAX).then_some(holding.from)
    }

    /// Since when one living process has led. Between two renewals the lease may run out without a trace if it is
    /// renewed only before something is done; nobody else took it then.
    pub fn led_since(&self) -> Option<i64> {
        let holding = self.holdings.last()?;
        (holding.alive && holding.until == i64::MAX).then_some(holding.unbroken)
    }
}
