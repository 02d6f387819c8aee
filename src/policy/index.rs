use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address::{Block, block_around};
use crate::bucket::{Bucket, Sizes};
use crate::hash::Map;
use crate::nets::Nets;
use crate::port::edges;
use crate::rule::RuleHost;
use crate::{Deny, Name, Proto, Rule};

/// Finds the rules that speak of a host: names by hash, suffixes by one look for each label, networks by one for each prefix length
/// in use.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Map<Name, Bucket>,
    suffixes: Map<Name, Bucket>,
    /// Which lengths the suffixes have, so that most ends of a name need no look.
    lengths: Lengths,
    nets: Nets<Bucket>,
    any: Bucket,
    /// Networks that lie in one special block, of rules and of their `addresses`: what is granted explicitly.
    special: Nets<()>,
    /// For `tcp` and `tls`, `udp`, `http`, `https`.
    spans: [Spans; 4],
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

/// From this port to before the next, the first rule for some name.
#[derive(Debug, Default)]
struct Spans(Vec<(u16, Option<usize>)>);

impl Index {
    /// `within` says which rules are within their ceilings.
    pub(crate) fn of_rules(rules: &[Rule], within: &[bool], sizes: Sizes) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            index.add(&rule.host, number);
            let net = if let RuleHost::Net(net) = &rule.host { Some(net) } else { None };
            for net in net.into_iter().chain(&rule.addresses).filter(|net| block_around(net).is_some()) {
                index.special.update(net, |()| {});
            }
        }
        let named = index.names.values_mut().chain(index.suffixes.values_mut());
        for bucket in named.chain(index.nets.values_mut()).chain([&mut index.any]) {
            bucket.rank(rules, within, sizes);
        }
        index.spans = [Proto::Tcp, Proto::Udp, Proto::Http, Proto::Https].map(|proto| Spans::new(rules, proto));
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
            RuleHost::Name(name) => self.names.entry(name.clone()).or_default().push(host, number),
            RuleHost::Suffix(name) => {
                self.lengths.add(name.as_str().len());
                self.suffixes.entry(name.clone()).or_default().push(host, number);
            }
            RuleHost::Net(net) => self.nets.update(net, |bucket| bucket.push(host, number)),
            RuleHost::Any => self.any.push(host, number),
        }
    }

    /// The rules for a name.
    pub(crate) fn for_name(&self, name: &Name) -> impl Iterator<Item = &Bucket> {
        let exact = self.names.get(name.as_str());
        let below = if self.suffixes.is_empty() { "" } else { name.as_str() };
        let ends = below.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(dot, _)| dot + 1);
        let suffixes = ends
            .filter(|start| self.lengths.has(below.len() - start))
            .filter_map(|start| self.suffixes.get(below.get(start..)?));
        exact.into_iter().chain(suffixes).chain([&self.any])
    }

    /// The rules for an address that was written as such.
    pub(crate) fn for_address(&self, address: IpAddr) -> impl Iterator<Item = &Bucket> {
        self.nets.around(address, 0).chain([&self.any])
    }

    /// Whether some rule names a part of the block that holds the address.
    pub(crate) fn names_part_of(&self, block: &Block, address: IpAddr) -> bool {
        self.special.around(address, block.len()).next().is_some()
    }

    /// The first rule for some name and this port.
    pub(crate) fn some_name(&self, proto: Proto, port: u16) -> Option<usize> {
        let [stream, udp, http, https] = &self.spans;
        match proto {
            Proto::Tcp | Proto::Tls => stream.at(port),
            Proto::Udp => udp.at(port),
            Proto::Http => http.at(port),
            Proto::Https => https.at(port),
        }
    }
}

impl Spans {
    fn new(rules: &[Rule], proto: Proto) -> Self {
        let speaks = |rule: &Rule| rule.proto == proto || rule.proto == Proto::Tls && proto == Proto::Tcp;
        let named = |rule: &Rule| speaks(rule) && matches!(rule.host, RuleHost::Name(_) | RuleHost::Suffix(_));
        let named = rules.iter().enumerate().filter(|(_, rule)| named(rule));
        let mut spans: Vec<(u16, Option<usize>)> = Vec::new();
        let mut open = BTreeSet::new();
        for (port, number, begins) in edges(named.map(|(number, rule)| (number, &rule.ports))) {
            if begins {
                open.insert(number);
            } else {
                open.remove(&number);
            }
            let first = open.first().copied();
            match spans.last_mut() {
                Some((last, at)) if *last == port => *at = first,
                _ => spans.push((port, first)),
            }
        }
        Self(spans)
    }

    fn at(&self, port: u16) -> Option<usize> {
        let after = self.0.partition_point(|(low, _)| *low <= port);
        self.0.get(after.checked_sub(1)?)?.1
    }
}
