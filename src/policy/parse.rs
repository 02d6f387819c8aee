use std::time::Duration;

use ipnet::IpNet;

use crate::address::{Class, block_around, embeds, reaches_public};
use crate::rule::{Deny, Proto, Rule, RuleHost};
use crate::text::{Head, Kind, parse_text};
use crate::{RuleError, canonical_path};

/// A pin lives at least this long, whatever a name server says.
pub const MIN_TTL: Duration = Duration::from_secs(5);
/// A pin lives at most this long.
pub const MAX_TTL: Duration = Duration::from_secs(300);

/// A rule as it stands in a file.
#[derive(Clone, Debug, Default)]
pub struct RuleText<'a> {
    /// `proto://host[:ports]`.
    pub allow: &'a str,
    /// Upper-case methods.
    pub methods: Option<Vec<&'a str>>,
    /// Prefixes that end in `/`, or exact paths.
    pub paths: Option<Vec<&'a str>>,
    /// Addresses or networks.
    pub addresses: Option<Vec<&'a str>>,
    /// The life of pins, at least and at most.
    pub ttl: Option<(Duration, Duration)>,
    /// Whether a `tcp` connection must begin with a ClientHello for the name.
    pub sni_pin: bool,
    /// Whether port 53 is meant.
    pub dns_port: bool,
    /// Whether a match-all is meant.
    pub dangerous: bool,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &RuleText<'_>) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        let head = parse_text(text.allow, Kind::Allow { dangerous: text.dangerous }, &mut errors);
        let proto = head.as_ref().and_then(|head| head.proto);
        let host = head.as_ref().map(|head| &head.host);
        let methods = methods(text, proto, &mut errors);
        let paths = paths(text, proto, &mut errors);
        let addresses = addresses(text, host, &mut errors);
        ttl(text, host, &mut errors);
        flags(text, proto, host, &mut errors);
        match head {
            Some(Head { proto: Some(proto), host, ports }) if errors.is_empty() => Ok(Self {
                methods,
                paths,
                addresses,
                ttl: text.ttl,
                sni_pin: text.sni_pin,
                dns_port: text.dns_port,
                dangerous: text.dangerous,
                ..Self::bare(proto, host, ports)
            }),
            _ => Err(errors),
        }
    }

    /// Reads a line of a denylist: a host, or `proto://host`, with or without ports. `*` is any host.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_deny(text: &str) -> Result<Deny, Vec<RuleError>> {
        let mut errors = Vec::new();
        match parse_text(text, Kind::Deny, &mut errors) {
            Some(head) if errors.is_empty() => Ok(Deny { proto: head.proto, host: head.host, ports: head.ports }),
            _ => Err(errors),
        }
    }

    /// Reads a line of a ceiling: `proto://host[:ports]`, where the host may be as broad as one likes, `*` included.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse_ceiling(text: &str) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        match parse_text(text, Kind::Ceiling, &mut errors) {
            Some(Head { proto: Some(proto), host, ports }) if errors.is_empty() => Ok(Self::bare(proto, host, ports)),
            _ => Err(errors),
        }
    }
}

fn needs_http(field: &'static str, proto: Option<Proto>, errors: &mut Vec<RuleError>) {
    if let Some(proto) = proto
        && !proto.is_http()
    {
        let message = format!("`{field}` is for http and https, a {} rule cannot see it", proto.as_str());
        errors.push(RuleError::new("field_not_for_proto", field, message));
    }
}

fn methods(text: &RuleText<'_>, proto: Option<Proto>, errors: &mut Vec<RuleError>) -> Vec<String> {
    let Some(methods) = &text.methods else { return Vec::new() };
    needs_http("methods", proto, errors);
    let wrong = |message: String| RuleError::new("method_invalid", "methods", message);
    if methods.is_empty() {
        errors.push(wrong("an empty list allows nothing; leave `methods` out to allow all".to_owned()));
    }
    for (index, method) in methods.iter().enumerate() {
        let upper = method.to_ascii_uppercase();
        if !is_token(method) {
            errors.push(wrong("a method is a word of letters".to_owned()).at(index));
        } else if matches!(upper.as_str(), "CONNECT" | "TRACE") {
            errors.push(wrong(format!("`{upper}` is never allowed")).at(index));
        } else if upper != **method {
            errors.push(wrong(format!("write `{upper}`")).at(index).help(upper));
        }
    }
    sorted(methods.iter().map(|method| (*method).to_owned()).collect())
}

/// A token of HTTP: what a method may consist of.
pub(crate) fn is_token(text: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

fn paths(text: &RuleText<'_>, proto: Option<Proto>, errors: &mut Vec<RuleError>) -> Vec<String> {
    let Some(paths) = &text.paths else { return Vec::new() };
    needs_http("paths", proto, errors);
    let wrong = |message: &str| RuleError::new("path_invalid", "paths", message);
    if paths.is_empty() {
        errors.push(wrong("an empty list allows nothing; leave `paths` out to allow all"));
    }
    for (index, path) in paths.iter().enumerate() {
        if path.contains(['?', '#']) {
            errors.push(wrong("a path rule has no query; queries are always allowed").at(index));
        } else if path.contains('*') {
            errors.push(wrong("a path that ends in `/` is a prefix; there is no `*`").at(index));
        } else if path.is_empty() || canonical_path(path).is_err() {
            let message = "a path starts with `/` and has no empty, `.`, `..` or encoded separators";
            errors.push(wrong(message).at(index));
        }
    }
    sorted(paths.iter().map(|path| (*path).to_owned()).collect())
}

fn addresses(text: &RuleText<'_>, host: Option<&RuleHost>, errors: &mut Vec<RuleError>) -> Vec<IpNet> {
    let Some(addresses) = &text.addresses else { return Vec::new() };
    if let Some(RuleHost::Net(_)) = host {
        let message = "`addresses` is for names, this rule names its address itself";
        errors.push(RuleError::new("field_not_for_proto", "addresses", message));
    }
    if addresses.is_empty() {
        let message = "an empty list admits no answer; leave `addresses` out to admit all public ones";
        errors.push(RuleError::new("rule_never_matches", "addresses", message));
    }
    let mut nets = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        match crate::text::parse_net(address, "addresses").and_then(|net| check_net(&net, "addresses").map(|()| net)) {
            Ok(net) => nets.push(net),
            Err(error) => errors.push(error.at(index)),
        }
    }
    // In the order of the file: what is wrong with one against its node is said at its place.
    nets
}

/// Whether an address of the network could ever be reached.
pub(crate) fn check_net(net: &IpNet, field: &'static str) -> Result<(), RuleError> {
    if embeds(net) {
        let message = format!("`{net}` carries an IPv4 address inside and is never reached; name the IPv4 address");
        return Err(RuleError::new("address_embedding", field, message));
    }
    match block_around(net).map(|block| block.class) {
        Some(Class::Hard(reason)) => {
            Err(RuleError::new("address_hard", field, format!("`{net}` is never reached: {reason}")))
        }
        None if !reaches_public(net) => {
            let message = format!("`{net}` spans special ranges, and each of these must be named by itself");
            Err(RuleError::new("rule_never_matches", field, message))
        }
        _ => Ok(()),
    }
}

fn ttl(text: &RuleText<'_>, host: Option<&RuleHost>, errors: &mut Vec<RuleError>) {
    let Some((min, max)) = text.ttl else { return };
    if let Some(RuleHost::Net(_)) = host {
        errors.push(RuleError::new("field_not_for_proto", "ttl", "`ttl` is for names, an address needs no lookup"));
    }
    if min < MIN_TTL || max > MAX_TTL || min > max {
        errors.push(RuleError::new("ttl_invalid", "ttl", "a ttl lies between 5s and 300s, the lower bound first"));
    }
}

fn flags(text: &RuleText<'_>, proto: Option<Proto>, host: Option<&RuleHost>, errors: &mut Vec<RuleError>) {
    let mut wrong = |field, message: &str| errors.push(RuleError::new("field_not_for_proto", field, message));
    let (Some(proto), Some(host)) = (proto, host) else { return };
    if text.sni_pin {
        match (proto, host) {
            (Proto::Tcp, RuleHost::Net(_)) => wrong("sni_pin", "`sni_pin` is for names, an address has no server name"),
            (Proto::Tcp, _) => {}
            (Proto::Tls, _) => wrong("sni_pin", "a tls rule always looks at the server name; leave `sni_pin` out"),
            _ => wrong("sni_pin", "`sni_pin` is for tcp"),
        }
    }
    if text.dns_port && proto.is_http() {
        wrong("dns_port", "`dns_port` is for tcp and udp");
    }
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}
