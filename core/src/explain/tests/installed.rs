//! What an installation must have, and what of it may stay unknown.

use serde_json::{Value, json};

use super::wire::{connection, connection_up, domain, domain_up, found, guard, now, read};
use crate::{
    api::all_crds,
    explain::{
        Look, Right, State, Unseen,
        installation::{Check, Seen, checks, passed},
    },
    rights::DELETION_GUARD,
};

fn lease(holder: &str, renewed: &str) -> Value {
    json!({"metadata": {"name": "countersign-controller"},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}})
}

fn installed() -> Seen {
    let served = |crd| {
        let mut crd = serde_json::to_value(crd).unwrap();
        crd["status"] = json!({"conditions": [{"type": "Established", "status": "True", "reason": "x",
            "message": "", "lastTransitionTime": "2027-01-01T00:00:00Z"}], "acceptedNames": {"kind": "x", "plural": "x"}});
        found(crd)
    };
    Seen {
        definitions: all_crds().into_iter().map(served).collect(),
        lease_name: "countersign-controller".to_owned(),
        lease: found(lease("pod_7", "2027-01-01T11:59:50.000000Z")),
        renewed: false,
        fence: guard("countersign-operator-fence"),
        deletion: guard(DELETION_GUARD),
        connections: Ok(vec![read(connection(&connection_up()))]),
        domains: Ok(vec![read(domain(&domain_up()))]),
    }
}

fn hidden<T>(resource: &str) -> Look<T> {
    Look::Hidden(forbidden(resource))
}

fn forbidden(resource: &str) -> Unseen {
    Unseen::Forbidden(Right { verb: "get", resource: resource.to_owned(), namespace: String::new() })
}

/// The one check that is not as it should be, after `breaks`.
fn check(breaks: impl FnOnce(&mut Seen)) -> (Check, bool) {
    let mut seen = installed();
    breaks(&mut seen);
    let checks = checks(&seen, now());
    let bad: Vec<_> = checks.iter().filter(|check| check.state != State::Ok).cloned().collect();
    assert_eq!(bad.len(), 1, "{checks:#?}");
    (bad[0].clone(), passed(&checks))
}

#[test]
fn a_fresh_installation_passes() {
    let all = checks(&installed(), now());
    assert!(all.iter().all(|check| check.state == State::Ok), "{all:#?}");
    assert!(passed(&all));
    assert_eq!(all.len(), 13);
}

/// Breaks one part of an installation.
type Break = fn(&mut Seen);

#[test]
fn each_gap_is_named_and_fails() {
    let gaps: [(&str, Break); 14] = [
        ("CustomResourceDefinition/vaultconnections.countersign.dev", |seen| seen.definitions[0] = Look::Absent),
        ("CustomResourceDefinition/trustdomains.countersign.dev", |seen| {
            let Look::Found(crd) = &mut seen.definitions[1] else { panic!("not found") };
            let schema = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            schema.properties.as_mut().unwrap().get_mut("spec").unwrap().properties.as_mut().unwrap().remove("issuer");
        }),
        ("CustomResourceDefinition/serviceidentities.countersign.dev", |seen| {
            let Look::Found(crd) = &mut seen.definitions[2] else { panic!("not found") };
            crd.status = None;
        }),
        ("CustomResourceDefinition/vaultconnections.countersign.dev", |seen| {
            seen.definitions[0] = hidden("customresourcedefinitions.apiextensions.k8s.io");
        }),
        ("ValidatingAdmissionPolicy/countersign-operator-fence", |seen| seen.fence.policy = Look::Absent),
        ("ValidatingAdmissionPolicy/countersign-operator-fence", |seen| seen.fence.binding = hidden("x")),
        ("ValidatingAdmissionPolicy/countersign-crd-deletion", |seen| seen.deletion.binding = Look::Absent),
        ("ValidatingAdmissionPolicy/countersign-operator-fence", |seen| {
            let Look::Found(binding) = &mut seen.fence.binding else { panic!("not found") };
            let elsewhere = json!({"namespaceSelector": {"matchLabels": {"team": "a"}}});
            binding.spec.as_mut().unwrap().match_resources = Some(read(elsewhere));
        }),
        ("Lease/countersign-controller", |seen| seen.lease = Look::Absent),
        ("Lease/countersign-controller", |seen| seen.lease = found(lease("", "2027-01-01T11:59:50.000000Z"))),
        ("Lease/countersign-controller", |seen| seen.lease = found(lease("pod_7", "2027-01-01T11:59:44.000000Z"))),
        ("VaultConnection/main", |seen| {
            let mut object = connection(&connection_up());
            object["metadata"]["generation"] = json!(4);
            seen.connections = Ok(vec![read(object)]);
        }),
        ("TrustDomain/prod", |seen| {
            let mut object = domain(&domain_up());
            object["status"] = json!({"observedGeneration": -1});
            seen.domains = Ok(vec![read(object)]);
        }),
        ("TrustDomain/-", |seen| seen.domains = Err(Unseen::NoSuchKind)),
    ];
    for (object, breaks) in gaps {
        let (bad, passed) = check(breaks);
        assert_eq!((bad.object.as_str(), passed), (object, false), "{bad:#?}");
    }
}

#[test]
fn the_guard_of_our_definitions_may_stay_unknown() {
    let (unknown, passed) =
        check(|seen| seen.deletion.policy = hidden("validatingadmissionpolicies.admissionregistration.k8s.io"));
    assert_eq!((unknown.state, unknown.missing_right.is_some(), passed), (State::Unknown, true, true));
}

#[test]
fn a_definition_counts_by_its_fields_not_by_who_wrote_it() {
    let mut seen = installed();
    let Look::Found(crd) = &mut seen.definitions[0] else { panic!("not found") };
    crd.metadata.annotations = None;
    assert!(passed(&checks(&seen, now())));
}

/// The API server fills these in where a binding has `matchResources` at all; they leave nothing out.
#[test]
fn a_binding_with_empty_selectors_covers_everything() {
    let mut seen = installed();
    let Look::Found(binding) = &mut seen.fence.binding else { panic!("not found") };
    let all = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
    binding.spec.as_mut().unwrap().match_resources = Some(read(all));
    assert!(passed(&checks(&seen, now())));
}

#[test]
fn a_lease_that_moves_is_held_whatever_the_clocks_say() {
    let mut seen = installed();
    seen.lease = found(lease("pod_7", "2027-01-01T11:00:00.000000Z"));
    assert!(!passed(&checks(&seen, now())));
    seen.renewed = true;
    assert!(passed(&checks(&seen, now())));
}

#[test]
fn a_connection_that_is_down_is_not_a_bad_installation() {
    let mut seen = installed();
    let down = super::wire::conditions(&[("Ready", "False", "VaultSealed", "the server is sealed; unseal it")]);
    seen.connections = Ok(vec![read(connection(&down))]);
    let all = checks(&seen, now());
    assert!(passed(&all), "{all:#?}");
    assert!(all.iter().any(|check| check.message.contains("Ready=False (VaultSealed)")), "{all:#?}");
    seen.connections = Ok(Vec::new());
    assert!(passed(&checks(&seen, now())), "none is none");
}
