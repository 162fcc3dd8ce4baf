//! One identity with its issuer and its Secret, without a server: what a pass asks for is done at once.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{IdentitySecret, KeyAlgorithm, KeySpec, ServiceIdentity, ServiceIdentitySpec, ServiceIdentityStatus},
    fault::Failure,
    identity::{
        Identity,
        decide::{ANSWERED_REQUEST, RENDERING},
        intent::{Intent, parse},
        renewal::second,
        report::report,
        world::{
            Answer, DomainView, Effect, KeyMaterial, Memory, NamespaceView, Progress, Reply, Settled, SignRequest,
            Stored, TargetView, World,
        },
    },
    next::{MAX_EFFECTS, Machine, Next},
    value::{
        domain::{ActiveAuthority, Domain, SigningLimits},
        secret_data::SecretBytes,
        target::SecretWrite,
        x509::{Leaf, SpkiHash},
    },
};

/// A second at which nothing special happens.
pub const START: i64 = 1_767_225_600;

/// An identity and what surrounds it.
pub struct Shell {
    /// What is wanted.
    pub intent: Intent,
    /// What was last reported.
    pub status: ServiceIdentityStatus,
    /// The Secret.
    pub target: TargetView,
    /// How often the issuer was asked.
    pub asked: usize,
    /// How the issuer answers: the end of the certificate for a `ttl`, or why there is none.
    pub issuer: fn(now: i64, ttl: i64) -> Result<i64, Failure>,
    leaves: BTreeMap<String, Leaf>,
}

/// An issuer that grants what is asked for.
pub fn as_asked(now: i64, ttl: i64) -> Result<i64, Failure> {
    Ok(now + ttl)
}

impl Shell {
    /// An identity that nothing was done for yet, of a domain that can sign.
    pub fn new() -> Self {
        Self {
            intent: intent(),
            status: ServiceIdentityStatus::default(),
            target: TargetView::Absent,
            asked: 0,
            issuer: as_asked,
            leaves: BTreeMap::new(),
        }
    }

    /// One pass by a process that remembers nothing but what is stored.
    pub fn pass(&mut self, now: i64) -> Settled {
        self.pass_over(self.world(now), now)
    }

    /// One pass over a world that was seen.
    pub fn pass_over(&mut self, mut world: World, now: i64) -> Settled {
        for _ in 0..=MAX_EFFECTS {
            match Identity::decide(&self.intent, &world, second(now)) {
                Next::Settle(settled) => {
                    self.status = report(&self.intent, &world, &settled, &self.status, second(now));
                    return settled;
                }
                Next::Do(effect) => {
                    let reply = self.perform(effect, now);
                    world = Identity::absorb(world, reply);
                }
            }
        }
        panic!("it does not settle")
    }

    /// Status and reason of a condition; empty if it is not there.
    pub fn says(&self, kind: &str) -> String {
        self.condition(kind).map(|one| format!("{}/{}", one.status, one.reason)).unwrap_or_default()
    }

    /// The message of a condition; empty if it is not there.
    pub fn message(&self, kind: &str) -> &str {
        self.condition(kind).map(|one| one.message.as_str()).unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|one| one.type_ == kind)
    }

    fn perform(&mut self, effect: Effect, now: i64) -> Reply {
        match effect {
            Effect::MakeKey { spec, names } => {
                let label = format!("key {}", self.asked);
                Reply::Key(KeyMaterial {
                    private_key: SecretBytes::from(label.clone()),
                    spki: SpkiHash::of(label.as_bytes()),
                    csr: label,
                    spec,
                    names,
                })
            }
            Effect::Sign(request) => self.sign(&request, now).map_or_else(Reply::Failed, Reply::Issued),
            Effect::WriteSecret { write, .. } => {
                let stored = Box::new(self.stored(write));
                self.target = TargetView::Present(stored.clone());
                Reply::Written(stored)
            }
        }
    }

    fn sign(&mut self, request: &SignRequest, now: i64) -> Result<Answer, Failure> {
        self.asked += 1;
        let end = (self.issuer)(now, request.ttl)?;
        let label = format!("leaf {}", self.asked);
        let leaf = Leaf::test(&label)
            .numbered(&[&[0x5a; 8][..], &self.asked.to_be_bytes()].concat())
            .keyed(&request.csr)
            .named(request.names.clone())
            .valid(second(now - 300), second(end));
        self.leaves.insert(label.clone(), leaf.clone());
        Ok(Answer { chain: label, leaf, trusted: true })
    }

    fn stored(&self, write: SecretWrite) -> Stored {
        let text = |key: &str| String::from_utf8(write.data.get(key).unwrap().expose().to_vec()).unwrap();
        Stored {
            resource_version: self.asked.to_string(),
            owner_uid: Some(self.intent.uid.clone()),
            type_: "kubernetes.io/tls".to_owned(),
            immutable: false,
            leaf: self.leaves.get(&text("tls.crt")).cloned(),
            key: Some(SpkiHash::of(text("tls.key").as_bytes())),
            trusted: true,
            rendering: write.annotations.get(RENDERING).cloned(),
            answered_request: write.annotations.get(ANSWERED_REQUEST).cloned(),
            data: write.data,
        }
    }

    /// What a pass sees.
    pub fn world(&self, now: i64) -> World {
        World {
            account_exists: true,
            namespace: NamespaceView::default(),
            services: BTreeMap::new(),
            cluster_domain: "cluster.local".to_owned(),
            domain: DomainView::Ready(Box::new(domain())),
            issuer_in_doubt: false,
            claimed_by: None,
            fenced: true,
            target: self.target.clone(),
            target_read_at: second(now),
            memory: Memory {
                issues: self.status.issues.clone(),
                last_failure: self.status.last_failure.clone(),
                transient: 0,
            },
            progress: Progress::default(),
        }
    }
}

/// The intent of `pay/api`.
pub fn intent() -> Intent {
    parse(&object("api")).unwrap()
}

/// An identity of namespace `pay` that names the Secret `api-tls`.
pub fn object(name: &str) -> ServiceIdentity {
    let spec = ServiceIdentitySpec {
        trust_domain: "prod".to_owned(),
        service_account_name: "api".to_owned(),
        services: Vec::new(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        ttl: None,
        key: None,
        renew_before: None,
        secret: IdentitySecret {
            name: "api-tls".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            deletion_policy: None,
        },
        suspend: None,
    };
    let mut object = ServiceIdentity::new(name, spec);
    object.metadata.namespace = Some("pay".to_owned());
    object.metadata.uid = Some("uid".to_owned());
    object.metadata.generation = Some(1);
    object
}

fn domain() -> Domain {
    Domain {
        name: "prod.example".to_owned(),
        default_ttl: Duration::from_secs(86_400),
        default_key: KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) },
        short_names: false,
        allow: Vec::new(),
        active: ActiveAuthority {
            id: "authority".to_owned(),
            issuer_ref: None,
            subject_key_id: b"authority".to_vec(),
            not_after: Timestamp::MAX,
        },
        roots: "root".to_owned(),
        limits: SigningLimits { signs_per_second: 50, in_flight: 8 },
        revision: "1".to_owned(),
    }
}
