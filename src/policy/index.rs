use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{Block, block_around};
use crate::hash::Map;
use crate::rule::RuleHost;
use crate::{Deny, Name, Proto, Rule, Transport};

/// Finds the rules that speak of a host: names by hash, suffixes by one look for each label, networks by one for each prefix length
/// in use.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Map<Name, Vec<usize>>,
    suffixes: Map<Name, Vec<usize>>,
    /// Which lengths the suffixes have, so that most ends of a name need no look.
    lengths: Lengths,
    v4: Nets,
    v6: Nets,
    any: Vec<usize>,
    /// Networks that lie in one special block, of rules and of their `addresses`: what is granted explicitly.
    special_v4: Nets,
    special_v6: Nets,
    tcp_names: Spans,
    udp_names: Spans,
}

/// A bit for each number of bytes that a name can have.
#[derive(Debug, Default)]
struct Lengths([u64; 4]);

impl Lengths {
    fn add(&mut self, length: usize) {
        if let Some(word) = self.0.get_mut(length / 64) {
            *word |= 1 << (length % 64);
        }
    }

    fn has(&self, length: usize) -> bool {
        self.0.get(length / 64).is_some_and(|word| word >> (length % 64) & 1 == 1)
    }
}

/// By prefix length, then by the network's bits.
#[derive(Debug, Default)]
struct Nets(Vec<(u8, Map<u128, Vec<usize>>)>);

/// Ranges of ports in ascending order without overlap, each with the first rule that names it.
type Spans = Vec<(u16, u16, usize)>;

impl Index {
    pub(crate) fn of_rules(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            index.add(&rule.host, number);
            let net = if let RuleHost::Net(net) = &rule.host { Some(net) } else { None };
            for net in net.into_iter().chain(&rule.addresses).filter(|net| block_around(net).is_some()) {
                if net.addr().is_ipv4() { index.special_v4.add(net, number) } else { index.special_v6.add(net, number) }
            }
        }
        index.tcp_names = spans(rules, |proto| matches!(proto, Proto::Tcp | Proto::Tls));
        index.udp_names = spans(rules, |proto| proto == Proto::Udp);
        index
    }

    pub(crate) fn of_denies(denies: &[Deny]) -> Self {
        let mut index = Self::default();
        for (number, deny) in denies.iter().enumerate() {
            index.add(&deny.host, number);
        }
        index
    }

    fn add(&mut self, host: &RuleHost, number: usize) {
        match host {
            RuleHost::Name(name) => self.names.entry(name.clone()).or_default().push(number),
            RuleHost::Suffix(name) => {
                self.lengths.add(name.as_str().len());
                self.suffixes.entry(name.clone()).or_default().push(number);
            }
            RuleHost::Net(net @ IpNet::V4(_)) => self.v4.add(net, number),
            RuleHost::Net(net @ IpNet::V6(_)) => self.v6.add(net, number),
            RuleHost::Any => self.any.push(number),
        }
    }

    /// The rules for a name.
    pub(crate) fn for_name(&self, name: &Name) -> impl Iterator<Item = usize> {
        let exact = self.names.get(name.as_str());
        let below = if self.suffixes.is_empty() { "" } else { name.as_str() };
        let ends = below.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(dot, _)| dot + 1);
        let suffixes = ends
            .filter(|start| self.lengths.has(below.len() - start))
            .filter_map(|start| self.suffixes.get(below.get(start..)?));
        exact.into_iter().chain(suffixes).chain([&self.any]).flatten().copied()
    }

    /// The rules for an address that was written as such.
    pub(crate) fn for_address(&self, address: IpAddr) -> impl Iterator<Item = usize> {
        let nets = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        nets.around(address).chain(&self.any).copied()
    }

    /// Whether some rule names a part of the block that holds the address.
    pub(crate) fn names_part_of(&self, block: &Block, address: IpAddr) -> bool {
        let nets = if address.is_ipv4() { &self.special_v4 } else { &self.special_v6 };
        nets.0.iter().any(|(len, nets)| *len >= block.len() && nets.contains_key(&key(address, *len)))
    }

    /// The first rule for some name and this port.
    pub(crate) fn some_name(&self, transport: Transport, port: u16) -> Option<usize> {
        let spans = match transport {
            Transport::Tcp => &self.tcp_names,
            Transport::Udp => &self.udp_names,
        };
        let after = spans.partition_point(|(low, ..)| *low <= port);
        let (_, high, number) = spans.get(after.checked_sub(1)?)?;
        (port <= *high).then_some(*number)
    }
}

impl Nets {
    fn add(&mut self, net: &IpNet, number: usize) {
        let len = net.prefix_len();
        let at = match self.0.binary_search_by_key(&len, |(len, _)| *len) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (len, Map::default()));
                at
            }
        };
        if let Some((_, nets)) = self.0.get_mut(at) {
            nets.entry(key(net.network(), len)).or_default().push(number);
        }
    }

    fn around(&self, address: IpAddr) -> impl Iterator<Item = &usize> {
        self.0.iter().filter_map(move |(len, nets)| nets.get(&key(address, *len))).flatten()
    }
}

/// The first bits of an address.
fn key(address: IpAddr, len: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    bits.checked_shr(128 - u32::from(len)).unwrap_or(0)
}

fn spans(rules: &[Rule], of: impl Fn(Proto) -> bool) -> Spans {
    let names = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| of(rule.proto) && matches!(rule.host, RuleHost::Name(_) | RuleHost::Suffix(_)));
    let mut all: Spans = names
        .flat_map(|(number, rule)| rule.ports.ranges().iter().map(move |(low, high)| (*low, *high, number)))
        .collect();
    all.sort_unstable();
    let mut spans = Spans::new();
    for (low, high, number) in all {
        let low = match spans.last() {
            Some((_, last, _)) if *last >= high => continue,
            Some((_, last, _)) if *last >= low => last.saturating_add(1),
            _ => low,
        };
        spans.push((low, high, number));
    }
    spans
}
