//! What the caller saw of one object.

use std::fmt;

/// One object, as far as the caller may see it.
#[derive(Debug, Clone, PartialEq)]
pub enum Look<T> {
    /// It is there.
    Found(T),
    /// It is not.
    Absent,
    /// Nobody could say.
    Hidden(Unseen),
}

/// Why an object could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// The caller lacks this right.
    Forbidden(Right),
    /// The API server did not answer, or not in time.
    Unanswered,
    /// It is there, and this version cannot read it.
    Unreadable,
    /// The cluster does not know the kind.
    NoSuchKind,
}

/// A right in RBAC's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// For example `get`.
    pub verb: &'static str,
    /// Plural, with its group where it is not the core one: `leases.coordination.k8s.io`.
    pub resource: String,
    /// Empty for a right in the whole cluster.
    pub namespace: String,
}

impl<T> Look<T> {
    /// The object, if it was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(object) => Some(object),
            Self::Absent | Self::Hidden(_) => None,
        }
    }
}

impl Unseen {
    /// The right that would help.
    pub fn right(&self) -> Option<&Right> {
        match self {
            Self::Forbidden(right) => Some(right),
            Self::Unanswered | Self::Unreadable | Self::NoSuchKind => None,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace } = self;
        if namespace.is_empty() {
            write!(f, "{verb} {resource}")
        } else {
            write!(f, "{verb} {resource} in namespace {namespace}")
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(right) => write!(f, "you lack the right to {right}"),
            Self::Unanswered => f.write_str("the API server did not answer"),
            Self::Unreadable => f.write_str("this version of countersign cannot read it"),
            Self::NoSuchKind => f.write_str("the cluster does not know this kind; install the CRDs"),
        }
    }
}
