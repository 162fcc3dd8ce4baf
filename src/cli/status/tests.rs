//! Arguments, the table, and the exit code.

use clap::Parser;
use serde_json::json;

use super::*;
use crate::cli::fake::{OURS, Objects, conditions, healthy};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(words: &[&str]) -> Result<Arguments, clap::error::ErrorKind> {
    let line = Line::try_parse_from(std::iter::once(&"status").chain(words));
    line.map(|line| line.arguments).map_err(|error| error.kind())
}

fn now() -> Timestamp {
    "2027-01-01T12:00:00Z".parse().unwrap()
}

async fn overview(objects: Objects, span: Span) -> Overview {
    look(&objects.view(), &span, now).await
}

#[test]
fn flags_are_checked() {
    let arguments = parse(&["-A", "-o", "json"]).unwrap();
    assert!(arguments.all_namespaces && arguments.output == Output::Json && arguments.namespace.is_none());
    assert_eq!(parse(&["-n", "pay"]).unwrap().namespace.as_deref(), Some("pay"));
    assert_eq!(parse(&["-A", "-n", "pay"]).err(), Some(clap::error::ErrorKind::ArgumentConflict));
    assert_eq!(parse(&["-n", "Pay"]).err(), Some(clap::error::ErrorKind::ValueValidation));
}

#[tokio::test]
async fn the_worst_is_on_top_and_the_lines_fit() {
    let message =
        "\"api.example.com\" needs an allow rule of the trust domain, and this sentence is too long for a line";
    let waiting = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "w", "generation": 3},
        "spec": {"trustDomain": "prod", "serviceAccountName": "web", "secret": {"name": "web-tls"}},
        "status": {"observedGeneration": 3, "conditions": conditions(&[
            ("Ready", "False", "SecretMissing", "secret \"web-tls\" does not exist yet"),
            ("Stalled", "True", "NameNotAllowed", message)])}});
    let objects = healthy().with(&format!("{OURS}/namespaces/shop/serviceidentities"), waiting);
    let overview = overview(objects, Span::Everywhere).await;
    assert_eq!(code(&overview), NOT_SO);
    let expected = "\
KIND   NAMESPACE  NAME  READY  REASON         EXPIRES  WAITS-FOR
sid    shop       web   False  SecretMissing  -        \"api.example.com\" needs an allow rule of the trust domain, and t…
sid    pay        api   True   Valid          18h      -
td     -          prod  True   Valid          36461d   -
vconn  -          main  True   Authenticated  -        -
sbind  pay        env   True   Valid          -        -
5 objects: 4 ready, 1 not ready, 0 unknown; the next end is in 18h (2027-01-02T06:00:00Z)
";
    let text = text(&overview, now());
    assert_eq!(text, expected, "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= crate::cli::shared::WIDTH));
}

#[tokio::test]
async fn the_exit_code_is_the_answer() {
    let pay = || Span::Namespace("pay".to_owned());
    assert_eq!(code(&overview(healthy(), pay()).await), OK);
    assert_eq!(code(&overview(Objects::default(), pay()).await), NOTHING_MATCHED);
    let team = overview(healthy().forbid("vaultconnections").forbid("trustdomains"), pay()).await;
    assert_eq!((code(&team), team.not_shown.len()), (OK, 2), "what a team may see is ready");
    assert!(text(&team, now()).contains("you lack the right to list trustdomains.countersign.dev"));
    for theirs in ["serviceidentities", "secretbindings"] {
        assert_eq!(code(&overview(healthy().forbid(theirs), pay()).await), UNSEEN, "{theirs}");
    }
    let broken = healthy().edit("prod", "trustdomains", |prod| prod["spec"] = json!({"name": 7}));
    let broken = overview(broken, pay()).await;
    assert_eq!((code(&broken), broken.summary.unknown), (NOT_SO, 1), "an object that nobody can read is not ready");
}

#[tokio::test]
async fn the_json_is_stable() {
    let overview = overview(healthy().forbid("vaultconnections"), Span::Everywhere).await;
    let document: serde_json::Value = serde_json::from_str(&json("StatusResult", &overview)).unwrap();
    let expected = json!({
        "apiVersion": "cli.countersign.dev/v1", "kind": "StatusResult",
        "objects": [
            {"kind": "ServiceIdentity", "namespace": "pay", "name": "api", "ready": "True", "reason": "Valid",
                "urgency": "Fine", "expires": "2027-01-02T06:00:00Z"},
            {"kind": "TrustDomain", "name": "prod", "ready": "True", "reason": "Valid", "urgency": "Fine",
                "expires": "2126-10-31T00:00:00Z"},
            {"kind": "SecretBinding", "namespace": "pay", "name": "env", "ready": "True", "reason": "Valid",
                "urgency": "Fine"},
        ],
        "summary": {"total": 3, "ready": 3, "notReady": 0, "unknown": 0, "nextExpiry": "2027-01-02T06:00:00Z"},
        "notShown": [{"kind": "VaultConnection", "missingRight": "list vaultconnections.countersign.dev",
            "message": "you lack the right to list vaultconnections.countersign.dev"}],
    });
    assert_eq!(document, expected);
}
