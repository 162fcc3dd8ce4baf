//! An `ipBlock`: a network without some of its parts.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IPBlock;

use super::unclear::Problem;

/// A parsed `ipBlock`.
#[derive(Debug)]
pub(super) struct Block {
    network: Network,
    except: Vec<Network>,
}

impl Block {
    pub(super) fn parse(block: &IPBlock) -> Result<Self, Problem> {
        let network = Network::parse(&block.cidr)?;
        let parts = block.except.iter().flatten();
        let except = parts
            .map(|text| {
                let part = Network::parse(text)?;
                if network.properly_contains(&part) { Ok(part) } else { Err(Problem::Except(text.clone())) }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { network, except })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.network.contains(address) && !self.except.iter().any(|part| part.contains(address))
    }
}

#[derive(Debug)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    /// Host bits are ignored, as the server does. A mapped IPv4 address could be read in two ways, so it is no network.
    fn parse(text: &str) -> Result<Self, Problem> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: IpAddr = address.parse().ok()?;
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let plain = digits && (length == "0" || !length.starts_with('0'));
            let length: u32 = if plain { length.parse().ok()? } else { return None };
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (length <= longest && address == address.to_canonical()).then_some(Self { address, length })
        });
        parsed.ok_or_else(|| Problem::Cidr(text.to_owned()))
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.length).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.length).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn properly_contains(&self, part: &Self) -> bool {
        self.length < part.length && self.contains(part.address)
    }
}
