//! The calls we make, typed: how each request is built and how its answer is read.
//!
//! Nothing here sends: `session` and `sign` do. `issue` and `sign-verbatim` do not exist here, because
//! a private key never travels and a role always limits what is signed.

use std::{collections::BTreeMap, time::Duration};

use countersign_core::{
    api::Reason,
    fault::{Class, Failure},
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath},
    },
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::{
    classify,
    request::{Answer, ApiPath, Call, Request},
};

/// A signature asked of one issuer under one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// Mount of the PKI engine.
    pub mount: VaultPath,
    /// Id of the issuer that must sign; the role's own default does not count.
    pub issuer: Segment,
    /// Role that bounds what is signed.
    pub role: Segment,
    /// The CSR in PEM; its key stays with us.
    pub csr_pem: String,
    /// Lifetime asked for; whole seconds count.
    pub ttl: Duration,
    /// URI names, also in the CSR: a role reads one place or the other.
    pub uri_sans: Vec<String>,
    /// DNS names, also in the CSR.
    pub alt_names: Vec<String>,
    /// IP addresses, also in the CSR.
    pub ip_sans: Vec<String>,
}

/// What came back from a signature; not yet checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SignAnswer {
    /// The leaf.
    #[serde(rename = "certificate")]
    pub certificate_pem: String,
    /// The issuer and what is above it, as the server sees it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub ca_chain: Vec<String>,
    /// The issuer's certificate.
    pub issuing_ca: String,
}

/// An issuer as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedIssuer {
    /// Its id, which never changes.
    pub id: Segment,
    /// Its name; empty if it has none.
    pub name: String,
    /// Whether it is the mount's default.
    pub is_default: bool,
}

/// An issuer's certificates; readable without a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerInfo {
    /// Its id, also if it was asked for as `default` or by name.
    pub issuer_id: Segment,
    /// Its certificate in PEM.
    pub certificate_pem: String,
    /// Its certificate and those above it, in PEM.
    pub ca_chain: Vec<String>,
}

/// An issuer's settings; readable only with a right of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// What it may be used for, for example `issuing-certificates`.
    pub usage: Vec<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// `err`, `truncate` or `permit`: what happens to leaves that would outlive it.
    pub leaf_not_after_behavior: String,
}

impl IssuerSettings {
    /// Whether it may sign.
    pub fn may_sign(&self) -> bool {
        !self.revoked && self.usage.iter().any(|usage| usage == "issuing-certificates")
    }
}

/// The settings of a role that change what comes back; readable only with a right of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "these are the server's switches, each with its own meaning")]
pub struct RoleInfo {
    /// Whether a common name is demanded; must be off.
    pub require_cn: bool,
    /// Whether names are taken from the CSR instead of the parameters.
    pub use_csr_sans: bool,
    /// Whether issued certificates are kept on the server.
    pub no_store: bool,
    /// Whether certificates hang on leases.
    #[serde(deserialize_with = "null_is_empty")]
    pub generate_lease: bool,
    /// `ec`, `rsa`, `ed25519` or `any`.
    pub key_type: String,
    /// Longest lifetime in seconds; 0 means the mount's.
    pub max_ttl: u64,
    /// Patterns of URI names.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allowed_uri_sans: Vec<String>,
}

/// A login or renewal as the server granted it.
pub(super) struct Grant {
    pub(super) token: SecretBytes,
    /// Zero means for ever.
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

/// Our token as the server knows it.
#[derive(Deserialize)]
pub(super) struct TokenInfo {
    #[serde(deserialize_with = "seconds")]
    pub(super) ttl: Duration,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) renewable: bool,
}

/// The path a signature uses, to ask for the right to it.
pub fn sign_path(mount: &VaultPath, issuer: &Segment, role: &Segment) -> String {
    signing(mount, issuer, role).as_str().to_owned()
}

/// A login with a JWT, at a `kubernetes` or a `jwt` method: both take the same two fields.
pub(super) fn login_jwt(mount: &VaultPath, role: &Segment, jwt: &SecretBytes) -> Result<Request, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        role: &'a str,
        jwt: &'a str,
    }
    login(mount).secret_json(&Body { role: role.as_str(), jwt: text(jwt)? })
}

/// A login with a role id and a secret id.
pub(super) fn login_app_role(mount: &VaultPath, role_id: &str, secret_id: &SecretBytes) -> Result<Request, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        role_id: &'a str,
        secret_id: &'a str,
    }
    login(mount).secret_json(&Body { role_id, secret_id: text(secret_id)? })
}

fn login(mount: &VaultPath) -> Request {
    Request::post(Call::Login, ApiPath::fixed("auth").below(mount).then("login"))
}

fn text(secret: &SecretBytes) -> Result<&str, Failure> {
    std::str::from_utf8(secret.expose()).map_err(|_| classify::unusable_credential())
}

pub(super) fn lookup_self() -> Request {
    Request::get(Call::Token, ApiPath::fixed("auth/token/lookup-self"))
}

pub(super) fn renew_self() -> Request {
    Request::post(Call::Token, ApiPath::fixed("auth/token/renew-self"))
}

pub(super) fn revoke_self() -> Request {
    Request::post(Call::Token, ApiPath::fixed("auth/token/revoke-self"))
}

pub(super) fn grant(request: &Request, answer: &Answer) -> Result<Grant, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(deserialize_with = "secret")]
        client_token: SecretBytes,
        #[serde(deserialize_with = "seconds")]
        lease_duration: Duration,
        renewable: bool,
        /// How often the token may be used; 0 = without limit. Vault leaves it out of some answers.
        #[serde(default)]
        num_uses: u64,
    }
    let wire: Wire = answer.auth(request)?;
    if wire.num_uses > 0 {
        let words = format!("{request}: the role gives tokens that may be used {} times only", wire.num_uses);
        return Err(Failure::new(Class::Denied, Reason::LoginLimitsUses, words));
    }
    Ok(Grant { token: wire.client_token, ttl: wire.lease_duration, renewable: wire.renewable })
}

pub(super) fn sign(asked: &SignRequest) -> Request {
    let names = [("uri_sans", &asked.uri_sans), ("alt_names", &asked.alt_names), ("ip_sans", &asked.ip_sans)];
    let mut body = json!({ "csr": asked.csr_pem, "format": "pem", "ttl": format!("{}s", asked.ttl.as_secs()) });
    if let Some(fields) = body.as_object_mut() {
        // An empty list is not "no names" to every role: what is empty stays out.
        let given = names.into_iter().filter(|(_, names)| !names.is_empty());
        fields.extend(given.map(|(field, names)| (field.to_owned(), json!(names.join(",")))));
    }
    Request::post(Call::Sign, signing(&asked.mount, &asked.issuer, &asked.role)).json(&body)
}

fn signing(mount: &VaultPath, issuer: &Segment, role: &Segment) -> ApiPath {
    ApiPath::mount(mount).then("issuer").segment(issuer).then("sign").segment(role)
}

pub(super) fn list_issuers(mount: &VaultPath) -> Request {
    Request::list(Call::Issuer, ApiPath::mount(mount).then("issuers"))
}

pub(super) fn listed_issuers(request: &Request, answer: &Answer) -> Result<Vec<ListedIssuer>, Failure> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct KeyInfo {
        issuer_name: String,
        is_default: bool,
    }
    #[derive(Deserialize)]
    struct Wire {
        keys: Vec<String>,
        #[serde(default, deserialize_with = "null_is_empty")]
        key_info: BTreeMap<String, KeyInfo>,
    }
    let mut wire: Wire = answer.data(request)?;
    let listed = wire.keys.into_iter().map(|key| {
        let info = wire.key_info.remove(&key).unwrap_or_default();
        Ok(ListedIssuer { id: issuer_id(request, &key)?, name: info.issuer_name, is_default: info.is_default })
    });
    listed.collect()
}

pub(super) fn read_issuer(mount: &VaultPath, issuer: &Segment) -> Request {
    Request::get(Call::Issuer, ApiPath::mount(mount).then("issuer").segment(issuer).then("json"))
}

pub(super) fn issuer(request: &Request, answer: &Answer) -> Result<IssuerInfo, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        issuer_id: String,
        certificate: String,
        #[serde(default, deserialize_with = "null_is_empty")]
        ca_chain: Vec<String>,
    }
    let wire: Wire = answer.data(request)?;
    let issuer_id = issuer_id(request, &wire.issuer_id)?;
    Ok(IssuerInfo { issuer_id, certificate_pem: wire.certificate, ca_chain: wire.ca_chain })
}

pub(super) fn read_issuer_settings(mount: &VaultPath, issuer: &Segment) -> Request {
    Request::get(Call::Issuer, ApiPath::mount(mount).then("issuer").segment(issuer))
}

pub(super) fn issuer_settings(request: &Request, answer: &Answer) -> Result<IssuerSettings, Failure> {
    #[derive(Deserialize)]
    struct Wire {
        usage: String,
        #[serde(default)]
        revoked: bool,
        leaf_not_after_behavior: String,
    }
    let wire: Wire = answer.data(request)?;
    Ok(IssuerSettings {
        usage: wire.usage.split(',').map(str::to_owned).collect(),
        revoked: wire.revoked,
        leaf_not_after_behavior: wire.leaf_not_after_behavior,
    })
}

pub(super) fn read_role(mount: &VaultPath, role: &Segment) -> Request {
    Request::get(Call::Role, ApiPath::mount(mount).then("roles").segment(role))
}

pub(super) fn capabilities_self(paths: &[String]) -> Request {
    Request::post(Call::Capabilities, ApiPath::fixed("sys/capabilities-self")).json(&json!({ "paths": paths }))
}

/// Our capabilities on `paths`, in their order; a path the server leaves out has none.
pub(super) fn capabilities(request: &Request, answer: &Answer, paths: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    let mut granted: BTreeMap<String, Vec<String>> = answer.data(request)?;
    Ok(paths.iter().map(|path| granted.remove(path).unwrap_or_default()).collect())
}

fn issuer_id(request: &Request, text: &str) -> Result<Segment, Failure> {
    text.parse().map_err(|_| classify::misunderstood(request))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    String::deserialize(deserializer).map(SecretBytes::from)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// Go writes an empty list or map as `null`, and some versions leave switches out that way.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use zeroize::Zeroizing;

    use super::*;

    fn answer(body: &serde_json::Value) -> Answer {
        Answer { status: StatusCode::OK, retry_after: None, body: Zeroizing::new(body.to_string().into_bytes()) }
    }

    fn asked() -> SignRequest {
        SignRequest {
            mount: "team/pki_int".parse().unwrap(),
            issuer: "ebc342e5".parse().unwrap(),
            role: "workload".parse().unwrap(),
            csr_pem: "CSR".to_owned(),
            ttl: Duration::from_millis(3_600_900),
            uri_sans: vec!["spiffe://prod.example/ns/a/sa/b".to_owned()],
            alt_names: vec!["a.svc".to_owned(), "b.svc".to_owned()],
            ip_sans: Vec::new(),
        }
    }

    #[test]
    fn a_signature_is_pinned_and_leaves_empty_fields_out() {
        let request = sign(&asked());
        assert_eq!(request.to_string(), "POST /v1/team/pki_int/issuer/ebc342e5/sign/workload");
        let body: serde_json::Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        let expected = json!({ "csr": "CSR", "format": "pem", "ttl": "3600s", "alt_names": "a.svc,b.svc",
            "uri_sans": "spiffe://prod.example/ns/a/sa/b" });
        assert_eq!(body, expected);
        let asked = asked();
        assert_eq!(sign_path(&asked.mount, &asked.issuer, &asked.role), "team/pki_int/issuer/ebc342e5/sign/workload");
    }

    #[test]
    fn every_path_is_the_documented_one() {
        let (mount, one) = ("pki".parse().unwrap(), "x".parse().unwrap());
        let secret = SecretBytes::from("s".to_owned());
        let table = [
            (lookup_self(), "GET /v1/auth/token/lookup-self"),
            (renew_self(), "POST /v1/auth/token/renew-self"),
            (revoke_self(), "POST /v1/auth/token/revoke-self"),
            (login_jwt(&mount, &one, &secret).unwrap(), "POST /v1/auth/pki/login"),
            (login_app_role(&mount, "id", &secret).unwrap(), "POST /v1/auth/pki/login"),
            (list_issuers(&mount), "GET /v1/pki/issuers"),
            (read_issuer(&mount, &one), "GET /v1/pki/issuer/x/json"),
            (read_issuer_settings(&mount, &one), "GET /v1/pki/issuer/x"),
            (read_role(&mount, &one), "GET /v1/pki/roles/x"),
            (capabilities_self(&[]), "POST /v1/sys/capabilities-self"),
        ];
        for (request, expected) in table {
            assert_eq!(request.to_string(), expected);
            assert_eq!(request.query.is_some(), expected.ends_with("issuers"), "{expected}");
            assert_eq!(request.method == Method::POST, expected.starts_with("POST"), "{expected}");
        }
    }

    #[test]
    fn a_login_that_is_not_text_is_refused_before_it_is_sent() {
        let binary = SecretBytes::new(vec![0xff, 0xfe]);
        let failure = login_app_role(&"approle".parse().unwrap(), "id", &binary).err().unwrap();
        assert_eq!(failure, classify::unusable_credential());
    }

    #[test]
    fn answers_are_read_and_nulls_are_empty() {
        let request = list_issuers(&"pki".parse().unwrap());
        let body = json!({ "data": { "keys": ["a", "b"],
            "key_info": { "b": { "is_default": true, "issuer_name": "root", "key_id": "k" } } } });
        let listed = listed_issuers(&request, &answer(&body)).unwrap();
        let plain: Vec<_> = listed.iter().map(|l| (l.id.as_str(), l.name.as_str(), l.is_default)).collect();
        assert_eq!(plain, [("a", "", false), ("b", "root", true)]);

        let body = json!({ "data": { "issuer_id": "a", "certificate": "C", "ca_chain": null } });
        assert_eq!(issuer(&request, &answer(&body)).unwrap().ca_chain, Vec::<String>::new());

        let body = json!({ "data": { "usage": "read-only,issuing-certificates", "leaf_not_after_behavior": "err" } });
        let settings = issuer_settings(&request, &answer(&body)).unwrap();
        assert!(settings.may_sign());
        assert!(!IssuerSettings { revoked: true, ..settings.clone() }.may_sign());
        assert!(!IssuerSettings { usage: vec!["read-only".to_owned()], ..settings }.may_sign());

        let body = json!({ "data": { "capabilities": ["deny"], "p": ["update"] } });
        let paths = ["p".to_owned(), "q".to_owned()];
        assert_eq!(capabilities(&request, &answer(&body), &paths).unwrap(), [vec!["update".to_owned()], Vec::new()]);
    }

    #[test]
    fn an_issuer_id_that_is_no_segment_is_an_answer_not_understood() {
        let request = list_issuers(&"pki".parse().unwrap());
        for id in ["../x", "", "a/b", "a?b"] {
            let body = json!({ "data": { "keys": [id] } });
            assert_eq!(listed_issuers(&request, &answer(&body)), Err(classify::misunderstood(&request)), "{id:?}");
        }
    }

    #[test]
    fn a_grant_keeps_its_token_out_of_sight() {
        let request = login(&"approle".parse().unwrap());
        let body = json!({ "auth": { "client_token": "s.canary", "lease_duration": 3600, "renewable": true } });
        let grant = grant(&request, &answer(&body)).unwrap();
        assert_eq!(format!("{:?}", grant.token), "<redacted>");
        assert_eq!((grant.ttl, grant.renewable), (Duration::from_secs(3_600), true));
    }
}
