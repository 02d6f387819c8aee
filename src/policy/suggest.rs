use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{Class, classify};
use crate::case::{Case, Kind, Speech};
use crate::rule::{Proto, Rule, RuleHost};
use crate::{Name, Ports, Request, Transport};

/// The least rule that would allow a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smallest {
    /// The rule, for the plugin's `grants.egress`.
    pub rule: Rule,
    /// What the operator must list under `egress.consent` besides.
    pub consent: Vec<IpNet>,
}

/// One item of a YAML list, in one line.
impl fmt::Display for Smallest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- {}", self.rule.yaml())?;
        if !self.consent.is_empty() {
            write!(f, "  # and of the operator: egress.consent: {}", quoted(&self.consent))?;
        }
        Ok(())
    }
}

/// The rule that would allow a request and as little else as a rule can say; none where no rule could. `answers` are the
/// addresses of the request's name, where they are known: special ones need to be named.
pub fn smallest(request: &Request<'_>, answers: &[IpAddr]) -> Option<Smallest> {
    let case = Case::read(request).ok()?;
    let rule = least_rule(&case)?;
    fitted(rule, case.address.iter().chain(answers).copied())
}

/// The same for a raw connection to a name, which is looked up first.
pub fn smallest_for_name(transport: Transport, name: &Name, port: u16, answers: &[IpAddr]) -> Option<Smallest> {
    if port == 0 {
        return None;
    }
    fitted(raw(transport, RuleHost::Name(name.clone()), port), answers.iter().copied())
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

fn fitted(mut rule: Rule, answers: impl Iterator<Item = IpAddr>) -> Option<Smallest> {
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
    rule.paths.iter_mut().for_each(|path| *path = ruled(path).to_owned());
    let consent = special.iter().filter(|(_, class)| class.needs_consent()).map(|(net, _)| *net).collect();
    Some(Smallest { rule, consent })
}

/// The narrowest path that a rule can hold: a rule has no `*`, so that nobody takes it for a wildcard.
fn ruled(path: &str) -> &str {
    let Some(star) = path.find('*') else { return path };
    let end = path.get(..star).and_then(|before| before.rfind('/')).map_or(0, |slash| slash + 1);
    path.get(..end).unwrap_or("/")
}

impl Rule {
    /// As it is typed under `grants.egress`: a map in one line. Reading it gives the same rule.
    pub fn yaml(&self) -> String {
        let mut text = format!("{{ allow: \"{self}\"");
        for (field, items) in [("methods", &self.methods), ("paths", &self.paths)] {
            if !items.is_empty() {
                text.push_str(&format!(", {field}: {items:?}"));
            }
        }
        if !self.addresses.is_empty() {
            text.push_str(&format!(", addresses: {}", quoted(&self.addresses)));
        }
        if let Some((min, max)) = self.ttl {
            text.push_str(&format!(", ttl: {}s..{}s", min.as_secs(), max.as_secs()));
        }
        for (set, word) in [(self.sni_pin, "sni_pin"), (self.dns_port, "dns_port"), (self.dangerous, "dangerous")] {
            if set {
                text.push_str(&format!(", {word}: true"));
            }
        }
        text.push_str(" }");
        text
    }
}

fn quoted(nets: &[IpNet]) -> String {
    format!("{:?}", nets.iter().map(IpNet::to_string).collect::<Vec<_>>())
}
