//! Whether an admission policy of ours is in force, as far as its objects tell.

use k8s_openapi::{
    api::admissionregistration::v1::{MatchResources, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::explain::{Look, Unseen};

/// A policy and its binding, which have one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// What it refuses.
    pub policy: Look<ValidatingAdmissionPolicy>,
    /// That it does so everywhere.
    pub binding: Look<ValidatingAdmissionPolicyBinding>,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap<'a> {
    /// It does not refuse what it should, in our words.
    Open(&'static str),
    /// One of the two could not be seen.
    Hidden(&'a Unseen),
}

/// The first thing that keeps a guard from refusing; `None` = it is in force.
///
/// What is missing outweighs what is hidden: one of the two alone refuses nothing.
pub fn gap(guard: &Guard) -> Option<Gap<'_>> {
    if let Some(open) = policy_gap(&guard.policy).or_else(|| binding_gap(&guard.binding)) {
        return Some(Gap::Open(open));
    }
    match (&guard.policy, &guard.binding) {
        (Look::Hidden(why), _) | (_, Look::Hidden(why)) => Some(Gap::Hidden(why)),
        (Look::Found(_) | Look::Absent, Look::Found(_) | Look::Absent) => None,
    }
}

fn policy_gap(policy: &Look<ValidatingAdmissionPolicy>) -> Option<&'static str> {
    match policy {
        Look::Absent => Some("the admission policy does not exist"),
        Look::Hidden(_) => None,
        Look::Found(policy) => {
            let failure_policy = policy.spec.as_ref().and_then(|spec| spec.failure_policy.as_deref());
            let closed = failure_policy.is_none_or(|policy| policy == "Fail");
            (!closed).then_some("the admission policy lets requests pass that it cannot judge")
        }
    }
}

fn binding_gap(binding: &Look<ValidatingAdmissionPolicyBinding>) -> Option<&'static str> {
    match binding {
        Look::Absent => Some("the admission policy is not bound"),
        Look::Hidden(_) => None,
        Look::Found(binding) => {
            let Some(spec) = &binding.spec else { return Some("the binding is empty") };
            let denies = spec.validation_actions.iter().flatten().any(|action| action == "Deny");
            let everywhere = spec.match_resources.as_ref().is_none_or(leaves_nothing_out);
            if spec.policy_name != binding.metadata.name {
                Some("the binding names another policy")
            } else if !denies {
                Some("the binding does not deny")
            } else {
                (!everywhere).then_some("the binding does not cover the whole cluster")
            }
        }
    }
}

/// Whether a selection selects everything. The API server fills in empty selectors where there is one at all.
fn leaves_nothing_out(selection: &MatchResources) -> bool {
    let all = |selector: &Option<LabelSelector>| selector.as_ref().is_none_or(|one| *one == LabelSelector::default());
    all(&selection.namespace_selector)
        && all(&selection.object_selector)
        && selection.resource_rules.as_ref().is_none_or(Vec::is_empty)
        && selection.exclude_resource_rules.as_ref().is_none_or(Vec::is_empty)
}
