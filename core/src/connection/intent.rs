//! The parsed, valid spec of a `VaultConnection`; the only place where its fields are validated.

use std::time::Duration;

use crate::{
    api::{CertificateSource, ConnectionAuth, ConnectionTls, KeyRef, REQUESTED_AT, Reason, VaultConnection},
    connection::address::{Address, AddressProblem, Surroundings},
    grants::{self, Grant},
    value::{
        lifetime,
        vault_path::{Segment, VaultNamespace, VaultPath},
        x509::{Roots, X509Fault},
    },
};

/// What the platform wants, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether a deletion is under way.
    pub deleting: bool,
    /// Whether `spec.suspend` is set.
    pub suspended: bool,
    /// Value of `countersign.dev/requested-at`.
    pub requested: Option<String>,
    /// The server.
    pub server: Server,
    /// How we log in.
    pub login: Login,
    /// Bounds on what we ask.
    pub limits: Limits,
    /// Who may ask for what.
    pub grants: Vec<Grant>,
}

/// The server and how its certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// Vault Enterprise or OpenBao namespace.
    pub namespace: Option<VaultNamespace>,
    /// The CA certificates; `None` = the public roots alone.
    pub ca: Option<CaSource>,
    /// Name to verify instead of the address's host.
    pub server_name: Option<String>,
    /// Whether the public roots are trusted as well.
    pub public_roots: bool,
}

/// Where the CA certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSource {
    /// In a ConfigMap of the operator's namespace.
    ConfigMap(KeyRef),
    /// In a Secret of the operator's namespace.
    Secret(KeyRef),
    /// In the spec.
    Inline(Roots),
}

/// How we log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With a projected token of the operator's ServiceAccount.
    Jwt {
        /// Kubernetes or JWT auth method.
        method: JwtMethod,
        /// Mount of the auth method.
        mount: VaultPath,
        /// Role of the auth method.
        role: Segment,
        /// Audience of the token.
        audience: String,
    },
    /// With a role id and a secret id.
    AppRole {
        /// Mount of the auth method.
        mount: VaultPath,
        /// The role id.
        role_id: String,
        /// Where the secret id is.
        secret_id: KeyRef,
    },
    /// With a token kept in a Secret.
    Token {
        /// Where the token is.
        secret: KeyRef,
    },
}

impl Login {
    /// The Secret of the operator's namespace that the login needs.
    pub fn credential(&self) -> Option<&KeyRef> {
        match self {
            Self::Jwt { .. } => None,
            Self::AppRole { secret_id, .. } => Some(secret_id),
            Self::Token { secret } => Some(secret),
        }
    }
}

/// Which auth method takes a ServiceAccount's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtMethod {
    /// The API server reviews the token.
    Kubernetes,
    /// The token's signature is verified.
    Jwt,
}

/// Bounds on what we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Requests under way at once.
    pub in_flight: u32,
    /// Deadline of one request.
    pub timeout: Duration,
}

/// A field that does not parse or may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Path of the field, for example `spec.address`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It breaks this rule.
    Rule(&'static str),
    /// The address is one that we must not contact.
    Forbidden,
    /// The audience is not one that the operator may ask tokens for.
    Audience,
    /// The CA certificates cannot be used.
    Ca(X509Fault),
}

impl Rejection {
    /// The named cause.
    pub fn reason(self) -> Reason {
        match self.problem {
            Problem::Rule(_) => Reason::InvalidSpec,
            Problem::Forbidden => Reason::AddressForbidden,
            Problem::Audience => Reason::AudienceNotAllowed,
            Problem::Ca(_) => Reason::CABundleInvalid,
        }
    }

    /// For people; never holds what was written in the field.
    pub fn message(self) -> String {
        let field = self.field;
        match self.problem {
            Problem::Rule(rule) => format!("{field} {rule}; correct it"),
            Problem::Forbidden => format!(
                "{field} is a loopback, link-local, metadata or API server address, which the operator never contacts"
            ),
            Problem::Audience => format!("{field} is not among the chart's tokenAudiences; add it there or correct it"),
            Problem::Ca(fault) => format!("{field}: {fault}; give PEM certificates of authorities"),
        }
    }
}

/// Parses an object; `surroundings` say what is forbidden here.
pub fn parse(object: &VaultConnection, surroundings: &Surroundings) -> Result<Intent, Rejection> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let missing = |field| broken(field, "must be set");
    Ok(Intent {
        name: meta.name.clone().ok_or_else(|| missing("metadata.name"))?,
        uid: meta.uid.clone().ok_or_else(|| missing("metadata.uid"))?,
        generation: meta.generation.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        suspended: spec.suspend == Some(true),
        requested: meta.annotations.as_ref().and_then(|all| all.get(REQUESTED_AT)).cloned(),
        server: server(object, surroundings)?,
        login: login(&spec.auth, surroundings)?,
        limits: limits(object)?,
        grants: grants::parse(&spec.grants).map_err(|(_, problem)| broken("spec.grants", problem.rule()))?,
    })
}

fn broken(field: &'static str, rule: &'static str) -> Rejection {
    Rejection { field, problem: Problem::Rule(rule) }
}

fn server(object: &VaultConnection, surroundings: &Surroundings) -> Result<Server, Rejection> {
    let spec = &object.spec;
    let address = Address::parse(&spec.address, surroundings).map_err(|problem| match problem {
        AddressProblem::NotHttps => {
            broken("spec.address", "must be an https URL without credentials, query or fragment")
        }
        AddressProblem::Forbidden => Rejection { field: "spec.address", problem: Problem::Forbidden },
    })?;
    let namespace = spec.vault_namespace.as_deref().map(str::parse).transpose();
    Ok(Server {
        address,
        namespace: namespace.map_err(|_| broken("spec.vaultNamespace", "must be 1-8 segments"))?,
        ca: ca(&spec.tls)?,
        server_name: server_name(&spec.tls)?,
        public_roots: spec.tls.system_roots == Some(true),
    })
}

fn ca(tls: &ConnectionTls) -> Result<Option<CaSource>, Rejection> {
    let Some(source) = &tls.ca else {
        return match tls.system_roots {
            Some(true) => Ok(None),
            Some(false) | None => Err(broken("spec.tls.ca", "is required unless systemRoots is true")),
        };
    };
    match source {
        CertificateSource { config_map: Some(key), secret: None, inline: None } => {
            Ok(Some(CaSource::ConfigMap(key.clone())))
        }
        CertificateSource { config_map: None, secret: Some(key), inline: None } => {
            Ok(Some(CaSource::Secret(key.clone())))
        }
        CertificateSource { config_map: None, secret: None, inline: Some(pem) } => Roots::parse(pem)
            .map(|roots| Some(CaSource::Inline(roots)))
            .map_err(|fault| Rejection { field: "spec.tls.ca.inline", problem: Problem::Ca(fault) }),
        _ => Err(broken("spec.tls.ca", "must be exactly one of configMap, secret, inline")),
    }
}

fn server_name(tls: &ConnectionTls) -> Result<Option<String>, Rejection> {
    let Some(name) = &tls.server_name else { return Ok(None) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if (1..=253).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(Some(name.to_ascii_lowercase()))
    } else {
        Err(broken("spec.tls.serverName", "must be a DNS name"))
    }
}

fn login(auth: &ConnectionAuth, surroundings: &Surroundings) -> Result<Login, Rejection> {
    let ConnectionAuth { kubernetes, jwt, app_role, token } = auth;
    match (kubernetes, jwt, app_role, token) {
        (Some(kubernetes), None, None, None) => Ok(Login::Jwt {
            method: JwtMethod::Kubernetes,
            mount: path(&kubernetes.mount, "spec.auth.kubernetes.mount")?,
            role: segment(&kubernetes.role, "spec.auth.kubernetes.role")?,
            audience: audience(&kubernetes.audience, "spec.auth.kubernetes.audience", surroundings)?,
        }),
        (None, Some(jwt), None, None) => Ok(Login::Jwt {
            method: JwtMethod::Jwt,
            mount: path(&jwt.mount, "spec.auth.jwt.mount")?,
            role: segment(&jwt.role, "spec.auth.jwt.role")?,
            audience: audience(&jwt.audience, "spec.auth.jwt.audience", surroundings)?,
        }),
        (None, None, Some(app_role), None) => Ok(Login::AppRole {
            mount: path(&app_role.mount, "spec.auth.appRole.mount")?,
            role_id: app_role.role_id.clone(),
            secret_id: app_role.secret_id.secret.clone(),
        }),
        (None, None, None, Some(token)) => Ok(Login::Token { secret: token.secret.clone() }),
        _ => Err(broken("spec.auth", "must be exactly one of kubernetes, jwt, appRole, token")),
    }
}

fn path(text: &str, field: &'static str) -> Result<VaultPath, Rejection> {
    text.parse().map_err(|_| broken(field, "must be a path of 1-16 segments outside sys, auth, identity, cubbyhole"))
}

fn segment(text: &str, field: &'static str) -> Result<Segment, Rejection> {
    text.parse().map_err(|_| broken(field, "must match ^[A-Za-z0-9_.-]{1,128}$"))
}

fn audience(text: &str, field: &'static str, surroundings: &Surroundings) -> Result<String, Rejection> {
    if surroundings.token_audiences.contains(text) {
        Ok(text.to_owned())
    } else {
        Err(Rejection { field, problem: Problem::Audience })
    }
}

fn limits(object: &VaultConnection) -> Result<Limits, Rejection> {
    let given = object.spec.limits.as_ref();
    let timeout = given.and_then(|limits| limits.timeout.as_deref());
    let timeout = timeout.map_or(Some(Duration::from_secs(10)), lifetime::parse);
    let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
    Ok(Limits {
        requests_per_second: within(given.and_then(|limits| limits.requests_per_second), 50, 10_000)
            .ok_or_else(|| broken("spec.limits.requestsPerSecond", "must be between 1 and 10000"))?,
        in_flight: within(given.and_then(|limits| limits.in_flight), 32, 1_000)
            .ok_or_else(|| broken("spec.limits.inFlight", "must be between 1 and 1000"))?,
        timeout: timeout
            .filter(|timeout| bounds.contains(timeout))
            .ok_or_else(|| broken("spec.limits.timeout", "must be between 1s and 60s"))?,
    })
}

fn within(given: Option<i32>, default: u32, most: u32) -> Option<u32> {
    let Some(given) = given else { return Some(default) };
    u32::try_from(given).ok().filter(|value| (1..=most).contains(value))
}
