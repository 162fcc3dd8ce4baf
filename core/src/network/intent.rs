//! From the objects that people wrote to what they declared; the only place where their fields are validated.
//!
//! The rules are those of the schemas, checked again because an object may be older than its schema. What does not
//! parse declares nothing, and its status says why.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_core::ResourceExt;

use super::{
    declared::{
        Addresses, ApiServer, Consent, Exceptions, External, Grant, GrantTo, Mode, Namespaces, ObjectKey, OnWouldBreak,
        Pace, PortRef, Probes, Request, Segment, Source, Target,
    },
    model::{Flow, Identity, Namespace, PortSpan, Protocol},
};
use crate::{
    api::{
        self, AccessGrant, AccessRequest, ApiServerAccess, AutoOrNever, Direction, ExternalService, GrantSource, Port,
        PortProtocol, ProbeSource, RequestTarget, SegmentConsent, SegmentMode, WouldBreakAction,
    },
    value::{lifetime, names::is_subdomain},
};

/// How long the data plane is given, where the spec does not say.
const DEFAULT_SETTLE: Duration = Duration::from_secs(10);
/// The longest it may be given.
const LONGEST_SETTLE: Duration = Duration::from_secs(600);

/// A field that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its path, for example `spec.ports[0].port`.
    pub field: String,
    /// What it breaks: "must be …".
    pub rule: &'static str,
}

fn reject<T>(field: impl Into<String>, rule: &'static str) -> Result<T, Rejection> {
    Err(Rejection { field: field.into(), rule })
}

/// Parses a `Segment`.
///
/// # Errors
/// The first field that breaks a rule.
pub fn segment(object: &api::Segment) -> Result<Segment, Rejection> {
    let spec = &object.spec;
    let exceptions = spec.exceptions.clone().unwrap_or_default();
    Ok(Segment {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        namespaces: namespaces(&spec.namespaces)?,
        protected: spec.protected == Some(true),
        mode: match spec.mode.unwrap_or(SegmentMode::Observe) {
            SegmentMode::Off => Mode::Off,
            SegmentMode::Observe => Mode::Observe,
            SegmentMode::Enforce => Mode::Enforce,
        },
        directions: directions(spec.directions.as_deref())?,
        consent: match spec.consent.unwrap_or(SegmentConsent::Both) {
            SegmentConsent::Both => Consent::Both,
            SegmentConsent::ServerOnly => Consent::ServerOnly,
        },
        exceptions: Exceptions {
            dns: exceptions.dns.unwrap_or(AutoOrNever::Auto) == AutoOrNever::Auto,
            api_server: match exceptions.api_server.unwrap_or(ApiServerAccess::OnRequest) {
                ApiServerAccess::OnRequest => ApiServer::OnRequest,
                ApiServerAccess::All => ApiServer::All,
                ApiServerAccess::Never => ApiServer::Never,
            },
            probes: match exceptions.probes.unwrap_or(ProbeSource::Auto) {
                ProbeSource::Auto => Probes::Auto,
                ProbeSource::Nodes => Probes::Nodes,
            },
        },
        pace: pace(&spec.rollout.clone().unwrap_or_default())?,
        suspended: spec.suspend == Some(true),
    })
}

fn namespaces(spec: &api::SegmentNamespaces) -> Result<Namespaces, Rejection> {
    match (&spec.names, &spec.match_labels) {
        (Some(names), None) if !names.is_empty() => {
            let names: Option<BTreeSet<Namespace>> = names.iter().map(|name| Namespace::parse(name)).collect();
            names.map(Namespaces::Names).map_or_else(
                || reject("spec.namespaces.names", "must be namespace names; a segment has no word for all of them"),
                Ok,
            )
        }
        (None, Some(labels)) if !labels.is_empty() => Ok(Namespaces::Labels(labels.clone())),
        _ => reject("spec.namespaces", "exactly one of names, matchLabels; at least 1 item"),
    }
}

fn directions(spec: Option<&[Direction]>) -> Result<BTreeSet<Flow>, Rejection> {
    let Some(directions) = spec else { return Ok(BTreeSet::from([Flow::Ingress, Flow::Egress])) };
    if directions.is_empty() {
        return reject("spec.directions", "must have at least 1 item");
    }
    let flow = |direction: &Direction| match direction {
        Direction::Ingress => Flow::Ingress,
        Direction::Egress => Flow::Egress,
    };
    Ok(directions.iter().map(flow).collect())
}

fn pace(spec: &api::SegmentRollout) -> Result<Pace, Rejection> {
    let settle = match &spec.settle {
        None => DEFAULT_SETTLE,
        Some(text) => match lifetime::parse(text) {
            Some(settle) if settle <= LONGEST_SETTLE => settle,
            _ => return reject("spec.rollout.settle", "must be between 0s and 10m"),
        },
    };
    let at_once =
        usize::try_from(spec.max_namespaces_at_once.unwrap_or(1)).ok().filter(|count| (1..=100).contains(count));
    let Some(at_once) = at_once else {
        return reject("spec.rollout.maxNamespacesAtOnce", "must be between 1 and 100");
    };
    let on_would_break = match spec.on_would_break.unwrap_or(WouldBreakAction::Hold) {
        WouldBreakAction::Hold => OnWouldBreak::Hold,
        WouldBreakAction::Proceed => OnWouldBreak::Proceed,
    };
    Ok(Pace { settle, at_once, on_would_break })
}

/// Parses an `AccessGrant`.
///
/// # Errors
/// The first field that breaks a rule.
pub fn grant(object: &AccessGrant) -> Result<Grant, Rejection> {
    let spec = &object.spec;
    let to = match (&spec.to.service_account_name, spec.to.all) {
        (Some(account), None) => GrantTo::Account(self::account("spec.to.serviceAccountName", account)?),
        (None, Some(true)) => GrantTo::All,
        _ => return reject("spec.to", "exactly one of serviceAccountName, all"),
    };
    if spec.from.is_empty() {
        return reject("spec.from", "must have at least 1 item; no grant means nobody");
    }
    let from = spec.from.iter().enumerate().map(|(place, source)| self::source(source, &format!("spec.from[{place}]")));
    Ok(Grant {
        key: key(object)?,
        uid: object.uid().unwrap_or_default(),
        to,
        from: from.collect::<Result<_, _>>()?,
        ports: ports(&spec.ports, "spec.ports")?,
    })
}

fn source(source: &GrantSource, field: &str) -> Result<Source, Rejection> {
    let GrantSource { namespace, service_account_name, all, all_namespaces, external } = source;
    match (namespace, service_account_name, all, all_namespaces, external) {
        (Some(namespace), Some(account), None, None, None) => Ok(Source::Identity(Identity {
            namespace: self::namespace(&format!("{field}.namespace"), namespace)?,
            account: self::account(&format!("{field}.serviceAccountName"), account)?,
        })),
        (Some(namespace), None, Some(true), None, None) => {
            self::namespace(&format!("{field}.namespace"), namespace).map(Source::Namespace)
        }
        (None, None, None, Some(true), None) => Ok(Source::AllNamespaces),
        (None, None, None, None, Some(name)) => self::account(&format!("{field}.external"), name).map(Source::External),
        _ => reject(
            field,
            "exactly one of serviceAccountName, all, allNamespaces, external; namespace with the first two",
        ),
    }
}

/// Parses an `AccessRequest`.
///
/// # Errors
/// The first field that breaks a rule.
pub fn request(object: &AccessRequest) -> Result<Request, Rejection> {
    let spec = &object.spec;
    if spec.to.is_empty() {
        return reject("spec.to", "must have at least 1 item");
    }
    let to = spec.to.iter().enumerate().map(|(place, target)| self::target(target, &format!("spec.to[{place}]")));
    Ok(Request {
        key: key(object)?,
        uid: object.uid().unwrap_or_default(),
        from: account("spec.from.serviceAccountName", &spec.from.service_account_name)?,
        to: to.collect::<Result<_, _>>()?,
    })
}

fn target(target: &RequestTarget, field: &str) -> Result<Target, Rejection> {
    let RequestTarget { namespace, service_account_name, ports, external, api_server } = target;
    match (namespace, service_account_name, ports, external, api_server) {
        (Some(namespace), Some(account), Some(ports), None, None) => Ok(Target::Identity {
            server: Identity {
                namespace: self::namespace(&format!("{field}.namespace"), namespace)?,
                account: self::account(&format!("{field}.serviceAccountName"), account)?,
            },
            ports: self::ports(ports, &format!("{field}.ports"))?,
        }),
        (None, None, None, Some(name), None) => self::account(&format!("{field}.external"), name).map(Target::External),
        (None, None, None, None, Some(true)) => Ok(Target::ApiServer),
        _ => {
            reject(field, "exactly one of serviceAccountName, external, apiServer; namespace and ports with the first")
        }
    }
}

/// Parses an `ExternalService`.
///
/// # Errors
/// The first field that breaks a rule.
pub fn external(object: &ExternalService) -> Result<External, Rejection> {
    let spec = &object.spec;
    if spec.cidrs.is_empty() {
        return reject("spec.cidrs", "must have at least 1 item");
    }
    let addresses = spec.cidrs.iter().enumerate().map(|(place, text)| match text.as_str() {
        "Any" => Ok(Addresses::Any),
        text if text.ends_with("/0") => reject(format!("spec.cidrs[{place}]"), "write Any"),
        text => text
            .parse()
            .map(Addresses::Block)
            .or_else(|_| reject(format!("spec.cidrs[{place}]"), "must be a CIDR in canonical form")),
    });
    let addresses = addresses.collect::<Result<_, _>>()?;
    let ports = ports(&spec.ports, "spec.ports")?;
    if ports.iter().any(|port| matches!(port, PortRef::Named { .. })) {
        return reject("spec.ports", "a port outside the cluster is a number, or All");
    }
    Ok(External { key: key(object)?, addresses, ports })
}

fn key(object: &impl ResourceExt) -> Result<ObjectKey, Rejection> {
    let namespace = namespace("metadata.namespace", &object.namespace().unwrap_or_default())?;
    Ok(ObjectKey { namespace, name: object.name_any() })
}

fn namespace(field: &str, text: &str) -> Result<Namespace, Rejection> {
    Namespace::parse(text).map_or_else(|| reject(field, "must be a namespace name"), Ok)
}

fn account(field: &str, text: &str) -> Result<String, Rejection> {
    if is_subdomain(text) {
        return Ok(text.to_owned());
    }
    reject(field, "must be a DNS-1123 subdomain of at most 253 characters")
}

fn ports(ports: &[Port], field: &str) -> Result<Vec<PortRef>, Rejection> {
    if ports.is_empty() {
        return reject(field, "must have at least 1 item");
    }
    ports.iter().enumerate().map(|(place, port)| self::port(port, &format!("{field}[{place}]"))).collect()
}

fn port(port: &Port, field: &str) -> Result<PortRef, Rejection> {
    let protocol = match port.protocol.unwrap_or(PortProtocol::TCP) {
        PortProtocol::TCP => Protocol::Tcp,
        PortProtocol::UDP => Protocol::Udp,
        PortProtocol::SCTP => Protocol::Sctp,
    };
    let number = |number: i32| u16::try_from(number).ok().and_then(NonZeroU16::new);
    let wrong = "must be 1-65535 or a port name of at most 15 characters; every port is All";
    let end = "must be at least port, at most 65535, and needs a number";
    match (&port.port, port.end_port) {
        (IntOrString::Int(first), last) => {
            let Some(first) = number(*first) else { return reject(format!("{field}.port"), wrong) };
            let Some(last) = last.map_or(Some(first), number) else { return reject(format!("{field}.endPort"), end) };
            let span = PortSpan::new(protocol, first, last).map(PortRef::Span);
            span.map_or_else(|| reject(format!("{field}.endPort"), end), Ok)
        }
        (IntOrString::String(_), Some(_)) => reject(format!("{field}.endPort"), end),
        (IntOrString::String(word), None) if word == "All" => Ok(PortRef::All),
        (IntOrString::String(name), None) if is_port_name(name) => Ok(PortRef::Named { name: name.clone(), protocol }),
        (IntOrString::String(_), None) => reject(format!("{field}.port"), wrong),
    }
}

fn is_port_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=15).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
}
