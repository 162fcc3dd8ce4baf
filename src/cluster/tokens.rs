//! Tokens of ServiceAccounts, for logins elsewhere: of the operator's own, and of those whose bindings it reads for.

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::secret_data::SecretBytes,
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};

use super::{About, Cluster};
use crate::runtime::metrics::{Resource, Verb};

/// Life of a token that only has to survive one login, seconds; the shortest the API server gives.
const LIFE: i64 = 600;

impl Cluster {
    /// A token of the operator's ServiceAccount `account` for exactly one audience.
    ///
    /// # Errors
    /// `AudienceNotAllowed` when the fence refuses the audience.
    pub async fn own_token(&self, account: &str, audience: &str) -> Result<SecretBytes, Failure> {
        self.account_token(self.operator_namespace(), account, audience).await
    }

    /// A token of the ServiceAccount `account` of `namespace` for exactly one audience.
    ///
    /// # Errors
    /// `AudienceNotAllowed` when the fence refuses the audience, `ServiceAccountMissing` when there is no such account.
    pub async fn account_token(&self, namespace: &str, account: &str, audience: &str) -> Result<SecretBytes, Failure> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let about = About { doing: "asking a token for", resource: Resource::Tokens, namespace, name: account };
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                expiration_seconds: Some(LIFE),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let asked =
            self.write(&about, Verb::Create, api.create_token_request(account, &PostParams::default(), &request)).await;
        let answer = asked.map_err(|failure| match failure.reason {
            Reason::AdmissionRefused => Failure::new(
                Class::Invalid,
                Reason::AudienceNotAllowed,
                format!("audience \"{audience}\" is not among the chart's tokenAudiences; add it there"),
            ),
            Reason::SourceMissing => Failure::new(
                Class::Waiting,
                Reason::ServiceAccountMissing,
                format!("serviceaccount {account} does not exist in namespace {namespace}"),
            ),
            _ => failure,
        })?;
        answer.status.map(|status| SecretBytes::from(status.token)).ok_or_else(|| {
            Failure::new(Class::Bug, Reason::InternalError, "the API server answered a token request without a token")
        })
    }
}
