//! Does to the running shop what the demo claims it survives, and observes. Judging is in `proof.rs`.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::calls::{self, Second, Window};
use super::close;
use super::facts::{self, Certificate, Pod, short};
use super::install::database_login;
use super::proof::{self, Change, Proof};
use super::stage::{Goal, Stage};
use crate::openbao::Server;

/// Namespace and name of each identity of the shop.
const SHOP: [(&str, &str); 2] = [("shop", "order"), ("payments", "payment")];

/// Namespace, binding and Secret of payment's database login.
const DATABASE: (&str, &str, &str) = ("payments", "database", "payment-database");

/// Proves everything, one after another. A proof that cannot be brought to an end has failed; only an interruption
/// ends the rest.
pub fn all(stage: &Stage, server: &Server) -> Result<Vec<Proof>> {
    let start = first_calls(stage)?;
    let pods = shop_pods(stage);
    let enforces = stage.env.capabilities.contains("enforcement");
    let mut proofs = Vec::new();
    let mut prove = |claim: &'static str, outcome: Result<Result<String, String>>| {
        stage.interrupt.check()?;
        let outcome = outcome.unwrap_or_else(|error| Err(format!("{error:#}")));
        if let Err(against) = &outcome {
            stage.say("FAILED", &format!("{claim}: {against}"));
        }
        proofs.push(Proof { claim, outcome });
        Ok::<(), anyhow::Error>(())
    };
    prove("calls with certificates pass", calls_pass(stage, &start))?;
    prove("a call without one is refused", refused(stage))?;
    prove("both are renewed while calls go on", renewed(stage))?;
    prove("an authority of our own renews too", renewed_by_own_authority(stage))?;
    prove("a changed secret reaches the process", changed_secret_arrives(stage, server))?;
    prove("a sealed OpenBao takes nothing away", survives_seal(stage, server))?;
    if enforces {
        let answered = close::knock(stage, "before")?;
        prove("namespaces close around the calls", close::around_the_calls(stage, &start))?;
        prove("what nobody declared finds no answer", close::stranger_is_blocked(&answered, stage))?;
    } else {
        stage.say("network", "left out: this cluster is not known to enforce NetworkPolicies");
    }
    prove("no call failed from first to last", Ok(whole_run(stage, &start, &pods)))?;
    if enforces {
        prove("a grant that is deleted closes its edge", close::grant_is_taken_back(stage))?;
    }
    Ok(proofs)
}

/// Waits for the first second in which all is well; the proofs count from there.
fn first_calls(stage: &Stage) -> Result<Second> {
    let goal = Goal {
        what: "the first second of calls, all answered",
        area: "calls",
        describe: &["-n", "shop", "deployment", "order"],
        advice: "`kubectl -n shop logs deployment/order` says why calls fail",
        within: Duration::from_secs(60),
    };
    stage.wait_and_say(&goal, || last_second(stage).filter(Second::is_good))
}

fn calls_pass(stage: &Stage, start: &Second) -> Result<Result<String, String>> {
    calls_go_on(stage, start, 150)?;
    Ok(proof::calls(window(stage, start)))
}

/// From the client's pod, with nothing but the roots.
fn refused(stage: &Stage) -> Result<Result<String, String>> {
    let command = "-n shop exec deployment/order -- /shop probe --server payment.payments.svc:8443 --certs /certs";
    let line = stage.kubectl.text(&command.split(' ').collect::<Vec<_>>())?;
    let verdict = proof::refused(&line);
    if let Ok(how) = &verdict {
        stage.say("calls", &format!("one without a certificate was refused: {how}"));
    }
    Ok(verdict)
}

/// Asks for both certificates at once, and follows them into the running processes.
fn renewed(stage: &Stage) -> Result<Result<String, String>> {
    let Some(start) = last_second(stage) else { return Ok(Err("order prints nothing".to_owned())) };
    let pods = shop_pods(stage);
    let before = SHOP.map(|(namespace, name)| stage.certificate(namespace, name));
    for (namespace, name) in SHOP {
        request(stage, namespace, name, "demo-1")?;
    }
    stage.say("renewal", "asked for two new certificates");
    let mut changes = Vec::new();
    for ((namespace, name), before) in SHOP.into_iter().zip(before) {
        let after = new_certificate(stage, (namespace, name), &before, "demo-1", Duration::from_secs(60))?;
        changes.push(Change { name, before, after });
    }
    let switched = in_use(stage)?;
    calls_go_on(stage, &switched, 100)?;
    Ok(proof::all([
        proof::changed(&changes),
        proof::calls(window(stage, &start)),
        proof::same_pods(&pods, &shop_pods(stage)),
    ]))
}

fn renewed_by_own_authority(stage: &Stage) -> Result<Result<String, String>> {
    let identity = ("quickstart", "web");
    let before = stage.certificate(identity.0, identity.1);
    request(stage, identity.0, identity.1, "demo-1")?;
    let after = new_certificate(stage, identity, &before, "demo-1", Duration::from_secs(60))?;
    Ok(proof::changed(&[Change { name: "web", before, after }]))
}

/// Changes payment's database login at OpenBao, and follows it into the running process.
fn changed_secret_arrives(stage: &Stage, server: &Server) -> Result<Result<String, String>> {
    let pods = shop_pods(stage);
    let before = secret(stage, DATABASE.0, DATABASE.2);
    let login = database_login(2);
    server.put_secret("payments/database", &login)?;
    let (namespace, binding, _) = DATABASE;
    let annotation = "countersign.dev/requested-at=demo-1";
    stage.kubectl.text(&["-n", namespace, "annotate", "secretbinding", binding, annotation, "--overwrite"])?;
    let goal = Goal {
        what: "the new database login is in payment's Secret",
        area: "secret",
        describe: &["-n", namespace, "secretbinding", binding],
        advice: "the reason above is explained in docs/reference/conditions-and-reasons.md",
        within: Duration::from_secs(60),
    };
    let after =
        stage.wait_and_say(&goal, || Some(secret(stage, DATABASE.0, DATABASE.2)).filter(|now| *now != before))?;
    let goal = Goal {
        what: "payment uses the new login, without a restart",
        describe: &["-n", "payments", "deployment", "payment"],
        advice: "the kubelet has not renewed the mounted files yet, or the program has not read them",
        within: Duration::from_secs(u64::from(stage.env.secret_refresh_seconds) + 60),
        ..goal
    };
    stage.wait_and_say(&goal, || {
        let log = stage.kubectl.text(&["-n", "payments", "logs", "deployment/payment", "--tail", "50"]).ok()?;
        facts::revision(&log).filter(|revision| login.get("revision").and_then(Value::as_str) == Some(revision))
    })?;
    Ok(proof::all([proof::holds(&after, &login), proof::same_pods(&pods, &shop_pods(stage))]))
}

/// Seals OpenBao, asks for certificates that cannot be had, looks at what is stored, and unseals again.
fn survives_seal(stage: &Stage, server: &Server) -> Result<Result<String, String>> {
    let Some(start) = last_second(stage) else { return Ok(Err("order prints nothing".to_owned())) };
    let secrets = stored(stage);
    let before = SHOP.map(|(namespace, name)| stage.certificate(namespace, name));
    server.seal()?;
    stage.say("seal", "OpenBao is sealed");
    let during = while_sealed(stage, &secrets);
    // Unsealed whatever came of it: the proofs after this one, and whoever keeps the cluster, need it.
    server.unseal()?;
    stage.say("seal", "OpenBao is unsealed");
    let kept = during?;

    let mut changes = Vec::new();
    for ((namespace, name), before) in SHOP.into_iter().zip(before) {
        // The operator looks after a server that was away at least every half minute.
        let after = new_certificate(stage, (namespace, name), &before, "demo-2", Duration::from_secs(120))?;
        changes.push(Change { name, before, after });
    }
    in_use(stage)?;
    Ok(proof::all([kept, proof::changed(&changes), proof::calls(window(stage, &start))]))
}

fn while_sealed(stage: &Stage, secrets: &[Value]) -> Result<Result<String, String>> {
    for (namespace, name) in SHOP {
        request(stage, namespace, name, "demo-2")?;
    }
    stage.say("seal", "asked for two new certificates, which nobody can sign now");
    let goal = Goal {
        what: "the operator has noticed: VaultConnection main says Sealed",
        area: "seal",
        describe: &["vaultconnection", "main"],
        advice: "the connection should have said so by itself; see docs/how-to/when-vault-is-down.md",
        within: Duration::from_secs(90),
    };
    stage.wait_for_condition(&goal, "Sealed")?;
    let Some(now) = last_second(stage) else { return Ok(Err("order prints nothing".to_owned())) };
    calls_go_on(stage, &now, 250)?;
    let owners = SHOP.map(|(namespace, name)| stage.certificate(namespace, name));
    let kept = proof::kept(secrets, &stored(stage), &owners);
    if let Ok(what) = &kept {
        stage.say("seal", what);
    }
    Ok(kept)
}

/// Over the whole time: every call answered, every pod the first one.
fn whole_run(stage: &Stage, start: &Second, pods: &[Pod]) -> Result<String, String> {
    let outcome = proof::all([proof::calls(window(stage, start)), proof::same_pods(pods, &shop_pods(stage))]);
    if outcome.is_err() {
        for reason in calls::reasons(&log(stage)).iter().take(5) {
            stage.say("calls", &format!("a call failed: {reason}"));
        }
    }
    outcome
}

fn request(stage: &Stage, namespace: &str, name: &str, value: &str) -> Result<()> {
    let annotation = format!("countersign.dev/requested-at={value}");
    stage.kubectl.text(&["-n", namespace, "annotate", "serviceidentity", name, &annotation, "--overwrite"]).map(drop)
}

/// Waits until a request was acted on and the certificate is another one.
fn new_certificate(
    stage: &Stage,
    (namespace, name): (&str, &str),
    before: &Certificate,
    request: &str,
    within: Duration,
) -> Result<Certificate> {
    let goal = Goal {
        what: &format!("{name} has a new certificate"),
        area: "renewal",
        describe: &["-n", namespace, "serviceidentity", name],
        advice: "the reason above is explained in docs/reference/conditions-and-reasons.md",
        within,
    };
    let after = stage.wait(&goal, || {
        let now = stage.certificate(namespace, name);
        (now.handled == request && now.serial != before.serial && now.ready).then_some(now)
    })?;
    stage.say(goal.area, &format!("{}: {}… became {}…", goal.what, short(&before.serial), short(&after.serial)));
    Ok(after)
}

/// Waits until both processes use the certificates that are stored now.
fn in_use(stage: &Stage) -> Result<Second> {
    let [order, payment] = SHOP.map(|(namespace, name)| Some(stage.certificate(namespace, name).serial));
    let goal = Goal {
        what: "both processes use their new certificates, without a restart",
        area: "calls",
        describe: &["-n", "shop", "pods"],
        advice: "the kubelet has not renewed the mounted files yet, or the program has not read them",
        within: Duration::from_secs(u64::from(stage.env.secret_refresh_seconds) + 60),
    };
    stage.wait_and_say(&goal, || {
        last_second(stage).filter(|second| second.client_serial == order && second.server_serial == payment)
    })
}

/// Waits for more calls, so that what follows is seen under load.
pub fn calls_go_on(stage: &Stage, from: &Second, number: u64) -> Result<()> {
    let goal = Goal {
        what: &format!("{number} more calls were answered"),
        area: "calls",
        describe: &["-n", "shop", "deployment", "order"],
        advice: "`kubectl -n shop logs deployment/order` says why calls fail",
        within: Duration::from_secs(60),
    };
    stage.wait_and_say(&goal, || last_second(stage).filter(|second| second.answered_since(from) >= number).map(drop))
}

/// What the Secrets of the shop hold: two certificates and a login.
fn stored(stage: &Stage) -> Vec<Value> {
    let certificates = SHOP.iter().map(|(namespace, name)| secret(stage, namespace, &format!("{name}-tls")));
    certificates.chain([secret(stage, DATABASE.0, DATABASE.2)]).filter(|data| !data.is_null()).collect()
}

/// The data of a Secret; null while it cannot be read.
fn secret(stage: &Stage, namespace: &str, name: &str) -> Value {
    stage.object(&["-n", namespace, "secret", name]).and_then(|secret| secret.get("data").cloned()).unwrap_or_default()
}

fn shop_pods(stage: &Stage) -> Vec<Pod> {
    SHOP.iter().flat_map(|(namespace, _)| stage.pods(namespace)).collect()
}

/// The calls since `from`.
pub fn window(stage: &Stage, from: &Second) -> Option<Window> {
    calls::since(&log(stage), from)
}

/// The last second that order counted.
pub fn last_second(stage: &Stage) -> Option<Second> {
    calls::last(&stage.kubectl.text(&["-n", "shop", "logs", "deployment/order", "--tail", "20"]).ok()?)
}

/// What order has printed.
pub fn log(stage: &Stage) -> String {
    stage.kubectl.text(&["-n", "shop", "logs", "deployment/order"]).unwrap_or_default()
}
