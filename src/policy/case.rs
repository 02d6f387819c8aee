use std::net::{IpAddr, SocketAddr};

use crate::decision::{Denied, Effect, Granted, HttpTarget, Target};
use crate::host::{Unreadable, parse_lookup};
use crate::parse::is_token;
use crate::{Hello, Host, Name, Proto, Reason, Request, Transport, canonical_path, parse_host, parse_port};

/// A request that could be read: the first step of a decision.
pub(crate) struct Case<'a> {
    pub(crate) kind: Kind<'a>,
    /// The name that the request itself is for; a raw connect has none, whatever its pins say.
    pub(crate) name: Option<Name>,
    /// The address that packets would go to, where it is known already.
    pub(crate) address: Option<IpAddr>,
    /// The port that packets would go to; a lookup has none.
    pub(crate) port: Option<u16>,
}

pub(crate) enum Kind<'a> {
    Connect(SocketAddr),
    Datagram(SocketAddr),
    Lookup,
    /// Of a lookup for this HTTP request, or for any use.
    Answer(Option<&'a HttpTarget>),
    Http(HttpTarget),
    Dial(&'a HttpTarget),
    Inbound,
    Hello(&'a Granted, Hello<'a>),
}

/// What would be spoken to the host.
#[derive(Clone, Copy)]
pub(crate) enum Speech<'a> {
    Raw(Transport),
    Http(&'a HttpTarget),
    /// A lookup: any rule for the name will do.
    Anything,
}

impl Speech<'_> {
    /// The protocols whose rules are about this, the one that a deny must forbid first.
    pub(crate) fn proto(self) -> Option<Proto> {
        match self {
            Self::Raw(Transport::Tcp) => Some(Proto::Tcp),
            Self::Raw(Transport::Udp) => Some(Proto::Udp),
            Self::Http(http) if http.tls => Some(Proto::Https),
            Self::Http(_) => Some(Proto::Http),
            Self::Anything => None,
        }
    }
}

/// Why a request could not be read, and what could be read of it.
pub(crate) struct Misread {
    pub(crate) reason: Reason,
    pub(crate) target: Target,
}

impl From<Misread> for Denied {
    fn from(misread: Misread) -> Self {
        Self { reason: misread.reason, nearest: None, target: misread.target, step: 1 }
    }
}

impl<'a> Case<'a> {
    /// Step 1: everything is read into the form that is compared, or refused.
    pub(crate) fn read(request: &Request<'a>) -> Result<Self, Misread> {
        match *request {
            Request::Connect { to } => raw(Kind::Connect(to), to),
            Request::Datagram { to } => raw(Kind::Datagram(to), to),
            Request::Lookup { name } => match parse_lookup(name) {
                Ok(host) => Ok(Self::new(Kind::Lookup, &host, None)),
                Err(unreadable) => Err(misread(unreadable, None)),
            },
            Request::Answer { lookup, address } => match &lookup.effect {
                Effect::Lookup(name) => Ok(Self::answer(Kind::Answer(None), name, address, None)),
                Effect::Http(http) => match &http.host {
                    Host::Name(name) => Ok(Self::answer(Kind::Answer(Some(http)), name, address, Some(http.port))),
                    Host::Address(_) => Err(misuse(Some(address))),
                },
                _ => Err(misuse(Some(address))),
            },
            Request::Http { method, scheme, authority, path } => http(method, scheme, authority, path),
            Request::HttpDial { http, address } => match &http.effect {
                Effect::Http(target) => match &target.host {
                    Host::Name(name) => Ok(Self::answer(Kind::Dial(target), name, address, Some(target.port))),
                    Host::Address(own) if *own == address => {
                        Ok(Self::new(Kind::Dial(target), &target.host, Some(target.port)))
                    }
                    Host::Address(_) => Err(misuse(Some(address))),
                },
                _ => Err(misuse(Some(address))),
            },
            Request::Inbound { address, .. } => {
                Ok(Self::new(Kind::Inbound, &Host::Address(address.ip()), Some(address.port())))
            }
            Request::ClientHello { connect, hello } => match &connect.effect {
                Effect::Connect(to) => {
                    Ok(Self::new(Kind::Hello(connect, hello), &Host::Address(to.ip()), Some(to.port())))
                }
                _ => Err(misuse(None)),
            },
        }
    }

    fn new(kind: Kind<'a>, host: &Host, port: Option<u16>) -> Self {
        let (name, address) = match host {
            Host::Name(name) => (Some(name.clone()), None),
            Host::Address(address) => (None, Some(*address)),
        };
        Self { kind, name, address, port }
    }

    fn answer(kind: Kind<'a>, name: &Name, address: IpAddr, port: Option<u16>) -> Self {
        Self { kind, name: Some(name.clone()), address: Some(address), port }
    }

    pub(crate) fn speech(&self) -> Speech<'_> {
        match &self.kind {
            Kind::Datagram(_) => Speech::Raw(Transport::Udp),
            Kind::Connect(_) | Kind::Hello(..) | Kind::Inbound => Speech::Raw(Transport::Tcp),
            Kind::Lookup | Kind::Answer(None) => Speech::Anything,
            Kind::Http(http) => Speech::Http(http),
            Kind::Dial(http) | Kind::Answer(Some(http)) => Speech::Http(http),
        }
    }

    /// What may happen when every step has passed.
    ///
    /// # Errors
    /// Where it would have gone, of what is never allowed.
    pub(crate) fn effect(self) -> Result<Effect, Target> {
        let port = self.port;
        match (self.kind, self.name, self.address) {
            (Kind::Connect(to), ..) => Ok(Effect::Connect(to)),
            (Kind::Datagram(to), ..) => Ok(Effect::Datagram(to)),
            (Kind::Lookup, Some(name), _) => Ok(Effect::Lookup(name)),
            (Kind::Lookup, None, Some(address)) => Ok(Effect::Literal(address)),
            (Kind::Answer(_), Some(name), Some(address)) => Ok(Effect::Answer(name, address)),
            (Kind::Http(http), ..) => Ok(Effect::Http(http)),
            (Kind::Dial(http), _, Some(address)) => Ok(Effect::Connect(SocketAddr::new(address, http.port))),
            (Kind::Hello(..), ..) => Ok(Effect::ClientHello),
            (_, name, address) => Err(target(name.as_ref(), address, port)),
        }
    }

    pub(crate) fn target(&self) -> Target {
        target(self.name.as_ref(), self.address, self.port)
    }
}

fn target(name: Option<&Name>, address: Option<IpAddr>, port: Option<u16>) -> Target {
    Target { name: name.map(|name| name.as_str().to_owned()), address, port }
}

fn misread(unreadable: Unreadable, port: Option<u16>) -> Misread {
    let Unreadable { reason, name, address } = unreadable;
    Misread { reason, target: Target { name: name.map(|name| name.to_string()), address, port } }
}

/// A token for something else: the caller's mistake, and no rule could allow it.
fn misuse(address: Option<IpAddr>) -> Misread {
    Misread { reason: Reason::RuleNoMatch, target: Target { address, ..Target::default() } }
}

fn raw(kind: Kind<'_>, to: SocketAddr) -> Result<Case<'_>, Misread> {
    let target = Target { name: None, address: Some(to.ip()), port: Some(to.port()) };
    if to.port() == 0 {
        return Err(Misread { reason: Reason::NamePortInvalid, target });
    }
    // A zone would make one address many; nothing that is reachable needs one.
    if let SocketAddr::V6(to) = to
        && (to.scope_id() != 0 || to.flowinfo() != 0)
    {
        return Err(Misread { reason: Reason::NameInvalid, target });
    }
    Ok(Case::new(kind, &Host::Address(to.ip()), Some(to.port())))
}

fn http<'a>(method: &str, scheme: &str, authority: &str, path: &str) -> Result<Case<'a>, Misread> {
    let tls = match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Some(true),
        _ if scheme.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    };
    let (host, port) = match (read_authority(authority), tls) {
        (Ok((host, port)), tls) => (host, port.unwrap_or(if tls == Some(false) { 80 } else { 443 })),
        // Whatever the authority says, no rule is for such a scheme.
        (Err(_), None) => return Err(Misread { reason: Reason::RuleScheme, target: Target::default() }),
        (Err(misread), Some(_)) => return Err(misread),
    };
    let method = method.to_ascii_uppercase();
    let read = match (tls, canonical_path(path)) {
        (None, _) => Err(Reason::RuleScheme),
        _ if !is_token(&method) || matches!(method.as_str(), "CONNECT" | "TRACE") => Err(Reason::HttpMethod),
        (Some(_), Err(reason)) => Err(reason),
        (Some(tls), Ok(path)) => Ok((tls, path)),
    };
    match read {
        Ok((tls, path)) => {
            let (name, address) = match &host {
                Host::Name(name) => (Some(name.clone()), None),
                Host::Address(address) => (None, Some(*address)),
            };
            let kind = Kind::Http(HttpTarget { method, tls, host, port, path });
            Ok(Case { kind, name, address, port: Some(port) })
        }
        Err(reason) => {
            let tls_port = if tls.is_some() { Some(port) } else { None };
            Err(Misread { reason, target: Case::new(Kind::Lookup, &host, tls_port).target() })
        }
    }
}

/// Host and port of an authority. There is no percent encoding in it, and no user.
fn read_authority(text: &str) -> Result<(Host, Option<u16>), Misread> {
    let bare = |reason| Misread { reason, target: Target::default() };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\/?#\"<>^`{|}".contains(&byte)) {
        return Err(bare(Reason::NameInvalid));
    }
    if text.contains('@') {
        return Err(bare(Reason::HttpUserinfo));
    }
    // The port's colon is the last one, and outside of brackets.
    let after = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match text.get(after..).and_then(|tail| tail.find(':')) {
        Some(colon) => text.split_at(after + colon),
        None => (text, ""),
    };
    let host = parse_host(host).map_err(|reason| misread(Unreadable::new(reason, host), None));
    let port = match port.strip_prefix(':') {
        None => Ok(None),
        // Several colons without brackets are an IPv6 address, not a port.
        Some(port) if port.contains(':') => return Err(bare(Reason::NameInvalid)),
        Some(port) => parse_port(port).map(|port| Some(port.get())),
    };
    match (host, port) {
        (Ok(host), Ok(port)) => Ok((host, port)),
        (Ok(host), Err(reason)) => Err(Misread { reason, target: Case::new(Kind::Lookup, &host, None).target() }),
        (Err(misread), _) => Err(misread),
    }
}
