//! Arguments, the wait, and the lines.

use clap::Parser;
use countersign_core::api::all_crds;
use serde_json::json;

use super::*;
use crate::cli::fake::{Objects, healthy};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(words: &[&str]) -> Result<Arguments, clap::error::ErrorKind> {
    let line = Line::try_parse_from(std::iter::once(&"check").chain(words));
    line.map(|line| line.arguments).map_err(|error| error.kind())
}

/// As the chart's test calls it.
const HELM_TEST: &[&str] = &["--in-cluster", "--wait", "60s"];

fn installed(renewed: &str) -> Objects {
    let mut objects = healthy().with(
        "/apis/coordination.k8s.io/v1/namespaces/countersign-system/leases",
        json!({"metadata": {"name": "countersign-controller", "namespace": "countersign-system"},
            "spec": {"holderIdentity": "pod_7", "renewTime": renewed, "leaseDurationSeconds": 15}}),
    );
    for crd in all_crds() {
        let mut crd = serde_json::to_value(crd).unwrap();
        crd["status"] = json!({"conditions": [{"type": "Established", "status": "True", "reason": "x",
            "message": "", "lastTransitionTime": "2027-01-01T00:00:00Z"}], "acceptedNames": {"kind": "x", "plural": "x"}});
        objects = objects.with("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd);
    }
    for kind in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
        let spec = json!({"failurePolicy": "Fail", "policyName": DELETION_GUARD, "validationActions": ["Deny"]});
        let object = json!({"metadata": {"name": DELETION_GUARD}, "spec": spec});
        objects = objects.with(&format!("/apis/admissionregistration.k8s.io/v1/{kind}"), object);
    }
    objects
}

fn clock(scale: u32) -> Clock {
    Clock::simulated("2027-01-01T12:00:00Z".parse().unwrap(), scale)
}

#[test]
fn flags_are_checked() {
    let arguments = parse(HELM_TEST).unwrap();
    assert_eq!((arguments.in_cluster, arguments.wait), (true, Duration::from_secs(60)));
    assert_eq!(arguments.operator_namespace, "countersign-system");
    assert_eq!(parse(&["--in-cluster"]).unwrap().wait, Duration::ZERO);
    assert!(parse(&["--kubeconfig", "file"]).is_ok());
    assert_eq!(parse(&[]).err(), Some(clap::error::ErrorKind::MissingRequiredArgument));
    let both = ["--in-cluster", "--kubeconfig", "file"];
    assert_eq!(parse(&both).err(), Some(clap::error::ErrorKind::ArgumentConflict));
    for bad in ["60", "2h", "-1s"] {
        assert_eq!(
            parse(&["--in-cluster", &format!("--wait={bad}")]).err(),
            Some(clap::error::ErrorKind::ValueValidation),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_fresh_installation_as_helm_test_sees_it() {
    let view = installed("2027-01-01T11:59:50.000000Z").view();
    let verdict = verdict(&parse(HELM_TEST).unwrap(), &view, &clock(0)).await;
    let text = text(&verdict);
    let expected = "\
ok       CustomResourceDefinition/vaultconnections.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/trustdomains.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/serviceidentities.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/secretbindings.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/segments.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/accessgrants.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/accessrequests.countersign.dev: served, with every field of this version
ok       CustomResourceDefinition/externalservices.countersign.dev: served, with every field of this version
ok       ValidatingAdmissionPolicy/countersign-operator-fence: it is there, bound, and denies
ok       ValidatingAdmissionPolicy/countersign-crd-deletion: it is there, bound, and denies
ok       Lease/countersign-controller: pod_7 leads and renews it
ok       VaultConnection/main: reported on: Ready=True (Authenticated)
ok       TrustDomain/prod: reported on: Ready=True (Valid)
passed
";
    assert_eq!(text, expected, "\n{text}");
}

#[tokio::test(start_paused = true)]
async fn what_stays_bad_is_reported_when_the_time_is_up() {
    let view = installed("2027-01-01T11:59:30.000000Z").view();
    let begun = tokio::time::Instant::now();
    let verdict = verdict(&parse(HELM_TEST).unwrap(), &view, &clock(0)).await;
    assert!(!verdict.passed);
    let waited = begun.elapsed();
    assert!(waited <= Duration::from_secs(60) && waited >= Duration::from_secs(56), "{waited:?}");
    let text = text(&verdict);
    assert!(
        text.contains("\nFAILED   Lease/countersign-controller: pod_7 holds it and has not renewed it for 30 s"),
        "{text}"
    );
    assert!(text.ends_with("\nnot as it should be\n"), "{text}");
}

#[tokio::test]
async fn without_a_wait_there_is_one_look() {
    let view = Objects::default().view();
    let verdict = verdict(&parse(&["--in-cluster"]).unwrap(), &view, &clock(0)).await;
    assert!(!verdict.passed);
    let document: serde_json::Value = serde_json::from_str(&json("CheckResult", &verdict)).unwrap();
    let expected = json!({"object": "CustomResourceDefinition/vaultconnections.countersign.dev", "state": "Failed",
        "needed": true, "message": "it does not exist",
        "next": "`helm upgrade`, or apply the output of `countersign crds`"});
    assert_eq!((&document["passed"], &document["checks"][0]), (&json!(false), &expected));
}
