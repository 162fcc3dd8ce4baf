//! The chain of a `ServiceIdentity`, from the fence down to the renewal of what is stored.
//!
//! Every gate is asked alone: in a world where all else is as it should be, the hold that
//! [`gates::check`] returns can only be about the one thing that was put in as it was seen.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    api::{KeyAlgorithm, KeySpec, Reason, ServiceIdentity},
    explain::{
        Chain, Link, Look, State, Step, domain,
        guard::{Gap, Guard, gap},
        said::{Said, place},
        target,
    },
    fault::Failure,
    identity::{
        gates,
        intent::{self, Intent},
        names::older_claim,
        world::{DomainView, Memory, NamespaceView, Progress, ServiceView, TargetView, World},
    },
    rights::OPERATOR_FENCE,
    value::domain::{ActiveAuthority, Domain, Rules, SigningLimits, rules},
};

/// What was seen of an identity and of what it needs.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The identity.
    pub identity: ServiceIdentity,
    /// Its namespace.
    pub namespace: Look<Namespace>,
    /// The admission policy that limits the operator.
    pub fence: Guard,
    /// Its trust domain and the connection under it.
    pub trust: domain::Seen,
    /// Its ServiceAccount.
    pub account: Look<ObjectMeta>,
    /// Its Services, by name.
    pub services: BTreeMap<String, Look<Service>>,
    /// Its Secret: never more than the metadata.
    pub target: Look<ObjectMeta>,
    /// The identities of its namespace.
    pub siblings: Look<Vec<ServiceIdentity>>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
}

/// The chain of a `ServiceIdentity`.
pub fn identity(seen: &Seen, now: Timestamp) -> Chain {
    let status = seen.identity.status.clone().unwrap_or_default();
    let said = Said::new(&status.conditions, status.observed_generation, seen.identity.metadata.generation);
    let name = seen.identity.metadata.name.clone().unwrap_or_default();
    let object = format!("ServiceIdentity/{name}");
    let intent = match intent::parse(&seen.identity) {
        Ok(intent) => intent,
        Err(rejection) => {
            let message = format!("{} {}", rejection.field, rejection.rule);
            return Chain { links: vec![Link::failed(Step::Spec, &object, Reason::InvalidSpec, message)] };
        }
    };
    let look = Sight { seen, intent: &intent, said };
    let mut links = vec![look.spec(&object), look.fence()];
    links.extend(look.heard(domain::under(&seen.trust)));
    links.extend(look.heard(domain::own(&seen.trust, now)));
    links.extend([look.account(), look.services(), look.names()]);
    links.extend([look.owned(), look.unclaimed()]);
    let outcome = target::Outcome { object: &object, intent: &intent, status: &status, said, target: &seen.target };
    links.push(outcome.issued(&links));
    links.extend([outcome.stored(now), outcome.renewal(now)]);
    Chain { links }
}

/// One identity, looked at.
struct Sight<'a> {
    seen: &'a Seen,
    intent: &'a Intent,
    said: Said<'a>,
}

impl Sight<'_> {
    fn spec(&self, object: &str) -> Link {
        let asked = Intent { deleting: self.intent.deleting, suspended: self.intent.suspended, ..modest(self.intent) };
        let terminating =
            self.seen.namespace.found().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        let world = World { namespace: NamespaceView { terminating, ..NamespaceView::default() }, ..self.good_world() };
        Link::of(Step::Spec, object, closed(&asked, &world), "understood, and nothing is suspended or being deleted")
    }

    fn fence(&self) -> Link {
        let (step, object) = (Step::Fence, format!("ValidatingAdmissionPolicy/{OPERATOR_FENCE}"));
        let look = match gap(&self.seen.fence) {
            None => Link::ok(step, &object, "it is there, bound, and denies"),
            Some(Gap::Open(what)) => {
                let message = format!("{what}; no Secret is touched without it");
                return Link::failed(step, &object, Reason::FenceMissing, message);
            }
            Some(Gap::Hidden(why)) => Link::hidden(step, &object, why),
        };
        self.unless_said(look)
    }

    /// The links as they were seen, and what the operator said of those that the caller may not see.
    fn heard(&self, mut links: Vec<Link>) -> Vec<Link> {
        let [link] = links.as_slice() else { return links };
        if link.state != State::Unknown {
            return links;
        }
        // Without the domain the connection is not known either.
        let last = if link.step == Step::Domain { Step::Authority } else { Step::Rate };
        let told = self.said.trouble().filter(|finding| (Step::Connection..=last).contains(&place(finding.reason)));
        let Some(finding) = told else { return links };
        let step = place(finding.reason);
        let unnamed = link.step == Step::Domain && step < Step::Domain;
        let object = if unnamed { "VaultConnection/-" } else { link.object.as_str() };
        let told = Link::failed(step, object, finding.reason, finding.message);
        if step == link.step {
            return vec![Link { missing_right: link.missing_right.clone(), ..told }];
        }
        links.push(told);
        links.sort_by_key(|link| link.step);
        links
    }

    fn account(&self) -> Link {
        let (step, object) = (Step::ServiceAccount, format!("ServiceAccount/{}", self.intent.service_account));
        let account_exists = match &self.seen.account {
            Look::Found(_) => true,
            Look::Absent => false,
            Look::Hidden(why) => return self.unless_said(Link::hidden(step, &object, why)),
        };
        let world = World { account_exists, ..self.good_world() };
        Link::of(step, &object, closed(&modest(self.intent), &world), "it exists")
    }

    fn services(&self) -> Link {
        let step = Step::Services;
        let names: Vec<&str> = self.intent.services.iter().map(String::as_str).collect();
        let object = if names.is_empty() { "Service/-".to_owned() } else { format!("Service/{}", names.join(",")) };
        let mut services = BTreeMap::new();
        for name in &self.intent.services {
            let view = match self.seen.services.get(name) {
                Some(Look::Found(service)) => view(service),
                Some(Look::Absent) | None => ServiceView::Missing,
                Some(Look::Hidden(why)) => return self.unless_said(Link::hidden(step, &object, why)),
            };
            services.insert(name.clone(), view);
        }
        let world = World { services, ..self.good_world() };
        let message = if names.is_empty() { "none is asked for" } else { "they exist" };
        Link::of(step, &object, closed(&modest(self.intent), &world), message)
    }

    fn names(&self) -> Link {
        let (step, object) = (Step::Names, format!("TrustDomain/{}", self.intent.trust_domain));
        let Some(rules) = self.rules() else {
            let link = Link::unknown(step, &object, "not known without the rules of the trust domain");
            return self.unless_said(link);
        };
        let by_label = rules.allow.iter().any(|rule| rule.namespaces.match_labels.is_some());
        let labels =
            self.seen.namespace.found().and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
        let world = World { namespace: NamespaceView { labels, terminating: false }, ..self.good_world() };
        let intent = Intent { deleting: false, suspended: false, ..self.intent.clone() };
        match (gates::check(&intent, &world), &self.seen.namespace) {
            (Ok(admitted), _) => {
                let count = admitted.names.dns.len() + admitted.names.ips.len();
                let message = format!("the SPIFFE ID, {count} other names and the lifetime may be asked for");
                self.unless_said(Link::ok(step, &object, message))
            }
            // A rule may select the namespace by labels that the caller does not see.
            (Err(_), Look::Hidden(why)) if by_label => self.unless_said(Link::hidden(step, &object, why)),
            (Err(hold), _) => Link::of(step, &object, Some(hold.failure), ""),
        }
    }

    fn owned(&self) -> Link {
        let (step, object) = (Step::TargetOwned, format!("Secret/{}", self.intent.target.name));
        let (target, message) = match &self.seen.target {
            Look::Absent => (TargetView::Absent, "it does not exist yet, and may be written"),
            Look::Found(meta) => (target::view(meta), "it is this identity's own"),
            Look::Hidden(why) => return self.unless_said(Link::hidden(step, &object, why)),
        };
        let world = World { target, ..self.good_world() };
        // Type and immutability are not in the metadata: there the operator has the last word.
        self.unless_said(Link::of(step, &object, closed(&modest(self.intent), &world), message))
    }

    fn unclaimed(&self) -> Link {
        let (step, object) = (Step::TargetClaimed, format!("Secret/{}", self.intent.target.name));
        let claimed_by = match &self.seen.siblings {
            Look::Found(siblings) => older_claim(self.intent, siblings),
            Look::Absent => None,
            Look::Hidden(why) => return self.unless_said(Link::hidden(step, &object, why)),
        };
        let world = World { claimed_by, ..self.good_world() };
        Link::of(step, &object, closed(&modest(self.intent), &world), "no older identity names it")
    }

    /// The link as it was seen, unless the operator, who sees more, says that it failed.
    fn unless_said(&self, link: Link) -> Link {
        match self.said.trouble_at(link.step) {
            Some(finding) if link.state != State::Failed => {
                Link::failed(link.step, &link.object, finding.reason, finding.message)
            }
            Some(_) | None => link,
        }
    }

    fn rules(&self) -> Option<Rules> {
        self.seen.trust.domain.found().and_then(|domain| rules(&domain.spec).ok())
    }

    /// A world in which nothing stands in the way.
    fn good_world(&self) -> World {
        World {
            account_exists: true,
            namespace: NamespaceView::default(),
            services: self.intent.services.iter().map(|name| (name.clone(), ServiceView::Usable)).collect(),
            cluster_domain: self.seen.cluster_domain.clone(),
            domain: DomainView::Ready(Box::new(good_domain(self.rules()))),
            issuer_in_doubt: false,
            claimed_by: None,
            fenced: true,
            target: TargetView::Absent,
            target_read_at: Timestamp::UNIX_EPOCH,
            memory: Memory::default(),
            progress: Progress::default(),
        }
    }
}

fn closed(intent: &Intent, world: &World) -> Option<Failure> {
    gates::check(intent, world).err().map(|hold| hold.failure)
}

/// The intent without anything that a rule could refuse.
fn modest(intent: &Intent) -> Intent {
    let mut intent = intent.clone();
    intent.dns_names.clear();
    intent.ip_addresses.clear();
    (intent.ttl, intent.deleting, intent.suspended) = (None, false, false);
    intent
}

/// A domain that can sign, with these rules; what it would sign with does not matter to a gate.
fn good_domain(rules: Option<Rules>) -> Domain {
    let rules = rules.unwrap_or_else(|| Rules {
        name: "unknown".to_owned(),
        default_ttl: Duration::from_secs(86_400),
        default_key: KeySpec { algorithm: KeyAlgorithm::ECDSA, size: Some(256) },
        short_names: false,
        allow: Vec::new(),
        limits: SigningLimits { signs_per_second: 1, in_flight: 1 },
    });
    let active =
        ActiveAuthority { id: String::new(), issuer_ref: None, subject_key_id: Vec::new(), not_after: Timestamp::MAX };
    Domain {
        name: rules.name,
        default_ttl: rules.default_ttl,
        default_key: rules.default_key,
        short_names: rules.short_names,
        allow: rules.allow,
        active,
        roots: String::new(),
        limits: rules.limits,
        revision: String::new(),
    }
}

fn view(service: &Service) -> ServiceView {
    let type_ = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    if type_ == Some("ExternalName") { ServiceView::ExternalName } else { ServiceView::Usable }
}
