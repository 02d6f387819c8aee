use ipnet::IpNet;

use crate::address::{Class, block_of};
use crate::bucket::Bucket;
use crate::case::{Case, Kind, Speech};
use crate::check::{covers, covers_host};
use crate::decision::{Decision, Denied, Expected, Granted};
use crate::explain::{Silent, Trace};
use crate::search::{Match, Search};
use crate::suggest::least_rule;
use crate::{Facts, Hello, Host, Mode, Name, Pin, Policy, Reason, Request, RuleHost, parse_host};

/// Decides about one request. The first of seven steps that says no names the reason; the order is a promise:
///
/// 1. syntax, 2. what no rule lifts, 3. the bridge's own endpoints, 4. special ranges that no rule names, 5. denies,
///    6. allow rules within the ceilings, 7. quotas.
///
/// Only step 6 lets something through in observe mode, and never past a ceiling.
pub fn decide(policy: &Policy, request: &Request<'_>, facts: &Facts<'_>) -> Decision {
    run(policy, request, facts, &mut Silent)
}

/// A refusal of one step: the reason, and the rule that is about it.
struct No(u8, Reason, Option<usize>);

/// What step 6 found.
#[derive(Default)]
struct Found {
    rule: Option<usize>,
    pin: Option<(u128, Name)>,
    hello: Option<Vec<Expected>>,
    observed: Option<Reason>,
}

pub(crate) fn run<T: Trace>(policy: &Policy, request: &Request<'_>, facts: &Facts<'_>, trace: &mut T) -> Decision {
    let case = match Case::read(request) {
        Ok(case) => case,
        Err(misread) => return refuse(misread.into(), policy, trace),
    };
    trace.passed(1, || case.describe());
    match steps(policy, &case, facts, trace) {
        Ok(found) => grant(policy, case, found),
        Err(No(step, reason, nearest)) => {
            let mut target = case.target();
            if target.name.is_none() {
                target.name = pins(&case, facts).next().map(|pin| pin.name.to_string());
            }
            refuse(Denied { reason, nearest, target, step }, policy, trace)
        }
    }
}

fn steps<T: Trace>(policy: &Policy, case: &Case<'_>, facts: &Facts<'_>, trace: &mut T) -> Result<Found, No> {
    never(case)?;
    trace.passed(2, || "nothing that is refused whatever the rules say".to_owned());
    own_endpoints(policy, case)?;
    trace.passed(3, || "not an endpoint of the bridge".to_owned());
    special_ranges(policy, case)?;
    trace.passed(4, || case.describe_range());
    denies(policy, case, facts)?;
    trace.passed(5, || format!("none of {} denies", policy.denies().len()));
    let found = allow_rules(policy, case, facts)?;
    trace.passed(6, || found.describe(policy));
    quotas(facts)?;
    trace.passed(7, || "room".to_owned());
    Ok(found)
}

/// Step 2: listeners, and addresses that are never a destination.
fn never(case: &Case<'_>) -> Result<(), No> {
    if let Kind::Inbound = case.kind {
        return Err(No(2, Reason::CapabilityAbsent, None));
    }
    match case.address.and_then(block_of).map(|block| block.class) {
        Some(Class::Hard(reason)) => Err(No(2, reason, None)),
        _ => Ok(()),
    }
}

/// Step 3: brokers, listeners and interfaces of this machine.
fn own_endpoints(policy: &Policy, case: &Case<'_>) -> Result<(), No> {
    let by_address = case.address.is_some_and(|address| policy.own.has_address(address, case.port));
    let by_name = matches!((&case.name, case.port), (Some(name), Some(port)) if policy.own.has_name(name, port));
    if by_address || by_name { Err(No(3, Reason::AddrSelf, None)) } else { Ok(()) }
}

/// Step 4: an address of a special block needs a rule that names a part of the block: for a name one of its own, in `addresses`.
fn special_ranges(policy: &Policy, case: &Case<'_>) -> Result<(), No> {
    let Some(address) = case.address else { return Ok(()) };
    let Some(block) = block_of(address) else { return Ok(()) };
    let Class::Special(special) = block.class else { return Ok(()) };
    let granted = match &case.name {
        None => policy.inner.allow.names_part_of(block, address),
        Some(name) => policy.inner.allow.for_name(name).any(|bucket| bucket.names_part_of(block, address)),
    };
    let consented = !special.needs_consent() || policy.consents(address);
    if granted && consented { Ok(()) } else { Err(No(4, special.reason(), None)) }
}

/// Step 5: the operator's and the tenant's denies of the address, the name, and of every name that pins the address.
fn denies(policy: &Policy, case: &Case<'_>, facts: &Facts<'_>) -> Result<(), No> {
    if policy.denies().is_empty() {
        return Ok(());
    }
    let index = &policy.inner.deny;
    let proto = case.speech().proto();
    let hits = |number: &usize| {
        policy.denies().get(*number).is_some_and(|deny| match (proto, case.port) {
            (Some(proto), Some(port)) => deny.forbids(proto) && deny.ports().contains(port),
            _ => deny.is_whole(),
        })
    };
    let of_name = |name| index.for_name(name).flat_map(Bucket::numbers).copied().find(hits);
    let of_address = |address| index.for_address(address).flat_map(Bucket::numbers).copied().find(hits);
    let by_address = case.address.and_then(of_address);
    let by_name = || case.name.as_ref().and_then(of_name);
    let by_pin = || live_pins(case, facts).find_map(|pin| of_name(&pin.name));
    match by_address.or_else(by_name).or_else(by_pin) {
        Some(number) => Err(No(5, Reason::RuleOperatorDeny, Some(number))),
        None => Ok(()),
    }
}

/// Step 6: a rule of the plugin within the ceilings, or the nearest miss.
fn allow_rules(policy: &Policy, case: &Case<'_>, facts: &Facts<'_>) -> Result<Found, No> {
    let missed = match &case.kind {
        Kind::Hello(connect, hello) => match check_hello(policy, connect, *hello) {
            Ok(rule) => return Ok(Found { rule, observed: connect.observed, ..Found::default() }),
            Err(missed) => missed,
        },
        _ => match find(policy, case, facts) {
            Ok(found) => return Ok(found),
            Err(missed) => missed,
        },
    };
    let (reason, nearest) = missed;
    if policy.mode() == Mode::Enforce || reason == Reason::RuleCeiling {
        return Err(No(6, reason, nearest));
    }
    if !is_within_ceilings(policy, case) {
        return Err(No(6, Reason::RuleCeiling, nearest));
    }
    let pin = live_pins(case, facts).next().map(|pin| (pin.lookup, pin.name.clone()));
    Ok(Found { pin, observed: Some(reason), ..Found::default() })
}

/// Whether what no rule allows could be allowed by one, as far as the ceilings go.
fn is_within_ceilings(policy: &Policy, case: &Case<'_>) -> bool {
    let Some(mut least) = least_rule(case) else { return false };
    if !matches!(least.host, RuleHost::Net(_)) {
        // Some rule of the name reaches this part of a special block, perhaps on another port: the ceiling must let this one too.
        least.addresses = case.address.into_iter().map(IpNet::from).collect();
    }
    policy.inner.ceilings.iter().all(|ceiling| match case.kind {
        // A lookup says neither protocol nor port, so any line of the ceiling will do.
        Kind::Lookup | Kind::Answer(None) => covers_host(ceiling, &least),
        _ => covers(ceiling, &least),
    })
}

fn find(policy: &Policy, case: &Case<'_>, facts: &Facts<'_>) -> Result<Found, (Reason, Option<usize>)> {
    let index = &policy.inner.allow;
    let mut search = Search::new(policy, case.speech(), case.port, case.address);
    match (&case.name, case.address) {
        (Some(name), _) => search.over(index.for_name(name), None),
        (None, Some(address)) => search.over(index.for_address(address), None),
        (None, None) => {}
    }
    for pin in live_pins(case, facts) {
        search.over(index.for_name(&pin.name), Some(pin));
    }
    if let Some(Match { rule, pin, hello }) = search.found() {
        let pin = pin.map(|pin| (pin.lookup, pin.name.clone()));
        return Ok(Found { rule: Some(rule), pin, hello, observed: None });
    }
    let mut expired = Search::new(policy, case.speech(), case.port, case.address);
    for pin in pins(case, facts).filter(|pin| pin.expires_ms <= facts.now_ms) {
        expired.over(index.for_name(&pin.name), Some(pin));
    }
    if let Some(found) = expired.found() {
        return Err((Reason::DnsPinExpired, Some(found.rule)));
    }
    if let Some((reason, rule)) = search.miss() {
        return Err((reason, Some(rule)));
    }
    // A literal where only a name was granted.
    let is_literal = match case.speech() {
        Speech::Raw(_) => true,
        Speech::Http(http) => matches!(http.host, Host::Address(_)),
        Speech::Anything => false,
    };
    let named = case.speech().proto().zip(case.port).filter(|_| is_literal);
    match named.and_then(|(proto, port)| index.some_name(proto, port)) {
        Some(rule) => Err((Reason::DnsUnpinned, Some(rule))),
        None => Err((Reason::RuleNoMatch, None)),
    }
}

/// Whether a connection may begin with these bytes: the rule that says so, where one cares.
fn check_hello(policy: &Policy, connect: &Granted, hello: Hello<'_>) -> Result<Option<usize>, (Reason, Option<usize>)> {
    let Some(expected) = &connect.hello else { return Ok(connect.rule) };
    // The rule's number is one of the policy that opened the connection, which may be another by now.
    let nearest = connect.rule.filter(|_| connect.policy_version == *policy.version());
    let (wanted, reason) = match hello {
        Hello::NotTls => return Err((Reason::TlsNotTls, nearest)),
        Hello::NoName => (None, Reason::TlsNoSni),
        Hello::Name(text) => match parse_host(text) {
            Ok(Host::Name(name)) => (Some(name), Reason::TlsSniMismatch),
            _ => return Err((Reason::TlsSniMismatch, nearest)),
        },
    };
    match expected.iter().find(|expected| expected.name == wanted) {
        Some(expected) => Ok(Some(expected.rule)),
        None => Err((reason, nearest)),
    }
}

/// Step 7: what the caller could not reserve.
fn quotas(facts: &Facts<'_>) -> Result<(), No> {
    let Some(quota) = facts.exhausted else { return Ok(()) };
    Err(No(7, quota.reason(), None))
}

/// The pins of the address that a raw request goes to. Whatever else stands in the facts is not about it.
fn pins<'a>(case: &Case<'_>, facts: &Facts<'a>) -> impl Iterator<Item = &'a Pin> {
    let address = match case.kind {
        Kind::Connect(to) | Kind::Datagram(to) => Some(to.ip()),
        _ => None,
    };
    facts.pins.iter().filter(move |pin| Some(pin.address) == address)
}

fn live_pins<'a>(case: &Case<'_>, facts: &Facts<'a>) -> impl Iterator<Item = &'a Pin> {
    let now = facts.now_ms;
    pins(case, facts).filter(move |pin| pin.expires_ms > now)
}

fn grant(policy: &Policy, case: Case<'_>, found: Found) -> Decision {
    let policy_version = match case.kind {
        // A connection goes on under the policy that opened it; its rule is a number in that one.
        Kind::Hello(connect, _) => connect.policy_version.clone(),
        _ => policy.version().clone(),
    };
    let Found { rule, pin, hello, observed } = found;
    match case.effect() {
        Ok(effect) => Decision::Allow(Granted { effect, rule, pin, policy_version, observed, hello }),
        Err(target) => Decision::Deny(Denied { reason: Reason::CapabilityAbsent, nearest: None, target, step: 2 }),
    }
}

fn refuse<T: Trace>(denied: Denied, policy: &Policy, trace: &mut T) -> Decision {
    trace.refused(denied.step, || crate::explain::describe_refusal(&denied, policy));
    Decision::Deny(denied)
}

impl Found {
    fn describe(&self, policy: &Policy) -> String {
        match (self.rule, self.observed) {
            (Some(number), _) => match policy.rule(number) {
                Some(rule) => format!("egress[{number}] `{rule}`"),
                None => format!("egress[{number}]"),
            },
            (None, Some(reason)) => format!("let through by observe mode, otherwise {reason}"),
            (None, None) => "no rule is asked".to_owned(),
        }
    }
}
