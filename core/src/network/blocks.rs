//! Addresses outside the pod network, as blocks that hold no pod.
//!
//! Data planes disagree on whether an `ipBlock` matches pods, so what is known to be the cluster's is cut out of every
//! block; and so is the metadata service of clouds, whose answers are credentials.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    declared::{Addresses, External},
    model::Peer,
};
use crate::value::names::Cidr;

/// Why an `ExternalService` opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBlock {
    /// This block lies within a range of the cluster; identities name pods.
    InCluster(Cidr),
}

/// Link-local addresses and those of metadata services.
const METADATA: [&str; 3] = ["169.254.0.0/16", "fd00:ec2::254/128", "fe80::/10"];
/// Both families whole, in halves: a block of every address cannot be written by accident.
const EVERYWHERE: [&str; 4] = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"];

/// The blocks of an external service; `cluster` are the known ranges of pods, Services and nodes.
///
/// # Errors
/// When one of them lies within the cluster.
pub fn peers(external: &External, cluster: &BTreeSet<Cidr>) -> Result<BTreeSet<Peer>, NoBlock> {
    let mut peers = BTreeSet::new();
    for addresses in &external.addresses {
        match addresses {
            Addresses::Any => {
                peers.extend(known(&EVERYWHERE).map(|block| Peer::Block { except: cut(&block, cluster), block }));
            }
            Addresses::Block(block) => {
                if cluster.iter().any(|range| range.covers(block)) {
                    return Err(NoBlock::InCluster(*block));
                }
                peers.insert(Peer::Block { except: cut(block, cluster), block: *block });
            }
        }
    }
    Ok(peers)
}

/// What is cut out of a block. One that lies within the metadata addresses was meant to: it names nothing else.
fn cut(block: &Cidr, cluster: &BTreeSet<Cidr>) -> BTreeSet<Cidr> {
    let inside = |range: &Cidr| block.covers(range) && range != block;
    cluster.iter().copied().chain(known(&METADATA)).filter(inside).collect()
}

fn known(texts: &'static [&'static str]) -> impl Iterator<Item = Cidr> {
    texts.iter().filter_map(|text| text.parse().ok())
}

/// One address.
pub fn single(address: IpAddr) -> Peer {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Peer::Block { block: Cidr { address, prefix }, except: BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{
        declared::{ObjectKey, PortRef},
        model::Namespace,
    };

    fn external(addresses: &[Addresses]) -> External {
        let key = ObjectKey { namespace: Namespace::parse("shop").unwrap(), name: "partner".to_owned() };
        External { key, addresses: addresses.to_vec(), ports: vec![PortRef::All] }
    }

    fn block(text: &str) -> Addresses {
        Addresses::Block(text.parse().unwrap())
    }

    fn shown(peers: BTreeSet<Peer>) -> Vec<String> {
        let text = |peer| match peer {
            Peer::Block { block, except } => {
                let except: Vec<_> = except.iter().map(ToString::to_string).collect();
                format!("{block} - [{}]", except.join(" "))
            }
            other => format!("{other:?}"),
        };
        peers.into_iter().map(text).collect()
    }

    #[test]
    fn pods_and_metadata_are_cut_out() {
        let cluster = BTreeSet::from(["10.244.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()]);
        let of = |addresses: &[Addresses]| peers(&external(addresses), &cluster).map(shown);
        assert_eq!(of(&[block("203.0.113.0/24")]).unwrap(), ["203.0.113.0/24 - []"]);
        assert_eq!(of(&[block("10.0.0.0/8")]).unwrap(), ["10.0.0.0/8 - [10.244.0.0/16]"]);
        assert_eq!(
            of(&[Addresses::Any]).unwrap(),
            [
                "0.0.0.0/1 - [10.244.0.0/16]",
                "128.0.0.0/1 - [169.254.0.0/16]",
                "::/1 - []",
                "8000::/1 - [fd00:1::/64 fd00:ec2::254/128 fe80::/10]",
            ]
        );
        // Who names the metadata service itself means it.
        assert_eq!(of(&[block("169.254.169.254/32")]).unwrap(), ["169.254.169.254/32 - []"]);
        for inside in ["10.244.1.0/24", "10.244.0.0/16"] {
            assert_eq!(of(&[block(inside)]), Err(NoBlock::InCluster(inside.parse().unwrap())));
        }
    }
}
