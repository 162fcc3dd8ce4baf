//! The end of an identity's chain: the Secret, what was issued into it, and when it is renewed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    api::{ConditionType, MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL, Reason, ServiceIdentityStatus, Verdict},
    explain::{
        Link, Look, State, Step,
        said::{Said, place},
    },
    identity::{
        intent::Intent,
        world::{Stored, TargetView},
    },
};

/// A Secret as the gates see it; its type and content are assumed to be right.
pub fn view(meta: &ObjectMeta) -> TargetView {
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    if label(MANAGED_BY_LABEL).as_deref() != Some(MANAGED_BY) {
        return TargetView::Foreign;
    }
    TargetView::Present(Box::new(Stored {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        owner_uid: label(OWNER_UID_LABEL),
        type_: "kubernetes.io/tls".to_owned(),
        immutable: false,
        leaf: None,
        key: None,
        trusted: true,
        rendering: None,
        answered_request: None,
        data: BTreeMap::new(),
    }))
}

/// What became of an identity.
pub struct Outcome<'a> {
    /// `ServiceIdentity/name`.
    pub object: &'a str,
    /// Its spec.
    pub intent: &'a Intent,
    /// Its status.
    pub status: &'a ServiceIdentityStatus,
    /// What its conditions say.
    pub said: Said<'a>,
    /// Its Secret.
    pub target: &'a Look<ObjectMeta>,
}

impl Outcome<'_> {
    /// Whether the certificate asked for was issued; `before` are the links it depends on.
    pub fn issued(&self, before: &[Link]) -> Link {
        let step = Step::Issued;
        if !self.said.current {
            let generation = self.intent.generation;
            let message = format!("the operator has not looked at generation {generation} of the spec yet");
            return Link {
                next: Some("`countersign check` says whether an operator runs"),
                ..self.unknown(step, message)
            };
        }
        let issued = self.said.of(ConditionType::Issued);
        let trouble = self.said.trouble();
        if let Some(finding) = trouble.clone().filter(|finding| place(finding.reason) == step) {
            // Nothing was ever tried: that is not yet a failure.
            if finding.reason == Reason::Pending {
                return self.unknown(step, "the operator's first pass has not finished".to_owned());
            }
            return Link::failed(step, self.object, finding.reason, finding.message);
        }
        if before.iter().any(|link| link.state == State::Failed) {
            return match issued.verdict {
                Verdict::True => Link::ok(step, self.object, "the last one asked for is stored"),
                Verdict::False | Verdict::Unknown => self.unknown(step, "waits for the link that failed".to_owned()),
            };
        }
        // The operator met a link that has been repaired since.
        if let Some(finding) = trouble.filter(|finding| place(finding.reason) < step) {
            let message = format!("last seen: {}; that looks right now, so the operator tries again", finding.message);
            return self.unknown(step, message);
        }
        match issued.verdict {
            Verdict::True => Link::ok(step, self.object, issued.message),
            Verdict::False if place(issued.reason) == step => {
                Link::failed(step, self.object, issued.reason, issued.message)
            }
            Verdict::False | Verdict::Unknown => self.unknown(step, issued.message),
        }
    }

    /// Whether what is stored is good.
    pub fn stored(&self, now: Timestamp) -> Link {
        let step = Step::Stored;
        let object = format!("Secret/{}", self.intent.target.name);
        if *self.target == Look::Absent {
            let message = format!("secret \"{}\" does not exist", self.intent.target.name);
            return Link::failed(step, &object, Reason::SecretMissing, message);
        }
        let ready = self.said.of(ConditionType::Ready);
        let end = self.status.not_after.as_ref().map(|end| end.0);
        match (ready.verdict, end) {
            (Verdict::True, Some(end)) if end <= now => {
                Link::failed(step, &object, Reason::Expired, format!("the certificate ended at {end}"))
            }
            (Verdict::True, _) => Link::ok(step, &object, ready.message),
            (Verdict::False, _) => Link::failed(step, &object, ready.reason, ready.message),
            (Verdict::Unknown, _) => Link::unknown(step, &object, ready.message),
        }
    }

    /// Whether it is renewed in time.
    pub fn renewal(&self, now: Timestamp) -> Link {
        let step = Step::Renewal;
        if let Some(finding) = self.said.bad(ConditionType::RenewalOverdue) {
            return Link::failed(step, self.object, finding.reason, finding.message);
        }
        match self.status.renew_at.as_ref().map(|at| at.0) {
            None => self.unknown(step, "nothing is stored that could be renewed".to_owned()),
            Some(at) if at <= now => self.unknown(step, format!("due since {at}; the operator has not reported on it")),
            Some(at) => Link::ok(step, self.object, format!("due at {at}")),
        }
    }

    fn unknown(&self, step: Step, message: String) -> Link {
        Link::unknown(step, self.object, message)
    }
}
