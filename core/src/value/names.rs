//! Names and addresses.

use std::net::IpAddr;

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub address: IpAddr,
    /// Length of the prefix, bits.
    pub prefix: u8,
}

impl Cidr {
    /// Whether the range holds an address.
    pub fn contains(&self, other: IpAddr) -> bool {
        self.address == other
    }
}

/// Whether an address can belong to one host.
pub fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}
