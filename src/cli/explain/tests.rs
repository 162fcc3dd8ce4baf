//! Arguments, and the answers as a person sees them.

use clap::Parser;
use countersign_core::api::Reason;
use serde_json::json;

use super::*;
use crate::cli::fake::{Objects, conditions, healthy};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(words: &[&str]) -> Result<Arguments, clap::error::ErrorKind> {
    let line = Line::try_parse_from(std::iter::once(&"explain").chain(words));
    line.map(|line| line.arguments).map_err(|error| error.kind())
}

#[test]
fn targets_are_spelled_as_kubectl_takes_them() {
    let identity = Target::ServiceIdentity("api".to_owned());
    for text in ["sid/api", "serviceidentity/api", "ServiceIdentity/api", "serviceidentities.countersign.dev/api"] {
        assert_eq!(parse(&[text]).unwrap().target, identity, "{text}");
    }
    assert_eq!(parse(&["td/prod"]).unwrap().target, Target::TrustDomain("prod".to_owned()));
    assert_eq!(parse(&["vaultconnections/main"]).unwrap().target, Target::VaultConnection("main".to_owned()));
    for bad in ["api", "secret/api", "sid/", "sid/A", "sid/a/b", "/api"] {
        assert_eq!(parse(&[bad]).err(), Some(clap::error::ErrorKind::ValueValidation), "{bad}");
    }
    assert_eq!(parse(&[]).err(), Some(clap::error::ErrorKind::MissingRequiredArgument));
    assert_eq!(parse(&["sid/api", "-o", "yaml"]).err(), Some(clap::error::ErrorKind::InvalidValue));
    assert_eq!(parse(&["sid/api", "-n", "A"]).err(), Some(clap::error::ErrorKind::ValueValidation));
}

async fn explanation(words: &[&str], objects: Objects) -> Explanation {
    let (arguments, view) = (parse(words).unwrap(), objects.view());
    let clock = Clock::simulated("2027-01-01T12:00:00Z".parse().unwrap(), 0);
    let chain = look(&arguments, &view, &clock).await;
    let local = matches!(arguments.target, Target::ServiceIdentity(_) | Target::SecretBinding(_));
    let namespace = local.then(|| "pay".to_owned());
    Explanation::new("ServiceIdentity/api".to_owned(), namespace, chain)
}

fn file(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn shows(explanation: &Explanation, golden: &str) {
    let text = text(explanation);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let expected = file(&format!("src/cli/explain/goldens/{golden}.txt"));
    assert_eq!(text, expected, "{golden}.txt\n{text}");
}

#[test]
fn the_manual_shows_what_is_printed() {
    let manual = file("docs/how-to/find-out-what-is-wrong.md");
    for golden in ["sealed", "name", "account"] {
        let text = file(&format!("src/cli/explain/goldens/{golden}.txt"));
        assert!(manual.contains(&format!("```\n{text}```\n")), "{golden}");
    }
}

#[tokio::test]
async fn a_healthy_identity() {
    let explanation = explanation(&["sid/api"], healthy()).await;
    assert_eq!(code(explanation.end), OK);
    shows(&explanation, "healthy");
}

#[tokio::test]
async fn a_sealed_server() {
    let sealed = conditions(&[
        ("Ready", "False", "VaultSealed", "the server is sealed; unseal it"),
        ("Reachable", "True", "Reachable", "the server answers"),
        ("Authenticated", "True", "Authenticated", "the login works"),
        ("Sealed", "True", "VaultSealed", "the server is sealed; unseal it"),
    ]);
    let objects = healthy().edit("main", "vaultconnections", |main| main["status"]["conditions"] = sealed);
    let explanation = explanation(&["sid/api"], objects).await;
    assert_eq!(code(explanation.end), NOT_SO);
    shows(&explanation, "sealed");
}

#[tokio::test]
async fn a_name_without_a_rule_seen_by_a_member_of_the_team() {
    let refused = conditions(&[
        ("Ready", "False", "SecretMissing", "secret \"api-tls\" does not exist yet"),
        ("Accepted", "False", "NameNotAllowed", "\"api.example.com\" needs an allow rule of the trust domain"),
        ("Issued", "False", "NameNotAllowed", "\"api.example.com\" needs an allow rule of the trust domain"),
        ("Stalled", "True", "NameNotAllowed", "\"api.example.com\" needs an allow rule of the trust domain"),
    ]);
    let objects = healthy()
        .edit("api", "serviceidentities", |api| {
            api["spec"]["dnsNames"] = json!(["api.example.com"]);
            api["status"] = json!({"observedGeneration": 3, "conditions": refused});
        })
        .without("api-tls", "secrets")
        .forbid("trustdomains")
        .forbid("secrets")
        .forbid("validatingadmissionpolicies")
        .forbid("validatingadmissionpolicybindings");
    let explanation = explanation(&["sid/api"], objects).await;
    shows(&explanation, "name");
}

#[tokio::test]
async fn a_fresh_identity_without_its_account() {
    let objects = healthy()
        .edit("api", "serviceidentities", |api| api["status"] = json!({"observedGeneration": -1}))
        .without("api", "serviceaccounts")
        .without("api-tls", "secrets");
    shows(&explanation(&["sid/api"], objects).await, "account");
}

/// What is done to a healthy cluster, and the link and reason at which a binding then breaks.
type Fault = (fn(Objects) -> Objects, Option<(Step, Reason)>);

fn said(reason: &str) -> serde_json::Value {
    json!({"observedGeneration": 3, "conditions": conditions(&[
        ("Ready", "True", "Valid", "secret \"api-env\" is whole"),
        ("Synced", "False", reason, "as the operator saw it"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
        ("Reconciling", "True", reason, "as the operator saw it"),
    ])})
}

#[tokio::test]
async fn the_broken_link_of_a_binding_is_marked() {
    let faults: [Fault; 13] = [
        (|all| all, None),
        (
            |all| all.edit("env", "secretbindings", |env| env["spec"]["suspend"] = json!(true)),
            Some((Step::Spec, Reason::Suspended)),
        ),
        (
            |all| all.without("countersign-operator-fence", "validatingadmissionpolicies"),
            Some((Step::Fence, Reason::FenceMissing)),
        ),
        (|all| all.without("main", "vaultconnections"), Some((Step::Granted, Reason::ConnectionNotAllowed))),
        (
            |all| all.edit("main", "vaultconnections", |main| main["spec"]["grants"] = json!([])),
            Some((Step::Granted, Reason::ConnectionNotAllowed)),
        ),
        (
            |all| all.edit("env", "secretbindings", |env| env["spec"]["sources"][0]["kv"]["path"] = json!("shop/api")),
            Some((Step::Granted, Reason::PathNotAllowed)),
        ),
        (|all| all.without("api", "serviceaccounts"), Some((Step::ServiceAccount, Reason::ServiceAccountMissing))),
        (
            |all| all.edit("api-env", "secrets", |secret| secret["metadata"]["labels"] = json!({})),
            Some((Step::TargetOwned, Reason::TargetNotOwned)),
        ),
        (
            |all| all.edit("env", "secretbindings", |env| env["status"] = said("RemoteMissing")),
            Some((Step::Sources, Reason::RemoteMissing)),
        ),
        (
            |all| all.edit("env", "secretbindings", |env| env["status"] = said("NonStringValue")),
            Some((Step::Values, Reason::NonStringValue)),
        ),
        (
            |all| all.edit("env", "secretbindings", |env| env["status"] = said("VaultUnavailable")),
            Some((Step::Synced, Reason::VaultUnavailable)),
        ),
        (|all| all.without("api-env", "secrets"), Some((Step::Whole, Reason::SecretMissing))),
        (
            |all| {
                let sealed = conditions(&[
                    ("Ready", "False", "VaultSealed", "the server is sealed; unseal it"),
                    ("Sealed", "True", "VaultSealed", "the server is sealed; unseal it"),
                ]);
                all.edit("main", "vaultconnections", |main| main["status"]["conditions"] = sealed)
            },
            Some((Step::Unsealed, Reason::VaultSealed)),
        ),
    ];
    for (number, (fault, expected)) in faults.into_iter().enumerate() {
        let explanation = explanation(&["sbind/env"], fault(healthy())).await;
        let broken = explanation.links.iter().find(|link| link.state == State::Failed);
        let found = broken.map(|link| (link.step, link.reason.unwrap()));
        assert_eq!(found, expected, "{number}: {:#?}", explanation.links);
        assert_eq!(explanation.end == End::Whole, expected.is_none(), "{number}");
    }
    let hidden = explanation(&["sbind/env"], healthy().forbid("vaultconnections").forbid("secrets")).await;
    assert_eq!(hidden.links.iter().find(|link| link.state == State::Failed), None);
}

#[tokio::test]
async fn the_chain_of_a_trust_domain_ends_with_its_authority() {
    let explanation = explanation(&["td/prod"], healthy()).await;
    let steps: Vec<_> = explanation.links.iter().map(|link| link.step).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&Step::Connection), Some(&Step::Authority)));
    assert_eq!(explanation.end, End::Whole);
    let absent = super::tests::explanation(&["td/absent"], healthy()).await;
    assert_eq!(absent.links, []);
}

#[tokio::test]
async fn a_connection_that_may_not_be_read_is_unclear() {
    let explanation = explanation(&["vconn/main"], healthy().forbid("vaultconnections")).await;
    assert_eq!(code(explanation.end), UNSEEN);
    let rights: Vec<_> = explanation.links.iter().filter_map(|link| link.missing_right.as_deref()).collect();
    assert_eq!(rights, ["get vaultconnections.countersign.dev"]);
}

#[tokio::test]
async fn the_json_is_stable() {
    let objects = healthy().without("api", "serviceaccounts");
    let explanation = explanation(&["sid/api"], objects).await;
    let document: serde_json::Value = serde_json::from_str(&json("ExplainResult", &explanation)).unwrap();
    assert_eq!(document["apiVersion"], "cli.countersign.dev/v1");
    assert_eq!((&document["kind"], &document["object"]), (&json!("ExplainResult"), &json!("ServiceIdentity/api")));
    assert_eq!((&document["end"], &document["brokenAt"]), (&json!("Broken"), &json!("ServiceAccount")));
    let link = document["links"].as_array().unwrap().iter().find(|link| link["state"] == "Failed").unwrap();
    let expected = json!({"step": "ServiceAccount", "object": "ServiceAccount/api", "state": "Failed",
        "reason": "ServiceAccountMissing", "message": "serviceaccount api does not exist in namespace pay; create it",
        "next": "create the ServiceAccount, or correct spec.serviceAccountName"});
    assert_eq!(link, &expected);
}
