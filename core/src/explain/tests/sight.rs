//! What the caller may not see is unknown and named, and never taken for a fault.

use serde_json::json;

use super::wire::{found, healthy, identity, identity_up, identity_waits, now, read};
use crate::{
    api::Reason,
    explain::{
        End, Look, Right, State, Step, Unseen,
        guard::Guard,
        identity::{Seen, identity as explain},
    },
};

fn forbidden<T>(verb: &'static str, resource: &str, namespace: &str) -> Look<T> {
    let right = Right { verb, resource: resource.to_owned(), namespace: namespace.to_owned() };
    Look::Hidden(Unseen::Forbidden(right))
}

/// A member of a team that holds the role `view` in its own namespace.
fn member_of_a_team() -> Seen {
    let mut seen = healthy();
    seen.fence = Guard {
        policy: forbidden("get", "validatingadmissionpolicies.admissionregistration.k8s.io", ""),
        binding: forbidden("get", "validatingadmissionpolicybindings.admissionregistration.k8s.io", ""),
    };
    seen.trust.domain = forbidden("get", "trustdomains.countersign.dev", "");
    seen.trust.connection = Look::Absent;
    seen.namespace = forbidden("get", "namespaces", "");
    seen.target = forbidden("get", "secrets", "pay");
    seen
}

#[test]
fn a_hidden_link_is_unknown_and_its_right_is_named() {
    let chain = explain(&member_of_a_team(), now());
    assert_eq!(chain.broken(), None, "{chain:#?}");
    assert_eq!(chain.end(), End::Whole, "the certificate is valid, whoever may see the rest: {chain:#?}");
    let unknown: Vec<_> = chain
        .links
        .iter()
        .filter(|link| link.state == State::Unknown)
        .map(|link| (link.step, link.missing_right.as_deref()))
        .collect();
    let expected = [
        (Step::Fence, Some("get validatingadmissionpolicies.admissionregistration.k8s.io")),
        (Step::Domain, Some("get trustdomains.countersign.dev")),
        (Step::Names, None),
        (Step::TargetOwned, Some("get secrets in namespace pay")),
    ];
    assert_eq!(unknown, expected);
}

#[test]
fn the_operator_is_believed_about_what_the_caller_may_not_see() {
    for (progress, reason, step) in [
        ("Reconciling", Reason::FenceMissing, Step::Fence),
        ("Reconciling", Reason::VaultSealed, Step::Unsealed),
        ("Reconciling", Reason::TrustDomainNotFound, Step::Domain),
        ("Reconciling", Reason::TrustDomainNotReady, Step::Authority),
        ("Stalled", Reason::NameNotAllowed, Step::Names),
        ("Reconciling", Reason::TargetNotOwned, Step::TargetOwned),
        ("Stalled", Reason::RoleRefused, Step::Issued),
    ] {
        let mut seen = member_of_a_team();
        seen.identity = read(identity_waits(progress, &format!("{reason:?}"), "said by the operator"));
        let chain = explain(&seen, now());
        let broken = chain.broken().unwrap_or_else(|| panic!("{reason:?}: {chain:#?}"));
        assert_eq!((broken.step, broken.reason, &*broken.message), (step, Some(reason), "said by the operator"));
        assert!(chain.links.iter().map(|link| link.step).is_sorted(), "{chain:#?}");
    }
}

#[test]
fn a_status_of_an_older_spec_says_nothing() {
    let mut seen = healthy();
    let mut object = identity(&identity_up());
    object["metadata"]["generation"] = json!(4);
    seen.identity = read(object);
    let chain = explain(&seen, now());
    let issued = chain.links.iter().find(|link| link.step == Step::Issued).unwrap();
    assert_eq!((issued.state, issued.next.is_some()), (State::Unknown, true));
    assert_eq!(chain.broken(), None);
}

#[test]
fn a_fresh_identity_is_unclear() {
    let mut seen = healthy();
    let mut object = identity(&identity_up());
    object["status"] = json!({"observedGeneration": -1});
    seen.identity = read(object);
    let chain = explain(&seen, now());
    assert_eq!((chain.broken(), chain.end()), (None, End::Unclear), "{chain:#?}");
}

#[test]
fn what_was_repaired_is_not_marked_again() {
    let mut seen = healthy();
    seen.identity = read(identity_waits("Reconciling", "ServiceAccountMissing", "serviceaccount api does not exist"));
    seen.target = Look::Found(read(super::wire::secret_meta("i-1")));
    let chain = explain(&seen, now());
    let state = |step| chain.links.iter().find(|link| link.step == step).map(|link| link.state);
    assert_eq!((state(Step::ServiceAccount), state(Step::Issued)), (Some(State::Ok), Some(State::Unknown)));
}

#[test]
fn labels_that_are_hidden_matter_only_if_a_rule_asks_for_them() {
    let mut seen = healthy();
    seen.namespace = forbidden("get", "namespaces", "");
    let names = |seen: &Seen| explain(seen, now()).links.into_iter().find(|link| link.step == Step::Names).unwrap();
    let hidden = names(&seen);
    assert_eq!((hidden.state, hidden.missing_right.as_deref()), (State::Unknown, Some("get namespaces")));
    let mut object = super::wire::domain(&super::wire::domain_up());
    object["spec"]["allow"] = json!([{"namespaces": {"names": ["pay"]}, "dnsNames": ["api.pay.internal"]}]);
    seen.trust.domain = found(object.clone());
    assert_eq!(names(&seen).state, State::Ok);
    object["spec"]["allow"] = json!([]);
    seen.trust.domain = found(object);
    assert_eq!(names(&seen).reason, Some(Reason::NameNotAllowed));
}
