//! Rights: what the operator, its checks and its users may do in a cluster, as tables.
//!
//! [`roles`] holds every RBAC rule with the reason it is granted for, [`policies`] the admission
//! policies that fence in what RBAC alone cannot. The chart, `docs/reference/rbac.md` and the tests
//! are made from these tables, so they cannot differ. A verb stands here with the feature that uses
//! it, not before.
//!
//! Nothing here knows Helm, YAML or a cluster: names arrive in an [`Installation`], and a chart
//! generator may well put placeholders there.

mod policies;

use k8s_openapi::api::rbac::v1::PolicyRule;

pub use policies::{POLICY_KEYS, Policy, policies};

use crate::api::GROUP;

/// The Secret without our label that every installation has in the operator's namespace: an empty
/// merge patch on it must be refused with 422 `Invalid`, or the fence is not in force.
///
/// The fence has no exception for the operator's own namespace, so this one refusal is decided by
/// the same expressions that guard every other namespace.
pub const FENCE_CANARY: &str = "countersign-fence-canary";

/// Name of the policy that fences in the operator's account, and of its binding.
pub const OPERATOR_FENCE: &str = "countersign-operator-fence";

/// Name of the policy that keeps our CRDs from being deleted by mistake, and of its binding.
pub const DELETION_GUARD: &str = "countersign-crd-deletion";

/// The longest life of a token the operator may ask for, in seconds.
pub const MAX_TOKEN_SECONDS: i64 = 600;

/// Plural names of our kinds, in the order of the documentation.
pub const KINDS: [&str; 8] = [
    "vaultconnections",
    "trustdomains",
    "serviceidentities",
    "secretbindings",
    "segments",
    "accessgrants",
    "accessrequests",
    "externalservices",
];

/// The names that rules and policies depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The operator's namespace.
    pub namespace: String,
    /// The operator's ServiceAccount.
    pub service_account: String,
    /// The leader Lease.
    pub lease: String,
    /// The audiences the operator may ask tokens for, as a CEL list such as `["vault"]`.
    pub token_audiences: String,
}

/// One role and who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Name of the role and of its binding.
    pub name: &'static str,
    /// Where its rules hold.
    pub scope: Scope,
    /// Who gets it.
    pub holder: Holder,
    /// What it is for, one sentence.
    pub purpose: &'static str,
    /// Its rules, no two alike.
    pub rules: Vec<Rule>,
}

/// Where a role's rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In the operator's namespace only.
    OperatorNamespace,
}

/// Who gets a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The operator's ServiceAccount.
    Operator,
    /// The ServiceAccount that `helm test` checks the installation with.
    Check,
    /// Whoever holds the built-in role `view`, by aggregation.
    Viewers,
    /// Whoever an administrator binds it to; part of the built-in role `edit` on request.
    Teams,
    /// Whoever an administrator binds it to; never part of a built-in role.
    Egress,
}

/// A verb that some rule grants. There is no wildcard, `escalate`, `bind` or `impersonate` to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object by name.
    Get,
    /// Read all.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Change parts of one, also by server-side apply.
    Patch,
    /// Replace one.
    Update,
    /// Remove one.
    Delete,
}

impl Verb {
    /// As RBAC spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One RBAC rule and the reason it is granted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with `/subresource` where only that is meant.
    pub resources: Vec<String>,
    /// Only objects with these names; empty = all.
    pub names: Vec<String>,
    /// What may be done.
    pub verbs: &'static [Verb],
    /// Why, one sentence.
    pub why: &'static str,
}

impl Rule {
    fn new(group: &'static str, resources: &[&str], verbs: &'static [Verb], why: &'static str) -> Self {
        Self { group, resources: resources.iter().map(ToString::to_string).collect(), names: Vec::new(), verbs, why }
    }

    fn only(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.names = names.into_iter().collect();
        self
    }
}

impl From<&Rule> for PolicyRule {
    fn from(rule: &Rule) -> Self {
        Self {
            api_groups: Some(vec![rule.group.to_owned()]),
            resources: Some(rule.resources.clone()),
            resource_names: (!rule.names.is_empty()).then(|| rule.names.clone()),
            verbs: rule.verbs.iter().map(|verb| verb.as_str().to_owned()).collect(),
            non_resource_urls: None,
        }
    }
}

/// Every role of an installation.
pub fn roles(at: &Installation) -> Vec<Role> {
    vec![
        Role {
            name: "countersign-operator",
            scope: Scope::Cluster,
            holder: Holder::Operator,
            purpose: "What the operator does in every namespace.",
            rules: operator_everywhere(),
        },
        Role {
            name: "countersign-operator",
            scope: Scope::OperatorNamespace,
            holder: Holder::Operator,
            purpose: "What the operator does in its own namespace.",
            rules: operator_at_home(at),
        },
        Role {
            name: "countersign-check",
            scope: Scope::Cluster,
            holder: Holder::Check,
            purpose: "What `countersign check --in-cluster` reads, as run by `helm test`.",
            rules: check_everywhere(),
        },
        Role {
            name: "countersign-check",
            scope: Scope::OperatorNamespace,
            holder: Holder::Check,
            purpose: "What `countersign check --in-cluster` reads in the operator's namespace.",
            rules: vec![
                Rule::new("coordination.k8s.io", &["leases"], &[Get], "says who leads and since when")
                    .only([at.lease.clone()]),
            ],
        },
        Role {
            name: "countersign-view",
            scope: Scope::Cluster,
            holder: Holder::Viewers,
            purpose: "Read our kinds. They hold no secret values.",
            rules: vec![Rule::new(GROUP, &KINDS, READ, "who may view a namespace may see its identities and bindings")],
        },
        Role {
            name: "countersign-team",
            scope: Scope::Cluster,
            holder: Holder::Teams,
            purpose: "What a team does with the kinds of its own namespace; bind it with a RoleBinding.",
            rules: vec![Rule::new(
                GROUP,
                &["serviceidentities", "secretbindings", "accessgrants", "accessrequests"],
                &[Get, List, Watch, Create, Patch, Update, Delete],
                "teams declare their own identities, bindings, grants and requests; cluster-scoped kinds stay with \
                 administrators",
            )],
        },
        Role {
            name: "countersign-team-egress",
            scope: Scope::Cluster,
            holder: Holder::Egress,
            purpose: "What a team may decide about traffic that leaves the cluster; bind it with a RoleBinding, apart \
                      from the team's other rights.",
            rules: vec![Rule::new(
                GROUP,
                &["externalservices"],
                &[Get, List, Watch, Create, Patch, Update, Delete],
                "who may name a place outside the cluster decides what leaves it",
            )],
        },
    ]
}

fn operator_everywhere() -> Vec<Rule> {
    let status: Vec<String> = KINDS.iter().map(|kind| format!("{kind}/status")).collect();
    let status: Vec<&str> = status.iter().map(String::as_str).collect();
    vec![
        Rule::new(GROUP, &KINDS, FOLLOW, "the objects the operator works for"),
        Rule::new(GROUP, &status, &[Patch], "what the operator reports"),
        Rule::new(
            "",
            &["namespaces", "serviceaccounts", "services"],
            FOLLOW,
            "selectors of trust domains and segments, and the names a certificate may carry",
        ),
        Rule::new(
            "",
            &["pods", "nodes"],
            FOLLOW,
            "which labels select exactly the pods of an identity, their ports, and the addresses of nodes; environment \
             and volumes are never decoded",
        ),
        Rule::new(
            "apps",
            &["deployments", "statefulsets", "daemonsets", "replicasets"],
            FOLLOW,
            "the workloads of an identity, also those without a pod now",
        ),
        Rule::new(
            "discovery.k8s.io",
            &["endpointslices"],
            FOLLOW,
            "where the Kubernetes API is; only those of the namespace default are watched",
        ),
        Rule::new("batch", &["jobs", "cronjobs"], FOLLOW, "the workloads of an identity, also those without a pod now"),
        Rule::new(
            "networking.k8s.io",
            &["networkpolicies"],
            &[List, Watch, Create, Patch, Delete],
            "who may talk to whom; the fence limits changes to policies with our label",
        ),
        Rule::new(
            "networking.k8s.io",
            &["servicecidrs"],
            FOLLOW,
            "which addresses lie within the cluster, so that no place outside may name them",
        ),
        Rule::new(
            GROUP,
            &["segments"],
            &[Patch],
            "a segment that closes something is kept until that is withdrawn in order; the fence keeps its spec",
        ),
        Rule::new(
            "",
            &["secrets"],
            &[Create, Patch],
            "certificates and bound values are written by server-side apply and read back by an empty patch; the fence \
             limits both to Secrets with our label",
        ),
        Rule::new(
            "",
            &["serviceaccounts/token"],
            &[Create],
            "a binding is read as its own account, with a token that the fence limits to the chart's audiences and ten \
             minutes",
        ),
        Rule::new("events.k8s.io", &["events"], &[Create, Patch], "events on our objects, repeated ones as a series"),
        Rule::new(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &[Get],
            "the schemas in the cluster are compared with those of the binary",
        )
        .only(definitions()),
    ]
}

fn operator_at_home(at: &Installation) -> Vec<Rule> {
    vec![
        Rule::new("", &["secrets"], &[Get], "keys of embedded authorities, the install key, sources of connections"),
        Rule::new("", &["configmaps"], &[Get], "CA certificates of connections and roots of trust domains"),
        Rule::new("coordination.k8s.io", &["leases"], &[Create], "a create cannot be limited by name"),
        Rule::new("coordination.k8s.io", &["leases"], &[Get, Patch], "the leader election").only([at.lease.clone()]),
    ]
}

fn check_everywhere() -> Vec<Rule> {
    vec![
        Rule::new(GROUP, &["vaultconnections", "trustdomains"], &[List], "has the operator looked at each of them"),
        Rule::new(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &[Get],
            "are our kinds there, and as this binary knows them",
        )
        .only(definitions()),
        Rule::new(
            "admissionregistration.k8s.io",
            &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
            &[Get],
            "are the fence and the guard of our CRDs there",
        )
        .only([OPERATOR_FENCE.to_owned(), DELETION_GUARD.to_owned()]),
    ]
}

/// Names of our CustomResourceDefinitions.
fn definitions() -> impl Iterator<Item = String> {
    KINDS.iter().map(|kind| format!("{kind}.{GROUP}"))
}

use Verb::{Create, Delete, Get, List, Patch, Update, Watch};

const READ: &[Verb] = &[Get, List, Watch];
/// What a watch cache needs: it never asks for one object by name.
const FOLLOW: &[Verb] = &[List, Watch];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        AccessGrant, AccessRequest, ExternalService, SecretBinding, Segment, ServiceIdentity, TrustDomain,
        VaultConnection,
    };
    use kube_core::Resource;

    fn installation() -> Installation {
        Installation {
            namespace: "countersign-system".into(),
            service_account: "countersign".into(),
            lease: "countersign-controller".into(),
            token_audiences: r#"["vault"]"#.into(),
        }
    }

    fn granted(holder: Holder, scope: Scope, resource: &str) -> Vec<Verb> {
        let mut verbs: Vec<Verb> = roles(&installation())
            .iter()
            .filter(|role| role.holder == holder && role.scope == scope)
            .flat_map(|role| &role.rules)
            .filter(|rule| rule.resources.iter().any(|r| r == resource))
            .flat_map(|rule| rule.verbs.iter().copied())
            .collect();
        verbs.sort();
        verbs
    }

    #[test]
    fn the_plural_names_are_those_of_the_kinds() {
        let kinds = [
            VaultConnection::plural(&()),
            TrustDomain::plural(&()),
            ServiceIdentity::plural(&()),
            SecretBinding::plural(&()),
            Segment::plural(&()),
            AccessGrant::plural(&()),
            AccessRequest::plural(&()),
            ExternalService::plural(&()),
        ];
        assert_eq!(KINDS.to_vec(), kinds.to_vec());
    }

    #[test]
    fn secrets_of_other_namespaces_can_be_written_and_not_read() {
        assert_eq!(granted(Holder::Operator, Scope::Cluster, "secrets"), vec![Create, Patch]);
    }

    #[test]
    fn nobody_but_the_operator_has_a_right_on_secrets() {
        for holder in [Holder::Check, Holder::Viewers, Holder::Teams, Holder::Egress] {
            for scope in [Scope::Cluster, Scope::OperatorNamespace] {
                assert_eq!(granted(holder, scope, "secrets"), vec![], "{holder:?}");
            }
        }
    }

    #[test]
    fn tokens_can_be_made_by_the_operator_alone() {
        assert_eq!(granted(Holder::Operator, Scope::Cluster, "serviceaccounts/token"), vec![Create]);
        for holder in [Holder::Check, Holder::Viewers, Holder::Teams] {
            assert_eq!(granted(holder, Scope::Cluster, "serviceaccounts/token"), vec![], "{holder:?}");
        }
    }

    #[test]
    fn no_rule_names_a_wildcard_or_a_resource_that_is_never_granted() {
        let never = [
            "*",
            "pods/exec",
            "pods/log",
            "nodes/proxy",
            "roles",
            "clusterroles",
            "rolebindings",
            "clusterrolebindings",
        ];
        for role in roles(&installation()) {
            for rule in &role.rules {
                assert_ne!(rule.group, "*", "{}", role.name);
                assert!(!rule.verbs.is_empty() && !rule.resources.is_empty(), "{}", role.name);
                assert!(rule.resources.iter().all(|r| !never.contains(&r.as_str())), "{}: {rule:?}", role.name);
            }
        }
    }

    #[test]
    fn pods_and_nodes_are_only_followed() {
        for resource in ["pods", "nodes", "deployments", "jobs"] {
            assert_eq!(granted(Holder::Operator, Scope::Cluster, resource), vec![List, Watch], "{resource}");
        }
    }

    #[test]
    fn a_team_names_no_place_outside_unless_it_is_told_to() {
        assert_eq!(granted(Holder::Teams, Scope::Cluster, "externalservices"), vec![]);
        assert!(granted(Holder::Egress, Scope::Cluster, "externalservices").contains(&Create));
        assert_eq!(granted(Holder::Teams, Scope::Cluster, "segments"), vec![]);
    }

    #[test]
    fn definitions_and_admission_objects_are_never_written() {
        for role in roles(&installation()) {
            for rule in &role.rules {
                let guarded = ["apiextensions.k8s.io", "admissionregistration.k8s.io"].contains(&rule.group);
                assert!(!guarded || rule.verbs == [Get], "{}: {rule:?}", role.name);
            }
        }
    }
}
