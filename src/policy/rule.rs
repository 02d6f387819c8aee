use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::address::{Block, Class};
use crate::{Name, Ports};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// A raw stream.
    Tcp,
    /// Datagrams.
    Udp,
    /// A raw stream whose first bytes are a ClientHello for the rule's host.
    Tls,
    /// HTTP without TLS.
    Http,
    /// HTTP in a TLS session that the host opens.
    Https,
}

impl Proto {
    /// As in a rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a rule means without one.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https | Self::Tls => Some(443),
            Self::Tcp | Self::Udp => None,
        }
    }

    /// Whether requests of this kind come through `wasi:http`.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Tls, Self::Http, Self::Https].into_iter().find(|proto| proto.as_str() == text)
    }
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RuleHost {
    /// This name.
    Name(Name),
    /// Every name with at least one label before this one.
    Suffix(Name),
    /// Address literals of this network; an address is a network of one.
    Net(IpNet),
    /// Every name and address. In denies and ceilings only.
    Any,
}

impl RuleHost {
    /// Whether every host of `other` is a host of this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Name(mine), Self::Name(name)) => mine == name,
            (Self::Suffix(mine), Self::Suffix(suffix)) if mine == suffix => true,
            (Self::Suffix(mine), Self::Name(name) | Self::Suffix(name)) => is_below(name.as_str(), mine.as_str()),
            (Self::Net(mine), Self::Net(net)) => mine.contains(net),
            _ => false,
        }
    }
}

/// Whether a name has at least one label before the suffix.
pub(crate) fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl fmt::Display for RuleHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Suffix(name) => write!(f, "*.{name}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
                IpAddr::V4(address) => write!(f, "{address}"),
                IpAddr::V6(address) => write!(f, "[{address}]"),
            },
            Self::Net(net @ IpNet::V4(_)) => write!(f, "{net}"),
            Self::Net(net @ IpNet::V6(_)) => write!(f, "[{net}]"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// One rule that allows. Its text ([`fmt::Display`]) is canonical: reading it again gives the same rule, but for the fields beside
/// `allow`, which [`Rule::canonical`] also holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(crate) proto: Proto,
    pub(crate) host: RuleHost,
    pub(crate) ports: Ports,
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) ttl: Option<(Duration, Duration)>,
    pub(crate) sni_pin: bool,
    pub(crate) dns_port: bool,
    pub(crate) dangerous: bool,
}

impl Rule {
    /// A rule without fields.
    pub(crate) fn bare(proto: Proto, host: RuleHost, ports: Ports) -> Self {
        Self {
            proto,
            host,
            ports,
            methods: Vec::new(),
            paths: Vec::new(),
            addresses: Vec::new(),
            ttl: None,
            sni_pin: false,
            dns_port: false,
            dangerous: false,
        }
    }

    /// What is spoken.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// The hosts.
    pub fn host(&self) -> &RuleHost {
        &self.host
    }

    /// The ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The methods, sorted; empty: any but CONNECT and TRACE.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Paths, sorted: prefixes where they end in `/`, else exact; empty: any.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Where an answer for the name must fall in, as it was typed; empty: any public address.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// How long a pin lives at least and at most, instead of the five seconds to five minutes of all pins.
    pub fn ttl(&self) -> Option<(Duration, Duration)> {
        self.ttl
    }

    /// Whether the first bytes must be a ClientHello for the name, on a `tcp` rule.
    pub fn sni_pin(&self) -> bool {
        self.sni_pin
    }

    /// Whether port 53 is meant.
    pub fn dns_port(&self) -> bool {
        self.dns_port
    }

    /// Whether the operator confirmed a match-all.
    pub fn dangerous(&self) -> bool {
        self.dangerous
    }

    /// Whether the first bytes of a raw connection must be a ClientHello.
    pub(crate) fn wants_hello(&self) -> bool {
        self.sni_pin || self.proto == Proto::Tls
    }

    /// Whether this rule lets a connection end at an address: of a literal its network, of a name its `addresses`, must hold the
    /// address, and for a special range be a part of that block. `block` is the address's own.
    pub(crate) fn admits(&self, address: IpAddr, block: Option<&Block>) -> bool {
        let own;
        let nets = match &self.host {
            RuleHost::Net(net) => {
                own = [*net];
                &own[..]
            }
            _ => self.addresses.as_slice(),
        };
        match block.map(|block| block.class) {
            None | Some(Class::Public) => nets.is_empty() || nets.iter().any(|net| net.contains(&address)),
            Some(Class::Special(_)) => {
                nets.iter().any(|net| net.contains(&address) && block.is_some_and(|block| block.covers(net)))
            }
            Some(Class::Hard(_)) => false,
        }
    }

    /// Everything that the rule says, in one line. The policy's version is made of these.
    pub fn canonical(&self) -> String {
        let mut parts = vec![self.to_string()];
        parts.extend(self.methods.iter().map(|method| format!("method={method}")));
        parts.extend(self.paths.iter().map(|path| format!("path={path}")));
        let addresses: BTreeSet<&IpNet> = self.addresses.iter().collect();
        parts.extend(addresses.iter().map(|net| format!("address={net}")));
        if let Some((min, max)) = self.ttl {
            parts.push(format!("ttl={}..{}ms", min.as_millis(), max.as_millis()));
        }
        let flags = [(self.sni_pin, "sni_pin"), (self.dns_port, "dns_port"), (self.dangerous, "dangerous")];
        parts.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
        parts.join(" ")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.proto.as_str(), self.host)?;
        match self.proto.default_port() {
            Some(port) if self.ports.ranges() == [(port, port)] => Ok(()),
            _ => write!(f, ":{}", self.ports),
        }
    }
}

/// One rule that denies, of the operator or of a tenant: a host, or a rule's text whose port may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deny {
    /// None: whatever is spoken.
    pub(crate) proto: Option<Proto>,
    pub(crate) host: RuleHost,
    pub(crate) ports: Ports,
}

impl Deny {
    /// What must not be spoken; none: anything.
    pub fn proto(&self) -> Option<Proto> {
        self.proto
    }

    /// The hosts.
    pub fn host(&self) -> &RuleHost {
        &self.host
    }

    /// The ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Whether the deny speaks of the host as a whole, and so also of its lookup.
    pub(crate) fn is_whole(&self) -> bool {
        self.proto.is_none() && self.ports.is_any()
    }

    /// Whether it speaks of this protocol. A raw stream can carry any of the others, so a deny of one of those is one of it too.
    pub(crate) fn forbids(&self, proto: Proto) -> bool {
        match (self.proto, proto) {
            (None, _) => true,
            (Some(Proto::Udp), other) | (Some(other), Proto::Udp) => {
                other == Proto::Udp && self.proto == Some(Proto::Udp)
            }
            (Some(Proto::Http), Proto::Https) | (Some(Proto::Https), Proto::Http) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proto {
            Some(proto) => write!(f, "{}://{}", proto.as_str(), self.host)?,
            None => write!(f, "{}", self.host)?,
        }
        if self.ports.is_any() { Ok(()) } else { write!(f, ":{}", self.ports) }
    }
}
