//! The links of a `VaultConnection`, from its spec and what the operator said of the server.

use crate::{
    api::{ConditionType, Finding, Reason, VaultConnection, Verdict},
    explain::{Chain, Link, Look, Step, said::Said},
};

/// The chain of `VaultConnection/name`.
pub fn connection(name: &str, seen: &Look<VaultConnection>) -> Chain {
    Chain { links: links(name, seen) }
}

/// The same as part of a longer chain.
pub(super) fn links(name: &str, seen: &Look<VaultConnection>) -> Vec<Link> {
    let object = format!("VaultConnection/{name}");
    let connection = match seen {
        Look::Found(connection) => connection,
        Look::Absent => {
            let message = format!("VaultConnection {name} does not exist");
            return vec![Link::failed(Step::Connection, &object, Reason::ConnectionNotFound, message)];
        }
        Look::Hidden(why) => return vec![Link::hidden(Step::Connection, &object, why)],
    };
    let status = connection.status.clone().unwrap_or_default();
    let said = Said::new(&status.conditions, status.observed_generation, connection.metadata.generation);
    vec![
        usable(connection, &object, said),
        reachable(&object, said),
        unsealed(&object, said),
        logged_in(&object, said),
        rate(&object, said),
    ]
}

fn usable(connection: &VaultConnection, object: &str, said: Said<'_>) -> Link {
    let step = Step::Connection;
    if connection.spec.suspend == Some(true) {
        return Link::failed(step, object, Reason::Suspended, "spec.suspend is true: the connection is not used");
    }
    if !said.current {
        return Link::unknown(step, object, "the operator has not looked at this spec yet");
    }
    match said.bad(ConditionType::Ready).filter(|finding| place(finding.reason) == step) {
        Some(finding) => failed(step, object, finding),
        None => Link::ok(step, object, connection.spec.address.clone()),
    }
}

fn reachable(object: &str, said: Said<'_>) -> Link {
    let step = Step::Reachable;
    let finding = said.of(ConditionType::Reachable);
    match (finding.verdict, ready_at(said, step)) {
        (Verdict::False, _) => failed(step, object, finding),
        (_, Some(ready)) => failed(step, object, ready),
        (Verdict::True, None) => Link::ok(step, object, finding.message),
        (Verdict::Unknown, None) => Link::unknown(step, object, finding.message),
    }
}

fn unsealed(object: &str, said: Said<'_>) -> Link {
    let step = Step::Unsealed;
    match said.bad(ConditionType::Sealed).or_else(|| ready_at(said, step)) {
        Some(finding) => failed(step, object, finding),
        None if said.holds(ConditionType::Reachable) => Link::ok(step, object, "it serves"),
        None => Link::unknown(step, object, "not known while the server cannot be asked"),
    }
}

fn logged_in(object: &str, said: Said<'_>) -> Link {
    let step = Step::LoggedIn;
    let finding = said.of(ConditionType::Authenticated);
    match (finding.verdict, ready_at(said, step)) {
        (Verdict::False, _) => failed(step, object, finding),
        (_, Some(ready)) => failed(step, object, ready),
        (Verdict::True, None) => {
            let message = said.bad(ConditionType::TokenExpiring).map_or(finding.message, |ending| ending.message);
            Link::ok(step, object, message)
        }
        (Verdict::Unknown, None) => Link::unknown(step, object, finding.message),
    }
}

fn rate(object: &str, said: Said<'_>) -> Link {
    let step = Step::Rate;
    match said.bad(ConditionType::Throttled).or_else(|| ready_at(said, step)) {
        Some(finding) => failed(step, object, finding),
        None if said.holds(ConditionType::Ready) => Link::ok(step, object, "within the server's limits"),
        None => Link::unknown(step, object, "not known while the connection is not ready"),
    }
}

/// `Ready` carries the cause of every failure; this is it where the cause belongs to `step`.
fn ready_at(said: Said<'_>, step: Step) -> Option<Finding> {
    said.bad(ConditionType::Ready).filter(|finding| place(finding.reason) == step)
}

fn failed(step: Step, object: &str, finding: Finding) -> Link {
    Link::failed(step, object, finding.reason, finding.message)
}

/// The link that a reason of a connection is about: what is not about the server is about the spec.
fn place(reason: Reason) -> Step {
    let step = super::said::place(reason);
    if matches!(step, Step::Reachable | Step::Unsealed | Step::LoggedIn | Step::Rate) {
        step
    } else if matches!(reason, Reason::AccessDenied | Reason::ApiServerUnavailable) {
        Step::LoggedIn
    } else {
        Step::Connection
    }
}
