//! The chain of a `SecretBinding`, from the fence down to the Secret that it keeps.
//!
//! Grants, accounts and targets are judged by the gates that the operator asks; what only a server knows is taken from
//! what the operator said.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    api::{
        ConditionType, MANAGED_BY, MANAGED_BY_LABEL, OWNER_UID_LABEL, Reason, SecretBinding, VaultConnection, Verdict,
    },
    binding::{
        gates::{self, older_claim},
        intent::{self, Intent},
        world::{Connection, ConnectionView, Memory, Progress, TargetView, World},
    },
    explain::{
        Chain, Link, Look, State, Step, connection,
        guard::{Gap, Guard, gap},
        said::{Said, place},
    },
    fault::{Class, Failure},
    rights::OPERATOR_FENCE,
};

/// What was seen of a binding and of what it needs.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The binding.
    pub binding: SecretBinding,
    /// Its namespace.
    pub namespace: Look<Namespace>,
    /// The admission policy that limits the operator.
    pub fence: Guard,
    /// Its connection.
    pub connection: Look<VaultConnection>,
    /// Its ServiceAccount; absent where it names none.
    pub account: Look<ObjectMeta>,
    /// Its Secret: never more than the metadata.
    pub target: Look<ObjectMeta>,
    /// The bindings of its namespace.
    pub siblings: Look<Vec<SecretBinding>>,
}

/// The chain of a `SecretBinding`.
pub fn binding(seen: &Seen) -> Chain {
    let status = seen.binding.status.clone().unwrap_or_default();
    let meta = &seen.binding.metadata;
    let said = Said::new(&status.conditions, status.observed_generation, meta.generation);
    let object = format!("SecretBinding/{}", meta.name.clone().unwrap_or_default());
    let intent = match intent::parse(&seen.binding) {
        Ok(intent) => intent,
        Err(rejection) => {
            let message = format!("{} {}", rejection.field, rejection.rule);
            return Chain { links: vec![Link::failed(Step::Spec, &object, Reason::InvalidSpec, message)] };
        }
    };
    let look = Sight { seen, intent: &intent, said, object: &object };
    let mut links = vec![look.spec(), look.fence()];
    links.extend(look.connection());
    links.extend([look.granted(), look.account(), look.owned(), look.unclaimed()]);
    links.extend([look.told(Step::Sources, "they were read"), look.told(Step::Values, "every key could be written")]);
    links.extend([look.synced(&links), look.whole()]);
    Chain { links }
}

/// One binding, looked at.
struct Sight<'a> {
    seen: &'a Seen,
    intent: &'a Intent,
    said: Said<'a>,
    object: &'a str,
}

impl Sight<'_> {
    fn spec(&self) -> Link {
        let reason = if self.intent.deleting {
            Some((Reason::Deleting, "the object is being deleted"))
        } else if self.intent.suspended {
            Some((Reason::Suspended, "spec.suspend is set; the Secret stays as it is"))
        } else {
            None
        };
        match reason {
            Some((reason, message)) => Link::failed(Step::Spec, self.object, reason, message),
            None => Link::ok(Step::Spec, self.object, "understood, and nothing is suspended or being deleted"),
        }
    }

    fn fence(&self) -> Link {
        let (step, object) = (Step::Fence, format!("ValidatingAdmissionPolicy/{OPERATOR_FENCE}"));
        let link = match gap(&self.seen.fence) {
            None => Link::ok(step, &object, "it is there, bound, and denies"),
            Some(Gap::Open(what)) => {
                let message = format!("{what}; no Secret is touched without it");
                return Link::failed(step, &object, Reason::FenceMissing, message);
            }
            Some(Gap::Hidden(why)) => Link::hidden(step, &object, why),
        };
        self.unless_said(link)
    }

    /// The links of the connection. That there is none is told no other way than that there is no grant.
    fn connection(&self) -> Vec<Link> {
        match &self.seen.connection {
            Look::Absent => Vec::new(),
            seen => connection::links(&self.intent.connection, seen),
        }
    }

    fn granted(&self) -> Link {
        let (step, object) = (Step::Granted, format!("VaultConnection/{}", self.intent.connection));
        if let Look::Hidden(why) = &self.seen.connection {
            return self.unless_said(Link::hidden(step, &object, why));
        }
        let closed =
            self.refusal().filter(|failure| place(failure.reason) == step || failure.reason == Reason::InvalidSpec);
        self.unless_said(Link::of(step, &object, closed, "a grant covers namespace, paths and type"))
    }

    fn account(&self) -> Link {
        let step = Step::ServiceAccount;
        let Some(account) = &self.intent.service_account else {
            return Link::ok(step, "ServiceAccount/-", "none is named: the operator's own login reads");
        };
        let object = format!("ServiceAccount/{account}");
        match &self.seen.account {
            Look::Found(_) => self.unless_said(Link::ok(step, &object, "it exists")),
            Look::Absent => {
                let message = format!("serviceaccount {account} does not exist in namespace {}", self.intent.namespace);
                Link::failed(step, &object, Reason::ServiceAccountMissing, message)
            }
            Look::Hidden(why) => self.unless_said(Link::hidden(step, &object, why)),
        }
    }

    fn owned(&self) -> Link {
        let name = &self.intent.target.name;
        let (step, object) = (Step::TargetOwned, format!("Secret/{name}"));
        let meta = match &self.seen.target {
            Look::Absent => {
                return self.unless_said(Link::ok(step, &object, "it does not exist yet, and may be written"));
            }
            Look::Found(meta) => meta,
            Look::Hidden(why) => return self.unless_said(Link::hidden(step, &object, why)),
        };
        let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let is_ours =
            label(MANAGED_BY_LABEL) == Some(MANAGED_BY) && label(OWNER_UID_LABEL) == Some(self.intent.uid.as_str());
        if is_ours {
            // Type and immutability are not in the metadata: there the operator has the last word.
            return self.unless_said(Link::ok(step, &object, "it is this binding's own"));
        }
        let message = format!("secret \"{name}\" is not managed by this object");
        Link::failed(step, &object, Reason::TargetNotOwned, message)
    }

    fn unclaimed(&self) -> Link {
        let (step, object) = (Step::TargetClaimed, format!("Secret/{}", self.intent.target.name));
        match &self.seen.siblings {
            Look::Hidden(why) => self.unless_said(Link::hidden(step, &object, why)),
            Look::Absent => Link::ok(step, &object, "no older binding names it"),
            Look::Found(siblings) => match older_claim(self.intent, siblings) {
                None => Link::ok(step, &object, "no older binding names it"),
                Some(rival) => {
                    let message = format!("it is claimed by the older {rival}");
                    Link::failed(step, &object, Reason::TargetClaimed, message)
                }
            },
        }
    }

    /// A link that only the operator can judge.
    fn told(&self, step: Step, message: &str) -> Link {
        if let Some(finding) = self.said.trouble_at(step) {
            return Link::failed(step, self.object, finding.reason, finding.message);
        }
        if self.said.current && self.said.holds(ConditionType::Synced) {
            return Link::ok(step, self.object, message);
        }
        Link::unknown(step, self.object, "not known before a refresh succeeds")
    }

    fn synced(&self, before: &[Link]) -> Link {
        let step = Step::Synced;
        if !self.said.current {
            let generation = self.intent.generation;
            let message = format!("the operator has not looked at generation {generation} of the spec yet");
            return Link {
                next: Some("`countersign check` says whether an operator runs"),
                ..Link::unknown(step, self.object, message)
            };
        }
        let synced = self.said.of(ConditionType::Synced);
        match synced.verdict {
            Verdict::True => Link::ok(step, self.object, synced.message),
            Verdict::Unknown => Link::unknown(step, self.object, synced.message),
            Verdict::False if before.iter().any(|link| link.state == State::Failed) => {
                Link::unknown(step, self.object, "waits for the link that failed")
            }
            Verdict::False => Link::failed(step, self.object, synced.reason, synced.message),
        }
    }

    fn whole(&self) -> Link {
        let (step, object) = (Step::Whole, format!("Secret/{}", self.intent.target.name));
        if self.seen.target == Look::Absent {
            let message = format!("secret \"{}\" does not exist", self.intent.target.name);
            return Link::failed(step, &object, Reason::SecretMissing, message);
        }
        let ready = self.said.of(ConditionType::Ready);
        match ready.verdict {
            Verdict::True => Link::ok(step, &object, ready.message),
            Verdict::False => Link::failed(step, &object, ready.reason, ready.message),
            Verdict::Unknown => Link::unknown(step, &object, ready.message),
        }
    }

    /// What the gates say of the connection as it was seen; whether the account exists is a link of its own.
    fn refusal(&self) -> Option<Failure> {
        let labels =
            self.seen.namespace.found().and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
        let world = World {
            labels,
            terminating: false,
            longer_namespaces: Vec::new(),
            connection: self.seen.connection.found().map_or(ConnectionView::Missing, |connection| {
                ConnectionView::Known(Box::new(Connection::new(connection, None, false)))
            }),
            account_exists: true,
            claimed_by: None,
            fenced: true,
            key: Err(Failure::new(Class::Waiting, Reason::Pending, "not asked for")),
            target: TargetView::Absent,
            memory: Memory { checked: Timestamp::UNIX_EPOCH, handled: None, last: None, went_back: None, told: true },
            progress: Progress::default(),
        };
        gates::admit(self.intent, &world).err()
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
}
