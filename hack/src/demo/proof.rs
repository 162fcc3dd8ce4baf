//! What the demo claims, whether it held, and the table at the end.
//!
//! Pure: what was observed comes in, a judgement goes out. Observing is in `prove.rs`.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::calls::Window;
use super::facts::{Certificate, Pod};

/// One claim and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// What is claimed
    pub claim: &'static str,
    /// The evidence, or what stands against it
    pub outcome: Result<String, String>,
}

/// A certificate before and after it was asked to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of which identity
    pub name: &'static str,
    /// Before
    pub before: Certificate,
    /// After
    pub after: Certificate,
}

impl Proof {
    /// Whether the claim held.
    pub fn held(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Every call was answered, and in every second some were. `None`: the caller was started again.
pub fn calls(window: Option<Window>) -> Result<String, String> {
    let window = window.ok_or("the calling program was started again")?;
    let Window { ok, failed, seconds, fewest } = window;
    if failed > 0 {
        return Err(format!("{failed} calls failed, {ok} passed"));
    }
    if ok == 0 || fewest == 0 {
        return Err(format!("a second without a call among {seconds} s"));
    }
    Ok(format!("{ok} calls in {seconds} s, 0 failed"))
}

/// The verdict of `shop probe` in its printed line.
pub fn refused(line: &str) -> Result<String, String> {
    let said: serde_json::Value = serde_json::from_str(line.trim()).map_err(|_| "the probe said nothing".to_owned())?;
    let text = |name: &str| said.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    if text("verdict") == "refused" { Ok(text("detail")) } else { Err(text("detail")) }
}

/// A door that answered is silent now: nothing comes back, not even that it is closed.
pub fn silenced(before: &str, after: &str) -> Result<String, String> {
    let is_silent = |detail: &str| detail.contains("no answer in time");
    if before.is_empty() || is_silent(before) {
        return Err("nobody answered before it was closed either".to_owned());
    }
    if !is_silent(after) {
        return Err(format!("it was answered: {after}"));
    }
    Ok("answered before, silence since".to_owned())
}

/// Every certificate is another one and its owner is ready.
pub fn changed(changes: &[Change]) -> Result<String, String> {
    for Change { name, before, after } in changes {
        if after.serial.is_empty() || after.serial == before.serial {
            return Err(format!("{name} has the same certificate"));
        }
        if !after.ready {
            return Err(format!("{name} is not Ready"));
        }
    }
    Ok(format!("{} new", count(changes.len(), "certificate")))
}

/// No pod was replaced or restarted.
pub fn same_pods(before: &[Pod], after: &[Pod]) -> Result<String, String> {
    if before.is_empty() {
        return Err("no pod was found".to_owned());
    }
    if before != after {
        return Err("a pod was restarted or replaced".to_owned());
    }
    Ok(format!("{} without restart", count(before.len(), "pod")))
}

/// The same bytes as before, and still ready.
pub fn kept<T: PartialEq>(before: &[T], after: &[T], owners: &[Certificate]) -> Result<String, String> {
    if before.is_empty() || before != after {
        return Err("a stored Secret changed".to_owned());
    }
    if owners.iter().any(|owner| !owner.ready) {
        return Err("an identity was not Ready".to_owned());
    }
    Ok(format!("{} byte-equal, {} Ready", count(before.len(), "Secret"), count(owners.len(), "identity")))
}

/// A Secret's data is these texts and nothing else.
pub fn holds(data: &serde_json::Value, texts: &serde_json::Value) -> Result<String, String> {
    let encoded = |text: &serde_json::Value| BASE64.encode(text.as_str().unwrap_or_default().as_bytes());
    let wanted: serde_json::Map<String, serde_json::Value> =
        texts.as_object().into_iter().flatten().map(|(key, text)| (key.clone(), encoded(text).into())).collect();
    if wanted.is_empty() || data.as_object() != Some(&wanted) {
        return Err("the Secret does not hold what OpenBao holds".to_owned());
    }
    Ok(format!("{} equal to OpenBao's", count(wanted.len(), "key")))
}

/// All of it, or the first that does not hold.
pub fn all(parts: impl IntoIterator<Item = Result<String, String>>) -> Result<String, String> {
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.join("; "))
}

/// The table at the end, with the sum as its last line.
pub fn table(proofs: &[Proof], seconds: u64) -> String {
    let width = proofs.iter().map(|proof| proof.claim.chars().count()).max().unwrap_or_default();
    let mut table = String::new();
    for proof in proofs {
        let (result, evidence) = match &proof.outcome {
            Ok(evidence) => ("pass", evidence),
            Err(against) => ("FAIL", against),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "  {result}  {:<width$}  {evidence}", proof.claim);
    }
    let held = proofs.iter().filter(|proof| proof.held()).count();
    let _ = write!(table, "{held} of {} proofs held, {seconds} s", proofs.len());
    table
}

fn count(number: usize, noun: &str) -> String {
    // A day has days, an identity identities.
    let stem = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match (number, stem) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::pods;
    use super::*;

    fn certificate(serial: &str, ready: bool) -> Certificate {
        Certificate { ready, serial: serial.to_owned(), handled: String::new() }
    }

    #[test]
    fn a_door_is_silenced_only_if_it_answered_before() {
        let (open, silent) = ("handshake: alert", "connect: no answer in time");
        assert!(silenced(open, silent).is_ok());
        assert!(silenced(open, open).is_err() && silenced(silent, silent).is_err() && silenced("", silent).is_err());
    }

    #[test]
    fn calls_pass_only_if_none_failed_and_none_was_missing() {
        let good = Window { ok: 98, failed: 0, seconds: 2, fewest: 48 };
        assert_eq!(calls(Some(good)), Ok("98 calls in 2 s, 0 failed".to_owned()));
        for bad in [
            Some(Window { failed: 1, ..good }),
            Some(Window { fewest: 0, ..good }),
            Some(Window { ok: 0, failed: 0, seconds: 0, fewest: 0 }),
            None,
        ] {
            assert!(calls(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_refusal_is_a_refusal() {
        let line = |verdict: &str| format!("{{\"event\":\"probe\",\"verdict\":\"{verdict}\",\"detail\":\"d\"}}\n");
        assert_eq!(refused(&line("refused")), Ok("d".to_owned()));
        assert_eq!(refused(&line("accepted")), Err("d".to_owned()));
        assert_eq!(refused(&line("unknown")), Err("d".to_owned()));
        assert!(refused("").is_err());
    }

    #[test]
    fn a_change_needs_another_serial_and_a_ready_owner() {
        let change = |serial: &str, ready| Change {
            name: "order",
            before: certificate("a", true),
            after: certificate(serial, ready),
        };
        assert_eq!(changed(&[change("b", true), change("c", true)]), Ok("2 certificates new".to_owned()));
        for bad in [change("a", true), change("", true), change("b", false)] {
            assert!(changed(&[change("b", true), bad.clone()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_changed_byte_or_one_unready_owner_is_a_loss() {
        let ready = [certificate("a", true)];
        let (one, other) = (json!({"tls.key": "eA=="}), json!({"tls.key": "eQ=="}));
        let expected = Ok("1 Secret byte-equal, 1 identity Ready".to_owned());
        assert_eq!(kept(std::slice::from_ref(&one), std::slice::from_ref(&one), &ready), expected);
        assert!(kept(std::slice::from_ref(&one), &[other], &ready).is_err());
        assert!(kept(std::slice::from_ref(&one), &[], &ready).is_err());
        assert!(kept::<u8>(&[], &[], &ready).is_err(), "nothing was compared");
        assert!(kept(&[1], &[1], &[certificate("a", false)]).is_err());
    }

    #[test]
    fn a_secret_holds_the_texts_and_nothing_else() {
        let texts = json!({"a": "x"});
        assert_eq!(holds(&json!({"a": "eA=="}), &texts), Ok("1 key equal to OpenBao's".to_owned()));
        for bad in [json!({}), json!({"a": "eQ=="}), json!({"a": "eA==", "b": "eA=="}), json!(null)] {
            assert!(holds(&bad, &texts).is_err(), "{bad}");
        }
        assert!(holds(&json!({}), &json!({})).is_err(), "nothing was compared");
    }

    #[test]
    fn pods_are_the_same_only_if_there_were_some() {
        let one = pods(&json!({"items": [{"metadata": {"uid": "a"}}]}));
        assert_eq!(same_pods(&one, &one), Ok("1 pod without restart".to_owned()));
        assert!(same_pods(&one, &[]).is_err());
        assert!(same_pods(&[], &[]).is_err());
    }

    #[test]
    fn the_first_part_that_fails_is_what_is_said() {
        let good = || Ok("a".to_owned());
        assert_eq!(all([good(), good()]), Ok("a; a".to_owned()));
        assert_eq!(all([good(), Err("b".to_owned()), Err("c".to_owned())]), Err("b".to_owned()));
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_sum() {
        let proofs = [
            Proof { claim: "long claim", outcome: Ok("evidence".to_owned()) },
            Proof { claim: "short", outcome: Err("why not".to_owned()) },
        ];
        let expected = "  pass  long claim  evidence\n  FAIL  short       why not\n1 of 2 proofs held, 7 s";
        assert_eq!(table(&proofs, 7), expected);
    }
}
