//! The conversation round a signature: what a refusal really means.
//!
//! Servers answer 400 for an unknown role, a refused name and a lifetime beyond the authority's end,
//! and 500 for an issuer that is gone. Their words tell them apart, but differ from version to
//! version; so the structure is asked instead: the role, the list of issuers, the issuer's certificate.

use std::time::Duration;

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::vault_path::{Segment, VaultPath},
};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use x509_parser::pem::parse_x509_pem;

use super::{
    endpoints::{self, ListedIssuer, RoleInfo, SignAnswer, SignRequest},
    request::{Answer, CallFailed},
    session::Session,
};

impl Session {
    /// Asks for a signature by the pinned issuer. `now` is the wall clock, to compare with the end of
    /// the authority's life if the server refuses.
    ///
    /// The answer is not checked here; a signature asked twice is a spare certificate and harmless.
    pub async fn sign(&self, asked: &SignRequest, now: Timestamp) -> Result<SignAnswer, Failure> {
        let request = endpoints::sign(asked);
        let mut result = self.send(&request).await;
        if is_server_error(&result) {
            // One 500 may be a passing fault of storage.
            result = self.send(&request).await;
        }
        match result {
            Ok(answer) => answer.data(&request),
            Err(failed) if failed.failure.reason == Reason::RoleRefused => {
                Err(self.explain(asked, now).await.unwrap_or(failed.failure))
            }
            Err(failed) => Err(self.settle_doubt(&asked.mount, &asked.issuer, failed).await),
        }
    }

    /// What a refusal is about, if the role or the issuer tells.
    async fn explain(&self, asked: &SignRequest, now: Timestamp) -> Option<Failure> {
        let request = endpoints::read_role(&asked.mount, &asked.role);
        let role: Option<RoleInfo> = match self.peek(&request).await {
            Ok(answer) => answer.data(&request).ok(),
            Err(failed) if failed.failure.reason == Reason::RoleNotFound => return Some(failed.failure),
            // Reading the role is an optional right.
            Err(_) => None,
        };
        let authority = self.read_issuer(&asked.mount, &asked.issuer).await.ok()?;
        let end = not_after(&authority.certificate_pem)?;
        outlives(asked.ttl, role.map(|role| role.max_ttl), end, now).then(|| {
            let words = format!(
                "the issuer {} of {} ends at {end}, before the lifetime asked for; rotate it or ask for less",
                asked.issuer, asked.mount
            );
            Failure::new(Class::Invalid, Reason::AuthorityExpiring, words)
        })
    }

    /// A 500 where an issuer is named speaks of the issuer, unless the mount does not answer at all.
    pub(super) async fn settle_doubt(&self, mount: &VaultPath, issuer: &Segment, failed: CallFailed) -> Failure {
        if failed.status != Some(StatusCode::INTERNAL_SERVER_ERROR) {
            return failed.failure;
        }
        let listed = match self.list_issuers(mount).await {
            Ok(listed) => listed,
            Err(failure) => return failure,
        };
        let unusable = |words: &str| {
            let words = format!("the issuer {issuer} of {mount} {words}");
            Failure::new(Class::Invalid, Reason::IssuerNotUsable, words)
        };
        if !names(&listed, issuer) {
            return unusable("does not exist");
        }
        let request = endpoints::read_issuer_settings(mount, issuer);
        if let Ok(answer) = self.peek(&request).await
            && endpoints::issuer_settings(&request, &answer).is_ok_and(|settings| !settings.may_sign())
        {
            return unusable("may not sign: it is revoked or its usage lacks issuing-certificates");
        }
        let words = format!(
            "the server lists the issuer {issuer} of {mount} but fails when it is used; \
             its usage may lack issuing-certificates, or the server has a fault of its own"
        );
        Failure::new(Class::Unavailable, Reason::IssuerUnavailable, words)
    }
}

fn is_server_error(result: &Result<Answer, CallFailed>) -> bool {
    matches!(result, Err(failed) if failed.status == Some(StatusCode::INTERNAL_SERVER_ERROR))
}

fn names(listed: &[ListedIssuer], issuer: &Segment) -> bool {
    let named = |one: &ListedIssuer| {
        one.id == *issuer || one.name == issuer.as_str() || (one.is_default && issuer.as_str() == "default")
    };
    listed.iter().any(named)
}

fn not_after(pem: &str) -> Option<Timestamp> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    Timestamp::from_second(pem.parse_x509().ok()?.validity().not_after.timestamp()).ok()
}

/// Whether a leaf of `ttl`, cut to the role's `max_ttl` seconds (0: no cut), would end after `end`.
fn outlives(ttl: Duration, max_ttl: Option<u64>, end: Timestamp, now: Timestamp) -> bool {
    let granted = match max_ttl {
        None | Some(0) => ttl,
        Some(most) => ttl.min(Duration::from_secs(most)),
    };
    let granted = SignedDuration::try_from(granted).unwrap_or(SignedDuration::MAX);
    end.duration_since(now) < granted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_leaf_outlives_its_authority_after_the_roles_cut() {
        let (now, end) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T10:00:00Z"));
        let h = |hours: u64| Duration::from_secs(hours * 3_600);
        let table = [
            (h(9), None, false),
            (h(10), None, false),
            (h(11), None, true),
            (h(11), Some(0), true),
            (h(11), Some(7_200), false),
            (h(11), Some(u64::MAX), true),
            (Duration::MAX, None, true),
        ];
        for (ttl, max_ttl, expected) in table {
            assert_eq!(outlives(ttl, max_ttl, end, now), expected, "{ttl:?} {max_ttl:?}");
        }
        assert!(outlives(h(1), None, at("2025-01-01T00:00:00Z"), now), "an authority that has ended");
    }

    #[test]
    fn an_issuer_is_known_by_id_by_name_and_as_default() {
        let listed = [ListedIssuer { id: "a1".parse().unwrap(), name: "root".to_owned(), is_default: true }];
        for (reference, known) in [("a1", true), ("root", true), ("default", true), ("b2", false)] {
            assert_eq!(names(&listed, &reference.parse().unwrap()), known, "{reference}");
        }
        let other = [ListedIssuer { is_default: false, ..listed[0].clone() }];
        assert!(!names(&other, &"default".parse().unwrap()));
    }
}
