//! `countersign reach FROM TO PORT`: may this client call that server, what decides it, and what is missing.

use std::fmt::Write as _;

use clap::Args;
use countersign_core::network::{
    answer::{self as question, Answer, AskedPort, End, Verdict},
    model::{Identity, Namespace, Protocol},
};

use super::{
    NOT_SO, OK, UNSEEN, network,
    shared::{Access, Output, answer, json, with_view},
};
use crate::runtime::settings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Who calls: NAMESPACE/SERVICEACCOUNT, such as shop/order
    #[arg(value_name = "FROM", value_parser = identity)]
    from: Identity,

    /// Who is called: NAMESPACE/SERVICEACCOUNT
    #[arg(value_name = "TO", value_parser = identity)]
    to: Identity,

    /// On which port: a number or the name of a container port; 53/udp where it is not TCP
    #[arg(value_name = "PORT", value_parser = asked_port)]
    port: (AskedPort, Protocol),

    /// Format of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,

    #[command(flatten)]
    access: Access,
}

/// Answers by what is declared, as the operator reads it.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let Arguments { from, to, port: (port, protocol), output, access } = arguments;
    with_view(access, |view, clock| async move {
        let decision = match Box::pin(network::look(&view, clock.now())).await {
            Ok(decision) => decision,
            Err(why) => {
                eprintln!("error: {why}");
                return UNSEEN;
            }
        };
        let found = question::answer(&decision, from, to, *protocol, port);
        let code = match found.verdict {
            Verdict::Allowed => OK,
            Verdict::Denied => NOT_SO,
            Verdict::Unknown => UNSEEN,
        };
        match output {
            Output::Text => answer(&text(&found), code),
            Output::Json => answer(&json("ConnectionResult", &found), code),
        }
    })
}

fn identity(text: &str) -> Result<Identity, &'static str> {
    let wrong = "client and server are NAMESPACE/SERVICEACCOUNT, such as shop/order";
    let (namespace, account) = text.split_once('/').ok_or(wrong)?;
    let namespace = Namespace::parse(namespace).ok_or(wrong)?;
    Ok(Identity { namespace, account: settings::name(account).map_err(|_| wrong)? })
}

fn asked_port(text: &str) -> Result<(AskedPort, Protocol), &'static str> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err("the protocol of a port is tcp, udp or sctp"),
    };
    let port = match port.parse::<std::num::NonZeroU16>() {
        Ok(number) => AskedPort::Number(number),
        Err(_) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            AskedPort::Name(port.to_owned())
        }
        Err(_) => return Err("a port is a number from 1 to 65535 or the name of a container port"),
    };
    Ok((port, protocol))
}

fn text(found: &Answer) -> String {
    let Answer { from, to, port, verdict, egress, ingress, workloads, apply } = found;
    let verdict = match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
        Verdict::Unknown => "unknown",
    };
    let mut text = format!("{from} to {to} on {port}: {verdict}\n");
    for (what, End { segment, observed, open, because }) in [("way out", egress), ("way in", ingress)] {
        let by = match (segment, observed) {
            (None, _) => String::new(),
            (Some(name), true) => format!(" (Segment {name} only observes)"),
            (Some(name), false) => format!(" (Segment {name})"),
        };
        let state = if *open { "open" } else { "closed" };
        let _ = writeln!(text, "  {what:8} {state:7}{because}{by}");
    }
    for workload in workloads {
        let _ = writeln!(text, "  {workload}");
    }
    if let Some(yaml) = apply {
        let _ = write!(text, "what is missing:\n{yaml}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_checked() {
        assert!(identity("shop/order").is_ok());
        for wrong in ["shop", "Shop/order", "shop/", "/order", "shop/a b"] {
            assert!(identity(wrong).is_err(), "{wrong}");
        }
        let named = |name: &str| AskedPort::Name(name.to_owned());
        assert_eq!(asked_port("https"), Ok((named("https"), Protocol::Tcp)));
        assert_eq!(asked_port("53/UDP").map(|(_, protocol)| protocol), Ok(Protocol::Udp));
        for wrong in ["", "0/x", "53/icmp", "a b"] {
            assert!(asked_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_read_by_people() {
        let end = |open, because: &str| End {
            segment: Some("shop".to_owned()),
            observed: false,
            open,
            because: because.to_owned(),
        };
        let found = Answer {
            from: "shop/order".to_owned(),
            to: "payments/payment".to_owned(),
            port: "TCP 8443".to_owned(),
            verdict: Verdict::Denied,
            egress: end(true, "AccessGrant payments/order, AccessRequest shop/payment"),
            ingress: end(false, "no AccessGrant in payments lets it in"),
            workloads: vec!["shop/order: no workload runs as it".to_owned()],
            apply: None,
        };
        assert_eq!(
            text(&found),
            "shop/order to payments/payment on TCP 8443: denied\n  way out  open   AccessGrant payments/order, \
             AccessRequest shop/payment (Segment shop)\n  way in   closed no AccessGrant in payments lets it in (Segment \
             shop)\n  shop/order: no workload runs as it\n"
        );
    }
}
