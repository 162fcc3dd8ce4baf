//! From a decided signing request to a parsed, judged answer: finds who signs for a trust domain,
//! waits in its queue, asks, and holds the chain against the domain's roots.
//!
//! What a failure says of the issuer rather than of one identity is kept as a complaint, and the
//! trust domain is told to look. Decides nothing about identities.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_core::{
    api::{Reason, TrustDomain},
    fault::{Class, Failure},
    identity::world::{Answer, SignRequest},
    trust::{
        intent::{self, Issuer as Signer},
        rules::{Subject, secret_name},
        world::Complaint,
    },
    value::{
        domain::Domain,
        x509::{Roots, parse_pem_chain},
    },
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{connections::Connections, routes::Queues, view::View};
use crate::{
    cluster::Cluster,
    issuers::{self, Issuer, Source, queue::SignQueue, verify},
    runtime::{clock::Clock, entropy::Entropy},
};

/// How long an authority's key stays in memory after it last signed.
const KEY_IDLE: Duration = Duration::from_secs(600);

/// Who signs, for every trust domain. Clones share it.
#[derive(Clone)]
pub struct Signing {
    cluster: Cluster,
    connections: Connections,
    view: View,
    queues: Queues,
    clock: Clock,
    entropy: Arc<Entropy>,
    lines: Arc<Mutex<HashMap<String, Line>>>,
}

/// What is kept for one trust domain, by the name of its object.
struct Line {
    queue: SignQueue,
    /// The issuer that signed last with a key of our own, and what it was made of.
    issuer: Option<Kept>,
    /// Held by whoever reads the key, so that a burst reads it once.
    reading: Arc<tokio::sync::Mutex<()>>,
    complaint: Option<Complaint>,
}

struct Kept {
    authority: String,
    issuer: Arc<dyn Issuer>,
    used: Duration,
}

impl Signing {
    /// Nobody has signed yet.
    pub fn new(
        cluster: Cluster,
        connections: Connections,
        view: View,
        queues: Queues,
        clock: Clock,
        entropy: Arc<Entropy>,
    ) -> Self {
        Self { cluster, connections, view, queues, clock, entropy, lines: Arc::default() }
    }

    /// Has one request signed by the authority it names.
    ///
    /// # Errors
    /// Whatever keeps the issuer from signing; `Conflict` when the domain has another authority by now.
    pub async fn sign(&self, request: &SignRequest) -> Result<Answer, Failure> {
        let (object, domain) = self.domain(request)?;
        let queue = self.queue(&request.trust_domain, &domain);
        let _slot = queue.enter(request.urgency).await?;
        self.cluster.may_act()?;
        let result = match self.issuer(&object, &domain).await {
            Ok(issuer) => self.ask(issuer.as_ref(), request, &domain).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &result {
            self.note(&object, failure);
        }
        result
    }

    /// What signing has shown of a domain's issuer since it was last found good.
    pub fn complaint(&self, trust_domain: &str) -> Option<Complaint> {
        self.lines().get(trust_domain)?.complaint.clone()
    }

    /// The issuer was looked at and found good.
    pub fn found_good(&self, trust_domain: &str) {
        if let Some(line) = self.lines().get_mut(trust_domain) {
            line.complaint = None;
        }
    }

    /// Whether the issuer of a domain is known not to answer as it should.
    pub fn in_doubt(&self, object: &TrustDomain) -> bool {
        let connection = object.spec.issuer.vault.as_ref().map(|vault| &vault.connection);
        self.complaint(&object.name_any()).is_some()
            || connection.is_some_and(|connection| self.connections.outage(connection).is_some())
    }

    /// Drops keys that have not signed for a while.
    pub fn sweep(&self) {
        let now = self.clock.monotonic();
        for line in self.lines().values_mut() {
            line.issuer.take_if(|kept| now.saturating_sub(kept.used) >= KEY_IDLE);
        }
    }

    /// Forgets a domain that is gone.
    pub fn forget(&self, trust_domain: &str) {
        self.lines().remove(trust_domain);
    }

    fn domain(&self, request: &SignRequest) -> Result<(TrustDomain, Domain), Failure> {
        let moved = || {
            let words = "the trust domain changed while a certificate was asked for; looking again";
            Failure::new(Class::Conflict, Reason::WriteConflict, words)
        };
        let stored = self.view.domains.get(&ObjectRef::new(&request.trust_domain)).ok_or_else(moved)?;
        let object = stored.0.as_ref().map_err(|_| moved())?.clone();
        let domain = object.status.as_ref().and_then(|status| Domain::new(&object.spec, status)).ok_or_else(moved)?;
        if domain.active.id == request.authority { Ok((object, domain)) } else { Err(moved()) }
    }

    fn queue(&self, name: &str, domain: &Domain) -> SignQueue {
        let mut lines = self.lines();
        let line = lines.entry(name.to_owned()).or_insert_with(|| Line {
            queue: SignQueue::new(self.clock.clone(), domain.limits),
            issuer: None,
            reading: Arc::default(),
            complaint: None,
        });
        let queue = line.queue.clone();
        drop(lines);
        queue.bound(domain.limits);
        queue
    }

    async fn issuer(&self, object: &TrustDomain, domain: &Domain) -> Result<Arc<dyn Issuer>, Failure> {
        let invalid = |problem: countersign_core::value::domain::FieldProblem| {
            Failure::new(Class::Invalid, Reason::TrustDomainNotReady, problem.to_string())
        };
        let intent = intent::parse(object).map_err(invalid)?;
        match intent.issuer {
            Signer::Vault(pki) => {
                let session = self.connections.session(&pki.connection).ok_or_else(|| {
                    let words = format!("VaultConnection {} is not connected yet", pki.connection);
                    Failure::new(Class::Unavailable, Reason::ConnectionNotReady, words)
                })?;
                let issuer = domain.active.issuer_ref.clone().unwrap_or_default();
                let source = Source::Vault { session, mount: pki.mount, issuer, role: pki.role };
                issuers::build(source, self.entropy.clone())
            }
            Signer::Embedded { .. } => self.embedded(&object.name_any(), domain).await,
        }
    }

    /// The issuer of the domain's active authority, if its key is in memory.
    fn kept(&self, name: &str, domain: &Domain) -> Option<Arc<dyn Issuer>> {
        let mut lines = self.lines();
        let kept = lines.get_mut(name)?.issuer.as_mut().filter(|kept| kept.authority == domain.active.id)?;
        kept.used = self.clock.monotonic();
        Some(kept.issuer.clone())
    }

    /// The domain's own authority, its key read when it is first needed.
    async fn embedded(&self, name: &str, domain: &Domain) -> Result<Arc<dyn Issuer>, Failure> {
        if let Some(issuer) = self.kept(name, domain) {
            return Ok(issuer);
        }
        let reading = self.lines().get(name).map(|line| line.reading.clone()).unwrap_or_default();
        let _reading = reading.lock().await;
        if let Some(issuer) = self.kept(name, domain) {
            return Ok(issuer);
        }
        for number in 1.. {
            let Some(secret) = self.cluster.authority(&secret_name(&domain.name, number)).await? else { break };
            let known = issuers::embedded::read_authority(&secret.certificate, &secret.key);
            if known.is_ok_and(|certificate| certificate.leaf.spki.as_str() == domain.active.id) {
                let source = Source::Embedded { certificate: secret.certificate, key: secret.key };
                let issuer = issuers::build(source, self.entropy.clone())?;
                if let Some(line) = self.lines().get_mut(name) {
                    let authority = domain.active.id.clone();
                    line.issuer = Some(Kept { authority, issuer: issuer.clone(), used: self.clock.monotonic() });
                }
                return Ok(issuer);
            }
        }
        let words = format!("the Secret with the key of trust domain {name} is gone or holds another one; restore it");
        Err(Failure::new(Class::Invalid, Reason::AuthorityLost, words))
    }

    async fn ask(&self, issuer: &dyn Issuer, request: &SignRequest, domain: &Domain) -> Result<Answer, Failure> {
        let now = self.clock.now();
        let asked = issuers::SignRequest {
            csr: request.csr.clone(),
            names: request.names.clone(),
            ttl: Duration::from_secs(u64::try_from(request.ttl).unwrap_or_default()),
            now,
        };
        let signed = issuer.sign(&asked).await?;
        judge(signed.chain, &domain.roots, now)
    }

    /// A failure that speaks of the issuer makes its domain look; one that speaks of the server, its connection.
    fn note(&self, object: &TrustDomain, failure: &Failure) {
        let name = object.name_any();
        match Subject::of(failure) {
            Subject::Issuer => {
                let complaint = Complaint {
                    at: self.clock.now(),
                    generation: object.metadata.generation.unwrap_or_default(),
                    failure: failure.clone(),
                };
                let known = self.lines().get_mut(&name).and_then(|line| line.complaint.replace(complaint));
                if known.is_none() {
                    self.queues.domain(&name);
                }
            }
            Subject::Server => {
                let vault = object.spec.issuer.vault.iter();
                vault.for_each(|vault| self.queues.connection(&vault.connection));
            }
            Subject::Request => {}
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a chain and lets an independent verifier judge it, now and at its end.
fn judge(chain: String, roots: &str, now: Timestamp) -> Result<Answer, Failure> {
    let unreadable = || {
        let words = "the issuer's answer holds no readable certificate";
        Failure::new(Class::Unavailable, Reason::UpstreamInvalid, words)
    };
    let certificates = parse_pem_chain(&chain).map_err(|_| unreadable())?;
    let leaf = certificates.first().ok_or_else(unreadable)?.leaf.clone();
    let end = Timestamp::from_second(leaf.not_after.as_second().saturating_sub(1)).unwrap_or(leaf.not_after);
    let trusted = Roots::parse(roots).is_ok_and(|roots| verify::verify(&certificates, &roots, &[now, end]).is_ok());
    Ok(Answer { chain, leaf, trusted })
}
