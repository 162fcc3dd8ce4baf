//! Which addresses of a server we contact, and which never.
//!
//! A `VaultConnection` makes the operator send its token somewhere, so an address may not lead to
//! the node's metadata service, to the pod itself or to the API server. Names are resolved later:
//! the client asks [`Surroundings::forbids`] again for every address a name resolves to.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::value::names::{is_link_local, is_unicast};

/// What is forbidden and allowed where the operator runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `--allow-loopback-connections`: for development only.
    pub loopback_allowed: bool,
    /// Hosts and ports at which the API server is known to answer; hosts in lower case.
    pub api_servers: BTreeSet<(Host, u16)>,
    /// Audiences the operator may ask ServiceAccount tokens for (the chart's `tokenAudiences`).
    pub token_audiences: BTreeSet<String>,
}

/// A host of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, lower case, without a final dot.
    Name(String),
    /// An address; one of IPv4 inside IPv6 is written as IPv4.
    Ip(IpAddr),
}

/// An `https` URL without credentials, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: Host,
    port: u16,
    /// Empty, or `/` and segments, without a final slash.
    path: String,
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressProblem {
    /// It is not an `https` URL, or has parts beyond host, port and path.
    NotHttps,
    /// It leads where we must not go.
    Forbidden,
}

impl Address {
    /// Reads an address of at most 512 characters and checks it against the surroundings.
    pub fn parse(text: &str, surroundings: &Surroundings) -> Result<Self, AddressProblem> {
        let address = read(text).ok_or(AddressProblem::NotHttps)?;
        if surroundings.forbid_host(&address.host, address.port) { Err(AddressProblem::Forbidden) } else { Ok(address) }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 443 if the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(v4)) => v4.fmt(f),
            Self::Ip(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

impl Host {
    /// Reads a host as a URL writes it: a name, an IPv4 address in four decimal parts, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let v6: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(v6.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // A URL reader takes every host whose last label looks like a number for IPv4, in octal, hex
        // or with parts left out: 0x7f.1 is 127.0.0.1. Only the plain form is an address here, and
        // nothing else that such a reader would take for one is a name.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse::<Ipv4Addr>().ok().map(|v4| Self::Ip(IpAddr::V4(v4)));
        }
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inner);
        (name.len() <= 253 && name.split('.').all(label)).then_some(Self::Name(name))
    }
}

fn read(text: &str) -> Option<Address> {
    let (scheme, rest) = text.split_at_checked(8)?;
    if text.len() > 512 || !scheme.eq_ignore_ascii_case("https://") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The colon of the port is the one behind an IPv6 address's bracket.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port_number(port)?),
        Some(_) | None => (authority, 443),
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    let segment = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
    let clean = path.is_empty() || path.split('/').skip(1).all(segment);
    clean.then_some(Address { host: Host::parse(host)?, port, path: path.to_owned() })
}

fn port_number(text: &str) -> Option<u16> {
    let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

impl Surroundings {
    /// Whether an address that a name resolved to must not be contacted on `port`.
    pub fn forbids(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        let here = address.is_loopback() && !self.loopback_allowed;
        let nobody = !is_unicast(address) || is_link_local(address) || METADATA.contains(&address);
        here || nobody || self.api_servers.contains(&(Host::Ip(address), port))
    }

    fn forbid_host(&self, host: &Host, port: u16) -> bool {
        match host {
            Host::Ip(address) => self.forbids(*address, port),
            Host::Name(name) => {
                let within =
                    |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                let api_server = name == "kubernetes"
                    || name == "kubernetes.default"
                    || name == "kubernetes.default.svc"
                    || name.starts_with("kubernetes.default.svc.");
                (within("localhost") && !self.loopback_allowed)
                    || within("metadata.google.internal")
                    || api_server
                    || self.api_servers.contains(&(host.clone(), port))
            }
        }
    }
}

/// Metadata services outside the link-local range: AWS over IPv6, Alibaba, Azure's host agent.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

#[cfg(any(test, feature = "testing"))]
impl Surroundings {
    /// No API server, one audience `vault`, no loopback.
    pub fn test() -> Self {
        Self { token_audiences: BTreeSet::from(["vault".to_owned()]), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Surroundings {
        let host = |text| Host::parse(text).unwrap();
        Surroundings {
            api_servers: BTreeSet::from([(host("10.96.0.1"), 443), (host("api.cluster.example"), 6443)]),
            ..Surroundings::default()
        }
    }

    #[test]
    fn addresses_are_read() {
        for (text, read) in [
            ("https://bao.infra.svc:8200", "https://bao.infra.svc:8200"),
            ("HTTPS://Bao.Infra.SVC./", "https://bao.infra.svc:443"),
            ("https://10.250.0.1:8200/", "https://10.250.0.1:8200"),
            ("https://[2001:DB8::1]:8200", "https://[2001:db8::1]:8200"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
            ("https://proxy.example/team/bao", "https://proxy.example:443/team/bao"),
            // The API server's address with another port is another server.
            ("https://10.96.0.1:8200", "https://10.96.0.1:8200"),
        ] {
            assert_eq!(Address::parse(text, &here()).map(|address| address.to_string()), Ok(read.to_owned()), "{text}");
        }
    }

    #[test]
    fn only_plain_https_urls_are_read() {
        for text in [
            "",
            "https://",
            "http://bao:8200",
            "ftp://bao",
            "file:///etc/passwd",
            "bao:8200",
            "https://a@bao",
            "https://a:b@bao",
            "https://bao?x=1",
            "https://bao#x",
            "https://bao/..",
            "https://bao/a/../b",
            "https://bao//a",
            "https://bao/%2e",
            "https://bao/a?x",
            "https://bao:0",
            "https://bao:65536",
            "https://bao:08200",
            "https://bao:+1",
            "https://bao:",
            "https://bao .x",
            "https://bäo",
            "https://a..b",
            "https://.",
            "https://[::1",
            "https://[fe80::1%25eth0]",
            "https://2130706433",
            "https://0x7f.1",
            "https://127.1",
            "https://0177.0.0.1",
            "https://1.2.3.4.5",
            "https://a.0x1",
            "https://\u{7f}bao",
            "https:/bao",
            "é",
            "https:/é",
        ] {
            assert_eq!(Address::parse(text, &here()), Err(AddressProblem::NotHttps), "{text}");
        }
        assert_eq!(Address::parse(&format!("https://{}", "a.".repeat(300)), &here()), Err(AddressProblem::NotHttps));
    }

    #[test]
    fn nobody_is_led_astray() {
        let mut here = here();
        let forbidden = [
            "https://169.254.169.254",
            "https://169.254.169.254.",
            "https://[fe80::1]",
            "https://[::ffff:169.254.169.254]",
            "https://[fd00:ec2::254]",
            "https://100.100.100.200",
            "https://168.63.129.16",
            "https://0.0.0.0",
            "https://[::]",
            "https://255.255.255.255",
            "https://224.0.0.1",
            "https://[ff02::1]",
            "https://metadata.google.internal",
            "https://kubernetes",
            "https://kubernetes.default",
            "https://kubernetes.default.svc:6443",
            "https://kubernetes.default.svc.cluster.local",
            "https://10.96.0.1",
            "https://[::ffff:10.96.0.1]:443",
            "https://API.cluster.example:6443",
        ];
        let loopback = [
            "https://127.0.0.1:8200",
            "https://127.9.9.9",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://localhost",
            "https://LOCALHOST.",
            "https://x.localhost",
        ];
        for text in forbidden.iter().chain(&loopback) {
            assert_eq!(Address::parse(text, &here), Err(AddressProblem::Forbidden), "{text}");
        }
        here.loopback_allowed = true;
        for text in loopback {
            assert!(Address::parse(text, &here).is_ok(), "{text}");
        }
        for text in forbidden {
            assert_eq!(Address::parse(text, &here), Err(AddressProblem::Forbidden), "{text}");
        }
    }

    #[test]
    fn resolved_addresses_are_judged_alike() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(here().forbids(ip("127.0.0.1"), 8200) && here().forbids(ip("169.254.169.254"), 443));
        assert!(here().forbids(ip("10.96.0.1"), 443) && !here().forbids(ip("10.96.0.1"), 8200));
        assert!(!here().forbids(ip("10.1.2.3"), 443) && !here().forbids(ip("2001:db8::1"), 443));
    }
}
