use std::net::IpAddr;

use crate::address::{Block, block_of};
use crate::case::Speech;
use crate::decision::Expected;
use crate::rule::RuleHost;
use crate::{Pin, Policy, Proto, Reason, Rule, Transport};

const DNS_PORT: u16 = 53;

/// How a rule that names the host still does not match. The later in this order, the nearer it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
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

/// Goes over the rules that name a host and keeps the first that matches, or the nearest miss.
pub(crate) struct Search<'a> {
    policy: &'a Policy,
    speech: Speech<'a>,
    /// None for a lookup.
    port: Option<u16>,
    /// Where the connection would end, where that is known.
    address: Option<IpAddr>,
    block: Option<&'static Block>,
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
        let block = address.and_then(block_of);
        Self { policy, speech, port, address, block, found: None, hellos: Vec::new(), miss: None }
    }

    /// Looks at rules that name the host, of a pin where that led to them.
    pub(crate) fn over(&mut self, numbers: impl Iterator<Item = usize>, pin: Option<&'a Pin>) {
        for number in numbers {
            // The first rule in the list is the one that is named; those after one that matches need no look.
            if self.found.is_some_and(|(first, _)| first <= number) {
                continue;
            }
            let Some(rule) = self.policy.rule(number) else { continue };
            // Of a literal, a network that does not admit it does not name it either: `0.0.0.0/0` is not about 10.0.0.1.
            let literal = matches!(rule.host, RuleHost::Net(_));
            let admitted = || self.address.is_none_or(|address| rule.admits(address, self.block));
            if literal && !admitted() {
                continue;
            }
            let miss = match self.compare(rule) {
                None if !literal && !admitted() => Some(Nearness::Address),
                None if !self.policy.is_within_ceilings(number) => Some(Nearness::Ceiling),
                miss => miss,
            };
            match miss {
                None if rule.wants_hello() && matches!(self.speech, Speech::Raw(Transport::Tcp)) => {
                    self.hellos.push((number, pin));
                }
                None => self.found = Some((number, pin)),
                Some(nearness) => {
                    let nearer =
                        |(other, first): (Nearness, usize)| nearness > other || nearness == other && number < first;
                    if self.miss.is_none_or(nearer) {
                        self.miss = Some((nearness, number));
                    }
                }
            }
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
