//! `countersign explain kind/name`: the chain of links, and the first that is broken.

use std::{collections::BTreeMap, str::FromStr};

use clap::Args;
use countersign_core::{
    api::{SecretBinding, ServiceIdentity, TrustDomain, VaultConnection},
    explain::{
        Chain, End, Link, Look, State, Step,
        binding::{self, binding},
        connection::connection,
        domain::{self, connection_of, domain},
        guard::Guard,
        identity::{self, identity},
    },
    rights::OPERATOR_FENCE,
};
use futures::{
    future::{join, join_all},
    join,
};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceAccount};
use serde::Serialize;

use super::{
    NOT_SO, NOTHING_MATCHED, OK, UNSEEN,
    shared::{Access, Output, WIDTH, answer, json, with_view, wrap},
};
use crate::{
    cluster::inspect::{Span, View},
    runtime::{clock::Clock, settings},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to explain: serviceidentity/NAME, secretbinding/NAME, trustdomain/NAME or vaultconnection/NAME; short: sid,
    /// sbind, td, vconn
    #[arg(value_name = "KIND/NAME")]
    target: Target,

    /// Namespace of the object [default: that of the kubeconfig or pod]
    #[arg(short, long, value_parser = settings::label, value_name = "NAME")]
    namespace: Option<String>,

    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    /// DNS domain of the cluster, as the operator was told
    #[arg(long, env = "COUNTERSIGN_CLUSTER_DOMAIN", default_value = "cluster.local", value_parser = settings::name, value_name = "DOMAIN")]
    cluster_domain: String,

    #[command(flatten)]
    access: Access,
}

/// An object of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    ServiceIdentity(String),
    SecretBinding(String),
    TrustDomain(String),
    VaultConnection(String),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').ok_or("must be KIND/NAME, such as serviceidentity/api")?;
        let name = settings::name(name)?;
        let kind = kind.to_ascii_lowercase();
        match kind.strip_suffix(".countersign.dev").unwrap_or(&kind) {
            "serviceidentity" | "serviceidentities" | "sid" => Ok(Self::ServiceIdentity(name)),
            "secretbinding" | "secretbindings" | "sbind" => Ok(Self::SecretBinding(name)),
            "trustdomain" | "trustdomains" | "td" => Ok(Self::TrustDomain(name)),
            "vaultconnection" | "vaultconnections" | "vconn" => Ok(Self::VaultConnection(name)),
            _ => Err(
                "the kind must be serviceidentity, secretbinding, trustdomain or vaultconnection (sid, sbind, td, vconn)",
            ),
        }
    }
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    end: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_at: Option<Step>,
    links: Vec<Link>,
}

/// Prints the chain.
pub(super) fn run(arguments: &Arguments) -> u8 {
    with_view(&arguments.access, |view, clock| async move {
        let chain = Box::pin(look(arguments, &view, &clock)).await;
        let (object, namespace) = match &arguments.target {
            Target::ServiceIdentity(name) => {
                (format!("ServiceIdentity/{name}"), Some(namespace(arguments, &view).to_owned()))
            }
            Target::SecretBinding(name) => {
                (format!("SecretBinding/{name}"), Some(namespace(arguments, &view).to_owned()))
            }
            Target::TrustDomain(name) => (format!("TrustDomain/{name}"), None),
            Target::VaultConnection(name) => (format!("VaultConnection/{name}"), None),
        };
        let explanation = Explanation::new(object, namespace, chain);
        match arguments.output {
            _ if explanation.links.is_empty() => {
                eprintln!("error: {} does not exist", explanation.title());
                NOTHING_MATCHED
            }
            Output::Text => answer(&text(&explanation), code(explanation.end)),
            Output::Json => answer(&json("ExplainResult", &explanation), code(explanation.end)),
        }
    })
}

fn namespace<'a>(arguments: &'a Arguments, view: &'a View) -> &'a str {
    arguments.namespace.as_deref().unwrap_or_else(|| view.namespace())
}

/// The chain of the target; empty where there is no such object.
async fn look(arguments: &Arguments, view: &View, clock: &Clock) -> Chain {
    let nothing = Chain { links: Vec::new() };
    match &arguments.target {
        Target::VaultConnection(name) => match view.global::<VaultConnection>(name).await {
            Look::Absent => nothing,
            seen => connection(name, &seen),
        },
        Target::TrustDomain(name) => match trust(view, name).await {
            domain::Seen { domain: Look::Absent, .. } => nothing,
            seen => domain(&seen, clock.now()),
        },
        Target::SecretBinding(name) => {
            let namespace = namespace(arguments, view);
            match view.local::<SecretBinding>(namespace, name).await {
                Look::Absent => nothing,
                Look::Hidden(why) => {
                    let object = format!("SecretBinding/{name}");
                    Chain { links: vec![Link::hidden(Step::Spec, &object, &why)] }
                }
                Look::Found(object) => binding(&Box::pin(sources(view, namespace, object)).await),
            }
        }
        Target::ServiceIdentity(name) => {
            let namespace = namespace(arguments, view);
            match view.local::<ServiceIdentity>(namespace, name).await {
                Look::Absent => nothing,
                Look::Hidden(why) => {
                    let object = format!("ServiceIdentity/{name}");
                    Chain { links: vec![Link::hidden(Step::Spec, &object, &why)] }
                }
                Look::Found(object) => {
                    let seen = Box::pin(surroundings(view, namespace, object, &arguments.cluster_domain)).await;
                    identity(&seen, clock.now())
                }
            }
        }
    }
}

async fn trust(view: &View, name: &str) -> domain::Seen {
    let domain = view.global::<TrustDomain>(name).await;
    let connection = match domain.found().and_then(connection_of) {
        Some(connection) => view.global::<VaultConnection>(connection).await,
        None => Look::Absent,
    };
    domain::Seen { name: name.to_owned(), domain, connection }
}

/// Everything an identity needs, read at once.
async fn surroundings(view: &View, here: &str, identity: ServiceIdentity, cluster_domain: &str) -> identity::Seen {
    let spec = identity.spec.clone();
    let span = Span::Namespace(here.to_owned());
    let services = join_all(spec.services.iter().map(|name| {
        let look = view.local::<Service>(here, name);
        async move { (name.clone(), look.await) }
    }));
    let (trust, namespace, policy, binding, (account, target), services, siblings) = join!(
        trust(view, &spec.trust_domain),
        view.global::<Namespace>(here),
        view.global(OPERATOR_FENCE),
        view.global(OPERATOR_FENCE),
        join(
            view.metadata::<ServiceAccount>(here, &spec.service_account_name),
            view.metadata::<Secret>(here, &spec.secret.name)
        ),
        services,
        view.list::<ServiceIdentity>(&span),
    );
    let siblings = match siblings {
        Ok(listed) => Look::Found(listed.objects),
        Err(why) => Look::Hidden(why),
    };
    identity::Seen {
        identity,
        namespace,
        fence: Guard { policy, binding },
        trust,
        account,
        services: services.into_iter().collect::<BTreeMap<_, _>>(),
        target,
        siblings,
        cluster_domain: cluster_domain.to_owned(),
    }
}

/// Everything a binding needs, read at once.
async fn sources(view: &View, here: &str, binding: SecretBinding) -> binding::Seen {
    let spec = binding.spec.clone();
    let span = Span::Namespace(here.to_owned());
    let account = async {
        match &spec.service_account_name {
            Some(account) => view.metadata::<ServiceAccount>(here, account).await,
            None => Look::Absent,
        }
    };
    let (connection, namespace, policy, guard, account, target, siblings) = join!(
        view.global::<VaultConnection>(&spec.connection),
        view.global::<Namespace>(here),
        view.global(OPERATOR_FENCE),
        view.global(OPERATOR_FENCE),
        account,
        view.metadata::<Secret>(here, &spec.secret.name),
        view.list::<SecretBinding>(&span),
    );
    let siblings = match siblings {
        Ok(listed) => Look::Found(listed.objects),
        Err(why) => Look::Hidden(why),
    };
    let fence = Guard { policy, binding: guard };
    binding::Seen { binding, namespace, fence, connection, account, target, siblings }
}

fn code(end: End) -> u8 {
    match end {
        End::Whole => OK,
        End::Broken => NOT_SO,
        End::Unclear => UNSEEN,
    }
}

impl Explanation {
    fn new(object: String, namespace: Option<String>, chain: Chain) -> Self {
        let (end, broken_at) = (chain.end(), chain.broken().map(|link| link.step));
        Self { object, namespace, end, broken_at, links: chain.links }
    }

    fn title(&self) -> String {
        self.namespace
            .as_ref()
            .map_or_else(|| self.object.clone(), |namespace| format!("{} in namespace {namespace}", self.object))
    }
}

/// Width of everything left of the details.
const INDENT: usize = 36;

fn text(explanation: &Explanation) -> String {
    let verdict = match (explanation.end, explanation.broken_at) {
        (End::Whole, _) => "every link holds".to_owned(),
        (End::Unclear, _) => "no link is known to have failed, and not all could be seen to hold".to_owned(),
        (End::Broken, None) => "broken".to_owned(),
        (End::Broken, Some(step)) => format!("broken at \"{}\"", step.title()),
    };
    let mut text = format!("{}: {verdict}\n\n  {:9}{:25}DETAIL\n", explanation.title(), "STATE", "LINK");
    let broken = explanation.links.iter().position(|link| link.state == State::Failed);
    for (place, link) in explanation.links.iter().enumerate() {
        let first = broken == Some(place);
        let mark = if first { ">" } else { " " };
        let state = match link.state {
            State::Ok => "ok",
            State::Failed => "FAILED",
            State::Unknown => "unknown",
        };
        let reason = link.reason.map(|reason| format!("{reason:?}: ")).unwrap_or_default();
        let mut details = wrap(&format!("{}: {reason}{}", link.object, link.message), WIDTH - INDENT);
        details.extend(link.next.into_iter().flat_map(|next| wrap(&format!("next: {next}"), WIDTH - INDENT)));
        for (index, detail) in details.iter().enumerate() {
            let head = if index == 0 { format!("{mark} {state:9}{:25}", link.step.title()) } else { String::new() };
            text.extend([format!("{head:INDENT$}{detail}\n")]);
        }
    }
    text
}

#[cfg(test)]
mod tests;
