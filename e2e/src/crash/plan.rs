//! Plans: one fault at one call of one workload, with an id that reruns it alone.
//!
//! `issue.W01.lost.kill` reads: workload `issue`, its first write in canonical order, forwarded but not answered, then
//! the process is killed and started again.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, Result, bail};

use super::call::{Name, Owner, Side};

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The call does not reach the server.
    Before,
    /// The server has done it; the answer is withheld.
    Lost,
    /// The answer has been delivered.
    After,
}

/// What happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// The process is killed, and started again at once.
    Kill,
    /// The connection is reset.
    Reset,
    /// The answer is this status instead.
    Answer(u16),
    /// The identity is deleted meanwhile; the call goes on.
    Delete,
}

/// What the operator is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// A first certificate from a new embedded authority.
    Issue,
    /// A first certificate from OpenBao, over a new connection.
    IssueVault,
    /// A renewal on request, embedded.
    Renew,
    /// A renewal on request, OpenBao.
    RenewVault,
    /// Deletion of an identity whose Secret goes with it.
    Delete,
    /// Deletion of an identity whose Secret stays.
    Retain,
    /// A first certificate, during which the identity is deleted.
    Vanish,
    /// A renewal on request while OpenBao is away.
    Outage,
    /// The first values of a binding, over a new connection.
    Bind,
    /// Newer values of a binding, on request.
    Refresh,
    /// Two namespaces closed around one declared edge.
    Close,
    /// Another port for that edge, in closed namespaces.
    Edit,
    /// Deletion of the segment: both namespaces are opened again.
    Open,
}

/// What kind of object a workload is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Job {
    /// A certificate.
    #[default]
    Identity,
    /// Values of OpenBao.
    Binding,
    /// Closed namespaces.
    Segment,
}

impl Job {
    /// The kind of the object.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Identity => "ServiceIdentity",
            Self::Binding => "SecretBinding",
            Self::Segment => "Segment",
        }
    }

    /// The resource of the object.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Identity => "serviceidentities",
            Self::Binding => "secretbindings",
            Self::Segment => "segments",
        }
    }
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Issue,
        Self::IssueVault,
        Self::Renew,
        Self::RenewVault,
        Self::Delete,
        Self::Retain,
        Self::Vanish,
        Self::Outage,
        Self::Bind,
        Self::Refresh,
        Self::Close,
        Self::Edit,
        Self::Open,
    ];

    /// Its name in ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::IssueVault => "issuevault",
            Self::Renew => "renew",
            Self::RenewVault => "renewvault",
            Self::Delete => "delete",
            Self::Retain => "retain",
            Self::Vanish => "vanish",
            Self::Outage => "outage",
            Self::Bind => "bind",
            Self::Refresh => "refresh",
            Self::Close => "close",
            Self::Edit => "edit",
            Self::Open => "open",
        }
    }

    /// Whether OpenBao is asked.
    pub fn uses_vault(self) -> bool {
        matches!(self, Self::IssueVault | Self::RenewVault | Self::Outage) || self.job() == Job::Binding
    }

    /// What it is about.
    pub fn job(self) -> Job {
        match self {
            Self::Bind | Self::Refresh => Job::Binding,
            Self::Close | Self::Edit | Self::Open => Job::Segment,
            _ => Job::Identity,
        }
    }

    /// What comes before it: nothing, if it is the first itself.
    pub fn first(self) -> Option<Self> {
        match self {
            Self::Issue | Self::IssueVault | Self::Vanish | Self::Bind | Self::Close => None,
            Self::Edit | Self::Open => Some(Self::Close),
            Self::Refresh => Some(Self::Bind),
            Self::Renew | Self::RenewVault | Self::Delete | Self::Retain | Self::Outage => Some(Self::Issue),
        }
    }

    /// The workload whose undisturbed calls it has.
    #[must_use]
    pub fn calls_of(self) -> Self {
        match self {
            Self::Vanish => Self::Issue,
            Self::Outage => Self::RenewVault,
            own => own,
        }
    }

    /// The workload whose undisturbed end it must reach.
    #[must_use]
    pub fn ends_as(self) -> Self {
        match self {
            Self::Vanish => Self::Delete,
            Self::Outage => Self::RenewVault,
            own => own,
        }
    }
}

/// Which call: its place in the canonical order of a workload's calls to one server; what the test does itself has
/// places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Write to the API server; the first is 1.
    Write(usize),
    /// Call to OpenBao; the first is 1.
    Vault(usize),
    /// The test's own step: the deletion, or the whole of an outage.
    Step,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plan {
    /// What the operator does.
    pub workload: Workload,
    /// At which call.
    pub place: Place,
    /// When.
    pub position: Position,
    /// What.
    pub act: Act,
}

impl Plan {
    /// Every kill, then every other fault, of a workload with these calls.
    pub fn all(workload: Workload, calls: &[Name]) -> Vec<Self> {
        let places = places(calls);
        let with = |position, act| move |place| Self { workload, place, position, act };
        match workload {
            Workload::Delete | Workload::Retain => {
                let mut plans =
                    vec![with(Position::Before, Act::Kill)(Place::Step), with(Position::After, Act::Kill)(Place::Step)];
                plans.extend(single_faults(&places, with));
                plans
            }
            Workload::Vanish => {
                // Before the identity's own writes there is no identity to delete.
                let own = || {
                    let named = places.iter().copied().zip(calls);
                    named.filter(|(place, call)| matches!(place, Place::Write(_)) && call.owner == Owner::Identity)
                };
                let positions = [Position::Before, Position::Lost, Position::After];
                let plan = |position| own().map(move |(place, _)| with(position, Act::Delete)(place));
                positions.into_iter().flat_map(plan).collect()
            }
            Workload::Outage => {
                let acts = [
                    Act::Kill,
                    Act::Reset,
                    Act::Answer(403),
                    Act::Answer(404),
                    Act::Answer(429),
                    Act::Answer(500),
                    Act::Answer(503),
                ];
                acts.into_iter().map(|act| with(Position::Before, act)(Place::Step)).collect()
            }
            Workload::Close | Workload::Edit | Workload::Open => network_faults(&places, calls, with),
            _ => single_faults(&places, with),
        }
    }
}

/// Every fault for policies, whose order is what is at stake; for the other writes, which only tell or hold, a death and a
/// refusal. A death is played once the server has done the write: before it, the cluster is as it was after the write before.
fn network_faults<F: Fn(Place) -> Plan>(
    places: &[Place],
    calls: &[Name],
    with: impl Fn(Position, Act) -> F,
) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (position, act, is_for_all) in [
        (Position::Lost, Act::Kill, true),
        (Position::Before, Act::Answer(500), true),
        (Position::Before, Act::Answer(409), false),
        (Position::Lost, Act::Reset, false),
    ] {
        let is_policy = |call: &Name| call.resource == "networkpolicies";
        // How many statuses follow the first depends on what a pass happens to see at once.
        let is_sure = |call: &Name| call.ordinal == 1;
        let chosen = places.iter().zip(calls).filter(|(_, call)| is_policy(call) || is_for_all && is_sure(call));
        plans.extend(chosen.map(|(place, _)| *place).map(with(position, act)));
    }
    plans
}

fn single_faults<F: Fn(Place) -> Plan>(places: &[Place], with: impl Fn(Position, Act) -> F) -> Vec<Plan> {
    let mut plans = Vec::new();
    for position in [Position::Before, Position::Lost, Position::After] {
        plans.extend(places.iter().copied().map(with(position, Act::Kill)));
    }
    for (position, act) in [
        (Position::Before, Act::Answer(500)),
        (Position::Before, Act::Reset),
        (Position::Lost, Act::Reset),
        (Position::Lost, Act::Answer(504)),
    ] {
        plans.extend(places.iter().copied().map(with(position, act)));
    }
    let writes = places.iter().copied().filter(|place| matches!(place, Place::Write(_)));
    plans.extend(writes.map(with(Position::Before, Act::Answer(409))));
    plans
}

/// The place of each call, in the order given.
pub fn places(calls: &[Name]) -> Vec<Place> {
    let (mut writes, mut vault) = (0, 0);
    let place = |call: &Name| {
        let (number, place): (_, fn(usize) -> Place) = match call.side {
            Side::Api => (&mut writes, Place::Write),
            Side::Vault => (&mut vault, Place::Vault),
        };
        *number += 1;
        place(*number)
    };
    calls.iter().map(place).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.workload.name())?;
        match self.place {
            Place::Write(number) => write!(f, "W{number:02}")?,
            Place::Vault(number) => write!(f, "V{number:02}")?,
            Place::Step => write!(f, "S01")?,
        }
        let position = match self.position {
            Position::Before => "before",
            Position::Lost => "lost",
            Position::After => "after",
        };
        match self.act {
            Act::Kill => write!(f, ".{position}.kill"),
            Act::Reset => write!(f, ".{position}.reset"),
            Act::Delete => write!(f, ".{position}.delete"),
            Act::Answer(status) => write!(f, ".{position}.{status}"),
        }
    }
}

/// A choice of plans, by an id or the name of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// One plan.
    One(Plan),
    /// Every plan of a workload.
    Every(Workload),
}

impl Choice {
    /// What is played.
    pub fn workload(self) -> Workload {
        match self {
            Self::One(plan) => plan.workload,
            Self::Every(workload) => workload,
        }
    }
}

impl FromStr for Choice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let every = Workload::ALL.into_iter().find(|known| known.name() == text).map(Self::Every);
        every.map_or_else(|| text.parse().map(Self::One), Ok)
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let [workload, place, position, act] = parts.as_slice() else {
            bail!("{text} is no plan; one looks like issue.W01.lost.kill");
        };
        let workload = Workload::ALL.into_iter().find(|known| known.name() == *workload).context("unknown workload")?;
        let place = match (place.get(..1), place.get(1..).and_then(|number| number.parse().ok())) {
            (Some("W"), Some(number)) => Place::Write(number),
            (Some("V"), Some(number)) => Place::Vault(number),
            (Some("S"), Some(1)) => Place::Step,
            _ => bail!("{place} is no call; one looks like W01, V01 or S01"),
        };
        let position = match *position {
            "before" => Position::Before,
            "lost" => Position::Lost,
            "after" => Position::After,
            _ => bail!("{position} is none of before, lost, after"),
        };
        let act = match *act {
            "kill" => Act::Kill,
            "reset" => Act::Reset,
            "delete" => Act::Delete,
            status => Act::Answer(status.parse().context("an act is kill, reset, delete or a status")?),
        };
        Ok(Self { workload, place, position, act })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(side: Side) -> Name {
        Name { side, owner: Owner::Identity, verb: "POST".into(), resource: "x".into(), ordinal: 1 }
    }

    #[test]
    fn ids_are_read_back() {
        let calls = [call(Side::Api), call(Side::Vault), call(Side::Api)];
        for workload in Workload::ALL {
            for plan in Plan::all(workload, &calls) {
                assert_eq!(plan.to_string().parse::<Plan>().unwrap(), plan);
            }
        }
        assert_eq!("close".parse::<Choice>().unwrap(), Choice::Every(Workload::Close));
        for wrong in
            ["issue", "issue.X01.lost.kill", "issue.W01.later.kill", "issue.W01.lost.hang", "other.W01.lost.kill"]
        {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn policies_have_every_fault_and_the_first_of_what_only_tells_has_two() {
        let policy = Name { resource: "networkpolicies".into(), ordinal: 2, ..call(Side::Api) };
        let plans = Plan::all(Workload::Close, &[policy, call(Side::Api), Name { ordinal: 2, ..call(Side::Api) }]);
        let at = |place| plans.iter().filter(|plan| plan.place == place).count();
        assert_eq!([1, 2, 3].map(|number| at(Place::Write(number))), [4, 2, 0]);
    }

    #[test]
    fn a_workload_has_three_kills_a_call_and_kills_come_first() {
        let calls = [call(Side::Api), call(Side::Vault), call(Side::Api)];
        let plans = Plan::all(Workload::IssueVault, &calls);
        let kills = plans.iter().take_while(|plan| plan.act == Act::Kill).count();
        assert_eq!(kills, 9);
        assert_eq!(plans.iter().filter(|plan| plan.act == Act::Kill).count(), kills);
        assert_eq!(plans.len(), 9 + 4 * 3 + 2);
        assert_eq!(plans.first().map(ToString::to_string).as_deref(), Some("issuevault.W01.before.kill"));
    }
}
