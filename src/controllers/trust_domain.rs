//! The controller of `TrustDomain`: observe, drive, publish. No decision on a domain fact here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::{KeySpec, Reason, TrustDomain, TrustDomainStatus},
    fault::{Class, Failure},
    trust::{
        decide::Trust,
        intent::{self, Intent, Issuer, RootsSource},
        report,
        rules::{Claim, older_namesake, secret_name},
        world::{
            Attempt, ConnectionView, Effect, Found, IssuerView, Memory, MountIssuers, Outcome, PkiIssuer, Reply,
            RoleView, RootsView, SecretView, SecretsView, World,
        },
    },
    value::{
        secret_data::SecretBytes,
        vault_path::{Segment, VaultPath},
        x509::Certificate,
    },
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    Context,
    drive::{Perform, drive},
    observe::{Place, value},
    reconcile::{Requeue, endless, until},
};
use crate::{
    cluster::AuthoritySecret,
    issuers::embedded::{make_authority, read_authority},
    runtime::{
        events::Action,
        metrics::{Controller, Kind, ObjectSample, Resource},
    },
    vault::{IssuerInfo, Session},
};

/// The last look at an issuer that failed, by UID; lost at a restart, which then looks at once.
#[derive(Default)]
pub struct Attempts(Mutex<HashMap<String, Attempt>>);

impl Attempts {
    fn of(&self, uid: &str) -> Option<Attempt> {
        self.lock().get(uid).cloned()
    }

    fn keep(&self, uid: &str, attempt: Option<Attempt>) {
        match attempt {
            Some(attempt) => self.lock().insert(uid.to_owned(), attempt),
            None => self.lock().remove(uid),
        };
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pass over one trust domain.
///
/// # Errors
/// When the status could not be published.
pub async fn pass(object: Arc<TrustDomain>, cx: Context) -> Result<Requeue, Failure> {
    let previous = object.status.clone().unwrap_or_default();
    let clock = &cx.handles.clock;
    let intent = match intent::parse(&object) {
        Ok(intent) => intent,
        Err(problem) => {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = report::rejected(problem, generation, &previous, clock.now());
            publish(&cx, &object, &previous, &status).await?;
            return Ok(None);
        }
    };
    cx.signing.sweep();
    cx.handles.metrics.touch_trust_domain(&intent.name);
    let world = observe(&intent, &previous, &cx).await;
    let driven = drive::<Trust>(&intent, world, clock, &Hands { intent: &intent, cx: &cx }).await;
    let (world, settled) = driven.map_err(|_| endless("trust domain"))?;
    let now = clock.now();
    let status = report::report(&intent, &world, &settled, &previous, now);
    match &settled.outcome {
        Outcome::Ready { looked: true, .. } => cx.signing.found_good(&intent.name),
        Outcome::Ready { looked: false, .. } | Outcome::Deleting => {}
        Outcome::Held(failure) => {
            let (before, after) = (&previous.conditions, &status.conditions);
            let controller = Controller::TrustDomain;
            super::reconcile::tell(&cx, controller, object.as_ref(), Action::Prepare, failure, before, after);
        }
    }
    cx.attempts.keep(&intent.uid, settled.attempt);
    publish(&cx, &object, &previous, &status).await?;
    let wake = until(settled.wake, now).map(|wake| wake.max(Duration::from_millis(200)));
    Ok(wake.map(|wake| cx.handles.settings.scaled(wake)))
}

async fn observe(intent: &Intent, previous: &TrustDomainStatus, cx: &Context) -> World {
    let (secrets, connection) = match &intent.issuer {
        Issuer::Embedded { .. } => (read_authorities(intent, cx).await, ConnectionView::Usable),
        Issuer::Vault(pki) => (SecretsView::Read(BTreeMap::new()), connection(&pki.connection, cx)),
    };
    World {
        namesake: namesake(intent, cx),
        memory: Memory::of(previous),
        secrets,
        connection,
        roots: roots(intent, cx).await,
        complaint: cx.signing.complaint(&intent.name),
        attempt: cx.attempts.of(&intent.uid),
        found: Found::default(),
    }
}

fn namesake(intent: &Intent, cx: &Context) -> Option<String> {
    let stored = cx.view.domains.state();
    let claims: Vec<(Timestamp, String, String, &str)> = stored
        .iter()
        .filter_map(|stored| stored.0.as_ref().ok())
        .map(|other| {
            let created = other.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            (created, other.uid().unwrap_or_default(), other.name_any(), other.spec.name.as_str())
        })
        .collect();
    let claims =
        claims.iter().map(|(created, uid, name, trust_domain)| Claim { created: *created, uid, name, trust_domain });
    let mine =
        Claim { created: intent.created, uid: &intent.uid, name: &intent.name, trust_domain: &intent.rules.name };
    older_namesake(&mine, claims).map(str::to_owned)
}

/// The Secrets with the domain's authorities, by name from the first upward until one is absent.
async fn read_authorities(intent: &Intent, cx: &Context) -> SecretsView {
    let mut found = BTreeMap::new();
    for number in 1.. {
        match cx.cluster.authority(&secret_name(&intent.rules.name, number)).await {
            Ok(Some(secret)) => found.insert(number, authority_view(&secret)),
            Ok(None) => break,
            Err(failure) => return SecretsView::Unread(failure),
        };
    }
    SecretsView::Read(found)
}

fn authority_view(secret: &AuthoritySecret) -> SecretView {
    match read_authority(&secret.certificate, &secret.key) {
        Ok(certificate) => SecretView::Authority(Box::new(certificate)),
        Err(failure) => SecretView::Unusable(failure),
    }
}

fn connection(name: &str, cx: &Context) -> ConnectionView {
    let Some(stored) = cx.view.connections.get(&ObjectRef::new(name)) else { return ConnectionView::Missing };
    let status = stored.0.as_ref().ok().and_then(|connection| connection.status.as_ref());
    let ready = status.is_some_and(|status| status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    // The status may be an earlier process's, and our own login a moment away: a domain that need not ask must not say
    // that it cannot.
    if ready { ConnectionView::Usable } else { ConnectionView::NotReady }
}

async fn roots(intent: &Intent, cx: &Context) -> RootsView {
    let source = match &intent.issuer {
        Issuer::Vault(pki) => pki.roots.as_ref(),
        Issuer::Embedded { .. } => None,
    };
    let place = match source {
        Some(RootsSource::ConfigMap(reference)) => Place::ConfigMap(reference),
        Some(RootsSource::Secret(reference)) => Place::Secret(reference),
        Some(RootsSource::Inline(roots)) => return RootsView::Found(roots.clone()),
        None => return RootsView::NotAsked,
    };
    let read = value(&cx.cluster, place).await;
    RootsView::of_bytes(match &read {
        Ok(found) => Ok(found.as_ref().map(SecretBytes::expose)),
        Err(failure) => Err(failure.clone()),
    })
}

/// What performing needs besides the effect.
struct Hands<'a> {
    intent: &'a Intent,
    cx: &'a Context,
}

impl Perform<Trust> for Hands<'_> {
    async fn perform(&self, effect: Effect) -> Reply {
        let performed = match effect {
            Effect::MakeAuthority { number, secret, trust_domain, key, lifetime } => {
                make(number, secret, &trust_domain, key, lifetime, self.cx).await
            }
            Effect::ReadAuthority { number, secret } => self
                .cx
                .cluster
                .authority(&secret)
                .await
                .map(|found| Reply::Kept { number, view: found.as_ref().map(authority_view) }),
            Effect::ReadRole { mount, role } => match self.session() {
                Ok(session) => read_role(&session, &mount, &role).await,
                Err(failure) => Err(failure),
            },
            Effect::ReadIssuers { mount } => match self.session() {
                Ok(session) => read_issuers(&session, &mount).await,
                Err(failure) => Err(failure),
            },
            Effect::ReadIssuer { mount, issuer } => match self.session() {
                Ok(session) => read_issuer(&session, &mount, &issuer).await,
                Err(failure) => Err(failure),
            },
        };
        performed.unwrap_or_else(Reply::Failed)
    }
}

impl Hands<'_> {
    /// The login of the domain's connection, to ask with.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        self.cx.cluster.may_act()?;
        let session = match &self.intent.issuer {
            Issuer::Vault(pki) => self.cx.connections.session(&pki.connection),
            Issuer::Embedded { .. } => None,
        };
        session
            .ok_or_else(|| Failure::new(Class::Waiting, Reason::ConnectionNotReady, "the connection has no login yet"))
    }
}

async fn make(
    number: u32,
    secret: String,
    trust_domain: &str,
    key: KeySpec,
    lifetime: u64,
    cx: &Context,
) -> Result<Reply, Failure> {
    let handles = &cx.handles;
    let lifetime = Duration::from_secs(lifetime);
    let made = make_authority(trust_domain, key, lifetime, handles.clock.now(), &handles.entropy)?;
    let stored = AuthoritySecret { name: secret, certificate: made.certificate.pem(), key: made.key };
    match cx.cluster.create_authority(&stored).await {
        Ok(()) => Ok(Reply::Made { number, certificate: Box::new(made.certificate) }),
        Err(failure) if failure.reason == Reason::WriteConflict => Ok(Reply::Taken { number }),
        Err(failure) => Err(failure),
    }
}

async fn read_role(session: &Session, mount: &VaultPath, role: &Segment) -> Result<Reply, Failure> {
    match session.role(mount, role).await {
        Ok(_) => Ok(Reply::Role(RoleView::Present)),
        Err(failure) => match failure.reason {
            Reason::RoleNotFound => Ok(Reply::Role(RoleView::Missing)),
            // Reading the role is an optional right.
            Reason::AccessDenied => Ok(Reply::Role(RoleView::Hidden)),
            _ => Err(failure),
        },
    }
}

async fn read_issuers(session: &Session, mount: &VaultPath) -> Result<Reply, Failure> {
    let listed = session.list_issuers(mount).await?;
    Ok(Reply::Issuers(MountIssuers {
        default: listed.iter().find(|issuer| issuer.is_default).map(|issuer| issuer.id.to_string()),
        ids: listed.iter().map(|issuer| issuer.id.to_string()).collect(),
    }))
}

async fn read_issuer(session: &Session, mount: &VaultPath, issuer: &str) -> Result<Reply, Failure> {
    let Ok(id) = issuer.parse::<Segment>() else { return Ok(Reply::Issuer(IssuerView::Gone)) };
    let info = match session.read_issuer(mount, &id).await {
        Ok(info) => info,
        Err(failure) if failure.reason == Reason::IssuerNotUsable => return Ok(Reply::Issuer(IssuerView::Gone)),
        Err(failure) => return Err(failure),
    };
    // Reading the settings is an optional right; without it signing shows whether the issuer may.
    let may_sign = match session.issuer_settings(mount, &id).await {
        Ok(settings) => Some(settings.may_sign()),
        Err(failure) if failure.reason == Reason::AccessDenied => None,
        Err(failure) => return Err(failure),
    };
    described(&info, may_sign).map(|issuer| Reply::Issuer(IssuerView::Present(Box::new(issuer))))
}

fn described(info: &IssuerInfo, may_sign: Option<bool>) -> Result<PkiIssuer, Failure> {
    let unreadable = |_| {
        let words = "the issuer's certificate, or one above it, does not read; check the mount";
        Failure::new(Class::Invalid, Reason::IssuerNotUsable, words)
    };
    let certificate = Certificate::parse_pem(&info.certificate_pem).map_err(unreadable)?;
    let chain = info.ca_chain.iter().map(|pem| Certificate::parse_pem(pem).map_err(unreadable));
    let chain: Vec<_> = chain.collect::<Result<_, _>>()?;
    let above = chain.into_iter().filter(|each| *each != certificate).collect();
    Ok(PkiIssuer { id: info.issuer_id.to_string(), certificate, chain: above, may_sign })
}

async fn publish(
    cx: &Context,
    object: &TrustDomain,
    previous: &TrustDomainStatus,
    status: &TrustDomainStatus,
) -> Result<(), Failure> {
    if status != previous {
        let version = cx.cluster.write_cluster_status(object, Resource::TrustDomains, status).await?;
        cx.freshness.wrote(&object.uid().unwrap_or_default(), &version);
    }
    cx.handles.metrics.show_object(&ObjectSample {
        kind: Kind::TrustDomain,
        namespace: None,
        name: &object.name_any(),
        conditions: &status.conditions,
        certificate: None,
    });
    Ok(())
}
