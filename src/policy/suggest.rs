use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{Class, classify};
use crate::case::{Case, Kind, Speech};
use crate::rule::{Proto, Rule, RuleHost};
use crate::{Name, Ports, Request, Transport};

/// The item of a plugin's `grants.egress` that would allow a request and as little else as a rule can say; none where no rule
/// could. `answers` are the addresses of the request's name, where they are known: special ones need to be named.
pub fn smallest_grant(request: &Request<'_>, answers: &[IpAddr]) -> Option<String> {
    let case = Case::read(request).ok()?;
    let rule = least_rule(&case)?;
    item(rule, case.address.iter().chain(answers).copied())
}

/// The same for a raw connection to a name, which is looked up first.
pub fn smallest_grant_for_name(transport: Transport, name: &Name, port: u16, answers: &[IpAddr]) -> Option<String> {
    let rule = raw(transport, RuleHost::Name(name.clone()), port);
    item(rule, answers.iter().copied())
}

fn raw(transport: Transport, host: RuleHost, port: u16) -> Rule {
    let proto = if transport == Transport::Tcp { Proto::Tcp } else { Proto::Udp };
    Rule { dns_port: port == 53, ..Rule::bare(proto, host, Ports::one(port)) }
}

/// The narrowest rule for a request, without `addresses`.
pub(crate) fn least_rule(case: &Case<'_>) -> Option<Rule> {
    let host = match (&case.name, case.address) {
        (Some(name), _) => RuleHost::Name(name.clone()),
        (None, Some(address)) => RuleHost::Net(address.into()),
        (None, None) => return None,
    };
    match (&case.kind, case.speech()) {
        (Kind::Inbound, _) => None,
        (Kind::Hello(connect, _), _) => {
            let host = connect.pin.as_ref().map_or(host, |(_, name)| RuleHost::Name(name.clone()));
            Some(Rule::bare(Proto::Tcp, host, Ports::one(case.port?)))
        }
        (_, Speech::Raw(transport)) => Some(raw(transport, host, case.port?)),
        (_, Speech::Http(http)) => {
            let proto = if http.tls { Proto::Https } else { Proto::Http };
            let (methods, paths) = (vec![http.method.clone()], vec![http.path.clone()]);
            Some(Rule { methods, paths, ..Rule::bare(proto, host, Ports::one(http.port)) })
        }
        // Which port the name is wanted for, a lookup does not say.
        (_, Speech::Anything) => Some(Rule::bare(Proto::Tls, host, Ports::one(443))),
    }
}

fn item(mut rule: Rule, answers: impl Iterator<Item = IpAddr>) -> Option<String> {
    let (mut any, mut public, mut special) = (false, false, Vec::new());
    for address in answers {
        any = true;
        match classify(address) {
            Class::Hard(_) => {}
            Class::Public => public = true,
            Class::Special(class) => special.push((IpNet::from(address), class)),
        }
    }
    if any && !public && special.is_empty() {
        return None;
    }
    // A name with a public answer is reached without its other ones, and `addresses` would shut the public ones out.
    if public {
        special.clear();
    }
    if !matches!(rule.host, RuleHost::Net(_)) {
        rule.addresses = special.iter().map(|(net, _)| *net).collect();
    }
    let mut text = format!("- {{ allow: \"{rule}\"");
    for (field, items) in [("methods", &rule.methods), ("paths", &rule.paths)] {
        if !items.is_empty() {
            text.push_str(&format!(", {field}: {items:?}"));
        }
    }
    if !rule.addresses.is_empty() {
        text.push_str(&format!(", addresses: {}", quoted(rule.addresses.iter())));
    }
    if rule.dns_port {
        text.push_str(", dns_port: true");
    }
    text.push_str(" }");
    let consent: Vec<_> = special.iter().filter(|(_, class)| class.needs_consent()).map(|(net, _)| net).collect();
    if !consent.is_empty() {
        text.push_str(&format!("  # and of the operator: egress.consent: {}", quoted(consent.into_iter())));
    }
    Some(text)
}

fn quoted<'a>(nets: impl Iterator<Item = &'a IpNet>) -> String {
    format!("{:?}", nets.map(IpNet::to_string).collect::<Vec<_>>())
}
