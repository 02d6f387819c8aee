use std::net::SocketAddr;

use portcullis_policy::*;

/// Facts of a request that has no pins and room everywhere.
pub(crate) const NO_FACTS: Facts<'static> = Facts { now_ms: 0, pins: &[], exhausted: None };

pub(crate) fn rule(allow: &str) -> Rule {
    rule_of(&RuleText { allow, ..RuleText::default() })
}

pub(crate) fn rule_of(text: &RuleText<'_>) -> Rule {
    Rule::parse(text).unwrap_or_else(|errors| panic!("{}: {errors:?}", text.allow))
}

pub(crate) fn dangerous(allow: &str) -> Rule {
    rule_of(&RuleText { allow, dangerous: true, ..RuleText::default() })
}

pub(crate) fn within(allow: &str, addresses: &[&str]) -> Rule {
    rule_of(&RuleText { allow, addresses: Some(addresses.to_vec()), ..RuleText::default() })
}

pub(crate) fn policy(rules: &[&str]) -> Policy {
    policy_of(rules.iter().map(|text| rule(text)).collect())
}

pub(crate) fn policy_of(rules: Vec<Rule>) -> Policy {
    Policy::new(PolicyParts { rules, ..PolicyParts::default() })
}

/// The rules that let through all that a rule can let through without naming it.
pub(crate) fn any_public() -> Vec<Rule> {
    ["tcp", "http", "https", "udp"]
        .iter()
        .flat_map(|proto| [format!("{proto}://0.0.0.0/0:*"), format!("{proto}://[::/0]:*")])
        .map(|text| dangerous(&text))
        .collect()
}

pub(crate) fn address(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

pub(crate) fn connect(policy: &Policy, to: &str) -> Result<Granted, Denied> {
    outcome(policy, &Request::Connect { to: socket(to) })
}

pub(crate) fn datagram(policy: &Policy, to: &str) -> Result<Granted, Denied> {
    outcome(policy, &Request::Datagram { to: socket(to) })
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn lookup(policy: &Policy, name: &str) -> Result<Granted, Denied> {
    outcome(policy, &Request::Lookup { name })
}

pub(crate) fn answer(policy: &Policy, lookup: &Granted, text: &str) -> Result<Granted, Denied> {
    outcome(policy, &Request::Answer { lookup, address: address(text) })
}

/// `GET https://authority/path`, the path being optional.
pub(crate) fn http(policy: &Policy, text: &str) -> Result<Granted, Denied> {
    let (method, url) = text.split_once(' ').unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    outcome(policy, &Request::Http { method, scheme, authority, path })
}

pub(crate) fn dial(policy: &Policy, http: &Granted, text: &str) -> Result<Granted, Denied> {
    outcome(policy, &Request::HttpDial { http, address: address(text) })
}

pub(crate) fn outcome(policy: &Policy, request: &Request<'_>) -> Result<Granted, Denied> {
    outcome_with(policy, request, &NO_FACTS)
}

pub(crate) fn outcome_with(policy: &Policy, request: &Request<'_>, facts: &Facts<'_>) -> Result<Granted, Denied> {
    match decide(policy, request, facts) {
        Decision::Allow(granted) => Ok(granted),
        Decision::Deny(denied) => Err(denied),
    }
}

/// A pin that lives until `expires_ms`.
pub(crate) fn pin(name: &str, at: &str, expires_ms: u64) -> Pin {
    let Ok(Host::Name(name)) = parse_host(name) else { panic!("{name} is no name") };
    Pin { name, address: address(at), expires_ms, lookup: 7 }
}

pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Denied>) -> &'static str {
    outcome.unwrap_err().reason.as_str()
}
