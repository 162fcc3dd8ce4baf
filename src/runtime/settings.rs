//! What the operator was told to do, checked. Filled by `cli`, read by the controllers.

use std::{collections::BTreeSet, net::IpAddr, str::FromStr, time::Duration};

use countersign_core::{connection::address::Host, leader::Timing, network::snapshot::NodeBlocks, value::lifetime};

/// The settings of one run; nothing in here changes while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where namespaced kinds are watched.
    pub namespaces: Namespaces,
    /// Objects worked on at a time by each controller, 1–256.
    pub concurrency: u16,
    /// How often a settled object's targets are looked at, 10 s–24 h.
    pub drift_interval: Duration,
    /// Where we run; Secrets and ConfigMaps that connections and trust domains refer to are there.
    pub operator_namespace: String,
    /// Our own ServiceAccount in it.
    pub service_account: String,
    /// DNS domain of the cluster; part of names in certificates.
    pub cluster_domain: String,
    /// The only audiences our own account may mint tokens for.
    pub token_audiences: BTreeSet<String>,
    /// Host and port of the API server, where no connection may point; `None` if the client names none.
    pub api_server: Option<(Host, u16)>,
    /// Name of the leader Lease in `operator_namespace`.
    pub lease: String,
    /// Its durations.
    pub timing: Timing,
    /// The name servers that this process asks itself; one of them may be a Service of the cluster.
    pub name_servers: BTreeSet<IpAddr>,
    /// Whether the data plane matches the addresses of nodes by `ipBlock`.
    pub node_blocks: NodeBlocks,
    /// Divides the waits between looks and retries, 1–3,600; 1 but for tests and demos.
    pub time_scale: u32,
    /// Whether a connection may point at this machine; only for tests and demos.
    pub allow_loopback_connections: bool,
}

impl Settings {
    /// A wait as `--time-scale` shortens it.
    pub fn scaled(&self, wait: Duration) -> Duration {
        wait / self.time_scale.max(1)
    }
}

/// Where namespaced kinds are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// Everywhere.
    All,
    /// Only there; never empty.
    Only(BTreeSet<String>),
}

impl FromStr for Namespaces {
    type Err = &'static str;

    /// Names separated by commas; the empty text is every namespace.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::All);
        }
        text.split(',').map(label).collect::<Result<_, _>>().map(Self::Only)
    }
}

impl Namespaces {
    /// Whether objects of `namespace` are ours to work on.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}

/// A DNS label (RFC 1123), as namespaces are.
pub fn label(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_plain = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    if ends_plain && bytes.len() <= 63 && bytes.iter().all(|&b| plain(b) || b == b'-') {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
    }
}

/// Labels joined by dots, at most 253 characters, as object names and domains are.
pub fn name(text: &str) -> Result<String, &'static str> {
    if text.len() <= 253 && text.split('.').all(|part| label(part).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err("must be DNS labels joined by dots, at most 253 characters")
    }
}

/// An audience of a token: 1–253 printable characters without spaces and commas.
pub fn audience(text: &str) -> Result<String, &'static str> {
    if (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 253 printable characters without spaces and commas")
    }
}

/// A duration in Go text, such as `5m` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    lifetime::parse(text).ok_or("must be a duration of whole numbers with the units h, m, s or ms, such as 5m")
}

/// [`duration`], from 10 s to 24 h.
pub fn drift_interval(text: &str) -> Result<Duration, &'static str> {
    duration(text).and_then(|interval| {
        let range = Duration::from_secs(10)..=Duration::from_secs(86_400);
        if range.contains(&interval) { Ok(interval) } else { Err("must be from 10s to 24h") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "shop", "a-1", "0", &"x".repeat(63)] {
            assert_eq!(label(good).as_deref(), Ok(good));
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "é", &"x".repeat(64)] {
            assert!(label(bad).is_err() && name(bad).is_err(), "{bad}");
        }
        assert!(name("cluster.local").is_ok() && label("cluster.local").is_err());
        assert!(name("cluster..local").is_err() && name(&["x"; 128].join(".")).is_err());
        assert!(audience("https://vault.example:8200").is_ok());
        for bad in ["", "a,b", "a b", "a\n"] {
            assert!(audience(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces_are_all_or_some() {
        let some: Namespaces = "shop,pay".parse().unwrap();
        assert!(some.contains("pay") && !some.contains("other"));
        assert!("".parse::<Namespaces>().unwrap().contains("other"));
        for bad in [",", "shop,", "Shop"] {
            assert!(bad.parse::<Namespaces>().is_err(), "{bad}");
        }
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(drift_interval("5m"), Ok(Duration::from_secs(300)));
        for bad in ["9s", "25h", "5", "-5m"] {
            assert!(drift_interval(bad).is_err(), "{bad}");
        }
    }
}
