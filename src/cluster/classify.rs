//! Kubernetes errors in our own words, once, where they enter: by status code and structure.
//!
//! The server's message is never repeated: it may quote what was sent.

use std::time::Duration;

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
};
use kube::core::Status;

use crate::runtime::metrics::Resource;

/// What a call was about; the subject of its failure's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About<'a> {
    /// What was done, for example `writing`.
    pub doing: &'static str,
    /// Which resource.
    pub resource: Resource,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
}

impl About<'_> {
    fn sentence(&self, what: &str) -> String {
        let Self { doing, resource, namespace, name } = self;
        let resource = resource.as_str();
        if namespace.is_empty() {
            format!("{doing} {resource}/{name}: {what}")
        } else {
            format!("{doing} {resource}/{name} in namespace {namespace}: {what}")
        }
    }
}

/// A call whose deadline passed; a write may or may not have happened.
pub fn timed_out(about: &About<'_>) -> Failure {
    Failure::new(Class::Unavailable, Reason::ApiServerUnavailable, about.sentence("no answer within 10 s"))
}

/// Any error of a call.
pub fn classify(error: &kube::Error, about: &About<'_>) -> Failure {
    match error {
        kube::Error::Api(status) => answered(status, about),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            Failure::new(Class::Bug, Reason::InternalError, about.sentence("the answer could not be read"))
        }
        // Everything else happened before an answer: connection, TLS, credentials, discovery.
        _ => Failure::new(
            Class::Unavailable,
            Reason::ApiServerUnavailable,
            about.sentence("the API server does not answer"),
        ),
    }
}

fn answered(status: &Status, about: &About<'_>) -> Failure {
    let failure = |class, reason, what: &str| Failure::new(class, reason, about.sentence(what));
    match status.code {
        401 => failure(Class::Denied, Reason::PermissionMissing, "the operator's own credentials were refused"),
        403 => forbidden(status, about),
        404 => failure(Class::Waiting, Reason::SourceMissing, "it does not exist"),
        409 => conflict(status, about),
        410 => failure(Class::Conflict, Reason::WriteConflict, "the version asked for is gone"),
        413 => failure(Class::Invalid, Reason::SecretTooLarge, "it is larger than Kubernetes stores"),
        422 => unprocessable(status, about),
        429 => {
            let after = status.details.as_ref().map_or(1, |details| details.retry_after_seconds.max(1));
            failure(Class::Throttled, Reason::Throttled, "the API server limits our rate")
                .retry_after(Duration::from_secs(u64::from(after)))
        }
        500..=599 => {
            failure(Class::Unavailable, Reason::ApiServerUnavailable, "the API server answers with an error of its own")
        }
        _ => failure(Class::Bug, Reason::InternalError, "the API server did not understand the request"),
    }
}

fn forbidden(status: &Status, about: &About<'_>) -> Failure {
    if has_cause(status, "NamespaceTerminating") {
        return Failure::new(
            Class::Waiting,
            Reason::NamespaceTerminating,
            about.sentence("the namespace is terminating"),
        );
    }
    // A full quota has no structure of its own, only this phrase, which the quota admission plugin has always used.
    if status.message.contains("exceeded quota") {
        return Failure::new(
            Class::Waiting,
            Reason::QuotaExceeded,
            about.sentence("a quota of the namespace is used up; raise it"),
        )
        .retry_after(Duration::from_secs(300));
    }
    Failure::new(
        Class::Denied,
        Reason::PermissionMissing,
        about.sentence("the operator lacks the right; see the chart's roles"),
    )
}

fn conflict(status: &Status, about: &About<'_>) -> Failure {
    if !has_cause(status, "FieldManagerConflict") {
        return Failure::new(Class::Conflict, Reason::WriteConflict, about.sentence("it changed meanwhile"));
    }
    let what = field_manager(status).map_or_else(
        || "another field manager owns what must be written; let it go of those fields".to_owned(),
        |manager| format!("field manager \"{manager}\" owns what must be written; let it go of those fields"),
    );
    Failure::new(Class::Waiting, Reason::FieldConflict, about.sentence(&what))
}

/// 422 is either a field the server refuses, or an admission policy.
fn unprocessable(status: &Status, about: &About<'_>) -> Failure {
    let names_a_field =
        status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| !cause.field.is_empty()));
    if names_a_field {
        return Failure::new(
            Class::Invalid,
            Reason::InvalidSpec,
            about.sentence("a label, annotation or key is not valid; correct the spec"),
        );
    }
    Failure::new(Class::Waiting, Reason::AdmissionRefused, about.sentence("an admission policy refused it"))
}

fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
}

/// The other manager's name, which the server puts in quotes first thing in the cause.
fn field_manager(status: &Status) -> Option<&str> {
    let cause = status.details.as_ref()?.causes.iter().find(|cause| cause.reason == "FieldManagerConflict")?;
    let name = cause.message.split('"').nth(1)?;
    (!name.is_empty() && name.len() <= 128).then_some(name)
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    const ABOUT: About<'static> =
        About { doing: "writing", resource: Resource::Secrets, namespace: "pay", name: "api-tls" };

    fn status(code: u16, causes: &[(&str, &str, &str)]) -> kube::Error {
        let causes = causes
            .iter()
            .map(|(reason, message, field)| StatusCause {
                reason: (*reason).into(),
                message: (*message).into(),
                field: (*field).into(),
            })
            .collect();
        let details = StatusDetails {
            causes,
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            retry_after_seconds: 0,
        };
        let status = Status { code, message: "canary-2f9".into(), details: Some(details), ..Status::default() };
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn every_answer_has_a_class_and_a_reason_and_repeats_nothing() {
        for (code, causes, class, reason) in [
            (401, vec![], Class::Denied, Reason::PermissionMissing),
            (403, vec![], Class::Denied, Reason::PermissionMissing),
            (403, vec![("NamespaceTerminating", "canary-2f9", "")], Class::Waiting, Reason::NamespaceTerminating),
            (404, vec![], Class::Waiting, Reason::SourceMissing),
            (409, vec![], Class::Conflict, Reason::WriteConflict),
            (
                409,
                vec![("FieldManagerConflict", "conflict with \"argocd\"", ".data")],
                Class::Waiting,
                Reason::FieldConflict,
            ),
            (410, vec![], Class::Conflict, Reason::WriteConflict),
            (413, vec![], Class::Invalid, Reason::SecretTooLarge),
            (422, vec![("FieldValueInvalid", "canary-2f9", "metadata.labels")], Class::Invalid, Reason::InvalidSpec),
            (422, vec![("", "canary-2f9", "")], Class::Waiting, Reason::AdmissionRefused),
            (429, vec![], Class::Throttled, Reason::Throttled),
            (500, vec![], Class::Unavailable, Reason::ApiServerUnavailable),
            (504, vec![], Class::Unavailable, Reason::ApiServerUnavailable),
            (400, vec![], Class::Bug, Reason::InternalError),
        ] {
            let failure = classify(&status(code, &causes), &ABOUT);
            assert_eq!((failure.class, failure.reason), (class, reason), "{code} {causes:?}");
            assert!(!failure.message.contains("canary"), "{}", failure.message);
        }
    }

    #[test]
    fn a_field_conflict_names_the_manager() {
        let failure =
            classify(&status(409, &[("FieldManagerConflict", "conflict with \"argocd\" using v1", ".data")]), &ABOUT);
        assert!(failure.message.contains("\"argocd\""), "{}", failure.message);
    }
}
