//! Who leads: the election decision and the fence that every write asks.
//!
//! Works on what one candidate saw and on its own monotonic clock; it never compares a wall clock,
//! so a candidate whose clock is wrong takes nothing from a living leader. It must not know how a
//! Lease is read or written. `runtime::leader` is its only caller in production.
//!
//! The bound: a leader stops passing the [`fence`] `grace` after the last renewal that succeeded was
//! *sent*; a follower takes a Lease only after it saw it unchanged for `duration`, which starts when
//! that renewal was already *applied*. As long as the clocks of two machines run at rates that
//! differ by less than `duration : grace`, no two candidates pass the fence at one instant. Three
//! things lie outside this window: a request that was already on its way when its sender lost the
//! fence, a suspended machine whose monotonic clock stood still, and a Lease deleted by hand, which a
//! candidate that never saw it creates at once. They are harmless by preconditions, not by the Lease.

use std::time::Duration;

/// The Lease's name, unless told otherwise.
pub const DEFAULT_LEASE: &str = "countersign-controller";

/// How often a follower reads the Lease, and the most often it asks again after a failure.
const POLL: Duration = Duration::from_secs(2);
/// How long a leader pauses after a renewal that failed; it has only `grace` to succeed again.
const RETRY: Duration = Duration::from_secs(1);

/// The two durations of an election. All candidates must use the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    duration: Duration,
    grace: Duration,
}

/// Why a pair of durations cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimingError {
    /// `grace` is not shorter than `duration`, or leaves less than a second between them.
    NoMargin,
    /// `grace` leaves less than a second for a second try after `duration - grace`.
    NoRetry,
    /// A duration is not a whole number of seconds or above an hour.
    OutOfRange,
}

impl std::fmt::Display for TimingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoMargin => "the lease's grace must be at least one second shorter than its duration",
            Self::NoRetry => {
                "the lease's grace must be at least one second longer than the renewal interval (duration - grace)"
            }
            Self::OutOfRange => "the lease's duration and grace must be whole seconds, at most one hour",
        })
    }
}

impl std::error::Error for TimingError {}

impl Default for Timing {
    /// 15 s and 10 s: renewed every 5 s.
    fn default() -> Self {
        Self { duration: Duration::from_secs(15), grace: Duration::from_secs(10) }
    }
}

impl Timing {
    /// A Lease of `duration` that its leader gives up after `grace` without a renewal.
    pub fn new(duration: Duration, grace: Duration) -> Result<Self, TimingError> {
        let whole = |d: Duration| d.subsec_nanos() == 0 && d <= Duration::from_secs(3_600);
        if !whole(duration) || !whole(grace) {
            return Err(TimingError::OutOfRange);
        }
        let every = duration.saturating_sub(grace);
        if every < Duration::from_secs(1) {
            return Err(TimingError::NoMargin);
        }
        if grace < every + Duration::from_secs(1) {
            return Err(TimingError::NoRetry);
        }
        Ok(Self { duration, grace })
    }

    /// How long a follower must see the Lease unchanged before it takes it.
    pub fn duration(self) -> Duration {
        self.duration
    }

    /// How long after its last renewal a leader may write.
    pub fn grace(self) -> Duration {
        self.grace
    }

    /// How often the leader renews.
    pub fn renew_every(self) -> Duration {
        self.duration.saturating_sub(self.grace)
    }
}

/// What a Lease says, as far as the election cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// Its `resourceVersion`; every write of the Lease carries the one it was decided on.
    pub version: String,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What one candidate knows. Instants are readings of its own monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    me: String,
    timing: Timing,
    seen: Seen,
    /// When the last successful write of mine was sent; `None` while I follow.
    renewed_at: Option<Duration>,
    /// When I last asked the server anything.
    tried_at: Option<Duration>,
    /// Whether `seen` is the answer of that last question: false after a failure of unknown outcome.
    certain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Never,
    /// Absent since, and whether it was there before: then its holder may still pass its fence.
    Absent {
        since: Duration,
        before: bool,
    },
    /// Unchanged since I first saw this version.
    Present {
        record: Record,
        since: Duration,
    },
}

/// The next thing a candidate does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the Lease.
    Read,
    /// Create it with me as the holder.
    Create,
    /// Write me into it, if it is still this version.
    Take(Record),
    /// Renew my own term, if it is still this version.
    Renew(Record),
    /// Nothing for this long.
    Wait(Duration),
    /// I led and lead no more: stop writing at once.
    StepDown(Loss),
}

/// Why a term ended against the leader's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// No renewal succeeded for the grace time.
    NotRenewed,
    /// Somebody else holds the Lease.
    OtherHolder,
    /// Nobody holds it although I never gave it up.
    Cleared,
    /// The Lease is gone.
    Deleted,
}

/// The server's answer to an [`Action`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The Lease as it is; `None` when there is none.
    Read(Option<Record>),
    /// My write was stored and this is the Lease now.
    Written(Record),
    /// My write was refused because the Lease is another version, exists already, or is gone.
    Conflict,
    /// No answer, or none that says what happened.
    Failed,
}

/// Whether a leader whose last successful renewal was sent at `renewed_at` may still write at `now`.
///
/// `None` is a follower's; both are readings of one monotonic clock.
pub fn fence(renewed_at: Option<Duration>, now: Duration, timing: Timing) -> bool {
    renewed_at.is_some_and(|sent| now.saturating_sub(sent) < timing.grace)
}

/// The next action of a candidate that knows `view`.
pub fn decide(view: &View, now: Duration) -> Action {
    match view.renewed_at {
        Some(renewed_at) => lead(view, renewed_at, now),
        None => follow(view, now),
    }
}

fn lead(view: &View, renewed_at: Duration, now: Duration) -> Action {
    let record = match &view.seen {
        Seen::Present { record, .. } => record,
        Seen::Never | Seen::Absent { .. } => return Action::StepDown(Loss::Deleted),
    };
    match &record.holder {
        None => return Action::StepDown(Loss::Cleared),
        Some(holder) if *holder != view.me => return Action::StepDown(Loss::OtherHolder),
        Some(_) => {}
    }
    if !fence(view.renewed_at, now, view.timing) {
        return Action::StepDown(Loss::NotRenewed);
    }
    let due = renewed_at + view.timing.renew_every();
    let due = if view.certain { due } else { due.max(view.after(RETRY)) };
    if now < due {
        return Action::Wait(due.saturating_sub(now));
    }
    if view.certain { Action::Renew(record.clone()) } else { Action::Read }
}

fn follow(view: &View, now: Duration) -> Action {
    if view.certain {
        let lapsed = |since: Duration| now.saturating_sub(since) >= view.timing.duration;
        match &view.seen {
            Seen::Absent { since, before } if !before || lapsed(*since) => return Action::Create,
            // My own name without a term: the answer to my last write was lost.
            Seen::Present { record, since }
                if record.holder.as_ref().is_none_or(|holder| *holder == view.me) || lapsed(*since) =>
            {
                return Action::Take(record.clone());
            }
            Seen::Never | Seen::Absent { .. } | Seen::Present { .. } => {}
        }
    }
    let due = view.after(POLL);
    if now < due { Action::Wait(due.saturating_sub(now)) } else { Action::Read }
}

impl View {
    /// A candidate that has seen nothing. `me` must be unique to this process: after a restart the
    /// same pod is another candidate.
    pub fn new(me: impl Into<String>, timing: Timing) -> Self {
        Self { me: me.into(), timing, seen: Seen::Never, renewed_at: None, tried_at: None, certain: false }
    }

    /// My name in the Lease.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// When my last successful renewal was sent; `None` while I follow.
    pub fn renewed_at(&self) -> Option<Duration> {
        self.renewed_at
    }

    /// The most time a call that starts at `now` may take.
    ///
    /// A leader keeps half of what is left for a second try, so that one dead connection does not
    /// cost it the Lease.
    pub fn deadline(&self, now: Duration) -> Duration {
        const MOST: Duration = Duration::from_secs(10);
        const LEAST: Duration = Duration::from_millis(500);
        self.renewed_at.map_or(MOST, |sent| {
            let left = (sent + self.timing.grace).saturating_sub(now);
            (left / 2).clamp(LEAST, MOST)
        })
    }

    /// Folds in the answer to a question sent at `sent` and answered at `answered`.
    #[must_use]
    pub fn absorb(mut self, reply: Reply, sent: Duration, answered: Duration) -> Self {
        self.tried_at = Some(sent);
        self.certain = matches!(reply, Reply::Read(_) | Reply::Written(_));
        match reply {
            Reply::Read(found) => self.seen = self.seen.now(found, answered),
            Reply::Written(record) => {
                self.seen = Seen::Present { record, since: answered };
                self.renewed_at = Some(sent);
            }
            Reply::Conflict | Reply::Failed => {}
        }
        self
    }

    /// Ends my term of my own will: what to clear in the Lease, if I am sure to hold it.
    ///
    /// The term is over before the release is sent.
    pub fn resign(&mut self) -> Option<Record> {
        let led = self.renewed_at.take().is_some();
        match &self.seen {
            Seen::Present { record, .. } if led && self.certain && record.holder.as_ref() == Some(&self.me) => {
                Some(record.clone())
            }
            _ => None,
        }
    }

    fn after(&self, pause: Duration) -> Duration {
        self.tried_at.map_or(Duration::ZERO, |tried| tried + pause)
    }
}

impl Seen {
    fn now(self, found: Option<Record>, at: Duration) -> Self {
        match (self, found) {
            (Self::Present { record, since }, Some(found)) if record == found => Self::Present { record, since },
            (_, Some(record)) => Self::Present { record, since: at },
            (Self::Absent { since, before }, None) => Self::Absent { since, before },
            (Self::Never, None) => Self::Absent { since: at, before: false },
            (Self::Present { .. }, None) => Self::Absent { since: at, before: true },
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
