use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::address::block_around;
use crate::host::{ascii_form, numeric_address, parse_host};
use crate::parse::check_net;
use crate::rule::{Proto, RuleHost};
use crate::{Host, Name, Ports, Reason, RuleError};

const MAX_TEXT: usize = 1024;

/// What the text is for.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Must be narrow, and able to take effect.
    Allow { dangerous: bool },
    /// May be broad.
    Ceiling,
    /// May be broad; protocol and port may be missing.
    Deny,
}

/// What `proto://host[:ports]` says.
pub(crate) struct Head {
    pub(crate) proto: Option<Proto>,
    pub(crate) host: RuleHost,
    pub(crate) ports: Ports,
}

/// Text of a host, and how it should have been written where that is known.
struct Written {
    host: RuleHost,
    mended: Option<(&'static str, String)>,
}

fn error(slug: &'static str, message: impl Into<String>) -> RuleError {
    RuleError::new(slug, "allow", message)
}

/// Reads the text of a rule. None, or anything pushed to `errors`: it is refused.
pub(crate) fn parse_text(text: &str, kind: Kind, errors: &mut Vec<RuleError>) -> Option<Head> {
    let deny = matches!(kind, Kind::Deny);
    let mut fail = |error: RuleError| {
        errors.push(error);
        None
    };
    if text.len() > MAX_TEXT || text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return fail(error("name_invalid", "a rule has no white space and at most 1024 bytes"));
    }
    // No message repeats such a text: it may hold a password.
    if text.contains('@') {
        return fail(error("userinfo", "a rule holds no user and no password; credentials belong in `secrets`"));
    }
    if !deny && (text == "*" || text.starts_with("*:")) {
        let message =
            "a rule that matches everything is none; name the hosts, one rule each, for example `https://example.com`";
        return fail(error("match_all", message));
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None if deny => (None, text),
        None => {
            let message = "a rule starts with tcp://, udp://, tls://, http:// or https://";
            return fail(error("scheme_unknown", message).help(format!("https://{}", shown(text))));
        }
    };
    let proto = scheme.map(|scheme| Proto::parse(&scheme.to_ascii_lowercase()));
    if let Some(None) = proto {
        return fail(error("scheme_unknown", "there are tcp, udp, tls, http and https"));
    }
    let proto = proto.flatten();
    if deny
        && scheme.is_none()
        && let Ok(net) = parse_net(rest, "allow")
    {
        return Some(Head { proto, host: RuleHost::Net(net), ports: Ports::any() });
    }
    let (host, tail) = match split(rest) {
        Ok(parts) => parts,
        Err(error) => return fail(error),
    };
    let end = tail.find(['/', '?', '#']).unwrap_or(tail.len());
    let (port, path) = tail.split_at(end);
    if !path.is_empty() {
        let message = "a rule holds no path; list it under `paths`";
        let help = format!("paths: [{:?}]", path.split(['?', '#']).next().unwrap_or("/"));
        errors.push(error("path_in_allow", message).help(help));
    }
    let written = match parse_host_text(host, kind) {
        Ok(written) => Some(written),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    let ports = parse_ports(port, proto, kind, errors);
    let written = written?;
    let small = scheme.is_none_or(|scheme| !scheme.bytes().any(|byte| byte.is_ascii_uppercase()));
    if !small || written.mended.is_some() {
        let (slug, host) = written.mended.unwrap_or_else(|| ("non_canonical", host.to_owned()));
        let prefix = proto.map_or_else(String::new, |proto| format!("{}://", proto.as_str()));
        let suggestion = format!("{prefix}{host}{port}");
        errors.push(error(slug, format!("write `{suggestion}`")).help(suggestion));
    }
    if let Kind::Allow { dangerous } = kind {
        check_width(&written.host, dangerous, errors);
    }
    Some(Head { proto, host: written.host, ports: ports? })
}

/// Text of somebody's configuration in a message: nothing but printable ASCII.
fn shown(text: &str) -> String {
    ascii_form(text)
}

/// The host, and what follows it.
fn split(rest: &str) -> Result<(&str, &str), RuleError> {
    if rest.starts_with('[') {
        let end = rest.find(']').ok_or_else(|| error("name_invalid", "the closing bracket is missing"))?;
        let (host, tail) = rest.split_at(end + 1);
        if !(tail.is_empty() || tail.starts_with([':', '/', '?', '#'])) {
            return Err(error("name_invalid", "after the bracket comes a port"));
        }
        return Ok((host, tail));
    }
    let bare = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if bare.matches(':').count() > 1 && bare.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.%".contains(&byte)) {
        return Err(error("address_noncanonical", "an IPv6 address stands in brackets").help(format!("[{bare}]")));
    }
    let end = rest.find([':', '/', '?', '#']).unwrap_or(rest.len());
    let (host, tail) = rest.split_at(end);
    // `10.0.0.0/8` is a network, `example.com/8` a path.
    let bare = host.strip_prefix("*.").unwrap_or(host);
    if let Some(after) = tail.strip_prefix('/')
        && (bare.parse::<Ipv4Addr>().is_ok() || numeric_address(bare).is_some())
    {
        let digits = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
        if digits > 0 && matches!(after.as_bytes().get(digits), None | Some(b':')) {
            return Ok(rest.split_at(end + 1 + digits));
        }
    }
    Ok((host, tail))
}

fn parse_ports(text: &str, proto: Option<Proto>, kind: Kind, errors: &mut Vec<RuleError>) -> Option<Ports> {
    let Some(text) = text.strip_prefix(':') else {
        if matches!(kind, Kind::Deny) {
            return Some(Ports::any());
        }
        let Some(port) = proto.and_then(Proto::default_port) else {
            errors.push(error("port_missing", "tcp and udp have no default port; name it, for example `:5432`"));
            return None;
        };
        return Some(Ports::one(port));
    };
    let Ok(ports) = Ports::parse(text) else {
        let message =
            "a port is a number from 1 to 65535 without sign or leading zero; also `80,443`, `8000-8100` and `*`";
        errors.push(error("port_invalid", message));
        return None;
    };
    if ports.is_any() && matches!(kind, Kind::Allow { dangerous: false }) {
        errors.push(error("port_any", "all ports need `dangerous: true`; name those that are meant"));
    }
    Some(ports)
}

fn parse_host_text(text: &str, kind: Kind) -> Result<Written, RuleError> {
    let broad = !matches!(kind, Kind::Allow { .. });
    if text == "*" {
        if broad {
            return Ok(Written { host: RuleHost::Any, mended: None });
        }
        return Err(error("match_all", "a rule names its hosts; `*.example.com` is every name below example.com"));
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return parse_suffix(suffix, broad);
    }
    if text.contains('*') {
        let message = "`*` stands only for whole labels at the front, as in `*.example.com`";
        return Err(error("wildcard_partial", message));
    }
    if text.contains('/') {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let net = parse_net(inner.unwrap_or(text), "allow")?;
        if inner.is_some() != net.addr().is_ipv6() {
            return Err(error("address_noncanonical", "only IPv6 stands in brackets"));
        }
        return Ok(Written { host: RuleHost::Net(net), mended: None });
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let net = parse_net(inner, "allow")?;
        if net.addr().is_ipv4() {
            return Err(error("address_noncanonical", format!("write `{inner}`, only IPv6 stands in brackets")));
        }
        return Ok(Written { host: RuleHost::Net(net), mended: None });
    }
    parse_name_text(text)
}

fn parse_suffix(suffix: &str, broad: bool) -> Result<Written, RuleError> {
    if suffix.contains('*') {
        return Err(error("wildcard_partial", "there is one `*`, and it stands at the front"));
    }
    let bare = suffix.split('/').next().unwrap_or(suffix);
    let last = bare.trim_end_matches('.').rsplit('.').next().unwrap_or(bare);
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if suffix.starts_with('[') || is_number || numeric_address(bare).is_some() {
        return Err(error("wildcard_address", "an address has no names below it; a network is written `10.0.0.0/8`"));
    }
    let written = parse_name_text(suffix)?;
    match written.host {
        RuleHost::Name(name) if !broad && is_public_suffix(&name) => {
            let message = format!("everybody can register a name below `{name}`; name the domain that is meant");
            Err(error("public_suffix", message))
        }
        RuleHost::Name(name) => {
            let mended = written.mended.map(|(slug, name)| (slug, format!("*.{name}")));
            Ok(Written { host: RuleHost::Suffix(name), mended })
        }
        _ => Err(error("wildcard_address", "an address has no names below it")),
    }
}

/// Also true of a single label that no list knows: nobody can say who owns what is below it.
fn is_public_suffix(name: &Name) -> bool {
    psl::suffix_str(name.as_str()) == Some(name.as_str())
}

fn parse_name_text(text: &str) -> Result<Written, RuleError> {
    let mended;
    let readable = if text.is_ascii() {
        text
    } else {
        mended = ascii_form(text);
        &mended
    };
    match parse_host(readable) {
        Ok(Host::Name(name)) => {
            let mended = (name.as_str() != text).then(|| ("non_canonical", name.to_string()));
            Ok(Written { host: RuleHost::Name(name), mended })
        }
        Ok(Host::Address(address)) => {
            let mended = (readable != text).then(|| ("address_noncanonical", address.to_string()));
            Ok(Written { host: RuleHost::Net(address.into()), mended })
        }
        Err(Reason::NameNumeric) => {
            let suggestion = numeric_address(readable).map(|address| address.to_string()).unwrap_or_default();
            let message = format!("an IPv4 address is four decimal numbers: `{suggestion}`");
            Err(error("address_noncanonical", message).help(suggestion))
        }
        Err(Reason::NameSpecial) => {
            let message = format!("no name server is asked for `{}`, so the rule would never match", shown(text));
            Err(error("rule_never_matches", message))
        }
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err(error("address_noncanonical", "an IPv4 address is four numbers from 0 to 255"))
        }
        Err(_) => Err(error(
            "name_invalid",
            "a name is labels of letters, digits and inner hyphens, at most 63 each and 252 in all",
        )),
    }
}

/// Reads an address or a network without brackets, in its canonical form. `field` is where an error says it stands.
///
/// # Errors
/// `address_noncanonical`, `address_embedding`, `cidr_host_bits`, or `name_invalid` for text that is no address at all.
pub fn parse_net(text: &str, field: &'static str) -> Result<IpNet, RuleError> {
    let error = |slug, message: String| RuleError::new(slug, field, message);
    let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
    if address.contains('%') {
        return Err(error("address_noncanonical", "zone ids are never accepted".to_owned()));
    }
    let parsed = address.parse::<IpAddr>().map_err(|_| {
        let message = match numeric_address(address) {
            Some(mended) => format!("an IPv4 address is four decimal numbers: `{mended}`"),
            None => "this is neither an address nor a network".to_owned(),
        };
        let slug = if numeric_address(address).is_some() || !address.contains(':') && field != "allow" {
            "address_noncanonical"
        } else {
            "name_invalid"
        };
        error(slug, message)
    })?;
    let width = if parsed.is_ipv4() { 32 } else { 128 };
    let len = match len {
        None => width,
        Some(text) if text.len() > 1 && text.starts_with('0') => {
            return Err(error("address_noncanonical", "a prefix length has no leading zero".to_owned()));
        }
        Some(text) => match text.parse::<u8>() {
            Ok(len) if len <= width && text.bytes().all(|byte| byte.is_ascii_digit()) => len,
            _ => {
                let message = format!("a prefix length is a number from 0 to {width}");
                return Err(error("address_noncanonical", message));
            }
        },
    };
    let net = IpNet::new(parsed, len).map_err(|_| error("address_noncanonical", "no such network".to_owned()))?;
    // First what can never be reached: that the text could also be shorter is no help then.
    check_embedding(&net, field)?;
    if net.trunc() != net {
        let mended = net.trunc().to_string();
        let message = format!("the bits after the prefix must be zero: `{mended}`");
        return Err(error("cidr_host_bits", message).help(mended));
    }
    if parsed.to_string() != address {
        return Err(error("address_noncanonical", format!("write `{parsed}`")).help(parsed.to_string()));
    }
    Ok(net)
}

fn check_embedding(net: &IpNet, field: &'static str) -> Result<(), RuleError> {
    match check_net(net, field) {
        Err(error) if error.slug == "address_embedding" => Err(error),
        _ => Ok(()),
    }
}

/// Networks this wide take in most of what there is.
const WIDE_V4: u8 = 8;
const WIDE_V6: u8 = 16;

fn check_width(host: &RuleHost, dangerous: bool, errors: &mut Vec<RuleError>) {
    let RuleHost::Net(net) = host else { return };
    if let Err(error) = check_net(net, "allow") {
        errors.push(error);
    }
    let wide = if net.addr().is_ipv4() { WIDE_V4 } else { WIDE_V6 };
    if net.prefix_len() < wide && block_around(net).is_none() && !dangerous {
        let message = format!("`{net}` is most of the internet; name the hosts, or confirm it with `dangerous: true`");
        errors.push(error("match_all", message));
    }
}
