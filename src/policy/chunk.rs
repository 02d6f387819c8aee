use std::net::IpAddr;

use crate::Transport;
use crate::address::{Block, Class};
use crate::case::Speech;
use crate::hash::Map;
use crate::nets::Nets;
use crate::paths::Paths;
use crate::port::edges;
use crate::rule::{Proto, Rule};
use crate::search::{Asked, DNS_PORT, Nearness};
use crate::set::Set;

/// Up to `64 * W` rules for one host, turned round: for each thing that a request has, the set of the rules that take it. What
/// allows a request is what is in all of them, so that a thousand rules cost what ten do.
#[derive(Debug)]
pub(crate) struct Chunk<const W: usize> {
    /// The rules' numbers in ascending order, by place.
    numbers: Vec<usize>,
    all: Set<W>,
    /// `tcp` and `tls`.
    stream: Set<W>,
    udp: Set<W>,
    http: Set<W>,
    https: Set<W>,
    hello: Set<W>,
    dns_port: Set<W>,
    within: Set<W>,
    /// From this port to before the next.
    ports: Vec<(u16, Set<W>)>,
    any_method: Set<W>,
    methods: Map<Box<str>, Set<W>>,
    any_path: Set<W>,
    paths: Paths<W>,
    any_public: Set<W>,
    addresses: Nets<Set<W>>,
}

impl<const W: usize> Chunk<W> {
    /// How many rules there is room for.
    pub(crate) const ROOM: usize = 64 * W;

    /// Of at most [`Self::ROOM`] rules; `within` says which of all rules are within their ceilings.
    pub(crate) fn new(numbers: &[usize], rules: &[Rule], within: &[bool]) -> Self {
        let placed = || (0..).zip(numbers).filter_map(|(place, number)| Some((place, rules.get(*number)?)));
        let those = |is: &dyn Fn(&Rule) -> bool| {
            let mut set = Set::EMPTY;
            placed().filter(|(_, rule)| is(rule)).for_each(|(place, _)| set.insert(place));
            set
        };
        let mut inside = Set::EMPTY;
        for (place, number) in numbers.iter().enumerate() {
            if within.get(*number).copied().unwrap_or(false) {
                inside.insert(place);
            }
        }
        let mut methods: Map<Box<str>, Set<W>> = Map::default();
        let mut addresses: Nets<Set<W>> = Nets::default();
        for (place, rule) in placed() {
            rule.methods.iter().for_each(|method| methods.entry(method.as_str().into()).or_default().insert(place));
            rule.addresses.iter().for_each(|net| addresses.update(net, |set| set.insert(place)));
        }
        Self {
            numbers: numbers.to_vec(),
            all: those(&|_| true),
            stream: those(&|rule| matches!(rule.proto, Proto::Tcp | Proto::Tls)),
            udp: those(&|rule| rule.proto == Proto::Udp),
            http: those(&|rule| rule.proto == Proto::Http),
            https: those(&|rule| rule.proto == Proto::Https),
            hello: those(&Rule::wants_hello),
            dns_port: those(&|rule| rule.dns_port),
            within: inside,
            ports: ports(placed()),
            any_method: those(&|rule| rule.methods.is_empty()),
            methods,
            any_path: those(&|rule| rule.paths.is_empty()),
            paths: Paths::new(placed()),
            any_public: those(&|rule| rule.addresses.is_empty()),
            addresses,
        }
    }

    /// The number of the rule at a place.
    pub(crate) fn number(&self, place: usize) -> Option<usize> {
        self.numbers.get(place).copied()
    }

    /// Whether the first bytes of a raw connection under a rule must be a ClientHello.
    pub(crate) fn hello(&self) -> Set<W> {
        self.hello
    }

    /// Holds a request against all rules at once. `literal` rules name an address, and whoever asks has found that they admit it.
    pub(crate) fn compare(&self, asked: &Asked<'_>, literal: bool) -> Compared<W> {
        let (same, scheme) = match asked.speech {
            Speech::Anything => (self.all, Set::EMPTY),
            Speech::Raw(Transport::Tcp) => (self.stream, Set::EMPTY),
            Speech::Raw(Transport::Udp) => (self.udp, Set::EMPTY),
            Speech::Http(http) if http.tls => (self.https, self.http),
            Speech::Http(_) => (self.http, self.https),
        };
        let raw = matches!(asked.speech, Speech::Raw(_));
        let (method, path) = match asked.speech {
            Speech::Http(http) => {
                let named = self.methods.get(http.method.as_str()).copied().unwrap_or_default();
                (self.any_method | named, self.any_path | self.paths.of(&http.path))
            }
            _ => (self.all, self.all),
        };
        Compared {
            all: self.all,
            same,
            scheme,
            port: asked
                .port
                .filter(|_| !matches!(asked.speech, Speech::Anything))
                .map_or(self.all, |port| self.at(port)),
            dns_port: if raw && asked.port == Some(DNS_PORT) { self.dns_port } else { self.all },
            method,
            path,
            admitted: if literal { self.all } else { self.admitting(asked.address, asked.block) },
            within: self.within,
        }
    }

    fn at(&self, port: u16) -> Set<W> {
        let after = self.ports.partition_point(|(low, _)| *low <= port);
        after.checked_sub(1).and_then(|at| self.ports.get(at)).map_or(Set::EMPTY, |(_, set)| *set)
    }

    /// As [`Rule::admits`] says of each rule that names no address.
    fn admitting(&self, address: Option<IpAddr>, block: Option<&Block>) -> Set<W> {
        let Some(address) = address else { return self.all };
        let (free, shortest) = match block {
            None => (self.any_public, 0),
            Some(block) => match block.class {
                Class::Public => (self.any_public, 0),
                Class::Special(_) => (Set::EMPTY, block.len()),
                Class::Hard(_) => return Set::EMPTY,
            },
        };
        self.addresses.around(address, shortest).fold(free, |all, set| all | *set)
    }
}

fn ports<'a, const W: usize>(rules: impl Iterator<Item = (usize, &'a Rule)>) -> Vec<(u16, Set<W>)> {
    let mut ports: Vec<(u16, Set<W>)> = Vec::new();
    let mut set = Set::EMPTY;
    for (port, place, begins) in edges(rules.map(|(place, rule)| (place, &rule.ports))) {
        if begins {
            set.insert(place)
        } else {
            set.remove(place)
        }
        match ports.last_mut() {
            Some((last, at)) if *last == port => *at = set,
            _ => ports.push((port, set)),
        }
    }
    ports
}

/// Which rules take which part of a request.
pub(crate) struct Compared<const W: usize> {
    all: Set<W>,
    /// They speak what is asked for ...
    same: Set<W>,
    /// ... or HTTP with the other scheme.
    scheme: Set<W>,
    port: Set<W>,
    dns_port: Set<W>,
    method: Set<W>,
    path: Set<W>,
    admitted: Set<W>,
    within: Set<W>,
}

impl<const W: usize> Compared<W> {
    /// The rules that match.
    pub(crate) fn matches(&self) -> Set<W> {
        self.reached() & self.admitted & self.within
    }

    /// Where none matches, the first of those that came nearest.
    pub(crate) fn nearest(&self) -> Option<(Nearness, usize)> {
        let fits = self.same & self.port;
        let other = self.all.without(self.same | self.scheme);
        let first = |nearness, rules: Set<W>| Some((nearness, rules.first()?));
        // Each only where none before it has a rule: with a thousand rules a set is a kilobit.
        first(Nearness::Ceiling, (self.reached() & self.admitted).without(self.within))
            .or_else(|| first(Nearness::Path, (fits & self.method).without(self.path)))
            .or_else(|| first(Nearness::Method, fits.without(self.method)))
            .or_else(|| first(Nearness::DnsPort, fits.without(self.dns_port)))
            .or_else(|| first(Nearness::Address, self.reached().without(self.admitted)))
            .or_else(|| first(Nearness::Transport, other & self.port))
            .or_else(|| first(Nearness::Scheme, self.scheme))
            .or_else(|| first(Nearness::Port, self.same.without(self.port)))
            .or_else(|| first(Nearness::OtherTransportAndPort, other.without(self.port)))
    }

    /// But for where the connection would end.
    fn reached(&self) -> Set<W> {
        self.same & self.port & self.dns_port & self.method & self.path
    }
}
