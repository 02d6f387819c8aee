use std::net::IpAddr;

use ipnet::IpNet;

use crate::Rule;
use crate::address::{Block, block_around};
use crate::chunk::Chunk;
use crate::nets::Nets;
use crate::rule::RuleHost;

/// The rules that name one host, in their order.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    numbers: Vec<usize>,
    /// The network, where that is the host.
    literal: Option<IpNet>,
    ranked: Ranked,
    /// The parts of special blocks that the `addresses` of the rules name.
    special: Nets<()>,
}

/// How the rules are gone over.
#[derive(Debug, Default)]
pub(crate) enum Ranked {
    /// One by one.
    #[default]
    Few,
    Narrow(Vec<Chunk<1>>),
    Wide(Vec<Chunk<16>>),
}

/// From where on rules are not gone over one by one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Rules, ports, methods, paths and networks that are quicker looked through than looked up.
    pub(crate) few: usize,
    /// Rules that share a word.
    pub(crate) narrow: usize,
    /// Rules that share sixteen. More are several chunks, so that the memory grows with the rules and not with their square.
    pub(crate) wide: usize,
}

impl Sizes {
    pub(crate) const USUAL: Self = Self { few: 24, narrow: Chunk::<1>::ROOM, wide: Chunk::<16>::ROOM };
}

impl Bucket {
    pub(crate) fn push(&mut self, host: &RuleHost, number: usize) {
        self.numbers.push(number);
        if let RuleHost::Net(net) = host {
            self.literal = Some(*net);
        }
    }

    /// Makes it quick, once all rules are in it.
    pub(crate) fn rank(&mut self, rules: &[Rule], within: &[bool], sizes: Sizes) {
        let mut items = 0;
        for rule in self.numbers.iter().filter_map(|number| rules.get(*number)) {
            let lists = [rule.ports.ranges().len(), rule.methods.len(), rule.paths.len(), rule.addresses.len()];
            items += 1 + lists.iter().sum::<usize>();
            for net in rule.addresses.iter().filter(|net| block_around(net).is_some()) {
                self.special.update(net, |()| {});
            }
        }
        self.ranked = if items <= sizes.few {
            Ranked::Few
        } else if self.numbers.len() <= sizes.narrow {
            Ranked::Narrow(vec![Chunk::new(&self.numbers, rules, within)])
        } else {
            let chunks = self.numbers.chunks(sizes.wide);
            Ranked::Wide(chunks.map(|numbers| Chunk::new(numbers, rules, within)).collect())
        };
    }

    pub(crate) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    pub(crate) fn ranked(&self) -> &Ranked {
        &self.ranked
    }

    pub(crate) fn literal(&self) -> Option<&IpNet> {
        self.literal.as_ref()
    }

    /// Whether the `addresses` of some rule name a part of the block that holds the address.
    pub(crate) fn names_part_of(&self, block: &Block, address: IpAddr) -> bool {
        self.special.around(address, block.len()).next().is_some()
    }
}

#[cfg(test)]
mod tests;
