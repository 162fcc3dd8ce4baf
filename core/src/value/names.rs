//! Names and addresses: what may stand in an object, in a certificate, in a rule.
//!
//! The rules are those of the CRD's schema (`api::rule`), and a test holds the two together; they
//! are checked here again because an object may have been stored under an older schema. Knows
//! nothing of who may ask for a name. Called where specs are parsed.

use std::{fmt, net::IpAddr, str::FromStr};

/// The most characters of a DNS name or subdomain.
const MAX_NAME: usize = 253;
/// The most characters of one label.
const MAX_LABEL: usize = 63;
/// The most characters of the name of a trust domain.
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a text is no DNS name of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProblem {
    /// It has a character that is not ASCII.
    NotAscii,
    /// A label is empty, too long or has other characters than letters, digits and inner hyphens; or all is too long.
    NotADnsName,
    /// A `*` that is not the first label above at least two more.
    Wildcard,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAscii => "must be ASCII (use punycode)",
            Self::NotADnsName => "must be a DNS name",
            Self::Wildcard => "a wildcard must be the first label, above at least two more",
        })
    }
}

impl std::error::Error for NameProblem {}

/// Whether it is a DNS-1123 label: the name of a namespace or Service; at most 63 characters.
pub fn is_label(text: &str) -> bool {
    is_host_label(text) && !has_upper_case(text)
}

/// Whether it is a DNS-1123 subdomain: the name of most objects; at most 253 characters.
pub fn is_subdomain(text: &str) -> bool {
    // A part may be longer than a label of the DNS: Kubernetes bounds the whole only.
    let part = |part: &str| is_hyphenated(part) && !has_upper_case(part);
    text.len() <= MAX_NAME && text.split('.').all(part)
}

/// Whether it is the name of a SPIFFE trust domain: `[a-z0-9._-]{1,255}`.
pub fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(allowed)
}

/// Reads a DNS name of a certificate, or a pattern for such names, into lower case.
///
/// # Errors
/// [`NameProblem`] says which rule it breaks.
pub fn dns_name(text: &str) -> Result<String, NameProblem> {
    if !text.is_ascii() {
        return Err(NameProblem::NotAscii);
    }
    if text.len() > MAX_NAME || !text.split('.').all(|label| label == "*" || is_host_label(label)) {
        return Err(NameProblem::NotADnsName);
    }
    let mut labels = text.split('.');
    let wild = labels.next() == Some("*");
    let above: Vec<_> = labels.collect();
    if above.contains(&"*") || (wild && above.len() < 2) {
        return Err(NameProblem::Wildcard);
    }
    Ok(text.to_ascii_lowercase())
}

/// Reads the address of one host: unicast, without zone or mask.
pub fn unicast_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|address| is_unicast(*address))
}

/// Whether an address can belong to one host.
///
/// An address of IPv4 written as one of IPv6 (`::ffff:127.0.0.1`) does not count: it would pass
/// rules that are written for the plain form.
pub fn is_unicast(address: IpAddr) -> bool {
    let mapped_or_broadcast = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !address.is_unspecified() && !address.is_multicast() && !mapped_or_broadcast
}

/// An address range, not all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    /// Its first address.
    pub address: IpAddr,
    /// Length of the prefix, bits; at least 1.
    pub prefix: u8,
}

/// The text is no address range in canonical form: `<first address>/<bits of the prefix>`, and not all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACidr;

impl Cidr {
    /// Whether the range holds an address; one of IPv4 is never in a range of IPv6, nor the other way round.
    pub fn contains(&self, other: IpAddr) -> bool {
        let ((address, width), (other, other_width)) = (bits(self.address), bits(other));
        let below = width.saturating_sub(u32::from(self.prefix));
        width == other_width && address.checked_shr(below) == other.checked_shr(below)
    }

    /// Whether every address of `other` is one of this range.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, prefix) = text.split_once('/').ok_or(NotACidr)?;
        let range =
            Self { address: address.parse().map_err(|_| NotACidr)?, prefix: prefix.parse().map_err(|_| NotACidr)? };
        let (first, width) = bits(range.address);
        let mapped = matches!(range.address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let prefix = u32::from(range.prefix);
        let fits = (1..=width).contains(&prefix) && first.trailing_zeros() >= width.saturating_sub(prefix);
        // Comparing with what we would write also refuses `+8`, `08` and `2001:DB8::`.
        (fits && !mapped && range.to_string() == text).then_some(range).ok_or(NotACidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for NotACidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a CIDR in canonical form, not /0")
    }
}

impl std::error::Error for NotACidr {}

/// The address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn is_host_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_hyphenated(text)
}

/// Letters, digits and hyphens, with no hyphen at either end, and not empty.
fn is_hyphenated(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn has_upper_case(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Whether an address is link-local (RFC 3927, RFC 4291): it names another host on every link.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        for (text, label, subdomain) in [
            ("api", true, true),
            ("a-1", true, true),
            ("1", true, true),
            (&*"a".repeat(63), true, true),
            (&*"a".repeat(64), false, true),
            (&*"a".repeat(253), false, true),
            (&*"a".repeat(254), false, false),
            ("a.b", false, true),
            ("", false, false),
            ("UPPER", false, false),
            ("a/b", false, false),
            ("a_b", false, false),
            ("-x", false, false),
            ("x-", false, false),
            ("..", false, false),
            ("a..b", false, false),
            ("a.", false, false),
            ("a\n", false, false),
            ("ä", false, false),
        ] {
            assert_eq!((is_label(text), is_subdomain(text)), (label, subdomain), "{text:?}");
        }
    }

    #[test]
    fn names_of_trust_domains() {
        for text in ["prod.example", "a", "a_b-c.d", &"a".repeat(255)] {
            assert!(is_trust_domain(text), "{text:?}");
        }
        for text in ["", "Prod.example", "prod.example:443", "prod.example/a", "a b", "ä", &"a".repeat(256)] {
            assert!(!is_trust_domain(text), "{text:?}");
        }
    }

    #[test]
    fn names_of_certificates() {
        use NameProblem::{NotADnsName, NotAscii, Wildcard};
        for (text, expected) in [
            ("api.pay.internal", Ok("api.pay.internal")),
            ("API.pay.internal", Ok("api.pay.internal")),
            ("*.pay.internal", Ok("*.pay.internal")),
            ("api", Ok("api")),
            ("xn--pp-7ka.example", Ok("xn--pp-7ka.example")),
            ("аpp.example", Err(NotAscii)),
            ("", Err(NotADnsName)),
            ("a_b.example", Err(NotADnsName)),
            ("a b.example", Err(NotADnsName)),
            ("a.example\n", Err(NotADnsName)),
            ("a\0.example", Err(NotADnsName)),
            ("a.example.", Err(NotADnsName)),
            (".a.example", Err(NotADnsName)),
            ("-a.example", Err(NotADnsName)),
            ("a*.b.example", Err(NotADnsName)),
            ("*", Err(Wildcard)),
            ("*.*", Err(Wildcard)),
            ("*.com", Err(Wildcard)),
            ("a.*.b", Err(Wildcard)),
            ("*.*.a.b", Err(Wildcard)),
        ] {
            assert_eq!(dns_name(text), expected.map(str::to_owned), "{text:?}");
        }
        let label = |length| "a".repeat(length);
        assert!(dns_name(&format!("{}.example", label(63))).is_ok());
        assert_eq!(dns_name(&format!("{}.example", label(64))), Err(NotADnsName));
        let long = |last: &str| format!("{}{last}", format!("{}.", label(49)).repeat(5));
        assert!(dns_name(&long("abc")).is_ok());
        assert_eq!(dns_name(&long("abcd")), Err(NotADnsName));
    }

    #[test]
    fn addresses_of_hosts() {
        for text in ["10.0.0.7", "2001:db8::7", "127.0.0.1", "fe80::1", "2001:DB8::7"] {
            assert!(unicast_address(text).is_some(), "{text}");
        }
        for text in [
            "",
            "999.1.1.1",
            "0.0.0.0",
            "::",
            "fe80::1%eth0",
            "1.2.3.4/24",
            "224.0.0.1",
            "ff0e::1",
            "255.255.255.255",
            "::ffff:1.2.3.4",
            "010.0.0.7",
            "1.2.3",
            "a",
        ] {
            assert_eq!(unicast_address(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_are_canonical() {
        for text in ["10.0.0.0/8", "10.1.2.3/32", "128.0.0.0/1", "2001:db8::/32", "2001:db8::7/128", "8000::/1"] {
            assert_eq!(text.parse::<Cidr>().map(|range| range.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/256",
            "1.2.3",
            "1.2.3/8",
            "0.0.0.0/0",
            "::/0",
            "2001:DB8::/32",
            "2001:db8::1/32",
            "2001:db8::/129",
            "::ffff:1.2.3.4/24",
            "::ffff:1.2.3.0/120",
            "10.0.0.0/8 ",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(NotACidr), "{text}");
        }
    }

    #[test]
    fn ranges_hold_their_addresses() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("128.0.0.0/1", "255.255.255.255", true),
            ("128.0.0.0/1", "127.255.255.255", false),
            ("10.0.0.0/8", "::a00:1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::7/128", "2001:db8::7", true),
            ("2001:db8::7/128", "2001:db8::8", false),
            ("8000::/1", "10.0.0.1", false),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), holds, "{range} {address}");
        }
        for (range, other, covers) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("::/1", "10.0.0.0/8", false),
        ] {
            let (range, other): (Cidr, Cidr) = (range.parse().unwrap(), other.parse().unwrap());
            assert_eq!(range.covers(&other), covers, "{range} {other}");
        }
    }
}
