//! One case on the cluster: everything passes, the policies come, exactly what the table says passes, the policies go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use countersign_e2e::{
    api::{Change, path_of, text},
    cilium::Agent,
    cluster::Cluster,
    wait::until,
};
use countersign_truth::{Case, Outcome, Question, Table, questions};
use futures::future::try_join_all;

use crate::{probe::Probe, stage::Stage};

/// How long silence must last to count as such. Who answers does so within a few milliseconds, and in the same round.
const LIMIT: Duration = Duration::from_millis(500);
/// For an answer that was expected and did not come within the limit: time enough for a connection's second attempt. What
/// a data plane blocks it blocks again.
const SECOND: Duration = Duration::from_secs(3);
/// Cilium takes a second to read policies, and several where others change theirs.
const SLOW: Duration = Duration::from_secs(60);

/// Plays a case by a table; returns what was not as that says.
pub async fn play(cluster: &Cluster, agent: &Agent, stage: &Stage, case: &Case, table: &Table) -> Result<Vec<String>> {
    let ends: Vec<&str> = stage
        .pods()
        .chain(case.addresses.iter().map(String::as_str))
        .filter(|end| stage.stand(end).is_some())
        .collect();
    let is_asked = |asked: &Question<'_>| asked.from != asked.to || table.names_itself(asked.from);
    let asked: BTreeSet<Question<'_>> = questions(&ends).filter(is_asked).collect();

    // The positive control: silence is no proof of a block where nobody would have answered.
    until("every pair passes without policies", SLOW, async || {
        let passed = round(stage, &asked, LIMIT).await?;
        let silent = asked.difference(&passed).next();
        Ok(silent.map_or(Ok(()), |one| Err(format!("{one} does not pass"))))
    })
    .await?;

    let mut paths = Vec::new();
    let mut uids = Vec::new();
    for (namespace, name, spec) in case.policies() {
        let policy = stage.policy(namespace, name, spec);
        uids.push(text(&cluster.api.apply(&policy).await?, "/metadata/uid").to_owned());
        paths.push(path_of(&policy)?);
    }
    let addresses = stage.addresses();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    until("the data plane has the policies", SLOW, async || agent.holds(&addresses, &uids, &[]).await).await?;
    let wrong = compare(stage, &asked, table).await?;
    for path in &paths {
        cluster.api.delete(path).await?;
    }
    until("the data plane has forgotten the policies", SLOW, async || agent.holds(&addresses, &[], &uids).await)
        .await?;
    Ok(wrong)
}

/// Offers policies that no server may store; returns what was stored all the same.
pub async fn refused(cluster: &Cluster, stage: &Stage, case: &Case) -> Result<Vec<String>> {
    let mut stored = Vec::new();
    let mut refused = false;
    for (namespace, name, spec) in case.policies() {
        let policy = stage.policy(namespace, name, spec);
        let path = path_of(&policy)?;
        let answer = cluster.api.patch(Change::Apply, &format!("{path}?fieldManager=e2e"), &policy).await?;
        match answer.status {
            200..300 => stored.push(path),
            400..500 => refused = true,
            status => bail!("{path}: {status} {}", answer.message()),
        }
    }
    for path in &stored {
        cluster.api.delete(path).await?;
    }
    Ok(if refused { Vec::new() } else { stored.iter().map(|path| format!("stored as {path}")).collect() })
}

async fn compare(stage: &Stage, asked: &BTreeSet<Question<'_>>, table: &Table) -> Result<Vec<String>> {
    let mut passed = round(stage, asked, LIMIT).await?;
    let is_missed = |asked: &&Question<'_>| table.outcome(asked) == Outcome::Allow && !passed.contains(*asked);
    let missed: BTreeSet<Question<'_>> = asked.iter().filter(is_missed).copied().collect();
    if !missed.is_empty() {
        passed.extend(round(stage, &missed, SECOND).await?);
    }
    let wrong = asked.iter().filter_map(|asked| {
        let found = if passed.contains(asked) { Outcome::Allow } else { Outcome::Block };
        let expected = table.outcome(asked);
        (found != expected).then(|| format!("{asked} is {found}, not {expected}"))
    });
    Ok(wrong.collect())
}

/// Puts all questions at once; returns those that were answered within `limit`.
async fn round<'a>(stage: &Stage, asked: &BTreeSet<Question<'a>>, limit: Duration) -> Result<BTreeSet<Question<'a>>> {
    let mut by_asker: BTreeMap<&str, Vec<(Question<'a>, Probe)>> = BTreeMap::new();
    for question in asked {
        let to = stage.stand(question.to).context("nobody stands where the question goes")?;
        let to = SocketAddr::new(to.address, question.port);
        let probe = Probe { to, is_udp: question.protocol == "UDP" };
        by_asker.entry(question.from).or_default().push((*question, probe));
    }
    let answers = try_join_all(by_asker.into_iter().map(async |(from, asked)| {
        let (questions, probes): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let passed =
            stage.stand(from).context("nobody stands where the question comes from")?.ask(probes, limit).await?;
        let passed = questions.into_iter().zip(passed).filter(|(_, passed)| *passed);
        anyhow::Ok(passed.map(|(question, _)| question).collect::<Vec<_>>())
    }));
    Ok(answers.await?.into_iter().flatten().collect())
}
