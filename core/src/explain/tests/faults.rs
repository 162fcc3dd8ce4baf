//! The named faults: each is marked at its own link, with its reason and a next step.

use serde_json::{Value, json};

use super::wire::{
    conditions, connection, domain, domain_up, found, healthy, identity, identity_up, identity_waits, now, read,
    secret_meta,
};
use crate::{
    api::Reason,
    explain::{
        End, Link, Look, State, Step,
        guard::Guard,
        identity::{Seen, identity as explain},
    },
};

/// Breaks the healthy world and names the link that must be marked.
fn check(step: Step, reason: Reason, breaks: impl FnOnce(&mut Seen)) -> Link {
    let mut seen = healthy();
    breaks(&mut seen);
    let chain = explain(&seen, now());
    let broken = chain.broken().cloned().unwrap_or_else(|| panic!("nothing is marked: {chain:#?}"));
    assert_eq!((broken.step, broken.reason), (step, Some(reason)), "{chain:#?}");
    assert_eq!(chain.end(), End::Broken);
    assert!(broken.next.is_some_and(|next| !next.is_empty()), "a failure needs a next step");
    assert!(chain.links.iter().map(|link| link.step).is_sorted(), "the order of the links is that of the gates");
    broken
}

fn says(seen: &mut Seen, object: Value) {
    seen.identity = read(object);
}

#[test]
fn a_healthy_identity_is_whole() {
    let chain = explain(&healthy(), now());
    assert_eq!(chain.end(), End::Whole, "{chain:#?}");
    assert!(chain.links.iter().all(|link| link.state == State::Ok), "{chain:#?}");
    assert_eq!(chain.links.len(), 19);
}

#[test]
fn an_embedded_authority_needs_no_connection() {
    let mut seen = healthy();
    let mut object = domain(&domain_up());
    object["spec"]["issuer"] = json!({"embedded": {}});
    seen.trust.domain = found(object);
    seen.trust.connection = Look::Absent;
    let chain = explain(&seen, now());
    assert_eq!(chain.end(), End::Whole, "{chain:#?}");
    assert!(chain.links.iter().all(|link| !(Step::Connection..=Step::Rate).contains(&link.step)), "{chain:#?}");
}

#[test]
fn domain_missing() {
    check(Step::Domain, Reason::TrustDomainNotFound, |seen| {
        seen.trust.domain = Look::Absent;
        seen.trust.connection = Look::Absent;
        seen.target = Look::Absent;
        says(seen, identity_waits("Reconciling", "TrustDomainNotFound", "trust domain prod does not exist"));
    });
}

#[test]
fn issuer_sealed() {
    let sealed = conditions(&[
        ("Ready", "False", "VaultSealed", "the server is sealed; unseal it"),
        ("Reachable", "True", "Reachable", "the server answers"),
        ("Authenticated", "True", "Authenticated", "the login works"),
        ("Sealed", "True", "VaultSealed", "the server is sealed; unseal it"),
        ("Reconciling", "True", "VaultSealed", "the server is sealed; unseal it"),
    ]);
    let unreachable = conditions(&[
        ("Ready", "True", "Valid", "the authority can sign"),
        ("IssuerReachable", "False", "ConnectionNotReady", "connection main cannot be used now"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
    ]);
    let broken = check(Step::Unsealed, Reason::VaultSealed, |seen| {
        seen.trust.connection = found(connection(&sealed));
        seen.trust.domain = found(domain(&unreachable));
    });
    assert_eq!(broken.object, "VaultConnection/main");
}

#[test]
fn login_refused() {
    let refused = conditions(&[
        ("Ready", "False", "LoginFailed", "the login was refused: role"),
        ("Reachable", "True", "Reachable", "the server answers"),
        ("Authenticated", "False", "LoginFailed", "the login was refused: role"),
        ("Stalled", "True", "LoginFailed", "the login was refused: role"),
    ]);
    check(Step::LoggedIn, Reason::LoginFailed, |seen| seen.trust.connection = found(connection(&refused)));
}

#[test]
fn role_refuses_a_name() {
    check(Step::Issued, Reason::RoleRefused, |seen| {
        seen.target = Look::Absent;
        says(seen, identity_waits("Stalled", "RoleRefused", "role workload refuses the request"));
    });
}

#[test]
fn a_renewal_that_the_role_refuses_leaves_the_stored_certificate_good() {
    let mut all = identity_up();
    let message = "role workload refuses the request";
    all[2] = conditions(&[("Issued", "False", "RoleRefused", message)])[0].clone();
    all.as_array_mut().unwrap().push(conditions(&[("Stalled", "True", "RoleRefused", message)])[0].clone());
    let mut seen = healthy();
    says(&mut seen, identity(&all));
    let chain = explain(&seen, now());
    assert_eq!(chain.broken().map(|link| link.step), Some(Step::Issued));
    let stored = chain.links.iter().find(|link| link.step == Step::Stored).unwrap();
    assert_eq!(stored.state, State::Ok);
}

#[test]
fn name_not_allowed() {
    let broken = check(Step::Names, Reason::NameNotAllowed, |seen| {
        seen.namespace = found(json!({"metadata": {"name": "pay", "labels": {"team": "other"}}}));
    });
    assert!(broken.message.contains("api.pay.internal"), "{}", broken.message);
    check(Step::Names, Reason::ReservedName, |seen| {
        let mut object = identity(&identity_up());
        object["spec"]["dnsNames"] = json!(["api.other.svc"]);
        says(seen, object);
    });
    check(Step::Names, Reason::TTLNotAllowed, |seen| {
        let mut object = identity(&identity_up());
        object["spec"]["ttl"] = json!("48h");
        says(seen, object);
    });
}

#[test]
fn account_missing() {
    check(Step::ServiceAccount, Reason::ServiceAccountMissing, |seen| seen.account = Look::Absent);
}

#[test]
fn service_missing_or_an_alias() {
    check(Step::Services, Reason::ServiceMissing, |seen| {
        seen.services.insert("api".to_owned(), Look::Absent);
    });
    check(Step::Services, Reason::ServiceMissing, |seen| {
        let alias = json!({"metadata": {"name": "api"}, "spec": {"type": "ExternalName"}});
        seen.services.insert("api".to_owned(), found(alias));
    });
}

#[test]
fn target_foreign() {
    let nobodys = json!({"name": "api-tls", "namespace": "pay", "resourceVersion": "7"});
    for meta in [nobodys, secret_meta("i-2")] {
        check(Step::TargetOwned, Reason::TargetNotOwned, |seen| seen.target = found(meta));
    }
}

#[test]
fn target_of_another_type_is_known_from_the_operator() {
    check(Step::TargetOwned, Reason::TargetTypeMismatch, |seen| {
        let message = "secret \"api-tls\" has type Opaque, not kubernetes.io/tls; name another";
        says(seen, identity_waits("Reconciling", "TargetTypeMismatch", message));
    });
}

#[test]
fn target_claimed_by_an_older_identity() {
    let broken = check(Step::TargetClaimed, Reason::TargetClaimed, |seen| {
        let mut older = identity(&identity_up());
        older["metadata"] = json!({"name": "first", "namespace": "pay", "uid": "i-9", "generation": 1,
            "creationTimestamp": "2026-11-30T00:00:00Z"});
        seen.siblings = Look::Found(vec![seen.identity.clone(), read(older)]);
    });
    assert!(broken.message.contains("pay/first"), "{}", broken.message);
}

#[test]
fn a_younger_claim_changes_nothing() {
    let mut seen = healthy();
    let mut younger = identity(&identity_up());
    younger["metadata"] = json!({"name": "second", "namespace": "pay", "uid": "i-0", "generation": 1,
        "creationTimestamp": "2026-12-02T00:00:00Z"});
    seen.siblings = Look::Found(vec![seen.identity.clone(), read(younger)]);
    assert_eq!(explain(&seen, now()).end(), End::Whole);
}

#[test]
fn fence_missing() {
    check(Step::Fence, Reason::FenceMissing, |seen| {
        seen.fence = Guard { policy: Look::Absent, binding: Look::Absent };
    });
    check(Step::Fence, Reason::FenceMissing, |seen| seen.fence.binding = Look::Absent);
    check(Step::Fence, Reason::FenceMissing, |seen| {
        seen.fence.binding = found(json!({"metadata": {"name": "countersign-operator-fence"},
            "spec": {"policyName": "countersign-operator-fence", "validationActions": ["Audit"]}}));
    });
    check(Step::Fence, Reason::FenceMissing, |seen| {
        seen.fence.policy =
            found(json!({"metadata": {"name": "countersign-operator-fence"}, "spec": {"failurePolicy": "Ignore"}}));
    });
    // The objects are there, and the operator still does not see them refuse.
    check(Step::Fence, Reason::FenceMissing, |seen| {
        says(seen, identity_waits("Reconciling", "FenceMissing", "the admission policy is not in force"));
    });
}

#[test]
fn suspended() {
    check(Step::Spec, Reason::Suspended, |seen| {
        let mut object = identity(&identity_up());
        object["spec"]["suspend"] = json!(true);
        says(seen, object);
    });
    check(Step::DomainAccepted, Reason::Suspended, |seen| {
        let mut object = domain(&domain_up());
        object["spec"]["suspend"] = json!(true);
        seen.trust.domain = found(object);
    });
    check(Step::Connection, Reason::Suspended, |seen| {
        let mut object = connection(&super::wire::connection_up());
        object["spec"]["suspend"] = json!(true);
        seen.trust.connection = found(object);
    });
}

#[test]
fn throttled() {
    check(Step::Issued, Reason::IssuanceThrottled, |seen| {
        let message = "too many certificates were issued for this identity";
        says(seen, identity_waits("Reconciling", "IssuanceThrottled", message));
        seen.target = Look::Absent;
    });
    let mut all = super::wire::connection_up();
    let throttled = conditions(&[("Throttled", "True", "Throttled", "the server refuses requests")]);
    all.as_array_mut().unwrap().push(throttled[0].clone());
    check(Step::Rate, Reason::Throttled, |seen| seen.trust.connection = found(connection(&all)));
}

#[test]
fn an_authority_that_cannot_sign() {
    let gone = conditions(&[
        ("Ready", "False", "RoleNotFound", "role workload does not exist"),
        ("IssuerReachable", "False", "RoleNotFound", "role workload does not exist"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
    ]);
    check(Step::IssuerReachable, Reason::RoleNotFound, |seen| seen.trust.domain = found(domain(&gone)));
    let lost = conditions(&[
        ("Ready", "False", "AuthorityLost", "the Secret is gone"),
        ("IssuerReachable", "True", "IssuerReachable", "the issuer can sign"),
        ("Accepted", "True", "Accepted", "the spec is understood and allowed"),
    ]);
    check(Step::Authority, Reason::AuthorityLost, |seen| seen.trust.domain = found(domain(&lost)));
}

#[test]
fn a_server_that_is_away() {
    let away = conditions(&[
        ("Ready", "False", "VaultUnavailable", "no answer"),
        ("Reachable", "False", "VaultUnavailable", "no answer"),
        ("Authenticated", "True", "Authenticated", "the login works"),
    ]);
    check(Step::Reachable, Reason::VaultUnavailable, |seen| seen.trust.connection = found(connection(&away)));
    check(Step::Connection, Reason::ConnectionNotFound, |seen| seen.trust.connection = Look::Absent);
}

#[test]
fn a_spec_that_does_not_parse() {
    check(Step::Spec, Reason::InvalidSpec, |seen| {
        let mut object = identity(&identity_up());
        object["spec"]["ttl"] = json!("ten");
        says(seen, object);
    });
}

#[test]
fn what_is_stored_ends_also_when_nobody_says_so() {
    check(Step::Stored, Reason::SecretMissing, |seen| seen.target = Look::Absent);
    let chain = explain(&healthy(), "2027-01-02T06:00:00Z".parse().unwrap());
    assert_eq!(chain.broken().map(|link| (link.step, link.reason)), Some((Step::Stored, Some(Reason::Expired))));
}

#[test]
fn an_overdue_renewal_is_the_last_link() {
    let mut all = identity_up();
    let overdue = conditions(&[("RenewalOverdue", "True", "RenewalOverdue", "should have been renewed")]);
    all.as_array_mut().unwrap().push(overdue[0].clone());
    check(Step::Renewal, Reason::RenewalOverdue, |seen| says(seen, identity(&all)));
}
