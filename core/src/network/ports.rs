//! Sets of ports: what was asked for, what was granted, what both have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use super::{
    declared::PortRef,
    model::{PortSpan, Ports, Protocol},
    snapshot::ContainerPort,
};

/// A set of ports. The empty one opens nothing, and yields no [`Ports`] that could be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortSet {
    /// Every port of every protocol.
    Every,
    /// These; spans of one protocol neither overlap nor touch.
    Spans(BTreeSet<PortSpan>),
}

/// A port by name that no container of a workload has.
pub type UnknownName = (String, Protocol);

impl Default for PortSet {
    fn default() -> Self {
        Self::Spans(BTreeSet::new())
    }
}

impl PortSet {
    /// What `refs` come to where the containers declare `ports`, and the names that none of them has.
    ///
    /// While a rollout changes the number of a name, both numbers are in the set.
    pub fn resolve<'a>(
        refs: impl IntoIterator<Item = &'a PortRef>,
        ports: &BTreeSet<ContainerPort>,
    ) -> (Self, BTreeSet<UnknownName>) {
        let (mut spans, mut unknown, mut every) = (Vec::new(), BTreeSet::new(), false);
        for port in refs {
            match port {
                PortRef::All => every = true,
                PortRef::Span(span) => spans.push(*span),
                PortRef::Named { name, protocol } => {
                    let before = spans.len();
                    let named = ports.iter().filter(|port| port.name == *name && port.protocol == *protocol);
                    spans.extend(named.map(|port| PortSpan::one(*protocol, port.number)));
                    if spans.len() == before {
                        unknown.insert((name.clone(), *protocol));
                    }
                }
            }
        }
        (if every { Self::Every } else { Self::of(spans) }, unknown)
    }

    /// The set of these spans.
    pub fn of(spans: impl IntoIterator<Item = PortSpan>) -> Self {
        let mut by_protocol: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
        for span in spans {
            by_protocol.entry(span.protocol).or_default().push((span.first().get(), span.last().get()));
        }
        let mut merged = BTreeSet::new();
        for (protocol, mut spans) in by_protocol {
            spans.sort_unstable();
            let mut open: Option<(u16, u16)> = None;
            for (first, last) in spans {
                open = match open {
                    Some((start, end)) if first <= end.saturating_add(1) => Some((start, end.max(last))),
                    Some(done) => {
                        merged.extend(span(protocol, done));
                        Some((first, last))
                    }
                    None => Some((first, last)),
                };
            }
            merged.extend(open.and_then(|open| span(protocol, open)));
        }
        Self::Spans(merged)
    }

    /// The ports of both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Every, set) | (set, Self::Every) => set.clone(),
            (Self::Spans(ours), Self::Spans(theirs)) => {
                let common = ours.iter().flat_map(|one| theirs.iter().filter_map(|two| common(*one, *two)));
                Self::of(common)
            }
        }
    }

    /// The ports of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Every, _) | (_, Self::Every) => Self::Every,
            (Self::Spans(ours), Self::Spans(theirs)) => Self::of(ours.iter().chain(theirs).copied()),
        }
    }

    /// Whether a port is in it.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Every => true,
            Self::Spans(spans) => spans
                .iter()
                .any(|span| span.protocol == protocol && (span.first().get()..=span.last().get()).contains(&port)),
        }
    }

    /// Whether it opens nothing.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Spans(spans) if spans.is_empty())
    }

    /// What it is in a rule; nothing for the empty set.
    pub fn openings(&self) -> impl Iterator<Item = Ports> + '_ {
        let (every, spans) = match self {
            Self::Every => (Some(Ports::Every), None),
            Self::Spans(spans) => (None, Some(spans)),
        };
        every.into_iter().chain(spans.into_iter().flatten().copied().map(Ports::Span))
    }
}

fn span(protocol: Protocol, (first, last): (u16, u16)) -> Option<PortSpan> {
    PortSpan::new(protocol, NonZeroU16::new(first)?, NonZeroU16::new(last)?)
}

fn common(one: PortSpan, two: PortSpan) -> Option<PortSpan> {
    if one.protocol != two.protocol {
        return None;
    }
    PortSpan::new(one.protocol, one.first().max(two.first()), one.last().min(two.last()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(port: u16) -> NonZeroU16 {
        NonZeroU16::new(port).unwrap()
    }

    fn tcp(first: u16, last: u16) -> PortSpan {
        PortSpan::new(Protocol::Tcp, number(first), number(last)).unwrap()
    }

    fn holds(set: &PortSet, protocol: Protocol, port: u16) -> bool {
        set.openings().any(|ports| match ports {
            Ports::Every => true,
            Ports::Span(span) => span.protocol == protocol && (span.first().get()..=span.last().get()).contains(&port),
        })
    }

    #[test]
    fn names_are_resolved_by_protocol_and_unknown_ones_told() {
        let port = |name: &str, port, protocol| ContainerPort { name: name.to_owned(), number: number(port), protocol };
        let ports = BTreeSet::from([
            port("https", 8443, Protocol::Tcp),
            port("https", 9443, Protocol::Tcp),
            port("https", 443, Protocol::Udp),
        ]);
        let named = |name: &str| PortRef::Named { name: name.to_owned(), protocol: Protocol::Tcp };
        let (set, unknown) = PortSet::resolve(&[named("https"), named("grpc")], &ports);
        assert_eq!(set, PortSet::of([tcp(8443, 8443), tcp(9443, 9443)]));
        assert_eq!(unknown, BTreeSet::from([("grpc".to_owned(), Protocol::Tcp)]));
        assert_eq!(PortSet::resolve(&[PortRef::All], &ports).0, PortSet::Every);
        // A name that nobody has opens nothing, never everything.
        let (none, _) = PortSet::resolve(&[named("grpc")], &ports);
        assert!(none.is_empty() && none.openings().next().is_none());
    }

    #[test]
    fn spans_that_touch_are_one() {
        assert_eq!(PortSet::of([tcp(1, 5), tcp(6, 9), tcp(3, 4), tcp(11, 11)]), PortSet::of([tcp(1, 9), tcp(11, 11)]));
        assert_eq!(PortSet::of([tcp(1, 65_535), tcp(65_535, 65_535)]).openings().count(), 1);
    }

    fn any_set() -> impl Strategy<Value = PortSet> {
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
        let span = (protocol, 1u16..12, 0u16..4)
            .prop_map(|(protocol, first, more)| PortSpan::new(protocol, number(first), number(first + more)).unwrap());
        prop_oneof![
            1 => Just(PortSet::Every),
            9 => prop::collection::vec(span, 0..5).prop_map(PortSet::of),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_port_is_in_common_if_it_is_in_both(one in any_set(), two in any_set()) {
            let (both, either) = (one.intersect(&two), one.union(&two));
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                for port in 1..20 {
                    let (in_one, in_two) = (holds(&one, protocol, port), holds(&two, protocol, port));
                    prop_assert_eq!(holds(&both, protocol, port), in_one && in_two);
                    prop_assert_eq!(holds(&either, protocol, port), in_one || in_two);
                }
            }
        }
    }
}
