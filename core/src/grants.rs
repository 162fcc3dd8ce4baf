//! Who may ask a connection for what: the grants of a `VaultConnection`, parsed, and the question asked of them before
//! every read.
//!
//! A path is a list of parsed segments ([`VaultPath`]), so nothing that a server could read as another path gets here.
//! Of each source the first grant that fits namespace, path and type of Secret decides who logs in. Called by
//! `binding::gates`; the patterns themselves are checked when the connection is parsed.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use pattern::{Fill, PathPattern, PatternProblem, RolePattern};

use crate::{
    api::{ConnectionGrant, GrantedIdentity, NamespaceSelector, Reason},
    fault::{Class, Failure},
    value::vault_path::{Segment, VaultPath},
};

/// The type of a Secret that a grant admits when it names none.
const OPAQUE: &str = "Opaque";

/// One grant, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    namespaces: NamespaceSelector,
    login: Login,
    paths: Vec<PathPattern>,
    secret_types: BTreeSet<String>,
}

/// Who logs in under a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Login {
    ServiceAccount { role: RolePattern },
    Operator,
}

/// What a binding asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The labels of its namespace.
    pub labels: &'a BTreeMap<String, String>,
    /// Its ServiceAccount, if it names one.
    pub account: Option<&'a str>,
    /// Mount and path of the source.
    pub path: &'a VaultPath,
    /// The type of the Secret that is written.
    pub secret_type: &'a str,
}

/// Who reads a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permit {
    /// The binding's own account, which logs in under this role.
    ServiceAccount {
        /// Its name.
        account: String,
        /// The role of the connection's auth mount.
        role: Segment,
    },
    /// The operator itself.
    Operator,
}

/// Reads the grants of a connection.
///
/// # Errors
/// The index of the first grant that breaks a rule, and the rule.
pub fn parse(grants: &[ConnectionGrant]) -> Result<Vec<Grant>, (usize, PatternProblem)> {
    grants.iter().enumerate().map(|(index, grant)| one(grant).map_err(|problem| (index, problem))).collect()
}

fn one(grant: &ConnectionGrant) -> Result<Grant, PatternProblem> {
    let paths: Vec<PathPattern> = grant.paths.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let login = match (grant.as_, &grant.role) {
        (GrantedIdentity::ServiceAccount, Some(role)) => Login::ServiceAccount { role: role.parse()? },
        (GrantedIdentity::Operator, None) => Login::Operator,
        (GrantedIdentity::ServiceAccount, None) | (GrantedIdentity::Operator, Some(_)) => {
            return Err(PatternProblem::Role);
        }
    };
    // The grant is the only wall there, and a whole mount is more than anybody means by accident.
    if login == Login::Operator && grant.all != Some(true) && paths.iter().any(PathPattern::covers_a_mount) {
        return Err(PatternProblem::WholeMount);
    }
    let mut secret_types: BTreeSet<String> = grant.secret_types.iter().cloned().collect();
    if secret_types.is_empty() {
        secret_types.insert(OPAQUE.to_owned());
    }
    Ok(Grant { namespaces: grant.namespaces.clone(), login, paths, secret_types })
}

/// Whether any grant admits the namespace at all.
pub fn admits(grants: &[Grant], namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    grants.iter().any(|grant| grant.namespaces.matches(namespace, labels))
}

/// Who reads what is asked for. `namespaces` are those of the cluster: a path that also belongs to one with a longer
/// name is nobody else's.
///
/// # Errors
/// `PathNotAllowed`, `PathAmbiguous`, `TypeNotAllowed`, or `InvalidSpec` where an account is needed and none is named.
pub fn authorize(grants: &[Grant], asked: &Asked<'_>, namespaces: &[String]) -> Result<Permit, Failure> {
    let Asked { namespace, path, secret_type, .. } = asked;
    let fill = Fill { namespace, account: asked.account };
    let covering: Vec<&Grant> = grants
        .iter()
        .filter(|grant| grant.namespaces.matches(namespace, asked.labels))
        .filter(|grant| grant.paths.iter().any(|pattern| pattern.matches(path, &fill)))
        .collect();
    if covering.is_empty() {
        let words = format!("no grant of the connection covers {path} for namespace {namespace}");
        return Err(Failure::new(Class::Waiting, Reason::PathNotAllowed, words));
    }
    let Some(grant) = covering.into_iter().find(|grant| grant.secret_types.contains(*secret_type)) else {
        let words = format!("no grant that covers {path} admits a Secret of type {secret_type}");
        return Err(Failure::new(Class::Waiting, Reason::TypeNotAllowed, words));
    };
    let clear = |pattern: &&PathPattern| pattern.matches(path, &fill);
    let owners = |pattern: &PathPattern| pattern.is_ambiguous(path, namespace, namespaces);
    if grant.paths.iter().filter(clear).all(owners) {
        let words = format!(
            "{path} also belongs to a namespace whose name begins with {namespace}-; separate the namespace in the grant's \
             pattern with a character that no namespace has, such as _"
        );
        return Err(Failure::new(Class::Invalid, Reason::PathAmbiguous, words));
    }
    match &grant.login {
        Login::Operator => Ok(Permit::Operator),
        Login::ServiceAccount { role } => {
            let Some(account) = asked.account else {
                let words = "spec.serviceAccountName is required: the grant says as: ServiceAccount";
                return Err(Failure::new(Class::Invalid, Reason::InvalidSpec, words));
            };
            let unusable = || {
                let words = format!("the role of the grant gives no role name for serviceaccount {account}");
                Failure::new(Class::Invalid, Reason::InvalidSpec, words)
            };
            let role = role.render(&fill).ok_or_else(unusable)?;
            Ok(Permit::ServiceAccount { account: account.to_owned(), role })
        }
    }
}
