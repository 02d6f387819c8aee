use std::net::IpAddr;

use crate::address::{Block, block_of};
use crate::bucket::{Bucket, Ranked};
use crate::case::Speech;
use crate::chunk::Chunk;
use crate::decision::Expected;
use crate::{Pin, Policy, Proto, Reason, Rule, Transport};

pub(crate) const DNS_PORT: u16 = 53;

/// How a rule that names the host still does not match. The later in this order, the nearer it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    OtherTransportAndPort,
    Port,
    Scheme,
    Transport,
    Address,
    DnsPort,
    Method,
    Path,
    Ceiling,
}

impl Nearness {
    fn reason(self) -> Reason {
        match self {
            Self::OtherTransportAndPort | Self::Port => Reason::RulePort,
            Self::Scheme => Reason::RuleScheme,
            Self::Transport => Reason::RuleProto,
            Self::Address => Reason::AddrOutsideRule,
            Self::DnsPort => Reason::RuleDnsPort,
            Self::Method => Reason::HttpMethod,
            Self::Path => Reason::HttpPath,
            Self::Ceiling => Reason::RuleCeiling,
        }
    }
}

/// What a rule that names the host is held against.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) speech: Speech<'a>,
    /// None for a lookup.
    pub(crate) port: Option<u16>,
    /// Where the connection would end, where that is known.
    pub(crate) address: Option<IpAddr>,
    pub(crate) block: Option<&'static Block>,
}

/// Goes over the rules that name a host and keeps the first that matches, or the nearest miss.
pub(crate) struct Search<'a> {
    policy: &'a Policy,
    asked: Asked<'a>,
    found: Option<(usize, Option<&'a Pin>)>,
    hellos: Vec<(usize, Option<&'a Pin>)>,
    miss: Option<(Nearness, usize)>,
}

/// A rule that matches, the pin that led to it, and the ClientHellos that it waits for.
pub(crate) struct Match<'a> {
    pub(crate) rule: usize,
    pub(crate) pin: Option<&'a Pin>,
    pub(crate) hello: Option<Vec<Expected>>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(policy: &'a Policy, speech: Speech<'a>, port: Option<u16>, address: Option<IpAddr>) -> Self {
        let asked = Asked { speech, port, address, block: address.and_then(block_of) };
        Self { policy, asked, found: None, hellos: Vec::new(), miss: None }
    }

    /// Looks at rules that name the host, of a pin where that led to them.
    pub(crate) fn over<'b>(&mut self, buckets: impl Iterator<Item = &'b Bucket>, pin: Option<&'a Pin>) {
        for bucket in buckets {
            // Of a literal, a network that does not admit it does not name it either: `0.0.0.0/0` is not about 10.0.0.1.
            let literal = bucket.literal().is_some();
            let first = bucket.numbers().first().and_then(|number| self.policy.rule(*number));
            if literal && !first.is_some_and(|rule| self.admits(rule)) {
                continue;
            }
            match bucket.ranked() {
                Ranked::Few => self.one_by_one(bucket.numbers(), literal, pin),
                Ranked::Narrow(chunks) => chunks.iter().for_each(|chunk| self.at_once(chunk, literal, pin)),
                Ranked::Wide(chunks) => chunks.iter().for_each(|chunk| self.at_once(chunk, literal, pin)),
            }
        }
    }

    fn admits(&self, rule: &Rule) -> bool {
        self.asked.address.is_none_or(|address| rule.admits(address, self.asked.block))
    }

    fn one_by_one(&mut self, numbers: &[usize], literal: bool, pin: Option<&'a Pin>) {
        for &number in numbers {
            // The first rule in the list is the one that is named; those after one that matches need no look.
            if self.found.is_some_and(|(first, _)| first <= number) {
                break;
            }
            let Some(rule) = self.policy.rule(number) else { continue };
            let miss = match self.asked.compare(rule) {
                None if !literal && !self.admits(rule) => Some(Nearness::Address),
                None if !self.policy.is_within_ceilings(number) => Some(Nearness::Ceiling),
                miss => miss,
            };
            match miss {
                None if rule.wants_hello() && self.asked.may_begin_with_a_hello() => self.hellos.push((number, pin)),
                None => self.found = Some((number, pin)),
                Some(nearness) => self.missed(nearness, number),
            }
        }
    }

    fn at_once<const W: usize>(&mut self, chunk: &Chunk<W>, literal: bool, pin: Option<&'a Pin>) {
        let is_later = |number: usize| self.found.is_some_and(|(first, _)| first <= number);
        if chunk.number(0).is_none_or(is_later) {
            return;
        }
        let compared = chunk.compare(&self.asked, literal);
        let matches = compared.matches();
        let waiting = if self.asked.may_begin_with_a_hello() { matches & chunk.hello() } else { Default::default() };
        if let Some(number) = matches.without(waiting).first().and_then(|place| chunk.number(place))
            && !is_later(number)
        {
            self.found = Some((number, pin));
        }
        // What misses or waits matters only where nothing matches without waiting.
        if self.found.is_some() {
            return;
        }
        self.hellos.extend(waiting.places().filter_map(|place| Some((chunk.number(place)?, pin))));
        if self.hellos.is_empty()
            && let Some((nearness, place)) = compared.nearest()
            && let Some(number) = chunk.number(place)
        {
            self.missed(nearness, number);
        }
    }

    fn missed(&mut self, nearness: Nearness, number: usize) {
        let nearer = |(other, first): (Nearness, usize)| nearness > other || nearness == other && number < first;
        if self.miss.is_none_or(nearer) {
            self.miss = Some((nearness, number));
        }
    }

    /// The rule that allows it. A rule that asks for a ClientHello is taken where no other matches, and then all of these are,
    /// because which one is meant shows only in the ClientHello.
    pub(crate) fn found(&self) -> Option<Match<'a>> {
        if let Some((rule, pin)) = self.found {
            return Some(Match { rule, pin, hello: None });
        }
        let (rule, pin) = self.hellos.iter().min_by_key(|(number, _)| *number).copied()?;
        let expected =
            |(rule, pin): &(usize, Option<&Pin>)| Expected { name: pin.map(|pin| pin.name.clone()), rule: *rule };
        Some(Match { rule, pin, hello: Some(self.hellos.iter().map(expected).collect()) })
    }

    /// The nearest miss.
    pub(crate) fn miss(&self) -> Option<(Reason, usize)> {
        self.miss.map(|(nearness, number)| (nearness.reason(), number))
    }
}

impl Asked<'_> {
    fn may_begin_with_a_hello(&self) -> bool {
        matches!(self.speech, Speech::Raw(Transport::Tcp))
    }

    /// What a rule that names the host lacks; none: it matches.
    fn compare(&self, rule: &Rule) -> Option<Nearness> {
        let port = self.port.is_none_or(|port| rule.ports.contains(port));
        match self.speech {
            Speech::Anything => None,
            Speech::Raw(transport) => {
                let same = match transport {
                    Transport::Tcp => matches!(rule.proto, Proto::Tcp | Proto::Tls),
                    Transport::Udp => rule.proto == Proto::Udp,
                };
                match (same, port) {
                    (true, true) if self.port == Some(DNS_PORT) && !rule.dns_port => Some(Nearness::DnsPort),
                    (true, true) => None,
                    (true, false) => Some(Nearness::Port),
                    (false, true) => Some(Nearness::Transport),
                    (false, false) => Some(Nearness::OtherTransportAndPort),
                }
            }
            Speech::Http(http) => match (rule.proto, http.tls) {
                (Proto::Https, true) | (Proto::Http, false) if !port => Some(Nearness::Port),
                (Proto::Https, true) | (Proto::Http, false) => {
                    if !rule.methods.is_empty() && !rule.methods.contains(&http.method) {
                        Some(Nearness::Method)
                    } else if !rule.paths.is_empty() && !rule.paths.iter().any(|rule| path_matches(rule, &http.path)) {
                        Some(Nearness::Path)
                    } else {
                        None
                    }
                }
                (Proto::Https | Proto::Http, _) => Some(Nearness::Scheme),
                _ if port => Some(Nearness::Transport),
                _ => Some(Nearness::OtherTransportAndPort),
            },
        }
    }
}

/// A rule's path ends in `/` and is a prefix, or is exact.
pub(crate) fn path_matches(rule: &str, path: &str) -> bool {
    if rule.ends_with('/') { path.starts_with(rule) } else { path == rule }
}
