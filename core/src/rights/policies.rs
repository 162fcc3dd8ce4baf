//! The admission policies that fence in what RBAC alone cannot, as CEL.
//!
//! They run inside the API server, so there is no webhook to keep alive. Each object of a policy is
//! reached through `dyn(..)` where a policy matches more than one kind: the API server type-checks
//! expressions against every matched kind and would warn about fields that only one of them has.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicySpec, Validation, Variable,
};

use super::{DELETION_GUARD, Installation, KINDS, MAX_TOKEN_SECONDS, OPERATOR_FENCE};
use crate::api::{ALLOW_DELETION, GROUP, MANAGED_BY, MANAGED_BY_LABEL, VERSION};

/// One admission policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Name of the policy and of its binding.
    pub name: &'static str,
    /// The key under which an installation sets what happens on a violation.
    pub key: &'static str,
    /// What it refuses, one sentence.
    pub purpose: &'static str,
    /// Matches and expressions.
    pub spec: ValidatingAdmissionPolicySpec,
}

/// The keys of all policies, in the order of the documentation.
pub const POLICY_KEYS: [&str; 3] = ["operatorFence", "crdDeletion", "serviceAccountUse"];

/// Every admission policy of an installation.
pub fn policies(at: &Installation) -> Vec<Policy> {
    let [fence, deletion, account_use] = POLICY_KEYS;
    vec![
        Policy {
            name: OPERATOR_FENCE,
            key: fence,
            purpose: "The operator's account may make, read and change only Secrets and NetworkPolicies that carry our \
                      label, no Secret of a type that is a credential for the cluster, may ask only for short tokens \
                      of one allowed audience, and may not change the spec of our kinds.",
            spec: operator_fence(at),
        },
        Policy {
            name: DELETION_GUARD,
            key: deletion,
            purpose: "A CustomResourceDefinition of ours can be deleted only after it was annotated \
                      countersign.dev/allow-deletion: \"true\", because it takes every object and every owned Secret \
                      along.",
            spec: crd_deletion(),
        },
        Policy {
            name: "countersign-service-account-use",
            key: account_use,
            purpose: "Who writes the spec of a ServiceIdentity or SecretBinding must be allowed to create tokens for the \
                      ServiceAccount it names.",
            spec: service_account_use(),
        },
    ]
}

/// No exception for the operator's own namespace: all it writes there carries our label too, a token
/// Secret or a forged release record there would be as bad as elsewhere, and the canary proves the
/// very expressions that guard all other namespaces.
fn operator_fence(at: &Installation) -> ValidatingAdmissionPolicySpec {
    let Installation { namespace, service_account, token_audiences, .. } = at;
    let carries_label =
        |object: &str| format!("dyn({object}).metadata.?labels['{MANAGED_BY_LABEL}'].orValue('') == '{MANAGED_BY}'");
    // Helm's release records are among them: a rollback would apply a forged one with its caller's rights.
    let credentials = "['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token', 'helm.sh/release.v1']";
    let own_kinds = KINDS.map(|kind| (GROUP, VERSION, kind, &["UPDATE"][..]));
    let mut seen = vec![
        ("", "v1", "secrets", &["CREATE", "UPDATE", "DELETE"][..]),
        ("", "v1", "serviceaccounts/token", &["CREATE"][..]),
        ("networking.k8s.io", "v1", "networkpolicies", &["CREATE", "UPDATE", "DELETE"][..]),
    ];
    seen.extend(own_kinds);
    ValidatingAdmissionPolicySpec {
        match_constraints: Some(matching(&seen)),
        match_conditions: Some(vec![MatchCondition {
            name: "operator".into(),
            expression: format!("request.userInfo.username == 'system:serviceaccount:{namespace}:{service_account}'"),
        }]),
        variables: Some(vec![
            Variable { name: "secret".into(), expression: "request.resource.resource == 'secrets'".into() },
            Variable { name: "policy".into(), expression: "request.resource.resource == 'networkpolicies'".into() },
            Variable { name: "token".into(), expression: "request.resource.resource == 'serviceaccounts'".into() },
            Variable { name: "audiences".into(), expression: "dyn(object).spec.?audiences.orValue([])".into() },
        ]),
        validations: Some(vec![
            refuse(
                format!("!variables.secret || request.operation == 'CREATE' || {}", carries_label("oldObject")),
                format!(
                    "countersign may read, change and delete only Secrets labelled {MANAGED_BY_LABEL}={MANAGED_BY}"
                ),
            ),
            refuse(
                format!("!variables.secret || request.operation == 'DELETE' || {}", carries_label("object")),
                format!("a Secret that countersign writes must be labelled {MANAGED_BY_LABEL}={MANAGED_BY}"),
            ),
            refuse(
                format!(
                    "!variables.secret || request.operation == 'DELETE' || \
                     !(dyn(object).?type.orValue('') in {credentials})"
                ),
                "countersign may not write a Secret of a type that the cluster takes for a credential".to_owned(),
            ),
            refuse(
                format!("!variables.policy || request.operation == 'CREATE' || {}", carries_label("oldObject")),
                format!(
                    "countersign may change and delete only NetworkPolicies labelled {MANAGED_BY_LABEL}={MANAGED_BY}"
                ),
            ),
            refuse(
                format!("!variables.policy || request.operation == 'DELETE' || {}", carries_label("object")),
                format!("a NetworkPolicy that countersign writes must be labelled {MANAGED_BY_LABEL}={MANAGED_BY}"),
            ),
            refuse(
                format!(
                    "!variables.token || size(variables.audiences) == 1 && variables.audiences[0] in {token_audiences}"
                ),
                "countersign may ask for tokens of exactly one audience, out of the chart's tokenAudiences".to_owned(),
            ),
            refuse(
                format!("!variables.token || dyn(object).spec.expirationSeconds <= {MAX_TOKEN_SECONDS}"),
                format!("countersign may ask for tokens of at most {MAX_TOKEN_SECONDS} seconds"),
            ),
            forbid(
                format!("request.resource.group != '{GROUP}' || dyn(object).spec == dyn(oldObject).spec"),
                "countersign may not change what its users declare".to_owned(),
            ),
        ]),
        ..closed_on_errors()
    }
}

fn crd_deletion() -> ValidatingAdmissionPolicySpec {
    ValidatingAdmissionPolicySpec {
        match_constraints: Some(matching(&[("apiextensions.k8s.io", "v1", "customresourcedefinitions", &["DELETE"])])),
        match_conditions: Some(vec![MatchCondition {
            name: "ours".into(),
            expression: format!("oldObject.spec.group == '{GROUP}'"),
        }]),
        validations: Some(vec![forbid(
            format!("oldObject.metadata.?annotations['{ALLOW_DELETION}'].orValue('') == 'true'"),
            format!(
                "deleting this definition deletes every object of its kind and every Secret they own; annotate it \
                 {ALLOW_DELETION}=true first"
            ),
        )]),
        ..closed_on_errors()
    }
}

/// Only a changed spec asks for the right: whoever merely labels, annotates or garbage-collects an
/// object gains nothing from its account. The operator has no such right for foreign accounts, so
/// even a stolen operator token cannot change what an identity asks for.
fn service_account_use() -> ValidatingAdmissionPolicySpec {
    ValidatingAdmissionPolicySpec {
        match_constraints: Some(matching(&[
            (GROUP, VERSION, "serviceidentities", &["CREATE", "UPDATE"]),
            (GROUP, VERSION, "secretbindings", &["CREATE", "UPDATE"]),
        ])),
        match_conditions: Some(vec![MatchCondition {
            name: "spec-written".into(),
            expression: "request.operation == 'CREATE' || dyn(object).spec != dyn(oldObject).spec".into(),
        }]),
        variables: Some(vec![Variable {
            name: "account".into(),
            expression: "dyn(object).spec.?serviceAccountName.orValue('')".into(),
        }]),
        validations: Some(vec![Validation {
            message_expression: Some(
                "'you may not create tokens for serviceaccount \"' + variables.account + '\" in this namespace'".into(),
            ),
            ..forbid(
                // A binding may name no account: the operator's own login reads then, as far as a grant admits.
                "variables.account == '' || authorizer.group('').resource('serviceaccounts').subresource('token')\
                 .namespace(request.namespace).name(variables.account).check('create').allowed()"
                    .to_owned(),
                "you may not create tokens for this serviceaccount".to_owned(),
            )
        }]),
        ..closed_on_errors()
    }
}

/// A fence that lets requests pass when it cannot be evaluated would be none.
fn closed_on_errors() -> ValidatingAdmissionPolicySpec {
    ValidatingAdmissionPolicySpec { failure_policy: Some("Fail".into()), ..ValidatingAdmissionPolicySpec::default() }
}

/// 422 `Invalid`: the operator tells a refusal by the fence from a missing right, which is 403.
fn refuse(expression: String, message: String) -> Validation {
    Validation { expression, message: Some(message), message_expression: None, reason: Some("Invalid".into()) }
}

/// 403 `Forbidden`: what nobody in that position may do, however the request looks.
fn forbid(expression: String, message: String) -> Validation {
    Validation { reason: Some("Forbidden".into()), ..refuse(expression, message) }
}

/// Group, version, resource and operations of what a policy sees.
fn matching(rules: &[(&str, &str, &str, &[&str])]) -> MatchResources {
    let rules = rules
        .iter()
        .map(|(group, version, resource, operations)| NamedRuleWithOperations {
            api_groups: Some(vec![(*group).to_owned()]),
            api_versions: Some(vec![(*version).to_owned()]),
            operations: Some(operations.iter().map(ToString::to_string).collect()),
            resources: Some(vec![(*resource).to_owned()]),
            ..NamedRuleWithOperations::default()
        })
        .collect();
    MatchResources { resource_rules: Some(rules), ..MatchResources::default() }
}
