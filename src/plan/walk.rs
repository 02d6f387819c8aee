//! One request of a plugin from its text to its last decision, in the order in which the network layer asks: the name, each
//! answer for it, the connection. Each stage is a decision of its own, told step by step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portcullis_net::{Call, guest_code};
use portcullis_policy::{
    Decision, Denied, Effect, Facts, Granted, Host, Name, Pin, Policy, Reason, Request, Smallest, Step, Transport,
    decide, explain, parse_host, smallest, smallest_for_name,
};

use super::explain::Sight;

/// What a request may look like, for whoever typed something else.
pub(crate) const FORMS: &str = "a request is `GET https://host/path` (any method, http or https), `tcp://host:port`, `udp://host:port` or `resolve NAME`";
/// The longest text of a request, in bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 32 << 10;
/// Addresses that stand for any public one where a name was not looked up.
const STAND_INS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe))];

/// A request as somebody types it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Http { method: String, scheme: String, authority: String, path: String },
    Raw { transport: Transport, host: String, port: u16 },
    Lookup { name: String },
}

impl Asked {
    /// Reads a request. What a plugin could not even hand over is refused here, everything else is for the policy to judge.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_REQUEST_BYTES {
            return Err(format!("longer than {MAX_REQUEST_BYTES} bytes"));
        }
        let text = text.trim();
        match text.split_once(char::is_whitespace) {
            Some((word, name)) if word.eq_ignore_ascii_case("resolve") => {
                Ok(Self::Lookup { name: name.trim().to_owned() })
            }
            Some((method, url)) => http(method, url.trim()),
            None => match text.split_once("://") {
                Some(("tcp", rest)) => raw(Transport::Tcp, rest),
                Some(("udp", rest)) => raw(Transport::Udp, rest),
                Some(("tls", rest)) => Err(format!("`tls` is for rules; the plugin connects to `tcp://{rest}`")),
                Some(("http" | "https", _)) => Err(format!("the method is missing: `GET {text}`")),
                _ => Err(format!("`{text}` is no request")),
            },
        }
    }

    /// Host and port that it is for, where it has both.
    pub(crate) fn destination(&self) -> Option<(&str, u16)> {
        match self {
            Self::Raw { host, port, .. } => Some((host, *port)),
            Self::Lookup { .. } => None,
            Self::Http { scheme, authority, .. } => {
                let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
                match authority.rsplit_once(':') {
                    Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                        Some((host, port.parse().ok()?))
                    }
                    _ => Some((authority, default)),
                }
            }
        }
    }

    /// The least rule for it, whatever the policy says.
    pub(crate) fn smallest(&self, answers: &[IpAddr]) -> Option<Smallest> {
        match self {
            Self::Http { method, scheme, authority, path } => {
                smallest(&Request::Http { method, scheme, authority, path }, answers)
            }
            Self::Lookup { name } => smallest(&Request::Lookup { name }, answers),
            Self::Raw { transport, host, port } => match (address(host), parse_host(host)) {
                (Some(ip), _) => smallest(&to(*transport, SocketAddr::new(ip, *port)), &[]),
                (None, Ok(Host::Name(name))) => smallest_for_name(*transport, &name, *port, answers),
                _ => None,
            },
        }
    }
}

fn http(method: &str, url: &str) -> Result<Asked, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("`{url}` has no scheme"));
    };
    if url.contains(char::is_whitespace) {
        return Err(format!("`{url}` has a blank inside"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let own = |text: &str| text.to_owned();
    Ok(Asked::Http { method: own(method), scheme: own(scheme), authority: own(authority), path: own(path) })
}

fn raw(transport: Transport, rest: &str) -> Result<Asked, String> {
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!("`{rest}` is more than a host and a port"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => (host, port),
        Some((host, _)) if host.contains(':') => {
            return Err(format!("an IPv6 address stands in brackets: `[{rest}]:port`"));
        }
        _ => return Err(format!("`{rest}` has no host or no port")),
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits => Ok(Asked::Raw { transport, host: host.to_owned(), port }),
        _ => Err(format!("`{port}` is no port, which is a number up to 65535")),
    }
}

/// An address that a plugin connects to without a lookup.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn to(transport: Transport, to: SocketAddr) -> Request<'static> {
    match transport {
        Transport::Tcp => Request::Connect { to },
        Transport::Udp => Request::Datagram { to },
    }
}

/// One decision of a walk.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// `lookup`, `answer`, `connect`, `datagram`, `request` or `dial`.
    pub(crate) what: &'static str,
    /// The address that it is about, where it is known.
    pub(crate) address: Option<IpAddr>,
    /// Why it was refused; none: it was allowed.
    pub(crate) refused: Option<Reason>,
    pub(crate) steps: Vec<Step>,
}

/// What comes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) allowed: bool,
    /// Why not; where it is allowed, why enforce mode would refuse it.
    pub(crate) reason: Option<Reason>,
    /// The step of the order that refused.
    pub(crate) step: Option<u8>,
    /// Index of the rule that allowed, of the deny that refused (with `rule.operator_deny`), or of the rule that came nearest.
    pub(crate) rule: Option<usize>,
    /// What the plugin is told.
    pub(crate) guest_code: Option<&'static str>,
}

/// All decisions about one request.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) stages: Vec<Stage>,
    /// Index of the stage that gave the outcome.
    pub(crate) decisive: Option<usize>,
    pub(crate) outcome: Outcome,
    /// The answers that were looked at.
    pub(crate) answers: Vec<IpAddr>,
    /// What else to know.
    pub(crate) notes: Vec<String>,
}

/// What a lookup gave.
pub(crate) enum Answered {
    /// Nobody was asked.
    Unknown,
    Addresses(Vec<IpAddr>),
    /// There is none, and the code of it.
    Failed(Reason, &'static str),
}

impl Walk {
    /// Of a plugin that has no network.
    pub(crate) fn absent() -> Self {
        let outcome = Outcome { reason: Some(Reason::CapabilityAbsent), ..Outcome::default() };
        let note = "the plugin has no `egress` grant: nothing is linked, and a component that imports sockets or HTTP is refused before it runs";
        Self { stages: Vec::new(), decisive: None, outcome, answers: Vec::new(), notes: vec![note.to_owned()] }
    }
}

/// Follows a request. `look_up` is called at most once, with a lookup or HTTP request that was granted.
pub(crate) fn walk(sight: Sight<'_>, asked: &Asked, look_up: impl FnOnce(&Granted) -> Answered) -> Walk {
    let mut walker = Walker {
        sight,
        walk: Walk {
            stages: Vec::new(),
            decisive: None,
            outcome: Outcome::default(),
            answers: Vec::new(),
            notes: Vec::new(),
        },
    };
    match asked {
        Asked::Http { method, scheme, authority, path } => {
            walker.http(&Request::Http { method, scheme, authority, path }, look_up);
        }
        Asked::Lookup { name } => walker.lookup(name, look_up),
        Asked::Raw { transport, host, port } => match address(host) {
            Some(ip) => walker.raw(*transport, SocketAddr::new(ip, *port)),
            None => walker.named(*transport, host, *port, look_up),
        },
    }
    walker.walk
}

struct Walker<'a> {
    sight: Sight<'a>,
    walk: Walk,
}

impl Walker<'_> {
    /// Decides one stage and keeps it.
    fn ask(
        &mut self,
        policy: &Policy,
        what: &'static str,
        address: Option<IpAddr>,
        request: &Request<'_>,
        pins: &[Pin],
    ) -> Result<Granted, Denied> {
        let (decision, steps) = explain(policy, request, &facts(pins));
        let refused = if let Decision::Deny(denied) = &decision { Some(denied.reason) } else { None };
        self.walk.stages.push(Stage { what, address, refused, steps });
        match decision {
            Decision::Allow(granted) => Ok(granted),
            Decision::Deny(denied) => Err(denied),
        }
    }

    fn allowed(&mut self, stage: usize, granted: &Granted) {
        self.walk.decisive = Some(stage);
        self.walk.outcome =
            Outcome { allowed: true, reason: granted.observed(), rule: granted.rule(), ..Outcome::default() };
        if granted.wants_hello() {
            let note =
                "the connection must begin with a TLS ClientHello for that name, anything else is reset (`tls.*`)";
            self.walk.notes.push(note.to_owned());
        }
    }

    fn denied(&mut self, stage: usize, denied: &Denied, call: Call) {
        self.walk.decisive = Some(stage);
        self.walk.outcome = Outcome {
            allowed: false,
            reason: Some(denied.reason),
            step: Some(denied.step),
            rule: denied.nearest,
            guest_code: Some(guest_code(call, denied.reason)),
        };
    }

    fn last(&self) -> usize {
        self.walk.stages.len().saturating_sub(1)
    }

    fn unknown(&mut self, name: &Name) {
        self.walk.notes.push(format!(
            "{name} was not looked up: its answers would be checked one by one (--answer IP assumes one, --resolve asks the name servers)"
        ));
    }

    /// The lookup of a name; none where it is refused.
    fn begin(&mut self, text: &str) -> Option<Granted> {
        let policy = self.sight.policy.clone();
        match self.ask(&policy, "lookup", None, &Request::Lookup { name: text }, &[]) {
            Ok(granted) => Some(granted),
            Err(denied) => {
                self.denied(self.last(), &denied, Call::Lookup);
                None
            }
        }
    }

    fn lookup(&mut self, text: &str, look_up: impl FnOnce(&Granted) -> Answered) {
        let Some(granted) = self.begin(text) else { return };
        let at = self.last();
        let Effect::Lookup(name) = granted.effect() else { return self.allowed(at, &granted) };
        match self.answers(name, &granted, Call::Answers, look_up(&granted)) {
            Shown::Unknown => {
                self.allowed(at, &granted);
                self.unknown(name);
            }
            Shown::Addresses(_) => self.allowed(at, &granted),
            Shown::Nothing => {}
        }
    }

    fn raw(&mut self, transport: Transport, socket: SocketAddr) {
        let policy = self.sight.policy.clone();
        let asked = self.ask(&policy, word(transport), Some(socket.ip()), &to(transport, socket), &[]);
        self.best(vec![(self.last(), asked)], Call::Socket);
    }

    fn named(&mut self, transport: Transport, text: &str, port: u16, look_up: impl FnOnce(&Granted) -> Answered) {
        let Some(granted) = self.begin(text) else { return };
        let name = match granted.effect() {
            Effect::Lookup(name) => name,
            Effect::Literal(ip) => return self.raw(transport, SocketAddr::new(*ip, port)),
            _ => return,
        };
        let shown = match self.answers(name, &granted, Call::Answers, look_up(&granted)) {
            Shown::Addresses(shown) => shown,
            Shown::Unknown => return self.stand_in(transport, name, &granted, port),
            Shown::Nothing => return,
        };
        let policy = self.sight.where_name_is(name, &shown);
        let mut asked = Vec::new();
        for ip in shown {
            let request = to(transport, SocketAddr::new(ip, port));
            let decided = self.ask(&policy, word(transport), Some(ip), &request, &[pin_of(name, ip)]);
            asked.push((self.last(), decided));
        }
        self.best(asked, Call::Socket);
    }

    /// The connection to a name that was not looked up: port and protocol are judged with an address that the rules of the name
    /// admit, where there is one.
    fn stand_in(&mut self, transport: Transport, name: &Name, lookup: &Granted, port: u16) {
        let of_rules = self.sight.policy.rules().iter().flat_map(|rule| rule.addresses()).map(|net| net.network());
        let candidates: Vec<IpAddr> = STAND_INS.into_iter().chain(of_rules).collect();
        let fits = |ip: &&IpAddr| {
            let policy = self.sight.where_name_is(name, &[**ip]);
            let request = to(transport, SocketAddr::new(**ip, port));
            let shown = decide(&policy, &Request::Answer { lookup, address: **ip }, &facts(&[]));
            let by_rule = |decision| matches!(decision, Decision::Allow(granted) if granted.rule().is_some());
            matches!(shown, Decision::Allow(_)) && by_rule(decide(&policy, &request, &facts(&[pin_of(name, **ip)])))
        };
        let chosen = candidates.iter().find(fits).or(candidates.first()).copied();
        let Some(ip) = chosen else { return };
        let policy = self.sight.where_name_is(name, &[ip]);
        let request = to(transport, SocketAddr::new(ip, port));
        let asked = self.ask(&policy, word(transport), None, &request, &[pin_of(name, ip)]);
        if let Some(stage) = self.walk.stages.last_mut() {
            for step in &mut stage.steps {
                step.detail = step.detail.replace(&ip.to_string(), "(an answer)");
            }
        }
        self.best(vec![(self.last(), asked)], Call::Socket);
        if self.walk.outcome.allowed {
            self.unknown(name);
        }
    }

    fn http(&mut self, request: &Request<'_>, look_up: impl FnOnce(&Granted) -> Answered) {
        let policy = self.sight.policy.clone();
        let granted = match self.ask(&policy, "request", None, request, &[]) {
            Ok(granted) => granted,
            Err(denied) => return self.denied(self.last(), &denied, Call::Http),
        };
        let at = self.last();
        let Effect::Http(target) = granted.effect() else { return };
        let (policy, addresses) = match &target.host {
            Host::Address(ip) => (policy, vec![*ip]),
            Host::Name(name) => {
                // As the network layer does: what is kept of a lookup serves every request for the name.
                let plain = decide(&policy, &Request::Lookup { name: name.as_str() }, &facts(&[]));
                let lookup = if let Decision::Allow(lookup) = plain { lookup } else { granted.clone() };
                match self.answers(name, &lookup, Call::Http, look_up(&granted)) {
                    Shown::Addresses(shown) => (self.sight.where_name_is(name, &shown), shown),
                    Shown::Unknown => {
                        self.allowed(at, &granted);
                        return self.unknown(name);
                    }
                    Shown::Nothing => return,
                }
            }
        };
        let mut asked = Vec::new();
        for address in addresses {
            let request = Request::HttpDial { http: &granted, address };
            let decided = self.ask(&policy, "dial", Some(address), &request, &[]);
            asked.push((self.last(), decided));
        }
        self.best(asked, Call::Http);
    }

    /// What of a lookup's answers the plugin is shown.
    fn answers(&mut self, name: &Name, lookup: &Granted, call: Call, answered: Answered) -> Shown {
        let addresses = match answered {
            Answered::Unknown => return Shown::Unknown,
            Answered::Failed(reason, code) => {
                let code = if call == Call::Http { guest_code(call, reason) } else { code };
                self.walk.outcome = Outcome { reason: Some(reason), guest_code: Some(code), ..Outcome::default() };
                return Shown::Nothing;
            }
            Answered::Addresses(addresses) => addresses,
        };
        let policy = self.sight.where_name_is(name, &addresses);
        let (mut shown, mut refused) = (Vec::new(), None);
        for address in &addresses {
            let request = Request::Answer { lookup, address: *address };
            match self.ask(&policy, "answer", Some(*address), &request, &[]) {
                Ok(_) => shown.push(*address),
                Err(denied) => refused = refused.or(Some((self.last(), denied))),
            }
        }
        self.walk.answers = addresses;
        match refused {
            Some((stage, denied)) if shown.is_empty() => {
                self.denied(stage, &denied, call);
                Shown::Nothing
            }
            _ => Shown::Addresses(shown),
        }
    }

    /// A plugin tries one address after the other: the first that is allowed counts, else the first refusal.
    fn best(&mut self, asked: Vec<(usize, Result<Granted, Denied>)>, call: Call) {
        let mut first = None;
        for (stage, decided) in asked {
            match decided {
                Ok(granted) => return self.allowed(stage, &granted),
                Err(denied) => first = first.or(Some((stage, denied))),
            }
        }
        if let Some((stage, denied)) = first {
            self.denied(stage, &denied, call);
        }
    }
}

/// What of a lookup is known.
enum Shown {
    Unknown,
    Addresses(Vec<IpAddr>),
    /// The outcome is told already.
    Nothing,
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "connect",
        Transport::Udp => "datagram",
    }
}

fn facts(pins: &[Pin]) -> Facts<'_> {
    Facts { now_ms: 0, pins, exhausted: None }
}

/// The pin that a lookup of the name would leave.
fn pin_of(name: &Name, address: IpAddr) -> Pin {
    Pin { name: name.clone(), address, expires_ms: 1, lookup: 0 }
}

#[cfg(test)]
mod tests;
