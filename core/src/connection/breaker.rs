//! The breaker of one connection: while the server is away, one probe in a while instead of
//! everybody's retries.
//!
//! After an `Unavailable` all callers are refused at once with its cause, and one of them may probe
//! after 5, 10, 20, 40 and then every 60 seconds (±20 %, by UID). A 429 parks everybody in the same
//! way, without a probe. After an outage the request rate starts at 2/s and doubles every 10 s.
//! An error of the server's own at one path speaks of what stands behind that path; only many in a
//! row at several paths speak of the server.
//! `vault::client` is the only caller: it asks before each request and records each outcome.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    api::Reason,
    fault::{Class, Failure},
    next::spread,
};

/// Waits before the first probes; the last one repeats.
const PROBE_WAITS: [u64; 5] = [5, 10, 20, 40, 60];
/// How long a 429 parks everybody if the server does not say; doubles up to [`LONGEST_PARKING`].
const PARKING: Duration = Duration::from_secs(5);
/// The longest parking, also if the server asks for more: a lying `Retry-After` must not stop us for a day.
const LONGEST_PARKING: Duration = Duration::from_secs(120);
/// Requests a second right after an outage.
const SLOW_START: f64 = 2.0;
/// How often the rate doubles after an outage.
const DOUBLING: Duration = Duration::from_secs(10);
/// So many errors of the server's own in a row are an outage…
const STUMBLES: u32 = 5;
/// …if they came at so many paths at least.
const STUMBLED_PATHS: usize = 3;

/// Whether a request may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Call,
    /// The server was away; this caller asks for its health first and goes on only if that is good.
    Probe,
    /// It may not: the cause, and in `retry_after` when to ask again.
    Refuse(Failure),
}

/// What a request showed about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, be it with a refusal.
    Answered,
    /// It limits the rate.
    Throttled(Failure),
    /// It could not answer.
    Unavailable(Failure),
    /// It answered with an error of its own at this path; others may be well.
    Stumbled {
        /// The path.
        path: String,
    },
}

impl From<Result<(), &Failure>> for Outcome {
    fn from(result: Result<(), &Failure>) -> Self {
        match result {
            Err(failure) if failure.class == Class::Unavailable => Self::Unavailable(failure.clone()),
            Err(failure) if failure.class == Class::Throttled => Self::Throttled(failure.clone()),
            Ok(()) | Err(_) => Self::Answered,
        }
    }
}

/// The state of one connection. Times are counted from any fixed origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    uid: String,
    state: State,
    /// Unavailable without an answered call in between; survives a good probe, so that a server whose
    /// health is good and whose answers are not is not asked every 5 seconds.
    strikes: usize,
    /// 429s without an answered call in between.
    throttled: u32,
    /// Errors of the server's own without an answered call in between.
    stumbles: u32,
    /// Where they came, up to as many paths as matter.
    stumbled_at: BTreeSet<String>,
    /// When the last outage ended.
    recovered: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Closed,
    Open { until: Duration, cause: Failure },
    Parked { until: Duration, cause: Failure },
}

impl Breaker {
    /// A closed breaker of the connection `uid`, which spreads its probes.
    pub fn new(uid: impl Into<String>) -> Self {
        Self {
            uid: uid.into(),
            state: State::Closed,
            strikes: 0,
            throttled: 0,
            stumbles: 0,
            stumbled_at: BTreeSet::new(),
            recovered: None,
        }
    }

    /// Whether a request may go out at `now`.
    ///
    /// A probe is handed out once per wait: whoever gets it and is cancelled costs one wait, no more.
    pub fn ask(&mut self, now: Duration) -> Permit {
        if let Some(refusal) = self.refusal(now) {
            return Permit::Refuse(refusal);
        }
        match &self.state {
            State::Open { cause, .. } => {
                let cause = cause.clone();
                self.strikes += 1;
                self.state = State::Open { until: now + self.probe_wait(), cause };
                Permit::Probe
            }
            State::Parked { .. } | State::Closed => {
                self.state = State::Closed;
                Permit::Call
            }
        }
    }

    /// Records what a call showed at `now`.
    pub fn record(&mut self, now: Duration, outcome: Outcome) {
        match outcome {
            Outcome::Answered => {
                (self.strikes, self.throttled, self.stumbles) = (0, 0, 0);
                self.stumbled_at.clear();
                // A 429 holds for everybody although others of the same moment got through.
                if !matches!(self.state, State::Parked { .. }) {
                    self.close(now);
                }
            }
            Outcome::Throttled(cause) => {
                let doubled = PARKING * 1_u32.checked_shl(self.throttled.min(8)).unwrap_or(u32::MAX);
                let wait = cause.retry_after.unwrap_or(doubled).min(LONGEST_PARKING);
                self.throttled = self.throttled.saturating_add(1);
                self.state = State::Parked { until: now + wait, cause };
            }
            Outcome::Unavailable(cause) => self.open(now, cause),
            Outcome::Stumbled { path } => {
                self.stumbles = self.stumbles.saturating_add(1);
                if self.stumbled_at.len() < STUMBLED_PATHS {
                    self.stumbled_at.insert(path);
                }
                if self.stumbles >= STUMBLES && self.stumbled_at.len() >= STUMBLED_PATHS {
                    let words = "the server answers with errors of its own at one path after another";
                    self.open(now, Failure::new(Class::Unavailable, Reason::VaultUnavailable, words));
                }
            }
        }
    }

    fn open(&mut self, now: Duration, cause: Failure) {
        match &mut self.state {
            // One of many that were under way when the first failed, or the probe: its wait already runs.
            State::Open { cause: known, .. } => *known = cause,
            State::Closed | State::Parked { .. } => {
                self.state = State::Open { until: now + self.probe_wait(), cause };
            }
        }
    }

    /// Records a good answer to the health probe: calls may go out, but the waits go on where they
    /// were if the next call fails too.
    pub fn probed(&mut self, now: Duration) {
        if matches!(self.state, State::Open { .. }) {
            self.close(now);
        }
    }

    /// Requests a second at `now`, at most `full`.
    pub fn rate(&self, now: Duration, full: f64) -> f64 {
        let Some(recovered) = self.recovered else { return full };
        let doublings = now.saturating_sub(recovered).as_secs() / DOUBLING.as_secs();
        // 2^20 is far beyond any limit; more would overflow.
        let factor = 1_u32 << doublings.min(20);
        (SLOW_START * f64::from(factor)).min(full)
    }

    /// What a caller would be refused with at `now`, with the time in `retry_after` after which it may ask again; `None`
    /// if it may call or probe.
    pub fn refusal(&self, now: Duration) -> Option<Failure> {
        match &self.state {
            State::Open { until, cause } | State::Parked { until, cause } if now < *until => {
                Some(cause.clone().retry_after(until.saturating_sub(now)))
            }
            State::Open { .. } | State::Parked { .. } | State::Closed => None,
        }
    }

    /// The failure that keeps callers away, if one does.
    pub fn cause(&self) -> Option<&Failure> {
        match &self.state {
            State::Open { cause, .. } | State::Parked { cause, .. } => Some(cause),
            State::Closed => None,
        }
    }

    fn close(&mut self, now: Duration) {
        if matches!(self.state, State::Open { .. }) {
            self.recovered = Some(now);
        }
        self.state = State::Closed;
    }

    fn probe_wait(&self) -> Duration {
        let [.., last] = PROBE_WAITS;
        let base = PROBE_WAITS.get(self.strikes).copied().unwrap_or(last);
        let spread = spread(&[self.uid.as_bytes(), &self.strikes.to_be_bytes()]);
        Duration::from_secs(base).mul_f64(0.8 + 0.4 * spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Outcome {
        Outcome::Unavailable(Failure::new(Class::Unavailable, Reason::VaultSealed, "sealed"))
    }

    fn throttled(after: Option<u64>) -> Outcome {
        let failure = Failure::new(Class::Throttled, Reason::Throttled, "too fast");
        Outcome::Throttled(after.map_or(failure.clone(), |after| failure.retry_after(Duration::from_secs(after))))
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Asks every 100 ms for `length` and lists the times (seconds) of the probes, all of which fail.
    fn probes(breaker: &mut Breaker, length: Duration) -> Vec<f64> {
        let mut times = Vec::new();
        let mut now = Duration::ZERO;
        while now < length {
            match breaker.ask(now) {
                Permit::Probe => {
                    times.push(now.as_secs_f64());
                    breaker.record(now + Duration::from_millis(50), away());
                }
                Permit::Refuse(failure) => assert_eq!(failure.class, Class::Unavailable),
                Permit::Call => panic!("a call during the outage at {now:?}"),
            }
            now += Duration::from_millis(100);
        }
        times
    }

    #[test]
    fn probes_come_after_5_10_20_40_and_then_every_60_seconds() {
        for uid in ["a", "b", "c", "d"] {
            let mut breaker = Breaker::new(uid);
            breaker.record(Duration::ZERO, away());
            let times = probes(&mut breaker, s(600));
            let mut before = 0.0;
            for (time, wait) in times.iter().zip([5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0]) {
                let waited = time - before;
                assert!((wait * 0.8..=wait * 1.2 + 0.2).contains(&waited), "{uid}: {waited} for {wait}");
                before = *time;
            }
            assert!((10..=14).contains(&times.len()), "{uid}: {} probes in 10 min", times.len());
        }
    }

    #[test]
    fn probes_of_different_connections_are_spread() {
        let wait = |uid: &str| Breaker::new(uid).probe_wait();
        assert_ne!(wait("a"), wait("b"));
        assert_eq!(wait("a"), wait("a"));
    }

    #[test]
    fn everybody_else_is_refused_with_the_cause_and_the_time_left() {
        let mut breaker = Breaker::new("u");
        assert_eq!(breaker.ask(s(1)), Permit::Call);
        breaker.record(s(1), away());
        let Permit::Refuse(failure) = breaker.ask(s(2)) else { panic!("a call went out") };
        assert_eq!((failure.class, failure.reason), (Class::Unavailable, Reason::VaultSealed));
        assert!(failure.retry_after.is_some_and(|left| left <= s(5) && left >= s(3)));
        assert_eq!(breaker.cause().map(|cause| cause.reason), Some(Reason::VaultSealed));
        assert_eq!(breaker.refusal(s(2)), Some(failure));
        assert_eq!(breaker.refusal(s(8)), None, "whoever comes now may probe");
    }

    #[test]
    fn one_caller_probes_and_a_lost_probe_costs_one_wait() {
        let mut breaker = Breaker::new("u");
        breaker.record(s(0), away());
        assert_eq!(breaker.ask(s(10)), Permit::Probe);
        assert!(matches!(breaker.ask(s(10)), Permit::Refuse(_)));
        assert!(matches!(breaker.ask(s(17)), Permit::Refuse(_)));
        assert_eq!(breaker.ask(s(23)), Permit::Probe);
    }

    #[test]
    fn a_good_probe_lets_calls_through_and_an_answered_call_forgets_the_waits() {
        let mut breaker = Breaker::new("u");
        breaker.record(s(0), away());
        assert_eq!(breaker.ask(s(10)), Permit::Probe);
        breaker.probed(s(10));
        assert_eq!(breaker.ask(s(10)), Permit::Call);
        breaker.record(s(11), away());
        assert!(matches!(breaker.ask(s(18)), Permit::Refuse(_)), "the second wait is 10 s, not 5");
        assert_eq!(breaker.ask(s(24)), Permit::Probe);
        breaker.probed(s(24));
        breaker.record(s(24), Outcome::Answered);
        breaker.record(s(25), away());
        assert_eq!(breaker.ask(s(32)), Permit::Probe, "the first wait again");
    }

    #[test]
    fn stragglers_of_the_same_outage_do_not_lengthen_the_wait() {
        let mut breaker = Breaker::new("u");
        for at in 0..4 {
            breaker.record(s(at), away());
        }
        assert_eq!(breaker.ask(s(7)), Permit::Probe);
    }

    #[test]
    fn after_an_outage_the_rate_doubles_from_two_a_second() {
        let mut breaker = Breaker::new("u");
        let rates = |breaker: &Breaker| {
            [100, 109, 110, 120, 150, 99_999].map(|now| format!("{:.0}", breaker.rate(s(now), 50.0)))
        };
        assert_eq!(rates(&breaker), ["50"; 6]);
        breaker.record(s(90), away());
        assert_eq!(breaker.ask(s(100)), Permit::Probe);
        breaker.probed(s(100));
        assert_eq!(rates(&breaker), ["2", "2", "4", "8", "50", "50"]);
    }

    #[test]
    fn a_429_parks_everybody_as_long_as_told_or_doubling_but_not_for_ever() {
        let table = [(Some(7), 7), (Some(86_400), 120), (None, 5)];
        for (told, parked) in table {
            let mut breaker = Breaker::new("u");
            breaker.record(s(100), throttled(told));
            let Permit::Refuse(failure) = breaker.ask(s(100)) else { panic!("a call went out") };
            assert_eq!((failure.class, failure.retry_after), (Class::Throttled, Some(s(parked))));
            breaker.record(s(100), Outcome::Answered);
            assert!(matches!(breaker.ask(s(99 + parked)), Permit::Refuse(_)), "an answer of the same moment");
            assert_eq!(breaker.ask(s(100 + parked)), Permit::Call);
        }
        let mut breaker = Breaker::new("u");
        let waits = [0, 100, 200, 400, 600, 900, 1_200].map(|at| {
            breaker.record(s(at), throttled(None));
            let Permit::Refuse(failure) = breaker.ask(s(at)) else { panic!("a call went out") };
            assert_eq!(breaker.ask(s(at + 120)), Permit::Call);
            failure.retry_after.unwrap().as_secs()
        });
        assert_eq!(waits, [5, 10, 20, 40, 80, 120, 120]);
    }

    #[test]
    fn errors_of_its_own_speak_of_the_server_only_at_several_paths_in_a_row() {
        let stumble = |breaker: &mut Breaker, paths: &[&str]| {
            for path in paths {
                breaker.record(s(1), Outcome::Stumbled { path: (*path).to_owned() });
            }
            breaker.cause().map(|cause| cause.reason)
        };
        for paths in [&["a"; 50][..], &["a", "b", "a", "b", "a", "b"], &["a", "b", "c", "d"]] {
            assert_eq!(stumble(&mut Breaker::new("u"), paths), None, "{paths:?}");
        }
        let mut breaker = Breaker::new("u");
        assert_eq!(stumble(&mut breaker, &["a", "b", "c", "a"]), None);
        breaker.record(s(1), Outcome::Answered);
        assert_eq!(stumble(&mut breaker, &["a"]), None, "somebody was answered in between");
        assert_eq!(stumble(&mut breaker, &["b", "a", "a", "c"]), Some(Reason::VaultUnavailable));
        assert_eq!(breaker.ask(s(8)), Permit::Probe);
    }

    #[test]
    fn only_unavailable_and_throttled_speak_about_the_server() {
        let failure = |class| Failure::new(class, Reason::Pending, "x");
        for class in [Class::Invalid, Class::Waiting, Class::Denied, Class::Conflict, Class::Bug] {
            assert_eq!(Outcome::from(Err(&failure(class))), Outcome::Answered);
        }
        let (away, fast) = (failure(Class::Unavailable), failure(Class::Throttled));
        assert_eq!(Outcome::from(Err(&away)), Outcome::Unavailable(away.clone()));
        assert_eq!(Outcome::from(Err(&fast)), Outcome::Throttled(fast.clone()));
        assert_eq!(Outcome::from(Ok(())), Outcome::Answered);
    }
}
